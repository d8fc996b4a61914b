//! What always holds on a host that rick switches, as far as no other file is about it. `docs/invariants.md` lists it all.

use std::process::Output;

use crate::support::lab::{
    activate, again, describe, done, host, is_well, item, lab, lives, push, said, sleeper,
};
use crate::support::source::Tree;
use crate::support::{Host, require_hosts};

#[track_caller]
fn ends_with(host: &Host, options: &[&str], code: i32) -> String {
    let output: Output = host.run(&[&["rick-activate", "--settle=0", "/root/bundle.tar"], options].concat());
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

#[track_caller]
fn refused(host: &Host) -> String {
    ends_with(host, &[], 1)
}

/// What a running unit was started with.
fn environment(host: &Host, unit: &str) -> String {
    let pid = host.property(unit, "MainPID");
    host.sh(&format!("tr '\\0' '\\n' </proc/{pid}/environ"))
}

#[test]
fn there_and_back_is_as_before() {
    require_hosts!();
    let host = host("lab");
    let one = [
        sleeper("a.service", "", "Environment=N=1"),
        sleeper("b.service", "", ""),
        sleeper("gone.service", "", ""),
    ];
    let two = [
        sleeper("a.service", "", "Environment=N=2"),
        sleeper("b.service", "", ""),
        sleeper("new.service", "", ""),
    ];
    let tree = lab(&one.concat());
    activate(&host, &tree, "lab");
    let before = lives(&host, &["a.service", "b.service"]);
    describe(&tree, &two.concat());
    activate(&host, &tree, "lab");
    describe(&tree, &one.concat());
    activate(&host, &tree, "lab");
    let after = lives(&host, &["a.service", "b.service"]);
    assert_ne!(before["a.service"], after["a.service"]);
    assert_eq!(before["b.service"], after["b.service"]);
    assert!(environment(&host, "a.service").contains("N=1"));
    assert_eq!(host.property("gone.service", "ActiveState"), "active");
    assert_eq!(host.property("new.service", "LoadState"), "not-found");
    for part in ["units", "sysusers.conf", "tmpfiles.conf"] {
        host.ok(&[
            "diff",
            "-r",
            &format!("/var/lib/rick/gens/1/{part}"),
            &format!("/var/lib/rick/gens/3/{part}"),
        ]);
    }
    assert!(again(&host).contains("nothing to do"));
    let run = host.run(&["rick-activate", "/root/bundle.tar", "--detailed-exit-code"]);
    assert_eq!(run.status.code(), Some(10));
    is_well(&host);
}

/// A module that has an image of busybox, and a service `box` in it.
fn boxed(more: &str, container: &str) -> Tree {
    let tree = lab("");
    let folder = tree.path().join("modules/lab");
    std::fs::copy("/bin/busybox", folder.join("busybox")).unwrap();
    describe_boxed(&tree, more, container);
    tree
}

fn describe_boxed(tree: &Tree, more: &str, container: &str) {
    tree.write(
        "modules/lab/lab.star",
        &format!(
            r#"def _build(ctx):
    picture = image("box", layers = {{"/busybox": "busybox"}}, entrypoint = ["/busybox"])
    return [
        picture,
{more}
        quadlet("box.container", {{
            "Container": {{"Image": picture.ref, "ContainerName": "box", "Network": "none", "StopSignal": "SIGKILL", {container}}},
            "Service": {{"SuccessExitStatus": 137}},
            "Install": {{"WantedBy": "multi-user.target"}},
        }}),
    ]

lab = module(doc = "A laboratory.", options = {{}}, build = _build)
"#
        ),
    );
}

const SLEEPS: &str = "\"Exec\": \"sleep infinity\"";

#[test]
fn what_a_program_of_the_host_does_not_take_is_refused_before_anything_stops() {
    require_hosts!();
    let host = host("lab");
    let tree = boxed("", SLEEPS);
    activate(&host, &tree, "lab");
    let before = lives(&host, &["box.service"]);

    // A Quadlet that podman's generator does not take, though rickbuild does.
    describe_boxed(&tree, "", &format!("{SLEEPS}, \"ExposeHostPort\": \"everything\""));
    push(&host, &tree, "lab");
    let said = refused(&host);
    assert!(said.contains("podman does not take the Quadlets of this bundle"), "{said}");

    // A unit that systemd does not take.
    let unit = item(
        "odd.service",
        "[Service]\nExecStart=/no/such/program\n[Install]\nWantedBy=multi-user.target\n",
        "",
    );
    describe_boxed(&tree, &unit, SLEEPS);
    push(&host, &tree, "lab");
    let said = refused(&host);
    assert!(said.contains("systemd does not take the units") && said.contains("/no/such/program"), "{said}");

    // A file that the program which reads it does not take.
    let judged = r#"        program("/usr/bin/caddy", package = "caddy"),
        validate(["/usr/bin/caddy", "validate", "--config", conf.path, "--adapter", "caddyfile"], files = [conf]),
        conf,
"#;
    let with = |text: &str| {
        describe_boxed(&tree, judged, SLEEPS);
        tree.edit(
            "modules/lab/lab.star",
            "    picture =",
            &format!("    conf = file(\"Caddyfile\", content = \"{text}\", stable = True)\n    picture ="),
        );
        push(&host, &tree, "lab");
    };
    with("{\\n\\tadmin off\\n}\\n:8080 {\\n\\tfly_me_to the moon\\n}\\n");
    let said = refused(&host);
    assert!(said.contains("says no") && said.contains("fly_me_to"), "{said}");
    assert_eq!(lives(&host, &["box.service"]), before);
    assert_eq!(host.ok(&["readlink", "/var/lib/rick/current"]), "gens/1");
    with("{\\n\\tadmin off\\n}\\n:8080 {\\n\\trespond hello\\n}\\n");
    ends_with(&host, &[], 0);
    assert_eq!(lives(&host, &["box.service"]), before);
    is_well(&host);
}

#[test]
fn a_container_sees_what_changed_and_must_be_well() {
    require_hosts!();
    let host = host("lab");
    let with = |text: &str, more: &str| {
        let tree = boxed(
            "        conf,\n",
            &format!("{SLEEPS}, \"Volume\": conf.path.rsplit(\"/\", 1)[0] + \":/conf:ro\"{more}"),
        );
        tree.edit(
            "modules/lab/lab.star",
            "    picture =",
            &format!("    conf = file(\"app.conf\", content = \"{text}\")\n    picture ="),
        );
        push(&host, &tree, "lab");
    };
    with("one", "");
    ends_with(&host, &[], 0);
    let inside = || host.ok(&["podman", "exec", "box", "/busybox", "cat", "/conf/app.conf"]);
    assert_eq!(inside(), "one");
    with("two", "");
    ends_with(&host, &[], 0);
    assert_eq!(inside(), "two");

    // Its health never comes.
    with(
        "three",
        ", \"Notify\": \"healthy\", \"HealthCmd\": \"/busybox false\", \"HealthInterval\": \"1s\", \"HealthRetries\": \"3\", \"HealthOnFailure\": \"kill\"",
    );
    let said = ends_with(&host, &[], 3);
    assert!(said.contains("box.service"), "{said}");
    assert_eq!(inside(), "two");
    is_well(&host);

    // And nothing of it is left in the end.
    assert!(host.ok(&["podman", "images", "--quiet"]).lines().count() > 0);
    assert_eq!(host.run(&["rick-activate", "--settle=0", "uninstall"]).status.code(), Some(0));
    assert_eq!(host.ok(&["podman", "images", "--all", "--quiet"]), "");
    assert_eq!(host.ok(&["podman", "ps", "--all", "--quiet"]), "");
}

#[test]
fn a_number_that_is_taken_ends_it_before_the_commit() {
    require_hosts!();
    let host = host("lab");
    let user = |name: &str, id: &str| {
        format!("        user(\"{name}\"{id}),\n{}", sleeper("a.service", "", &format!("User={name}")))
    };
    let tree = lab(&user("one", ""));
    activate(&host, &tree, "lab");
    let before = lives(&host, &["a.service"]);
    let uid = host.ok(&["id", "-u", "one"]);

    host.ok(&["useradd", "--system", "--uid", "777", "stranger"]);
    describe(&tree, &user("two", ", id = 777"));
    push(&host, &tree, "lab");
    assert!(refused(&host).contains("on this host it belongs to `stranger`"));
    assert_eq!(lives(&host, &["a.service"]), before);
    assert!(!host.run(&["getent", "passwd", "two"]).status.success());

    // Removed by hand, and somebody else took the number meanwhile.
    describe(&tree, &user("three", ""));
    activate(&host, &tree, "lab");
    host.ok(&["userdel", "one"]);
    host.ok(&["useradd", "--system", "--uid", &uid, "usurper"]);
    describe(&tree, &user("usurper", ""));
    push(&host, &tree, "lab");
    assert!(refused(&host).contains(&format!("`usurper` has uid {uid}, which belonged to `one`")));
    is_well(&host);
}

#[test]
fn units_are_changed_as_they_say() {
    require_hosts!();
    let host = host("lab");
    let unit = |name: &str, n: u32, more: &str, arguments: &str| {
        let text = format!(
            "[Service]\nEnvironment=N={n}\nExecStart=/bin/sleep infinity\n{more}\n[Install]\nWantedBy=multi-user.target\n"
        );
        item(name, &text, arguments)
    };
    let all = |n: u32| {
        let stops = format!("ExecStop=/bin/sh -c 'echo stopped by {n} >> /run/stops'");
        [
            unit(
                "reload.service",
                n,
                "ExecReload=/bin/sh -c 'echo reloaded >> /run/reloads'",
                ", on_change = \"reload\"",
            ),
            unit("old.service", n, &stops, ", on_change = \"stop-start\""),
            unit("restart.service", n, &stops, ""),
            unit("never.service", n, "", ", on_change = \"nothing\""),
        ]
        .concat()
    };
    let tree = lab(&all(1));
    activate(&host, &tree, "lab");
    let before = lives(&host, &["reload.service", "never.service"]);
    describe(&tree, &all(2));
    let said = activate(&host, &tree, "lab");
    assert_eq!(
        done(&said),
        ["stop old.service", "reload reload.service", "start old.service", "restart restart.service"],
        "{said}"
    );
    assert!(said.contains("leave      never.service: it changed, and is to go on as it is"), "{said}");
    assert_eq!(lives(&host, &["reload.service", "never.service"]), before);
    assert_eq!(host.ok(&["cat", "/run/reloads"]), "reloaded");
    // Under the old definition the one, under the new one the other: that is the difference.
    assert_eq!(host.ok(&["cat", "/run/stops"]), "stopped by 1\nstopped by 2");
    let said = again(&host);
    assert!(said.contains("leave      never.service") && said.contains("nothing to do"), "{said}");
    host.ok(&["systemctl", "restart", "never.service"]);
    assert!(!again(&host).contains("never.service"));

    // What a daemon-reload is enough for restarts nothing.
    let quiet = all(2).replace("[Service]\n", "[Unit]\nDescription=Quiet\nAfter=network.target\n[Service]\n");
    let before = lives(&host, &["restart.service", "old.service"]);
    describe(&tree, &quiet);
    assert_eq!(done(&activate(&host, &tree, "lab")), [""; 0]);
    assert_eq!(host.property("restart.service", "Description"), "Quiet");
    assert_eq!(lives(&host, &["restart.service", "old.service"]), before);

    // One that the host is well without, and one that there is no way back from.
    let fails = "ExecStartPre=/bin/false";
    describe(&tree, &[quiet.as_str(), &unit("extra.service", 1, fails, ", optional = True")].concat());
    push(&host, &tree, "lab");
    let said = ends_with(&host, &[], 0);
    assert!(said.contains("warning: extra.service failed"), "{said}");
    host.ok(&["systemctl", "reset-failed", "extra.service"]);
    let schema = |more: &str| [quiet.as_str(), &unit("schema.service", 1, more, ", barrier = True")].concat();
    describe(&tree, &schema(""));
    activate(&host, &tree, "lab");
    describe(&tree, &schema(fails));
    push(&host, &tree, "lab");
    let generation = host.ok(&["readlink", "/var/lib/rick/current"]);
    let said = ends_with(&host, &[], 4);
    assert!(said.contains("what schema.service did when it was started cannot be undone"), "{said}");
    assert_ne!(host.ok(&["readlink", "/var/lib/rick/current"]), generation);
}

#[test]
fn every_kind_of_probe_asks_the_real_thing() {
    require_hosts!();
    let host = host("lab");
    let server = r#"open L, "+<&=3"; while (accept C, L) { sysread C, $r, 999; $s = $r =~ m{GET /well } ? 200 : 503; syswrite C, "HTTP/1.0 $s\r\n\r\n"; close C }"#;
    host.write("/usr/local/bin/server", server);
    let web = |socket: &str, name: &str| {
        [
            item(
                &format!("{name}.socket"),
                &format!("[Socket]\nListenStream={socket}\n[Install]\nWantedBy=sockets.target\n"),
                "",
            ),
            item(
                &format!("{name}.service"),
                "[Service]\nExecStart=/usr/bin/perl /usr/local/bin/server\n",
                "",
            ),
        ]
        .concat()
    };
    let base = [
        web("127.0.0.1:8080", "one"),
        web("/run/two.sock", "two"),
        "        program(\"/usr/bin/test\", package = \"coreutils\"),\n".to_owned(),
    ]
    .concat();
    let good = "        probe(tcp = \"127.0.0.1:8080\"),\n        probe(unix = \"/run/two.sock\"),\n        \
                probe(http = \"127.0.0.1:8080\", path = \"/well\"),\n        probe(http = \"/run/two.sock\", path = \"/ill\", status = 503),\n        \
                probe(command = [\"/usr/bin/test\", \"-S\", \"/run/two.sock\"]),\n        probe(unit = \"one.service\"),\n";
    let tree = lab(&[&base, good].concat());
    let said = activate(&host, &tree, "lab");
    assert_eq!(said.matches("answers").count(), 6, "{said}");
    for (bad, why) in [
        ("probe(http = \"127.0.0.1:8080\", path = \"/ill\", timeout = 1)", "127.0.0.1:8080 answered 503"),
        (
            "probe(command = [\"/usr/bin/test\", \"-w\", \"/root\"], timeout = 1)",
            "`/usr/bin/test -w /root` says no",
        ),
        ("probe(tcp = \"127.0.0.1:8081\", timeout = 1)", "cannot connect to 127.0.0.1:8081"),
    ] {
        describe(&tree, &format!("{base}        {bad},\n"));
        push(&host, &tree, "lab");
        let said = ends_with(&host, &[], 3);
        assert!(said.contains(why), "{said}");
    }
    is_well(&host);
}

#[test]
fn a_store_that_comes_too_late_at_boot_is_refused() {
    require_hosts!();
    let host = host("lab");
    push(&host, &lab(&sleeper("a.service", "", "")), "lab");
    host.sh("mkdir -p /var/lib/rick && mount -t tmpfs apart /var/lib/rick");
    let said = refused(&host);
    assert!(said.contains("/var/lib/rick is not on the root file system"), "{said}");
    assert_eq!(host.ok(&["ls", "/var/lib/rick"]), "");
    host.ok(&["umount", "/var/lib/rick"]);
    ends_with(&host, &[], 0);
}
