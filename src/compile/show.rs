//! What a host would get, for people (`rickbuild show`) and for programs (`rickbuild show --json`).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::lower::{Content, Lowered};
use super::report::printable;
use crate::bundle::digest::Digest;
use crate::bundle::manifest::{
    Check, FileEntry, HostManifest, Needed, OnChange, Repository, Role, UnitEntry, Validation, Versioned,
};
use crate::bundle::names::{BundlePath, Label};

/// Prints hosts: what they hold in numbers, every file, links, units in their order, images, programs and probes.
///
/// # Errors
/// What the output says.
pub fn text(hosts: &[&Lowered], out: &mut impl Write) -> io::Result<()> {
    for (index, host) in hosts.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        show_host(host, out)?;
    }
    Ok(())
}

fn show_host(host: &Lowered, out: &mut impl Write) -> io::Result<()> {
    let manifest = &host.manifest;
    let serial = manifest.serial.map_or(String::new(), |serial| format!(", serial {serial}"));
    writeln!(out, "host {} of environment {}{serial}", manifest.host, manifest.environment)?;
    writeln!(out, "{}", counts(manifest))?;
    for (path, entry) in &manifest.files {
        show_file(path, entry, host.files.get(path), out)?;
    }
    let links = manifest.links.iter().map(|(path, target)| format!("{path} -> {target}"));
    list("links", links, out)?;
    list("units, in order", manifest.units.iter().map(unit), out)?;
    let own = manifest.images.iter().map(|(name, digest)| format!("{name} {digest}"));
    list("images", own.chain(manifest.pulls.iter().map(|name| format!("{name} (pulled)"))), out)?;
    let programs = manifest.programs.iter();
    list("programs", programs.map(|(path, program)| format!("{path} from {}", program.package)), out)?;
    list("versions that the host must have", manifest.versions.iter().map(version), out)?;
    list("validations", manifest.validations.iter().map(validation), out)?;
    let probes = manifest.probes.iter();
    list("probes", probes.map(|probe| format!("{} of {}", check(&probe.check), probe.service)), out)?;
    let secrets = manifest.secrets.iter().map(|(name, needed_by)| format!("{name} for {}", names(needed_by)));
    list("secrets that the host must have", secrets, out)?;
    list("state", state(manifest), out)?;
    list("repositories of copies", manifest.repositories.iter().map(repository), out)
}

/// What services keep.
fn state(manifest: &HostManifest) -> impl Iterator<Item = String> {
    let told = |what: String, service: &Label| {
        let halted =
            if manifest.at_rest.contains(service) { ", which is stopped while it is copied" } else { "" };
        let moved = manifest.moved.get(service).map(|home| format!(", from {home}")).unwrap_or_default();
        format!("{what} of {service}{halted}{moved}")
    };
    let directories = manifest.states.iter().map(move |(path, service)| told(path.to_string(), service));
    directories.chain(manifest.dumps.iter().map(move |dump| {
        let what = format!("dump {} by `{}` as {}", dump.name, dump.save.join(" "), dump.user);
        told(what, &dump.service)
    }))
}

/// Where copies go, and which of them stay.
pub(super) fn repository((service, repository): (&Label, &Repository)) -> String {
    let keep: Vec<String> = repository.keep.iter().map(|(rule, number)| format!("{number} {rule}")).collect();
    let keep = if keep.is_empty() { "everything".to_owned() } else { keep.join(", ") };
    let restores = if repository.restores { "" } else { ", and restores nothing" };
    format!("{} of {service}, keeps {keep}{restores}", repository.address)
}

fn names(labels: &[Label]) -> String {
    labels.iter().map(Label::as_str).collect::<Vec<_>>().join(", ")
}

fn counts(manifest: &HostManifest) -> String {
    let count = |number: usize, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
    [
        count(manifest.files.len(), "file"),
        count(manifest.links.len(), "link"),
        count(manifest.units.len(), "unit"),
        count(manifest.accounts.users.len(), "user"),
        count(manifest.accounts.groups.len(), "group"),
        count(manifest.images.len(), "image"),
    ]
    .join(", ")
}

fn show_file(
    path: &BundlePath,
    entry: &FileEntry,
    content: Option<&Content>,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "\n== {path} {:04o}{}", entry.mode, if entry.tokens { ", with tokens" } else { "" })?;
    match content {
        Some(Content::Text(text)) => {
            let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            write!(out, "{}{end}", printable(text))
        }
        Some(Content::Payload(file)) => {
            let digest = file.digest().map(|digest| format!(", {digest}")).unwrap_or_default();
            writeln!(out, "({} bytes{digest})", file.size)
        }
        None => Ok(()),
    }
}

fn list(title: &str, lines: impl Iterator<Item = String>, out: &mut impl Write) -> io::Result<()> {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        writeln!(out, "\n== {title}")?;
    }
    lines.try_for_each(|line| writeln!(out, "{line}"))
}

fn unit(unit: &UnitEntry) -> String {
    let role = match unit.role {
        Role::Run => "run",
        Role::Follow => "follow",
        Role::Mask => "mask",
    };
    let on_change = match unit.on_change {
        OnChange::Restart => "",
        OnChange::Reload => ", reloads on any change",
        OnChange::StopStart => ", stops before a change",
        OnChange::Nothing => ", left alone by a change",
    };
    let more = [
        (!unit.reload_on.is_empty(), ", reloads"),
        (true, on_change),
        (unit.optional, ", optional"),
        (unit.barrier, ", barrier"),
    ];
    let more: String = more.iter().filter(|(said, _)| *said).map(|(_, words)| *words).collect();
    format!("{} ({role}{more}) of {}", unit.name, unit.service)
}

fn version((program, needed): (&Versioned, &Needed)) -> String {
    let (major, minor) = needed.at_least;
    match program {
        Versioned::Systemd => format!("systemd {major} for {}", needed.because),
        Versioned::Podman => format!("Podman {major}.{minor} for {}", needed.because),
    }
}

fn validation(validation: &Validation) -> String {
    let files: Vec<&str> = validation.files.iter().map(BundlePath::as_str).collect();
    format!("{} for {} of {}", validation.command.join(" "), files.join(", "), validation.service)
}

fn check(check: &Check) -> String {
    check.to_string()
}

/// A host as JSON: its manifest, and the files with their text.
#[derive(Serialize)]
struct Shown<'a> {
    manifest: &'a HostManifest,
    files: BTreeMap<&'a BundlePath, ShownFile<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase", untagged)]
enum ShownFile<'a> {
    Text { mode: u32, text: &'a str },
    Payload { mode: u32, size: u64, digest: Option<Digest> },
}

/// Prints hosts as one JSON array.
///
/// # Errors
/// What the output says.
pub fn json(hosts: &[&Lowered], out: &mut impl Write) -> io::Result<()> {
    let shown: Vec<Shown<'_>> = hosts.iter().map(|host| shown(host)).collect();
    serde_json::to_writer_pretty(&mut *out, &shown)?;
    writeln!(out)
}

fn shown(host: &Lowered) -> Shown<'_> {
    let files = host.files.iter().map(|(path, content)| {
        let mode = host.manifest.files.get(path).map_or(0, |entry| entry.mode);
        let file = match content {
            Content::Text(text) => ShownFile::Text { mode, text },
            Content::Payload(file) => ShownFile::Payload { mode, size: file.size, digest: file.digest() },
        };
        (path, file)
    });
    Shown { manifest: &host.manifest, files: files.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::manifest::{Accounts, Dump, FORMAT, Keep, Probe, Program};
    use crate::compile::payload::PayloadFile;

    fn needed(at_least: (u32, u32), because: &str) -> Needed {
        Needed { at_least, because: because.to_owned() }
    }

    fn host() -> Lowered {
        let path = |path: &str| -> BundlePath { path.parse().unwrap() };
        let digest = Digest::of(b"x");
        let payload = PayloadFile::of(None, true, b"x", "/n");
        let unit = UnitEntry {
            on_change: OnChange::StopStart,
            optional: true,
            barrier: true,
            ..UnitEntry::new(
                "a.service".parse().unwrap(),
                "app".parse().unwrap(),
                Role::Run,
                vec![path("units/a.service")],
                vec![path("etc/a/conf")],
            )
        };
        let probe = Probe {
            service: "app".parse().unwrap(),
            check: Check::Unix { path: "/run/a.sock".parse().unwrap() },
            timeout_s: 5,
        };
        let repository = Repository {
            address: "/srv/backups".to_owned(),
            password: "restic-password".parse().unwrap(),
            credentials: None,
            ssh: None,
            keep: [(Keep::Daily, 7)].into(),
            restores: true,
        };
        Lowered {
            manifest: HostManifest {
                format: FORMAT,
                environment: "homelab".parse().unwrap(),
                host: "arch-vps".parse().unwrap(),
                serial: Some(7),
                accounts: Accounts::default(),
                files: [
                    (path("etc/a/conf"), FileEntry::with_tokens(0o644)),
                    (path("objects/a/run"), FileEntry::as_it_is(0o755, digest, 1)),
                ]
                .into(),
                links: [(path("units/x.target.wants/a.service"), "../a.service".to_owned())].into(),
                units: vec![unit],
                pulls: [format!("example.com/b@{digest}")].into(),
                images: [("localhost/a:1".to_owned(), digest)].into(),
                programs: [(
                    "/usr/bin/caddy".parse().unwrap(),
                    Program { package: "caddy".to_owned(), needed_by: vec![] },
                )]
                .into(),
                versions: [
                    (Versioned::Systemd, needed((254, 0), "`RestartSteps=` of `a.service`")),
                    (Versioned::Podman, needed((5, 3), "Quadlets in a linked directory")),
                ]
                .into(),
                validations: vec![Validation {
                    service: "app".parse().unwrap(),
                    command: vec!["/usr/bin/judge".to_owned(), "/var/lib/rick/current/etc/a/conf".to_owned()],
                    files: vec![path("etc/a/conf")],
                }],
                probes: vec![probe],
                secrets: [("app-key".parse().unwrap(), vec!["app".parse().unwrap()])].into(),
                states: [("/var/lib/app".parse().unwrap(), "app".parse().unwrap())].into(),
                dumps: vec![Dump {
                    service: "app".parse().unwrap(),
                    name: "base".parse().unwrap(),
                    user: "app".parse().unwrap(),
                    save: vec!["/usr/bin/dump".to_owned(), "base".to_owned()],
                    restore: vec!["/usr/bin/load".to_owned()],
                    empty: vec!["/usr/bin/empty".to_owned()],
                    clear: vec!["/usr/bin/clear".to_owned()],
                }],
                at_rest: ["app".parse().unwrap()].into(),
                repositories: [("backups".parse().unwrap(), repository)].into(),
                moved: [("app".parse().unwrap(), "old/box".parse().unwrap())].into(),
            },
            files: [
                (path("etc/a/conf"), Content::Text("user = @rick(uid:a)\u{1b}[2J".to_owned())),
                (path("objects/a/run"), Content::Payload(payload)),
            ]
            .into(),
        }
    }

    #[test]
    fn a_host_is_shown_file_by_file() {
        let mut out = Vec::new();
        text(&[&host()], &mut out).unwrap();
        let digest = Digest::of(b"x");
        let expected = format!(
            "host arch-vps of environment homelab, serial 7
2 files, 1 link, 1 unit, 0 users, 0 groups, 1 image

== etc/a/conf 0644, with tokens
user = @rick(uid:a)\u{fffd}[2J

== objects/a/run 0755
(1 bytes, {digest})

== links
units/x.target.wants/a.service -> ../a.service

== units, in order
a.service (run, reloads, stops before a change, optional, barrier) of app

== images
localhost/a:1 {digest}
example.com/b@{digest} (pulled)

== programs
/usr/bin/caddy from caddy

== versions that the host must have
systemd 254 for `RestartSteps=` of `a.service`
Podman 5.3 for Quadlets in a linked directory

== validations
/usr/bin/judge /var/lib/rick/current/etc/a/conf for etc/a/conf of app

== probes
unix /run/a.sock of app

== secrets that the host must have
app-key for app

== state
/var/lib/app of app, which is stopped while it is copied, from old/box
dump base by `/usr/bin/dump base` as app of app, which is stopped while it is copied, from old/box

== repositories of copies
/srv/backups of backups, keeps 7 daily
"
        );
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn json_holds_the_manifest_and_every_file() {
        let mut out = Vec::new();
        json(&[&host()], &mut out).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value[0]["manifest"]["host"], "arch-vps");
        assert_eq!(value[0]["files"]["etc/a/conf"]["mode"], 0o644);
        assert_eq!(value[0]["files"]["objects/a/run"]["digest"], Digest::of(b"x").to_string());
    }
}
