//! A module that is not ours does all that ours do: it lies outside `modules/`, and is loaded, checked, described and run like them.
//!
//! `fixtures/third-party` is laid over the project's modules as somebody would lay it over a checkout. On a live host it runs the real
//! Miniflux; for authentik there is a stand-in, so nobody signs in to the end here.

use std::path::Path;

use crate::support::miniflux::{self, require_miniflux};
use crate::support::source::{self, Tree};
use crate::support::{Host, activator, require_hosts};
use crate::support::{site, standin};
use crate::tools;

const ENVIRONMENT: &str = "environments/reader.star";
const POSTGRESQL: &str = "            postgresql(version = 17),\n";
const CADDY: &str = "            caddy(email = \"admin@example.net\"),\n";
const AUTHENTIK: &str = "            authentik(),\n";
const MINIFLUX: &str = "            miniflux(access = Access(groups = [\"readers\"])),\n";

const NAME: &str = "reader.example.net";
const SOCKET: &str = "/run/miniflux/http.sock";

/// The project's modules with those of somebody else beside them.
fn overlay() -> Tree {
    let tree = source::modules();
    tree.lay(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/third-party/."));
    tree
}

// ---- compiling

/// What `rickbuild check` finds: severity, message and the first help of each.
fn findings(tree: &Tree) -> Vec<[String; 3]> {
    let output = tree.rickbuild(&["check", "reader", "--message-format", "json"]);
    let said = String::from_utf8(output.stderr).expect("findings are text");
    let finding = |line: &str| {
        let finding: serde_json::Value = serde_json::from_str(line).expect("a finding a line");
        ["/severity", "/message", "/help/0"]
            .map(|part| finding.pointer(part).and_then(|text| text.as_str()).unwrap_or_default().to_owned())
    };
    said.lines().map(finding).collect()
}

#[test]
fn it_compiles_beside_ours() {
    let output = overlay().rickbuild(&["check", "reader"]);
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn it_describes_itself_as_ours_do() {
    let tree = overlay();
    let options = |form: &[&str]| {
        let output = tree.rickbuild(&[&["options", "//contrib/miniflux"], form].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };

    let text = options(&[]);
    let markdown = options(&["--markdown"]);
    for said in [&text, &markdown] {
        assert!(said.contains(r#"load("//contrib/miniflux", "miniflux")"#), "{said}");
        for name in ["PostgresInfo", "CaddyInfo", "OidcInfo", "Database", "OidcClient", "host_authorities"] {
            assert!(said.contains(name), "{name}: {said}");
        }
    }
    assert!(
        text.contains("    subdomain: str = \"reader\"\n        The first label of its host name.\n"),
        "{text}"
    );
    let row = "| `subdomain` | `str` | `\"reader\"` | The first label of its host name. |\n";
    assert!(markdown.contains(row), "{markdown}");

    let json: serde_json::Value = serde_json::from_str(&options(&["--json"])).expect("it is JSON");
    let names = |list: &str, name: &str| -> Vec<String> {
        let items = json[0][list].as_array().unwrap_or_else(|| panic!("{list}: {json:#}"));
        items
            .iter()
            .map(|item| item.pointer(name).map_or("site", |name| name.as_str().unwrap()).to_owned())
            .collect()
    };
    assert_eq!(
        (json[0]["name"].as_str(), json[0]["path"].as_str()),
        (Some("miniflux"), Some("//contrib/miniflux"))
    );
    let expected =
        ["subdomain", "auth", "access", "admin", "image", "network", "hosts", "host_authorities", "settings"];
    assert_eq!(names("options", "/name"), expected);
    assert_eq!(names("requires", "/kind/record/name"), ["PostgresInfo", "CaddyInfo"]);
    assert_eq!(names("wants", "/kind/record/name"), ["OidcInfo"]);
    assert_eq!(names("contributes", "/record/name"), ["Database", "OidcClient", "site"]);
}

#[test]
fn without_a_provider_it_says_what_to_add() {
    let tree = overlay();
    tree.edit(ENVIRONMENT, AUTHENTIK, "");
    let found = findings(&tree);
    let [[severity, message, help]] = &found[..] else { panic!("one finding: {found:#?}") };
    assert_eq!(severity, "error");
    assert!(message.starts_with("`miniflux` is to sign people in"), "{message}");
    assert!(help.starts_with("add `authentik()` to the services of the host, or"), "{help}");

    // The other way out that the help names.
    tree.edit(
        ENVIRONMENT,
        "miniflux(access = Access(groups = [\"readers\"]))",
        "miniflux(auth = \"public\")",
    );
    assert_eq!(findings(&tree), [[""; 3]; 0]);
}

#[test]
fn without_a_database_each_client_says_what_to_add() {
    let tree = overlay();
    tree.edit(ENVIRONMENT, POSTGRESQL, "");
    let expected = ["authentik", "miniflux"].map(|client| {
        [
            "error".to_owned(),
            format!("`{client}` needs `PostgresInfo`, and no service of `shelf` provides it"),
            "add `postgresql()` to the services of `shelf`, from `load(\"//modules/postgresql\", \"postgresql\")`"
                .to_owned(),
        ]
    });
    assert_eq!(findings(&tree), expected);
}

#[test]
fn it_warns_whoever_has_the_proxy_ask() {
    let tree = overlay();
    tree.edit(ENVIRONMENT, "miniflux(", "miniflux(auth = \"forward\", ");
    let found = findings(&tree);
    let [[severity, message, help]] = &found[..] else { panic!("one finding: {found:#?}") };
    assert_eq!(severity, "warning");
    assert!(message.starts_with("`miniflux` can sign people in itself"), "{message}");
    assert!(help.starts_with("choose `auth = \"oidc\"`"), "{help}");
}

// ---- running

/// The environment with what a machine without the internet has: the real Miniflux, authentik's stand-in, and certificates of the host's
/// own authority. As the name of the provider is in no DNS either, Miniflux is told that it is the host.
fn runnable(root: &Path) -> Tree {
    let tree = overlay();
    standin::lay(&tree);
    miniflux::lay(&tree, root);
    let load = "load(\"//contrib/miniflux\", \"miniflux\")\n";
    tree.edit(
        ENVIRONMENT,
        load,
        &format!(
            "{load}load(\"//contrib/miniflux_image\", \"miniflux_image\")\nload(\"//modules/standins\", \"standins\")\n"
        ),
    );
    tree.edit(ENVIRONMENT, CADDY, "            caddy(email = \"admin@example.net\", tls = \"internal\"),\n");
    tree.edit(
        ENVIRONMENT,
        AUTHENTIK,
        "            authentik(image = \"localhost/authentik\"), standins(), miniflux_image(),\n",
    );
    tree.edit(
        ENVIRONMENT,
        MINIFLUX,
        "            miniflux(
                access = Access(groups = [\"readers\"]),
                image = \"localhost/miniflux\",
                hosts = {\"auth.example.net\": \"host-gateway\"},
                host_authorities = True,
            ),\n",
    );
    tree
}

#[test]
fn the_real_miniflux_runs_as_ours_do() {
    require_hosts!();
    let root = require_miniflux!();
    let tree = runnable(&root);
    let host = Host::boot("shelf");
    host.push(&activator(), "/usr/local/bin/rick-activate");
    host.push(&tree.bundle("reader"), "/root/bundle.tar");
    standin::make_secrets(&host, "/root/bundle.tar");
    host.ok(&["rick-activate", "/root/bundle.tar"]);

    it_is_nobody_but_its_own_user(&host);
    its_tables_are_its_own(&host);
    it_serves_through_the_web_server(&host);
    its_administrator_has_the_secret_password(&host);
    signing_in_leads_to_the_provider(&host);
    nobody_else_reaches_it(&host);
    nobody_else_reaches_its_database(&host);
    tools::judge(&host);
}

fn it_is_nobody_but_its_own_user(host: &Host) {
    let id = |user: &str, what: &str| host.ok(&["id", what, user]);
    let group = |name: &str| host.sh(&format!("getent group {name} | cut -d: -f3"));
    let pid = host.ok(&["podman", "inspect", "--format", "{{.State.Pid}}", "miniflux"]);
    let status = String::from_utf8(host.read(&format!("/proc/{pid}/status"))).unwrap();
    let field = |name: &str| -> Vec<&str> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("{name}: {status}")).split_whitespace().collect()
    };
    assert_eq!(field("Uid"), [&*id("miniflux", "-u"); 4]);
    assert_eq!(field("Gid"), [&*id("miniflux", "-g"); 4]);
    let mut groups = [id("miniflux", "-g"), group("postgres-clients")];
    groups.sort_unstable_by_key(|id| id.parse::<u32>().unwrap());
    assert_eq!(field("Groups"), groups);
    assert_eq!(field("NoNewPrivs"), ["1"]);
    for set in ["CapEff", "CapPrm", "CapBnd", "CapAmb"] {
        assert_eq!(field(set), ["0000000000000000"], "{set}");
    }
}

fn its_tables_are_its_own(host: &Host) {
    let ask = |sql: &str| {
        host.sh(&format!("runuser -u postgres -- psql -h /run/postgresql -d miniflux -Atc \"{sql}\""))
    };
    // Miniflux writes the number of each migration that is done.
    assert!(ask("SELECT version FROM schema_version").parse::<u32>().unwrap() > 100);
    assert_eq!(ask("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"), "miniflux");
    // Over the socket, which lets nobody in but by peer authentication: there is no address.
    assert_eq!(
        ask("SELECT DISTINCT usename, client_addr IS NULL FROM pg_stat_activity \
             WHERE datname = 'miniflux' AND backend_type = 'client backend' AND pid <> pg_backend_pid()"),
        "miniflux|t"
    );
    assert_eq!(
        host.sh("grep miniflux /var/lib/rick/current/etc/postgresql/pg_hba.conf"),
        "local \"miniflux\" \"miniflux\" peer map=rick"
    );
}

/// Asks for a page of the site over HTTPS.
fn curl(host: &Host, path: &str, arguments: &[&str]) -> String {
    site::fetch(host, &[arguments, &[&format!("https://{NAME}{path}")]].concat())
}

fn it_serves_through_the_web_server(host: &Host) {
    assert_eq!(curl(host, "/healthcheck", &["--fail"]), "OK");
    let page = curl(host, "/", &["--fail"]);
    assert!(page.contains("href=\"/oauth2/oidc/redirect\""), "{page}");
}

fn its_administrator_has_the_secret_password(host: &Host) {
    let file = "/run/rick/secrets/miniflux/miniflux-admin-password";
    let password = String::from_utf8(host.read(file)).unwrap();
    let me = curl(host, "/v1/me", &["--fail", "--user", &format!("admin:{}", password.trim_end())]);
    let me: serde_json::Value = serde_json::from_str(&me).expect("its API speaks JSON");
    assert_eq!((me["username"].as_str(), me["is_admin"].as_bool()), (Some("admin"), Some(true)), "{me}");
    // It came by the file, and by nothing that others can read.
    let inspected = host.ok(&["podman", "inspect", "miniflux"]);
    assert!(inspected.contains(file) && !inspected.contains(password.trim_end()));
}

/// Miniflux asks the provider from inside its container, over HTTPS and by its name, before it sends anybody there.
fn signing_in_leads_to_the_provider(host: &Host) {
    let to = |host| {
        curl(
            host,
            "/oauth2/oidc/redirect",
            &["--output", "/dev/null", "--write-out", "%{http_code} %{redirect_url}"],
        )
    };
    // It trusts nobody whom the host does not trust, and an authority of one's own must be made known to that first.
    assert_eq!(to(host), format!("302 https://{NAME}/"));
    host.sh(
        "cp /var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt /usr/local/share/ca-certificates/own.crt
         update-ca-certificates 2>&1
         systemctl restart miniflux.service",
    );
    wait_until_it_serves(host);
    let address = to(host);
    assert!(address.starts_with("302 https://auth.example.net/application/o/authorize/?"), "{address}");
    for part in [
        "client_id=miniflux",
        "redirect_uri=https%3A%2F%2Freader.example.net%2Foauth2%2Foidc%2Fcallback",
        "response_type=code",
        "scope=openid+profile+email",
        "code_challenge_method=S256",
    ] {
        assert!(address.split(['?', '&']).any(|given| given == part), "{part}: {address}");
    }
}

fn wait_until_it_serves(host: &Host) {
    host.sh(&format!(
        "timeout 30 bash -c 'until curl -sf --unix-socket {SOCKET} http://x/healthcheck; do sleep 0.1; done'"
    ));
}

fn nobody_else_reaches_it(host: &Host) {
    assert_eq!(host.ok(&["stat", "--format=%A %U %G", "/run/miniflux"]), "drwxr-s--- miniflux caddy");
    assert_eq!(host.ok(&["stat", "--format=%U %G", SOCKET]), "miniflux caddy");
    // As releases before 2.3.3 make it: the directory is enough.
    host.ok(&["chmod", "0666", SOCKET]);
    let ask = |user: &str| {
        let curl = format!("runuser -u {user} -- curl -sSf --unix-socket {SOCKET} http://x/healthcheck");
        host.run(&["bash", "-c", &curl])
    };
    assert_eq!(String::from_utf8_lossy(&ask("caddy").stdout), "OK");
    for user in ["nobody", "authentik", "postgres"] {
        // 7: it could not connect.
        assert_eq!(ask(user).status.code(), Some(7), "{user}");
    }
}

fn nobody_else_reaches_its_database(host: &Host) {
    let refused = |user: &str| {
        let sign_in = ["psql", "-h", "/run/postgresql", "-U", "miniflux", "-d", "miniflux", "-c", "SELECT 1"];
        let output = host.run(&[&["runuser", "-u", user, "--"], &sign_in[..]].concat());
        assert!(!output.status.success(), "{user}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    // Not in the group: not even a connection.
    let said = refused("nobody");
    assert!(said.contains("Permission denied"), "{said}");
    // In the group, and somebody else.
    let said = refused("authentik");
    assert!(said.contains("Peer authentication failed for user \"miniflux\""), "{said}");
}
