//! Goes to a generation: copy what services keep → stop → commit → daemon-reload → look again and plan anew → tmpfiles → reload → restart and start → record →
//! probe and watch.
//!
//! A step that fails does not keep the others from being done: it is reported at the end, and not recorded, so that the next run
//! does it again. What was planned before the commit is planned again after it: in between, a timer, a dependency or a person
//! may have started something from the old definitions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::applied::{Applied, AppliedUnit};
use super::contents::Contents;
use super::desired::{Desired, Wanted};
use super::explain;
use super::foreign::{self, Foreign};
use super::generation::{self, Generation, Known};
use super::host::{ActiveState, Host, LoadState, Log, UnitState, Verb};
use super::journal::{Journal, Phase};
use super::kept::upgrade::{self, OnBarrier};
use super::kept::{self, Kept, Scene};
use super::plan::{self, Plan, Reason, Situation, Skip, Step};
use super::probe;
use super::report::{Problem, Report};
use super::state::State;
use super::watch;
use crate::bundle::manifest::{Role, UnitEntry};
use crate::bundle::names::{Label, UnitName};
use crate::refusal::refuse;

/// A plan, and all that carrying it out takes.
pub struct Switch<'a> {
    /// Where everything lies.
    pub state: &'a State,
    /// Who does it.
    pub host: &'a dyn Host,
    /// The generation to come.
    pub target: &'a Generation,
    /// What was read before.
    pub known: &'a Known,
    /// Its units.
    pub desired: Desired,
    /// The units of the generation that the host has when the switch begins.
    pub ours: Desired,
    /// What is to be done, as far as it could be seen before.
    pub plan: Plan,
    /// What was applied before, as it holds now.
    pub applied: Applied,
    /// The units of the generation that systemd has loaded.
    pub loaded: Desired,
    /// The host has another generation now.
    pub flip: bool,
    /// systemd has yet to read the units of the target.
    pub unread: bool,
    /// What of others is taken over.
    pub adopted: Vec<Foreign>,
    /// Where it says what cannot be undone, before it does it.
    pub journal: &'a mut Journal,
    /// Where the lines go.
    pub report: &'a mut Report,
}

/// What a switch came to.
#[derive(Debug, Default)]
pub struct Arrival {
    /// What was done to units, in order.
    pub steps: Vec<Step>,
    /// What was left as it is although it changed.
    pub skipped: Vec<Skip>,
    /// What is not well.
    pub problems: Vec<Problem>,
    /// What is not well, and need not be.
    pub warnings: Vec<Problem>,
}

impl Switch<'_> {
    /// Does it all. An error: it broke off halfway.
    pub fn carry_out(mut self) -> Result<Arrival> {
        self.note_halted()?;
        self.save_kept()?;
        let mut problems = self.stop();
        self.commit()?;
        let mut live = self.load()?;
        self.replan(&live);
        self.note_loaded()?;
        self.note_barriers()?;
        problems.extend(self.make_directories());
        let mut complaints = self.act(&live);
        live = self.look()?;
        let coming = self.coming_up(&live);
        if !coming.is_empty() {
            complaints.extend(self.jobs(Verb::Start, &coming));
            live = self.look()?;
        }
        let acted = Instant::now();
        let judged = self.judge(&live);
        problems.extend(self.let_go(&live));
        self.record(&live, &judged);
        self.applied.write(self.state)?;
        if judged.is_empty() && problems.is_empty() {
            problems.extend(complaints.into_iter().map(Problem::new));
        }
        // systemd tries some again by itself: they have until the end of the window.
        let again = |problem: &Problem| problem.unit.as_ref().is_some_and(|unit| waits(&live, unit));
        let (waiting, failed): (Vec<_>, Vec<_>) = judged.into_iter().partition(again);
        problems.extend(self.probe(&failed));
        let well = problems.is_empty() && failed.iter().all(|problem| self.is_optional(problem));
        let judged = match self.window(acted, &waiting).filter(|_| well) {
            Some(window) => self.watch(live, window)?,
            None => failed.into_iter().chain(waiting).collect(),
        };
        let (warnings, judged): (Vec<_>, Vec<_>) =
            judged.into_iter().partition(|problem| self.is_optional(problem));
        problems.extend(judged);
        Ok(Arrival { steps: self.plan.steps, skipped: self.plan.skipped, problems, warnings })
    }

    /// What is to run again is written down before it stops: not all of it is started by rick otherwise.
    fn note_halted(&mut self) -> Result<()> {
        if self.plan.halted.is_subset(&self.journal.halted) {
            return Ok(());
        }
        self.journal.halted.append(&mut self.plan.halted);
        self.journal.write(self.state)
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

    /// What services keep, before programs come that may change it: copied, and if the host goes back, announced to be replaced. On the way
    /// back from a switch that failed, nothing is: what was there before is what there is.
    fn save_kept(&mut self) -> Result<()> {
        let switching = self.journal.phase == Phase::Switching && self.flip && self.host.is_running();
        let Some(from) = self.known.current(self.state)?.filter(|_| switching) else { return Ok(()) };
        let touched = upgrade::touched(&from, self.target);
        if !self.journal.terms.copies {
            upgrade::forget(self.state, &touched, &from)?;
        } else if !touched.is_empty() {
            // Those that leave have done their last: the copy is what another host gets. Whom they keep it with still runs.
            let halts = |kept: &&Kept| kept.at_rest() || upgrade::leaves(kept, self.target);
            let halted: Vec<&Kept> = touched.iter().filter(halts).collect();
            self.scene(&from).expect_answer(&halted)?;
            self.halt(halted.into_iter().flat_map(Kept::units))?;
            self.scene(&from).copy_before(&touched)?;
        }
        if self.journal.terms.on_barrier == OnBarrier::Restore {
            let barred = upgrade::barred(&from, self.target);
            let copies = upgrade::copies_for(self.state, &barred, self.target)?;
            let kept = from.manifest().map(Kept::all).unwrap_or_default();
            self.halt(kept.iter().filter(|kept| barred.contains(kept.service())).flat_map(Kept::units))?;
            upgrade::note(self.state, &copies)?;
        }
        Ok(())
    }

    /// What services keep, as the host has it.
    fn scene(&mut self, generation: &Generation) -> Scene<'_> {
        Scene { state: self.state, host: self.host, generation: generation.clone(), report: self.report }
    }

    /// Stops those of these units that run. They are started later on, here or where the host goes back to.
    fn halt<'u>(&mut self, units: impl Iterator<Item = &'u UnitName>) -> Result<()> {
        let live = observe(self.host, units.cloned())?;
        let running = live.into_iter().filter(|(_, state)| state.runs()).map(|(unit, _)| unit);
        let running: Vec<UnitName> = running.collect();
        if running.is_empty() {
            return Ok(());
        }
        self.journal.halted.extend(running.iter().cloned());
        self.journal.write(self.state)?;
        match self.jobs(Verb::Stop, &running) {
            Some(complaint) => refuse!("{complaint}"),
            None => Ok(()),
        }
    }

    fn commit(&mut self) -> Result<()> {
        if self.flip {
            self.report.line("commit", &format!("generation {}", self.target.number));
            generation::commit(self.state, self.target.number)?;
        }
        for foreign in &self.adopted {
            self.report.line("adopt", &foreign.place);
        }
        foreign::keep(self.state, &self.adopted, self.target.manifest())
    }

    /// systemd reads the new definitions.
    fn load(&mut self) -> Result<BTreeMap<UnitName, UnitState>> {
        if self.unread {
            self.host.daemon_reload()?;
            self.meet_instances()?;
        }
        let live = self.look()?;
        if self.unread {
            let others = [&self.ours, &self.desired];
            self.applied = std::mem::take(&mut self.applied).seen(&live, &self.loaded, &others);
            self.applied.loads(self.target.number, &self.desired, &live);
        }
        Ok(live)
    }

    /// An instance that came up since it was planned runs under the old definition like any other unit.
    fn meet_instances(&mut self) -> Result<()> {
        let of_all = [&self.desired, &self.ours, &self.loaded].map(Desired::templates);
        let templates: BTreeSet<UnitName> = of_all.into_iter().flatten().cloned().collect();
        let instances = self.host.instances(&templates.into_iter().collect::<Vec<_>>())?;
        for units in [&mut self.desired, &mut self.ours, &mut self.loaded] {
            units.add_instances(&instances);
        }
        Ok(())
    }

    /// The plan as it looks after the commit: what is stopped is stopped, and what came up in between is seen.
    fn replan(&mut self, live: &BTreeMap<UnitName, UnitState>) {
        let before = std::mem::take(&mut self.plan);
        let situation = Situation {
            desired: &self.desired,
            applied: &self.applied,
            ours: &self.ours,
            live,
            halted: &self.journal.halted,
        };
        let now = plan::plan(&situation).with_reasons_of(&before);
        let displaced = before.displaced.union(&now.displaced).cloned().collect();
        let stopped = before.steps.into_iter().filter(|step| step.verb == Verb::Stop);
        let steps = stopped.chain(now.steps).collect();
        self.plan = Plan { steps, displaced, ..now };
        explain::explain(&mut self.plan, &self.applied, &Contents::of(self.target), |number| {
            Contents::at(self.known, self.state, number)
        });
        for skip in &self.plan.skipped {
            self.report.line("leave", &skip.told());
        }
    }

    /// From here on whatever is started is started from the new definitions, and the record says so before anything is: a run that is
    /// killed between two restarts leaves what it takes to tell them apart. A reload leaves no trace in systemd, so that what is about to be
    /// reloaded is of neither generation until it is known to be of the new one.
    fn note_loaded(&mut self) -> Result<()> {
        let reloads = self.plan.steps.iter().filter(|step| step.verb == Verb::Reload);
        let mut news = self.unread;
        for step in reloads {
            if let Some(record) = self.applied.units.get_mut(&step.unit) {
                record.restart_key = record.restart_key.filter(|_| step.reason == Reason::ConfigChanged);
                record.reload_key = None;
                news = true;
            }
        }
        if news { self.applied.write(self.state) } else { Ok(()) }
    }

    /// What cannot be undone is written down before it is done.
    fn note_barriers(&mut self) -> Result<()> {
        let starts = |step: &&Step| matches!(step.verb, Verb::Restart | Verb::Start);
        let anew = |step: &&Step| matches!(step.reason, Reason::UnitChanged | Reason::TakenOver);
        let steps = self.plan.steps.iter().filter(starts).filter(anew);
        let is_barrier = |unit: &&UnitName| self.wanted(unit).is_some_and(|wanted| wanted.barrier);
        let crossed: Vec<UnitName> = steps.map(|step| &step.unit).filter(is_barrier).cloned().collect();
        if crossed.is_empty() {
            return Ok(());
        }
        self.journal.crossed.extend(crossed);
        self.journal.write(self.state)
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
        let known = self.applied.units.keys().cloned();
        let before = self.ours.names().into_iter().chain(self.loaded.names());
        observe(self.host, self.desired.names().into_iter().chain(before).chain(acted).chain(known))
    }

    /// Stops what came up in between, reloads, then restarts and starts in the order of their dependencies; gives what systemctl complained
    /// about.
    fn act(&mut self, live: &BTreeMap<UnitName, UnitState>) -> Vec<String> {
        // The units that systemd does not have.
        let not_loaded = live.iter().filter(|(_, state)| state.load != LoadState::Loaded);
        let refused: BTreeSet<UnitName> = not_loaded.map(|(unit, _)| unit.clone()).collect();
        let mut complaints = Vec::new();
        let late: Vec<UnitName> =
            self.plan.of(Verb::Stop).into_iter().filter(|unit| stirs(live, unit)).collect();
        self.tell_units(Verb::Stop, &late);
        complaints.extend(self.jobs(Verb::Stop, &late));
        self.reset_limits();
        let reloads = without(self.plan.of(Verb::Reload), &refused);
        self.tell_units(Verb::Reload, &reloads);
        complaints.extend(self.jobs(Verb::Reload, &reloads));
        for (verb, units) in self.plan.batches() {
            let units = without(units, &refused);
            self.tell_units(verb, &units);
            complaints.extend(self.jobs(verb, &units));
        }
        complaints
    }

    /// What is coming up though nothing here started it: a run that was killed did, or the boot. To start it again is to wait for it.
    fn coming_up(&self, live: &BTreeMap<UnitName, UnitState>) -> Vec<UnitName> {
        let comes = |unit: &&Wanted| {
            let state = live.get(&unit.name);
            unit.role == Role::Run
                && state.is_some_and(|state| state.active == ActiveState::Activating && !state.auto_restart)
        };
        self.desired.units.iter().filter(comes).map(|unit| unit.name.clone()).collect()
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

    /// What is wrong with the units of the generation.
    fn judge(&self, states: &BTreeMap<UnitName, UnitState>) -> Vec<Problem> {
        let judge = |unit: &Wanted| {
            let state = states.get(&unit.name).cloned().unwrap_or_default();
            self.trouble(unit, &state).map(|trouble| self.problem(&unit.name, &state, &trouble))
        };
        self.desired.units.iter().filter_map(judge).collect()
    }

    /// Notes what the units that are as they should be were started with.
    fn record(&mut self, states: &BTreeMap<UnitName, UnitState>, troubled: &[Problem]) {
        let skipped = |unit: &UnitName| self.plan.skipped.iter().any(|skip| skip.unit == *unit);
        let troubled = |unit: &UnitName| troubled.iter().any(|problem| problem.unit.as_ref() == Some(unit));
        let acted: BTreeSet<&UnitName> = self.plan.steps.iter().map(|step| &step.unit).collect();
        for unit in self.desired.units.iter().filter(|unit| !troubled(&unit.name) && !skipped(&unit.name)) {
            let life = states.get(&unit.name).and_then(|state| state.invocation_id.clone());
            // What went on as it is was started from the generation that it was started from.
            let before = self.applied.units.get(&unit.name).filter(|_| !acted.contains(&unit.name));
            let number = before.and_then(|before| before.generation).unwrap_or(self.target.number);
            self.applied.units.insert(unit.name.clone(), AppliedUnit::of(unit, life, number));
        }
    }

    /// How long services are yet to be watched; not at all if none was started.
    fn window(&self, acted: Instant, waiting: &[Problem]) -> Option<Duration> {
        let asked = Duration::from_secs(u64::from(self.journal.terms.settle_s));
        let window = asked.saturating_sub(acted.elapsed());
        let starts = |step: &Step| matches!(step.verb, Verb::Restart | Verb::Start);
        let started = self.plan.steps.iter().any(|step| starts(step) && step.unit.kind() == "service");
        let wanted = (started || !waiting.is_empty()) && self.host.is_running();
        (wanted && !window.is_zero()).then_some(window)
    }

    /// Watches the services, and judges all units once more.
    fn watch(&mut self, live: BTreeMap<UnitName, UnitState>, window: Duration) -> Result<Vec<Problem>> {
        let minded = |unit: &Wanted| unit.role == Role::Run || self.step_of(&unit.name).is_some();
        let watched =
            |unit: &&Wanted| unit.name.kind() == "service" && minded(unit) && stirs(&live, &unit.name);
        let units = self.desired.units.iter().filter(watched).map(|unit| unit.name.clone());
        let units: Vec<UnitName> = units.collect();
        let what = format!("{} services for {:.0} s", units.len(), window.as_secs_f32().ceil());
        self.report.line("watch", &what);
        let host = self.host;
        let watched = self.report.during("watching", || watch::watch(host, &units, live, window))?;
        let mut problems = self.judge(&watched.states);
        for unit in &watched.unsteady {
            let known = problems.iter().any(|problem| problem.unit.as_ref() == Some(unit));
            if let Some(state) = watched.states.get(unit).filter(|_| !known) {
                problems.push(self.problem(unit, state, "does not stay up: it was started again and again"));
            }
        }
        let written = self.applied.clone();
        self.record(&watched.states, &problems);
        if self.applied != written {
            self.applied.write(self.state)?;
        }
        Ok(problems)
    }

    /// Forgets the units that the generation does not have, but for those that did not go: the next run stops them.
    fn let_go(&mut self, states: &BTreeMap<UnitName, UnitState>) -> Vec<Problem> {
        let wanted = self.desired.names();
        let gone = self.applied.units.iter().filter(|(unit, _)| !wanted.contains(*unit));
        let lives_on = |record: &AppliedUnit, state: &UnitState| {
            let same = state.invocation_id.is_some() && state.invocation_id == record.invocation_id;
            // The distribution's own job is let go of in the middle of its work.
            let at_work = record.borrowed && record.role == Some(Role::Follow) && state.is_at_work();
            state.runs() && same && !at_work
        };
        let left: BTreeMap<UnitName, &UnitState> = gone
            .filter_map(|(unit, record)| Some((unit.clone(), record, states.get(unit)?)))
            .filter(|(_, record, state)| lives_on(record, state))
            .map(|(unit, _, state)| (unit, state))
            .collect();
        self.applied.units.retain(|unit, _| wanted.contains(unit) || left.contains_key(unit));
        let failed = |unit: &UnitName| states.get(unit).is_some_and(UnitState::failed);
        self.applied
            .displaced
            .retain(|unit| self.plan.displaced.contains(unit) || left.contains_key(unit) || failed(unit));
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

    fn wanted(&self, unit: &UnitName) -> Option<&Wanted> {
        self.desired.units.iter().find(|wanted| wanted.name == *unit)
    }

    /// It is about a unit that the host is well without.
    fn is_optional(&self, problem: &Problem) -> bool {
        let Some(name) = &problem.unit else { return false };
        self.wanted(name).is_some_and(|unit| unit.optional) || self.waits(name)
    }

    /// It is of a service that another host has yet to let go.
    fn waits(&self, unit: &UnitName) -> bool {
        let Some(manifest) = self.target.manifest() else { return false };
        let of = |service: &&Label| {
            kept::gate(service).as_ref() == Some(unit)
                || manifest.units.iter().any(|entry| entry.name == *unit && entry.service == **service)
        };
        manifest.moved.keys().filter(of).any(|service| kept::admit::waits(self.state, service))
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
        let names: Vec<&str> = units.iter().map(UnitName::as_str).collect();
        let what = format!("{} {}", verb.word(), names.join(" "));
        let done = self.report.during(&what, || self.host.run_jobs(verb, units));
        done.err().map(|error| format!("{error:#}"))
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
            self.report.line(verb.word(), &step.told());
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

fn stirs(live: &BTreeMap<UnitName, UnitState>, unit: &UnitName) -> bool {
    live.get(unit).is_some_and(|state| state.runs() || state.auto_restart)
}

/// It is down, and systemd will try it again.
fn waits(live: &BTreeMap<UnitName, UnitState>, unit: &UnitName) -> bool {
    live.get(unit).is_some_and(|state| state.auto_restart)
}

fn without(units: Vec<UnitName>, refused: &BTreeSet<UnitName>) -> Vec<UnitName> {
    units.into_iter().filter(|unit| !refused.contains(unit)).collect()
}
