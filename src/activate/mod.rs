//! The program `rick-activate`: a bundle → a host that runs it.
//!
//! The stages, in order:
//!
//! 1. [`receive`]: stream in, verify every digest, pick this host's part; [`check`] that it makes sense.
//! 2. [`preflight`]: programs, file system, nothing in the way. Only looks.
//! 3. [`realise`] and [`stage`]: tokens → numbers and store paths; written and durable in `incoming/`. A full disk ends it here.
//! 4. [`accounts`]: systemd-sysusers, then every number read back and held to what was declared; what it made is realised and staged
//!    again. Into the store and `gens/N`.
//! 5. [`plan`]: [`desired`] against [`applied`] and what systemd says → steps with nothing left to decide.
//! 6. [`images`] into podman. [`switch`]: record, stop, **one rename**, daemon-reload, record, tmpfiles, reload, restart and start, record, probe.
//!
//! Stages 1 to 4 give a target, 5 a course toward it. Going back is stages 2, 3, 5 and 6 toward a generation that is there already.
//!
//! # Killed here → the host then has, and the next run does
//!
//! | killed in | the host has | the next run |
//! |---|---|---|
//! | 1–5 | the old generation, untouched; perhaps new accounts, and a `gens/N` that nothing leads to | removes `incoming/` and begins anew; what is in the store already is used |
//! | 6, before the rename | the old generation, some units stopped | starts or replaces them |
//! | 6, after the rename | the new generation, of which systemd may not know | daemon-reload, then the same as below |
//! | 6, after daemon-reload | the new generation, some units not restarted | restarts exactly those: the record tells their lives apart |
//!
//! After a reboot the same holds, but all units were then started from the one generation that `current` led to. Not yet there: a
//! journal of switches, health over time, going back by itself, collecting garbage.

pub mod accounts;
pub mod anchors;
pub mod applied;
pub mod ask;
pub mod check;
pub mod cli;
mod course;
pub mod desired;
pub mod directory;
pub mod generation;
pub mod host;
pub mod images;
pub mod layer;
pub mod list;
pub mod plan;
pub mod preflight;
pub mod probe;
pub mod realise;
pub mod receive;
pub mod refusal;
pub mod report;
pub mod stage;
pub mod state;
#[cfg(test)]
mod story;
pub mod switch;
pub mod systemd;
mod target;
#[cfg(test)]
mod testing;

use std::io::Read;

use anyhow::Result;

use self::course::Course;
use self::generation::Generation;
use self::host::Host;
use self::receive::HostNames;
use self::report::{Outcome, Problem, Report};
use self::state::{Claim, State};
use self::switch::Switch;
use self::target::Target;

/// Why an activation ended early.
#[derive(Debug)]
pub enum Failure {
    /// Before anything of the host was switched.
    Refused(anyhow::Error),
    /// In the middle of a switch; running it again goes on.
    Halfway(anyhow::Error),
}

/// One run on one host.
pub struct Activation<'a> {
    /// Where everything lies.
    pub state: State,
    /// The host.
    pub host: &'a dyn Host,
    /// The names that the host answers to.
    pub names: HostNames,
    /// Only tell what would be done.
    pub dry_run: bool,
    /// Where the lines go.
    pub report: Report,
}

impl Activation<'_> {
    /// Switches the host to a bundle.
    pub fn activate(&mut self, bundle: impl Read) -> Result<Outcome, Failure> {
        let claim = self.claim().map_err(Failure::Refused)?;
        let target = self.target_of(bundle).map_err(Failure::Refused);
        let outcome = target.and_then(|target| self.switch_to(&target));
        if let (Err(Failure::Refused(_)), Some(claim)) = (&outcome, claim) {
            self.leave_as_it_was(&claim).map_err(Failure::Refused)?;
        }
        outcome
    }

    /// After a refusal: a host that rick never switched keeps nothing of what was made for it.
    fn leave_as_it_was(&self, claim: &Claim) -> Result<()> {
        if !claim.is_first() {
            return Ok(());
        }
        anchors::uproot(&self.state)?;
        claim.take_back()
    }

    /// Switches the host to a generation that it has: the one asked for, or the one before.
    pub fn roll_back(&mut self, asked: Option<u32>) -> Result<Outcome, Failure> {
        let _claim = self.claim().map_err(Failure::Refused)?;
        let target = self.target_back(asked).map_err(Failure::Refused)?;
        self.switch_to(&target)
    }

    /// A dry run writes nothing, so it holds nothing.
    fn claim(&self) -> Result<Option<Claim>> {
        if self.dry_run { Ok(None) } else { Claim::take(&self.state).map(Some) }
    }

    fn switch_to(&mut self, target: &Target) -> Result<Outcome, Failure> {
        let outcome = self.go_to(target);
        if let Err(Failure::Refused(_)) = &outcome {
            target.discard().map_err(Failure::Refused)?;
        }
        outcome
    }

    fn go_to(&mut self, target: &Target) -> Result<Outcome, Failure> {
        let course = self.course(target).map_err(Failure::Refused)?;
        let mut outcome = course.outcome(target, self.dry_run);
        match &target.generation {
            Some(generation) if !outcome.changed => {
                if !self.dry_run {
                    // To run is not to answer: what was not well a moment ago is not called well unasked.
                    outcome.problems = probe::probe(self.host, generation.probes(), &mut Report::silent());
                }
                let what = format!("generation {} is current, and all of it runs", target.number);
                self.report.line("nothing to do:", &what);
            }
            Some(generation) if !self.dry_run => {
                outcome.problems = self.carry_out(target, generation, course)?;
                let what = format!("generation {} (before: {})", target.number, outcome.previous);
                self.report.line(if outcome.problems.is_empty() { "done:" } else { "not well:" }, &what);
            }
            _ => self.tell(target, &course),
        }
        Ok(outcome)
    }

    fn carry_out(
        &mut self,
        target: &Target,
        generation: &Generation,
        course: Course,
    ) -> Result<Vec<Problem>, Failure> {
        images::load(&self.state, self.host, &target.images, &course.missing_images, &mut self.report)
            .map_err(Failure::Refused)?;
        let mut switch = Switch {
            state: &self.state,
            host: self.host,
            target: generation,
            desired: &course.desired,
            plan: &course.plan,
            applied: course.applied,
            loaded: course.loaded,
            flip: course.flip,
            unread: course.unread,
            report: &mut self.report,
        };
        switch.prepare().map_err(Failure::Refused)?;
        switch.carry_out().map_err(Failure::Halfway)
    }
}
