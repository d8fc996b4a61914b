//! What services keep, when something goes wrong: repositories that do not answer, restores that are cut short, disks that are full. On live
//! hosts, with the real restic; every byte is compared.

use std::collections::BTreeSet;

use crate::support::kept::{
    LOCAL, activate, backup, boot, copied, copies, environment, everything, fill, gate, is_active, refused,
    restic, slow, wrap,
};
use crate::support::lab::{is_well, said, wait_for};
use crate::support::source::Tree;
use crate::support::{Host, require_hosts, source};

const DIRECTORIES: [&str; 2] = ["/var/lib/keeper", "/srv/keeper-more"];

fn all(host: &Host) -> [String; 2] {
    DIRECTORIES.map(|directory| everything(host, directory))
}

/// A host with a service that keeps something, of which there is one copy; gives what it keeps and the name of the copy.
fn kept(name: &str, tree: &Tree) -> (Host, [String; 2], String) {
    let host = boot(name);
    activate(&host, tree, name);
    fill(&host, "keeper");
    let there = all(&host);
    let copy = backup(&host, "keeper");
    (host, there, copy)
}

/// Compares what is kept, and shows only what differs.
#[track_caller]
fn same(is: &[String; 2], expected: &[String; 2]) {
    let lines = |all: &[String; 2]| -> BTreeSet<String> {
        all.iter().flat_map(|text| text.lines()).map(str::to_owned).collect()
    };
    let (is_lines, expected_lines) = (lines(is), lines(expected));
    let more: Vec<&String> = is_lines.difference(&expected_lines).collect();
    let less: Vec<&String> = expected_lines.difference(&is_lines).collect();
    assert!(is == expected, "there is {more:#?}\ninstead of {less:#?}");
}

fn lose_all(host: &Host) {
    host.sh("systemctl stop keeper; rm -rf /var/lib/keeper; find /srv/keeper-more -mindepth 1 -delete");
}

#[test]
fn a_new_service_waits_for_an_answer_of_its_repository() {
    require_hosts!();
    let tree = source::modules();
    let host = boot("answer");
    let try_with = |backups: &str| {
        environment(&tree, "answer", backups, "keeper()");
        host.push(&tree.bundle("answer"), "/root/bundle.tar");
        host.run(&["rick-activate", "--settle=0", "/root/bundle.tar"])
    };

    // Nobody listens there.
    let output = try_with(r#"repository = "rest:http://127.0.0.1:9/""#);
    assert!(!output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("does not answer"), "{}", said(&output));
    assert_eq!(host.property("keeper.service", "LoadState"), "not-found", "the switch went back");

    // Somebody else's.
    host.sh("RESTIC_PASSWORD=other restic init --quiet --repo /srv/backups");
    let output = try_with(LOCAL);
    assert!(!output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("the password does not open"), "{}", said(&output));
    assert_eq!(host.property("keeper.service", "LoadState"), "not-found", "the switch went back");

    // One that never was.
    host.sh("rm -r /srv/backups");
    let output = try_with(LOCAL);
    assert!(output.status.success(), "{}", said(&output));
    assert!(is_active(&host, "keeper"));
    is_well(&host);

    // What has all that it keeps asks nobody.
    fill(&host, "keeper");
    let there = all(&host);
    backup(&host, "keeper");
    let output = try_with(r#"repository = "rest:http://127.0.0.1:9/""#);
    assert!(output.status.success(), "{}", said(&output));
    host.sh("systemctl restart keeper");
    same(&all(&host), &there);

    // The rest needs an answer again.
    lose_all(&host);
    refused(&host, "systemctl start keeper");
    assert!(!is_active(&host, "keeper"));
}

#[test]
fn what_is_there_is_never_touched() {
    require_hosts!();
    let tree = source::modules();
    let backups = &format!("{LOCAL}, keep_last = 1, keep_daily = 0, keep_weekly = 0, keep_monthly = 0");
    environment(&tree, "there", backups, "keeper()");
    let (host, first, copy) = kept("there", &tree);

    // Data that rick never saw.
    lose_all(&host);
    host.sh("rm -r /var/lib/rick/kept; install -d -m 750 -o keeper -g keeper /var/lib/keeper /var/lib/keeper/made; echo mine >/var/lib/keeper/mine");
    let mine = all(&host);
    host.sh("systemctl start keeper");
    same(&all(&host), &mine);
    let told = refused(&host, "rick-activate restore keeper");
    assert!(told.contains("is there, and is not touched"), "{told}");
    same(&all(&host), &mine);
    assert!(is_active(&host, "keeper"));

    // Beside it.
    host.sh("rick-activate restore keeper --to /root/look");
    for (directory, first) in DIRECTORIES.iter().zip(&first) {
        let beside = everything(&host, &format!("/root/look{directory}"));
        assert_eq!(below(&beside), below(first));
    }
    for place in ["/root/look", "/var/lib/keeper", "/"] {
        let told = refused(&host, &format!("rick-activate restore keeper --to {place}"));
        assert!(told.contains("is not empty"), "{told}");
    }
    same(&all(&host), &mine);

    // In its place, and back, though the rules keep one copy only.
    let told = host.ok(&["rick-activate", "restore", "keeper", "--replace", "--snapshot", &copy]);
    same(&all(&host), &first);
    assert!(is_active(&host, "keeper"));
    let before = copied(&told);
    host.ok(&["rick-activate", "restore", "keeper", "--replace", "--snapshot", &before]);
    same(&all(&host), &mine);
    is_well(&host);

    // A copy that cannot be taken before: nothing is replaced, and the service runs.
    wrap(&host, "[[ \" $* \" != *' backup '* ]] || exit 1; exec /usr/bin/restic.real \"$@\"");
    let told = refused(&host, &format!("rick-activate restore keeper --replace --snapshot {copy}"));
    assert!(told.contains("what is there could not be copied before"), "{told}");
    same(&all(&host), &mine);
    assert!(is_active(&host, "keeper"));
    host.sh("mv /usr/bin/restic.real /usr/bin/restic");

    // Only some of it is gone.
    host.sh("echo more >/srv/keeper-more/file; systemctl restart keeper; systemctl stop keeper; rm /srv/keeper-more/file");
    refused(&host, "systemctl start keeper");
    let told = gate(&host, "keeper");
    assert!(told.contains("/srv/keeper-more of `keeper` is empty, and was not before"), "{told}");
    assert!(told.contains("accept keeper"), "{told}");
    refused(&host, "rick-activate backup keeper");
    host.sh("rick-activate accept keeper; systemctl reset-failed; systemctl start keeper");
    backup(&host, "keeper");
    is_well(&host);

    // A service that leaves leaves its data.
    let told = refused(&host, "rick-activate forget keeper --yes");
    assert!(told.contains("is a service of this host"), "{told}");
    environment(&tree, "there", backups, "keeper(name = \"other\")");
    let mine = everything(&host, "/var/lib/keeper");
    activate(&host, &tree, "there");
    assert_eq!(everything(&host, "/var/lib/keeper"), mine);
    let text = host.ok(&["rick-activate", "state"]);
    assert!(text.contains("keeper  not of this host any more; gone since generation"), "{text}");
    assert!(text.contains("/var/lib/keeper"), "{text}");
    let gone = host.sh("rick-activate state --json | jq -c '.[] | select(.here | not) | [.service, .parts]'");
    assert_eq!(gone, r#"["keeper",[{"directory":"/var/lib/keeper"}]]"#);
    refused(&host, "rick-activate forget keeper");
    assert_eq!(everything(&host, "/var/lib/keeper"), mine);
    refused(&host, "rick-activate forget nobody --yes");
    refused(&host, "rick-activate forget other --yes");
    host.ok(&["rick-activate", "forget", "keeper", "--yes"]);
    host.sh("test ! -e /var/lib/keeper; test -d /var/lib/other");
    assert_eq!(host.sh("rick-activate state --json | jq -r '.[].service'"), "other");
    assert!(!copies(&host, "keeper").is_empty(), "copies stay");
    is_well(&host);
}

/// What is said of everything below a directory, without the directory itself.
fn below(everything: &str) -> &str {
    everything.rsplit_once('\n').map_or("", |(below, _)| below)
}

#[test]
fn a_restore_that_is_cut_short_is_gone_on_with() {
    require_hosts!();
    let tree = source::modules();
    environment(&tree, "cut", LOCAL, "keeper()");
    let mut host = boot("cut");
    activate(&host, &tree, "cut");
    fill(&host, "keeper");
    host.sh("cd /var/lib/keeper; for i in $(seq 10); do head -c 1500000 /dev/urandom >\"d $i/big\"; done");
    let there = all(&host);
    backup(&host, "keeper");
    slow(&host);
    let restoring = |host: &Host| host.sh("jq '.restoring != null' /var/lib/rick/kept/keeper.json") == "true";

    let mut cut = 0;
    for (files, whom) in [(0, "all"), (1, "main"), (50, "all"), (300, "main"), (600, "all"), (800, "all")] {
        if is_active(&host, "keeper") || files == 0 {
            lose_all(&host);
        }
        host.sh(&format!(
            r"gate() {{ systemctl show --value -p ActiveState rick-restore-keeper; }}
            systemctl start --no-block keeper
            until [[ $(gate) == activating ]]; do sleep 0.01; done
            until [[ $(gate) != activating || $(find /var/lib/keeper -type f 2>/dev/null | wc -l) -ge {files} ]]; do sleep 0.01; done
            systemctl kill --signal=KILL --kill-whom={whom} rick-restore-keeper || true
            while [[ $(gate) == activating ]]; do sleep 0.05; done; sleep 0.2"
        ));
        if is_active(&host, "keeper") {
            same(&all(&host), &there);
            continue;
        }
        if restoring(&host) {
            cut += 1;
            let told = refused(&host, "rick-activate backup keeper");
            assert!(told.contains("a restore of `keeper` was cut short"), "{told}");
        }
        host.sh("systemctl reset-failed");
    }
    assert!(cut >= 3, "{cut}");
    if is_active(&host, "keeper") {
        lose_all(&host);
    }

    // The power goes in the middle. At boot it is gone on with.
    host.sh("systemctl start --no-block keeper; until [[ $(find /var/lib/keeper -type f 2>/dev/null | wc -l) -ge 100 ]]; do sleep 0.01; done");
    assert!(restoring(&host));
    host.power_cut();
    host.boot_again();
    wait_for("the service", || is_active(&host, "keeper"));
    same(&all(&host), &there);
    is_well(&host);
    assert_eq!(copies(&host, "keeper").len(), 1);

    // One by hand, of which only rick is killed: the restic that is left ends before anything starts.
    let spoil = r#"cd /var/lib/keeper; echo newer >newer; rm -rf 'd 7'; for big in d*/big; do echo changed >"$big"; done"#;
    host.sh(spoil);
    for wait in ["0.5", "1.5"] {
        host.sh(&format!(
            r"systemctl stop keeper
            rick-activate restore keeper --replace --without-copy >/dev/null 2>&1 & rick=$!
            until jq -e .restoring /var/lib/rick/kept/keeper.json >/dev/null; do sleep 0.01; done; sleep {wait}
            kill -KILL $rick; wait $rick || true"
        ));
        assert!(restoring(&host));
        host.sh("systemctl start keeper; ! pgrep -x restic.real");
        same(&all(&host), &there);
        host.sh(spoil);
    }
    is_well(&host);
}

#[test]
fn full_disks_and_those_that_are_not_mounted_lose_nothing() {
    require_hosts!();
    let tree = source::modules();
    environment(&tree, "full", LOCAL, "keeper(copied = \"stopped\")");
    let host = boot("full");
    host.sh("install -d -m 700 /srv/backups; mount -t tmpfs -o size=12M,mode=700 tmpfs /srv/backups");
    activate(&host, &tree, "full");
    fill(&host, "keeper");
    let there = all(&host);
    let copy = backup(&host, "keeper");
    assert!(is_active(&host, "keeper"));

    // No room for what is restored.
    lose_all(&host);
    host.sh("mkdir /var/lib/keeper; mount -t tmpfs -o size=1M tmpfs /var/lib/keeper");
    refused(&host, "systemctl start keeper");
    assert!(!is_active(&host, "keeper"));
    let told = gate(&host, "keeper");
    for part in ["no space left on device", "does not start", "`rick-activate restore keeper` goes on"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    refused(&host, "rick-activate backup keeper");
    host.sh("mount -o remount,size=100M /var/lib/keeper; systemctl reset-failed; systemctl start keeper");
    same(&all(&host), &there);
    is_well(&host);

    // No room for a copy.
    host.sh("head -c 20000000 /dev/urandom >/var/lib/keeper/large");
    refused(&host, "systemctl start rick-backup-keeper");
    wait_for("the service", || is_active(&host, "keeper"));
    assert_eq!(copies(&host, "keeper"), [copy.as_str()]);
    host.sh(
        "mount -o remount,size=100M /srv/backups; systemctl reset-failed; systemctl start rick-backup-keeper",
    );
    assert_eq!(copies(&host, "keeper").len(), 2);
    restic(&host, "check --quiet --read-data");
    assert!(is_active(&host, "keeper"));
    let there = all(&host);

    // The repository is not mounted: none is made in its place.
    host.sh("mkdir /mnt/backups /mnt/keeper; mount --bind /srv/backups /mnt/backups; umount /srv/backups");
    let told = refused(&host, "rick-activate backup keeper");
    assert!(told.contains("there is no repository at /srv/backups, and there was one"), "{told}");
    assert_eq!(host.sh("ls -A /srv/backups"), "");
    environment(&tree, "full", LOCAL, "keeper(copied = \"stopped\"), keeper(name = \"fresh\")");
    host.push(&tree.bundle("full"), "/root/bundle.tar");
    let told = refused(&host, "rick-activate --settle=0 /root/bundle.tar");
    assert!(told.contains("is its file system mounted?"), "{told}");
    host.sh("mount --bind /mnt/backups /srv/backups");
    host.ok(&["rick-activate", "--settle=0", "/root/bundle.tar"]);
    is_well(&host);

    // What is kept is not mounted: neither is it restored below, nor copied.
    host.sh("systemctl stop keeper; mount --bind /var/lib/keeper /mnt/keeper; umount /var/lib/keeper");
    refused(&host, "systemctl start keeper");
    let told = gate(&host, "keeper");
    assert!(told.contains("was on a file system at /var/lib/keeper, which is not mounted"), "{told}");
    refused(&host, "rick-activate backup keeper");
    refused(&host, "rick-activate restore keeper");
    refused(&host, "rick-activate restore keeper --replace");
    assert_eq!(host.sh("ls -A /var/lib/keeper"), "");
    host.sh("mount --bind /mnt/keeper /var/lib/keeper; systemctl reset-failed; systemctl start keeper");
    same(&all(&host), &there);
    is_well(&host);

    // It is gone for good, and that is said.
    host.sh("systemctl stop keeper; umount /var/lib/keeper; rick-activate accept keeper");
    host.ok(&["rick-activate", "restore", "keeper", "--replace", "--without-copy"]);
    same(&all(&host), &there);
    is_well(&host);
}

#[test]
fn a_locked_repository_is_waited_for_and_a_damaged_one_is_not_believed() {
    require_hosts!();
    let tree = source::modules();
    environment(&tree, "locked", LOCAL, "keeper()");
    let (host, there, _) = kept("locked", &tree);
    // `check` has the repository for itself.
    let begin = r"export RESTIC_PASSWORD='correct horse' RESTIC_REPOSITORY=/srv/backups
        restic check --read-data --limit-download=50 >/dev/null 2>&1 & checking=$!
        until [[ $(ls /srv/backups/locks | grep -v tmp) ]]; do sleep 0.05; done; sleep 0.5";

    // Of a process that is no more.
    host.sh(&format!("{begin}; kill -KILL $checking; wait $checking || true"));
    assert_ne!(host.sh("ls /srv/backups/locks"), "");
    backup(&host, "keeper");
    assert_eq!(host.sh("ls /srv/backups/locks"), "");
    host.sh(&format!("{begin}; kill -KILL $checking; wait $checking || true"));
    lose_all(&host);
    host.sh("systemctl start keeper");
    same(&all(&host), &there);

    // Of one that works.
    let waited = host.sh(&format!(
        r"{begin}; kill -STOP $checking
        rick-activate backup keeper >/root/told 2>&1 & copying=$!
        sleep 4; kill -0 $copying; grep -q copied /root/told || echo waits
        kill -KILL $checking; rm /srv/backups/locks/*; wait $copying; cat /root/told"
    ));
    assert!(waited.contains("waits") && waited.contains("copied"), "{waited}");
    is_well(&host);

    // A byte of a pack is another one.
    let flip = |host: &Host| {
        host.sh(
            r#"pack=$(find /srv/backups/data -type f -size +500k | sort | head -n 1); chmod u+w "$pack"
            old=$(od -An -tu1 -j300000 -N1 "$pack"); printf "\\x$(printf %x $((old ^ 1)))" | dd of="$pack" bs=1 seek=300000 conv=notrunc status=none"#,
        )
    };
    flip(&host);
    let told = refused(&host, "rick-activate backup --check=100%");
    assert!(told.contains("restic check failed"), "{told}");
    lose_all(&host);
    refused(&host, "systemctl start keeper");
    assert!(!is_active(&host, "keeper"));
    let told = gate(&host, "keeper");
    assert!(told.contains("`keeper` is not restored, and does not start"), "{told}");
    refused(&host, "systemctl start keeper");
    refused(&host, "rick-activate restore keeper");
    assert!(!is_active(&host, "keeper"));
    flip(&host);
    host.sh("systemctl reset-failed");
    host.ok(&["rick-activate", "restore", "keeper"]);
    same(&all(&host), &there);
    host.ok(&["rick-activate", "backup", "--check=100%"]);
    is_well(&host);
}

/// Counts without a pause, and says at its end how far it came; and another service that cannot be without it.
const COUNTER: &str = r#"
def _build(ctx):
    return [
        state("/var/lib/counter", user = "root", group = "root", copied = "stopped"),
        unit("counter.service", {
            # Fewer starts than copies, which do not count as a crash loop.
            "Unit": {"StartLimitIntervalSec": "1h", "StartLimitBurst": 2},
            "Service": {"ExecStart": "/usr/local/bin/count"},
            "Install": {"WantedBy": "multi-user.target"},
        }),
    ]

def _follow(ctx):
    return [unit("follower.service", {
        "Unit": {"Requires": "counter.service", "After": "counter.service"},
        "Service": {"ExecStart": "/bin/sleep infinity"},
        "Install": {"WantedBy": "multi-user.target"},
    })]

counter = module(doc = "Counts.", options = {}, build = _build)
follower = module(doc = "Needs the other.", options = {}, build = _follow)
"#;

#[test]
fn what_is_copied_stopped_stands_still_and_runs_again() {
    require_hosts!();
    let tree = source::modules();
    tree.write("modules/counter/counter.star", COUNTER);
    environment(&tree, "still", LOCAL, "counter(), follower()");
    tree.edit(
        "environments/still.star",
        "load(\"//modules/keeper\", \"keeper\")",
        "load(\"//modules/counter\", \"counter\", \"follower\")",
    );
    let host = boot("still");
    host.write(
        "/usr/local/bin/count",
        "#!/bin/bash\ncd /var/lib/counter; rm -f end log; trap 'echo $n >end; exit' TERM\nfor ((n = 1;; n++)); do echo $n >number; echo $n >>log; done\n",
    );
    host.sh("chmod 755 /usr/local/bin/count");
    activate(&host, &tree, "still");
    host.sh("head -c 10000000 /dev/urandom >/var/lib/counter/large");
    let lives = ["counter", "follower"].map(|unit| host.property(unit, "InvocationID"));
    host.sh("systemctl start rick-backup-counter");
    is_well(&host);
    for (unit, life) in ["counter", "follower"].iter().zip(lives) {
        assert!(is_active(&host, unit), "{unit}");
        assert_ne!(host.property(unit, "InvocationID"), life, "{unit} was stopped meanwhile");
    }
    host.ok(&["rick-activate", "restore", "counter", "--to", "/root/look"]);
    let numbers = host.sh("cd /root/look/var/lib/counter; cat end number; tail -n 1 log; wc -l <log");
    let numbers: Vec<i64> = numbers.lines().map(|number| number.parse().unwrap()).collect();
    // It may be told to end between one line and the next.
    assert!(
        numbers.len() == 4 && numbers.iter().all(|number| (numbers[0] - number).abs() <= 1),
        "{numbers:?}"
    );

    // The job is killed in the middle; and a copy by hand, after which the next one sees to it.
    slow(&host);
    host.sh("head -c 10000000 /dev/urandom >/var/lib/counter/large");
    let count = copies(&host, "counter").len();
    // Not by `--kill-whom=all`: after that, some kernels kill whatever is started in the same control group.
    for victims in [
        "$(systemctl show --value -p MainPID rick-backup-counter)",
        "$(cat /sys/fs/cgroup/system.slice/rick-backup-counter.service/cgroup.procs)",
    ] {
        host.sh("systemctl start --no-block rick-backup-counter");
        wait_for("a copy", || !is_active(&host, "counter"));
        host.sh(&format!("sleep 0.5; kill -KILL {victims}"));
        wait_for("the services", || is_active(&host, "counter") && is_active(&host, "follower"));
        assert_eq!(copies(&host, "counter").len(), count);
        host.sh("systemctl reset-failed");
    }
    host.sh(
        "rick-activate backup counter >/dev/null 2>&1 & rick=$!; while systemctl is-active --quiet counter; do sleep 0.05; done
        sleep 0.5; kill -KILL $rick; wait $rick || true",
    );
    assert!(!is_active(&host, "counter"));
    backup(&host, "counter");
    assert!(is_active(&host, "counter") && is_active(&host, "follower"));
    is_well(&host);

    // Nothing stops for a repository that does not answer, and what is waited for is said while it is.
    let there = r#"repository = "rest:http://127.0.0.1:9/""#;
    tree.edit("environments/still.star", LOCAL, there);
    activate(&host, &tree, "still");
    let lives = ["counter", "follower"].map(|unit| host.property(unit, "InvocationID"));
    // It did when the last copy was taken.
    let record = "/var/lib/rick/kept/counter.json";
    let known = host.sh(&format!("jq -c '.repositories += [\"rest:http://127.0.0.1:9/\"]' {record}"));
    host.write(record, known);
    host.sh("rick-activate backup counter >/run/said 2>&1 & echo $! >/run/rick-pid");
    wait_for("a complaint", || {
        host.sh("cat /run/said").contains("restic: Stat(<config/>) returned error, retrying")
    });
    assert!(is_active(&host, "counter") && is_active(&host, "follower"));
    host.sh("kill -KILL $(cat /run/rick-pid)");
    assert_eq!(["counter", "follower"].map(|unit| host.property(unit, "InvocationID")), lives);
}

#[test]
fn the_last_copy_is_the_last_whatever_the_clock_said() {
    require_hosts!();
    let tree = source::modules();
    let backups = format!("{LOCAL}, keep_last = 1, keep_daily = 0, keep_weekly = 0, keep_monthly = 0");
    environment(&tree, "clock", &backups, "keeper()");
    let host = boot("clock");
    activate(&host, &tree, "clock");
    fill(&host, "keeper");
    // The clock is a year ahead, as far as restic knows, and then set back.
    wrap(
        &host,
        r#"words=()
        for word; do words+=("$word"); [[ $word != backup ]] || words+=(--time "$(date -d '1 year' '+%F %T')"); done
        exec /usr/bin/restic.real "${words[@]}""#,
    );
    backup(&host, "keeper");
    host.sh("echo ahead >/var/lib/keeper/ahead");
    let ahead = backup(&host, "keeper");
    host.sh(
        "mv /usr/bin/restic.real /usr/bin/restic; rm /var/lib/keeper/ahead; echo last >/var/lib/keeper/last",
    );
    let last = backup(&host, "keeper");
    assert_eq!(copies(&host, "keeper"), [last.as_str(), ahead.as_str()], "in the order of their times");
    let there = all(&host);

    // The host knows which one is the last; and if it is a new one, the copies do.
    for forgotten in ["true", "rm -r /var/lib/rick/kept"] {
        lose_all(&host);
        host.sh(&format!("{forgotten}; systemctl start keeper"));
        same(&all(&host), &there);
    }

    // Without it, nothing older comes by itself.
    restic(&host, &format!("forget --quiet {last}"));
    lose_all(&host);
    refused(&host, "systemctl start keeper");
    let told = gate(&host, "keeper");
    assert!(told.contains(&format!("does not have the last copy of `keeper`, {last}")), "{told}");
    assert!(!is_active(&host, "keeper"));
    host.sh("systemctl reset-failed");
    host.ok(&["rick-activate", "restore", "keeper", "--snapshot", &ahead]);
    host.sh("test -e /var/lib/keeper/ahead -a ! -e /var/lib/keeper/last");
    is_well(&host);
}

/// A service whose dump is a text that is loaded line by line, slowly.
const BOOK: &str = r#"
def _build(ctx):
    call = lambda what: ["/usr/bin/bash", "/root/book", what]
    return [
        user("book"),
        program("/usr/bin/bash", package = "bash"),
        dump("book", user = "root", save = call("save"), restore = call("load"), empty = call("empty"), clear = call("clear")),
    ]

keeper = module(doc = "Keeps a book.", build = _build)
"#;

#[test]
fn a_dump_that_a_killed_restore_still_loads_is_waited_for() {
    require_hosts!();
    let tree = source::modules();
    environment(&tree, "book", LOCAL, "keeper()");
    tree.write("modules/keeper/keeper.star", BOOK);
    let host = boot("book");
    host.write(
        "/root/book",
        r"case $1 in
        save) cat /srv/book ;;
        load) while read -r line; do echo $line >>/srv/book; sleep 0.05; done ;;
        empty) [[ ! -s /srv/book ]] ;;
        clear) rm -f /srv/book ;;
        esac",
    );
    host.sh("seq 60 >/srv/book");
    activate(&host, &tree, "book");
    backup(&host, "keeper");
    host.sh(r"rm /srv/book
        rick-activate restore keeper >/root/told 2>&1 & rick=$!
        until [[ $(cat /srv/book 2>/dev/null | wc -l) -ge 10 ]]; do kill -0 $rick || { cat /root/told; exit 1; }; sleep 0.01; done
        kill -KILL $rick; wait $rick || true
        pgrep -f '/root/book load'
        rick-activate restore keeper
        ! pgrep -f '/root/book load'
        seq 60 | diff - /srv/book");
}
