//! Names that are taken: those of rick's own units, and those of units that every host has.

use super::super::finding::Finding;
use super::super::item::UnitBody;
use super::provided::unit_of_quadlet;
use super::survey::Survey;
use super::well_known::{is_ricks_own, is_well_known};
use super::written::Written;

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    for (written, unit) in &survey.units {
        let knowingly = unit.replaces || !matches!(unit.body, UnitBody::Whole(_));
        check_names(written, &unit.name, knowingly, findings);
    }
    for (written, quadlet) in &survey.quadlets {
        check_names(written, &unit_of_quadlet(written), quadlet.replaces, findings);
    }
}

/// A unit's name, and its further ones. `knowingly`: it may stand in the place of another, or stands in none.
fn check_names(written: &Written<'_>, own: &str, knowingly: bool, findings: &mut Vec<Finding>) {
    for name in std::iter::once(own).chain(aliases(written)) {
        let words = &[name, written.name];
        if is_ricks_own(name) {
            let finding = written.stated.error(words, format!("`{name}` is a unit of rick itself"), "");
            findings.push(
                finding.note("every switch hangs on it").help("leave it alone, and choose another name"),
            );
        } else if !knowingly && is_well_known(name) {
            let message = format!("`{name}` would stand in the place of a unit that the host has already");
            let finding = written.stated.error(words, message, "");
            findings.push(finding.help("add to it with `drop_in = …`, or say `replaces = True`"));
        }
    }
}

/// The further names of a unit.
pub(super) fn aliases<'a>(written: &'a Written<'_>) -> impl Iterator<Item = &'a str> {
    written.all("Install", "Alias").into_iter().flat_map(|entry| entry.value.split_whitespace())
}
