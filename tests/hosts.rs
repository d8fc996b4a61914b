//! The test hosts themselves: what the other tests take for granted.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::support::{Host, require_hosts};

#[test]
fn a_host_boots_and_keeps_its_files_over_a_reboot() {
    require_hosts!();
    let mut host = Host::boot("arch-vps");
    assert_eq!(host.ok(&["hostname"]), "arch-vps");
    assert_eq!(host.ok(&["systemctl", "is-system-running"]), "running");
    assert_eq!(host.ok(&["ps", "-p", "1", "-o", "comm="]), "systemd");
    let version = host.sh("systemctl --version | sed -n '1s/^systemd \\([0-9]*\\).*/\\1/p'");
    assert!(version.parse::<u32>().unwrap() >= 257, "{version}");
    assert_eq!(host.property("caddy.service", "ActiveState"), "active");
    assert_eq!(host.ok(&["podman", "info", "--format", "{{.Store.GraphDriverName}}"]), "overlay");
    assert_eq!(host.ok(&["podman", "ps", "--quiet"]), "");

    host.write("/var/lib/kept/file", "kept");
    host.write("/run/lost", "lost");
    let boot = host.read("/proc/sys/kernel/random/boot_id");
    host.reboot();
    assert_eq!(host.read("/var/lib/kept/file"), b"kept");
    assert!(!host.run(&["test", "-e", "/run/lost"]).status.success());
    assert_ne!(host.read("/proc/sys/kernel/random/boot_id"), boot);
    assert_eq!(host.ok(&["hostname"]), "arch-vps");
}

#[test]
fn a_host_survives_a_power_cut() {
    require_hosts!();
    let mut host = Host::boot("cut");
    host.write("/var/lib/kept/file", "kept");
    host.power_cut();
    host.boot_again();
    assert_eq!(host.read("/var/lib/kept/file"), b"kept");
}

#[test]
fn a_pushed_tree_keeps_its_modes() {
    require_hosts!();
    let host = Host::boot("push");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("page.html"), "page").unwrap();
    host.push(dir.path(), "/srv/site");
    assert_eq!(host.read("/srv/site/page.html"), b"page");
    host.push(&std::env::current_exe().unwrap(), "/usr/local/bin/tests");
    assert_eq!(host.ok(&["stat", "-c", "%a %U", "/usr/local/bin/tests"]), "755 root");
    assert!(host.sh("/usr/local/bin/tests --list | tail -n 1").contains("tests"));
}

#[test]
fn two_hosts_know_nothing_of_each_other() {
    require_hosts!();
    let (one, two) = (Host::boot("one"), Host::boot("two"));
    one.write("/etc/mark", "one");
    assert!(!two.run(&["test", "-e", "/etc/mark"]).status.success());
    assert_ne!(one.read("/etc/machine-id"), two.read("/etc/machine-id"));
}

#[test]
fn nothing_of_a_host_is_left_when_its_test_panics() {
    require_hosts!();
    let (mut leader, mut dir) = (0, String::new());
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let host = Host::boot("panics");
        leader = host.leader();
        dir = fs::read_to_string(format!("/proc/{leader}/mountinfo")).unwrap();
        host.ok(&["false"]);
    }));
    assert!(panicked.is_err());
    assert!(!fs::exists(format!("/proc/{leader}")).unwrap(), "PID 1 of the host is left");
    let upper = dir.split("upperdir=").nth(1).unwrap().split("/upper").next().unwrap();
    assert!(upper.contains("/panics-"), "{upper}");
    assert!(!fs::exists(upper).unwrap(), "{upper} is left");
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(upper), "a mount is left");
}
