//! A host that was set up by hand: what is there is never overwritten, can be taken over, and is given back.

use std::collections::BTreeMap;
use std::process::Output;

use crate::support::lab::{describe, host, is_well, item, lab, push, said, sleeper};
use crate::support::{Host, activator, require_hosts};

const MINE: &str = "# mine since 2019\n[Unit]\nDescription=Mine\n\n[Service]\nExecStart=/bin/sleep infinity\n\n[Install]\nWantedBy=multi-user.target\n";
const PLACE: &str = "/etc/systemd/system/mine.service";

fn run(host: &Host, arguments: &[&str]) -> Output {
    host.run(&[&["rick-activate", "--settle=0"], arguments].concat())
}

#[track_caller]
fn ends_with(output: &Output, code: i32) -> String {
    let said = said(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

/// What is on the host that rick could have touched: files with their digests, links with their targets.
fn everything(host: &Host) -> BTreeMap<String, String> {
    let script = "cd / && find etc usr/local var/lib/rick run/systemd/system -xdev \\( -type f -o -type l -o -type d \\) -printf '%p %y %l\\n' 2> /dev/null | sort | \
         while read -r path kind link; do if [[ $kind == f ]]; then echo \"$path $(sha256sum < \"/$path\")\"; else echo \"$path $kind $link\"; fi; done";
    let listed = host.ok(&["bash", "-c", script]);
    let split = |line: &str| {
        let (path, rest) = line.split_once(' ').unwrap();
        (path.to_owned(), rest.to_owned())
    };
    listed.lines().map(split).collect()
}

fn services(host: &Host) -> String {
    host.sh("systemctl list-units --plain --no-legend --state=active --type=service | awk '{print $1}' | grep -v -e user@ -e rick- -e systemd-hostnamed | sort")
}

#[test]
fn a_hand_made_host_is_taken_over_and_given_back() {
    require_hosts!();
    let host = host("lab");
    host.write(PLACE, MINE);
    host.ok(&["systemctl", "enable", "--now", "mine.service"]);
    let (before, ran) = (everything(&host), services(&host));

    // Another definition of the same name hides what the bundle has.
    let other = MINE.replace("sleep infinity", "sleep 1000000");
    let tree = lab(&item("mine.service", &other, ""));
    push(&host, &tree, "lab");
    for options in [&["/root/bundle.tar"][..], &["/root/bundle.tar", "--adopt"]] {
        let said = ends_with(&run(&host, options), 1);
        assert!(said.contains("`/etc/systemd/system/mine.service` is in the way"), "{said}");
        assert_eq!(everything(&host), before);
    }

    // One that says the same is taken over if that is wanted.
    let rest = [
        "        mask(\"caddy.service\"),\n",
        "        unit(\"valkey-server.service\", text = \"[Service]\\nNice=5\\n\", drop_in = \"10-lab\"),\n",
        "        user(\"newcomer\"),\n        state(\"/srv/newcomer\", user = \"newcomer\", group = \"newcomer\"),\n",
    ];
    describe(&tree, &[&item("mine.service", MINE, ""), &rest.concat()[..]].concat());
    push(&host, &tree, "lab");
    let said = ends_with(&run(&host, &["/root/bundle.tar"]), 1);
    assert!(said.contains("`--adopt` takes it over"), "{said}");
    ends_with(&run(&host, &["/root/bundle.tar", "--adopt"]), 0);
    assert_eq!(host.property("mine.service", "FragmentPath"), "/usr/local/lib/systemd/system/mine.service");
    assert_eq!(host.property("mine.service", "ActiveState"), "active");
    assert_ne!(host.property("caddy.service", "ActiveState"), "active");
    is_well(&host);
    host.write("/srv/newcomer/data", "precious");

    // A unit that leaves goes back to whoever had it.
    describe(&tree, &rest.concat());
    push(&host, &tree, "lab");
    ends_with(&run(&host, &["/root/bundle.tar"]), 0);
    assert_eq!(host.property("mine.service", "FragmentPath"), PLACE);
    assert_eq!(host.property("mine.service", "ActiveState"), "active");

    let said = ends_with(&run(&host, &["uninstall", "--dry-run"]), 0);
    assert!(said.contains("would remove /var/lib/rick"), "{said}");
    let said = ends_with(&run(&host, &["uninstall"]), 0);
    assert!(said.contains("/srv/newcomer: the data of lab") && said.contains("user newcomer"), "{said}");
    assert_eq!(host.ok(&["cat", "/srv/newcomer/data"]), "precious");
    assert_eq!(services(&host), ran);
    assert_eq!(host.property("valkey-server.service", "Nice"), "0");
    let mut after = everything(&host);
    // The accounts stay, for they own the data.
    for account in ["passwd", "group", "shadow", "gshadow"] {
        for copy in ["", "-"] {
            let path = format!("etc/{account}{copy}");
            match before.get(&path) {
                Some(was) => drop(after.insert(path, was.clone())),
                None => drop(after.remove(&path)),
            }
        }
    }
    // An empty directory that this host did not have.
    assert_eq!(after.remove("etc/sysusers.d").as_deref(), Some("d "));
    let differences: Vec<_> = after.iter().filter(|(path, is)| before.get(*path) != Some(is)).collect();
    assert!(differences.is_empty(), "{differences:#?}");
    let gone: Vec<_> = before.keys().filter(|path| !after.contains_key(*path)).collect();
    assert!(gone.is_empty(), "{gone:#?}");
    is_well(&host);
    assert!(ends_with(&run(&host, &["uninstall"]), 1).contains("nothing to uninstall"));

    // And it can come again.
    ends_with(&run(&host, &["/root/bundle.tar"]), 0);
    is_well(&host);
}

/// Debian 12 has systemd 252 and Podman 4.3, which knows no Quadlets.
#[test]
fn a_host_that_is_too_old_is_told_so() {
    require_hosts!("bookworm");
    let host = Host::boot_suite("bookworm", "lab");
    host.push(&activator(), "/usr/local/bin/rick-activate");
    let before = everything(&host);
    let image = "docker.io/library/a@sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let tree =
        lab(&format!("        quadlet(\"a.container\", {{\"Container\": {{\"Image\": \"{image}\"}}}}),\n"));
    push(&host, &tree, "lab");
    // It has no ssh-keygen either.
    let said = ends_with(&run(&host, &["--allow-unsigned", "/root/bundle.tar"]), 1);
    let expected = "error: this host has Podman 4.3, and needs 5.3 for Quadlets in a linked directory\n\
                    help: say in the environment which system the host has: `os = …`\n";
    assert!(said.ends_with(expected), "{said}");
    assert_eq!(everything(&host), before);

    // What needs no more than it has is taken.
    describe(&tree, &sleeper("a.service", "", ""));
    push(&host, &tree, "lab");
    ends_with(&run(&host, &["--allow-unsigned", "/root/bundle.tar"]), 0);
    assert_eq!(host.property("a.service", "ActiveState"), "active");
    ends_with(&run(&host, &["uninstall"]), 0);
}
