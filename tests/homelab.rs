//! The main job, on a real host: compile the homelab, switch to it, change it, roll back, reboot.
//!
//! One host lives through all of it, as a user's would; each step is a promise of its own.

use std::collections::BTreeMap;

use crate::support::source::{self, Tree};
use crate::support::{Host, activator, require_hosts};
use crate::support::{site, standin};

/// The units that rick runs on the homelab, in no order.
const UNITS: [&str; 23] = [
    "postgresql.service",
    "postgresql-databases.service",
    "valkey-server.service",
    "caddy.service",
    "rick-secrets-authentik.service",
    "rick-secrets-authentik-clients.service",
    "rick-secrets-gitea.service",
    "rick-secrets-nextcloud.service",
    "authentik-network.service",
    "authentik-pod.service",
    "authentik-server.service",
    "authentik-worker.service",
    "authentik-blueprints.service",
    "gitea-network.service",
    "gitea-migrate.service",
    "gitea-sign-in.service",
    "gitea.service",
    "nextcloud-network.service",
    "nextcloud.service",
    "nextcloud-cron.timer",
    "whoami.service",
    "app.service",
    "rick.target",
];

#[test]
fn the_homelab_lives_through_its_changes() {
    require_hosts!();
    let tree = standin::homelab();
    let mut host = Host::boot("arch-vps");
    host.push(&activator(), "/usr/local/bin/rick-activate");

    host.push(&tree.bundle("homelab"), "/root/bundle.tar");
    standin::make_secrets(&host, "/root/bundle.tar");
    let first = activate(&host, &tree);
    assert!(first.contains("generation 1"), "{first}");
    everything_runs(&host);
    no_server_listens_on_tcp(&host);
    the_container_holds_its_groups_and_reaches_both_sockets(&host);
    strangers_reach_neither_socket(&host);
    both_sites_answer_over_https(&host, "Homelab");

    let before = lives(&host);
    the_same_bundle_again_does_nothing(&host, &before);
    a_changed_page_reloads_the_web_server_and_nothing_else(&host, &tree, &before);
    a_changed_setting_restarts_its_service_and_nothing_else(&host, &tree);
    a_dry_run_changes_nothing(&host, &tree);
    rollback_brings_the_generation_before_back(&host);
    after_a_reboot_the_same_generation_runs(&mut host);
    the_first_activation_can_be_rolled_back(&host);
}

fn activate(host: &Host, tree: &Tree) -> String {
    let bundle = tree.bundle("homelab");
    host.push(&bundle, "/root/bundle.tar");
    host.ok(&["rick-activate", "/root/bundle.tar"])
}

/// Whether some line says that this was done to that unit.
fn says(said: &str, verb: &str, unit: &str) -> bool {
    said.lines().any(|line| {
        line.strip_prefix(verb).is_some_and(|rest| rest.trim_start().starts_with(&format!("{unit}:")))
    })
}

/// What tells one life of a unit from the next.
fn lives(host: &Host) -> BTreeMap<String, String> {
    let life = |unit: &str| {
        host.ok(&["systemctl", "show", "--property=InvocationID,MainPID,ActiveState", "--", unit])
    };
    UNITS.iter().map(|unit| ((*unit).to_owned(), life(unit))).collect()
}

/// The units whose life is another one now.
fn restarted(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Vec<String> {
    before.iter().filter(|(unit, life)| after[*unit] != **life).map(|(unit, _)| unit.clone()).collect()
}

fn everything_runs(host: &Host) {
    for unit in UNITS {
        assert_eq!(host.property(unit, "ActiveState"), "active", "{unit}");
    }
    assert_eq!(host.ok(&["systemctl", "--failed", "--no-legend"]), "");
}

fn no_server_listens_on_tcp(host: &Host) {
    let listeners = host.ok(&["ss", "--tcp", "--listening", "--numeric", "--processes"]);
    for program in ["postgres", "valkey"] {
        assert!(!listeners.contains(program), "{program} listens on TCP:\n{listeners}");
    }
    assert!(listeners.contains("caddy"), "{listeners}");
}

fn the_container_holds_its_groups_and_reaches_both_sockets(host: &Host) {
    let id = |database: &str, name: &str| host.sh(&format!("getent {database} {name} | cut -d: -f3"));
    let (uid, gid) = (id("passwd", "whoami"), id("group", "whoami"));
    let mut groups = vec![id("group", "postgres-clients"), id("group", "valkey-clients")];
    groups.sort_by_key(|id| id.parse::<u32>().unwrap());

    let pid = host.ok(&["podman", "inspect", "--format", "{{.State.Pid}}", "whoami"]);
    let status = String::from_utf8(host.read(&format!("/proc/{pid}/status"))).unwrap();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
    };
    assert_eq!(field("Uid:"), vec![uid.as_str(); 4]);
    assert_eq!(field("Gid:"), vec![gid.as_str(); 4]);
    let mut held = field("Groups:");
    held.retain(|group| *group != gid);
    held.sort_by_key(|id| id.parse::<u32>().unwrap());
    assert_eq!(held, groups, "the process holds other groups than declared");

    let said: serde_json::Value =
        serde_json::from_str(&get(host, "whoami.jnss.me", "/")).expect("whoami speaks JSON");
    assert_eq!((said["postgres"].as_str(), said["valkey"].as_str()), (Some("ok"), Some("ok")), "{said}");
}

fn strangers_reach_neither_socket(host: &Host) {
    for socket in ["/run/postgresql/.s.PGSQL.5432", "/run/valkey-sock/valkey.sock"] {
        let tried = host.run(&[
            "setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
            "test",
            "-w",
            socket,
        ]);
        assert!(!tried.status.success(), "nobody may write to {socket}");
    }
}

/// Asks a site as a browser that trusts the host's own certificate authority would, and in which somebody has signed in.
fn get(host: &Host, name: &str, path: &str) -> String {
    let signed_in = ["--fail", "--cookie", "authentik_proxy_standin=alice"];
    site::fetch(host, &[&signed_in[..], &[&format!("https://{name}{path}")]].concat())
}

fn both_sites_answer_over_https(host: &Host, title: &str) {
    assert!(get(host, "docs.jnss.me", "/").contains(&format!("<h1>{title}</h1>")));
    assert!(get(host, "whoami.jnss.me", "/").contains("\"uid\""));
}

fn the_same_bundle_again_does_nothing(host: &Host, before: &BTreeMap<String, String>) {
    let marker = host.ok(&["journalctl", "--show-cursor", "--lines=0", "--quiet"]);
    let cursor = marker.trim_start_matches("-- cursor: ").to_owned();
    let said = host.ok(&["rick-activate", "/root/bundle.tar"]);
    assert!(said.contains("nothing to do"), "{said}");
    assert_eq!(restarted(before, &lives(host)), Vec::<String>::new());
    // PID 1 logs every job that it finishes and every reload of its configuration.
    let log = host.ok(&["journalctl", "--quiet", "--after-cursor", &cursor, "--output=cat", "_PID=1"]);
    // Of other things than these it may speak: containers that are asked for their health, and Nextcloud's jobs, come and go.
    let about_ours = |line: &&str| {
        line.contains("Reload") || UNITS.iter().any(|unit| line.split(' ').any(|word| word.starts_with(unit)))
    };
    assert_eq!(log.lines().filter(about_ours).collect::<Vec<_>>(), [""; 0], "systemd did something");
    assert_eq!(host.ok(&["readlink", "/var/lib/rick/current"]), "gens/1");
}

fn a_changed_page_reloads_the_web_server_and_nothing_else(
    host: &Host,
    tree: &Tree,
    before: &BTreeMap<String, String>,
) {
    tree.edit("environments/sites/docs/index.html", "<h1>Homelab</h1>", "<h1>Changed</h1>");
    let said = activate(host, tree);
    assert!(says(&said, "reload", "caddy.service"), "{said}");
    assert_eq!(restarted(before, &lives(host)), Vec::<String>::new(), "{said}");
    both_sites_answer_over_https(host, "Changed");
}

fn a_changed_setting_restarts_its_service_and_nothing_else(host: &Host, tree: &Tree) {
    let before = lives(host);
    tree.edit("environments/homelab.star", "valkey()", "valkey(maxmemory = \"64mb\")");
    let said = activate(host, tree);
    assert_eq!(restarted(&before, &lives(host)), ["valkey-server.service"], "{said}");
    let memory = host.ok(&["valkey-cli", "-s", "/run/valkey-sock/valkey.sock", "config", "get", "maxmemory"]);
    assert!(memory.contains(&(64 << 20).to_string()), "{memory}");
    // The container mounted the directory, so it sees the new socket.
    both_sites_answer_over_https(host, "Changed");
    assert!(get(host, "whoami.jnss.me", "/health").contains("ok"));
}

fn a_dry_run_changes_nothing(host: &Host, tree: &Tree) {
    let before = (lives(host), everything_below(host, "/var/lib/rick"));
    tree.edit("environments/homelab.star", "64mb", "96mb");
    host.push(&tree.bundle("homelab"), "/root/dry.tar");
    let said = host.ok(&["rick-activate", "--dry-run", "/root/dry.tar"]);
    assert!(says(&said, "would restart", "valkey-server.service"), "{said}");
    assert_eq!((lives(host), everything_below(host, "/var/lib/rick")), before);
}

fn everything_below(host: &Host, path: &str) -> String {
    host.sh(&format!("find {path} -printf '%p %y %m %s %l %T@\\n' | sort"))
}

fn rollback_brings_the_generation_before_back(host: &Host) {
    let before = lives(host);
    host.ok(&["rick-activate", "rollback"]);
    assert_eq!(host.ok(&["readlink", "/var/lib/rick/current"]), "gens/2");
    assert_eq!(restarted(&before, &lives(host)), ["valkey-server.service"]);
    let memory = host.ok(&["valkey-cli", "-s", "/run/valkey-sock/valkey.sock", "config", "get", "maxmemory"]);
    assert!(memory.contains(&(256 << 20).to_string()), "{memory}");

    host.ok(&["rick-activate", "rollback", "1"]);
    both_sites_answer_over_https(host, "Homelab");
    everything_runs(host);
}

fn after_a_reboot_the_same_generation_runs(host: &mut Host) {
    host.reboot();
    assert_eq!(host.ok(&["readlink", "/var/lib/rick/current"]), "gens/1");
    assert_eq!(host.ok(&["systemctl", "is-system-running", "--wait"]), "running");
    everything_runs(host);
    both_sites_answer_over_https(host, "Homelab");
    the_container_holds_its_groups_and_reaches_both_sockets(host);
    let before = lives(host);
    let said = host.ok(&["rick-activate", "rollback", "1"]);
    assert!(said.contains("nothing to do"), "{said}");
    assert_eq!(restarted(&before, &lives(host)), Vec::<String>::new());
}

fn the_first_activation_can_be_rolled_back(host: &Host) {
    host.ok(&["rick-activate", "rollback", "0"]);
    for unit in ["whoami.service", "rick.target"] {
        assert_ne!(host.property(unit, "ActiveState"), "active", "{unit}");
    }
    // What ran before rick came, runs again; and no data is lost.
    for unit in ["caddy.service", "valkey-server.service", "postgresql@17-main.service"] {
        assert_eq!(host.property(unit, "ActiveState"), "active", "{unit}");
        assert!(!host.property(unit, "FragmentPath").starts_with("/usr/local"), "{unit}");
    }
    assert!(host.run(&["test", "-e", "/var/lib/rick-postgresql/17/PG_VERSION"]).status.success());
}

#[test]
fn production_gets_nothing_that_it_does_not_use() {
    let tree = source::buildable();
    let shown = tree.rickbuild(&["show", "production"]);
    let text = String::from_utf8(shown.stdout).unwrap().to_lowercase();
    assert!(text.contains("caddyfile"), "{text}");
    for absent in ["postgres", "valkey", "nextcloud", "gitea", "whoami"] {
        assert!(!text.contains(absent), "{absent} appears in production:\n{text}");
    }
}
