//! The model of systemd that the activator's property tests run on is like the real one, as far as they lean on it: the same table holds of
//! both.

use std::time::{Duration, Instant};

use crate::support::facts::{self, FACTS, Machine};
use crate::support::{Host, require_hosts};

/// A real systemd, whose units are those of `current`, as rick has them.
struct Real {
    host: Host,
}

impl Real {
    fn boot() -> Self {
        let host = Host::boot("lab");
        host.sh("mkdir -p /var/lib/rick/gens/1/units /usr/local/lib/systemd; \
             ln -s gens/1 /var/lib/rick/current; rm -rf /usr/local/lib/systemd/system; \
             ln -s /var/lib/rick/current/units /usr/local/lib/systemd/system; systemctl daemon-reload");
        Self { host }
    }

    /// Makes another generation current, in which `change` was done below `units`, with `input` on standard input.
    fn generation(&self, change: &str, input: &str) {
        let script = format!(
            "cd /var/lib/rick; old=$(readlink current); new=gens/$((${{old#gens/}} + 1)); cp -a $old $new; \
             (cd $new/units; {change}); ln -s $new next; mv -T next current"
        );
        let output = self.host.run_with(&["bash", "-euo", "pipefail", "-c", &script], input.as_bytes());
        assert!(output.status.success(), "{output:?}");
    }

    /// As if there had been nothing.
    fn clear(&self) {
        self.generation("find . -mindepth 1 -delete", "");
        self.host.sh(
            "units=$(systemctl list-units --all --plain --no-legend | awk '$1 ~ /^(a|a@x|b|t)[.]/ {print $1}'); \
             { systemctl stop $units; systemctl reset-failed $units; } 2>/dev/null || :; \
             systemctl reset-failed; rm -f /run/fact-*",
        );
    }

    fn wait_until(&self, unit: &str, what: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !what(&self.host.property(unit, "ActiveState")) {
            assert!(Instant::now() < deadline, "{unit} does not become what it should");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Machine for Real {
    fn write(&mut self, path: &str, text: Option<&str>) {
        match text {
            Some(text) => {
                self.generation(&format!("mkdir -p $(dirname {path}); rm -f {path}; cat >{path}"), text);
            }
            None => self.generation(&format!("ln -sf /dev/null {path}"), ""),
        }
    }

    fn remove(&mut self, path: &str) {
        self.generation(&format!("rm {path}"), "");
    }

    fn systemctl(&mut self, words: &[&str]) -> bool {
        self.host.run(&[&["systemctl"], words].concat()).status.success()
    }

    fn kill(&mut self, unit: &str) {
        self.host.ok(&["systemctl", "kill", "--signal=KILL", unit]);
        self.wait_until(unit, |state| state != "active");
    }

    fn wait(&mut self, unit: &str, active: &str) {
        self.wait_until(unit, |state| state == active);
    }

    fn shows(&mut self, unit: &str) -> [String; 3] {
        let shown =
            self.host.ok(&["systemctl", "show", "--property=ActiveState,LoadState,InvocationID", unit]);
        let value = |key: &str| shown.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        ["ActiveState", "LoadState", "InvocationID"].map(|key| value(key).unwrap_or_default().to_owned())
    }

    fn version(&mut self, unit: &str) -> String {
        self.host.sh(&format!("cat /run/fact-{unit}"))
    }

    fn instances(&mut self, template: &str) -> Vec<String> {
        let pattern = template.replace("@.", "@*.");
        let list = ["systemctl", "list-units", "--plain", "--no-legend", "--full", "--", pattern.as_str()];
        let listed = self.host.ok(&list);
        listed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    }
}

#[test]
fn systemd_is_as_its_model_says() {
    require_hosts!();
    let mut real = Real::boot();
    for fact in FACTS {
        facts::check(&mut real, fact);
        real.clear();
    }
}
