//! What an environment says once for all its services: who is told of failures, when the distribution may update itself, what is backed
//! up. On live hosts, with a listener that takes the messages.

use crate::support::kept::make_secret;
use crate::support::lab::wait_for;
use crate::support::source::{self, Tree};
use crate::support::{Host, activator, require_hosts, usual_suite};

/// Where messages go: the path is what nobody may see.
const URL: &str = "http://127.0.0.1:8089/topic-8c1f53?auth=token%22";

/// Takes messages, each into a file of its own; answers slowly, and looks meanwhile whether any process shows the URL.
const LISTENER: &str = r#"
import glob, http.server, json, os, time

class Listener(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        shown = []
        for process in glob.glob("/proc/[0-9]*"):
            for file in ["cmdline", "environ"]:
                try:
                    text = open(f"{process}/{file}", "rb").read()
                except OSError:
                    continue
                if b"8c1f53" in text:
                    shown.append(f"{process}/{file}: {text}")
        name = f"/root/messages/{time.time_ns()}"
        message = {"path": self.path, "type": self.headers["Content-Type"], "body": body.decode(), "shown": shown}
        with open(name + ".new", "w") as file:
            json.dump(message, file)
        os.rename(name + ".new", name)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass

os.makedirs("/root/messages", exist_ok=True)
http.server.HTTPServer(("127.0.0.1", 8089), Listener).serve_forever()
"#;

/// A repository's server, as restic's REST backend wants one: files by type and name, for who has the password.
const REST: &str = r#"
import base64, http.server, json, os

WHO = "Basic " + base64.b64encode(b"box:pass=word=").decode()

class Server(http.server.BaseHTTPRequestHandler):
    def answer(self, code, body=b"", length=None):
        self.send_response(code)
        self.send_header("Content-Type", "application/vnd.x.restic.rest.v2")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    def do(self):
        if self.headers["Authorization"] != WHO:
            return self.answer(401)
        path, _, query = self.path.partition("?")
        file = "/root/rest" + os.path.normpath(path)
        if self.command == "POST":
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if query != "create=true":
                os.makedirs(os.path.dirname(file), exist_ok=True)
                open(file, "wb").write(body)
            return self.answer(200)
        if path.endswith("/"):
            names = os.listdir(file) if os.path.isdir(file) else []
            entries = [{"name": name, "size": os.path.getsize(f"{file}/{name}")} for name in names]
            return self.answer(200, json.dumps(entries).encode())
        if not os.path.isfile(file):
            return self.answer(404)
        if self.command == "HEAD":
            return self.answer(200, length=os.path.getsize(file))
        if self.command == "DELETE":
            os.remove(file)
            return self.answer(200)
        body = open(file, "rb").read()
        if "Range" not in self.headers:
            return self.answer(200, body)
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        self.answer(206, body[int(first):int(last) + 1 if last else None])

    do_GET = do_HEAD = do_POST = do_DELETE = do

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", 8090), Server).serve_forever()
"#;

/// A service with state, one that breaks in every ugly way, one that breaks again and again, and one with a hostile name.
const LAB: &str = r#"
_UGLY = r"""printf '%%s\n' 'first line' '.' '$(touch /run/pwned)' '`touch /run/pwned`' '--config /etc/passwd' '@/etc/shadow"; url = "http://127.0.0.1:9/'; printf 'esc \033[31m, bad \377\376 bytes\n'; printf 'x%%.0s' $(seq 999); echo; printf 'ærlig\n'; exit 7"""

def _build(ctx):
    return [
        state("/var/lib/lab", user = "root", group = "root"),
        state("/var/lib/lab-more", user = "lab", group = "lab", mode = 0o700),
        user("lab"),
        unit("breaks.service", {"Service": {"Type": "oneshot", "ExecStart": command("/bin/bash", "-c", _UGLY.replace("%%", "%"))}}),
        unit("loops.service", {
            "Unit": {"StartLimitIntervalSec": 60, "StartLimitBurst": 8},
            "Service": {"ExecStart": "/bin/false", "Restart": "on-failure", "RestartSec": "2s"},
        }),
        unit("direct.service", {
            "Unit": {"StartLimitIntervalSec": 60, "StartLimitBurst": 4},
            "Service": {"ExecStart": "/bin/false", "Restart": "on-failure", "RestartSec": "100ms", "RestartMode": "direct"},
        }),
        unit("breaks@.service", {"Service": {"Type": "oneshot", "ExecStart": "/bin/false"}}),
    ]

lab = module(doc = "A laboratory.", build = _build)
"#;

/// An environment of one host, with its policy.
fn environment(tree: &Tree, name: &str, policy: &str) {
    tree.write("modules/lab/lab.star", LAB);
    tree.write(
        &format!("environments/{name}.star"),
        &format!(
            r#"load("//modules/alerts", "alerts")
load("//modules/backups", "backups")
load("//modules/lab", "lab")
load("//modules/updates", "updates")

environment(
    name = "{name}",
    services = [{policy}],
    hosts = [host(name = "box", domain = "example.net", os = "debian-13", services = [lab()])],
)
"#
        ),
    );
}

const POLICY: &str = r#"
        alerts(webhook = "alert-webhook"),
        updates(window = "Sun *-*-* 03:00", spread = "20min"),
        backups(repository = "/srv/backups", keep_last = 2, keep_daily = 0, keep_weekly = 0, keep_monthly = 0),
    "#;

/// A host with the environment `lab`, its secrets, and the listener.
fn lab(tree: &Tree) -> Host {
    environment(tree, "lab", POLICY);
    let host = Host::boot("box");
    host.push(&activator(), "/usr/local/bin/rick-activate");
    host.write("/root/listener.py", LISTENER);
    listen(&host);
    make_secret(&host, "alert-webhook", URL);
    make_secret(&host, "restic-password", "correct horse");
    host
}

fn listen(host: &Host) {
    host.ok(&["systemd-run", "--quiet", "--unit=listener", "python3", "/root/listener.py"]);
    wait_for("the listener", || host.sh("ss --tcp --listening --numeric --no-header").contains(":8089"));
}

#[track_caller]
fn activate(host: &Host, tree: &Tree) -> String {
    host.push(&tree.bundle("lab"), "/root/bundle.tar");
    host.ok(&["rick-activate", "/root/bundle.tar"])
}

/// What the listener was told about a unit, so far.
fn told(host: &Host, unit: &str) -> Vec<String> {
    let all = host.sh("shopt -s nullglob; for file in /root/messages/*[0-9]; do cat $file; echo; done");
    let messages = all.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let mut bodies = Vec::new();
    for message in messages {
        assert_eq!(message["shown"], serde_json::json!([]), "a process shows the URL");
        assert_eq!(message["path"], "/topic-8c1f53?auth=token%22", "it came to another place");
        assert_eq!(message["type"], "text/plain; charset=utf-8");
        let body = message["body"].as_str().unwrap().to_owned();
        if body.starts_with(&format!("[lab/box] {unit} failed: ")) {
            bodies.push(body);
        }
    }
    bodies
}

fn fails(host: &Host, unit: &str) {
    assert!(!host.run(&["systemctl", "start", unit]).status.success(), "{unit} goes well");
}

/// The units of our modules' own are shut in.
fn shut_in(host: &Host) {
    for file in host.sh("ls /usr/local/lib/systemd/system/rick-*.service | grep -v rick-resume").lines() {
        host.ok(&["systemd-analyze", "--no-pager", "security", "--offline=true", "--threshold=40", file]);
        let verify =
            ["systemd-analyze", "verify", "--man=no", "--generators=no", "--recursive-errors=no", file];
        host.ok(&verify);
    }
}

#[test]
fn whoever_is_to_know_is_told_of_every_failure() {
    require_hosts!();
    let tree = source::modules();
    let host = lab(&tree);
    activate(&host, &tree);
    shut_in(&host);

    a_unit_of_ours_that_fails_is_told(&host);
    a_unit_of_the_distribution_that_fails_is_told(&host);
    the_name_of_a_unit_is_only_a_name(&host);
    a_crash_loop_is_told_three_times(&host);
    a_restart_that_leaves_the_failed_state_out_is_told_at_its_end(&host);
    the_url_is_nowhere(&host);
    a_failed_alert_starts_no_other(&host);
    assert!(host.ok(&["rick-activate", "/root/bundle.tar"]).contains("nothing to do"));
    a_mail_is_handed_to_sendmail(&host, &tree);
    host.ok(&["rick-activate", "rollback", "0"]);
    assert_eq!(host.property("caddy.service", "OnFailure"), "");
}

fn a_unit_of_ours_that_fails_is_told(host: &Host) {
    fails(host, "breaks.service");
    wait_for("the message", || !told(host, "breaks.service").is_empty());
    let body = told(host, "breaks.service").remove(0);
    let start = "[lab/box] breaks.service failed: exit-code\n\n\
                 environment: lab\nhost: box\nunit: breaks.service\nresult: exit-code (exited, 7)\n\n";
    let lines = body.strip_prefix(start).unwrap_or_else(|| panic!("{body}"));
    assert_eq!(lines.lines().count(), 10, "{body}");
    assert!(body.len() <= 4096, "{} bytes", body.len());
    assert!(body.chars().all(|c| c == '\n' || !c.is_control()), "{body:?}");
    for part in ["@/etc/shadow\"; url = \"http://127.0.0.1:9/", "blob data", "xxxxxxx\n", ": ærlig\n"] {
        assert!(lines.contains(part), "{part}: {body}");
    }
    assert!(!body.contains("root:"), "{body}");
    host.sh("! test -e /run/pwned");
}

fn a_unit_of_the_distribution_that_fails_is_told(host: &Host) {
    assert!(host.property("caddy.service", "FragmentPath").starts_with("/usr/lib/"));
    host.ok(&["systemctl", "kill", "--signal=KILL", "caddy.service"]);
    wait_for("the message", || !told(host, "caddy.service").is_empty());
    let body = told(host, "caddy.service").remove(0);
    assert!(body.contains("\nresult: signal (killed, KILL)\n"), "{body}");
    host.ok(&["systemctl", "start", "caddy.service"]);
}

fn the_name_of_a_unit_is_only_a_name(host: &Host) {
    let unit = r"breaks@-\x2d\x24(touch\x20pwned):%a.service".replace(['(', ')', '%'], "_");
    fails(host, &unit);
    wait_for("the message", || !told(host, &unit).is_empty());
    assert!(told(host, &unit)[0].contains(&format!("\nunit: {unit}\n")));
    assert!(told(host, &unit)[0].contains("Main process exited"), "its journal");
}

fn a_crash_loop_is_told_three_times(host: &Host) {
    host.ok(&["systemctl", "start", "loops.service"]);
    wait_for("the end of the loop", || {
        host.property("loops.service", "ActiveState") == "failed"
            && host.property("loops.service", "NRestarts") == "8"
    });
    let alert = "rick-alert@loops.service.service";
    wait_for("the limit", || host.property(alert, "Result") == "start-limit-hit");
    assert_eq!(told(host, "loops.service").len(), 3);
    host.ok(&["systemctl", "reset-failed", alert, "loops.service"]);
    host.ok(&["systemctl", "start", alert]);
    wait_for("the message", || told(host, "loops.service").len() == 4);
}

fn a_restart_that_leaves_the_failed_state_out_is_told_at_its_end(host: &Host) {
    host.ok(&["systemctl", "start", "direct.service"]);
    wait_for("the message", || !told(host, "direct.service").is_empty());
    assert_eq!(host.property("direct.service", "ActiveState"), "failed");
    assert_eq!(told(host, "direct.service").len(), 1);
    assert_eq!(host.property("rick-alert@direct.service.service", "Result"), "success");
}

fn the_url_is_nowhere(host: &Host) {
    assert!(!host.ok(&["journalctl", "--boot", "--no-pager"]).contains("8c1f53"), "the journal has it");
    host.sh("! grep -r 8c1f53 /var/lib/rick /etc/systemd /run/systemd --include=* --quiet");
}

fn a_failed_alert_starts_no_other(host: &Host) {
    host.ok(&["systemctl", "stop", "listener.service"]);
    let before = told(host, "breaks.service").len();
    fails(host, "breaks.service");
    let alert = "rick-alert@breaks.service.service";
    wait_for("the failure of the alert", || host.property(alert, "ActiveState") == "failed");
    assert_eq!(host.property(alert, "Result"), "exit-code");
    assert_eq!(host.property(alert, "OnFailure"), "");
    let loaded = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "rick-alert@rick-alert*"];
    assert_eq!(host.ok(&loaded), "");
    // The next failure is told again.
    listen(host);
    fails(host, "breaks.service");
    wait_for("the message", || told(host, "breaks.service").len() == before + 1);
    wait_for("its end", || host.property(alert, "ActiveState") == "inactive");
}

/// A program that keeps what it is given stands in for a mail server's.
fn a_mail_is_handed_to_sendmail(host: &Host, tree: &Tree) {
    environment(tree, "lab", "alerts(mail = \"admin@example.net\")");
    host.push(&tree.bundle("lab"), "/root/bundle.tar");
    let refused = host.run(&["rick-activate", "/root/bundle.tar"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("this host lacks `/usr/sbin/sendmail`"));
    host.write("/usr/sbin/sendmail", "#!/bin/sh\n{ printf '%s\\n' \"$@\"; cat; } >/var/spool/kept/$$\n");
    host.sh("chmod 755 /usr/sbin/sendmail; install -d -o rick-alert /var/spool/kept");
    host.ok(&["rick-activate", "/root/bundle.tar"]);
    shut_in(host);
    host.run(&["systemctl", "reset-failed", "rick-alert@breaks.service.service"]);
    fails(host, "breaks.service");
    wait_for("the mail", || {
        !host.sh("find /var/spool/kept -type f").is_empty()
            && host.property("rick-alert@breaks.service.service", "ActiveState") == "inactive"
    });
    let mail = host.sh("cat /var/spool/kept/*");
    let start = "-i\n--\nadmin@example.net\nTo: admin@example.net\nSubject: [lab/box] breaks.service failed: exit-code\nMIME-Version: 1.0\n";
    assert!(mail.starts_with(start), "{mail}");
    assert!(mail.contains("\n\n[lab/box] breaks.service failed: exit-code\n\nenvironment: lab\n"), "{mail}");
}

#[test]
fn updates_keep_to_their_window_and_state_is_backed_up() {
    require_hosts!();
    let tree = source::modules();
    let host = lab(&tree);
    let timer = |property: &str| host.property("apt-daily-upgrade.timer", property);
    let calendar = || {
        host.sh(
            "systemctl show apt-daily-upgrade.timer --property=TimersCalendar | grep -o 'OnCalendar=[^;]*'",
        )
    };
    let before = (calendar(), timer("RandomizedDelayUSec"), timer("Persistent"), timer("ActiveState"));
    activate(&host, &tree);
    shut_in(&host);

    the_next_update_is_in_the_window(&host);
    apt_is_told_and_etc_does_not_overrule(&host);
    what_is_restored_is_what_was_there(&host);
    the_policy_says_what_is_kept(&host);
    what_cannot_be_backed_up_is_told(&host);
    a_server_takes_backups_from_who_has_its_password(&host, &tree);
    a_key_is_given_to_ssh(&host, &tree);

    // Its repository cannot be reached, so what it keeps cannot be copied before it leaves.
    let output = host.run(&["rick-activate", "rollback", "0"]);
    assert_eq!(output.status.code(), Some(3));
    host.ok(&["rick-activate", "rollback", "0", "--no-copies"]);
    assert_eq!((calendar(), timer("RandomizedDelayUSec"), timer("Persistent"), timer("ActiveState")), before);
    assert_eq!(host.property("apt-daily-upgrade.service", "Environment"), "");
    assert_ne!(host.property("rick-backup-lab.timer", "ActiveState"), "active");
    assert_eq!(snapshots(&host), 2, "the backups stay");
}

fn the_next_update_is_in_the_window(host: &Host) {
    host.ok(&["systemd-analyze", "calendar", "Sun *-*-* 03:00"]);
    let show =
        "systemctl show --timestamp=unix --value --property=NextElapseUSecRealtime apt-daily-upgrade.timer";
    let next = host.sh(&format!("date --date=\"$({show})\" '+%a %H%M'"));
    let (day, time) = next.split_once(' ').unwrap();
    assert_eq!(day, "Sun");
    // The spread of twenty minutes.
    assert!(("0300"..="0320").contains(&time), "{next}");
    assert!(host.ok(&["systemctl", "list-timers"]).contains("apt-daily-upgrade.timer"));
    for unit in ["apt-daily-upgrade.service", "apt-daily.service"] {
        assert_eq!(host.property(unit, "ExecMainStartTimestampMonotonic"), "0", "{unit} was started");
    }
}

fn apt_is_told_and_etc_does_not_overrule(host: &Host) {
    host.write(
        "/etc/apt/apt.conf.d/99-mine",
        "Unattended-Upgrade::Automatic-Reboot \"true\";\nAPT::Mine \"kept\";\n",
    );
    let environment = host.property("apt-daily-upgrade.service", "Environment");
    let known = host.sh(&format!("env {environment} apt-config dump"));
    for line in [
        "Unattended-Upgrade::Automatic-Reboot \"false\";",
        "APT::Periodic::Unattended-Upgrade \"always\";",
        "APT::Mine \"kept\";",
    ] {
        assert!(known.lines().any(|known| known == line), "{line}: {known}");
    }
    host.ok(&["systemctl", "start", "apt-daily-upgrade.service"]);
    let log = host.sh("cat /var/log/unattended-upgrades/unattended-upgrades.log");
    let allowed: Vec<_> = log.lines().filter_map(|line| line.split_once("Allowed origins are: ")).collect();
    assert_eq!(allowed.len(), 1, "{log}");
    let suite = usual_suite();
    assert_eq!(allowed[0].1, format!("origin=Debian,codename={suite}-security,label=Debian-Security"));
}

/// restic as the manual of the module says.
fn restic(arguments: &str) -> String {
    format!(
        "export RESTIC_REPOSITORY=/srv/backups\n\
         export RESTIC_PASSWORD_COMMAND='systemd-creds decrypt --name=restic-password /etc/credstore.encrypted/restic-password -'\n\
         restic {arguments}"
    )
}

fn snapshots(host: &Host) -> usize {
    let list = host.sh(&restic("snapshots --json --host box --tag lab,lab"));
    serde_json::from_str::<serde_json::Value>(&list).unwrap().as_array().unwrap().len()
}

fn what_is_restored_is_what_was_there(host: &Host) {
    assert_eq!(host.property("rick-backup-lab.timer", "ActiveState"), "active");
    // By hand as often as anybody likes: systemd's own limit is five starts in ten seconds.
    assert_eq!(host.property("rick-backup-lab.service", "StartLimitIntervalUSec"), "0");
    // A service that has nothing yet is well, and so is one of whose directories one stays empty.
    host.ok(&["systemctl", "start", "rick-backup-lab.service"]);
    host.ok(&["systemctl", "start", "rick-backup-lab.service"]);
    host.sh(
        "cd /var/lib/lab; mkdir -- '-x y'; printf 'a\\0b' >'-x y/new\nline'; : >empty; ln -s /etc/shadow link
         printf bytes >$'not\\377utf8'; head -c 300000 /dev/urandom >/var/lib/lab-more/random
         mkdir -m 700 /var/lib/lab-more/inside; printf secret >/var/lib/lab-more/inside/file
         chmod 600 /var/lib/lab-more/random; chown -R lab:lab /var/lib/lab-more",
    );
    host.ok(&["systemctl", "start", "rick-backup-lab.service"]);
    for path in ["/var/lib/lab", "/var/lib/lab-more"] {
        host.sh(&restic(&format!(
            "restore latest:{path} --host box --tag lab,lab --target /root/back{path}"
        )));
        host.sh(&format!("diff --recursive --no-dereference {path} /root/back{path}"));
        let listing = "find . -mindepth 1 -printf '%p %y %m %U %G %s %l %T@\\n' | sort";
        host.sh(&format!("diff <(cd {path} && {listing}) <(cd /root/back{path} && {listing})"));
    }
}

fn the_policy_says_what_is_kept(host: &Host) {
    for expected in [2, 2] {
        host.ok(&["systemctl", "start", "rick-backup-lab.service"]);
        assert_eq!(snapshots(host), expected);
    }
    host.sh(&restic("check --read-data"));
}

#[track_caller]
fn backup_fails(host: &Host, because: &str) {
    let job = "rick-backup-lab.service";
    host.run(&["systemctl", "reset-failed", "rick-alert@rick-backup-lab.service.service"]);
    let before = told(host, job).len();
    fails(host, job);
    wait_for("the message", || told(host, job).len() > before);
    let messages = told(host, job);
    assert!(messages[before].contains(because), "{}", messages[before]);
}

fn what_cannot_be_backed_up_is_told(host: &Host) {
    host.sh("mv /var/lib/lab /root/lab");
    backup_fails(host, "/var/lib/lab of `lab` is empty, and was not before");
    host.sh("mkdir /var/lib/lab");
    backup_fails(host, "/var/lib/lab of `lab` is empty, and was not before");
    host.sh("rmdir /var/lib/lab; mv /root/lab /var/lib/lab");
    assert_eq!(snapshots(host), 2);

    host.sh("mv /etc/credstore.encrypted/restic-password /root/");
    make_secret(host, "restic-password", "wrong horse");
    backup_fails(host, "the password does not open the repository");
    host.sh("mv /root/restic-password /etc/credstore.encrypted/");
    assert_eq!(snapshots(host), 2);

    // Without its capability it cannot read what belongs to others.
    let drop_in = "/run/systemd/system/rick-backup-lab.service.d/weak.conf";
    host.write(drop_in, "[Service]\nCapabilityBoundingSet=\n");
    host.sh("chmod 755 /var/lib/lab-more; systemctl daemon-reload");
    backup_fails(host, "is incomplete: restic backup: something could not be read");
    assert_eq!(snapshots(host), 3, "the incomplete one is there, and nothing was forgotten");
    host.sh(&format!("rm {drop_in}; chmod 700 /var/lib/lab-more; systemctl daemon-reload"));
    host.ok(&["systemctl", "start", "rick-backup-lab.service"]);
    assert_eq!(snapshots(host), 2);
}

fn a_server_takes_backups_from_who_has_its_password(host: &Host, tree: &Tree) {
    let repository = "rest:http://127.0.0.1:8090/lab";
    let policy = format!(
        "alerts(webhook = \"alert-webhook\"), backups(repository = \"{repository}\", credentials = \"backup-server\", keep_last = 1, \
         keep_daily = 0, keep_weekly = 0, keep_monthly = 0)"
    );
    environment(tree, "lab", &policy);
    host.write("/root/rest.py", REST);
    host.ok(&["systemd-run", "--quiet", "--unit=rest", "python3", "/root/rest.py"]);
    make_secret(
        host,
        "backup-server",
        "# Of the server.\nRESTIC_REST_USERNAME=box\nRESTIC_REST_PASSWORD=pass=word=",
    );
    activate(host, tree);
    shut_in(host);
    for _ in 0..2 {
        host.ok(&["systemctl", "start", "rick-backup-lab.service"]);
    }
    let ask = "snapshots --json --host box --tag lab,lab";
    let list = host.sh(&restic(&format!("--repo {repository} {ask}"))
        .replace("restic --repo", "RESTIC_REST_USERNAME=box RESTIC_REST_PASSWORD=pass=word= restic --repo"));
    assert_eq!(serde_json::from_str::<serde_json::Value>(&list).unwrap().as_array().unwrap().len(), 1);
    assert_eq!(host.sh("ls /root/rest/lab/snapshots | wc -l"), "1");

    host.sh("rm /etc/credstore.encrypted/backup-server");
    make_secret(host, "backup-server", "LD_PRELOAD=/root/evil.so");
    backup_fails(host, "the credentials have a line that is no NAME=VALUE for restic");
    host.sh("rm /etc/credstore.encrypted/backup-server");
    make_secret(host, "backup-server", "RESTIC_REST_USERNAME=box\nRESTIC_REST_PASSWORD=wrong");
    backup_fails(host, "401");
}

/// There is no SSH on the host: what stands in for it says how it was called, and that there is no way.
fn a_key_is_given_to_ssh(host: &Host, tree: &Tree) {
    let policy = "alerts(webhook = \"alert-webhook\"), backups(repository = \"sftp:backup@nas.example.net:/srv/lab\", \
                  ssh_key = \"backup-key\", known_hosts = [\"nas.example.net ssh-ed25519 AAAA\"])";
    environment(tree, "lab", policy);
    make_secret(host, "backup-key", "a key");
    let ssh = "#!/bin/sh\nprintf '%s\\n' \"$@\" >/var/cache/rick-backup/said\ncat \"$CREDENTIALS_DIRECTORY/backup-key\"\nexit 255\n";
    host.write("/usr/bin/ssh", ssh);
    host.sh("chmod 755 /usr/bin/ssh");
    activate(host, tree);
    shut_in(host);
    backup_fails(host, "unable to start the sftp session");
    let said = host.sh("cat /var/cache/rick-backup/said");
    let after = |word: &str| said.lines().skip_while(|line| *line != word).nth(1);
    assert_eq!(after("nas.example.net"), Some("-l"), "{said}");
    assert_eq!(after("-l"), Some("backup"), "{said}");
    assert_eq!(after("-i"), Some("/run/credentials/rick-backup-lab.service/backup-key"), "{said}");
    assert_eq!(after("-s"), Some("sftp"), "{said}");
    let hosts = said.lines().find_map(|line| line.strip_prefix("UserKnownHostsFile="));
    assert_eq!(host.read(hosts.unwrap_or_else(|| panic!("{said}"))), b"nas.example.net ssh-ed25519 AAAA\n");
}

/// What the host gets of the environment `lab` with this policy.
fn shown(policy: &str) -> String {
    let tree = source::modules();
    environment(&tree, "lab", policy);
    let output = tree.rickbuild(&["show", "lab"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn environments_that_differ_in_their_policy_differ_in_nothing_else() {
    let best_effort = shown(POLICY);
    assert_eq!(best_effort, shown(POLICY));
    let available = shown(
        "alerts(webhook = \"other-webhook\", mail = \"admin@example.net\"),
         updates(window = \"*-*-* 04:00\", reboot = True, security_only = False),
         backups(repository = \"sftp:backup@backup.example.net:/srv\", ssh_key = \"backup-key\", known_hosts = [\"backup.example.net ssh-ed25519 AAAA\"],
             schedule = \"*-*-* 00/6:00\", keep_monthly = 12)",
    );
    for (text, other, expected) in [
        (
            &best_effort,
            &available,
            [
                "OnCalendar=Sun *-*-* 03:00",
                "/srv/backups of backups, keeps 2 last\n",
                "Automatic-Reboot \"false\"",
            ],
        ),
        (
            &available,
            &best_effort,
            [
                "OnCalendar=*-*-* 04:00",
                "sftp:backup@backup.example.net:/srv of backups, keeps 3 last, 7 daily, 4 weekly, 12 monthly\n",
                "Automatic-Reboot \"true\"",
            ],
        ),
    ] {
        for part in expected {
            assert!(text.contains(part) && !other.contains(part), "{part}: {text}");
        }
    }
    // A file of the one is, to the letter, a file of the other, unless it is about the policy.
    let files = |text: &str| text.split("\n== ").skip(1).map(str::to_owned).collect::<Vec<_>>();
    let theirs = files(&available);
    for file in files(&best_effort).iter().filter(|file| file.starts_with("units/") && !theirs.contains(file))
    {
        let name = file.split_whitespace().next().unwrap();
        assert!(
            name.starts_with("units/rick-") || name.starts_with("units/apt-") || name == "units/rick.target",
            "{name}"
        );
    }
}
