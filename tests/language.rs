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

#[test]
fn without_its_database_server_each_application_says_what_it_needs() {
    let tree = source::whole();
    tree.edit("environments/homelab.star", "            postgresql(version = 17),\n", "");
    let output = tree.rickbuild(&["check", "homelab"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let consumers = ["authentik", "nextcloud", "gitea", "whoami", "app"];
    for consumer in consumers {
        let error =
            format!("error: `{consumer}` needs `PostgresInfo`, and no service of `arch-vps` provides it\n");
        assert_eq!(said.matches(&error).count(), 1, "{consumer}:\n{said}");
    }
    let fix = "help: add `postgresql()` to the services of `arch-vps`, from `load(\"//modules/postgresql\", \"postgresql\")`";
    assert_eq!(said.matches(fix).count(), consumers.len(), "{said}");
    assert!(said.ends_with("error: 5 errors; nothing was written\n"), "{said}");
}

#[test]
fn what_can_sign_people_in_itself_is_warned_when_the_proxy_is_to() {
    let tree = source::whole();
    tree.edit(
        "environments/homelab.star",
        "nextcloud(subdomain = \"cloud\",",
        "nextcloud(subdomain = \"cloud\", auth = \"forward\",",
    );
    let output = tree.rickbuild(&["check", "homelab"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("warning: `nextcloud` can sign people in itself"), "{said}");
    assert!(said.contains("help: choose `auth = \"oidc\"`"), "{said}");
}

#[test]
fn services_of_an_environment_are_on_every_host_of_it() {
    let tree = source::modules();
    tree.write("modules/local/local.star", "def _build(ctx):\n    return [file(\"host\", content = ctx.host.name)]\n\nlocal = module(doc = \"x\", build = _build)\n");
    tree.write(
        "environments/case.star",
        r#"
load("//modules/local", "local")

environment(
    name = "case",
    services = [local()],
    hosts = [
        host(name = "one", domain = "example.net", services = []),
        host(name = "two", domain = "example.net", services = [local(name = "second")]),
    ],
)
"#,
    );
    let output = tree.rickbuild(&["show", "case", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let hosts: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (text(&hosts[0], "objects/local/host"), text(&hosts[1], "objects/local/host")),
        ("one", "two")
    );
    assert_eq!(text(&hosts[1], "objects/second/host"), "two");
}

#[test]
fn an_observer_sees_what_others_leave_to_a_collector() {
    let local = r#"
def _finish(ctx, sites, states):
    lines = ["{} {} {}".format(site.host, site.auth, site.asks) for site in sites]
    lines += ["{} of {}".format(", ".join(state.paths), state.service) for state in states]
    return [file("seen", content = "\n".join(lines))]

def _build(ctx):
    return [state("/var/lib/" + ctx.name, user = "root", group = "root")]

local = module(
    doc = "Looks.",
    observes = {"sites": "site", "states": "state"},
    build = _build,
    finish = _finish,
)
"#;
    let services =
        r#"postgresql(), valkey(), caddy(email = "a@example.net"), whoami(auth = "public"), local()"#;
    let host = shown(&tree(services, local), "case");
    assert_eq!(
        text(&host, "objects/local/seen"),
        "whoami.example.net public False\n/var/lib/local of local\n/var/lib/valkey of valkey"
    );
    assert!(text(&host, "etc/caddy/Caddyfile").contains("whoami.example.net {"));
    assert_eq!(host["manifest"]["states"]["/var/lib/local"], "local");
}

#[test]
fn what_is_asked_is_in_the_manifest_as_it_will_be_asked() {
    let local = r#"
def _build(ctx):
    config = file("app.conf", content = "x")
    stays = file("stays.conf", content = "x", stable = True)
    app = unit("app.service", {"Service": {"ExecStart": "/usr/bin/true"}}, on_change = "nothing", optional = True)
    box = quadlet("box.container", {
        "Container": {"Image": "example.net/x@sha256:" + "0" * 64, "User": "1000"},
    }, on_change = "stop-start", barrier = True)
    return [
        config,
        stays,
        app,
        box,
        program("/usr/bin/judge", package = "judge"),
        validate(["/usr/bin/env", "HOME=/tmp", "/usr/bin/judge", config.path, stays.path], files = [config, stays]),
        probe(http = "/run/app.sock"),
        probe(http = "127.0.0.1:80", path = "/health", host = "app.example.net", status = 204),
        probe(command = ["/usr/bin/judge", "$HOME"], user = "root"),
        probe(unit = app),
        probe(unit = box),
    ]

local = module(doc = "Asks.", build = _build)
"#;
    let manifest = &shown(&tree("local()", local), "case")["manifest"];
    let asked: Vec<_> = manifest["probes"].as_array().unwrap().iter().map(|probe| &probe["check"]).collect();
    let json = serde_json::json!([
        {"http": {"to": "/run/app.sock", "path": "/", "host": "localhost", "status": null}},
        {"http": {"to": "127.0.0.1:80", "path": "/health", "host": "app.example.net", "status": 204}},
        {"command": {"command": ["/usr/bin/judge", "$HOME"], "user": "root"}},
        {"unit": {"unit": "app.service"}},
        {"unit": {"unit": "box.service"}},
    ]);
    assert_eq!(serde_json::json!(asked), json);
    let current = "/var/lib/rick/current";
    let paths = [format!("{current}/objects/local/app.conf"), format!("{current}/etc/local/stays.conf")];
    assert_eq!(
        manifest["validations"],
        serde_json::json!([{
            "service": "local",
            "command": ["/usr/bin/env", "HOME=/tmp", "/usr/bin/judge", paths[0], paths[1]],
            "files": ["objects/local/app.conf", "etc/local/stays.conf"],
        }])
    );
    let unit = |name: &str| {
        let all = manifest["units"].as_array().unwrap();
        all.iter().find(|unit| unit["name"] == name).unwrap().clone()
    };
    assert_eq!(
        (&unit("app.service")["on_change"], &unit("app.service")["optional"]),
        (&"nothing".into(), &true.into())
    );
    assert_eq!(
        (&unit("box.service")["on_change"], &unit("box.service")["barrier"]),
        (&"stop-start".into(), &true.into())
    );
}

#[test]
fn an_addition_to_a_type_of_units_is_no_units_own() {
    let local = r#"
def _build(ctx):
    return [
        unit("app.service", {"Service": {"ExecStart": "/usr/bin/true"}, "Install": {"WantedBy": "multi-user.target"}}),
        type_drop_in("service", {"Unit": {"OnFailure": "app.service"}}, drop_in = "notify"),
    ]

local = module(doc = "Adds to all services.", build = _build)
"#;
    let host = shown(&tree("local()", local), "case");
    assert!(text(&host, "units/service.d/notify.conf").contains("OnFailure=app.service"));
    // So what is added restarts nothing.
    for unit in host["manifest"]["units"].as_array().unwrap() {
        assert!(!unit["restart_on"].to_string().contains("service.d/notify.conf"), "{unit}");
    }
}
