//! The applications of the homelab, on a live host: who reaches what, who is let in, and what nobody may read.
//!
//! Stand-ins are in the images of authentik, Nextcloud and Gitea. Each refuses to start unless it finds what the real program needs, and
//! answers like it; authentik's has an outpost that signs everybody in as `alice`.

use std::process::Output;

use crate::support::source::Tree;
use crate::support::{Host, activator, require_hosts, source};
use crate::support::{kept, site, standin};

#[test]
fn the_applications_of_the_homelab_sign_people_in_and_share_nothing() {
    require_hosts!();
    let tree = standin::homelab();
    let host = Host::boot("arch-vps");
    host.push(&activator(), "/usr/local/bin/rick-activate");
    host.push(&tree.bundle("homelab"), "/root/bundle.tar");
    standin::make_secrets(&host, "/root/bundle.tar");
    host.ok(&["rick-activate", "/root/bundle.tar"]);
    start_the_internal_api(&host, &tree);

    the_validation_commands_of_the_records_say_what_they_show(&host);
    each_application_is_in_its_groups_and_no_other(&host);
    each_user_opens_its_own_database_and_no_other(&host);
    no_socket_is_open_to_everybody(&host);
    the_way_to_sign_in_leads_through_the_provider_and_back(&host);
    who_signed_in_is_who_the_outpost_says_whatever_the_browser_claims(&host);
    public_paths_stand_beside_protected_ones(&host);
    authentik_was_told_what_was_compiled(&host);
    nextcloud_keeps_what_rick_tells_it(&host);
    gitea_has_one_source_of_sign_ins(&host);
    secrets_stand_in_memory_only(&host);
    a_new_secret_restarts_who_reads_it(&host);
    a_server_that_is_late_leaves_nobody_down(&host);
    another_client_restarts_no_server(&host, &tree);
}

/// What `reverse_proxy` of the homelab stands before.
fn start_the_internal_api(host: &Host, tree: &Tree) {
    host.push(&tree.path().join("modules/whoami/whoami"), "/usr/local/bin/internal-api");
    host.ok(&[
        "systemd-run",
        "--quiet",
        "--unit=internal-api",
        "--service-type=notify",
        "--setenv=WHOAMI_LISTEN=127.0.0.1:3000",
        "/usr/local/bin/internal-api",
    ]);
}

/// One word of an account.
fn id(host: &Host, database: &str, name: &str) -> String {
    host.sh(&format!("getent {database} {name} | cut -d: -f3"))
}

/// The supplementary groups that the first process of a container holds, its own left out, by name and sorted.
fn groups_of(host: &Host, container: &str) -> Vec<String> {
    let pid = host.ok(&["podman", "inspect", "--format", "{{.State.Pid}}", container]);
    let said = host.sh(&format!(
        "for id in $(sed -n 's/^Groups:\\s*//p' /proc/{pid}/status); do getent group $id | cut -d: -f1; done"
    ));
    let own = host.sh(&format!("getent group $(stat -c %g /proc/{pid}) | cut -d: -f1"));
    let mut names: Vec<String> = said.lines().filter(|name| *name != own).map(str::to_owned).collect();
    names.sort();
    names
}

fn the_validation_commands_of_the_records_say_what_they_show(host: &Host) {
    // # Verify service location
    let said = host.sh("systemctl status authentik-server | grep CGroup");
    assert_eq!(said.trim(), "CGroup: /system.slice/authentik-server.service");
    // # Verify process groups. `grep authentik` over all processes would find Podman's own first, which are root's.
    let said = host.sh("ps -u authentik -o pid= | head -1 | xargs -I {} cat /proc/{}/status | grep Groups");
    let mut expected = [id(host, "group", "authentik"), id(host, "group", "postgres-clients")];
    expected.sort_by_key(|id| id.parse::<u32>().unwrap());
    assert_eq!(said.split_whitespace().skip(1).collect::<Vec<_>>(), expected);
    // # Verify socket permissions
    let said = host.sh("ls -l /var/run/postgresql/.s.PGSQL.5432");
    assert!(said.starts_with("srwxrwx--- 1 postgres postgres-clients "), "{said}");
    // The records' directory is made anew at every start, so this one is another.
    let said = host.sh("ls -l /var/run/valkey-sock/valkey.sock");
    assert!(said.starts_with("srwxrwx--- 1 valkey valkey-clients "), "{said}");
    // # Verify HTTP endpoint
    let said = host.sh("curl -sI http://127.0.0.1:9000/");
    assert!(said.starts_with("HTTP/1.1 302 Found"), "{said}");
    // # Test socket connectivity
    let said = host.sh("setpriv --reuid=authentik --regid=authentik --init-groups \
         psql -h /var/run/postgresql -U authentik -d authentik -Atc 'SELECT current_user'");
    assert_eq!(said, "authentik");
    let said = host.sh(
        "setpriv --reuid=nextcloud --regid=nextcloud --init-groups valkey-cli -s /run/valkey-sock/valkey.sock ping",
    );
    assert_eq!(said, "PONG");
    // # Container user verification
    let said = host.sh("podman exec authentik-server id");
    let [own, clients] = ["authentik", "postgres-clients"].map(|name| id(host, "group", name));
    let uid = id(host, "passwd", "authentik");
    assert!(said.starts_with(&format!("uid={uid}(authentik) gid={own}")), "{said}");
    assert!(said.contains(&clients), "{said}");
}

fn each_application_is_in_its_groups_and_no_other(host: &Host) {
    let both = ["postgres-clients", "valkey-clients"].as_slice();
    let database = ["postgres-clients"].as_slice();
    for (container, groups) in [
        ("authentik-server", database),
        ("authentik-worker", database),
        ("nextcloud", both),
        ("gitea", both),
        ("whoami", both),
        ("app", both),
    ] {
        assert_eq!(groups_of(host, container), groups, "{container}");
    }
    for (container, user) in [
        ("authentik-server", "authentik"),
        ("authentik-worker", "authentik"),
        ("nextcloud", "nextcloud"),
        ("gitea", "gitea"),
    ] {
        let pid = host.ok(&["podman", "inspect", "--format", "{{.State.Pid}}", container]);
        let uid = id(host, "passwd", user);
        let said = host.sh(&format!("sed -n 's/^Uid:\\s*//p' /proc/{pid}/status"));
        assert_eq!(said.split_whitespace().collect::<Vec<_>>(), [uid.as_str(); 4], "{container}");
    }
}

/// Runs a command as a user, with the groups that it has.
fn as_user(host: &Host, user: &str, command: &[&str]) -> Output {
    let (uid, gid) = (format!("--reuid={user}"), format!("--regid={user}"));
    host.run(&[&["setpriv", &uid, &gid, "--init-groups"], command].concat())
}

/// Tries to open a database as a Unix user.
fn open(host: &Host, user: &str, role: &str, database: &str) -> Output {
    let (role, database) = (format!("--username={role}"), format!("--dbname={database}"));
    let to = ["psql", "--no-psqlrc", "--no-password", "--host=/run/postgresql", &role, &database];
    as_user(host, user, &[to.as_slice(), &["--command=SELECT 1"]].concat())
}

fn each_user_opens_its_own_database_and_no_other(host: &Host) {
    let users = ["authentik", "nextcloud", "gitea", "whoami", "app"];
    for user in users {
        for other in users {
            let opened = open(host, user, other, other);
            assert_eq!(opened.status.success(), user == other, "{user} as {other}: {opened:?}");
            if user != other {
                let opened = open(host, user, user, other);
                assert!(!opened.status.success(), "{user} in the database of {other}");
            }
        }
        assert!(!open(host, user, "postgres", "postgres").status.success(), "{user} as postgres");
    }
    // Valkey answers those who use it, and not authentik, which does not.
    for (user, reaches) in
        [("nextcloud", true), ("gitea", true), ("whoami", true), ("app", true), ("authentik", false)]
    {
        let ping = as_user(host, user, &["valkey-cli", "-s", "/run/valkey-sock/valkey.sock", "ping"]);
        assert_eq!(ping.stdout == b"PONG\n", reaches, "{user}: {ping:?}");
    }
    // The web server, and a user of nothing, do not even reach the sockets.
    for user in ["caddy", "nobody"] {
        for socket in
            ["/run/postgresql/.s.PGSQL.5432", "/run/valkey-sock/valkey.sock", "/run/gitea/http.sock"]
        {
            let group = host.ok(&["id", "-gn", user]);
            let reaches = host.run(&[
                "setpriv",
                &format!("--reuid={user}"),
                &format!("--regid={group}"),
                "--init-groups",
                "test",
                "-w",
                socket,
            ]);
            let allowed = user == "caddy" && socket.contains("gitea");
            assert_eq!(reaches.status.success(), allowed, "{user} at {socket}");
        }
    }
}

fn no_socket_is_open_to_everybody(host: &Host) {
    let all = host.sh(
        "find /run/postgresql /run/valkey-sock /run/gitea /run/whoami /run/app /run/caddy -type s -printf '%m %p\\n'",
    );
    assert_eq!(all.lines().count(), 6, "{all}");
    for line in all.lines() {
        let mode = u32::from_str_radix(line.split(' ').next().unwrap(), 8).unwrap();
        // Caddy's own socket for orders has the mode of its version; its directory is for Caddy alone.
        let closed = mode & !0o770 == 0 || line.ends_with("/run/caddy/admin.sock");
        assert!(closed, "{line}");
    }
    assert_eq!(host.ok(&["stat", "-c", "%a", "/run/caddy"]), "700");
}

/// Asks a site, with further arguments of curl; the status, where it leads, and the text.
fn ask(host: &Host, address: &str, more: &[&str]) -> (String, String, String) {
    let url = format!("https://{address}");
    let said =
        site::fetch(host, &[&["--write-out", "\n%{http_code} %{redirect_url}"], more, &[&*url]].concat());
    let (text, end) = said.rsplit_once('\n').unwrap();
    let (status, location) = end.split_once(' ').unwrap();
    (status.to_owned(), location.to_owned(), text.to_owned())
}

const SIGNED_IN: [&str; 2] = ["--cookie", "authentik_proxy_standin=alice"];

fn the_way_to_sign_in_leads_through_the_provider_and_back(host: &Host) {
    // Step by step, as a browser goes.
    let (status, start, _) = ask(host, "whoami.jnss.me/notes?x=1", &[]);
    assert_eq!(status, "302");
    assert!(start.starts_with("https://whoami.jnss.me/outpost.goauthentik.io/start?rd="), "{start}");
    let (_, provider, _) = ask(host, start.trim_start_matches("https://"), &[]);
    assert!(provider.starts_with("https://auth.jnss.me/application/o/authorize/?"), "{provider}");
    let (_, back, _) = ask(host, provider.trim_start_matches("https://"), &[]);
    assert!(back.starts_with("https://whoami.jnss.me/outpost.goauthentik.io/callback?"), "{back}");
    // And at once: each site behind the proxy lets her in when she comes back.
    for (site, expected) in [
        ("whoami.jnss.me/", "\"remote-user\": \"alice\""),
        ("api.jnss.me/", "\"remote-user\": \"alice\""),
        ("docs.jnss.me/", "<h1>Homelab</h1>"),
    ] {
        let jar = format!("/tmp/jar-{}", site.len());
        let (status, _, text) = ask(host, site, &["--location", "--cookie-jar", &jar, "--cookie", &jar]);
        assert_eq!(status, "200", "{site}: {text}");
        assert!(text.contains(expected), "{site}: {text}");
    }
    // Signed out, she is asked again.
    let jar = ["--cookie-jar", "/tmp/out", "--cookie", "/tmp/out"];
    assert_eq!(ask(host, "whoami.jnss.me/", &[&["--location"], jar.as_slice()].concat()).0, "200");
    assert_eq!(ask(host, "whoami.jnss.me/", &jar).0, "200");
    ask(host, "whoami.jnss.me/outpost.goauthentik.io/sign_out", &jar);
    assert_eq!(ask(host, "whoami.jnss.me/", &jar).0, "302");
}

const FORGED: [&str; 13] = [
    "-HRemote-User: mallory",
    "-Hremote-groups: mallory",
    "-HRemote-Email: mallory",
    "-HRemote_User: mallory",
    "-HX-Authentik-Username: mallory",
    "-HX-authentik-jwt: mallory",
    "-HX-Real-IP: mallory",
    "-HForwarded: for=mallory",
    "-HX-Forwarded-For: mallory",
    "-HX-Forwarded-User: mallory",
    "-HX-Webauth-User: mallory",
    "-HX-Forwarded-Uri: /skip",
    "-HX-Forwarded-Host: auth.jnss.me",
];

fn who_signed_in_is_who_the_outpost_says_whatever_the_browser_claims(host: &Host) {
    for site in ["whoami.jnss.me/", "api.jnss.me/", "app.jnss.me/admin/"] {
        let (status, _, text) = ask(host, site, &[FORGED.as_slice(), &SIGNED_IN].concat());
        assert_eq!(status, "200", "{site}");
        assert!(text.contains("\"remote-user\": \"alice\"") && !text.contains("mallory"), "{site}: {text}");
        let (status, _, text) = ask(host, site, &FORGED);
        assert_eq!((status.as_str(), text.as_str()), ("302", ""), "{site}");
    }
    // Where the application signs people in, and where everybody may look, nobody is anybody.
    for site in ["cloud.jnss.me/", "git.jnss.me/", "app.jnss.me/public/"] {
        let (status, _, text) = ask(host, site, &[FORGED.as_slice(), &SIGNED_IN].concat());
        assert_eq!(status, "200", "{site}");
        let names = ["remote-", "x-authentik-", "mallory"];
        assert!(!names.iter().any(|name| text.contains(name)), "{site}: {text}");
    }
}

fn public_paths_stand_beside_protected_ones(host: &Host) {
    for (path, expected) in [
        ("/health", "200"),
        ("/metrics", "200"),
        ("/public/a", "200"),
        ("/admin/", "302"),
        ("/", "302"),
        ("/public/..;/admin/", "302"),
        ("/public/b/..;/../admin/", "302"),
        ("/admin/../public/a", "302"),
    ] {
        assert_eq!(ask(host, &format!("app.jnss.me{path}"), &[]).0, expected, "{path}");
        let signed_in = ask(host, &format!("app.jnss.me{path}"), &SIGNED_IN);
        assert_eq!(signed_in.0, "200", "{path} for alice");
    }
}

/// What a query in an application's database gives, as its own user.
#[track_caller]
fn query(host: &Host, user: &str, sql: &str) -> String {
    let (database, sql) = (format!("--dbname={user}"), format!("--command={sql}"));
    let psql =
        ["psql", "--no-psqlrc", "--host=/run/postgresql", "--tuples-only", "--no-align", &database, &sql];
    let output = as_user(host, user, &psql);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned()
}

fn authentik_was_told_what_was_compiled(host: &Host) {
    let told =
        query(host, "authentik", "SELECT body FROM standin_blueprint WHERE path = 'rick/sign-in.yaml'");
    // As it stands in the current generation.
    let compiled = host.sh("cat $(sed -n 's,^Volume=\\(.*\\):/blueprints/rick:ro$,\\1,p' \
         /var/lib/rick/current/quadlets/authentik-blueprints.container)/sign-in.yaml");
    assert_eq!(told.trim_end(), compiled.trim_end());
    assert_eq!(host.property("authentik-blueprints.service", "Result"), "success");
}

fn nextcloud_keeps_what_rick_tells_it(host: &Host) {
    let fragment = "/var/lib/nextcloud/config/zz-rick.config.php";
    let ours = host.sh("cat /var/lib/rick/store/*/zz-rick.config.php");
    assert_eq!(String::from_utf8(host.read(fragment)).unwrap().trim_end(), ours);
    // PHP reads it, and it holds what the records asked for.
    let read = host.sh(&format!("php -r 'require \"{fragment}\"; echo json_encode($CONFIG);'"));
    let read: serde_json::Value = serde_json::from_str(&read).expect("PHP speaks JSON");
    for (key, value) in [
        ("oidc_login_provider_url", "https://auth.jnss.me/application/o/nextcloud/"),
        ("oidc_login_client_id", "nextcloud"),
        ("overwriteprotocol", "https"),
        ("overwritehost", "cloud.jnss.me"),
        ("memcache.locking", "\\OC\\Memcache\\Redis"),
    ] {
        assert_eq!(read[key], value, "{key}");
    }
    assert_eq!(read["oidc_login_attributes"]["groups"], "groups");
    assert_eq!(read["trusted_domains"][0], "cloud.jnss.me");
    assert_eq!(read["redis"]["host"], "/run/valkey-sock/valkey.sock");
    // Whoever spoiled it, the next start mends it, and Nextcloud's own file is left to Nextcloud.
    host.sh(&format!("echo '<?php $CONFIG = [];' > {fragment}"));
    host.ok(&["systemctl", "restart", "nextcloud.service"]);
    assert_eq!(String::from_utf8(host.read(fragment)).unwrap().trim_end(), ours);
    assert!(host.sh("cat /var/lib/nextcloud/config/config.php").contains("'installed' => true"));
    assert!(host.sh("cat /var/lib/nextcloud/data/occ.log").contains("app:enable oidc_login"));
    // Background jobs: a container of their own, in the same groups.
    assert_eq!(host.property("nextcloud-cron.timer", "ActiveState"), "active");
    host.ok(&["systemctl", "start", "nextcloud-cron.service"]);
    let ran = host.sh("tail -1 /var/lib/nextcloud/data/cron.log");
    for group in ["postgres-clients", "valkey-clients"] {
        assert!(ran.contains(&id(host, "group", group)), "{ran}");
    }
}

fn gitea_has_one_source_of_sign_ins(host: &Host) {
    let row = || {
        query(
            host,
            "gitea",
            "SELECT count(*) OVER (), type, name, is_active, cfg::jsonb->>'ClientID', cfg::jsonb->>'GroupClaimName', \
             cfg::jsonb->>'OpenIDConnectAutoDiscoveryURL', updated_unix FROM login_source",
        )
    };
    let before = row();
    let expected = "1|6|authentik|t|gitea|groups|https://auth.jnss.me/application/o/gitea/.well-known/openid-configuration|";
    assert!(before.starts_with(expected), "{before}");
    let secret = query(host, "gitea", "SELECT cfg::jsonb->>'ClientSecret' FROM login_source");
    for reader in ["gitea", "authentik-clients"] {
        assert_eq!(host.sh(&format!("cat /run/rick/secrets/{reader}/gitea-oidc-secret")), secret, "{reader}");
    }
    // Again, a second later: the same row, untouched.
    host.ok(&["sleep", "1.1"]);
    host.ok(&["systemctl", "restart", "gitea-sign-in.service"]);
    assert_eq!(row(), before);
    // Whoever changed it, the next run mends it.
    query(host, "gitea", "UPDATE login_source SET is_active = false, cfg = '{}'");
    host.ok(&["systemctl", "restart", "gitea-sign-in.service"]);
    assert!(row().starts_with(expected), "{}", row());
    // A statement that fails is written to the server's log: without the secret, as is looked for below.
    query(host, "gitea", "ALTER TABLE login_source RENAME TO elsewhere");
    host.ok(&["systemctl", "restart", "--no-block", "gitea-sign-in.service"]);
    let failed = "until journalctl --no-pager -u postgresql | grep -q 'ERROR:  relation \"login_source\" does not exist'; do sleep 0.2; done";
    host.ok(&["timeout", "60", "bash", "-c", failed]);
    query(host, "gitea", "ALTER TABLE elsewhere RENAME TO login_source");
    host.ok(&[
        "timeout",
        "60",
        "bash",
        "-c",
        "until systemctl is-active --quiet gitea-sign-in; do sleep 0.2; done",
    ]);
    assert!(row().starts_with(expected), "{}", row());
    // The program read it at its start, over its own socket.
    let (_, _, text) = ask(host, "git.jnss.me/", &[]);
    assert!(text.contains("\"client_id\":\"gitea\"") || text.contains("\"client_id\": \"gitea\""), "{text}");
    // SSH at the port that was chosen.
    assert!(host.sh("exec 3<>/dev/tcp/127.0.0.1/2222; head -1 <&3").starts_with("SSH-2.0"));
}

fn secrets_stand_in_memory_only(host: &Host) {
    assert_eq!(host.ok(&["stat", "-f", "-c", "%T", "/run/rick/secrets"]), "tmpfs");
    let modes = host.sh("find /run/rick/secrets -type f -printf '%m %u %h\\n' | sort -u");
    for line in modes.lines() {
        let [mode, user, folder] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert_eq!(mode, "400", "{modes}");
        assert!(folder.starts_with(&format!("/run/rick/secrets/{user}")), "{modes}");
    }
    let secrets = host.sh("for f in /run/rick/secrets/*/*; do cat $f; echo; done");
    assert!(secrets.lines().count() >= 9, "{} secrets", secrets.lines().count());
    for secret in secrets.lines() {
        assert_eq!(secret.len(), 43);
        // Read from standard input: an argument would be seen by the search itself. Where it must stand, it is found.
        let places = "/etc /run/rick /run/systemd/generator /var/lib/rick /var/lib/nextcloud /var/lib/gitea /var/lib/authentik /var/log";
        let found = host.run_with(
            &["grep", "-rlF", "-f", "-"].iter().copied().chain(places.split(' ')).collect::<Vec<_>>(),
            secret.as_bytes(),
        );
        let found = String::from_utf8_lossy(&found.stdout).into_owned();
        assert!(
            !found.is_empty() && found.lines().all(|path| path.starts_with("/run/rick/secrets/")),
            "{found}"
        );
        let told = "read -r secret; { podman inspect $(podman ps -q); systemctl show '*'; journalctl --no-pager; ps axww; printf '%s\\n' \"$secret\"; } \
                    | grep -cF -f <(printf '%s' \"$secret\")";
        let found =
            host.run_with(&["bash", "-euo", "pipefail", "-c", told], format!("{secret}\n").as_bytes());
        assert_eq!(String::from_utf8_lossy(&found.stdout).trim(), "1", "told elsewhere than here: {found:?}");
    }
}

fn a_new_secret_restarts_who_reads_it(host: &Host) {
    let lives = |unit: &str| host.property(unit, "InvocationID");
    let before = ["gitea.service", "nextcloud.service", "authentik-server.service"].map(lives);
    host.sh("head -c 32 /dev/urandom | basenc --base64url | tr -d '=\\n' | \
         systemd-creds encrypt --name=gitea-oidc-secret - /etc/credstore.encrypted/gitea-oidc-secret");
    host.ok(&["systemctl", "restart", "rick-secrets-gitea.service"]);
    // It is waited for, and what hangs on it is not.
    let waits = format!(
        "until [[ $(systemctl show --value -p InvocationID gitea.service) != {} && $(systemctl is-active gitea.service) == active ]]; \
         do sleep 0.2; done",
        before[0]
    );
    host.ok(&["timeout", "60", "bash", "-c", &waits]);
    let after = ["gitea.service", "nextcloud.service", "authentik-server.service"].map(lives);
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);
    let secret = query(host, "gitea", "SELECT cfg::jsonb->>'ClientSecret' FROM login_source");
    assert_eq!(host.sh("cat /run/rick/secrets/gitea/gitea-oidc-secret"), secret);
}

fn a_server_that_is_late_leaves_nobody_down(host: &Host) {
    host.ok(&["systemctl", "stop", "gitea.service", "gitea-sign-in.service", "gitea-migrate.service"]);
    host.ok(&["systemctl", "stop", "postgresql.service"]);
    // Masked for a moment: whoever wants it would start it.
    host.ok(&["systemctl", "mask", "--runtime", "postgresql-databases.service"]);
    host.ok(&["systemctl", "start", "--no-block", "gitea.service"]);
    host.ok(&["sleep", "3"]);
    assert_ne!(host.property("gitea.service", "ActiveState"), "active");
    host.ok(&["systemctl", "unmask", "--runtime", "postgresql-databases.service"]);
    host.ok(&["systemctl", "start", "postgresql-databases.service"]);
    host.ok(&[
        "timeout",
        "60",
        "bash",
        "-c",
        "until systemctl is-active --quiet gitea.service; do sleep 0.2; done",
    ]);
    host.ok(&[
        "timeout",
        "60",
        "bash",
        "-c",
        "until curl -sf --unix-socket /run/gitea/http.sock http://x/api/healthz; do sleep 0.2; done",
    ]);
}

fn another_client_restarts_no_server(host: &Host, tree: &Tree) {
    let units = [
        "authentik-server.service",
        "authentik-worker.service",
        "postgresql.service",
        "gitea.service",
        "caddy.service",
    ];
    let lives = || units.map(|unit| host.property(unit, "InvocationID"));
    let before = lives();
    let file = "environments/homelab.star";
    // A site that opens a path, and an application that is no client any more.
    tree.edit(
        file,
        "whoami(auth = \"forward\", access",
        "whoami(auth = \"forward\", public = [\"/health\"], access",
    );
    tree.edit(file, "access = Access(groups = [\"nextcloud-users\"])", "auth = \"public\"");
    host.push(&tree.bundle("homelab"), "/root/bundle.tar");
    let said = host.ok(&["rick-activate", "/root/bundle.tar"]);
    assert_eq!(lives(), before, "{said}");
    for unit in [
        "authentik-blueprints.service",
        "rick-secrets-authentik-clients.service",
        "nextcloud.service",
        "caddy.service",
    ] {
        assert!(said.contains(unit), "{unit} in {said}");
    }
    authentik_was_told_what_was_compiled(host);
    assert_eq!(ask(host, "whoami.jnss.me/health", &[]).0, "200");
    // It keeps its own accounts now.
    assert_eq!(ask(host, "cloud.jnss.me/status.php", &[]).0, "200");
}

#[test]
fn client_projects_live_side_by_side() {
    require_hosts!();
    let tree = source::buildable();
    let file = "environments/production.star";
    tree.edit(
        file,
        "caddy(email = \"admin@jnss.me\")",
        "caddy(email = \"admin@jnss.me\", tls = \"internal\")",
    );
    tree.edit(
        file,
        "            gallery(name = \"sigvild\"",
        "            gallery(name = \"fjord\", title = \"Fjord & Sons\", auth = \"public\"),\n            gallery(name = \"sigvild\"",
    );
    kept::within_reach(&tree);
    let host = Host::boot("mini-vps");
    host.push(&activator(), "/usr/local/bin/rick-activate");
    host.push(&tree.bundle("production"), "/root/bundle.tar");
    standin::make_secrets(&host, "/root/bundle.tar");
    host.ok(&["rick-activate", "/root/bundle.tar"]);

    let photo = [b"\x89PNG\r\n\x1a\n".as_slice(), b"a photo"].concat();
    host.write("/root/photo.png", &photo);
    let upload = |project: &str, token_of: &str| {
        let token = host.sh(&format!("cat /run/rick/secrets/{token_of}/{token_of}-upload-token"));
        let header = format!("Authorization: Bearer {token}");
        let photo = ["--upload-file", "/root/photo.png", "--output", "/dev/null", "--header", &header];
        let url = format!("https://{project}.jnss.me/photos/photo.png");
        site::fetch(&host, &[&photo[..], &["--write-out", "%{http_code}", &url]].concat())
    };
    assert_eq!(upload("sigvild", "fjord"), "401");
    assert_eq!(upload("sigvild", "sigvild"), "201");
    let (status, _, page) = ask(&host, "sigvild.jnss.me/", &[]);
    assert_eq!(status, "200");
    assert!(page.contains("Sigvild Gallery") && page.contains("photos/photo.png"), "{page}");
    let (_, _, other) = ask(&host, "fjord.jnss.me/", &[]);
    assert!(other.contains("Fjord &amp; Sons") && !other.contains("photo.png"), "{other}");
    assert_eq!(host.read("/var/lib/sigvild/photos/photo.png"), photo);
    // Each is a user of its own, and reads nothing of the other.
    for (user, other) in [("sigvild", "fjord"), ("fjord", "sigvild")] {
        let looks = as_user(&host, user, &["ls", &format!("/var/lib/{other}")]);
        assert!(!looks.status.success(), "{user} reads the photos of {other}");
        assert_eq!(groups_of(&host, user), [""; 0]);
    }
    // Photos outlive everything that rick does.
    host.ok(&["rick-activate", "rollback", "0"]);
    assert_eq!(host.read("/var/lib/sigvild/photos/photo.png"), photo);
    host.ok(&["rick-activate", "rollback", "1"]);
    assert_eq!(ask(&host, "sigvild.jnss.me/photos/photo.png", &[]).0, "200");
}
