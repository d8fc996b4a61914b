//! Native units: names, claims, sections, and the files whose change reloads them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::finding::Finding;
use super::super::host;
use super::super::item::{Unit, UnitBody};
use super::super::keys::{unit_section, unit_sections};
use super::super::similar::did_you_mean;
use super::accounts::parsed;
use super::known::{self, Sections};
use super::provided::unit_of_quadlet;
use super::stated::{Stated, help};
use super::survey::Survey;
use super::taken::aliases;
use super::written::Written;
use crate::bundle::names::{BundlePath, Label, UnitName};

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) -> Vec<host::Unit> {
    claims(survey, findings);
    survey.units.iter().filter_map(|(written, unit)| check_unit(survey, written, unit, findings)).collect()
}

fn check_unit(
    survey: &Survey<'_>,
    written: &Written<'_>,
    unit: &Unit,
    findings: &mut Vec<Finding>,
) -> Option<host::Unit> {
    let sections = Sections { names: unit_sections(written.kind()), find: unit_section };
    known::check(written, &sections, &survey.versions, findings);
    let name = parsed::<UnitName>(&written.stated, &[&unit.name], &unit.name, findings);
    let reload_on = reload_on(survey, written.stated, unit, findings);
    let body = match &unit.body {
        UnitBody::Whole(_) => host::UnitBody::Whole(written.sections()),
        UnitBody::DropIn(stem, _) => {
            let stem = parsed::<Label>(&written.stated, &["drop_in", stem], stem, findings)?;
            host::UnitBody::DropIn(stem, written.sections())
        }
        UnitBody::Mask => host::UnitBody::Mask,
    };
    Some(host::Unit {
        service: written.stated.label()?,
        name: name?,
        body,
        reload_on,
        replaces: unit.replaces,
        follows: unit.follows,
        handling: unit.handling,
    })
}

/// What is added to every unit of a type: one claim for each file.
pub(super) fn check_types(survey: &Survey<'_>, findings: &mut Vec<Finding>) -> Vec<host::TypeDropIn> {
    let mut seen: BTreeMap<(&str, &str), Stated<'_>> = BTreeMap::new();
    let mut all = Vec::new();
    for (written, drop_in) in &survey.type_drop_ins {
        let sections = Sections { names: unit_sections(written.kind()), find: unit_section };
        known::check(written, &sections, &survey.versions, findings);
        let stated = written.stated;
        if let Some(first) = seen.insert((&drop_in.kind, &drop_in.stem), stated) {
            let message = format!("drop-in `{}.d/{}.conf` is stated twice", drop_in.kind, drop_in.stem);
            findings.push(stated.conflict(first, &["drop_in"], message));
        }
        let stem = parsed::<Label>(&stated, &["drop_in", &drop_in.stem], &drop_in.stem, findings);
        if let (Some(stem), Some(service)) = (stem, stated.label()) {
            let (kind, sections) = (drop_in.kind.clone(), written.sections());
            all.push(host::TypeDropIn { service, kind, stem, sections });
        }
    }
    all
}

/// One claim for each unit and each drop-in, those that Quadlet makes and aliases included.
fn claims(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    let mut seen: BTreeMap<(String, &str), Stated<'_>> = BTreeMap::new();
    let native = survey.units.iter().map(|(written, unit)| {
        let stem = if let UnitBody::DropIn(stem, _) = &unit.body { stem.as_str() } else { "" };
        (unit.name.clone(), stem, written)
    });
    let mut files = BTreeSet::new();
    let once =
        survey.quadlets.iter().map(|(written, _)| written).filter(|written| files.insert(written.name));
    let made = once.map(|written| (unit_of_quadlet(written), "", written));
    let whole = survey.units.iter().filter(|(_, unit)| matches!(unit.body, UnitBody::Whole(_)));
    let aliases = whole.flat_map(|(written, unit)| {
        aliases(written).filter(|alias| *alias != unit.name).map(move |alias| (alias.to_owned(), "", written))
    });
    for (name, stem, written) in native.chain(made).chain(aliases) {
        let what = if stem.is_empty() { "unit" } else { "drop-in" };
        let shown = if stem.is_empty() { name.clone() } else { format!("{name}.d/{stem}.conf") };
        if let Some(first) = seen.insert((name.clone(), stem), written.stated) {
            let message = format!("{what} `{shown}` is stated twice");
            findings.push(written.stated.conflict(first, &[&name, written.name], message));
        }
    }
}

/// The files of `reload_on`: of the same service, and at a path that stays.
fn reload_on(
    survey: &Survey<'_>,
    stated: Stated<'_>,
    unit: &Unit,
    findings: &mut Vec<Finding>,
) -> Vec<BundlePath> {
    let own = || survey.files.iter().filter(|(other, _)| other.service.name == stated.service.name);
    let mut paths = Vec::new();
    for name in &unit.reload_on {
        let words: &[&str] = &["reload_on", name];
        match own().find(|(_, file)| file.name == *name) {
            Some((other, file)) if file.stable => {
                paths.extend(file.place().parse::<BundlePath>().ok());
            }
            Some(_) => {
                let message = format!(
                    "`{}` cannot reload on `{name}`: the file's path changes with its content",
                    unit.name
                );
                findings.push(stated.error(words, message, "").help("state the file with `stable = True`"));
            }
            None => {
                let message = format!(
                    "`{}` reloads on `{name}`, which is no file of `{}`",
                    unit.name, stated.service.name
                );
                let near = did_you_mean(name, own().map(|(_, file)| file.name.as_str()));
                findings.push(help(stated.error(words, message, ""), near));
            }
        }
    }
    paths
}
