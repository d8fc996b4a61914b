//! The activation of a host of 60 units and 300 files of configuration, beside Ansible, which does the same on the same host with units
//! and files of its own; and how much of it is the activator's own.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::path::PathBuf;

use super::{
    Sample, Took, ansible_runs, at_end, at_once, bundles, first, in_foreground, options, ready, runs, timed,
    told, told_against,
};
use crate::support::{Host, require_hosts};

/// Two editions: of all that is there, one setting of one service differs.
const EDITIONS: [&str; 2] = ["peer", "peer-changed"];

const PLAYBOOK: &str = "PYTHONPATH=/opt/ansible ANSIBLE_PIPELINING=1 python3 /opt/ansible/bin/ansible-playbook \
    -c local -i localhost, -e ansible_python_interpreter=/usr/bin/python3 /root/playbook/playbook.yml";

#[test]
#[ignore = "a measurement: run ci/bench"]
fn beside_ansible() {
    require_hosts!();
    let host = ready("peer", &EDITIONS);
    let mut rick = Peer { units: "r-*", service: "r-app0.service", edition: 0 };
    let usual = EDITIONS.map(|bundle| format!("rick-activate /root/{bundle}.tar"));
    let quick = EDITIONS.map(|bundle| at_once(&host, bundle));
    let watches = quick != usual;
    first(&host, EDITIONS[0]);
    let mut ansible = install_ansible(&host).then(|| {
        let play = |edition| format!("{PLAYBOOK} -e edition={edition}");
        let commands = [play(0), play(1)];
        let (sample, _) = timed(&host, &commands[0]);
        println!("measured\t  ansible-playbook -c local: first (once)\t{}\tms", sample[0]);
        (Peer { units: "a-*", service: "a-app0.service", edition: 0 }, commands)
    });

    // The first activations were the warming up, but for what lies in the second edition only.
    rick.change(&host, &quick);
    let mut samples: BTreeMap<&str, Vec<Sample>> = BTreeMap::new();
    let mut count = |what, sample| samples.entry(what).or_default().push(sample);
    let turns = ansible_runs().clamp(1, runs());
    for _ in 0..turns {
        for _ in 0..runs().div_ceil(turns) {
            count("unchanged", rick.same(&host, &usual, "nothing to do"));
            count("changed", rick.change(&host, &quick));
            if watches {
                count("watched", rick.change(&host, &usual));
            }
        }
        if let Some((ansible, commands)) = &mut ansible {
            count("ansible unchanged", ansible.same(&host, commands, "changed=0 "));
            count("ansible changed", ansible.change(&host, commands));
        }
    }

    let took: BTreeMap<&str, Took> =
        samples.iter().map(|(what, samples)| (*what, Took::of(samples))).collect();
    let beside_ansible = |name: &str, what: &str, ansible: &str| {
        let Some(rick) = took.get(what) else { return };
        told(name, rick);
        if let Some(ansible) = took.get(ansible) {
            told_against("  ansible-playbook -c local: the same", ansible, rick);
        }
    };
    beside_ansible("peer: unchanged", "unchanged", "ansible unchanged");
    beside_ansible("peer: one changed service", "changed", "ansible changed");
    beside_ansible("peer: one changed service, watched as usual", "watched", "ansible changed");
}

#[test]
#[ignore = "a measurement: run ci/bench"]
fn own_share() {
    require_hosts!();
    let host = ready("peer", &EDITIONS);
    let mut rick = Peer { units: "r-*", service: "r-app0.service", edition: 0 };
    let options = in_foreground(&host) + &options(&host, &["--settle 0"]);
    let traced = EDITIONS.map(|bundle| {
        format!(
            "strace -f --seccomp-bpf -ttt -T -e trace=process,fsync,fdatasync,syncfs -e signal=none -o /root/trace \
             rick-activate {options}/root/{bundle}.tar"
        )
    });
    let share = |host: &Host| Share::of(&host.sh("cat /root/trace"));
    timed(&host, &traced[0]);
    let first = share(&host);
    println!("measured\tpeer: first activation, the activator's own share (once)\t{}\tms", first.own / 1000);
    println!("measured\t  of it, flushing to the disk\t{}\tms", first.disk / 1000);

    rick.change(&host, &traced);
    let plain = EDITIONS.map(|bundle| format!("rick-activate {options}/root/{bundle}.tar"));
    let mut processor = Vec::new();
    let mut shares = [const { Vec::new() }; 4];
    for _ in 0..runs() {
        rick.change(&host, &traced);
        let share = share(&host);
        for (all, one) in shares.iter_mut().zip([share.wall, share.own, share.disk, share.starts]) {
            all.push(one / 1000);
        }
        rick.edition = 1 - rick.edition;
        let [_, milliseconds] = at_end(&host, &plain[rick.edition]);
        processor.push(u64::from(milliseconds));
    }
    for (what, mut all) in [
        "peer: one changed service, traced",
        "peer: one changed service, the activator's own share",
        "  of it, flushing to the disk",
        "  beside it, until its programs have started",
        "  its processor time",
    ]
    .into_iter()
    .zip(shares.into_iter().chain([processor]))
    {
        all.sort_unstable();
        println!("measured\t{what}\t{}\tms\t{}", all[(all.len() - 1) / 2], all[0]);
    }
}

/// The units that one of the two tools manages on the host.
struct Peer {
    units: &'static str,
    /// The one that differs between the editions.
    service: &'static str,
    /// The edition that the host has.
    edition: usize,
}

impl Peer {
    /// Brings the edition that is there, by the command of that edition: it must say that it had nothing to do, and no unit may notice.
    fn same(&self, host: &Host, commands: &[String; 2], nothing: &str) -> Sample {
        let before = self.lives(host);
        let (sample, said) = timed(host, &commands[self.edition]);
        assert!(said.contains(nothing), "{said}");
        assert_eq!(self.lives(host), before);
        sample
    }

    /// Brings the other edition: the one service must have begun a new life, and see its new setting, and no other unit may notice.
    fn change(&mut self, host: &Host, commands: &[String; 2]) -> Sample {
        self.edition = 1 - self.edition;
        let before = self.lives(host);
        let (sample, said) = timed(host, &commands[self.edition]);
        let after = self.lives(host);
        let changed: Vec<&String> = after.symmetric_difference(&before).collect();
        let of_the_service = |life: &&String| life.starts_with(&format!("{} ", self.service));
        assert!(changed.len() == 2 && changed.iter().all(of_the_service), "{changed:?}\n{said}");
        let setting = host.sh(&format!(
            "pid=$(systemctl show --value --property MainPID {})
             sed -n 's/^edition = //p' \"$(tr '\\0' '\\n' < /proc/$pid/environ | sed -n 's/^SETTINGS=//p')\"",
            self.service,
        ));
        assert_eq!(setting, self.edition.to_string(), "{said}");
        sample
    }

    /// All units that are active, each with the life that it lives.
    fn lives(&self, host: &Host) -> BTreeSet<String> {
        let said = host.sh(&format!(
            "systemctl show --state active --property Id --property InvocationID '{0}.service' '{0}.timer' |
                 sed -n 's/^Id=//p;s/^InvocationID=//p' | paste --delimiters ' ' - -",
            self.units,
        ));
        let lives: BTreeSet<String> = said.lines().map(ToOwned::to_owned).collect();
        assert_eq!(lives.len(), 55, "50 services and 5 timers should be active: {said}");
        lives
    }
}

/// Brings Ansible and the playbook; says whether it was there to be brought.
fn install_ansible(host: &Host) -> bool {
    let Some(ansible) = env::var_os("RICK_BENCH_ANSIBLE") else { return false };
    host.push(&PathBuf::from(ansible), "/opt/ansible");
    // As a package manager's installation would.
    host.ok(&["python3", "-m", "compileall", "-q", "/opt/ansible"]);
    host.push(&bundles().join("playbook"), "/root/playbook");
    true
}

/// Microseconds of a run.
struct Share {
    wall: u64,
    /// Those during which none of the programs ran that it starts.
    own: u64,
    /// Of these, those in which it waited until what it wrote was durable.
    disk: u64,
    /// Those from each call that starts a program to the first that is heard of that.
    starts: u64,
}

impl Share {
    /// What strace has seen, each line a process, the time and an event. A process that begins a program is one that was started: from
    /// the call that starts it, which takes long because strace takes hold of it there, until it ends. One that does not is a thread.
    fn of(trace: &str) -> Self {
        struct Seen {
            from: u64,
            to: u64,
            runs_program: bool,
        }
        let mut seen: BTreeMap<&str, Seen> = BTreeMap::new();
        let mut main = None;
        let (mut called, mut starts) = (None, 0);
        let mut flushes = Vec::new();
        for line in trace.lines() {
            let mut parts = line.split_whitespace();
            let pid = parts.next().expect("a process");
            let time = microseconds(parts.next().expect("a time"));
            let event = parts.next().expect("an event");
            main.get_or_insert(pid);
            if line.contains("CLONE_VFORK") {
                called = Some(time);
            }
            let seen = seen.entry(pid).or_insert_with(|| {
                let from = called.take().unwrap_or(time);
                starts += time - from;
                Seen { from, to: time, runs_program: false }
            });
            seen.to = time;
            seen.runs_program |= event.starts_with("execve");
            if line.contains("sync") && line.ends_with('>') {
                let (_, took) = line.trim_end_matches('>').rsplit_once('<').expect("a duration");
                flushes.push((pid, microseconds(took)));
            }
        }
        let main = main.expect("a trace");
        let (start, end) = (seen[main].from, seen[main].to);
        let mut programs: Vec<(u64, u64)> = seen
            .iter()
            .filter(|(pid, seen)| **pid != main && seen.runs_program)
            .map(|(_, seen)| (seen.from, seen.to.min(end)))
            .collect();
        programs.sort_unstable();
        let (mut own, mut until) = (0, start);
        for (from, to) in programs {
            own += from.saturating_sub(until);
            until = until.max(to);
        }
        own += end.saturating_sub(until);
        let ours = |pid: &str| pid == main || !seen[pid].runs_program;
        let disk = flushes.iter().filter(|(pid, _)| ours(pid)).map(|(_, took)| took).sum();
        Self { wall: end - start, own, disk, starts }
    }
}

/// `1.000002` → 1 000 002.
fn microseconds(text: &str) -> u64 {
    text.replace('.', "").parse().unwrap_or_else(|_| panic!("no time: {text}"))
}
