//! An environment whose services keep something, a host that runs it, and what is compared.

use super::lab::{logged, said};
use super::source::Tree;
use super::{Host, activator};

/// A service with two directories, that writes into neither by itself.
pub(crate) const KEEPER: &str = r#"
def _build(ctx):
    name = ctx.name
    return [
        user(name),
        state("/var/lib/" + name, user = name, group = name, copied = ctx.options.copied),
        state("/srv/{}-more".format(name), user = "root", group = name, mode = 0o2750),
        # Made by every activation and every boot, before anything is asked.
        directory("/var/lib/{}/made".format(name), user = name, group = name),
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

pub(crate) const LOCAL: &str = r#"repository = "/srv/backups""#;

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

/// Has restic be slow: 5 MB in a second.
pub(crate) fn slow(host: &Host) {
    wrap(host, "exec /usr/bin/restic.real --limit-download=5000 --limit-upload=5000 \"$@\"");
}

/// Puts a script where restic is, which calls the real one: `/usr/bin/restic.real`.
pub(crate) fn wrap(host: &Host, script: &str) {
    host.sh("test -e /usr/bin/restic.real || mv /usr/bin/restic /usr/bin/restic.real");
    host.write("/usr/bin/restic", format!("#!/bin/bash\n{script}\n"));
    host.sh("chmod 755 /usr/bin/restic");
}

/// Runs restic as somebody would by hand, on the repository of [`LOCAL`].
#[track_caller]
pub(crate) fn restic(host: &Host, arguments: &str) -> String {
    host.sh(&format!("RESTIC_PASSWORD='correct horse' RESTIC_REPOSITORY=/srv/backups restic {arguments}"))
}

/// The names of all copies of a service, as restic shows them.
pub(crate) fn copies(host: &Host, service: &str) -> Vec<String> {
    let all = host.sh(&format!("rick-activate --json snapshots {service} | jq -r '.[].id[:8]'"));
    all.lines().map(str::to_owned).collect()
}

/// Copies what a service keeps; gives the name of the copy.
#[track_caller]
pub(crate) fn backup(host: &Host, service: &str) -> String {
    copied(&host.ok(&["rick-activate", "backup", service]))
}

/// The name of the copy that was taken, in what rick said.
#[track_caller]
pub(crate) fn copied(told: &str) -> String {
    let line = told.lines().find_map(|line| line.trim_start().strip_prefix("copied"));
    let (_, id) = line.and_then(|line| line.rsplit_once(' ')).unwrap_or_else(|| panic!("no copy: {told}"));
    id.to_owned()
}

/// Runs what must be refused; gives what is said.
#[track_caller]
pub(crate) fn refused(host: &Host, command: &str) -> String {
    let output = host.run(&["bash", "-c", command]);
    assert!(!output.status.success(), "{command}: {}", said(&output));
    said(&output)
}

pub(crate) fn is_active(host: &Host, unit: &str) -> bool {
    host.run(&["systemctl", "is-active", "--quiet", unit]).status.success()
}

/// What the gate of a service said last.
pub(crate) fn gate(host: &Host, service: &str) -> String {
    let unit = format!("rick-restore-{service}.service");
    let life = host.property(&unit, "InvocationID");
    logged(host, &[&format!("_SYSTEMD_INVOCATION_ID={life}")])
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
        touch -d '2001-02-03 04:05:06.789' 'd 3/3'; chown -R {service}:{service} .; chmod 4750 'd 2/2'
        echo more >/srv/{service}-more/file; chgrp {service} /srv/{service}-more/file"#
    ));
}

/// Everything that is kept of a directory, in a text.
pub(crate) fn everything(host: &Host, directory: &str) -> String {
    host.sh(&format!(
        r"cd {directory}; find . -mindepth 1 \( -type d -printf '%P %y %m %u %g %T@\n' -o -printf '%P %y %m %u %g %s %n %l %T@\n' \) | LC_ALL=C sort
        find . -type f -print0 | LC_ALL=C sort -z | xargs -0r sha256sum; stat -c '%a %U %G' ."
    ))
}

/// The nth time that restic is called, before it does its work, whoever called it is killed: see [`kill_at`].
pub(crate) fn deadly(host: &Host) {
    wrap(
        host,
        r#"count=/var/lib/rick/kept/.count
# Several may be called at once.
mkdir -p /var/lib/rick/kept
exec 9>>/var/lib/rick/kept/.turn
flock 9
n=$(cat $count 2>/dev/null || echo 0)
echo $((n + 1)) >$count
if [[ $n == "$(cat /var/lib/rick/kept/.kill-at 2>/dev/null || echo never)" ]]; then
    rm /var/lib/rick/kept/.kill-at
    caller=$PPID
    [[ $(< /proc/$caller/comm) != timeout ]] || caller=$(awk '/^PPid:/ { print $2 }' /proc/$caller/status)
    kill -KILL $caller
    exit 1
fi
exec 9>&-
exec /usr/bin/restic.real "$@""#,
    );
}

/// Counts from here on, and kills at that call.
pub(crate) fn kill_at(host: &Host, point: usize) {
    host.sh(&format!(
        "mkdir -p /var/lib/rick/kept; rm -f /var/lib/rick/kept/.count; echo {point} >/var/lib/rick/kept/.kill-at"
    ));
}

/// It did not come to that call; from here on nobody is killed.
pub(crate) fn lived(host: &Host) -> bool {
    host.run(&["rm", "/var/lib/rick/kept/.kill-at"]).status.success()
}

/// The repository of `production` cannot be reached from here, and without an answer no service begins that has nothing.
pub(crate) fn within_reach(tree: &Tree) {
    tree.edit(
        "environments/production.star",
        "repository = \"rest:https://backup.jnss.me/production\",\n            credentials = \"backup-server\",",
        "repository = \"/srv/backups\",",
    );
}
