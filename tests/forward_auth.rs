//! Who somebody is, only the outpost says: on a live host, over HTTPS, against clients that claim to be somebody.
//!
//! authentik itself cannot be had on these machines. A second Caddy stands in for its outpost, and answers as that does: by the address
//! that is asked for, with an identity, without one (`skip_path_regex`), or with the way to the login page.

use crate::support::site::{self, AUTHORITY};
use crate::support::source::{self, Tree};
use crate::support::{Host, NEXT_SUITE, activator, require_hosts};
use crate::tools;

const OUTPOST: &str = "
{
	admin off
	auto_https off
}

:9000 {
	bind 127.0.0.1
	handle /outpost.goauthentik.io/auth/caddy {
		@ok header X-Forwarded-Uri /ok*
		@skip header X-Forwarded-Uri /skip*
		handle @ok {
			header X-Authentik-Username alice
			header X-Authentik-Groups users|admins
			respond 200
		}
		handle @skip {
			respond 200
		}
		handle {
			redir https://login.example.net/ 302
		}
	}
	handle {
		respond \"the outpost, asked for {path}\" 200
	}
}
";

/// Sites with and without a guard, of both kinds, and of some of both.
fn guarded() -> Tree {
    let tree = source::whole();
    tree.write(
        "environments/guarded.star",
        r#"
load("//modules/caddy", "caddy")
load("//modules/forward_auth", "forward_auth")
load("//modules/postgresql", "postgresql")
load("//modules/static_site", "static_site")
load("//modules/valkey", "valkey")
load("//modules/whoami", "whoami")

environment(
    name = "guarded",
    hosts = [host(
        name = "arch-vps",
        domain = "jnss.me",
        services = [
            postgresql(),
            valkey(),
            caddy(email = "admin@jnss.me", tls = "internal"),
            forward_auth(address = "127.0.0.1:9000"),
            whoami(auth = "forward"),
            whoami(name = "open", auth = "public"),
            whoami(name = "app", auth = "forward", public = ["/health", "/metrics", "/public/*"]),
            whoami(name = "shop", auth = "public", protected = ["/admin/*"]),
            static_site(name = "docs", subdomain = "docs", root = "//environments/sites/docs", auth = "public"),
            static_site(name = "private", subdomain = "private", root = "//environments/sites/docs", auth = "forward"),
        ],
    )],
)
"#,
    );
    tree
}

#[test]
fn only_the_outpost_says_who_somebody_is() {
    require_hosts!();
    only_the_outpost_is_believed(&guarded(), &Host::boot("arch-vps"));
}

/// Caddy 2.11 here, which has fixed some of what 2.6 makes necessary, and broken and mended other things since.
#[test]
fn only_the_outpost_says_who_somebody_is_on_the_next_debian() {
    require_hosts!(NEXT_SUITE);
    let tree = guarded();
    tree.edit(
        "environments/guarded.star",
        "domain = \"jnss.me\",",
        "domain = \"jnss.me\",\n        os = \"debian-14\",",
    );
    tree.edit("environments/guarded.star", "postgresql()", "postgresql(version = 18)");
    only_the_outpost_is_believed(&tree, &Host::boot_suite(NEXT_SUITE, "arch-vps"));
}

fn only_the_outpost_is_believed(tree: &Tree, host: &Host) {
    host.push(&activator(), "/usr/local/bin/rick-activate");
    host.push(&tree.bundle("guarded"), "/root/bundle.tar");
    host.ok(&["rick-activate", "/root/bundle.tar"]);
    start_the_outpost(host);

    who_is_let_in_is_who_the_outpost_says(host);
    who_is_let_in_without_a_name_has_none(host);
    on_a_public_site_nobody_is_anybody(host);
    who_is_not_let_in_is_sent_to_log_in(host);
    the_way_to_log_in_is_open(host);
    public_paths_stand_beside_protected_ones(host);
    protected_paths_stand_beside_public_ones(host);
    what_is_no_path_is_refused(host);
    without_its_outpost_nobody_is_let_in(host);
    tools::judge(host);
}

fn start_the_outpost(host: &Host) {
    host.write("/root/outpost/Caddyfile", OUTPOST);
    host.ok(&[
        "systemd-run",
        "--quiet",
        "--unit=outpost",
        "--service-type=notify",
        "--setenv=HOME=/root/outpost",
        "caddy",
        "run",
        "--config=/root/outpost/Caddyfile",
        "--adapter=caddyfile",
    ]);
}

/// What came back: the status, `Location`, and the text.
struct Answer {
    status: String,
    location: String,
    text: String,
}

/// Asks as a client that claims to be somebody, in every header that somebody might believe.
fn ask(host: &Host, name: &str, path: &str) -> Answer {
    let url = format!("https://{name}{path}");
    let mut command = vec!["--write-out", "\n%{http_code} %{redirect_url}"];
    for forged in [
        "Remote-User: mallory",
        "remote-groups: mallory",
        "Remote-Email: mallory",
        "Remote-Name: mallory",
        "REMOTE-ANYTHING: mallory",
        // Caddy drops every name with an underscore.
        "Remote_User: mallory",
        "X-Authentik-Username: mallory",
        "X-authentik-groups: mallory",
        "X-Authentik-Jwt: mallory",
        "X-Real-IP: mallory",
        "X-Client-IP: mallory",
        "Forwarded: for=mallory",
        "X-Forwarded-For: mallory",
        "X-Forwarded-User: mallory",
        "X-Webauth-User: mallory",
        "X-Original-URL: /mallory",
        "X-Rewrite-URL: /mallory",
        "True-Client-IP: mallory",
        // The address that the outpost is asked about.
        "X-Forwarded-Uri: /ok",
        "X-Forwarded-Method: GET",
    ] {
        command.extend(["--header", forged]);
    }
    command.push(&url);
    let said = site::fetch(host, &command);
    let (text, end) = said.rsplit_once('\n').unwrap();
    let (status, location) = end.split_once(' ').unwrap();
    Answer { status: status.to_owned(), location: location.to_owned(), text: text.to_owned() }
}

/// The headers about somebody that reached the service behind a site.
#[track_caller]
fn identity(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, "200", "{}", answer.text);
    assert!(!answer.text.contains("mallory"), "{}", answer.text);
    let said: serde_json::Value = serde_json::from_str(&answer.text).expect("whoami speaks JSON");
    let headers = said["headers"].as_object().unwrap();
    let about = headers.iter().filter(|(name, _)| name.contains("remote") || name.contains("authentik"));
    about.map(|(name, value)| format!("{name}: {}", value.as_str().unwrap())).collect()
}

fn who_is_let_in_is_who_the_outpost_says(host: &Host) {
    let answer = ask(host, "whoami.jnss.me", "/ok");
    assert_eq!(identity(&answer), ["remote-groups: users|admins", "remote-user: alice"]);
}

fn who_is_let_in_without_a_name_has_none(host: &Host) {
    assert_eq!(identity(&ask(host, "whoami.jnss.me", "/skip")), [""; 0]);
}

fn on_a_public_site_nobody_is_anybody(host: &Host) {
    for path in ["/", "/ok", "/outpost.goauthentik.io/auth/caddy"] {
        assert_eq!(identity(&ask(host, "open.jnss.me", path)), [""; 0], "{path}");
    }
    assert!(ask(host, "docs.jnss.me", "/").text.contains("<h1>"));
}

fn who_is_not_let_in_is_sent_to_log_in(host: &Host) {
    for (name, path) in [("whoami.jnss.me", "/deny"), ("whoami.jnss.me", "/"), ("private.jnss.me", "/")] {
        let answer = ask(host, name, path);
        assert_eq!((answer.status.as_str(), answer.location.as_str()), ("302", "https://login.example.net/"));
        assert_eq!(answer.text, "", "{name}{path}");
    }
}

fn the_way_to_log_in_is_open(host: &Host) {
    for name in ["whoami.jnss.me", "private.jnss.me"] {
        let answer = ask(host, name, "/outpost.goauthentik.io/start?rd=x");
        assert_eq!(answer.text, "the outpost, asked for /outpost.goauthentik.io/start");
    }
}

/// Asks for a path to the letter, and gives the status: 200 from the service, 302 from the outpost.
fn status(host: &Host, name: &str, path: &str) -> String {
    let answer = ask(host, name, path);
    assert!(!answer.text.contains("mallory"), "{name}{path}: {}", answer.text);
    answer.status
}

fn public_paths_stand_beside_protected_ones(host: &Host) {
    for path in ["/health", "/metrics", "/public/", "/public/a/b", "/public/a..b/c", "/public/a%20b"] {
        assert_eq!(status(host, "app.jnss.me", path), "200", "{path}");
    }
    assert_eq!(identity(&ask(host, "app.jnss.me", "/public/ok")), [""; 0]);
    for path in [
        "/",
        "/admin/",
        "/admin/users",
        "/healthy",
        "/health/x",
        "/public",
        "/publicity",
        // What a server and an application behind it may read in two ways.
        "/public/../admin/users",
        "/public/%2e%2e/admin/users",
        "/public/..%2fadmin/users",
        "/public/..;/admin/users",
        "/public/%2e%2e%3b/admin/users",
        "/public/%5c..%5cadmin",
        "/public//../../admin",
        "/public/b/..;/../admin/x",
        "/public/b/..%3b/../admin/x",
        "/public/b/..%5c..%5c/../admin",
        "/public/%252e%252e/admin",
        "/public/./a",
        "/public//a",
        "/x/../public/a",
        "/admin/../public/x",
        "/admin/%2e%2e/public/x",
        "/admin/..%2fpublic/x",
        "/public%2fadmin",
        "/public/a%2e",
        "/public/a%00",
        "/public/a%0a",
    ] {
        assert_eq!(status(host, "app.jnss.me", path), "302", "{path}");
    }
    assert_eq!(
        identity(&ask(host, "app.jnss.me", "/ok")),
        ["remote-groups: users|admins", "remote-user: alice"]
    );
}

fn protected_paths_stand_beside_public_ones(host: &Host) {
    for path in ["/", "/health", "/administration"] {
        assert_eq!(status(host, "shop.jnss.me", path), "200", "{path}");
    }
    for path in [
        "/admin",
        "/admin/",
        "/admin/users",
        "/ADMIN/users",
        "/%61dmin/users",
        "/x/../admin/",
        "//admin/users",
        "/x;/admin",
        "/admin/..%2f",
        "/admin/..",
        "/admin/users/../../x",
        "/x/y/..;/../admin/z",
        "/%2561dmin/x",
        "/admin%3f/..",
        "/x%2fadmin/users",
    ] {
        assert_eq!(status(host, "shop.jnss.me", path), "302", "{path}");
    }
    assert_eq!(
        ask(host, "shop.jnss.me", "/outpost.goauthentik.io/start").text,
        "the outpost, asked for /outpost.goauthentik.io/start"
    );
}

/// Sends a request of HTTP/1.1 to the letter, over TLS; the status. No client would ask so, but for one that wants to get around.
fn raw_status(host: &Host, name: &str, target: &str) -> String {
    let script = "import socket, ssl, sys\n\
        context = ssl.create_default_context(cafile=sys.argv[1])\n\
        plain = socket.create_connection(('127.0.0.1', 443), timeout=20)\n\
        secure = context.wrap_socket(plain, server_hostname=sys.argv[2])\n\
        secure.sendall(f'GET {sys.argv[3]} HTTP/1.1\\r\\nHost: {sys.argv[2]}\\r\\nConnection: close\\r\\n\\r\\n'.encode())\n\
        print(secure.recv(4096).decode().split(' ')[1])";
    host.ok(&["python3", "-c", script, AUTHORITY, name, target])
}

/// Targets that are no path: Caddy could not tell where they lead, and would hand them on, to the outpost and to the application.
fn what_is_no_path_is_refused(host: &Host) {
    for (name, target) in [
        ("shop.jnss.me", "x:http://shop.jnss.me/admin/x"),
        ("shop.jnss.me", "http:%2fadmin/x"),
        ("app.jnss.me", "x:http://app.jnss.me/public/x"),
        ("whoami.jnss.me", "x:http://whoami.jnss.me/outpost.goauthentik.io/ping"),
        ("open.jnss.me", "x:http://open.jnss.me/"),
        ("private.jnss.me", "*"),
    ] {
        assert_eq!(raw_status(host, name, target), "400", "{name} {target}");
    }
    // These are other ways to write a path.
    assert_eq!(raw_status(host, "shop.jnss.me", "x:/admin/x"), "302");
    assert_eq!(raw_status(host, "shop.jnss.me", "https://shop.jnss.me/admin/x"), "302");
    assert_eq!(raw_status(host, "shop.jnss.me", "https://shop.jnss.me/x"), "200");
}

fn without_its_outpost_nobody_is_let_in(host: &Host) {
    host.ok(&["systemctl", "stop", "outpost.service"]);
    for path in ["/ok", "/skip"] {
        let answer = ask(host, "whoami.jnss.me", path);
        assert_eq!((answer.status.as_str(), answer.text.as_str()), ("502", ""), "{path}");
    }
    assert_eq!(ask(host, "docs.jnss.me", "/").status, "200", "what is public stays so");
}
