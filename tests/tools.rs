//! What the real tools say of every file that a host gets: systemd's, Podman's and Caddy's own, in the versions that read it.
//!
//! The golden environments are activated as they stand, because a unit can only be judged where all that it names is there.

use crate::support::source;
use crate::support::{Host, activator, require_hosts};

const UNITS: &str = "/usr/local/lib/systemd/system";
const CURRENT: &str = "/var/lib/rick/current";
const VERIFY: &str = "systemd-analyze verify --man=no --generators=no --recursive-errors=no";

#[test]
fn every_file_of_the_homelab_is_taken_by_its_tool() {
    require_hosts!();
    judge_environment("homelab", "arch-vps");
}

#[test]
fn every_file_of_production_is_taken_by_its_tool() {
    require_hosts!();
    judge_environment("production", "mini-vps");
}

fn judge_environment(environment: &str, name: &str) {
    let host = Host::boot(name);
    host.push(&activator(), "/usr/local/bin/rick-activate");
    host.push(&source::whole().bundle(environment), "/root/bundle.tar");
    host.ok(&["rick-activate", "/root/bundle.tar"]);
    judge(&host);
}

/// Has every tool judge what an activated host has, and the bundle that it came from: `/root/bundle.tar`.
pub(crate) fn judge(host: &Host) {
    units_are_well_formed(host);
    services_are_shut_in(host);
    quadlets_become_units(host);
    accounts_and_directories_are_understood(host);
    the_web_server_takes_its_file(host);
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
    let files = host.sh(&format!("find {UNITS}/ -maxdepth 1 -type f -name '*.service'"));
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
