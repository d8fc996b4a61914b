//! Directories: paths that rick may own, owners that exist.

use std::collections::BTreeMap;
use std::path::Path;

use super::super::finding::Finding;
use super::super::host;
use super::super::item::Directory;
use super::accounts::{parsed, unknown};
use super::stated::Stated;
use super::survey::Survey;
use crate::bundle::names::HostPath;

/// Where services may have directories. Everything else is the distribution's.
const OPEN: [&str; 5] = ["/var", "/run", "/srv", "/opt", "/home"];

/// Directories below those that are the distribution's or rick's own.
const TAKEN: [&str; 21] = [
    "/home",
    "/opt",
    "/run",
    "/run/lock",
    "/run/log",
    "/run/rick",
    "/run/systemd",
    "/run/user",
    "/srv",
    "/var",
    "/var/backups",
    "/var/cache",
    "/var/lib",
    "/var/lib/rick",
    "/var/local",
    "/var/lock",
    "/var/log",
    "/var/mail",
    "/var/run",
    "/var/spool",
    "/var/tmp",
];

/// Directories of which nothing below may be stated either.
const CLOSED: [&str; 7] =
    ["/run/rick", "/run/systemd", "/run/user", "/var/lib/rick", "/var/lib/systemd", "/var/lock", "/var/run"];

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) -> BTreeMap<HostPath, host::Directory> {
    let mut seen: BTreeMap<&str, (Stated<'_>, &Directory)> = BTreeMap::new();
    let mut directories = BTreeMap::new();
    for (stated, directory) in &survey.directories {
        let (first, other) = *seen.entry(&directory.path).or_insert((*stated, directory));
        if other != *directory {
            let message =
                format!("directory `{}` is stated twice, with another owner or mode", directory.path);
            findings.push(stated.conflict(first, &[&directory.path], message));
        }
        owners(survey, *stated, directory, findings);
        if directory.mode > 0o7777 {
            let message = format!("{:#o} is no mode: the largest is 0o7777", directory.mode);
            findings.push(stated.error(&["mode"], message, ""));
        }
        let path = parsed::<HostPath>(stated, &[&directory.path, "path"], &directory.path, findings);
        if path.is_some() {
            may_own(*stated, &directory.path, findings);
        }
        if let (Some(path), Ok(user), Ok(group)) = (path, directory.user.parse(), directory.group.parse()) {
            directories.insert(path, host::Directory { mode: directory.mode, user, group });
        }
    }
    directories
}

/// The path is the parent, or stands below it.
pub(super) fn inside(path: &str, parent: &str) -> bool {
    Path::new(path).starts_with(parent)
}

fn may_own(stated: Stated<'_>, path: &str, findings: &mut Vec<Finding>) {
    let below = |parents: &[&str]| parents.iter().any(|parent| path != *parent && inside(path, parent));
    if below(&OPEN) && !TAKEN.contains(&path) && !below(&CLOSED) {
        return;
    }
    let message = format!("`{path}` is not a directory that rick may own");
    let finding = stated.error(&[path, "path"], message, "");
    findings.push(match path.strip_prefix("/var/run") {
        Some(rest) => finding.help(format!("write `/run{rest}`: `/var/run` is a link to `/run`")),
        None => finding.help(
            "choose a directory of the service's own, such as `/var/lib/NAME`, `/run/NAME` or `/srv/NAME`",
        ),
    });
}

fn owners(survey: &Survey<'_>, stated: Stated<'_>, directory: &Directory, findings: &mut Vec<Finding>) {
    let Directory { path, user, group, .. } = directory;
    let (users, groups) = (survey.user_names(), survey.group_names());
    if !users.contains(user.as_str()) {
        let message = format!("directory `{path}` belongs to the user `{user}`, and no service declares it");
        findings.push(unknown(stated.error(&["user", user], message, "unknown user"), "user", user, &users));
    }
    if !groups.contains(group.as_str()) {
        let message =
            format!("directory `{path}` belongs to the group `{group}`, and no service declares it");
        findings.push(unknown(
            stated.error(&["group", group], message, "unknown group"),
            "group",
            group,
            &groups,
        ));
    }
}
