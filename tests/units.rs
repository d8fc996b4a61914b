//! How far a service of our modules could reach on a host, by the judgement of systemd: `docs/units.md` has it for each, and a limit holds for all of them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::support::source::{self, Tree};
use crate::support::{Host, activator, require_hosts, require_programs};

/// The most that a service of ours may have: the end of what systemd calls OK.
const LIMIT: f64 = 4.0;

/// Those that have more, and why.
const ABOVE: [(&str, &str); 1] = [(
    "rick-resume.service",
    "above: it is the activator at boot, which ends a switch that was cut short, and a switch may do all",
)];

/// The environment whose host gets an `ssh_key` here, and so has its secrets in its bundle.
const KEYED: &str = "production";

const HEAD: &str = "# How exposed the services are

What `systemd-analyze security` says of each service that the environments of this repository get, on Debian 13: 0 is a service that reaches
nothing, 10 one that may do all. `tests/units.rs` asks on a real host and writes this page (`RICK_BLESS=1`); a service of ours may have at
most 4.0, the end of what systemd calls OK.

A container is held by what Podman makes of its Quadlet, of which systemd knows nothing: its unit starts Podman, as root, which needs nearly
everything. So the figure of a container says what its unit may do and nothing of what runs inside, and has no limit. Neither has that of a
service of the distribution to which we only add something. Nor does a figure know of what a unit runs with all rights all the same: `rick-alert@.service`
does so with `journalctl --sync`.

For this page the host of `production` has an `ssh_key`, and so `rick-secrets.service`, which decrypts what came with the bundle whenever it boots.
";

#[test]
fn services_of_ours_reach_little() {
    require_hosts!();
    require_programs!("age");
    let mut page = HEAD.to_owned();
    let mut wrong = Vec::new();
    for (environment, name) in [("homelab", "arch-vps"), ("production", "mini-vps")] {
        let host = Host::boot(name);
        host.push(&activator(), "/usr/local/bin/rick-activate");
        let tree = source::buildable();
        if environment == KEYED {
            bring_secrets(&tree, &host, name);
        }
        host.push(&tree.bundle(environment), "/root/bundle.tar");
        // As they would lie there, with nothing of it started.
        host.sh(
            "mkdir /srv/root && rick-activate /root/bundle.tar --root /srv/root --host \"$(hostname)\" &&
            cd /srv/root/var/lib/rick/current && mkdir -p /usr/local/lib/systemd/system /etc/containers/systemd &&
            cp -a units/. /usr/local/lib/systemd/system && { [[ ! -d quadlets ]] || cp -a quadlets/. /etc/containers/systemd; } &&
            systemctl daemon-reload",
        );
        let _ = write!(page, "\n## {environment}\n\n| service | exposure | |\n|---|---:|---|\n");
        for (unit, kind) in services(&host) {
            let exposure = exposure(&host, &unit);
            let why = ABOVE.iter().find(|(above, _)| *above == unit).map(|(_, why)| *why);
            if kind.is_empty() && exposure > LIMIT && why.is_none() {
                wrong.push(format!("{unit} has {exposure:.1}"));
            }
            if exposure <= LIMIT && why.is_some() {
                wrong.push(format!("{unit} has {exposure:.1}, and is on the list of those that have more"));
            }
            let _ = writeln!(page, "| `{unit}` | {exposure:.1} | {} |", why.unwrap_or(kind));
        }
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/units.md");
    if std::env::var_os("RICK_BLESS").is_some() {
        fs::write(&file, &page).unwrap();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(fs::read_to_string(&file).unwrap_or_default(), page, "RICK_BLESS=1 writes docs/units.md anew");
}

/// Gives the host of an environment a key, and all that it then needs in the tree.
fn bring_secrets(tree: &Tree, host: &Host, name: &str) {
    host.ok(&["ssh-keygen", "-A"]);
    let key = host.ok(&["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]);
    let stated = format!("name = \"{name}\",");
    tree.edit(&format!("environments/{KEYED}.star"), &stated, &format!("{stated} ssh_key = \"{key}\","));
    let made =
        tree.command(&["secrets", "generate", KEYED, "--missing"]).env("PATH", "/usr/bin:/bin").output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

/// The services that a host got: those of modules, those of containers, and those that something was added to.
fn services(host: &Host) -> BTreeSet<(String, &'static str)> {
    let list = |script: &str| host.sh(script).lines().map(str::to_owned).collect::<Vec<_>>();
    let ours = list(
        "cd /srv/root/var/lib/rick/current/units && find . -maxdepth 1 -name '*.service' -type f -printf '%P\\n'",
    );
    let added = list(
        "cd /srv/root/var/lib/rick/current/units && find . -maxdepth 1 -name '*?.service.d' -printf '%P\\n'",
    );
    let contained = list(
        "cd /run/systemd/generator && grep -l -- '^SourcePath=/etc/containers/systemd' *.service || true",
    );
    let added = added
        .iter()
        .filter_map(|name| name.strip_suffix(".d"))
        .filter(|name| !ours.contains(&(*name).to_owned()));
    let of_distribution = added.filter(|name| !contained.contains(&(*name).to_owned()));
    let mut all: BTreeSet<(String, &str)> =
        of_distribution.map(|name| (name.to_owned(), "of the distribution")).collect();
    all.extend(ours.iter().map(|name| (name.clone(), "")));
    all.extend(contained.into_iter().map(|name| (name, "a container")));
    all
}

fn exposure(host: &Host, unit: &str) -> f64 {
    // Of a template, any instance.
    let said = host.ok(&["systemd-analyze", "security", "--no-pager", &unit.replace("@.", "@x.")]);
    let (_, rest) =
        said.rsplit_once("Overall exposure level for ").unwrap_or_else(|| panic!("{unit}: {said}"));
    let figure = rest.split_whitespace().nth(1).and_then(|figure| figure.parse().ok());
    figure.unwrap_or_else(|| panic!("{unit}: {rest}"))
}
