//! Quadlet files: names, sections, what Quadlet would throw away, and references to one another.

use std::collections::BTreeMap;

use super::super::finding::Finding;
use super::super::host;
use super::super::item::Quadlet;
use super::super::keys::{Program, QUADLET_KINDS, QUADLETS_UPHELD_BY, quadlet_section, quadlet_sections};
use super::super::lock::Lock;
use super::super::similar::did_you_mean;
use super::accounts::parsed;
use super::fields::field;
use super::known::{self, Sections};
use super::outside;
use super::provided::{Provided, unit_of_quadlet};
use super::stated::{Stated, help};
use super::survey::Survey;
use super::written::{Entry, Written};
use crate::bundle::names::{BundlePath, UnitName};

/// Keys whose value is, or starts with, a path on the host.
const PATHS: [&str; 10] = [
    "EnvironmentFile",
    "Volume",
    "Rootfs",
    "AuthFile",
    "CertDir",
    "Yaml",
    "ConfigMap",
    "File",
    "SetWorkingDirectory",
    "IgnoreFile",
];

/// Keys that may name another Quadlet file, and the kinds that they may name.
const REFERENCES: [(&str, &[&str]); 4] = [
    ("Pod", &["pod"]),
    ("Network", &["network", "container"]),
    ("Volume", &["volume"]),
    ("Image", &["image", "build"]),
];

pub(super) fn check(
    survey: &Survey<'_>,
    provided: &Provided<'_>,
    lock: &Lock,
    findings: &mut Vec<Finding>,
) -> Vec<host::Quadlet> {
    twice(survey, findings);
    let all = survey.quadlets.iter();
    all.filter_map(|(written, quadlet)| {
        let checked = check_quadlet(survey, provided, written, quadlet, findings)?;
        Some(host::Quadlet { pinned: outside::pinned(written, lock), ..checked })
    })
    .collect()
}

/// One claim for each file name.
fn twice(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    let mut seen: BTreeMap<&str, Stated<'_>> = BTreeMap::new();
    for (written, _) in &survey.quadlets {
        if let Some(first) = seen.insert(written.name, written.stated) {
            let message = format!("Quadlet `{}` is stated twice", written.name);
            findings.push(written.stated.conflict(first, &[written.name], message));
        }
    }
}

fn check_quadlet(
    survey: &Survey<'_>,
    provided: &Provided<'_>,
    written: &Written<'_>,
    quadlet: &Quadlet,
    findings: &mut Vec<Finding>,
) -> Option<host::Quadlet> {
    let unit = name(written, findings);
    let sections = Sections { names: quadlet_sections(written.kind()), find: quadlet_section };
    if QUADLET_KINDS.iter().any(|(kind, ..)| *kind == written.kind()) {
        known::check(written, &sections, &survey.versions, findings);
    }
    refused(survey, written, findings);
    for entry in own_entries(written) {
        findings.extend(relative(written, entry));
        findings.extend(reference(provided, written, entry));
    }
    Some(host::Quadlet {
        service: written.stated.label()?,
        name: written.name.parse::<BundlePath>().ok()?,
        unit: unit?,
        sections: written.sections(),
        pinned: None,
        replaces: quadlet.replaces,
        handling: quadlet.handling,
    })
}

/// The entries of the sections that are Quadlet's own.
pub(super) fn own_entries<'a>(written: &'a Written<'_>) -> impl Iterator<Item = &'a Entry> {
    QUADLET_KINDS.iter().flat_map(|(_, section, _)| written.section(section))
}

fn name(written: &Written<'_>, findings: &mut Vec<Finding>) -> Option<UnitName> {
    let kinds = || QUADLET_KINDS.iter().map(|(kind, ..)| *kind);
    let words = &[written.name];
    if !kinds().any(|kind| kind == written.kind()) {
        let message =
            format!("`{}` is not a Quadlet file: `{}` is no kind of Quadlet", written.name, written.kind());
        let finding = help(written.stated.error(words, message, ""), did_you_mean(written.kind(), kinds()));
        findings.push(finding.help(format!("name it with .{}", kinds().collect::<Vec<_>>().join(", ."))));
        return None;
    }
    if written.name.contains('/') {
        let message = format!("`{}` is not a Quadlet file: its name holds a `/`", written.name);
        findings.push(written.stated.error(words, message, ""));
        return None;
    }
    parsed(&written.stated, words, &unit_of_quadlet(written), findings)
}

/// What Quadlet takes without a word and then does not do.
fn refused(survey: &Survey<'_>, written: &Written<'_>, findings: &mut Vec<Finding>) {
    for key in ["User", "Group", "DynamicUser"] {
        if let Some(entry) = written.last("Service", key) {
            let message = format!(
                "`{key}=` stands in `[Service]` of `{}`, where it would run podman itself as that user",
                written.name
            );
            let finding = written.error(&entry.key_place, message, "");
            findings.push(finding.help("set `User=` and `Group=` in `[Container]`"));
        }
    }
    if let Some(entry) = written.last("Service", "Restart").filter(|_| written.kind() == "pod") {
        let message = format!(
            "`Restart=` of `{}` would be thrown away: Quadlet always writes `on-failure` for pods",
            written.name
        );
        let finding = written.error(&entry.key_place, message, "");
        findings.push(finding.help(format!("state a drop-in for `{}` with it", unit_of_quadlet(written))));
    }
    if let Some(entry) = written.last("Install", "UpheldBy")
        && !survey.versions.at_least(Program::Podman, QUADLETS_UPHELD_BY)
    {
        let has = survey.versions.get(Program::Podman);
        let (since, os) = (QUADLETS_UPHELD_BY, survey.versions.os);
        let message = format!("`UpheldBy=` in Quadlets came with Podman {since}, and {os} has {has}");
        findings.push(written.error(&entry.key_place, message, "too new for this host"));
    }
}

/// A relative path is relative to the Quadlet file, and so leads into one generation.
fn relative(written: &Written<'_>, entry: &Entry) -> Option<Finding> {
    let path = match entry.key.as_str() {
        "Mount" => mount_source(&entry.value)?,
        "Volume" => field(&entry.value, 0),
        key if PATHS.contains(&key) => entry.value.trim_start_matches('-'),
        _ => return None,
    };
    let is_name =
        matches!(entry.key.as_str(), "Volume" | "Mount") && !path.contains('/') && !path.starts_with('.');
    let is_url =
        path.contains("://") || (entry.key == "SetWorkingDirectory" && matches!(path, "yaml" | "unit"));
    if path.is_empty()
        || path.starts_with(['/', '%'])
        || path.starts_with("@rick(object:")
        || path.starts_with("@rick(secret:")
        || is_name
        || is_url
    {
        return None;
    }
    let message = format!("`{}=` of `{}` has the relative path `{path}`", entry.key, written.name);
    let finding = written.error(&entry.value_place, message, "");
    Some(
        finding
            .note("it would be relative to the Quadlet file, which moves with every generation")
            .help("write an absolute path, or the `path` of a `file(…)`"),
    )
}

/// The source of a `Mount=` that has one.
fn mount_source(value: &str) -> Option<&str> {
    value.split(',').find_map(|option| option.strip_prefix("source=").or(option.strip_prefix("src=")))
}

/// A reference to another Quadlet file must resolve, or Quadlet makes no unit at all.
fn reference(provided: &Provided<'_>, written: &Written<'_>, entry: &Entry) -> Option<Finding> {
    let key = if entry.key == "Mount" { "Volume" } else { entry.key.as_str() };
    let (_, kinds) = REFERENCES.iter().find(|(known, _)| *known == key)?;
    let value = if entry.key == "Mount" { mount_source(&entry.value)? } else { &entry.value };
    let name = field(value, 0);
    let (_, kind) = name.rsplit_once('.').filter(|_| !name.contains('/'))?;
    let is_reference = kinds.contains(&kind) || entry.key == "Pod";
    if !is_reference || (kinds.contains(&kind) && provided.quadlets.contains_key(name)) {
        return None;
    }
    let message = format!("`{}` names `{name}`, which no service of the host states", written.name);
    let finding = written.error(&entry.value_place, message, "no such Quadlet file");
    Some(help(finding, did_you_mean(name, provided.quadlets.keys().copied())))
}
