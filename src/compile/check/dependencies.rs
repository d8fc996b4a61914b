//! Units that other units name are brought by a service of the host, or known to be on every host.

use super::super::finding::Finding;
use super::super::item::UnitBody;
use super::super::keys::{Program, QUADLET_KINDS, QUADLETS_NAME_QUADLETS};
use super::super::similar::did_you_mean;
use super::provided::Provided;
use super::stated::help;
use super::survey::Survey;
use super::written::{Entry, Written};

/// Keys that are broken if the unit is missing.
const NEEDS: [(&str, &str); 8] = [
    ("Unit", "Requires"),
    ("Unit", "Requisite"),
    ("Unit", "BindsTo"),
    ("Unit", "PartOf"),
    ("Unit", "Upholds"),
    ("Timer", "Unit"),
    ("Path", "Unit"),
    ("Socket", "Service"),
];

/// Keys that do nothing if the unit is missing, which may be meant.
const MENTIONS: [(&str, &str); 10] = [
    ("Unit", "Wants"),
    ("Unit", "After"),
    ("Unit", "Before"),
    ("Unit", "Conflicts"),
    ("Unit", "OnFailure"),
    ("Unit", "OnSuccess"),
    ("Unit", "JoinsNamespaceOf"),
    ("Install", "WantedBy"),
    ("Install", "RequiredBy"),
    ("Install", "UpheldBy"),
];

pub(super) fn check(survey: &Survey<'_>, provided: &Provided<'_>, findings: &mut Vec<Finding>) {
    for written in survey.written() {
        let open = |name: &str| !provided.has(name) && !is_translated(survey, provided, written, name);
        for (entry, name) in named(written, &NEEDS).filter(|(_, name)| open(name)) {
            let misnamed = quadlet_name(survey, provided, written, entry, name);
            findings.push(misnamed.unwrap_or_else(|| needed(survey, provided, written, entry, name)));
        }
        for (entry, name) in named(written, &MENTIONS).filter(|(_, name)| open(name)) {
            let misnamed = quadlet_name(survey, provided, written, entry, name);
            findings.extend(misnamed.or_else(|| mentioned(survey, provided, written, entry, name)));
        }
    }
    for (written, unit) in &survey.units {
        if matches!(unit.body, UnitBody::Whole(_)) {
            findings.extend(triggered(provided, written));
        }
    }
}

/// Every unit name under one of these keys. Specifiers are left to systemd.
fn named<'a>(
    written: &'a Written<'_>,
    keys: &'a [(&str, &str)],
) -> impl Iterator<Item = (&'a Entry, &'a str)> {
    keys.iter()
        .flat_map(|(section, key)| written.all(section, key))
        .flat_map(|entry| entry.value.split_whitespace().map(move |name| (entry, name)))
        .filter(|(_, name)| !name.contains(['%', '$']))
}

fn needed(
    survey: &Survey<'_>,
    provided: &Provided<'_>,
    written: &Written<'_>,
    entry: &Entry,
    name: &str,
) -> Finding {
    let message =
        format!("`{}` needs `{name}`, which no service of `{}` brings", written.name, survey.host.name);
    let finding = written.error(&entry.value_place, message, &format!("`{}=` a missing unit", entry.key));
    let finding = help(finding, provided.near(name));
    finding.help("if the distribution brings it, say so with a drop-in for it, or use `Wants=` and `After=`")
}

fn mentioned(
    survey: &Survey<'_>,
    provided: &Provided<'_>,
    written: &Written<'_>,
    entry: &Entry,
    name: &str,
) -> Option<Finding> {
    let near = provided.near(name)?;
    let message =
        format!("`{}` names `{name}`, which no service of `{}` brings", written.name, survey.host.name);
    let finding =
        written.warning(&entry.value_place, message, &format!("`{}=` does nothing here", entry.key));
    Some(finding.help(near))
}

/// A Quadlet may name another Quadlet file, if its Podman is new enough to translate that.
fn is_translated(survey: &Survey<'_>, provided: &Provided<'_>, written: &Written<'_>, name: &str) -> bool {
    let is_quadlet = survey.quadlets.iter().any(|(_, quadlet)| quadlet.name == written.name);
    is_quadlet && translates(survey) && provided.quadlets.contains_key(name)
}

/// Quadlet translates the names of Quadlet files in `[Unit]`.
fn translates(survey: &Survey<'_>) -> bool {
    survey.versions.at_least(Program::Podman, QUADLETS_NAME_QUADLETS)
}

/// The name of a Quadlet file in the place of the unit that is made of it.
fn quadlet_name(
    survey: &Survey<'_>,
    provided: &Provided<'_>,
    written: &Written<'_>,
    entry: &Entry,
    name: &str,
) -> Option<Finding> {
    let (_, kind) = name.rsplit_once('.')?;
    QUADLET_KINDS.iter().find(|(known, ..)| *known == kind)?;
    let message = format!(
        "`{}=` of `{}` names the Quadlet file `{name}` in the place of a unit",
        entry.key, written.name
    );
    let finding = written.error(&entry.value_place, message, "not a unit");
    Some(match provided.quadlets.get(name) {
        Some(unit) if translates(survey) => {
            finding.help(format!("write `{unit}`, the unit that Quadlet makes of it"))
        }
        Some(unit) => {
            finding.help(format!("write `{unit}`, the unit that Quadlet makes of it")).note(format!(
                "Quadlet translates such names since Podman {QUADLETS_NAME_QUADLETS}, in Quadlet files only"
            ))
        }
        None => help(finding, did_you_mean(name, provided.quadlets.keys().copied())),
    })
}

/// A timer, path or socket without a word about it starts the service of its own name.
fn triggered(provided: &Provided<'_>, written: &Written<'_>) -> Option<Finding> {
    let (section, key) = match written.kind() {
        "timer" => ("Timer", "Unit"),
        "path" => ("Path", "Unit"),
        "socket" => ("Socket", "Service"),
        _ => return None,
    };
    let (stem, kind) = written.name.rsplit_once('.')?;
    let accepts = matches!(written.value("Socket", "Accept"), "yes" | "true" | "1" | "on");
    let target = format!("{stem}{}.service", if accepts { "@" } else { "" });
    if !written.value(section, key).is_empty() || provided.has(&target) {
        return None;
    }
    let message = format!("`{}` starts `{target}`, which no service of the host brings", written.name);
    let finding = written.stated.error(&[written.name], message, &format!("a {kind} without a service"));
    Some(
        help(finding, provided.near(&target)).help(format!("state that unit, or name another with `{key}=`")),
    )
}
