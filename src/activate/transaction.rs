//! A switch seen through to its end: journal → go → judge → confirm, or go back.
//!
//! Whoever comes to it, a first run, a run after a crash, the boot or the timer, finds in the [`Journal`] where the host was going and
//! calls the same few functions: nothing here remembers anything that is not on disk.

use std::time::Duration;

use anyhow::Result;

use super::course::Course;
use super::desired::Wanted;
use super::foreign::{self, Foreign};
use super::generation::{self, Generation};
use super::journal::{self, Journal, Phase};
use super::kept::{Scene, leave};
use super::marks::{Marks, Verdict};
use super::report::{Ending, Outcome, Problem};
use super::state::Claim;
use super::switch::{Arrival, Switch};
use super::target::Target;
use super::{Activation, Failure, images};
use crate::bundle::manifest::Role;
use crate::bundle::names::UnitName;
use crate::refusal::refuse;

/// How often the one who waits for a confirmation looks for it.
const LOOK: Duration = Duration::from_millis(200);
/// How often one looks whether whoever holds the lock is done with it.
const PATIENCE: u32 = 100;
/// How long PID 1 waits beyond what the waiting process does, in seconds: it only steps in if that is gone.
const GRACE_S: u32 = 5;

/// The way to a generation, with all that could be prepared.
struct Approach {
    generation: Generation,
    course: Course,
    /// What of others is taken over.
    adopted: Vec<Foreign>,
}

impl Activation<'_> {
    /// Switches to generation `number`, which is there, and sees it through. The lock is held.
    pub fn see_through(&mut self, number: u32) -> Result<Outcome, Failure> {
        let unfinished = Journal::read(&self.state).map_err(Failure::Refused)?;
        let mut journal = self.begin(number, unfinished.as_ref()).map_err(Failure::Refused)?;
        match self.approach(number) {
            Ok(approach) => {
                let gone = self.go(&mut journal, approach);
                self.end(journal, gone)
            }
            // Nothing was touched, by nobody: it has not been.
            Err(error) if unfinished.is_none() => {
                self.forget().map_err(Failure::Halfway)?;
                Err(Failure::Refused(error))
            }
            Err(error) => self.end(journal, Err(error)),
        }
    }

    /// What the service does that switches. If it was killed and is started again, it goes on where it was.
    pub fn serve(&mut self, number: u32) -> Result<Outcome, Failure> {
        match Journal::read(&self.state).map_err(Failure::Refused)? {
            Some(journal) if journal.to == number && journal.phase == Phase::Confirming => {
                self.arrived(journal, Arrival::default())
            }
            Some(journal) if journal.to == number && journal.phase != Phase::Switching => {
                self.go_on(journal, false)
            }
            _ => self.see_through(number),
        }
    }

    /// Goes on with a switch that was cut short: finishes it, or goes back. `overdue`: its time is up, and PID 1 calls.
    pub fn resume(&mut self, overdue: bool) -> Result<Outcome, Failure> {
        if overdue {
            self.host.end_switch().map_err(Failure::Refused)?;
        }
        let _claim = self.claim_soon(overdue).map_err(Failure::Refused)?;
        if let Some(journal) = Journal::read(&self.state).map_err(Failure::Refused)? {
            return self.go_on(journal, overdue);
        }
        self.report.line("nothing to do:", "no switch was cut short");
        self.settled().map_err(Failure::Refused)
    }

    /// Whoever called the switch that was ended may hold the lock for a moment yet.
    fn claim_soon(&self, overdue: bool) -> Result<Claim> {
        for _ in 0..if overdue { PATIENCE } else { 0 } {
            if let Some(claim) = Claim::try_take(&self.state)? {
                return Ok(claim);
            }
            self.host.pause(LOOK);
        }
        Claim::take(&self.state)
    }

    /// Goes on with the switch that the journal speaks of. The lock is held.
    pub(super) fn go_on(&mut self, mut journal: Journal, overdue: bool) -> Result<Outcome, Failure> {
        let here = (|| Ok((self.host.boot_id()?, generation::current_number(&self.state)?)))();
        let (boot, current) = here.map_err(Failure::Refused)?;
        let rebooted = boot != journal.boot_id;
        self.terms = journal.terms.clone();
        let here = current.unwrap_or(0);
        if rebooted && here != journal.from {
            let crossed = self.crossed_by_the_boot(journal.from, here).map_err(Failure::Refused)?;
            journal.crossed.extend(crossed);
        }
        let confirmed = journal::is_confirmed(&self.state, journal.to).map_err(Failure::Refused)?;
        match &journal.phase {
            Phase::Confirming if confirmed => {
                self.good(&journal, Arrival::default()).map_err(Failure::Halfway)
            }
            Phase::Confirming if !overdue && !rebooted => {
                self.report.line("waits", "for `rick-activate confirm`");
                self.settled().map_err(Failure::Refused)
            }
            Phase::Confirming => self.back(journal, Arrival::default(), "nobody confirmed it in time"),
            Phase::Reverting { why } => {
                let why = why.clone();
                self.back(journal, Arrival::default(), &why)
            }
            Phase::Switching if overdue => self.back(journal, Arrival::default(), "it was not done in time"),
            // The boot started the generation before, all of it: the switch has not been.
            Phase::Switching if rebooted && current == Some(journal.from) => {
                self.report.line("undone:", "the host was off before it had the new generation");
                Journal::end(&self.state).and_then(|()| self.settled()).map_err(Failure::Halfway)
            }
            Phase::Switching if rebooted && journal.terms.confirm_within_s.is_some() => {
                self.back(journal, Arrival::default(), "the host was off before anybody confirmed it")
            }
            Phase::Switching => {
                boot.clone_into(&mut journal.boot_id);
                let approach = self.approach(journal.to);
                let gone = approach.and_then(|approach| self.go(&mut journal, approach));
                self.end(journal, gone)
            }
        }
    }

    /// The boot started all of the generation that it found, also what cannot be undone.
    fn crossed_by_the_boot(&self, from: u32, current: u32) -> Result<Vec<UnitName>> {
        let desired = |number| self.known.get(&self.state, number)?.desired();
        let (from, to) = (desired(from)?, desired(current)?);
        let changed = |unit: &&Wanted| {
            let before = from.units.iter().find(|before| before.name == unit.name);
            before.is_some_and(|before| before.restart_key != unit.restart_key)
        };
        let barriers = to.units.iter().filter(|unit| unit.barrier && unit.role == Role::Run);
        Ok(barriers.filter(changed).map(|unit| unit.name.clone()).collect())
    }

    /// Says that the current generation is fine. Whoever waits for that hears it; if nobody does, this ends the switch itself.
    pub fn confirm(&mut self) -> Result<Outcome, Failure> {
        self.confirm_current().map_err(Failure::Refused)
    }

    fn confirm_current(&mut self) -> Result<Outcome> {
        let Some(journal) = Journal::read(&self.state)? else {
            refuse!("there is nothing to confirm: no switch is under way");
        };
        if journal.phase != Phase::Confirming {
            refuse!("there is nothing to confirm yet: the switch to generation {} is not done", journal.to);
        }
        journal::say_confirmed(&self.state, journal.to)?;
        for _ in 0..PATIENCE {
            if let Some(_claim) = Claim::try_take(&self.state)? {
                return match Journal::read(&self.state)? {
                    Some(left) if left == journal => self.good(&journal, Arrival::default()),
                    Some(_) => refuse!("it was too late: the host goes back to generation {}", journal.from),
                    None if Marks::read(&self.state)?.is_bad(journal.to) => {
                        refuse!("it was too late: the host went back to generation {}", journal.from)
                    }
                    None => {
                        self.report.line("confirmed:", &format!("generation {}", journal.to));
                        self.settled()
                    }
                };
            }
            self.host.pause(LOOK);
        }
        refuse!(
            "whoever waits for the confirmation does not answer; `rick-activate status` tells what the host has"
        )
    }

    /// Writes down where the host is going, and has PID 1 go back if nothing more is heard.
    fn begin(&mut self, to: u32, unfinished: Option<&Journal>) -> Result<Journal> {
        let current = generation::current_number(&self.state)?.unwrap_or(0);
        let journal = Journal {
            // The generation that an unfinished switch was to leave is the last that was well.
            from: unfinished.map_or(current, |journal| journal.from),
            to,
            boot_id: self.host.boot_id()?,
            phase: Phase::Switching,
            terms: self.terms.clone(),
            // What an unfinished switch did that cannot be undone is done, whoever comes after it.
            crossed: unfinished.map(|journal| journal.crossed.clone()).unwrap_or_default(),
            halted: unfinished.map(|journal| journal.halted.clone()).unwrap_or_default(),
        };
        // A run that was killed right after its end may have left it.
        if unfinished.is_none() {
            journal::forget_confirmation(&self.state)?;
        }
        journal.write(&self.state)?;
        if let Err(error) = self.host.arm(&self.state.program(), self.terms.deadline_s) {
            if unfinished.is_none() {
                self.forget()?;
            }
            return Err(error);
        }
        Ok(journal)
    }

    /// No switch is under way any more.
    fn forget(&self) -> Result<()> {
        self.host.disarm()?;
        Journal::end(&self.state)
    }

    /// All that it takes to go to a generation, whichever it is. Nothing is stopped by that.
    fn approach(&mut self, number: u32) -> Result<Approach> {
        let generation = self.known.get(&self.state, number)?;
        let target = Target::there(generation.clone())?;
        let mut course = self.course(&target)?;
        images::load(&self.state, self.host, &target.images, &course.missing_images, &mut self.report)?;
        self.bring_secrets(&generation.directory)?;
        course.prepare(&self.state, &generation)?;
        let adopted = match generation.manifest().filter(|_| self.terms.adopt) {
            Some(manifest) => foreign::adoptable(&self.state, manifest, |path| generation.file(path).ok())?,
            None => Vec::new(),
        };
        Ok(Approach { generation, course, adopted })
    }

    fn go(&mut self, journal: &mut Journal, approach: Approach) -> Result<Arrival> {
        let Approach { generation, course, adopted } = approach;
        let switch = Switch {
            state: &self.state,
            host: self.host,
            target: &generation,
            known: &self.known,
            desired: course.desired,
            ours: course.ours,
            plan: course.plan,
            applied: course.applied,
            loaded: course.loaded,
            flip: course.flip,
            unread: course.unread,
            adopted,
            journal,
            report: &mut self.report,
        };
        switch.carry_out()
    }

    /// How it went, to its consequences.
    fn end(&mut self, journal: Journal, gone: Result<Arrival>) -> Result<Outcome, Failure> {
        match gone {
            Ok(arrival) if arrival.problems.is_empty() => self.arrived(journal, arrival),
            Ok(arrival) => {
                let why = arrival.problems.first().map(|problem| problem.message.clone());
                self.back(journal, arrival, &why.unwrap_or_default())
            }
            Err(error) => {
                let problems = vec![Problem::new(format!("{error:#}"))];
                self.back(journal, Arrival { problems, ..Arrival::default() }, "the switch broke off")
            }
        }
    }

    /// The host is well, as far as can be seen from here.
    fn arrived(&mut self, mut journal: Journal, arrival: Arrival) -> Result<Outcome, Failure> {
        let Some(seconds) = journal.terms.confirm_within_s.filter(|_| journal.from != journal.to) else {
            return self.good(&journal, arrival).map_err(Failure::Halfway);
        };
        journal.phase = Phase::Confirming;
        let waiting = journal.write(&self.state).and_then(|()| {
            let what = format!(
                "with `rick-activate confirm` within {seconds} s, or generation {} comes back",
                journal.from
            );
            self.report.line("confirm", &what);
            self.host.arm(&self.state.program(), seconds.saturating_add(GRACE_S))?;
            self.wait_for_confirmation(journal.to, seconds)
        });
        match waiting {
            Ok(true) => self.good(&journal, arrival).map_err(Failure::Halfway),
            Ok(false) => self.back(journal, arrival, &format!("nobody confirmed it within {seconds} s")),
            Err(error) => self.back(journal, arrival, &format!("{error:#}")),
        }
    }

    fn wait_for_confirmation(&self, number: u32, seconds: u32) -> Result<bool> {
        let looks = u64::from(seconds) * 1000 / u64::try_from(LOOK.as_millis()).unwrap_or(u64::MAX);
        for _ in 0..looks {
            if journal::is_confirmed(&self.state, number)? {
                return Ok(true);
            }
            self.host.pause(LOOK);
        }
        journal::is_confirmed(&self.state, number)
    }

    /// The host is well, and stays.
    fn good(&mut self, journal: &Journal, arrival: Arrival) -> Result<Outcome> {
        let generation = self.known.get(&self.state, journal.to)?;
        let serial = generation.manifest().and_then(|manifest| manifest.serial);
        Marks::judge(&self.state, journal.to, Verdict::Good, serial)?;
        self.forget()?;
        self.report.line("done:", &format!("generation {} (before: {})", journal.to, journal.from));
        self.let_go(journal, &generation);
        self.tidy();
        self.forget_secrets();
        self.outcome(journal, journal.to, Ending::Done, arrival)
    }

    /// Services that are gone are known to be, and other hosts may have them. That can wait, so it refuses nothing.
    fn let_go(&mut self, journal: &Journal, here: &Generation) {
        if !self.host.is_running() || journal.from == journal.to {
            return;
        }
        let from = self.known.get(&self.state, journal.from);
        if let Err(error) = from.and_then(|from| leave::note_gone(&self.state, &from, here)) {
            self.report.line("left", &format!("that services are gone is not known: {error:#}"));
        }
        self.release(here);
    }

    /// Says what has not been said of services that are gone, if that is possible now.
    pub(super) fn release(&mut self, here: &Generation) {
        let (state, host, generation) = (&self.state, self.host, here.clone());
        let told = leave::release(&mut Scene { state, host, generation, report: &mut self.report });
        if let Err(error) = told {
            self.report
                .line("left", &format!("that services are gone is said with the next copy: {error:#}"));
        }
    }

    /// Goes back, unless that is not wanted or not possible.
    fn back(&mut self, mut journal: Journal, arrival: Arrival, why: &str) -> Result<Outcome, Failure> {
        let reverting = matches!(journal.phase, Phase::Reverting { .. });
        let current = generation::current_number(&self.state).map_err(Failure::Halfway)?.unwrap_or(0);
        // The host never had what it was to have. It may have what an earlier switch brought that was cut short, and keeps that if going back
        // was not wanted or cannot undo it.
        if !reverting && current != journal.to && (!journal.terms.go_back || !journal.crossed.is_empty()) {
            journal.from = current;
        }
        let ended = match journal.reason_to_stay(current).filter(|_| !reverting) {
            Some(reason) => self.stay(&journal, arrival, why, &reason),
            None => self.go_back(journal, arrival, why),
        };
        ended.map_err(Failure::Halfway)
    }

    fn stay(&mut self, journal: &Journal, mut arrival: Arrival, why: &str, reason: &str) -> Result<Outcome> {
        if journal.from != journal.to {
            Marks::judge(&self.state, journal.to, Verdict::Bad { why: why.to_owned() }, None)?;
        }
        self.forget()?;
        if arrival.problems.is_empty() {
            arrival.problems.push(Problem::new(why));
        }
        self.report.line("not well:", &format!("generation {}, and the host keeps it: {reason}", journal.to));
        self.outcome(journal, journal.to, Ending::NotWell { reason: reason.to_owned() }, arrival)
    }

    fn go_back(&mut self, mut journal: Journal, mut arrival: Arrival, why: &str) -> Result<Outcome> {
        journal.phase = Phase::Reverting { why: why.to_owned() };
        journal.write(&self.state)?;
        self.report.line("go back", &format!("to generation {}: {why}", journal.from));
        // The way back has its own time. If this is the call of PID 1, that is what is left to be called again.
        self.host.arm(&self.state.program(), self.terms.deadline_s)?;
        let from = journal.from;
        let approach = self.approach(from)?;
        let back = self.go(&mut journal, approach)?;
        if journal.from != journal.to {
            Marks::judge(&self.state, journal.to, Verdict::Bad { why: why.to_owned() }, None)?;
        }
        self.forget()?;
        if arrival.problems.is_empty() {
            arrival.problems.push(Problem::new(why));
        }
        let ending = if back.problems.is_empty() {
            self.report.line("rolled back:", &format!("generation {from} is current again, and well"));
            Ending::RolledBack
        } else {
            self.report
                .line("not well:", &format!("generation {from} is current again, and it is not well either"));
            arrival.problems.extend(back.problems);
            Ending::NotWell { reason: "it went back, and what was well before is not now".to_owned() }
        };
        arrival.steps.extend(back.steps);
        self.outcome(&journal, from, ending, arrival)
    }

    /// Nothing was done.
    pub(super) fn settled(&self) -> Result<Outcome> {
        let number = generation::current_number(&self.state)?.unwrap_or(0);
        let digest = self.known.get(&self.state, number).ok().and_then(|generation| generation.digest());
        Ok(Outcome { generation: number, previous: number, digest, ..Outcome::nothing() })
    }

    fn outcome(&self, journal: &Journal, number: u32, ending: Ending, arrival: Arrival) -> Result<Outcome> {
        Ok(Outcome {
            generation: number,
            tried: journal.to,
            previous: journal.from,
            digest: self.known.get(&self.state, number)?.digest(),
            dry_run: false,
            changed: true,
            ending,
            steps: arrival.steps,
            skipped: arrival.skipped,
            problems: arrival.problems,
            warnings: arrival.warnings,
        })
    }
}
