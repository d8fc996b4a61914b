//! What containers mount from the host: groups that they must have joined, and places that change under them.

use super::super::finding::Finding;
use super::super::item::{CURRENT, Directory, Group};
use super::super::similar::closest;
use super::directories::inside;
use super::fields::field;
use super::stated::{Stated, and_once};
use super::survey::Survey;
use super::written::{Entry, Written};
use crate::bundle::token::Token;

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    for written in
        survey.quadlets.iter().map(|(written, _)| written).filter(|written| written.kind() == "container")
    {
        for entry in written.all("Container", "Volume") {
            let path = field(&entry.value, 0);
            let read_only = field(&entry.value, 2).split(',').any(|option| option == "ro");
            findings.extend(if read_only { None } else { unkept(survey, written, entry, path) });
            findings.extend(match declared(survey, path) {
                Some((stated, directory)) => check_mount(survey, written, entry, stated, directory),
                None => {
                    moving(survey, written, entry, path).or_else(|| misspelt(survey, written, entry, path))
                }
            });
        }
        for entry in written.all("Container", "Mount") {
            findings.extend(bound(&entry.value).and_then(|path| unkept(survey, written, entry, path)));
        }
    }
}

/// The path of the host that a `Mount=` lets the container write to.
fn bound(value: &str) -> Option<&str> {
    let options: Vec<(&str, &str)> =
        value.split(',').map(|option| option.split_once('=').unwrap_or((option, "true"))).collect();
    let find = |words: &[&str]| options.iter().find(|(key, _)| words.contains(key)).map(|(_, value)| *value);
    let read_only = find(&["ro", "readonly"]) == Some("true");
    (find(&["type"]) == Some("bind") && !read_only).then(|| find(&["source", "src"]))?
}

/// Places that hold nothing which anybody would miss.
const PASSING: [&str; 9] =
    ["/run", "/var/run", "/tmp", "/var/tmp", "/var/cache", "/var/log", "/dev", "/proc", "/sys"];

/// What a container writes to the host is somebody's state, or it is neither backed up nor restored, nor does it move.
fn unkept(survey: &Survey<'_>, written: &Written<'_>, entry: &Entry, path: &str) -> Option<Finding> {
    let kept = survey.states.iter().any(|(_, state)| inside(path, &state.directory.path));
    let passing = PASSING.iter().any(|place| inside(path, place)) || path.starts_with(CURRENT);
    if !path.starts_with('/') || kept || passing {
        return None;
    }
    let message = format!("`{}` can write to `{path}`, which is nobody's state", written.name);
    let finding = written.warning(&entry.value_place, message, "is not backed up");
    Some(finding.help(format!("state it, `state(\"{path}\", user = …, group = …)`, or mount it with `:ro`")))
}

/// A mount is what stood at its path when the container started; what is replaced later is not seen.
fn moving(survey: &Survey<'_>, written: &Written<'_>, entry: &Entry, path: &str) -> Option<Finding> {
    if path.starts_with(CURRENT) {
        let message = format!(
            "`{}` mounts `{path}`, and would go on seeing the generation it started with",
            written.name
        );
        let finding = written.error(&entry.value_place, message, "leads through `current`");
        return Some(
            finding.help("state the file without `stable = True`: then a change restarts the container"),
        );
    }
    let server = survey.units.iter().map(|(unit, _)| unit).find(|unit| remakes(unit, path))?;
    if restarts_with(written, server) {
        return None;
    }
    let message = format!(
        "`{}` mounts `{path}`, which `{}` makes anew whenever it restarts",
        written.name, server.name
    );
    let finding = written.warning(&entry.value_place, message, "would be an old, empty directory then");
    let finding = match server.last("Service", "RuntimeDirectory") {
        Some(entry) => and_once(finding, entry.value_place.span(), "made here".to_owned()),
        None => finding,
    };
    Some(finding.help("make it with `directory(…)` instead, or say `RuntimeDirectoryPreserve=restart`"))
}

/// A unit restarts whenever the other one does. Not if that one can restart by itself: only who is told to stop takes others along.
fn restarts_with(unit: &Written<'_>, other: &Written<'_>) -> bool {
    if !matches!(other.value("Service", "Restart"), "" | "no") {
        return false;
    }
    let needed = ["Requires", "BindsTo", "PartOf"].iter().flat_map(|key| unit.all("Unit", key));
    needed.into_iter().any(|entry| entry.value.split_whitespace().any(|name| name == other.name))
}

/// A unit removes the directory when it stops.
fn remakes(unit: &Written<'_>, path: &str) -> bool {
    let kept =
        !matches!(unit.value("Service", "RuntimeDirectoryPreserve"), "" | "no" | "false" | "0" | "off");
    let directories = unit.all("Service", "RuntimeDirectory");
    let mut names = directories.iter().flat_map(|entry| entry.value.split_whitespace());
    !kept && names.any(|name| path.strip_prefix("/run/") == Some(name))
}

/// A path that nobody declares, next to one that somebody does.
fn misspelt(survey: &Survey<'_>, written: &Written<'_>, entry: &Entry, path: &str) -> Option<Finding> {
    let declared = survey.directories.iter().map(|(_, directory)| directory.path.as_str());
    let near = closest(path, declared).filter(|near| strsim::damerau_levenshtein(path, near) <= 2)?;
    let message = format!("`{}` mounts `{path}`, which no service of the host makes", written.name);
    let finding = written.warning(&entry.value_place, message, "");
    Some(finding.help(format!("did you mean `{near}`?")))
}

/// The declared directory that a path is, or is nearest below.
fn declared<'a>(survey: &Survey<'a>, path: &str) -> Option<(Stated<'a>, &'a Directory)> {
    let found = survey.directories.iter().filter(|(_, directory)| inside(path, &directory.path));
    found.max_by_key(|(_, directory)| directory.path.len()).copied()
}

fn check_mount(
    survey: &Survey<'_>,
    written: &Written<'_>,
    entry: &Entry,
    stated: Stated<'_>,
    directory: &Directory,
) -> Option<Finding> {
    let Directory { path, group, user, mode } = directory;
    let everybody = mode & 0o005 == 0o005;
    if group == "root" || everybody || runs_as(written, user) || joined(survey, written, group) {
        return None;
    }
    let message = format!(
        "`{}` mounts `{path}`, and has not joined the group `{group}` that it belongs to",
        written.name
    );
    let finding = written.error(&entry.value_place, message, &format!("needs the group `{group}`"));
    let finding =
        and_once(finding, stated.place(&["group", path]), format!("belongs to `{group}`, mode {mode:04o}"));
    Some(finding.help(format!("add `\"GroupAdd\": gid(\"{group}\")`")))
}

/// Root inside, or the directory's owner. No user at all is root too, which is told elsewhere.
fn runs_as(written: &Written<'_>, owner: &str) -> bool {
    let user = field(written.value("Container", "User"), 0);
    matches!(user, "" | "0" | "root")
        || owner.parse().is_ok_and(|owner| Token::Uid(owner).to_string() == user)
}

fn joined(survey: &Survey<'_>, written: &Written<'_>, group: &str) -> bool {
    let token = group.parse().map(|group| Token::Gid(group).to_string()).unwrap_or_default();
    let declared =
        survey.groups.iter().map(|(_, declared)| *declared).find(|declared: &&Group| declared.name == group);
    let number = declared.and_then(|group| group.id).map(|id| id.to_string());
    let is_it = |value: &str| value == token || number.as_deref() == Some(value);
    let by_user = field(written.value("Container", "User"), 1);
    let added = written.all("Container", "GroupAdd");
    let kept = added.iter().any(|entry| entry.value == "keep-groups")
        && written
            .all("Service", "SupplementaryGroups")
            .iter()
            .any(|entry| entry.value.split_whitespace().any(|name| name == group));
    is_it(by_user)
        || is_it(written.value("Container", "Group"))
        || added.iter().any(|entry| is_it(&entry.value))
        || kept
}
