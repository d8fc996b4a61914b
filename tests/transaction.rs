//! A switch is seen through, whatever happens on the way: it ends with a host that is well, and the exit code says with which generation.

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use crate::support::lab::{
    activate, again, describe, host, is_well, item, lab, lives, push, said, sleeper, wait_for,
};
use crate::support::source::Tree;
use crate::support::{Host, require_hosts};

/// Runs the activator on the bundle that was pushed.
fn run(host: &Host, options: &[&str]) -> Output {
    host.run(&[&["rick-activate", "/root/bundle.tar"], options].concat())
}

#[track_caller]
fn ends_with(output: &Output, code: i32) -> String {
    let said = said(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn current(host: &Host) -> String {
    host.ok(&["readlink", "/var/lib/rick/current"])
}

fn is_under_way(host: &Host) -> bool {
    host.run(&["test", "-e", "/var/lib/rick/journal.json"]).status.success()
}

/// No switch is under way, and PID 1 waits for none.
fn is_settled(host: &Host) {
    assert!(!is_under_way(host));
    let list =
        ["systemctl", "list-units", "--all", "--plain", "--no-legend", "rick-rollback*", "rick-switch*"];
    wait_for("the end of rick's own units", || host.ok(&list).is_empty());
}

/// A host with generation 1: `a`, and `b` after it.
fn settled() -> (Host, Tree) {
    let host = host("lab");
    let tree = lab(&ab("", ""));
    activate(&host, &tree, "lab");
    is_settled(&host);
    (host, tree)
}

fn ab(a: &str, b: &str) -> String {
    [sleeper("a.service", "", a), sleeper("b.service", "a.service", b)].concat()
}

/// `b` as a program that ends badly after three seconds.
const DIES: &str = "ExecStart=\nExecStart=/bin/sh -c 'sleep 3; echo the bread is burnt; exit 1'";

#[test]
fn what_is_not_well_is_undone() {
    require_hosts!();
    let (host, tree) = settled();
    let before = lives(&host, &["a.service"]);

    // It starts, and dies three seconds later.
    describe(&tree, &ab("", DIES));
    push(&host, &tree, "lab");
    let said = ends_with(&run(&host, &[]), 3);
    assert!(said.contains("b.service failed (exit-code)") && said.contains("the bread is burnt"), "{said}");
    assert!(said.contains("rolled back: generation 1"), "{said}");
    assert_eq!(current(&host), "gens/1");
    assert_eq!(host.property("b.service", "ActiveState"), "active");
    assert_eq!(lives(&host, &["a.service"]), before, "the others never moved");
    is_settled(&host);
    is_well(&host);

    // It keeps being started again.
    describe(&tree, &ab("", &format!("{DIES}\nRestart=always\nRestartSec=100ms")));
    push(&host, &tree, "lab");
    let said = ends_with(&run(&host, &["--settle=4"]), 3);
    assert!(said.contains("b.service"), "{said}");
    assert_eq!(current(&host), "gens/1");
    is_well(&host);

    // It comes up at the second try, and stays: that is well.
    let second = "Restart=on-failure\nRestartSec=1\nExecStartPre=/bin/sh -c 'test -e /run/milk || { touch /run/milk; exit 1; }'";
    describe(&tree, &ab("", second));
    push(&host, &tree, "lab");
    ends_with(&run(&host, &[]), 0);
    is_settled(&host);
    is_well(&host);

    // What is wanted in spite of that stays, and the exit code says so.
    describe(&tree, &ab("", DIES));
    push(&host, &tree, "lab");
    let said = ends_with(&run(&host, &["--no-rollback"]), 4);
    assert!(said.contains("the host keeps it: going back was not wanted"), "{said}");
    is_settled(&host);

    // The first deploy ever can be undone: by itself, and by hand.
    host.ok(&["rick-activate", "rollback", "0"]);
    assert_eq!(host.property("a.service", "LoadState"), "not-found");
    is_well(&host);
    ends_with(&run(&host, &[]), 3);
    assert_eq!(current(&host), "gens/0");
    assert_eq!(host.property("a.service", "LoadState"), "not-found");
    is_well(&host);
    is_settled(&host);
}

#[test]
fn a_switch_goes_on_without_the_one_who_called() {
    require_hosts!();
    let (host, tree) = settled();

    // The session ends in the middle, and the switch is not over before that was seen.
    let until_told = "ExecStartPre=/bin/sh -c 'until test -e /run/go-on; do sleep 0.1; done'";
    describe(&tree, &ab("Environment=N=1", until_told));
    push(&host, &tree, "lab");
    let mut session =
        host.command(&["rick-activate", "/root/bundle.tar"]).stdout(Stdio::null()).spawn().unwrap();
    wait_for("b", || host.property("b.service", "ActiveState") == "activating");
    host.ok(&["pkill", "--signal=HUP", "--full", "^rick-activate /root/bundle.tar"]);
    host.ok(&["pkill", "--signal=KILL", "systemd-run"]);
    let second = run(&host, &[]);
    assert!(ends_with(&second, 1).contains("another rick-activate is running"));
    host.ok(&["touch", "/run/go-on"]);
    session.wait().unwrap();
    wait_for("the end of the switch", || !is_under_way(&host));
    assert_eq!(host.property("b.service", "ActiveState"), "active");
    assert_eq!(current(&host), "gens/2");
    is_settled(&host);
    assert!(again(&host).contains("nothing to do"));

    // The activator itself is killed: PID 1 starts it again, and it goes on.
    describe(&tree, &ab("Environment=N=2", "Environment=N=2\nExecStartPre=/bin/sleep 10"));
    push(&host, &tree, "lab");
    let session =
        host.command(&["rick-activate", "/root/bundle.tar"]).stdout(Stdio::piped()).spawn().unwrap();
    wait_for("b", || host.property("b.service", "ActiveState") == "activating");
    host.ok(&["systemctl", "kill", "--kill-whom=main", "--signal=KILL", "rick-switch.service"]);
    ends_with(&session.wait_with_output().unwrap(), 0);
    assert_eq!(current(&host), "gens/3");
    is_settled(&host);
    is_well(&host);

    // Somebody ends it: whoever called goes back at once.
    describe(&tree, &ab("Environment=N=3", "Environment=N=3\nExecStartPre=/bin/sleep 10"));
    push(&host, &tree, "lab");
    let session =
        host.command(&["rick-activate", "/root/bundle.tar"]).stdout(Stdio::piped()).spawn().unwrap();
    wait_for("b", || host.property("b.service", "ActiveState") == "activating");
    host.ok(&["systemctl", "stop", "rick-switch.service"]);
    ends_with(&session.wait_with_output().unwrap(), 3);
    assert_eq!(current(&host), "gens/3");
    is_settled(&host);
    is_well(&host);
}

#[test]
fn a_switch_that_is_not_done_in_time_is_undone_by_systemd() {
    require_hosts!();
    let (host, tree) = settled();
    // It never comes up, and systemd waits for it for ever.
    describe(&tree, &ab("Environment=N=1", "Type=notify\nTimeoutStartSec=infinity"));
    push(&host, &tree, "lab");
    let begin = Instant::now();
    let output = run(&host, &["--deadline=10"]);
    let said = ends_with(&output, 3);
    assert!(said.contains("the switch was ended before it was done"), "{said}");
    assert!(begin.elapsed() < Duration::from_mins(2));
    assert_eq!(current(&host), "gens/1");
    is_settled(&host);
    is_well(&host);
    assert_eq!(host.property("b.service", "ActiveState"), "active");

    // Where nobody wants to go back, it stays, and that is no success.
    let said = ends_with(&run(&host, &["--deadline=10", "--no-rollback"]), 4);
    assert!(!said.contains("rolled back"), "{said}");
    assert_eq!(current(&host), "gens/3");
    is_settled(&host);
}

#[test]
fn a_generation_that_nobody_confirms_does_not_stay() {
    require_hosts!();
    let (mut host, tree) = settled();
    let change = |n: u32| {
        describe(&tree, &ab(&format!("Environment=N={n}"), ""));
        push(&host, &tree, "lab");
    };
    change(1);
    assert!(ends_with(&host.run(&["rick-activate", "confirm"]), 1).contains("nothing to confirm"));
    let said = ends_with(&run(&host, &["--settle=0", "--confirm-within=2"]), 3);
    assert!(said.contains("nobody confirmed it within 2 s"), "{said}");
    assert_eq!(current(&host), "gens/1");
    is_settled(&host);

    let waiting = |host: &Host| {
        let options = ["rick-activate", "/root/bundle.tar", "--settle=0", "--confirm-within=60"];
        let session = host.command(&options).stdout(Stdio::piped()).spawn().unwrap();
        wait_for("the question", || {
            String::from_utf8_lossy(&host.run(&["cat", "/var/lib/rick/journal.json"]).stdout)
                .contains("confirming")
        });
        session
    };
    let session = waiting(&host);
    host.ok(&["rick-activate", "confirm"]);
    ends_with(&session.wait_with_output().unwrap(), 0);
    let confirmed = current(&host);
    assert_ne!(confirmed, "gens/1");
    is_settled(&host);

    // Whoever waited is gone: the confirmation counts all the same.
    change(2);
    let session = waiting(&host);
    host.ok(&["systemctl", "stop", "rick-switch.service"]);
    host.ok(&["rick-activate", "confirm"]);
    ends_with(&session.wait_with_output().unwrap(), 0);
    is_settled(&host);
    let confirmed = current(&host);

    // The host goes down before the confirmation: it comes up with what was there before.
    change(3);
    let mut session = waiting(&host);
    assert_ne!(current(&host), confirmed);
    host.power_cut();
    session.wait().unwrap();
    host.boot_again();
    wait_for("the way back", || !is_under_way(&host));
    assert_eq!(current(&host), confirmed);
    wait_for("the last of it", || host.property("rick-resume.service", "ActiveState") != "active");
    is_well(&host);
    let pid = host.property("a.service", "MainPID");
    assert!(host.sh(&format!("tr '\\0' '\\n' </proc/{pid}/environ")).contains("N=2"));
}

#[test]
fn a_connection_that_breaks_breaks_no_switch() {
    require_hosts!();
    let (lab_host, tree) = settled();
    let admin = Host::boot("admin");
    admin.join(&lab_host);
    admin.ok(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519"]);
    lab_host.write("/root/.ssh/authorized_keys", admin.read("/root/.ssh/id_ed25519.pub"));
    lab_host.sh("chmod 700 /root/.ssh; chmod 600 /root/.ssh/authorized_keys; ssh-keygen -A; systemctl start ssh.service");
    // As a connection that is cut is noticed sooner or later.
    let ssh = "ssh -o StrictHostKeyChecking=no -o ServerAliveInterval=2 -o ServerAliveCountMax=3";
    let over_ssh = |options: &str| {
        admin.push(&tree.bundle("lab"), "/root/bundle.tar");
        admin.command(&["bash", "-c", &format!("{ssh} lab rick-activate - {options} < /root/bundle.tar")])
    };

    // Somebody closes the lid.
    describe(
        &tree,
        &ab("Environment=N=1", "ExecStartPre=/bin/ip link set wire up\nExecStartPre=/bin/sleep 3"),
    );
    let mut session = over_ssh("--settle=0").stdout(Stdio::null()).spawn().unwrap();
    wait_for("b", || lab_host.property("b.service", "ActiveState") == "activating");
    admin.ok(&["pkill", "--signal=KILL", "ssh"]);
    assert!(!session.wait().unwrap().success());
    wait_for("the end of the switch", || !is_under_way(&lab_host));
    assert_eq!(current(&lab_host), "gens/2");
    assert_eq!(lab_host.property("b.service", "ActiveState"), "active");
    is_settled(&lab_host);

    // The new generation takes the network down: nobody can confirm it.
    let cuts = "ExecStart=\nExecStart=/bin/sh -c 'ip link set wire down; exec sleep infinity'";
    describe(&tree, &ab("Environment=N=2", cuts));
    let mut session = over_ssh("--settle=1 --confirm-within=10").stdout(Stdio::null()).spawn().unwrap();
    wait_for("the cut", || {
        lab_host.run(&["grep", "-q", "confirming", "/var/lib/rick/journal.json"]).status.success()
    });
    assert!(!admin.sh("cat /sys/class/net/wire/carrier || echo down").contains('1'));
    assert_ne!(session.wait().unwrap().code(), Some(0), "nobody may take this for a success");
    wait_for("the way back", || !is_under_way(&lab_host));
    assert_eq!(current(&lab_host), "gens/2");
    let said = admin.ok(&["bash", "-c", &format!("{ssh} lab rick-activate list")]);
    assert!(said.contains("* 2"), "the way to the host is there again: {said}");
    is_settled(&lab_host);
    is_well(&lab_host);
}

#[test]
fn a_timer_that_fires_in_the_gap_leaves_nothing_of_the_old() {
    require_hosts!();
    let host = host("lab");
    let tick = |n: u32| {
        let service = format!("[Service]\nEnvironment=N={n}\nExecStart=/bin/sleep infinity\n");
        [
            item("tick.timer", "[Timer]\nOnActiveSec=1h\n[Install]\nWantedBy=timers.target\n", ""),
            item("tick.service", &service, ""),
            // It takes its time to go: that is the gap.
            sleeper(&format!("slow-{n}.service"), "", "ExecStop=/bin/sleep 3"),
        ]
        .concat()
    };
    let tree = lab(&tick(1));
    activate(&host, &tree, "lab");
    describe(&tree, &tick(2));
    push(&host, &tree, "lab");
    let session =
        host.command(&["rick-activate", "/root/bundle.tar"]).stdout(Stdio::piped()).spawn().unwrap();
    wait_for("the gap", || host.property("slow-1.service", "ActiveState") == "deactivating");
    host.ok(&["systemctl", "start", "tick.service"]);
    ends_with(&session.wait_with_output().unwrap(), 0);
    assert_eq!(host.property("tick.service", "ActiveState"), "active");
    let pid = host.property("tick.service", "MainPID");
    assert!(host.sh(&format!("tr '\\0' '\\n' </proc/{pid}/environ")).contains("N=2"));
    is_settled(&host);
    is_well(&host);
}
