//! A newer program changes what a service keeps, and going back brings back what was before it: nothing goes over a barrier unasked.

use crate::support::kept::{activate, boot, deadly, everything, kill_at, lived, make_secret};
use crate::support::lab::{is_well, said};
use crate::support::source::{self, Tree};
use crate::support::{Host, require_hosts};

/// A service whose data has a schema: a newer version changes it, and an older one refuses it. `broken` does not stay up.
const LEDGER: &str = r#"
_MIGRATE = """had=$(cat schema 2>/dev/null || echo 0)
[[ $had -le $1 ]] || { echo "schema $had is newer than $1" >&2; exit 1; }
[[ $had == "$1" ]] || { echo "$1" >schema; [[ ! -e rows ]] || sed -i "s/^/v$1 /" rows; }"""

def _build(ctx):
    name, version = ctx.name, ctx.options.version
    data = "/var/lib/" + name
    migrate = name + "-migrate.service"
    common = {"User": name, "WorkingDirectory": data}
    return [
        user(name),
        state(data, user = name, group = name, copied = "stopped"),
        unit(migrate, {
            "Service": common | {"Type": "oneshot", "RemainAfterExit": True, "ExecStart": command("/bin/bash", "-euc", _MIGRATE, "migrate", str(version))},
            "Install": {"WantedBy": "multi-user.target"},
        }, barrier = True),
        unit(name + ".service", {
            "Unit": {"Requires": migrate, "After": migrate},
            "Service": common | {"ExecStart": "/bin/false" if ctx.options.broken else "/bin/sleep infinity", "Environment": "NOTE=" + ctx.options.note},
            "Install": {"WantedBy": "multi-user.target"},
        }),
    ]

ledger = module(
    doc = "A ledger.",
    options = {
        "version": option(int, doc = "Of its program."),
        "broken": option(bool, default = False, doc = "It does not stay up."),
        "note": option(str, default = "", doc = "Changes nothing that it keeps."),
    },
    build = _build,
)
"#;

fn environment(tree: &Tree, ledger: &str) {
    tree.write("modules/ledger/ledger.star", LEDGER);
    tree.write(
        "environments/books.star",
        &format!(
            r#"load("//modules/backups", "backups")
load("//modules/ledger", "ledger")

environment(name = "books", hosts = [host(name = "books", domain = "example.net", services = [
    backups(repository = "/srv/backups"), {ledger}
])])
"#
        ),
    );
}

fn ledger(host: &Host) -> String {
    everything(host, "/var/lib/ledger")
}

#[test]
fn going_back_over_a_barrier_is_asked_for_and_brings_back_what_was_before() {
    require_hosts!();
    let tree = source::modules();
    let host = boot("books");
    environment(&tree, "ledger(version = 1)");
    activate(&host, &tree, "books");
    host.sh("cd /var/lib/ledger; seq 1000 >rows; mkdir d; for i in $(seq 1000); do echo $i >d/$i; done; chown -R ledger:ledger .");
    let first = ledger(&host);

    // A change that leaves the program as it is takes no copy, and the way back from it is free.
    environment(&tree, "ledger(version = 1, note = \"new\")");
    let told = activate(&host, &tree, "books");
    assert!(!told.contains("copied"), "{told}");
    host.ok(&["rick-activate", "--settle=0", "rollback"]);
    host.ok(&["rick-activate", "--settle=0", "rollback", "2"]);

    environment(&tree, "ledger(version = 2)");
    let told = activate(&host, &tree, "books");
    assert!(told.contains("copied     ledger: "), "{told}");
    let second = host
        .sh("head -1 /var/lib/ledger/rows; cat /var/lib/ledger/schema; echo later >>/var/lib/ledger/rows");
    assert_eq!(second.trim(), "v2 1\n2");
    let second = ledger(&host);

    let refused = host.run(&["rick-activate", "rollback"]);
    assert_eq!(refused.status.code(), Some(1));
    let refused = said(&refused);
    assert!(
        refused.contains("generation 2 has other programs for ledger") && refused.contains("--with-state"),
        "{refused}"
    );
    assert_eq!(ledger(&host), second);

    let told = host.ok(&["rick-activate", "--settle=0", "rollback", "--with-state"]);
    assert!(told.contains("copied     ledger: "), "what came since then is not lost: {told}");
    assert_eq!(ledger(&host), first);
    is_well(&host);

    // And forth again, to what the newer one had.
    host.ok(&["rick-activate", "--settle=0", "rollback", "3", "--with-state"]);
    assert_eq!(ledger(&host), second);
    is_well(&host);

    // To the one before that, whose program is the same as that of the one that was left.
    host.ok(&["rick-activate", "--settle=0", "rollback", "1", "--with-state"]);
    assert_eq!(ledger(&host), first);

    // What is gone back to without its data is not well, since the program refuses it: that was asked for.
    host.ok(&["rick-activate", "--settle=0", "rollback", "3", "--without-state"]);
    let output = host.run(&["rick-activate", "--settle=0", "rollback", "1", "--without-state"]);
    assert!(said(&output).contains("schema 2 is newer than 1"), "{}", said(&output));
    host.sh("systemctl reset-failed");
}

#[test]
fn an_upgrade_that_fails_is_undone_with_its_data() {
    require_hosts!();
    let tree = source::modules();
    let host = boot("books");
    environment(&tree, "ledger(version = 1)");
    activate(&host, &tree, "books");
    host.sh("cd /var/lib/ledger; seq 1000 >rows; chown ledger:ledger rows");
    let first = ledger(&host);

    environment(&tree, "ledger(version = 2, broken = True)");
    host.push(&tree.bundle("books"), "/root/bundle.tar");
    let failed = host.run(&["rick-activate", "--settle=1", "/root/bundle.tar"]);
    assert_eq!(failed.status.code(), Some(4), "{}", said(&failed));
    assert_ne!(ledger(&host), first);
    let told = host.ok(&["rick-activate", "--settle=0", "rollback", "1", "--with-state"]);
    assert_eq!(ledger(&host), first, "{told}");
    is_well(&host);

    // Without a copy nothing that changes data is begun.
    host.sh("mv /etc/credstore.encrypted/restic-password /root/");
    make_secret(&host, "restic-password", "wrong horse");
    let life = host.property("ledger.service", "InvocationID");
    for stays in ["--settle=0", "--no-rollback"] {
        let refused = host.run(&["rick-activate", stays, "/root/bundle.tar"]);
        assert_eq!(refused.status.code(), Some(3), "{}", said(&refused));
        assert!(said(&refused).contains("no copy of `ledger` could be taken before"), "{}", said(&refused));
        assert_eq!(
            said(&refused).contains("look around with"),
            stays != "--no-rollback",
            "{}",
            said(&refused)
        );
        assert_eq!(ledger(&host), first);
        assert_eq!(host.property("ledger.service", "InvocationID"), life, "it was not stopped for that");
        is_well(&host);
    }
    let output = host.run(&["rick-activate", "--settle=1", "--no-copies", "/root/bundle.tar"]);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    // The copy that was taken when the host left generation 1 before, and of the data of version 2, is not what it had now.
    let refused = said(&host.run(&["rick-activate", "rollback", "1", "--with-state"]));
    assert!(refused.contains("no copy of `ledger` was taken when the host left generation 1"), "{refused}");
}

#[test]
fn going_back_with_data_survives_a_kill_at_every_step() {
    require_hosts!();
    let tree = source::modules();
    let host = boot("books");
    deadly(&host);
    environment(&tree, "ledger(version = 1)");
    activate(&host, &tree, "books");
    host.sh("cd /var/lib/ledger; seq 1000 >rows; mkdir d; for i in $(seq 50); do echo $i >d/$i; done; chown -R ledger:ledger .");
    let first = ledger(&host);
    environment(&tree, "ledger(version = 2)");
    let mut point = 0;
    loop {
        activate(&host, &tree, "books");
        host.sh("cd /var/lib/ledger; rm d/7; echo new >d/new; chown ledger: d/new");
        let second = ledger(&host);
        let number = host.sh("readlink /var/lib/rick/current | tr -dc 0-9");
        kill_at(&host, point);
        let output = host.run(&["rick-activate", "--settle=0", "rollback", "1", "--with-state"]);
        let there = host.sh("readlink /var/lib/rick/current");
        if there.trim() != "gens/1" {
            // It was not to be, and the host has what it had.
            assert_eq!(ledger(&host), second, "{point}: {}", said(&output));
            let ledger = host.property("ledger.service", "ActiveState");
            assert_eq!(ledger, "active", "{point} of {number}: {}", said(&output));
        }
        if !output.status.success() {
            // Whoever sees that it was cut short says the same again.
            host.ok(&["rick-activate", "--settle=0", "rollback", "1", "--with-state"]);
        }
        assert_eq!(ledger(&host), first, "{point}: {}", said(&output));
        host.sh("systemctl reset-failed");
        is_well(&host);
        if lived(&host) {
            break;
        }
        point += 1;
    }
    println!("killed at {point} steps");
    assert!(point >= 5, "{point}");
}
