//! Carries out a plan: stop → commit → daemon-reload → tmpfiles → reload → restart and start → look, record → probe.
//!
//! Decides nothing. A step that fails does not keep the others from being done: it is reported at the end, and not recorded, so
//! that the next run does it again.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::anchors;
use super::applied::{Applied, AppliedUnit};
use super::desired::{Desired, Wanted};
use super::generation::{self, Generation};
use super::host::{Host, LoadState, Log, UnitState, Verb};
use super::plan::{Plan, Reason, Step};
use super::probe;
use super::report::{Problem, Report};
use super::state::State;
use crate::bundle::manifest::{Role, UnitEntry};
use crate::bundle::names::{Label, UnitName};

/// A plan, and all that carrying it out takes.
pub struct Switch<'a> {
    /// Where everything lies.
    pub state: &'a State,
    /// Who does it.
    pub host: &'a dyn Host,
    /// The generation to come.
    pub target: &'a Generation,
    /// Its units.
    pub desired: &'a Desired,
    /// What is to be done.
    pub plan: &'a Plan,
    /// What was applied before, as it holds now.
    pub applied: Applied,
    /// The units of the generation that systemd has loaded.
    pub loaded: Desired,
    /// The host has another generation now.
    pub flip: bool,
    /// systemd has yet to read the units of the target.
    pub unread: bool,
    /// Where the lines go.
    pub report: &'a mut Report,
}

impl Switch<'_> {
    /// What must be there before the host is touched: a record of what is about to be displaced, and the anchors.
    pub fn prepare(&mut self) -> Result<()> {
        self.applied.displaced = self.applied.displaced.union(&self.plan.displaced).cloned().collect();
        self.applied.unmade |= self.unread;
        self.applied.write(self.state)?;
        anchors::plant(self.state, self.target)
    }

    /// Does it all; gives what is not well afterwards. An error: it broke off halfway, and the next run goes on.
    pub fn carry_out(mut self) -> Result<Vec<Problem>> {
        let mut problems = self.stop();
        self.commit()?;
        self.load()?;
        problems.extend(self.make_directories());
        let complaints = self.act()?;
        problems.extend(self.settle(complaints)?);
        problems.extend(self.probe(&problems));
        // Here a later stage judges: settle window, confirm, and if not well the same steps toward the generation before.
        Ok(problems)
    }

    fn stop(&mut self) -> Vec<Problem> {
        let units = self.plan.of(Verb::Stop);
        self.tell(Verb::Stop);
        let failed = self.jobs(Verb::Stop, &units);
        let gone = self.steps_for(Reason::Gone);
        if !gone.is_empty() {
            // One that went down badly would stay on systemd's list of failures though nobody wants it. That those which went
            // down well are not known any more is no error.
            let _ = self.host.reset_failed(&gone);
        }
        failed.map(Problem::new).into_iter().collect()
    }

    fn commit(&mut self) -> Result<()> {
        if self.flip {
            self.report.line("commit", &format!("generation {}", self.target.number));
            generation::commit(self.state, self.target.number)?;
        }
        Ok(())
    }

    /// systemd reads the new definitions. From here on whatever is started is started from them, and the record says so before anything
    /// is: a run that is killed between two restarts leaves what it takes to tell them apart.
    fn load(&mut self) -> Result<()> {
        if !self.unread {
            return Ok(());
        }
        self.host.daemon_reload()?;
        let live = self.look()?;
        self.applied = std::mem::take(&mut self.applied).seen(&live, &self.loaded);
        self.applied.loads(self.target.number, &live);
        self.applied.write(self.state)
    }

    /// Whatever is about to be started finds its directories.
    fn make_directories(&mut self) -> Option<Problem> {
        let file = self.target.directory.join("tmpfiles.conf");
        let needed = self.applied.unmade || !self.plan.steps.is_empty();
        let made = if needed && self.has_tmpfiles() { self.host.tmpfiles(&file) } else { Ok(()) };
        self.applied.unmade = made.is_err();
        made.err().map(|error| Problem::new(format!("{error:#}")))
    }

    fn has_tmpfiles(&self) -> bool {
        let manifest = self.target.manifest();
        manifest.is_some_and(|manifest| manifest.files.keys().any(|path| path.as_str() == "tmpfiles.conf"))
    }

    /// How all units are that this switch minds.
    fn look(&self) -> Result<BTreeMap<UnitName, UnitState>> {
        let acted = self.plan.steps.iter().map(|step| step.unit.clone());
        observe(self.host, self.desired.names().into_iter().chain(acted))
    }

    /// The units that systemd does not have.
    fn not_loaded(&self) -> Result<BTreeSet<UnitName>> {
        let not_loaded = self.look()?.into_iter().filter(|(_, state)| state.load != LoadState::Loaded);
        Ok(not_loaded.map(|(unit, _)| unit).collect())
    }

    /// Reloads, then restarts and starts in the order of their dependencies; gives what systemctl complained about.
    fn act(&mut self) -> Result<Vec<String>> {
        let refused = self.not_loaded()?;
        let mut complaints = Vec::new();
        self.reset_limits();
        self.tell(Verb::Reload);
        complaints.extend(self.jobs(Verb::Reload, &without(self.plan.of(Verb::Reload), &refused)));
        for (verb, units) in self.plan.batches() {
            let units = without(units, &refused);
            self.tell_units(verb, &units);
            complaints.extend(self.jobs(verb, &units));
        }
        Ok(complaints)
    }

    /// systemd counts starts, and refuses the sixth within ten seconds: those of others shall not count against this switch.
    fn reset_limits(&self) {
        let counted =
            |step: &&Step| matches!(step.verb, Verb::Restart | Verb::Start) && step.reason != Reason::New;
        let units: Vec<UnitName> =
            self.plan.steps.iter().filter(counted).map(|step| step.unit.clone()).collect();
        if !units.is_empty() {
            // A unit that systemd does not have in memory has nothing to reset, which is no error here.
            let _ = self.host.reset_failed(&units);
        }
    }

    /// Looks at all units once, records those that are as they should be, and reports the others.
    fn settle(&mut self, complaints: Vec<String>) -> Result<Vec<Problem>> {
        let states = self.look()?;
        let mut problems = Vec::new();
        for unit in &self.desired.units {
            let state = states.get(&unit.name).cloned().unwrap_or_default();
            if let Some(trouble) = self.trouble(unit, &state) {
                problems.push(self.problem(&unit.name, &state, &trouble));
            } else {
                let record = AppliedUnit::of(unit, state.invocation_id);
                self.applied.units.insert(unit.name.clone(), record);
            }
        }
        problems.extend(self.let_go(&states));
        self.applied.write(self.state)?;
        if problems.is_empty() {
            problems.extend(complaints.into_iter().map(Problem::new));
        }
        Ok(problems)
    }

    /// Forgets the units that the generation does not have, but for those that did not go: the next run stops them.
    fn let_go(&mut self, states: &BTreeMap<UnitName, UnitState>) -> Vec<Problem> {
        let wanted = self.desired.names();
        let gone = self.applied.units.iter().filter(|(unit, _)| !wanted.contains(*unit));
        let lives_on = |record: &AppliedUnit, state: &UnitState| {
            state.runs() && state.invocation_id.is_some() && state.invocation_id == record.invocation_id
        };
        let left: BTreeMap<UnitName, &UnitState> = gone
            .filter_map(|(unit, record)| Some((unit.clone(), record, states.get(unit)?)))
            .filter(|(_, record, state)| lives_on(record, state))
            .map(|(unit, _, state)| (unit, state))
            .collect();
        self.applied.units.retain(|unit, _| wanted.contains(unit) || left.contains_key(unit));
        self.applied.displaced.retain(|unit| self.plan.displaced.contains(unit) || left.contains_key(unit));
        let still =
            |(unit, state)| self.problem(unit, state, "still runs, though it is gone from the environment");
        let mut problems: Vec<Problem> = left.iter().map(|(unit, state)| still((unit, state))).collect();
        for step in
            self.plan.steps.iter().filter(|step| step.verb != Verb::Stop && !wanted.contains(&step.unit))
        {
            if let Some(state) = states.get(&step.unit).filter(|state| state.failed()) {
                problems.push(self.problem(&step.unit, state, &format!("failed ({})", state.result)));
            }
        }
        problems
    }

    /// Asks the probes, but for those of services that are known not to be well: their answer would be waited for in vain.
    fn probe(&mut self, problems: &[Problem]) -> Vec<Problem> {
        let Some(manifest) = self.target.manifest() else { return Vec::new() };
        let ill =
            |unit: &&UnitEntry| problems.iter().any(|problem| problem.unit.as_ref() == Some(&unit.name));
        let ill: BTreeSet<&Label> = manifest.units.iter().filter(ill).map(|unit| &unit.service).collect();
        let asked = manifest.probes.iter().filter(|probe| !ill.contains(&probe.service));
        probe::probe(self.host, asked, self.report)
    }

    /// What is wrong with a unit, if anything is that this switch answers for.
    fn trouble(&self, unit: &Wanted, state: &UnitState) -> Option<String> {
        if unit.name.is_template() {
            return None;
        }
        let reloaded = self.step_of(&unit.name) == Some(Verb::Reload);
        let acted = self.step_of(&unit.name).is_some();
        match (unit.role, &state.load) {
            (Role::Mask, _) => state.runs().then(|| "still runs, though it is hidden".to_owned()),
            (_, LoadState::NotFound) => Some("is not known to systemd".to_owned()),
            (_, LoadState::Masked) => Some("is masked on this host".to_owned()),
            (_, LoadState::Wrong(why)) => Some(format!("is not taken by systemd ({why})")),
            (role, LoadState::Loaded) => {
                if state.failed() && (acted || role == Role::Run) {
                    Some(format!("failed ({})", state.result))
                } else if reloaded && !matches!(state.reload_result.as_str(), "" | "success") {
                    Some(format!("did not reload ({})", state.reload_result))
                } else if role == Role::Run && !state.runs() && !state.is_done() {
                    Some("does not run".to_owned())
                } else {
                    None
                }
            }
        }
    }

    fn problem(&self, unit: &UnitName, state: &UnitState, trouble: &str) -> Problem {
        let log = match state.load {
            LoadState::Loaded => Log::Unit(unit, state.invocation_id.as_deref()),
            _ => Log::Quadlet,
        };
        let message = format!("{unit} {trouble}");
        Problem { unit: Some(unit.clone()), message, log: self.host.journal(log) }
    }

    fn step_of(&self, unit: &UnitName) -> Option<Verb> {
        self.plan.steps.iter().rfind(|step| step.unit == *unit).map(|step| step.verb)
    }

    fn steps_for(&self, reason: Reason) -> Vec<UnitName> {
        self.plan.steps.iter().filter(|step| step.reason == reason).map(|step| step.unit.clone()).collect()
    }

    /// What went wrong, if something did.
    fn jobs(&self, verb: Verb, units: &[UnitName]) -> Option<String> {
        if units.is_empty() {
            return None;
        }
        self.host.run_jobs(verb, units).err().map(|error| format!("{error:#}"))
    }

    fn tell(&mut self, verb: Verb) {
        self.tell_units(verb, &self.plan.of(verb));
    }

    fn tell_units(&mut self, verb: Verb, units: &[UnitName]) {
        let steps: Vec<Step> = self
            .plan
            .steps
            .iter()
            .filter(|step| step.verb == verb && units.contains(&step.unit))
            .cloned()
            .collect();
        for step in steps {
            self.report.line(verb.word(), &format!("{}: {}", step.unit, step.reason));
        }
    }
}

/// Asks systemd about units, once for all. Templates are no units that anything can be asked about.
pub fn observe(
    host: &dyn Host,
    units: impl IntoIterator<Item = UnitName>,
) -> Result<BTreeMap<UnitName, UnitState>> {
    let units: BTreeSet<UnitName> = units.into_iter().filter(|unit| !unit.is_template()).collect();
    let units: Vec<UnitName> = units.into_iter().collect();
    let states = host.unit_states(&units)?;
    Ok(units.into_iter().zip(states).collect())
}

fn without(units: Vec<UnitName>, refused: &BTreeSet<UnitName>) -> Vec<UnitName> {
    units.into_iter().filter(|unit| !refused.contains(unit)).collect()
}
