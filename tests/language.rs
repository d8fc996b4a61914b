//! What environments and modules can say, seen in what a host would get.

use crate::support::source::{self, Tree};

/// What the one host of an environment would get, as JSON.
fn shown(tree: &Tree, environment: &str) -> serde_json::Value {
    let output = tree.rickbuild(&["show", environment, "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let hosts: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    hosts[0].clone()
}

/// The text of a file that the host would get.
fn text<'a>(host: &'a serde_json::Value, path: &str) -> &'a str {
    host["files"][path]["text"].as_str().unwrap_or_else(|| panic!("no text {path} in {host:#}"))
}

/// A tree whose environment `case` has one host with these services; `local` is a module of the test's own.
fn tree(services: &str, local: &str) -> Tree {
    let tree = source::modules();
    tree.write("modules/local/local.star", local);
    tree.write(
        "environments/case.star",
        &format!(
            r#"
load("//modules/caddy", "caddy")
load("//modules/local", "local")
load("//modules/postgresql", "postgresql")
load("//modules/valkey", "valkey")
load("//modules/whoami", "whoami")

environment(name = "case", hosts = [host(name = "box", domain = "example.net", services = [{services}])])
"#
        ),
    );
    tree
}

const NOTHING: &str = "local = module(doc = \"Nothing.\", build = lambda ctx: [])\n";

#[test]
fn two_services_of_one_module_live_side_by_side() {
    let services = r#"postgresql(), valkey(), caddy(email = "a@example.net"), whoami(auth = "public"),
        whoami(name = "second", subdomain = "second", auth = "public")"#;
    let host = shown(&tree(services, NOTHING), "case");
    assert!(text(&host, "quadlets/whoami.container").contains("User=@rick(uid:whoami)"));
    assert!(text(&host, "quadlets/second.container").contains("User=@rick(uid:second)"));
    let access = text(&host, "etc/postgresql/pg_hba.conf");
    assert!(access.contains("local \"whoami\" \"whoami\"") && access.contains("local \"second\" \"second\""));
    let caddyfile = text(&host, "etc/caddy/Caddyfile");
    assert!(caddyfile.contains("whoami.example.net {") && caddyfile.contains("second.example.net {"));
}

#[test]
fn a_wish_that_nobody_fulfils_is_none() {
    let local = r#"
load("//modules/valkey", "ValkeyInfo")

def _build(ctx, cache: ValkeyInfo | None):
    return [file("seen", content = cache.socket if cache else "no cache")]

local = module(doc = "Takes a cache if there is one.", wants = {"cache": ValkeyInfo}, build = _build)
"#;
    assert_eq!(text(&shown(&tree("local()", local), "case"), "objects/local/seen"), "no cache");
    let both = shown(&tree("local(), valkey()", local), "case");
    assert_eq!(text(&both, "objects/local/seen"), "/run/valkey-sock/valkey.sock");
}

#[test]
fn a_working_unit_and_quadlet_are_taken_as_they_are() {
    let local = r#"
def _build(ctx):
    return [
        unit("pasted.service", source = "pasted.service"),
        unit("ssh.service", {"Service": {"UMask": "0027"}}, drop_in = "rick"),
        mask("cups.service"),
    ]

local = module(doc = "Reuses what works.", build = _build)
"#;
    let tree = tree("local()", local);
    let pasted = "# As it came.\n[Unit]\nDescription=Pasted\n\n[Service]\nExecStart=/usr/bin/sleep \\\n    infinity\n\n[Install]\nWantedBy=multi-user.target\n";
    tree.write("modules/local/pasted.service", pasted);
    let host = shown(&tree, "case");
    let unit = text(&host, "units/pasted.service");
    assert!(unit.contains("ExecStart=/usr/bin/sleep") && unit.contains("infinity"), "{unit}");
    assert!(text(&host, "units/ssh.service.d/rick.conf").contains("UMask=0027"));
    let links = &host["manifest"]["links"];
    assert_eq!(links["units/cups.service"], "/dev/null");
    assert_eq!(links["units/multi-user.target.wants/pasted.service"], "../pasted.service");
    assert!(text(&host, "units/rick.target").contains("pasted.service"));
}

#[test]
fn what_the_user_writes_is_quoted_once() {
    let local = r#"
def _build(ctx):
    return [unit("echo.service", {
        "Service": {
            "ExecStart": command("/usr/bin/echo", "50% of $HOME", "a\"b", ""),
            "Environment": variable("GREETING", "good day"),
        },
    })]

local = module(doc = "Echoes.", build = _build)
"#;
    let host = shown(&tree("local()", local), "case");
    let unit = text(&host, "units/echo.service");
    assert!(unit.contains("ExecStart=/usr/bin/echo \"50%% of $$HOME\" \"a\\\"b\" \"\"\n"), "{unit}");
    assert!(unit.contains("Environment=\"GREETING=good day\"\n"), "{unit}");
}
