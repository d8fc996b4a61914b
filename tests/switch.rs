//! What a switch does to units, on real hosts: exactly what changed moves, whatever happened in between.

use std::process::{Command, Stdio};

use crate::support::lab::{
    activate, again, describe, done, host, is_well, item, lab, lives, push, said, sleeper, wait_for,
};
use crate::support::source::{self, Tree};
use crate::support::{Host, activator, require_hosts};

#[test]
fn every_run_brings_the_host_to_what_is_described() {
    require_hosts!();
    let mut host = host("lab");
    let tree = lab(&abc("", "", ""));
    activate(&host, &tree, "lab");
    what_was_stopped_by_hand_is_started(&host);
    a_failure_is_told_with_its_log_and_mended_by_the_next_run(&host, &tree);
    a_unit_that_systemd_brought_up_itself_is_known_for_what_it_is(&host, &tree);
    a_killed_switch_is_finished_by_exactly_the_rest(&host, &tree);
    a_killed_switch_is_finished_by_a_boot(&mut host, &tree);
    is_well(&host);
}

fn abc(a: &str, b: &str, c: &str) -> String {
    [sleeper("a.service", "", a), sleeper("b.service", "a.service", b), sleeper("c.service", "b.service", c)]
        .concat()
}

fn what_was_stopped_by_hand_is_started(host: &Host) {
    let before = lives(host, &["a.service", "c.service"]);
    host.ok(&["systemctl", "stop", "b.service"]);
    assert_eq!(done(&again(host)), ["start b.service"]);
    host.ok(&["systemctl", "kill", "--signal=KILL", "b.service"]);
    wait_for("the failure of b", || host.property("b.service", "ActiveState") == "failed");
    assert_eq!(done(&again(host)), ["start b.service"]);
    assert_eq!(lives(host, &["a.service", "c.service"]), before);
    assert!(again(host).contains("nothing to do"));
}

fn a_failure_is_told_with_its_log_and_mended_by_the_next_run(host: &Host, tree: &Tree) {
    describe(tree, &abc("", "ExecStartPre=/bin/sh -c 'echo the milk is sour; exit 1'", "Environment=N=1"));
    push(host, tree, "lab");
    for _ in 0..2 {
        let output = host.run(&["rick-activate", "--no-rollback", "--settle=0", "/root/bundle.tar"]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(4), "{text}");
        assert!(text.contains("b.service failed (exit-code)") && text.contains("the milk is sour"), "{text}");
        assert_eq!(host.property("c.service", "ActiveState"), "active", "the others act");
    }
    let before = lives(host, &["a.service", "c.service"]);
    describe(tree, &abc("", "", "Environment=N=1"));
    assert_eq!(done(&activate(host, tree, "lab")), ["start b.service"]);
    assert_eq!(lives(host, &["a.service", "c.service"]), before);
    is_well(host);
}

fn a_unit_that_systemd_brought_up_itself_is_known_for_what_it_is(host: &Host, tree: &Tree) {
    let flaky = "Environment=N=2\nRestart=on-failure\nRestartSec=2\nExecStartPre=/usr/bin/test -e /run/milk";
    describe(tree, &abc("", flaky, "Environment=N=1"));
    push(host, tree, "lab");
    let output = host.run(&["rick-activate", "--no-rollback", "--settle=0", "/root/bundle.tar"]);
    assert_eq!(output.status.code(), Some(4));
    host.write("/run/milk", "");
    wait_for("b", || host.property("b.service", "ActiveState") == "active");
    assert!(again(host).contains("nothing to do"), "it runs as described");
    let back = host.ok(&["rick-activate", "--settle=0", "rollback"]);
    assert_eq!(done(&back), ["restart b.service"], "and not as the generation before did");
    let pid = host.property("b.service", "MainPID");
    assert!(!host.sh(&format!("tr '\\0' '\\n' </proc/{pid}/environ")).contains("N=2"));
}

/// Starts a switch and kills it once `d`, which takes its time, is starting: `a` was restarted, and `c` not yet.
fn killed_in_the_middle(host: &Host, tree: &Tree, mark: &str) {
    let unit = format!("d-{mark}.service");
    let items = [
        sleeper("a.service", "", &format!("Environment={mark}=1")),
        sleeper("b.service", "a.service", ""),
        sleeper(&unit, "b.service", "ExecStartPre=/bin/sleep 10"),
        sleeper("c.service", &unit, &format!("Environment={mark}=1")),
    ]
    .concat();
    describe(tree, &items);
    push(host, tree, "lab");
    let mut run = host
        .command(&["rick-activate", "--foreground", "/root/bundle.tar"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the slow unit", || host.property(&unit, "ActiveState") == "activating");
    host.ok(&["pkill", "-KILL", "-x", "rick-activate"]);
    run.wait().unwrap();
}

fn a_killed_switch_is_finished_by_exactly_the_rest(host: &Host, tree: &Tree) {
    let before = lives(host, &["a.service", "b.service", "c.service"]);
    killed_in_the_middle(host, tree, "one");
    wait_for("the slow unit", || host.property("d-one.service", "ActiveState") == "active");
    let killed = lives(host, &["a.service", "b.service", "c.service"]);
    assert_ne!(killed["a.service"], before["a.service"]);
    assert_eq!(killed["c.service"], before["c.service"]);
    let finished = again(host);
    assert_eq!(done(&finished), ["restart c.service"], "{finished}");
    assert!(again(host).contains("nothing to do"));
}

fn a_killed_switch_is_finished_by_a_boot(host: &mut Host, tree: &Tree) {
    killed_in_the_middle(host, tree, "two");
    let current = host.ok(&["readlink", "/var/lib/rick/current"]);
    host.power_cut();
    host.boot_again();
    assert_eq!(host.ok(&["readlink", "/var/lib/rick/current"]), current);
    host.ok(&["systemctl", "is-system-running", "--wait"]);
    wait_for("the end of the switch", || {
        !host.run(&["test", "-e", "/var/lib/rick/journal.json"]).status.success()
    });
    assert!(again(host).contains("nothing to do"));
    for unit in ["a.service", "c.service"] {
        let pid = host.property(unit, "MainPID");
        assert!(host.sh(&format!("tr '\\0' '\\n' </proc/{pid}/environ")).contains("two=1"), "{unit}");
    }
    assert_eq!(host.property("d-one.service", "LoadState"), "not-found");
}

#[test]
fn each_kind_of_unit_moves_as_it_must() {
    require_hosts!();
    let host = host("lab");
    let hello = r#"open L, "+<&=3"; while (accept C, L) { sysread C, $_, 999; syswrite C, "HTTP/1.0 200\r\n\r\nhello"; close C }"#;
    host.write("/usr/local/bin/hello", hello);
    let greet = || {
        host.ok(&["curl", "--silent", "--max-time", "5", "--unix-socket", "/run/echo.sock", "http://lab/"])
    };
    let tree = lab(&kinds("", "", "", ""));
    let caddy = host.property("caddy.service", "ActiveState");
    assert_eq!((caddy.as_str(), host.sh("systemctl is-enabled caddy.service")), ("active", "enabled".into()));
    activate(&host, &tree, "lab");
    assert_eq!(host.property("caddy.service", "LoadState"), "masked");
    assert_ne!(host.property("caddy.service", "ActiveState"), "active");
    assert_eq!(host.property("valkey-server.service", "Nice"), "5");
    host.ok(&["systemctl", "start", "job@x.service"]);
    assert!(again(&host).contains("nothing to do"));

    let mut before = lives(&host, &KINDS);
    let mut moves = |items: &str, expected: &[&str]| {
        describe(&tree, items);
        let said = activate(&host, &tree, "lab");
        let after = lives(&host, &KINDS);
        let moved: Vec<&str> = KINDS.into_iter().filter(|unit| before[*unit] != after[*unit]).collect();
        assert_eq!(moved, expected, "{said}");
        before = after;
        assert!(again(&host).contains("nothing to do"));
    };
    moves(&kinds("OnUnitActiveSec=2h", "", "", ""), &["tick.timer"]);
    assert_eq!(greet(), "hello");
    moves(&kinds("OnUnitActiveSec=2h", "SocketMode=0600", "", ""), &["echo.socket"]);
    assert_eq!(greet(), "hello");
    let name = "OnUnitActiveSec=2h";
    moves(&kinds(name, "SocketMode=0600", "Environment=N=1", ""), &["job@x.service"]);
    moves(&kinds(name, "SocketMode=0600", "Environment=N=1", "CPUWeight=50"), &["valkey-server.service"]);
    assert_eq!(host.property("valkey-server.service", "CPUWeight"), "50");

    let rest = item("tick.service", "[Service]\nExecStart=/bin/true\n", "");
    describe(&tree, &rest);
    let gone = done(&activate(&host, &tree, "lab"));
    assert!(gone.contains(&"restart valkey-server.service".to_owned()), "{gone:?}");
    assert!(gone.contains(&"start caddy.service".to_owned()), "{gone:?}");
    assert_eq!(host.property("valkey-server.service", "Nice"), "0");
    for unit in ["valkey-server.service", "caddy.service"] {
        assert_eq!(host.property(unit, "ActiveState"), "active", "{unit}");
    }
    for unit in ["tick.timer", "echo.socket", "echo-server.service", "job@x.service"] {
        assert_ne!(host.property(unit, "ActiveState"), "active", "{unit}");
    }
    is_well(&host);
}

const KINDS: [&str; 5] =
    ["tick.timer", "echo.socket", "job@x.service", "valkey-server.service", "watch.path"];

/// A timer, a socket with a service of another name, a template, a path, a vendor unit with a drop-in and one that is hidden.
fn kinds(timer: &str, socket: &str, template: &str, drop_in: &str) -> String {
    let echo = "[Service]\nExecStart=/usr/bin/perl /usr/local/bin/hello\n";
    [
        item("tick.timer", &format!("[Timer]\nOnBootSec=1h\n{timer}\n[Install]\nWantedBy=timers.target\n"), ""),
        item("tick.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n", ""),
        item(
            "echo.socket",
            &format!("[Socket]\nListenStream=/run/echo.sock\nService=echo-server.service\n{socket}\n[Install]\nWantedBy=sockets.target\n"),
            "",
        ),
        item("echo-server.service", echo, ""),
        item("job@.service", &format!("[Service]\nExecStart=/bin/sleep infinity\n{template}\n"), ""),
        item("watch.path", "[Path]\nPathExists=/run/never\nUnit=tick.service\n[Install]\nWantedBy=paths.target\n", ""),
        item("valkey-server.service", &format!("[Service]\nNice=5\n{drop_in}\n"), ", drop_in = \"10-lab\""),
        "        mask(\"caddy.service\"),\n".to_owned(),
    ]
    .concat()
}

#[test]
fn mounts_slices_and_aliases_move_as_they_must() {
    require_hosts!();
    let host = host("lab");
    let all = |options: &str, weight: u32, n: u32| {
        [
            item("mnt-lab.mount", &format!("[Mount]\nWhat=tmpfs\nWhere=/mnt/lab\nType=tmpfs\nOptions={options}\n[Install]\nWantedBy=local-fs.target\n"), ""),
            item("lab.slice", &format!("[Slice]\nCPUWeight={weight}\n[Install]\nWantedBy=multi-user.target\n"), ""),
            item(
                "a.service",
                &format!("[Service]\nSlice=lab.slice\nEnvironment=N={n}\nExecStart=/bin/sleep infinity\n[Install]\nAlias=also-a.service\nWantedBy=multi-user.target\n"),
                "",
            ),
            sleeper("b.service", "also-a.service", ""),
        ]
        .concat()
    };
    let tree = lab(&all("size=1m", 50, 1));
    activate(&host, &tree, "lab");
    assert_eq!(host.property("also-a.service", "Id"), "a.service");
    let units = ["a.service", "b.service", "lab.slice", "mnt-lab.mount"];
    let mut before = lives(&host, &units);
    let mut moves = |items: &str, expected: &[&str]| {
        describe(&tree, items);
        let said = done(&activate(&host, &tree, "lab"));
        let after = lives(&host, &units);
        let moved: Vec<&str> = units.into_iter().filter(|unit| before[*unit] != after[*unit]).collect();
        assert_eq!(moved, expected, "{said:?}");
        before = after;
        assert!(again(&host).contains("nothing to do"));
    };
    moves(&all("size=2m", 50, 1), &["mnt-lab.mount"]);
    assert!(host.ok(&["findmnt", "--noheadings", "--output", "OPTIONS", "/mnt/lab"]).contains("size=2048k"));
    // A slice is changed by the daemon-reload, and what runs in it stays.
    moves(&all("size=2m", 77, 1), &[]);
    assert_eq!(host.property("lab.slice", "CPUWeight"), "77");
    moves(&all("size=2m", 77, 2), &["a.service"]);
    let gone = done(&{
        describe(&tree, &sleeper("b.service", "", ""));
        activate(&host, &tree, "lab")
    });
    assert!(gone.contains(&"stop mnt-lab.mount".to_owned()), "{gone:?}");
    assert!(!host.run(&["findmnt", "/mnt/lab"]).status.success());
    assert_eq!(host.property("also-a.service", "LoadState"), "not-found");
    is_well(&host);
}

#[test]
fn applications_come_and_go_and_the_others_stay() {
    require_hosts!();
    let host = host("arch-vps");
    let tree = source::small();
    let whoami = "whoami(auth = \"public\"),";
    activate(&host, &tree, "small");
    let stay = ["postgresql.service", "valkey-server.service", "caddy.service", "whoami.service"];

    let before = (lives(&host, &stay), lives(&host, &["postgresql-databases.service"]));
    let second = format!(
        "{whoami}\n            whoami(name = \"second\", subdomain = \"second\", auth = \"public\"),"
    );
    tree.edit("environments/small.star", whoami, &second);
    let said = done(&activate(&host, &tree, "small"));
    assert_eq!(
        said,
        [
            "reload caddy.service",
            "reload postgresql.service",
            "restart postgresql-databases.service",
            "start second.service"
        ]
    );
    assert_eq!(lives(&host, &stay), before.0);
    assert_ne!(lives(&host, &["postgresql-databases.service"]), before.1);
    assert_eq!(host.ok(&["podman", "ps", "--format", "{{.Names}}", "--sort", "names"]), "second\nwhoami");

    let before = lives(&host, &stay[..3]);
    tree.edit("environments/small.star", &second, "");
    let said = activate(&host, &tree, "small");
    assert!(done(&said).contains(&"stop whoami.service".to_owned()), "{said}");
    assert_eq!(host.ok(&["podman", "ps", "--all", "--quiet"]), "", "the containers are removed");
    assert_eq!(lives(&host, &stay[..3]), before);
    assert_eq!(host.property("whoami.service", "LoadState"), "not-found");
    for kept in [
        "test -d /run/whoami",
        "getent passwd whoami",
        "runuser -u postgres -- psql -h /run/postgresql -c '' second",
    ] {
        host.sh(kept);
    }
    is_well(&host);

    host.ok(&["rick-activate", "rollback", "0"]);
    assert_eq!(
        host.ok(&["systemctl", "is-active", "caddy.service", "valkey-server.service"]),
        "active\nactive"
    );
    assert_eq!(host.property("caddy-api.service", "LoadState"), "loaded", "the mask is lifted");
    is_well(&host);
}

#[test]
fn a_host_keeps_no_images_of_another_one() {
    let image = |name: &str| {
        format!(
            "def _build(ctx):\n    picture = image(\"{name}\", layers = {{\"/{name}\": \"{name}\"}}, entrypoint = [\"/{name}\"])\n    \
             return [picture, quadlet(\"{name}.container\", {{\"Container\": {{\"Image\": picture.ref, \"Network\": \"none\"}}}})]\n\n\
             {name} = module(doc = \"{name}.\", options = {{}}, build = _build)\n"
        )
    };
    let tree = source::modules();
    for name in ["one", "two"] {
        tree.write(&format!("modules/{name}/{name}.star"), &image(name));
        tree.write(&format!("modules/{name}/{name}"), &format!("the program of {name}"));
    }
    tree.write(
        "environments/pair.star",
        "load(\"//modules/one\", \"one\")\nload(\"//modules/two\", \"two\")\n\
         environment(name = \"pair\", hosts = [\n\
         host(name = \"a\", domain = \"lab.test\", os = \"debian-13\", services = [one()]),\n\
         host(name = \"b\", domain = \"lab.test\", os = \"debian-13\", services = [two()]),\n])\n",
    );
    let root = tempfile::tempdir().unwrap();
    let output = Command::new(activator())
        .arg(tree.bundle("pair"))
        .args(["--host", "b", "--root"])
        .arg(root.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let images = root.path().join("var/lib/rick/images");
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(images.join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 1, "{index}");
    let blobs = std::fs::read_dir(images.join("blobs/sha256")).unwrap();
    let blobs: Vec<Vec<u8>> = blobs.map(|blob| std::fs::read(blob.unwrap().path()).unwrap()).collect();
    let layers = blobs.iter().filter(|blob| !blob.starts_with(b"{"));
    assert_eq!(layers.count(), 1, "the layer of the other host's image is here");
}
