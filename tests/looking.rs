//! To look at a host and to tidy it, on real hosts: what is told is so, and what is kept is whole.

use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::lab::wait_for;
use crate::support::source::{self, Tree};
use crate::support::{Host, activator, require_hosts};

fn host(name: &str) -> Host {
    let host = Host::boot(name);
    host.push(&activator(), "/usr/local/bin/rick-activate");
    host
}

fn push(host: &Host, tree: &Tree, environment: &str) {
    host.push(&tree.bundle(environment), "/root/bundle.tar");
}

#[track_caller]
fn activate(host: &Host, tree: &Tree, environment: &str) -> String {
    push(host, tree, environment);
    host.ok(&["rick-activate", "--settle=0", "/root/bundle.tar"])
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// What `rick-activate status` says, and with which exit code.
fn status(host: &Host) -> (String, Option<i32>) {
    let output = host.run(&["rick-activate", "status"]);
    (said(&output), output.status.code())
}

/// The numbers of the generations.
fn generations(host: &Host) -> Vec<u64> {
    let list: Value = serde_json::from_str(&host.ok(&["rick-activate", "list", "--json"])).unwrap();
    list.as_array().unwrap().iter().map(|row| row["number"].as_u64().unwrap()).collect()
}

/// The images that podman has, by their tags.
fn tags(host: &Host) -> Vec<String> {
    let said = host.ok(&["podman", "images", "--format", "{{.Repository}}:{{.Tag}}"]);
    said.lines().map(str::to_owned).collect()
}

/// An application in a container, with an image of its own in each generation.
#[test]
fn what_is_kept_can_be_gone_back_to_with_its_image() {
    require_hosts!();
    let host = host("arch-vps");
    let tree = source::small();
    let layers = "layers = {\"/whoami\": \"whoami\"";
    tree.edit("modules/whoami/whoami.star", layers, &format!("{layers}, \"/mark\": \"mark\""));
    let marks = ["one", "two", "three", "four", "five"];
    let mut images = Vec::new();
    for mark in marks {
        tree.write("modules/whoami/mark", mark);
        activate(&host, &tree, "small");
        images.push(host.ok(&["podman", "inspect", "--format", "{{.ImageDigest}}", "whoami"]));
    }
    let tag = |number: usize| images[number - 1].replace("sha256:", "localhost/whoami:");
    assert!((1..=5).all(|number| tags(&host).contains(&tag(number))), "{:?}", tags(&host));
    host.ok(&["rick-activate", "pin", "2"]);
    // Somebody has a container of their own, from an image that no generation will need.
    host.ok(&["podman", "create", "--quiet", "--name=mine", &tag(3)]);

    let before = host.sh("find /var/lib/rick -newer /var/lib/rick/marks.json; ls /var/lib/rick/gens");
    let told = host.ok(&["rick-activate", "gc", "--keep=1", "--dry-run"]);
    assert!(told.contains("would remove generation 3\n"), "{told}");
    assert_eq!(host.sh("find /var/lib/rick -newer /var/lib/rick/marks.json; ls /var/lib/rick/gens"), before);
    let told = host.ok(&["rick-activate", "gc", "--keep=1"]);
    assert!(told.contains(&format!("image {}, which something uses", tag(3))), "{told}");
    // The database server and others still run from the first.
    assert_eq!(generations(&host), [0, 1, 2, 4, 5], "{told}");
    host.ok(&["podman", "rm", "mine"]);
    host.ok(&["rick-activate", "gc", "--keep=1"]);
    assert_eq!(tags(&host).len(), 4, "{:?}", tags(&host));
    assert!(!tags(&host).contains(&tag(3)));

    let gone = host.run(&["rick-activate", "rollback", "3"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(said(&gone).contains("there is no generation 3 on this host"), "{}", said(&gone));
    for number in [2, 4, 1, 0, 5, 2] {
        host.ok(&["rick-activate", "--settle=0", "rollback", &number.to_string()]);
        if number != 0 {
            host.ok(&["podman", "cp", "whoami:/mark", "/root/mark"]);
            assert_eq!(host.ok(&["cat", "/root/mark"]), marks[number - 1]);
        }
        assert_eq!(status(&host).1, Some(0), "{}", status(&host).0);
    }
    // podman's own storage may be gone: the images are still in the layout.
    host.ok(&["rick-activate", "--settle=0", "rollback", "0"]);
    host.ok(&["podman", "rmi", "--all", "--force"]);
    host.ok(&["rick-activate", "--settle=0", "rollback", "4"]);
    assert_eq!(tags(&host), [tag(4)]);
}

/// An environment of one host, `lab`, with services that sleep: the lines of `[Service]` of each.
fn lab(services: &[(&str, &str)]) -> Tree {
    let tree = source::modules();
    tree.write(
        "environments/lab.star",
        "load(\"//modules/lab\", \"lab\")\n\
         environment(name = \"lab\", hosts = [host(name = \"lab\", domain = \"lab.test\", os = \"debian-13\", services = [lab()])])\n",
    );
    describe(&tree, services);
    tree
}

fn describe(tree: &Tree, services: &[(&str, &str)]) {
    let unit = |(name, lines): &(&str, &str)| {
        format!(
            "        unit(\"{name}.service\", text = \"\"\"[Service]\nExecStart=/bin/sleep infinity\n{lines}\n\
             [Install]\nWantedBy=multi-user.target\n\"\"\"),\n"
        )
    };
    let units: String = services.iter().map(unit).collect();
    tree.write(
        "modules/lab/lab.star",
        &format!("def _build(ctx):\n    return [\n{units}    ]\n\nlab = module(doc = \"A laboratory.\", build = _build)\n"),
    );
}

#[test]
fn what_an_operator_changed_wins_and_is_told() {
    require_hosts!();
    let host = host("lab");
    let tree = lab(&[("a", ""), ("b", "")]);
    assert_eq!(status(&host), ("rick never activated anything on this host\n".to_owned(), Some(0)));
    activate(&host, &tree, "lab");
    assert_eq!(status(&host), ("well: generation 1 of lab for lab, 3 units\n".to_owned(), Some(0)));

    let mine = "/etc/systemd/system/a.service.d/mine.conf";
    host.write(mine, "[Service]\nNice=7\n");
    assert!(status(&host).0.contains("a.service  its files changed since systemd read them"));
    host.ok(&["systemctl", "daemon-reload"]);
    let drift = format!("not well: generation 1 of lab for lab, 3 units\na.service  changed by {mine}\n");
    assert_eq!(status(&host), (drift.clone(), Some(4)));
    let nobody = host.run(&["runuser", "-u", "nobody", "--", "rick-activate", "status"]);
    assert_eq!((said(&nobody), nobody.status.code()), (drift, Some(4)), "nobody needs to be root to look");
    describe(&tree, &[("a", "Nice=1"), ("b", "")]);
    let told = activate(&host, &tree, "lab");
    assert!(told.contains("restart    a.service: it changed (units/a.service: Nice)\n"), "{told}");
    assert_eq!(host.property("a.service", "Nice"), "7", "what is in /etc wins");
    host.ok(&["rm", "-r", "/etc/systemd/system/a.service.d"]);
    host.ok(&["systemctl", "daemon-reload"]);
    assert_eq!(host.property("a.service", "Nice"), "1");

    host.ok(&["systemctl", "set-property", "--runtime", "a.service", "CPUWeight=50"]);
    host.ok(&["systemctl", "mask", "b.service"]);
    host.ok(&["systemctl", "kill", "--signal=KILL", "b.service"]);
    wait_for("its end", || host.property("b.service", "ActiveState") == "failed");
    let (text, code) = status(&host);
    assert_eq!(code, Some(4));
    let expected = [
        "a.service  changed by /run/systemd/system.control/a.service.d/50-CPUWeight.conf",
        "b.service  failed (signal)",
        "b.service  masked on this host",
    ];
    assert!(expected.iter().all(|line| text.contains(line)), "{text}");
    host.ok(&["systemctl", "unmask", "b.service"]);
    host.ok(&["systemctl", "revert", "a.service"]);
    host.ok(&["rick-activate", "/root/bundle.tar"]);
    assert_eq!(status(&host).1, Some(0), "{}", status(&host).0);

    while_a_switch_waits_it_is_told_how_long(&host, &tree);
}

fn while_a_switch_waits_it_is_told_how_long(host: &Host, tree: &Tree) {
    describe(tree, &[("a", "Nice=2"), ("b", "")]);
    push(host, tree, "lab");
    let mut run = host
        .command(&["rick-activate", "--settle=0", "--confirm-within=60", "/root/bundle.tar"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_mins(1);
    let waits = "\ngeneration 3 waits for `rick-activate confirm`; until 20";
    while !status(host).0.contains(waits) {
        assert!(Instant::now() < deadline, "{}", status(host).0);
    }
    assert!(status(host).0.contains("s), then back to generation 2\n"), "{}", status(host).0);
    host.ok(&["rick-activate", "confirm"]);
    assert!(run.wait().unwrap().success());
    assert_eq!(status(host), ("well: generation 3 of lab for lab, 3 units\n".to_owned(), Some(0)));
}

#[test]
fn what_changed_is_told_by_its_name_before_while_and_after() {
    require_hosts!();
    let host = host("arch-vps");
    let tree = source::small();
    activate(&host, &tree, "small");
    tree.edit(
        "environments/small.star",
        "whoami(auth = \"public\"),",
        "whoami(auth = \"public\", subdomain = \"me\"),",
    );
    tree.edit(
        "modules/whoami/whoami.star",
        "\"StopSignal\": \"SIGKILL\"",
        "\"StopSignal\": \"SIGKILL\", \"Label\": \"mark=two\"",
    );
    tree.write("environments/sites/docs/index.html", "<title>another page</title>\n");
    push(&host, &tree, "small");

    let told = host.ok(&["rick-activate", "--dry-run", "--diff", "/root/bundle.tar"]);
    let expected = [
        "would reload caddy.service: its configuration changed (etc/caddy/Caddyfile; objects/docs/pages/index.html)\n",
        "would restart whoami.service: it changed (quadlets/whoami.container: Label)\n",
        "\n+++ quadlets/whoami.container (generation 2)\n",
        "\n+Label=mark=two\n",
        "\n-whoami.jnss.me {\n+me.jnss.me {\n",
        "\n+<title>another page</title>\n",
    ];
    for line in expected {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert!(!told.contains("-root * /var/lib/rick/store/"), "{told}");
    let output = host.ok(&["rick-activate", "--json", "--settle=0", "/root/bundle.tar"]);
    let outcome: Value = serde_json::from_str(output.lines().last().unwrap()).unwrap();
    let steps = outcome["outcome"]["steps"].as_array().unwrap();
    let whoami = steps.iter().find(|step| step["unit"] == "whoami.service").unwrap();
    assert_eq!(
        whoami["changed"],
        serde_json::json!([{"path": "quadlets/whoami.container", "how": "changed", "settings": ["Label"]}])
    );

    let told = host.ok(&["rick-activate", "diff"]);
    assert!(
        told.starts_with("generation 1 → 2\nunits\n  changed  caddy.service (etc/caddy/Caddyfile; "),
        "{told}"
    );
    assert!(told.contains("\n  changed  whoami.service (quadlets/whoami.container: Label)\n"), "{told}");
    assert!(told.contains("\n+Label=mark=two\n") && !told.contains('\x1b'), "{told}");
    let short = host.ok(&["rick-activate", "diff", "--stat"]);
    assert!(told.starts_with(&short) && !short.contains("+Label"), "{short}");
    let back = host.ok(&["rick-activate", "--settle=0", "rollback"]);
    assert!(
        back.contains("restart    whoami.service: it changed (quadlets/whoami.container: Label)\n"),
        "{back}"
    );
    let all = host.ok(&["rick-activate", "diff", "0", "--json", "--stat"]);
    let all: Value = serde_json::from_str(&all).unwrap();
    assert_eq!((&all["from"], &all["to"]), (&0.into(), &1.into()));
    assert!(all["units"].as_array().unwrap().iter().all(|unit| unit["how"] == "new"), "{all}");
}
