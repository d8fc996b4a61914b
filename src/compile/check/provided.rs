//! The units that a host has by its services, under the names that systemd gives them.

use std::collections::{BTreeMap, BTreeSet};

use super::super::item::UnitBody;
use super::super::keys::QUADLET_KINDS;
use super::survey::Survey;
use super::well_known::{NAMES, is_made_at_run_time, is_well_known};
use super::written::Written;

/// Unit name → where it is written.
pub(super) struct Provided<'a> {
    /// Whole units, and what Quadlet makes.
    pub(super) whole: BTreeMap<String, &'a Written<'a>>,
    /// Units of the distribution that a service adds to, and aliases.
    others: BTreeSet<&'a str>,
    /// Quadlet file name → the unit that Quadlet makes of it.
    pub(super) quadlets: BTreeMap<&'a str, String>,
}

impl<'a> Provided<'a> {
    pub(super) fn by(survey: &'a Survey<'a>) -> Self {
        let mut provided =
            Self { whole: BTreeMap::new(), others: BTreeSet::new(), quadlets: BTreeMap::new() };
        for (written, unit) in &survey.units {
            match unit.body {
                UnitBody::Whole(_) => _ = provided.whole.entry(unit.name.clone()).or_insert(written),
                UnitBody::DropIn(..) => _ = provided.others.insert(&unit.name),
                UnitBody::Mask => {}
            }
        }
        for (written, _) in &survey.quadlets {
            let name = unit_of_quadlet(written);
            provided.quadlets.insert(written.name, name.clone());
            provided.whole.entry(name).or_insert(written);
        }
        let aliases = survey.written().flat_map(|written| written.all("Install", "Alias"));
        provided.others.extend(aliases.flat_map(|entry| entry.value.split_whitespace()));
        provided
    }

    /// Some service of this host brings the unit, or every host has it, or it needs no file.
    pub(super) fn has(&self, name: &str) -> bool {
        let known = |name: &str| self.whole.contains_key(name) || self.others.contains(name);
        known(name)
            || template(name).is_some_and(|template| known(&template))
            || is_well_known(name)
            || is_made_at_run_time(name)
    }

    /// The unit that a person could have meant, as a sentence. Short names are near to everything, and so to nothing.
    pub(super) fn near(&self, name: &str) -> Option<String> {
        let names = || self.whole.keys().map(String::as_str).chain(self.others.iter().copied()).chain(NAMES);
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let allowed = (stem.chars().count() / 3).min(2);
        let whole = names().find(|known| known.strip_suffix(".service") == Some(name));
        let distance = |known: &str| strsim::damerau_levenshtein(name, known);
        let near = names().filter(|known| distance(known) <= allowed).min_by_key(|known| distance(known));
        whole.or(near).map(|known| format!("did you mean `{known}`?"))
    }
}

/// `a@b.service` → `a@.service`.
fn template(name: &str) -> Option<String> {
    let (stem, rest) = name.split_once('@')?;
    let (_, kind) = rest.rsplit_once('.')?;
    Some(format!("{stem}@.{kind}"))
}

/// The unit that Quadlet makes of a file: `ServiceName=` if there is one, else the stem with what the kind adds.
pub(super) fn unit_of_quadlet(written: &Written<'_>) -> String {
    let (stem, kind) = written.name.rsplit_once('.').unwrap_or((written.name, ""));
    let known = QUADLET_KINDS.iter().find(|(known, ..)| *known == kind);
    let (section, suffix) = known.map_or(("", ""), |(_, section, suffix)| (*section, *suffix));
    let named = written.value(section, "ServiceName");
    if !named.is_empty() {
        return format!("{named}.service");
    }
    match stem.split_once('@') {
        Some((stem, instance)) => format!("{stem}{suffix}@{instance}.service"),
        None => format!("{stem}{suffix}.service"),
    }
}
