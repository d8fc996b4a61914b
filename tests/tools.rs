//! What the real tools say of every file that a host gets: systemd's, Podman's and Caddy's own, in the versions that read it.
//!
//! The environments are activated, because a unit can only be judged where all that it names is there; with stand-ins for the images that
//! cannot be had, which changes one line of a Quadlet file.

use crate::support::source::{self, Tree};
use crate::support::{Host, NEXT_SUITE, activator, require_hosts};
use crate::support::{kept, standin};

const UNITS: &str = "/usr/local/lib/systemd/system";
const CURRENT: &str = "/var/lib/rick/current";
const VERIFY: &str = "systemd-analyze verify --man=no --generators=no --recursive-errors=no";

#[test]
fn every_file_of_the_homelab_is_taken_by_its_tool() {
    require_hosts!();
    judge_environment(&standin::homelab(), "homelab", &Host::boot("arch-vps"));
}

#[test]
fn every_file_of_the_homelab_is_taken_by_the_tools_of_the_next_debian() {
    require_hosts!(NEXT_SUITE);
    let tree = standin::homelab();
    tree.edit("environments/homelab.star", "debian-13", "debian-14");
    tree.edit("environments/homelab.star", "postgresql(version = 17)", "postgresql(version = 18)");
    judge_environment(&tree, "homelab", &Host::boot_suite(NEXT_SUITE, "arch-vps"));
}

#[test]
fn every_file_of_production_is_taken_by_its_tool() {
    require_hosts!();
    let tree = source::buildable();
    kept::within_reach(&tree);
    judge_environment(&tree, "production", &Host::boot("mini-vps"));
}

fn judge_environment(tree: &Tree, environment: &str, host: &Host) {
    host.push(&activator(), "/usr/local/bin/rick-activate");
    host.push(&tree.bundle(environment), "/root/bundle.tar");
    standin::make_secrets(host, "/root/bundle.tar");
    host.ok(&["rick-activate", "/root/bundle.tar"]);
    judge(host);
}

/// Has every tool judge what an activated host has, and the bundle that it came from: `/root/bundle.tar`.
pub(crate) fn judge(host: &Host) {
    units_are_well_formed(host);
    services_are_shut_in(host);
    quadlets_become_units(host);
    accounts_and_directories_are_understood(host);
    the_web_server_takes_its_file(host);
    php_reads_its_files(host);
    image_tools_read_the_bundle(host);
}

/// Runs a script that must succeed and say nothing.
#[track_caller]
fn silent(host: &Host, script: &str) {
    let said = host.sh(&format!("{{ {script}; }} 2>&1"));
    assert_eq!(said, "", "{script}");
}

fn units_are_well_formed(host: &Host) {
    let files = host.sh(&format!("find {UNITS}/ -maxdepth 1 -type f"));
    assert!(files.lines().count() >= 2, "{files}");
    silent(host, &format!("{VERIFY} {}", files.replace('\n', " ")));
    // It does find what is wrong.
    host.write("/run/wrong.service", "[Service]\nExecStart=/usr/bin/true\nRestrat=always\n");
    assert!(!host.run(&["bash", "-c", &format!("{VERIFY} /run/wrong.service")]).status.success());
}

fn services_are_shut_in(host: &Host) {
    // But for that in which the activator itself runs: it may do what root may, as it does when root calls it.
    let files =
        host.sh(&format!("find {UNITS}/ -maxdepth 1 -type f -name '*.service' ! -name rick-resume.service"));
    for file in files.lines() {
        let analyze = ["systemd-analyze", "--no-pager", "security", "--offline=true", "--threshold=40", file];
        assert!(
            host.run(&analyze).status.success(),
            "{}",
            host.sh(&format!("{} || true", analyze.join(" ")))
        );
    }
}

fn quadlets_become_units(host: &Host) {
    let count = host.sh(&format!("ls {CURRENT}/quadlets | wc -l"));
    if count == "0" {
        return;
    }
    let generated =
        host.sh(&format!("QUADLET_UNIT_DIRS={CURRENT}/quadlets /usr/libexec/podman/quadlet -dryrun"));
    let mut pieces: Vec<(&str, String)> = Vec::new();
    for line in generated.lines() {
        match (line.strip_prefix("---").and_then(|rest| rest.strip_suffix("---")), pieces.last_mut()) {
            (Some(name), _) => pieces.push((name, String::new())),
            (None, Some((_, text))) => text.extend([line, "\n"]),
            (None, None) => panic!("{generated}"),
        }
    }
    assert_eq!(pieces.len().to_string(), count, "{generated}");
    for (name, text) in &pieces {
        host.write(&format!("/tmp/quadlets/{name}"), text);
    }
    silent(host, &format!("{VERIFY} /tmp/quadlets/*"));
}

fn accounts_and_directories_are_understood(host: &Host) {
    for (tool, file) in
        [("systemd-sysusers", "sysusers.conf"), ("systemd-tmpfiles --create", "tmpfiles.conf")]
    {
        let said = host.sh(&format!("{tool} --dry-run {CURRENT}/{file} 2>&1"));
        assert!(said.lines().all(|line| line.starts_with("Would ")), "{tool}: {said}");
    }
}

fn the_web_server_takes_its_file(host: &Host) {
    let file = format!("{CURRENT}/etc/caddy/Caddyfile");
    host.sh(&format!("HOME=$(mktemp -d) caddy validate --config {file} --adapter caddyfile 2>&1"));
    silent(host, &format!("diff <(caddy fmt {file}) {file}"));
}

fn php_reads_its_files(host: &Host) {
    let files = host.sh("find /var/lib/rick/store -name '*.php'");
    let nextcloud = host.sh("ls /var/lib/rick/current/etc /var/lib/rick/current/units").contains("nextcloud");
    assert_eq!(!files.is_empty(), nextcloud, "{files}");
    for file in files.lines() {
        let said = host.ok(&["php", "--syntax-check", file]);
        assert!(said.starts_with("No syntax errors"), "{said}");
        // What stands before the tag would be sent to every browser.
        assert!(host.read(file).starts_with(b"<?php\n"), "{file}");
    }
}

/// `podman load` for people, `skopeo` for those who mirror bundles.
fn image_tools_read_the_bundle(host: &Host) {
    host.sh("rm -rf /root/bundle && mkdir /root/bundle && tar -x -C /root/bundle -f /root/bundle.tar");
    let names = host.sh(
        "jq -r '.manifests[].annotations[\"org.opencontainers.image.ref.name\"]' /root/bundle/index.json",
    );
    assert!(names.contains("bundle") && names.contains("host-"), "{names}");
    for name in names.lines() {
        host.ok(&["skopeo", "inspect", "--raw", &format!("oci:/root/bundle:{name}")]);
    }
    host.ok(&["skopeo", "copy", "--quiet", "--all", "oci:/root/bundle:bundle", "oci:/root/mirror:bundle"]);
    let images: Vec<&str> = names.lines().filter(|name| name.starts_with("localhost/")).collect();
    for image in &images {
        host.ok(&["skopeo", "inspect", &format!("oci:/root/bundle:{image}")]);
    }
    if !images.is_empty() {
        host.ok(&["podman", "load", "--quiet", "--input", "/root/bundle.tar"]);
    }
    for image in images {
        host.ok(&["podman", "image", "exists", image]);
    }
}
