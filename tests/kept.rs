//! What services keep survives: copied, restored where it is absent, brought back with an older generation, moved to another host. On live
//! hosts, with the real restic; every byte is compared.

use crate::support::lab::{is_well, said};
use crate::support::source::{self, Tree};
use crate::support::{Host, activator, require_hosts};

/// A service with two directories, that writes into neither by itself.
pub(crate) const KEEPER: &str = r#"
def _build(ctx):
    name = ctx.name
    return [
        user(name),
        state("/var/lib/" + name, user = name, group = name, copied = ctx.options.copied),
        state("/srv/{}-more".format(name), user = "root", group = name, mode = 0o2750),
        unit(name + ".service", {
            "Service": {"User": name, "ExecStart": "/bin/sleep infinity", "Environment": "VERSION=" + ctx.options.version},
            "Install": {"WantedBy": "multi-user.target"},
        }),
    ]

keeper = module(
    doc = "Keeps something.",
    options = {
        "version": option(str, default = "1", doc = "Another one is another unit."),
        "copied": option(str, default = "live", doc = "How."),
    },
    build = _build,
)
"#;

/// An environment of one host, with services besides the backups.
pub(crate) fn environment(tree: &Tree, name: &str, backups: &str, services: &str) {
    tree.write("modules/keeper/keeper.star", KEEPER);
    tree.write(
        &format!("environments/{name}.star"),
        &format!(
            r#"load("//modules/backups", "backups")
load("//modules/keeper", "keeper")

environment(
    name = "{name}",
    hosts = [host(name = "{name}", domain = "example.net", os = "debian-13", services = [
        backups({backups}),
        {services}
    ])],
)
"#
        ),
    );
}

const LOCAL: &str = r#"repository = "/srv/backups""#;

pub(crate) fn make_secret(host: &Host, name: &str, value: &str) {
    host.sh("install -d -m 0700 /etc/credstore.encrypted");
    let script = format!("systemd-creds encrypt --name={name} - /etc/credstore.encrypted/{name}");
    let output = host.run_with(&["bash", "-euc", &script], value.as_bytes());
    assert!(output.status.success(), "{}", said(&output));
}

pub(crate) fn boot(name: &str) -> Host {
    let host = Host::boot(name);
    host.push(&activator(), "/usr/local/bin/rick-activate");
    make_secret(&host, "restic-password", "correct horse");
    host
}

#[track_caller]
pub(crate) fn activate(host: &Host, tree: &Tree, environment: &str) -> String {
    host.push(&tree.bundle(environment), "/root/bundle.tar");
    let output = host.run(&["rick-activate", "--settle=0", "/root/bundle.tar"]);
    assert!(output.status.success(), "{}", said(&output));
    said(&output)
}

/// A thousand files with owners, modes, times, links, holes and ugly names.
pub(crate) fn fill(host: &Host, service: &str) {
    host.sh(&format!(
        r#"cd /var/lib/{service}; for i in $(seq 100); do mkdir "d $i"; for j in $(seq 9); do echo "$i $j $RANDOM" >"d $i/$j"; done; done
        ln -s /etc/shadow link; ln 'd 1/1' hard; printf 'a\0b' >$'new\nline'; printf x >$'not\377utf8'; : >empty
        head -c 3000000 /dev/urandom >random; truncate -s 1M hole; setfattr -n user.mine -v yes random 2>/dev/null || true
        chmod 4750 'd 2/2'; touch -d '2001-02-03 04:05:06.789' 'd 3/3'; chown -R {service}:{service} .
        echo more >/srv/{service}-more/file; chgrp {service} /srv/{service}-more/file"#
    ));
}

/// Everything that is kept of a directory, in a text.
pub(crate) fn everything(host: &Host, directory: &str) -> String {
    host.sh(&format!(
        r"cd {directory}; find . -mindepth 1 -printf '%P %y %m %u %g %s %l %T@\n' | LC_ALL=C sort
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum; stat -c '%a %U %G' ."
    ))
}

#[test]
fn what_is_absent_is_restored_before_a_service_starts() {
    require_hosts!();
    let tree = source::modules();
    environment(&tree, "one", LOCAL, "keeper()");
    let host = boot("one");
    let first = activate(&host, &tree, "one");
    assert!(!first.contains("restored"), "{first}");
    fill(&host, "keeper");
    let directories = ["/var/lib/keeper", "/srv/keeper-more"];
    let there = directories.map(|directory| everything(&host, directory));
    let told = host.ok(&["rick-activate", "backup", "keeper"]);
    assert!(told.contains("copied"), "{told}");
    is_well(&host);

    // All is gone, and the host activates what it has.
    host.sh("systemctl stop keeper; rm -rf /var/lib/keeper /srv/keeper-more/*");
    let told = host.ok(&["rick-activate", "/root/bundle.tar"]);
    println!("{told}");
    assert_eq!(directories.map(|directory| everything(&host, directory)), there);
    is_well(&host);
}
