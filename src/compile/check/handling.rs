//! What a switch is to do with a unit: only what can be done to it, and one thing.

use std::collections::BTreeMap;

use super::super::finding::Finding;
use super::super::item::{Handling, UnitBody};
use super::provided::unit_of_quadlet;
use super::stated::Stated;
use super::survey::Survey;
use super::written::Written;
use crate::bundle::manifest::OnChange;

/// Whatever says how a unit is handled.
struct Saying<'a> {
    unit: String,
    written: &'a Written<'a>,
    handling: Handling,
    /// It defines the unit, and does not only add to it.
    defines: bool,
}

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    let all = sayings(survey);
    for saying in &all {
        findings.extend(not_for(saying).or_else(|| cannot_reload(saying, &all)));
    }
    disagreeing(&all, findings);
}

fn sayings<'a>(survey: &'a Survey<'a>) -> Vec<Saying<'a>> {
    let native = survey.units.iter().map(|(written, unit)| Saying {
        unit: unit.name.clone(),
        written,
        handling: unit.handling,
        defines: matches!(unit.body, UnitBody::Whole(_)),
    });
    let made = survey.quadlets.iter().map(|(written, quadlet)| Saying {
        unit: unit_of_quadlet(written),
        written,
        handling: quadlet.handling,
        defines: true,
    });
    native.chain(made).collect()
}

impl Saying<'_> {
    fn is(&self, on_change: OnChange) -> bool {
        self.handling.on_change == Some(on_change)
    }

    fn error(&self, message: String) -> Finding {
        self.written.stated.error(&["on_change", self.written.name], message, "")
    }

    /// Has this key with a value.
    fn says(&self, section: &str, key: &str) -> bool {
        !self.written.all(section, key).is_empty()
    }

    fn can_reload(&self) -> bool {
        self.says("Service", "ExecReload")
            || self.written.value("Service", "Type") == "notify-reload"
            || self.says("Container", "ReloadCmd")
            || self.says("Container", "ReloadSignal")
    }
}

/// Targets and slices hold others together, and stopping or reloading one is no change of it.
fn not_for(saying: &Saying<'_>) -> Option<Finding> {
    let (_, kind) = saying.unit.rsplit_once('.')?;
    let other = saying.handling.on_change.is_some_and(|on_change| on_change != OnChange::Restart);
    if !other || !matches!(kind, "target" | "slice") {
        return None;
    }
    let message = format!("`{}` is a {kind}, and `on_change` is for what runs", saying.unit);
    Some(saying.error(message).help(format!("say it of the units in the {kind}")))
}

/// A unit that is defined here can reload only if it says how; one of the distribution is trusted to.
fn cannot_reload(saying: &Saying<'_>, all: &[Saying<'_>]) -> Option<Finding> {
    let (_, kind) = saying.unit.rsplit_once('.')?;
    if !saying.is(OnChange::Reload) || kind == "mount" {
        return None;
    }
    if kind != "service" {
        let message = format!("`{}` cannot reload: a {kind} has nothing to read again", saying.unit);
        return Some(saying.error(message).help("leave `on_change` out, and it restarts"));
    }
    let mut same = all.iter().filter(|other| other.unit == saying.unit);
    if !saying.defines || same.any(Saying::can_reload) {
        return None;
    }
    let message = format!("`{}` is to reload when it changes, and does not say how", saying.unit);
    Some(saying.error(message).help("give its `[Service]` an `ExecReload=`, or let it restart"))
}

/// What defines a unit has the last word. Without one, all that add to it must mean the same.
fn disagreeing(all: &[Saying<'_>], findings: &mut Vec<Finding>) {
    let decided = |unit: &str| {
        all.iter().any(|saying| saying.unit == unit && saying.defines && saying.handling.on_change.is_some())
    };
    let mut seen: BTreeMap<&str, (Stated<'_>, OnChange)> = BTreeMap::new();
    for saying in all.iter().filter(|saying| !saying.defines && !decided(&saying.unit)) {
        let Some(on_change) = saying.handling.on_change else { continue };
        let stated = saying.written.stated;
        let (first, meant) = *seen.entry(&saying.unit).or_insert((stated, on_change));
        if meant != on_change {
            let message =
                format!("two drop-ins for `{}` say different things of a change of it", saying.unit);
            let finding = stated.conflict(first, &["on_change", &saying.unit], message);
            findings.push(finding.help("say `on_change` in one of them"));
        }
    }
}
