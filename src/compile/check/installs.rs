//! What `[Install]` names is a unit name, for a link is made of each.

use super::super::finding::Finding;
use super::super::item::UnitBody;
use super::provided::unit_of_quadlet;
use super::survey::Survey;
use super::written::{Entry, Written};
use crate::bundle::names::UnitName;

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    let whole = survey.units.iter().filter(|(_, unit)| matches!(unit.body, UnitBody::Whole(_)));
    let native = whole.map(|(written, unit)| (written, unit.name.clone()));
    let made = survey.quadlets.iter().map(|(written, _)| (written, unit_of_quadlet(written)));
    for (written, own) in native.chain(made) {
        // A name that is none is told already.
        let Ok(own) = own.parse::<UnitName>() else { continue };
        for key in ["WantedBy", "RequiredBy", "UpheldBy", "Alias"] {
            for entry in written.all("Install", key) {
                let names = entry.value.split_whitespace();
                findings.extend(names.filter_map(|name| wrong_name(written, entry, name, &own)));
            }
        }
        if let Some(entry) = written.last("Install", "DefaultInstance").filter(|_| own.is_template()) {
            let instance = format!("{}{}.{}", own.stem(), entry.value, own.kind());
            findings.extend(instance.parse::<UnitName>().err().map(|why| wrong(written, entry, &why)));
        }
    }
}

fn wrong_name(written: &Written<'_>, entry: &Entry, name: &str, own: &UnitName) -> Option<Finding> {
    match name.parse::<UnitName>() {
        Err(why) if name.contains('%') => Some(
            wrong(written, entry, &why)
                .help("write the name itself: rick makes the link, and knows no specifier"),
        ),
        Err(why) => Some(wrong(written, entry, &why)),
        Ok(alias) if entry.key == "Alias" && alias.kind() != own.kind() => {
            let finding = wrong(written, entry, &format!("`{alias}` is no {}", own.kind()));
            Some(finding.help("give an alias the type of its unit"))
        }
        Ok(_) => None,
    }
}

fn wrong(written: &Written<'_>, entry: &Entry, why: &str) -> Finding {
    written.error(&entry.value_place, format!("`{}=` of `{}`: {why}", entry.key, written.name), "")
}
