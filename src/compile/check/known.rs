//! Sections and keys are known to the versions that the host has, and values fit into a line.

use super::super::finding::Finding;
use super::super::ini::continues;
use super::super::keys::{Life, Lookup, Section, Versions};
use super::super::similar::did_you_mean;
use super::stated::help;
use super::written::{Entry, Part, Written};

/// The sections of a kind of file: their names, and how one is found.
pub(super) struct Sections {
    pub(super) names: Vec<&'static str>,
    pub(super) find: fn(&str, &str) -> Option<Section>,
}

pub(super) fn check(
    written: &Written<'_>,
    sections: &Sections,
    versions: &Versions,
    findings: &mut Vec<Finding>,
) {
    for part in &written.parts {
        match (sections.find)(written.kind(), &part.name) {
            Some(section) => {
                for entry in &part.entries {
                    findings.extend(key(written, sections, section, entry, versions));
                }
            }
            None if part.name.starts_with("X-") && plain(&part.name) => {}
            None => findings.push(unknown_section(written, sections, part)),
        }
        findings.extend(part.entries.iter().filter_map(|entry| value(written, entry)));
    }
}

fn unknown_section(written: &Written<'_>, sections: &Sections, part: &Part) -> Finding {
    let name = part.name.escape_debug();
    let finding = written.error(&part.place, format!("unknown section `[{name}]` in `{}`", written.name), "");
    match did_you_mean(&part.name, sections.names.iter().copied()) {
        Some(sentence) => finding.help(sentence),
        None => {
            finding.help(format!("a .{} file can have [{}]", written.kind(), sections.names.join("], [")))
        }
    }
}

/// What is wrong with a key, if anything is.
fn key(
    written: &Written<'_>,
    sections: &Sections,
    section: Section,
    entry: &Entry,
    versions: &Versions,
) -> Option<Finding> {
    match section.key(&entry.key) {
        Lookup::Known(life) => age(written, section, entry, life, versions),
        Lookup::Unknown(near) => {
            let name = section.name();
            let message =
                format!("unknown key `{}` in `[{name}]` of `{}`", entry.key.escape_debug(), written.name);
            let label = format!("{} does not know it", section.program());
            let finding = written.error(&entry.key_place, message, &label);
            let elsewhere = elsewhere(written, sections, section, &entry.key);
            Some(help(finding, elsewhere.or(near.map(|near| format!("did you mean `{near}`?")))))
        }
    }
}

/// A key that stands in the wrong section.
fn elsewhere(written: &Written<'_>, sections: &Sections, here: Section, key: &str) -> Option<String> {
    let mut others = sections.names.iter().filter(|name| **name != here.name());
    let known = |name: &&&str| {
        (sections.find)(written.kind(), name)
            .is_some_and(|section| matches!(section.key(key), Lookup::Known(_)))
    };
    others.find(known).map(|name| format!("move it to `[{name}]`, where `{key}=` belongs"))
}

/// A key that the host's version does not have yet, or has no more.
fn age(
    written: &Written<'_>,
    section: Section,
    entry: &Entry,
    life: Life,
    versions: &Versions,
) -> Option<Finding> {
    let (program, os) = (section.program(), versions.os);
    let has = versions.get(program);
    if let Some(since) = life.since.filter(|since| *since > has) {
        let message = format!("`{}=` came with {program} {since}, and {os} has {has}", entry.key);
        return Some(written.error(&entry.key_place, message, "too new for this host"));
    }
    let gone = life.gone.filter(|gone| *gone <= has)?;
    let message =
        format!("`{}=` does nothing any more: {program} {gone} lacks it, and {os} has {has}", entry.key);
    Some(written.warning(&entry.key_place, message, "gone"))
}

/// A value must stay one line, or it could say more than it seems to.
fn value(written: &Written<'_>, entry: &Entry) -> Option<Finding> {
    let problem = if !plain(&entry.key) {
        "a key that is more than a word"
    } else if entry.value.contains(['\n', '\r']) {
        "a line break in its value"
    } else if entry.value.contains(|c: char| c.is_control() && c != '\t') {
        "a control character in its value"
    } else if continues(&entry.value) {
        "a value that ends in a backslash, which would swallow the next line"
    } else {
        return None;
    };
    let message = format!("`{}` of `{}` has {problem}", entry.key.escape_debug(), written.name);
    Some(written.error(&entry.value_place, message, ""))
}

fn plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}
