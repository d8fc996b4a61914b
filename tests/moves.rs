//! A service moves from one host to another by an edit of two environments. In whichever order the hosts are activated, and wherever either
//! is killed meanwhile, no byte is lost, and never do both have it.

use crate::support::kept::{
    activate, boot, deadly, environment, everything, fill, kill_at, lived, make_secret,
};
use crate::support::lab::{is_well, said, wait_for};
use crate::support::source::{self, Tree};
use crate::support::{Host, require_hosts};

/// Two hosts that know each other, and a repository that both reach over SSH, on the old one.
pub(crate) struct Pair {
    pub(crate) tree: Tree,
    pub(crate) old: Host,
    pub(crate) new: Host,
    /// The services that each has.
    at: [Vec<String>; 2],
}

impl Pair {
    pub(crate) fn new() -> Self {
        let tree = source::modules();
        let (old, new) = (boot("old"), boot("new"));
        new.join(&old);
        old.sh("useradd --create-home vault; ssh-keygen -A; systemctl start ssh.service");
        old.sh("ssh-keygen -q -t ed25519 -N '' -f /root/key; install -d -o vault -m 700 ~vault/.ssh; install -o vault -m 600 /root/key.pub ~vault/.ssh/authorized_keys");
        let key = String::from_utf8(old.read("/root/key")).unwrap();
        for host in [&old, &new] {
            make_secret(host, "vault-key", &key);
        }
        // Numbers differ between the hosts.
        new.sh("for i in $(seq 5); do useradd --system u$i; done");
        Self { tree, old, new, at: [Vec::new(), Vec::new()] }
    }

    /// What both say of their repository.
    pub(crate) fn backups(&self) -> String {
        let known = self.old.sh("cat /etc/ssh/ssh_host_ed25519_key.pub");
        let mut words = known.split_whitespace();
        let known = format!("old {} {}", words.next().unwrap(), words.next().unwrap());
        format!(
            "repository = \"sftp:vault@old:vault\", ssh_key = \"vault-key\", known_hosts = [\"{known}\"], schedule = \"2001-01-01\""
        )
    }

    fn describe(&self) {
        let backups = self.backups();
        environment(&self.tree, "old", &backups, &self.at[0].join("\n"));
        environment(&self.tree, "new", &backups, &self.at[1].join("\n"));
    }

    /// The edit.
    fn moves(&mut self, service: &str) {
        self.at[0].retain(|text| !text.contains(&format!("\"{service}\"")));
        self.at[1].push(format!("keeper(name = \"{service}\", moved_from = \"old/old\"),"));
        self.describe();
    }

    fn everything(host: &Host, service: &str) -> [String; 2] {
        [format!("/var/lib/{service}"), format!("/srv/{service}-more")].map(|path| everything(host, &path))
    }
}

fn runs(host: &Host, service: &str) -> bool {
    host.property(&format!("{service}.service"), "ActiveState") == "active"
}

#[test]
fn a_service_moves_with_all_that_it_keeps_whichever_host_is_first() {
    require_hosts!();
    let mut pair = Pair::new();
    pair.at[0] = ["k1", "k2"].map(|name| format!("keeper(name = \"{name}\"),")).to_vec();
    pair.describe();
    activate(&pair.old, &pair.tree, "old");
    for service in ["k1", "k2"] {
        fill(&pair.old, service);
    }
    let there = ["k1", "k2"].map(|service| Pair::everything(&pair.old, service));

    // The old host is first.
    pair.moves("k1");
    let told = activate(&pair.old, &pair.tree, "old");
    assert!(told.contains("release    k1"), "{told}");
    let told = activate(&pair.new, &pair.tree, "new");
    println!("{told}");
    assert_eq!(Pair::everything(&pair.new, "k1"), there[0]);
    assert_eq!(Pair::everything(&pair.old, "k1"), there[0], "the old host keeps what it had");
    assert!(runs(&pair.new, "k1") && !runs(&pair.old, "k1"));
    assert_ne!(pair.old.sh("id -u k1"), pair.new.sh("id -u k1"), "the numbers differ, and the names did not");

    // The new host is first: it waits, and all else of it is well.
    pair.moves("k2");
    let told = activate(&pair.new, &pair.tree, "new");
    assert!(
        told.contains("warning: k2.service") && !runs(&pair.new, "k2") && runs(&pair.new, "k1"),
        "{told}"
    );
    assert!(runs(&pair.old, "k2"));
    pair.old.sh("echo late >>/var/lib/k2/late; chown k2:k2 /var/lib/k2/late");
    let late = Pair::everything(&pair.old, "k2");
    activate(&pair.old, &pair.tree, "old");
    assert!(!runs(&pair.old, "k2"));
    pair.new.ok(&["systemctl", "start", "rick-await-k2.service"]);
    wait_for("the service", || runs(&pair.new, "k2"));
    assert_eq!(Pair::everything(&pair.new, "k2"), late);
    pair.new.sh("systemctl reset-failed");
    is_well(&pair.new);

    // The old host does not have it again by itself.
    let output = pair.old.run(&["rick-activate", "rollback"]);
    assert!(said(&output).contains("`k2` left this host, and new/new has it since"), "{}", said(&output));
    assert!(!runs(&pair.old, "k2"));

    let told = pair.old.ok(&["rick-activate", "state"]);
    assert!(told.contains("k1  not of this host any more; gone since generation 1"), "{told}");
    pair.old.ok(&["rick-activate", "forget", "k1", "--yes"]);
    pair.old.sh("test ! -e /var/lib/k1 -a ! -e /srv/k1-more");
    let told = pair.old.ok(&["rick-activate", "state"]);
    assert!(!told.contains("k1"), "{told}");
    // What it has forgotten, the repository remembers.
    let output = pair.old.run(&["rick-activate", "rollback", "1"]);
    assert!(said(&output).contains("`k1` left this host, and new/new has it since"), "{}", said(&output));
    assert!(!runs(&pair.old, "k1"));

    // The new host is set up anew, and gets what it copied itself, not what once came.
    pair.new.sh("echo more >/var/lib/k1/more");
    let later = Pair::everything(&pair.new, "k1");
    pair.new.ok(&["rick-activate", "backup", "k1"]);
    pair.new
        .sh("systemctl stop k1; rm -rf /var/lib/k1 /srv/k1-more/* /var/lib/rick/kept; systemctl start k1");
    assert_eq!(Pair::everything(&pair.new, "k1"), later);
}

#[test]
fn a_move_survives_a_kill_at_every_step_of_either_host() {
    require_hosts!();
    let mut pair = Pair::new();
    deadly(&pair.old);
    deadly(&pair.new);
    let names: Vec<String> = (0..16).map(|number| format!("m{number}")).collect();
    pair.at[0] = names.iter().map(|name| format!("keeper(name = \"{name}\"),")).collect();
    pair.describe();
    activate(&pair.old, &pair.tree, "old");
    let mut names = names.into_iter();
    let mut points = [0, 0];
    for side in [0, 1] {
        for point in 0.. {
            let service = names.next().expect("there are as many services as steps");
            pair.old.sh(&format!("cd /var/lib/{service}; seq 1000 >numbers; mkdir d; for i in $(seq 20); do echo $i >d/$i; done; chown -R {service} ."));
            let there = Pair::everything(&pair.old, &service);
            pair.moves(&service);
            let killed = [&pair.old, &pair.new][side];
            kill_at(killed, point);
            for (host, environment) in [(&pair.old, "old"), (&pair.new, "new")] {
                host.push(&pair.tree.bundle(environment), "/root/bundle.tar");
                let first = host.run(&["rick-activate", "--settle=0", "/root/bundle.tar"]);
                assert!(!(runs(&pair.old, &service) && runs(&pair.new, &service)), "both have it");
                if first.status.success() {
                    continue;
                }
                // Whoever finds that something was cut short says the same again.
                let second = host.run(&["rick-activate", "--settle=0", "/root/bundle.tar"]);
                assert!(
                    second.status.success(),
                    "{point} of {environment}: {}\nthen: {}",
                    said(&first),
                    said(&second)
                );
            }
            if !runs(&pair.new, &service) {
                // The word was cut short: the next copy of anything says it.
                pair.old.ok(&["rick-activate", "backup"]);
                pair.new.ok(&["systemctl", "start", &format!("rick-await-{service}.service")]);
            }
            assert!(runs(&pair.new, &service) && !runs(&pair.old, &service), "{point} of {side}");
            assert_eq!(Pair::everything(&pair.new, &service), there, "{point} of {side}");
            if lived(killed) {
                points[side] = point;
                break;
            }
        }
    }
    println!("kills at {points:?} steps");
    assert!(points[0] >= 4 && points[1] >= 6, "{points:?}");
}
