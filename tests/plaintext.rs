//! Secrets on real hosts: where their values are, and where they never are.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::crash::{self, ACTIVATE, STRACE, some};
use crate::support::lab::{
    activate, describe, done, host, is_well, item, lab, lives, push, said, sleeper, wait_for,
};
use crate::support::source::{self, Tree};
use crate::support::{Host, require_hosts};

/// Who reads which secret: `a` as a file of its own, `b` as environment, `c` as a credential, `e` as what `modules/secrets` makes of one, `f`
/// both in a container; `d` reads none.
const UNITS: [&str; 6] = ["a.service", "b.service", "c.service", "d.service", "e.service", "f.service"];
/// What is restarted for those who read the one that changes; that takes `e` along.
const READERS: [&str; 4] =
    ["restart a.service", "restart c.service", "restart f.service", "restart rick-secrets-lab.service"];
/// What reads anew.
const RESTART: &str = "systemctl restart a.service b.service c.service f.service rick-secrets-lab.service";

#[test]
fn a_changed_secret_restarts_exactly_who_reads_it_and_no_value_is_on_disk() {
    require_hosts!();
    let mut host = host("lab");
    let tree = tree_for(&host, "debian-13");
    let key = key_of(&host);
    encrypt(&tree, "key", FIRST, &key);
    encrypt(&tree, "settings", &format!("TOKEN={SETTING}\n"), &key);
    let told = activate(&host, &tree, "lab");
    assert!(told.contains("key, settings"), "{told}");
    all_read(&host, FIRST);
    a_file_is_for_its_reader_alone(&host);
    nothing_is_decrypted_twice(&host);

    let before = lives(&host, &["b.service", "d.service"]);
    encrypt(&tree, "key", SECOND, &key);
    let told = activate(&host, &tree, "lab");
    assert_eq!(done(&told), READERS, "{told}");
    all_read(&host, SECOND);
    assert_eq!(lives(&host, &["b.service", "d.service"]), before);
    assert_eq!(in_memory(&host), 3, "the one before is kept for the way back");
    let back = host.ok(&["rick-activate", "--settle=0", "rollback"]);
    assert_eq!(done(&back), READERS);
    all_read(&host, FIRST);
    activate(&host, &tree, "lab");

    host.reboot();
    is_well(&host);
    all_read(&host, SECOND);
    assert_eq!(in_memory(&host), 2);
    host.sh("rm -rf /run/rick/secrets/*");
    assert!(host.ok(&["rick-activate", "--settle=0", "/root/bundle.tar"]).contains("decrypt"));
    host.sh(RESTART);
    all_read(&host, SECOND);

    a_secret_for_somebody_else_is_refused_before_anything_is_touched(&host, &tree);
    killed_while_it_decrypts(&host, &tree, &key);
    killed_while_it_switches(&host, &tree, &key);
    no_value_is_anywhere_but_in_memory(&host, &tree);
    podman_itself_would_write_it_to_disk(&host);
    host.ok(&["rick-activate", "uninstall"]);
    assert_eq!(in_memory(&host), 0);
}

#[test]
fn what_systemd_creds_and_podman_keep_is_read_where_a_host_has_no_key() {
    require_hosts!();
    let host = host("lab");
    let reads = |name: &str, what: &str| format!("ExecStartPre=/bin/sh -c 'cat {what} > /run/{name}/seen'");
    let c = sleeper(
        "c.service",
        "",
        &format!("RuntimeDirectory=c\nLoadCredentialEncrypted=key\n{}", reads("c", "%d/key")),
    );
    let own = container("own,uid=\" + uid(\"app\") + \",mode=0400");
    let tree =
        lab(&["        user(\"app\", description = \"An application\"),\n", &c, BOX, &own, E].concat());
    with_box_and_keys(&tree);

    push(&host, &tree, "lab");
    let output = host.run(&["rick-activate", "--settle=0", "/root/bundle.tar"]);
    assert!(said(&output).contains("this host lacks the secret `key`"), "{}", said(&output));
    host.sh("install -d -m 0700 /etc/credstore.encrypted");
    let encrypt = ["systemd-creds", "encrypt", "--name=key", "-", "/etc/credstore.encrypted/key"];
    assert!(host.run_with(&encrypt, FIRST.as_bytes()).status.success());
    // Of this one nobody says `secret(…)`: it is between Podman and who made it there.
    let create = ["sh", "-c", "cat | podman secret create own -"];
    assert!(host.run_with(&create, SETTING.as_bytes()).status.success());
    host.ok(&["rick-activate", "--settle=0", "/root/bundle.tar"]);
    assert_eq!(host.ok(&["cat", "/run/c/seen"]), FIRST);
    assert_eq!(host.ok(&["cat", "/run/e/seen"]), FIRST);
    assert_eq!(host.ok(&["podman", "exec", "f", "/bin/cat", "/run/secrets/own"]), SETTING);
    assert_eq!(found_below(host.disk(), FIRST), "");
    assert_ne!(found_below(host.disk(), SETTING), "", "Podman keeps its own in clear, as `rickbuild` warns");
}

/// A service that reads what `modules/secrets` makes of `key`.
const E: &str = r#"    ] + keys.nouns + [
        unit("e.service", {
            "Unit": {"Requires": keys.unit, "After": keys.unit},
            "Service": {
                "Type": "exec",
                "User": "app",
                "RuntimeDirectory": "e",
                "ExecStartPre": command("/bin/cp", "--no-preserve=mode", keys.paths["key"], "/run/e/seen"),
                "ExecStart": command("/bin/sleep", "infinity"),
            },
            "Install": {"WantedBy": "multi-user.target"},
        }),
"#;

/// The image of what runs in containers here.
const BOX: &str = r#"        image("box", layers = {"/bin/" + name: "busybox" for name in ["cat", "sleep"]}, command = ["/bin/sleep", "infinity"]),
"#;

/// A container `f` that sleeps, with these secrets.
fn container(secrets: &str) -> String {
    format!(
        r#"        quadlet("f.container", {{
            "Container": {{
                "Image": "localhost/box",
                "ContainerName": "f",
                "User": uid("app"),
                "Network": "none",
                "Secret": ["{secrets}"],
                "PodmanArgs": "--stop-signal=KILL",
            }},
            "Install": {{"WantedBy": "multi-user.target"}},
        }}),
"#
    )
}

/// What the module of the laboratory needs for [`BOX`], and the `keys` that `modules/secrets` makes of `key`.
fn with_box_and_keys(tree: &Tree) {
    fs::copy("/bin/busybox", tree.path().join("modules/lab/busybox")).unwrap();
    tree.edit(
        "modules/lab/lab.star",
        "def _build(ctx):\n",
        "load(\"//modules/secrets\", \"secrets\")\n\ndef _build(ctx):\n    keys = secrets(ctx, user = \"app\", names = [\"key\"])\n",
    );
}

/// No text of any program holds them.
const FIRST: &str = "first-Aeph0Ohn-of-two";
const SECOND: &str = "second-oht7Iech-of-two";
const SETTING: &str = "setting-Ieshae4i";

pub(crate) fn key_of(host: &Host) -> String {
    host.ok(&["ssh-keygen", "-A"]);
    host.ok(&["cat", "/etc/ssh/ssh_host_ed25519_key.pub"])
}

fn tree_for(host: &Host, os: &str) -> Tree {
    let tree = source::modules();
    tree.write(
        "environments/lab.star",
        &format!(
            "load(\"//modules/lab\", \"lab\")\n\
             environment(name = \"lab\", hosts = [host(name = \"lab\", domain = \"lab.test\", os = \"{os}\", \
             ssh_key = \"{}\", services = [lab()])])\n",
            key_of(host)
        ),
    );
    // What a unit has seen is written to where only memory is.
    let unit = |name: &str, more: &str| {
        let text = format!(
            "[Service]\nType=exec\nRuntimeDirectory={name}\n{more}\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
        );
        item(&format!("{name}.service"), &text, "")
    };
    let read = |what: &str, name: &str| format!("ExecStartPre=/bin/sh -c 'cat {what} > /run/{name}/seen'");
    let a_and_b = r#"        unit("a.service", {
            "Service": {
                "Type": "exec",
                "User": "app",
                "RuntimeDirectory": "a",
                "ExecStartPre": command("/bin/cp", "--no-preserve=mode", secret_file("key", user = "app"), "/run/a/seen"),
                "ExecStart": command("/bin/sleep", "infinity"),
            },
            "Install": {"WantedBy": "multi-user.target"},
        }),
        unit("b.service", {
            "Service": {
                "Type": "exec",
                "RuntimeDirectory": "b",
                "EnvironmentFile": secret_file("settings"),
                "ExecStartPre": "/bin/sh -c 'printenv TOKEN > /run/b/seen'",
                "ExecStart": command("/bin/sleep", "infinity"),
            },
            "Install": {"WantedBy": "multi-user.target"},
        }),
"#;
    let c = unit("c", &format!("LoadCredentialEncrypted=key\n{}", read("%d/key", "c")));
    let stated = "        user(\"app\", description = \"An application\"),\n        secret(\"key\"),\n        secret(\"settings\"),\n";
    let f = container("key\", \"settings,target=/etc/settings,gid=\" + gid(\"app\") + \",mode=0440");
    describe(&tree, &[stated, a_and_b, &c, &unit("d", ""), E, BOX, &f].concat());
    with_box_and_keys(&tree);
    tree
}

/// Encrypts a secret of the environment with age's own program.
pub(crate) fn encrypt(tree: &Tree, name: &str, value: &str, key: &str) {
    let file = tree.path().join("secrets/lab").join(format!("{name}.age"));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let mut age = Command::new("age");
    let mut age = age
        .args(["--armor", "--recipient", key, "--output"])
        .arg(&file)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut age.stdin.take().unwrap(), value.as_bytes()).unwrap();
    assert!(age.wait().unwrap().success());
}

#[track_caller]
fn all_read(host: &Host, key: &str) {
    // One that systemd restarts with another may be on its way.
    for unit in UNITS {
        wait_for(unit, || host.property(unit, "ActiveState") == "active");
    }
    assert_eq!(host.ok(&["cat", "/run/a/seen"]), key);
    assert_eq!(host.ok(&["cat", "/run/b/seen"]), SETTING);
    assert_eq!(host.ok(&["cat", "/run/c/seen"]), key);
    assert_eq!(host.ok(&["cat", "/run/e/seen"]), key);
    assert_eq!(host.ok(&["podman", "exec", "f", "/bin/cat", "/run/secrets/key"]), key);
    let settings = host.ok(&["podman", "exec", "f", "/bin/cat", "/etc/settings"]);
    assert_eq!(settings, format!("TOKEN={SETTING}"));
}

fn a_file_is_for_its_reader_alone(host: &Host) {
    let files = host.sh("cd /run/rick/secrets && find . -regextype posix-extended -regex '[.]/[0-9a-f]{64}/.*' -type f -printf '%m %u %g %f\\n' | sort");
    assert_eq!(
        files,
        "400 app root app.root.400\n400 root root root.root.400\n400 root root root.root.400\n440 app app app.app.440"
    );
    assert_eq!(host.sh("stat -f -c %T /run/rick/secrets; stat -c %a /run/rick/secrets"), "tmpfs\n711");
    for script in [
        "ls /run/rick/secrets",
        "cat /run/rick/secrets/*/*",
        "cat /run/a/seen /proc/*/environ | grep -c hunted",
    ] {
        let output =
            host.run(&["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh", "-c", script]);
        assert!(!output.status.success() && !said(&output).contains(FIRST), "{script}: {}", said(&output));
    }
}

fn nothing_is_decrypted_twice(host: &Host) {
    let told = host.ok(&["rick-activate", "--settle=0", "/root/bundle.tar"]);
    assert!(told.contains("nothing to do") && !told.contains("decrypt"), "{told}");
}

/// How many encrypted files there are values of.
fn in_memory(host: &Host) -> usize {
    host.sh("ls /run/rick/secrets 2>/dev/null | grep -cE '^[0-9a-f]{64}$' || true").parse().unwrap()
}

fn a_secret_for_somebody_else_is_refused_before_anything_is_touched(host: &Host, tree: &Tree) {
    let other = tempfile::tempdir().unwrap();
    let place = other.path().join("key");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&place).status();
    assert!(made.unwrap().success());
    let key = fs::read_to_string(place.with_extension("pub")).unwrap();
    let mine = fs::read_to_string(tree.path().join("environments/lab.star")).unwrap();
    let before = lives(host, &UNITS);
    // As for the compiler, the host has that key.
    let said_key = key_of(host);
    tree.write("environments/lab.star", &mine.replace(&said_key, key.trim()));
    for name in ["key", "settings"] {
        encrypt(tree, name, "for somebody else", key.trim());
    }
    push(host, tree, "lab");
    let output = host.run(&["rick-activate", "--settle=0", "/root/bundle.tar"]);
    let told = said(&output);
    assert!(output.status.code() == Some(1) && told.contains("cannot be decrypted on this host"), "{told}");
    assert_eq!(lives(host, &UNITS), before);
    tree.write("environments/lab.star", &mine);
}

/// Whatever is killed in the middle, no half value is taken for a whole one.
fn killed_while_it_decrypts(host: &Host, tree: &Tree, key: &str) {
    encrypt(tree, "key", SECOND, key);
    encrypt(tree, "settings", &format!("TOKEN={SETTING}\n"), key);
    push(host, tree, "lab");
    for milliseconds in [20, 60, 100, 150, 200, 300] {
        host.sh("rm -rf /run/rick/secrets/*");
        let script = format!(
            "timeout --signal=KILL 0.{milliseconds:03} rick-activate --settle=0 /root/bundle.tar || true"
        );
        host.sh(&script);
        host.ok(&["rick-activate", "--settle=0", "/root/bundle.tar"]);
        host.sh(&format!("systemctl reset-failed; {RESTART}"));
        all_read(host, SECOND);
    }
}

/// Whatever call of a switch it is killed at, the disk has no value, and what comes next ends well.
fn killed_while_it_switches(host: &Host, tree: &Tree, key: &str) {
    let sides = [(FIRST, "/root/first.tar"), (SECOND, "/root/second.tar")];
    for (value, bundle) in sides {
        encrypt(tree, "key", value, key);
        host.push(&tree.bundle("lab"), bundle);
    }
    let mut points = Vec::new();
    for (_, bundle) in sides {
        // As often as here, nobody switches, and systemd would start nothing more.
        host.ok(&["systemctl", "reset-failed"]);
        host.ok(&[&STRACE[..], &ACTIVATE, &[bundle]].concat());
        points = crash::points(&String::from_utf8(host.read("/run/trace")).unwrap());
    }
    // While a file in memory has its value and not yet its owner; and anywhere.
    let (owned, others): (Vec<_>, Vec<_>) = points
        .into_iter()
        .filter(|point| point.changes || point.call == "fchown")
        .partition(|point| point.call == "fchown");
    let cuts = [some(&owned, 2), some(&others, 6)].concat();
    assert_eq!(cuts.len(), 8, "{owned:?}");
    for (point, (value, bundle)) in cuts.iter().zip(sides.into_iter().cycle()) {
        // What is in memory already would not be made again.
        host.sh("systemctl reset-failed; rick-activate gc --keep=1 >/dev/null; rm -rf /run/rick/secrets/*; rick-activate secrets");
        assert!(crash::killed_at(host, point, &[&ACTIVATE[..], &[bundle]].concat()), "{point:?}");
        for hunted in [FIRST, SECOND, SETTING] {
            assert_eq!(found_below(host.disk(), hunted), "", "killed at {point:?}");
        }
        host.ok(&["systemctl", "reset-failed"]);
        host.ok(&[&ACTIVATE[..], &[bundle]].concat());
        all_read(host, value);
    }
}

/// Why `Secret=` of a container is no secret of Podman: whatever keeps it, Podman writes a copy to its disk, and so it does with environment.
fn podman_itself_would_write_it_to_disk(host: &Host) {
    let image = host.ok(&["podman", "inspect", "--format={{.Image}}", "f"]);
    for (name, how) in [
        ("mounted", "--secret=mounted"),
        ("named", "--secret=named,type=env,target=TOKEN"),
        ("filed", "--env-file=/run/own/filed"),
    ] {
        let value = format!("TOKEN={name}-Quahph2u");
        host.write(&format!("/run/own/{name}"), &value);
        // The driver that keeps nothing, and asks for a value whenever there is need of it.
        host.sh(&format!(
            "podman secret create --driver=shell --driver-opts='list=true,store=cat >/dev/null,delete=true,lookup=cat /run/own/{name}' \
             {name} /run/own/{name}"
        ));
        assert_eq!(found_below(host.disk(), &value), "", "{name}: the driver keeps nothing");
        host.ok(&[
            "podman",
            "run",
            "--detach",
            "--network=none",
            "--stop-signal=KILL",
            &format!("--name={name}"),
            how,
            &image,
            "/bin/sleep",
            "infinity",
        ]);
        assert_ne!(found_below(host.disk(), &value), "", "{name}: Podman does not write it any more");
        host.ok(&["podman", "rm", "--force", name]);
    }
}

/// The disk, the bundle, the journal, what others see of processes and of units.
fn no_value_is_anywhere_but_in_memory(host: &Host, tree: &Tree) {
    host.sh("printf seen-mark > /root/mark; logger seen-mark");
    assert!(!found_below(host.disk(), "seen-mark").is_empty(), "what is on the disk is found there");
    host.sh("journalctl --sync; journalctl --output=export --all | grep -a -c seen-mark");
    let values = [FIRST, SECOND, SETTING];
    let bundle = fs::read(tree.path().join("lab.tar")).unwrap();
    for value in values {
        assert!(
            !bundle.windows(value.len()).any(|window| window == value.as_bytes()),
            "{value} is in the bundle"
        );
        assert_eq!(found_below(tree.path(), value), "", "{value} is in the source tree");
        assert_eq!(found_below(host.disk(), value), "", "{value} is on the disk");
    }
    // In memory, so that no command has them among its arguments.
    host.write("/run/hunted", values.join("\n"));
    for look in [
        "journalctl --output=export --all",
        "systemctl show '*'",
        "cat /proc/[0-9]*/cmdline",
        "systemctl cat '*.service'",
    ] {
        let found = host.sh(&format!("({look}) 2>/dev/null | grep -a -c -F -f /run/hunted || true"));
        assert_eq!(found, "0", "{look}");
    }
}

fn found_below(folder: &Path, value: &str) -> String {
    let output =
        Command::new("grep").args(["-r", "-l", "-a", "-F", "--", value]).arg(folder).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
