//! Desired against applied and live → what is to be done, with nothing left to decide. Pure: a plan can be shown as well as
//! carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::applied::{Applied, AppliedUnit};
use super::desired::{Desired, Wanted};
use super::explain::{self, Change};
use super::host::{Oneshot, UnitState, Verb};
use crate::bundle::manifest::{OnChange, Role};
use crate::bundle::names::UnitName;

/// What is known when a plan is made.
#[derive(Debug)]
pub struct Situation<'a> {
    /// The units of the generation to come.
    pub desired: &'a Desired,
    /// What the running units were last started with.
    pub applied: &'a Applied,
    /// The units of the generation that the host has now: nobody else's, whatever the record says.
    pub ours: &'a Desired,
    /// The units as systemd has them; one that is not here is not loaded.
    pub live: &'a BTreeMap<UnitName, UnitState>,
    /// Units that ran until the switch under way stopped them: they run again, also if rick does not start them otherwise.
    pub halted: &'a BTreeSet<UnitName>,
}

/// What is to be done to units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The steps in order: stops, reloads, then restarts and starts in the order of their dependencies.
    pub steps: Vec<Step>,
    /// The units that are left as they are although they changed.
    pub skipped: Vec<Skip>,
    /// The units of others that are to run again when rick lets go, once this plan is carried out.
    pub displaced: BTreeSet<UnitName>,
    /// The units that this plan stops: they are to run again, here or where the host goes back to, though rick may not start them otherwise.
    pub halted: BTreeSet<UnitName>,
}

/// A unit that is left as it is although it changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skip {
    /// The unit.
    pub unit: UnitName,
    /// Why it is left.
    pub reason: SkipReason,
    /// What of it changed, if somebody knows: see [`explain`].
    pub changed: Vec<Change>,
}

impl Skip {
    /// What is left, and why.
    pub fn told(&self) -> String {
        told(&self.unit, &self.reason, &self.changed)
    }
}

/// Why a unit is left as it is although it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipReason {
    /// It is to go on as it is: `on_change = "nothing"`.
    NeverRestarted,
    /// It is a job, and in the middle of it.
    AtWork,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NeverRestarted => "it changed, and is to go on as it is until somebody restarts it",
            Self::AtWork => "it changed, and is in the middle of its work: the next run is the new one",
        })
    }
}

/// One thing to do to one unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What.
    pub verb: Verb,
    /// To which unit.
    pub unit: UnitName,
    /// And why.
    pub reason: Reason,
    /// What of it changed, if that is why and somebody knows: see [`explain`].
    pub changed: Vec<Change>,
}

impl Step {
    /// A step of which nobody has said yet what changed.
    pub fn new(verb: Verb, unit: UnitName, reason: Reason) -> Self {
        Self { verb, unit, reason, changed: Vec::new() }
    }

    /// What it is done to, and why.
    pub fn told(&self) -> String {
        told(&self.unit, &self.reason, &self.changed)
    }
}

fn told(unit: &UnitName, reason: &dyn fmt::Display, changed: &[Change]) -> String {
    match explain::told(changed).as_str() {
        "" => format!("{unit}: {reason}"),
        changed => format!("{unit}: {reason} ({changed})"),
    }
}

/// Why a step is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// It was not there before.
    New,
    /// What it was started with is no longer what it is.
    UnitChanged,
    /// What it reads again on a reload changed.
    ConfigChanged,
    /// It runs, and nothing says with what.
    TakenOver,
    /// It should run.
    NotRunning,
    /// It should run, and failed.
    Failed,
    /// Its socket can only be restarted while it is down.
    SocketChanged,
    /// The generation hides it.
    Masked,
    /// The generation does not have it.
    Gone,
    /// It ran before rick took its name or hid it.
    GivenBack,
    /// What the generation added to the distribution's own definition is no longer there.
    Restored,
    /// It ran until this switch stopped it.
    Halted,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::New => "new",
            Self::UnitChanged => "it changed",
            Self::ConfigChanged => "its configuration changed",
            Self::TakenOver => "taken over",
            Self::NotRunning => "not running",
            Self::Failed => "it had failed",
            Self::SocketChanged => "its socket changed",
            Self::Masked => "masked",
            Self::Gone => "gone from the environment",
            Self::GivenBack => "it ran before rick took its name",
            Self::Restored => "back to what the distribution says",
            Self::Halted => "it ran before",
        })
    }
}

impl Plan {
    /// Gives each step the reason that `before` has for it, if it has one: what was stopped a moment ago is not "not running".
    #[must_use]
    pub fn with_reasons_of(mut self, before: &Self) -> Self {
        for step in &mut self.steps {
            let same = |other: &&Step| other.unit == step.unit && other.verb == step.verb;
            if let Some(other) = before.steps.iter().find(same) {
                step.reason = other.reason;
                step.changed.clone_from(&other.changed);
            }
        }
        self
    }

    /// The steps of one verb.
    pub fn of(&self, verb: Verb) -> Vec<UnitName> {
        self.steps.iter().filter(|step| step.verb == verb).map(|step| step.unit.clone()).collect()
    }

    /// Restarts and starts in order, neighbours of one verb together, so that each call finds its dependencies done.
    pub fn batches(&self) -> Vec<(Verb, Vec<UnitName>)> {
        let mut batches: Vec<(Verb, Vec<UnitName>)> = Vec::new();
        for step in self.steps.iter().filter(|step| matches!(step.verb, Verb::Restart | Verb::Start)) {
            match batches.last_mut() {
                Some((verb, units)) if *verb == step.verb => units.push(step.unit.clone()),
                _ => batches.push((step.verb, vec![step.unit.clone()])),
            }
        }
        batches
    }
}

/// Decides.
pub fn plan(situation: &Situation<'_>) -> Plan {
    let mut steps = departures(situation);
    let mut skipped = Vec::new();
    for unit in &situation.desired.units {
        let step = |verb, reason| Step::new(verb, unit.name.clone(), reason);
        match situation.act_on(unit) {
            Act::Nothing => {}
            Act::Skip(reason) => {
                skipped.push(Skip { unit: unit.name.clone(), reason, changed: Vec::new() });
            }
            Act::Do(verb, reason) => steps.push(step(verb, reason)),
            Act::StopStart(reason) => steps.extend([step(Verb::Stop, reason), step(Verb::Start, reason)]),
        }
    }
    free_sockets(situation, &mut steps);
    // Stable: within a rank the order of dependencies stays. Restarts and starts share a rank.
    steps.sort_by_key(|step| (rank(step.verb), stop_rank(step)));
    let halted = situation.halted(&steps);
    Plan { steps, skipped, displaced: situation.displaced(), halted }
}

/// What becomes of one unit.
enum Act {
    Nothing,
    Skip(SkipReason),
    Do(Verb, Reason),
    /// Stopped under the old definition, started under the new one.
    StopStart(Reason),
}

impl Situation<'_> {
    fn runs(&self, unit: &UnitName) -> bool {
        self.live.get(unit).is_some_and(UnitState::runs)
    }

    /// It runs, or will by itself.
    fn stirs(&self, unit: &UnitName) -> bool {
        self.live.get(unit).is_some_and(|state| state.runs() || state.auto_restart)
    }

    /// The unit as the generation that the host has now wants it.
    fn now(&self, unit: &UnitName) -> Option<&Wanted> {
        self.ours.units.iter().find(|wanted| wanted.name == *unit)
    }

    /// It is a job, and in the middle of it.
    fn is_at_work(&self, unit: &UnitName) -> bool {
        self.live.get(unit).is_some_and(UnitState::is_at_work)
    }

    fn is_ours(&self, unit: &UnitName) -> bool {
        self.now(unit).is_some() || self.applied.units.contains_key(unit)
    }

    fn act_on(&self, unit: &Wanted) -> Act {
        match unit.role {
            Role::Mask if self.stirs(&unit.name) => Act::Do(Verb::Stop, Reason::Masked),
            Role::Run | Role::Follow if self.runs(&unit.name) => self.change_of(unit),
            Role::Run => self.start_of(unit).map_or(Act::Nothing, |reason| Act::Do(Verb::Start, reason)),
            Role::Follow if self.halted.contains(&unit.name) => Act::Do(Verb::Start, Reason::Halted),
            Role::Follow if self.was_hidden(&unit.name) => Act::Do(Verb::Start, Reason::GivenBack),
            Role::Mask | Role::Follow => Act::Nothing,
        }
    }

    /// It ran when rick hid it or was about to, and was not started since.
    fn was_hidden(&self, unit: &UnitName) -> bool {
        let record = self.applied.units.get(unit);
        let is_job = self.live.get(unit).is_some_and(|state| state.oneshot == Oneshot::Ends);
        let hidden = record.is_none_or(|record| record.role == Some(Role::Mask));
        self.applied.displaced.contains(unit) && hidden && !is_job
    }

    /// For a unit that runs.
    fn change_of(&self, unit: &Wanted) -> Act {
        if matches!(unit.name.kind(), "target" | "slice") {
            // They run nothing. Restarting one would pull everything behind it along.
            return Act::Nothing;
        }
        let applied = self.applied.units.get(&unit.name);
        if unit.role == Role::Follow && self.is_at_work(&unit.name) {
            // A backup, say. The next begins with the new definition anyway.
            let same = applied.is_some_and(|applied| applied.restart_key == Some(unit.restart_key));
            return if same { Act::Nothing } else { Act::Skip(SkipReason::AtWork) };
        }
        let Some(applied) = applied else {
            let theirs = self.now(&unit.name).is_none();
            return Act::Do(Verb::Restart, if theirs { Reason::TakenOver } else { Reason::UnitChanged });
        };
        if applied.restart_key != Some(unit.restart_key) {
            return change_to(unit);
        }
        if unit.reload_key.is_some() && applied.reload_key != unit.reload_key {
            return Act::Do(Verb::Reload, Reason::ConfigChanged);
        }
        Act::Nothing
    }

    /// For a unit that should run and does not.
    fn start_of(&self, unit: &Wanted) -> Option<Reason> {
        let live = self.live.get(&unit.name);
        let applied = self.applied.units.get(&unit.name);
        let as_wanted = applied.is_some_and(|applied: &AppliedUnit| applied.is(unit));
        if as_wanted && live.is_some_and(UnitState::is_done) {
            return None;
        }
        Some(match applied {
            _ if live.is_some_and(UnitState::failed) => Reason::Failed,
            None => Reason::New,
            Some(_) if as_wanted => Reason::NotRunning,
            Some(_) => Reason::UnitChanged,
        })
    }

    /// The units of others that will have to come back one day.
    fn displaced(&self) -> BTreeSet<UnitName> {
        let names = self.desired.names();
        let still = self.applied.displaced.iter().filter(|unit| names.contains(*unit));
        let ours = self.desired.units.iter().filter(|unit| !is_theirs(unit.borrowed, Some(unit.role)));
        let new = ours.map(|unit| &unit.name).filter(|unit| self.stirs(unit) && !self.owns(unit));
        still.chain(new).cloned().collect()
    }

    /// It is ours, and not only to add to.
    fn owns(&self, unit: &UnitName) -> bool {
        match (self.now(unit), self.applied.units.get(unit)) {
            (Some(now), _) => !is_theirs(now.borrowed, Some(now.role)),
            (None, Some(record)) => !is_theirs(record.borrowed, record.role),
            (None, None) => false,
        }
    }
}

/// A unit of the distribution that is only added to, and that others start, stays theirs: nothing is to be given back.
fn is_theirs(borrowed: bool, role: Option<Role>) -> bool {
    borrowed && role == Some(Role::Follow)
}

/// For a unit that runs under another definition than the one to come.
fn change_to(unit: &Wanted) -> Act {
    match unit.on_change {
        // The root file system cannot be let go of.
        _ if unit.name.as_str() == "-.mount" => Act::Do(Verb::Reload, Reason::UnitChanged),
        OnChange::Restart => Act::Do(Verb::Restart, Reason::UnitChanged),
        OnChange::Reload => Act::Do(Verb::Reload, Reason::UnitChanged),
        OnChange::StopStart => Act::StopStart(Reason::UnitChanged),
        OnChange::Nothing => Act::Skip(SkipReason::NeverRestarted),
    }
}

/// What is to be done to the units that the new generation does not have. Stops come last things first: systemd takes job by job, and
/// keeps to the order of two units only while it has the jobs of both.
fn departures(situation: &Situation<'_>) -> Vec<Step> {
    let names = situation.desired.names();
    let ours = situation.ours.units.iter().map(|unit| &unit.name);
    let others = situation.applied.units.keys().filter(|unit| situation.now(unit).is_none());
    let displaced = situation.applied.displaced.iter().filter(|unit| !situation.is_ours(unit));
    let gone = ours.chain(others).chain(displaced).filter(|unit| !names.contains(*unit));
    let steps: Vec<Step> = gone.flat_map(|unit| situation.departure(unit)).collect();
    let (halts, others): (Vec<_>, Vec<_>) = steps.into_iter().partition(|step| step.verb == Verb::Stop);
    halts.into_iter().rev().chain(others).collect()
}

impl Situation<'_> {
    /// A unit that rick defined is stopped while its definition is there. What it displaced is given back.
    fn departure(&self, unit: &UnitName) -> Vec<Step> {
        let step = |verb, reason| Step::new(verb, unit.clone(), reason);
        if self.is_back(unit) {
            return Vec::new();
        }
        let displaced = self.applied.displaced.contains(unit);
        let (borrowed, role) = match (self.now(unit), self.applied.units.get(unit)) {
            (Some(now), _) => (now.borrowed, Some(now.role)),
            // The switch that was to let go of it was cut short.
            (None, Some(record)) => (record.borrowed, record.role),
            (None, None) => (false, None),
        };
        let follows = role == Some(Role::Follow);
        if borrowed && follows && self.is_at_work(unit) {
            // The distribution's own job, started by itself: an update of the system, say. The next one is as it says.
            return Vec::new();
        }
        if self.runs(unit) && borrowed && (displaced || follows) {
            // A restart, for a stop would take along what requires it.
            return vec![step(Verb::Restart, Reason::Restored)];
        }
        let to_end = self.stirs(unit) || self.live.get(unit).is_some_and(UnitState::failed);
        let ended = to_end.then(|| step(Verb::Stop, Reason::Gone));
        let given_back = displaced.then(|| step(Verb::Start, Reason::GivenBack));
        ended.into_iter().chain(given_back).collect()
    }

    /// It runs, and not from a definition of rick's any more: its life is none that was seen while systemd had one.
    fn is_back(&self, unit: &UnitName) -> bool {
        let life = self.live.get(unit).and_then(|state| state.invocation_id.as_ref());
        let recorded = self.applied.units.get(unit).and_then(|record| record.invocation_id.as_ref());
        self.now(unit).is_none() && self.runs(unit) && life != recorded
    }

    /// The units that `steps` stop, but for jobs. What is behind a socket comes back when it is asked for.
    fn halted(&self, steps: &[Step]) -> BTreeSet<UnitName> {
        let ends = |step: &&Step| {
            matches!(step.verb, Verb::Stop | Verb::Restart) && step.reason != Reason::SocketChanged
        };
        let stopped = steps.iter().filter(ends).map(|step| &step.unit);
        stopped.filter(|unit| self.runs(unit) && !self.is_at_work(unit)).cloned().collect()
    }
}

/// systemd refuses to start or restart a socket while its service runs: the service goes down first, and comes up after it.
fn free_sockets(situation: &Situation<'_>, steps: &mut Vec<Step>) {
    let sockets = steps.iter().filter(|step| step.unit.kind() == "socket" && step.verb != Verb::Stop);
    let triggered: BTreeSet<UnitName> = sockets.flat_map(|step| situation.triggered_by(&step.unit)).collect();
    let behind = |unit: &&Wanted| triggered.contains(&unit.name) && situation.runs(&unit.name);
    for service in situation.desired.units.iter().filter(behind) {
        let step = |verb| Step::new(verb, service.name.clone(), Reason::SocketChanged);
        let planned = steps.iter().position(|other| other.unit == service.name);
        match (planned, service.role) {
            (Some(at), _) if steps[at].verb == Verb::Stop => continue,
            (Some(at), Role::Run) => steps[at] = step(Verb::Start),
            // The socket starts it.
            (Some(at), _) => drop(steps.remove(at)),
            (None, Role::Run) => steps.push(step(Verb::Start)),
            (None, _) => {}
        }
        steps.push(step(Verb::Stop));
    }
}

impl Situation<'_> {
    /// What a socket starts: what systemd says of one that it knows, and the service of the same name for one that is new.
    fn triggered_by(&self, socket: &UnitName) -> Vec<UnitName> {
        let known = self.live.get(socket).map(|state| state.triggers.clone()).unwrap_or_default();
        let same_name = format!("{}.service", socket.stem()).parse();
        if known.is_empty() { same_name.into_iter().collect() } else { known }
    }
}

fn rank(verb: Verb) -> u8 {
    match verb {
        Verb::Stop => 0,
        Verb::Reload => 1,
        Verb::Restart | Verb::Start => 2,
    }
}

/// What could start a service again is stopped before it.
fn stop_rank(step: &Step) -> bool {
    step.verb == Verb::Stop && !matches!(step.unit.kind(), "timer" | "socket" | "path" | "automount")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::host::{ActiveState, LoadState, Oneshot};
    use crate::bundle::digest::Digest;

    /// `NAME ROLE RESTART-KEY RELOAD-KEY [borrowed | ON-CHANGE]`, the reload key `-` for none.
    fn desired(units: &[&str]) -> Desired {
        let unit = |line: &&str| {
            let words: Vec<&str> = line.split(' ').collect();
            let role = match words[1] {
                "run" => Role::Run,
                "follow" => Role::Follow,
                _ => Role::Mask,
            };
            Wanted {
                name: words[0].parse().unwrap(),
                role,
                restart_key: Digest::of(words[2].as_bytes()),
                reload_key: (words[3] != "-").then(|| Digest::of(words[3].as_bytes())),
                borrowed: words[4..].contains(&"borrowed"),
                on_change: match words.get(4) {
                    Some(&"reload") => OnChange::Reload,
                    Some(&"stop-start") => OnChange::StopStart,
                    Some(&"nothing") => OnChange::Nothing,
                    _ => OnChange::Restart,
                },
                optional: false,
                barrier: false,
            }
        };
        Desired { units: units.iter().map(unit).collect() }
    }

    struct Case {
        applied: Applied,
        ours: Desired,
        live: BTreeMap<UnitName, UnitState>,
        halted: BTreeSet<UnitName>,
    }

    impl Case {
        /// A host on which `units` were applied and run.
        fn running(units: &[&str]) -> Self {
            let before = desired(units);
            let mut case = Self {
                applied: Applied::default(),
                ours: before.clone(),
                live: BTreeMap::new(),
                halted: BTreeSet::new(),
            };
            for unit in &before.units {
                case.applied.units.insert(unit.name.clone(), AppliedUnit::of(unit, None, 1));
                if unit.role != Role::Mask {
                    case = case.live(unit.name.as_str(), ActiveState::Active);
                }
            }
            case
        }

        fn live(mut self, unit: &str, active: ActiveState) -> Self {
            let state = UnitState { load: LoadState::Loaded, active, ..UnitState::default() };
            self.live.insert(unit.parse().unwrap(), state);
            self
        }

        fn plan(&self, units: &[&str]) -> Plan {
            let desired = desired(units);
            let (applied, ours, live) = (&self.applied, &self.ours, &self.live);
            plan(&Situation { desired: &desired, applied, ours, live, halted: &self.halted })
        }

        fn steps(&self, units: &[&str]) -> Vec<String> {
            let told = |step: &Step| format!("{} {}: {}", step.verb.word(), step.unit, step.reason);
            self.plan(units).steps.iter().map(told).collect()
        }
    }

    #[test]
    fn nothing_changed_means_nothing_to_do() {
        let units = [
            "a.service run 1 1",
            "b.timer run 1 -",
            "c.service follow 1 -",
            "d.service mask 1 -",
            "rick.target run 1 -",
        ];
        let case = Case::running(&units).live("c.service", ActiveState::Inactive);
        assert!(case.steps(&units).is_empty());
    }

    #[test]
    fn exactly_what_changed_moves() {
        let case = Case::running(&[
            "a.service run 1 1",
            "b.service run 1 1",
            "c.service run 1 -",
            "d.service follow 1 -",
        ]);
        let after = [
            "a.service run 2 2",
            "b.service run 1 2",
            "c.service run 1 -",
            "d.service follow 2 -",
            "e.service run 1 -",
        ];
        assert_eq!(
            case.steps(&after),
            [
                "reload b.service: its configuration changed",
                "restart a.service: it changed",
                "restart d.service: it changed",
                "start e.service: new",
            ]
        );
    }

    #[test]
    fn what_does_not_run_is_started_and_what_follows_is_left() {
        let units = ["a.service run 1 -", "b.service follow 1 -", "c.service run 1 -"];
        let case = Case::running(&units)
            .live("a.service", ActiveState::Inactive)
            .live("b.service", ActiveState::Inactive)
            .live("c.service", ActiveState::Failed);
        assert_eq!(case.steps(&units), ["start a.service: not running", "start c.service: it had failed"]);
    }

    #[test]
    fn a_oneshot_that_did_its_work_is_left_until_it_changes() {
        let mut case = Case::running(&["setup.service run 1 -"]);
        let done = UnitState {
            load: LoadState::Loaded,
            oneshot: Oneshot::Ends,
            invocation_id: Some("1".to_owned()),
            ..UnitState::default()
        };
        case.live.insert("setup.service".parse().unwrap(), done.clone());
        assert!(case.steps(&["setup.service run 1 -"]).is_empty());
        assert_eq!(case.steps(&["setup.service run 2 -"]), ["start setup.service: it changed"]);

        // One that counts as running once it is over was stopped.
        let stopped = UnitState { oneshot: Oneshot::Remains, ..done.clone() };
        case.live.insert("setup.service".parse().unwrap(), stopped);
        assert_eq!(case.steps(&["setup.service run 1 -"]), ["start setup.service: not running"]);

        // One that only a timer would have started so far never did its work.
        let never = UnitState { invocation_id: None, ..done };
        case.live.insert("setup.service".parse().unwrap(), never);
        assert_eq!(case.steps(&["setup.service run 1 -"]), ["start setup.service: not running"]);
    }

    #[test]
    fn a_target_is_never_restarted() {
        let case = Case::running(&["rick.target run 1 -"]);
        assert!(case.steps(&["rick.target run 2 -"]).is_empty());
    }

    #[test]
    fn what_left_is_stopped_with_its_timers_first_and_then_the_last_first() {
        let units =
            ["a.timer run 1 -", "a.service follow 1 -", "client.service run 1 -", "b.service run 1 -"];
        assert_eq!(
            Case::running(&units).steps(&["b.service run 1 -"]),
            [
                "stop a.timer: gone from the environment",
                "stop client.service: gone from the environment",
                "stop a.service: gone from the environment"
            ]
        );
    }

    #[test]
    fn what_waits_to_start_by_itself_is_stopped_too() {
        let units = ["a.service run 1 -", "b.service run 1 -"];
        let mut case = Case::running(&units).live("b.service", ActiveState::Failed);
        let state = UnitState { active: ActiveState::Activating, auto_restart: true, ..UnitState::default() };
        case.live.insert("a.service".parse().unwrap(), state);
        assert_eq!(
            case.steps(&["a.service mask 1 -", "b.service run 1 -"]),
            ["stop a.service: masked", "start b.service: it had failed"]
        );
        assert_eq!(
            case.steps(&[]),
            ["stop b.service: gone from the environment", "stop a.service: gone from the environment"]
        );
    }

    #[test]
    fn a_unit_of_others_is_taken_over_and_given_back() {
        let fresh = Case::running(&[])
            .live("caddy.service", ActiveState::Active)
            .live("valkey.service", ActiveState::Active);
        let units = ["caddy.service run 1 1", "valkey.service mask 1 -", "new.service run 1 -"];
        let taken = fresh.plan(&units);
        assert_eq!(
            fresh.steps(&units),
            ["stop valkey.service: masked", "restart caddy.service: taken over", "start new.service: new"]
        );
        assert_eq!(
            taken.displaced.iter().map(UnitName::as_str).collect::<Vec<_>>(),
            ["caddy.service", "valkey.service"]
        );

        let mut ours = Case::running(&units);
        ours.applied.displaced = taken.displaced;
        assert_eq!(
            ours.plan(&units).displaced,
            ours.applied.displaced,
            "remembered as long as the names are ours"
        );
        assert_eq!(
            ours.steps(&["new.service run 1 -"]),
            [
                "stop caddy.service: gone from the environment",
                "start caddy.service: it ran before rick took its name",
                "start valkey.service: it ran before rick took its name",
            ]
        );
        assert!(ours.plan(&["new.service run 1 -"]).displaced.is_empty());
    }

    #[test]
    fn a_cut_short_switch_does_not_take_its_own_units_for_those_of_others() {
        let mut case = Case::running(&["a.service run 1 -"]);
        case.applied.units.clear();
        let plan = case.plan(&["a.service run 1 -"]);
        assert_eq!(plan.of(Verb::Restart).len(), 1);
        assert!(plan.displaced.is_empty());
    }

    #[test]
    fn a_socket_is_restarted_while_its_service_is_down() {
        let case = Case::running(&[
            "a.socket run 1 -",
            "a.service run 1 -",
            "b.socket run 1 -",
            "b.service follow 1 -",
        ]);
        let after = ["a.socket run 2 -", "a.service run 2 -", "b.socket run 2 -", "b.service follow 2 -"];
        assert_eq!(
            case.steps(&after),
            [
                "stop a.service: its socket changed",
                "stop b.service: its socket changed",
                "restart a.socket: it changed",
                "start a.service: its socket changed",
                "restart b.socket: it changed",
            ]
        );
    }

    #[test]
    fn a_socket_is_started_while_its_service_is_down() {
        let case = Case::running(&["a.service run 1 -"]);
        assert_eq!(
            case.steps(&["a.socket run 1 -", "a.service run 1 -"]),
            [
                "stop a.service: its socket changed",
                "start a.socket: new",
                "start a.service: its socket changed",
            ]
        );
        let mut case = Case::running(&["a.socket run 1 -", "other.service follow 1 -"]);
        case.live.get_mut(&"a.socket".parse().unwrap()).unwrap().triggers =
            vec!["other.service".parse().unwrap()];
        assert_eq!(
            case.steps(&["a.socket run 2 -", "other.service follow 1 -"]),
            ["stop other.service: its socket changed", "restart a.socket: it changed"]
        );
    }

    #[test]
    fn a_job_is_not_torn_out_of_its_work() {
        let units = ["backup.service follow 1 -", "backup.timer run 1 -"];
        let mut case = Case::running(&units);
        let state =
            UnitState { active: ActiveState::Activating, oneshot: Oneshot::Ends, ..UnitState::default() };
        case.live.insert("backup.service".parse().unwrap(), state);
        let changed = ["backup.service follow 2 -", "backup.timer run 2 -"];
        assert_eq!(case.steps(&changed), ["restart backup.timer: it changed"]);
        assert_eq!(
            case.steps(&[]),
            [
                "stop backup.timer: gone from the environment",
                "stop backup.service: gone from the environment"
            ]
        );
    }

    #[test]
    fn a_job_of_the_distribution_ends_its_work() {
        let mut case = Case::running(&["upgrade.service follow 1 - borrowed"]);
        let state =
            UnitState { active: ActiveState::Activating, oneshot: Oneshot::Ends, ..UnitState::default() };
        case.live.insert("upgrade.service".parse().unwrap(), state);
        assert!(case.steps(&["upgrade.service follow 2 - borrowed"]).is_empty());
        assert!(case.steps(&[]).is_empty());
    }

    #[test]
    fn a_vendor_unit_goes_back_to_what_the_distribution_says() {
        let mut case = Case::running(&["ssh.service run 1 - borrowed", "new.service run 1 - borrowed"]);
        case.applied.displaced.insert("ssh.service".parse().unwrap());
        assert_eq!(
            case.steps(&[]),
            [
                "stop new.service: gone from the environment",
                "restart ssh.service: back to what the distribution says",
            ]
        );
    }

    #[test]
    fn a_unit_is_changed_as_it_says() {
        let case = Case::running(&[
            "a.service run 1 - reload",
            "b.service run 1 - stop-start",
            "c.service run 1 - nothing",
            "-.mount run 1 -",
        ]);
        let after = [
            "a.service run 2 - reload",
            "b.service run 2 - stop-start",
            "c.service run 2 - nothing",
            "-.mount run 2 -",
        ];
        assert_eq!(
            case.steps(&after),
            [
                "stop b.service: it changed",
                "reload a.service: it changed",
                "reload -.mount: it changed",
                "start b.service: it changed"
            ]
        );
        let skipped = case.plan(&after).skipped;
        assert_eq!(skipped.len(), 1);
        assert_eq!((skipped[0].unit.as_str(), skipped[0].reason), ("c.service", SkipReason::NeverRestarted));
    }

    #[test]
    fn what_a_switch_stopped_runs_again_where_it_goes_back_to() {
        let units = ["job@x.service follow 1 -", "a.service follow 1 - stop-start", "b.service follow 1 -"];
        let case = Case::running(&units);
        let plan = case.plan(&["a.service follow 2 - stop-start", "b.service follow 1 -"]);
        assert_eq!(
            plan.halted.iter().map(UnitName::as_str).collect::<Vec<_>>(),
            ["a.service", "job@x.service"]
        );

        let mut back = Case::running(&units)
            .live("a.service", ActiveState::Inactive)
            .live("job@x.service", ActiveState::Inactive)
            .live("b.service", ActiveState::Inactive);
        back.halted = plan.halted;
        assert_eq!(
            back.steps(&units),
            ["start job@x.service: it ran before", "start a.service: it ran before"]
        );
    }

    #[test]
    fn a_cut_short_switch_knows_the_distributions_own_units() {
        let mut case =
            Case::running(&["upgrade.service follow 1 - borrowed", "cron.service follow 1 - borrowed"]);
        let working =
            UnitState { active: ActiveState::Activating, oneshot: Oneshot::Ends, ..UnitState::default() };
        case.live.insert("upgrade.service".parse().unwrap(), working);
        case.ours = desired(&[]);
        assert_eq!(case.steps(&[]), ["restart cron.service: back to what the distribution says"]);
    }

    #[test]
    fn what_was_given_back_before_a_switch_was_cut_short_is_left_alone() {
        let mut case = Case::running(&["cron.service run 1 -", "ssh.service run 1 -"]);
        case.ours = desired(&[]);
        case.applied.displaced = ["cron.service", "ssh.service"].map(|unit| unit.parse().unwrap()).into();
        case.applied.units.retain(|unit, _| unit.as_str() == "cron.service");
        case = case.live("ssh.service", ActiveState::Inactive);
        let new_life = UnitState {
            active: ActiveState::Active,
            invocation_id: Some("new".to_owned()),
            ..UnitState::default()
        };
        case.live.insert("cron.service".parse().unwrap(), new_life);
        assert_eq!(case.steps(&[]), ["start ssh.service: it ran before rick took its name"]);
    }

    #[test]
    fn what_was_hidden_runs_again_when_only_others_start_it() {
        let mut case = Case::running(&["cron.service mask 1 -", "at.service mask 1 -"])
            .live("cron.service", ActiveState::Inactive)
            .live("at.service", ActiveState::Inactive);
        case.applied.displaced.insert("cron.service".parse().unwrap());
        assert_eq!(
            case.steps(&["cron.service follow 2 -", "at.service follow 2 -"]),
            ["start cron.service: it ran before rick took its name"]
        );
    }

    #[test]
    fn batches_keep_the_order_of_dependencies() {
        let case = Case::running(&["a.service run 1 -", "c.service run 1 -", "d.service run 1 -"]);
        let after = ["a.service run 2 -", "b.service run 1 -", "c.service run 2 -", "d.service run 2 -"];
        let batches = case.plan(&after).batches();
        let told: Vec<String> =
            batches.iter().map(|(verb, units)| format!("{} {}", verb.word(), units.len())).collect();
        assert_eq!(told, ["restart 1", "start 1", "restart 2"]);
    }
}
