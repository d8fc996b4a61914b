//! The program `rick-activate`: a bundle → a host that runs it.
//!
//! The stages, in order:
//!
//! 1. [`receive`]: stream in, verify every digest, pick this host's part, if somebody signed it whom the host trusts ([`trust`]); [`check`] that it makes sense, and [`layer`] that its files are those.
//!    From a registry, [`fetch`] makes such a stream, and [`pull`] brings the images once the rest is good; [`follow`] asks first whether it is anything new.
//! 2. [`preflight`]: programs, file system, nothing in the way. Only looks.
//! 3. [`realise`] and [`stage`]: tokens → numbers and store paths; written and durable in `incoming/`. A full disk ends it here.
//! 4. [`accounts`]: systemd-sysusers, then every number read back and held to what was declared; what it made is realised and staged
//!    again. Into the store and `gens/N`.
//! 5. [`validate`]: the host's own programs judge what changed. [`images`] into podman, [`secrets`] into memory.
//! 6. [`handover`]: out of the session that called, into a service of PID 1.
//! 7. [`transaction`]: [`journal`], and PID 1 is told to go back if nothing more is heard.
//! 8. [`plan`]: [`desired`] against [`applied`] and what systemd says → steps with nothing left to decide; [`explain`] says what changed.
//! 9. [`switch`]: copy what services keep, stop, **one rename**, daemon-reload, plan anew, tmpfiles, reload, restart and start, record; [`probe`] and [`watch`].
//! 10. [`transaction`] again: confirm, and [`gc`] of what nothing needs any more; or 8 and 9 toward the generation before.
//!
//! Stages 1 to 5 give a target that lies on the host, and change nothing that runs. Going back is stages 2 and 6 to 10 toward a generation
//! that is there already; so is going on after a crash, a boot or a deadline, which [`journal`] leads.
//!
//! # Killed here → the host then has, and what finds it does
//!
//! | killed in | the host has | what comes next does |
//! |---|---|---|
//! | 1–6 | the old generation, untouched; perhaps new accounts, and a `gens/N` that nothing leads to | the next run removes `incoming/` and begins anew; what is in the store already is used |
//! | 7–9, before the rename | the old generation, some units stopped | PID 1 starts the service again, which goes on; at its deadline, it goes back. After a boot: the old generation whole |
//! | 9, after the rename | the new generation; some units not restarted | the same, and exactly those are restarted: the record tells their lives apart. After a boot: the new generation whole, which is then judged, or left if it was to be confirmed |
//! | 10, on the way back | the new or the old generation | the way back is gone on with |

pub mod accounts;
pub mod ahead;
pub mod anchors;
pub mod applied;
pub mod ask;
pub mod check;
pub mod cli;
pub mod contents;
mod course;
pub mod desired;
pub mod diff;
pub mod directory;
pub mod explain;
pub mod fetch;
pub mod follow;
pub mod foreign;
pub mod gc;
pub mod generation;
pub mod handover;
pub mod host;
pub mod images;
pub mod journal;
pub mod kept;
pub mod layer;
pub mod list;
pub mod marks;
#[cfg(test)]
mod model;
pub mod pin;
pub mod plan;
pub mod preflight;
pub mod probe;
#[cfg(test)]
mod properties;
pub mod pull;
pub mod realise;
pub mod receive;
mod registry;
pub mod report;
mod said;
pub mod secrets;
pub mod stage;
pub mod state;
pub mod status;
#[cfg(test)]
mod story;
pub mod switch;
pub mod systemd;
mod target;
pub mod terms;
#[cfg(test)]
mod testing;
pub mod transaction;
pub mod trust;
pub mod uninstall;
pub mod validate;
pub mod versions;
pub mod watch;

use std::io::Read;

use anyhow::Result;

use self::generation::{Generation, Known};
use self::host::{Host, Images};
use self::journal::Journal;
use self::kept::upgrade::{self, OnBarrier};
use self::receive::HostNames;
use self::report::{Ending, Outcome, Report};
use self::state::{Claim, State};
use self::target::Target;
use self::terms::Terms;
use crate::bundle::names::Label;
use crate::refusal::Refusal;
use crate::registry::Origin;

/// Why an activation ended early.
#[derive(Debug)]
pub enum Failure {
    /// Before anything of the host was switched.
    Refused(anyhow::Error),
    /// In the middle of a switch. The journal stays, and PID 1 goes back at the deadline.
    Halfway(anyhow::Error),
}

/// How an activation ended.
#[derive(Debug)]
pub enum Conclusion {
    /// In this process.
    Here(Outcome),
    /// In a service of PID 1, with this exit code. It has said what there is to say.
    Apart(u8),
}

/// One run on one host.
pub struct Activation<'a> {
    /// Where everything lies.
    pub state: State,
    /// The generations that it looked at.
    pub known: Known,
    /// The host.
    pub host: &'a dyn Host,
    /// The names that the host answers to.
    pub names: HostNames,
    /// Only tell what would be done.
    pub dry_run: bool,
    /// A serial may go back.
    pub allow_older: bool,
    /// Nobody need have signed.
    pub allow_unsigned: bool,
    /// What is asked of the switch.
    pub terms: Terms,
    /// The arguments with which to call the activator as a service of PID 1; `None`: this process switches.
    pub apart: Option<Vec<String>>,
    /// Where the lines go.
    pub report: Report,
}

impl Activation<'_> {
    /// Switches the host to a bundle.
    pub fn activate(&mut self, bundle: impl Read) -> Result<Conclusion, Failure> {
        let claim = self.claim().map_err(Failure::Refused)?;
        self.switch_claimed(claim.as_ref(), |run| run.target_of(bundle))
    }

    /// Switches the host to what a registry has for it.
    pub fn activate_from(&mut self, origin: &Origin) -> Result<Conclusion, Failure> {
        let claim = self.claim().map_err(Failure::Refused)?;
        self.switch_claimed(claim.as_ref(), |run| {
            let host = run.find(origin)?;
            run.target_at(origin, &host)
        })
    }

    fn switch_claimed(
        &mut self,
        claim: Option<&Claim>,
        target: impl FnOnce(&mut Self) -> Result<Target>,
    ) -> Result<Conclusion, Failure> {
        let target = target(self).map_err(Failure::Refused);
        let outcome = target.and_then(|target| self.switch_to(&target, claim));
        if let (true, Some(claim)) = (is_refusal(&outcome), claim) {
            self.leave_as_it_was(claim).map_err(Failure::Refused)?;
        }
        outcome
    }

    /// After a refusal: a host that rick never switched keeps nothing of what was made for it.
    fn leave_as_it_was(&self, claim: &Claim) -> Result<()> {
        if !claim.is_first() || Journal::read(&self.state)?.is_some() {
            return Ok(());
        }
        anchors::uproot(&self.state)?;
        claim.take_back()
    }

    /// Switches the host to a generation that it has: the one asked for, or the one before.
    pub fn roll_back(&mut self, asked: Option<u32>) -> Result<Conclusion, Failure> {
        let claim = self.claim().map_err(Failure::Refused)?;
        let target = self.target_back(asked).map_err(Failure::Refused)?;
        self.expect_passable(&target).map_err(Failure::Refused)?;
        self.switch_to(&target, claim.as_ref())
    }

    /// Says of which services what they keep would be copied before, and which would leave.
    fn tell_copies(&mut self, target: &Target) {
        let Ok(Some(from)) = self.known.current(&self.state) else { return };
        let empty = Generation { number: 0, directory: self.state.generation(0), content: None };
        let to = target.generation.as_ref().unwrap_or(&empty);
        let copied = from.manifest().is_some_and(|manifest| kept::restoring(manifest).is_some());
        for kept in upgrade::touched(&from, to) {
            let stays = !upgrade::leaves(&kept, to);
            if copied && self.terms.copies {
                let why = if stays { "its programs change" } else { "it leaves" };
                self.report.line("would copy", &format!("what {} keeps: {why}", kept.service()));
            }
            if !stays {
                self.report.line(
                    "would keep",
                    &format!("what {} kept, until `rick-activate forget`", kept.service()),
                );
            }
        }
    }

    /// Refuses to go back over what cannot be undone, unless it was said what becomes of what services keep.
    fn expect_passable(&self, target: &Target) -> Result<()> {
        let Some((from, to)) = self.known.current(&self.state)?.zip(target.generation.as_ref()) else {
            return Ok(());
        };
        let barred = upgrade::barred(&from, to);
        match self.terms.on_barrier {
            OnBarrier::Leave => Ok(()),
            OnBarrier::Restore => upgrade::copies_for(&self.state, &barred, to).map(drop),
            OnBarrier::Refuse if barred.is_empty() => Ok(()),
            OnBarrier::Refuse => {
                let names: Vec<&str> = barred.iter().map(Label::as_str).collect();
                let what = names.join(", ");
                Err(Refusal::new(format!("generation {} has other programs for {what}, and what those of generation {} did to their data cannot be undone by going back", to.number, from.number))
                    .help("`--with-state` brings back the copy of the data that was taken before, too: what came since then is in a copy of its own")
                    .help("`--without-state` leaves the data as it is")
                    .into())
            }
        }
    }

    /// A dry run writes nothing, so it holds nothing.
    fn claim(&self) -> Result<Option<Claim>> {
        if self.dry_run { Ok(None) } else { Claim::take(&self.state).map(Some) }
    }

    fn switch_to(&mut self, target: &Target, claim: Option<&Claim>) -> Result<Conclusion, Failure> {
        let outcome = self.go_to(target, claim);
        if is_refusal(&outcome) {
            target.discard(&self.state).map_err(Failure::Refused)?;
        }
        outcome
    }

    fn go_to(&mut self, target: &Target, claim: Option<&Claim>) -> Result<Conclusion, Failure> {
        let Some(claim) = claim else {
            let course = self.course(target).map_err(Failure::Refused)?;
            self.tell(target, &course);
            return Ok(Conclusion::Here(course.told(target)));
        };
        if let Some(generation) = &target.generation {
            self.bring_secrets(&generation.directory).map_err(Failure::Refused)?;
        }
        if let Some(outcome) = self.as_it_is(target).map_err(Failure::Refused)? {
            return Ok(Conclusion::Here(outcome));
        }
        self.bring_images(target).map_err(Failure::Refused)?;
        self.host.keep_program(&self.state.program()).map_err(Failure::Refused)?;
        match self.apart.clone() {
            Some(arguments) => self.hand_over(target.number, &arguments, claim),
            None => self.see_through(target.number).map(Conclusion::Here),
        }
    }

    /// The images that are new, before anything stops.
    fn bring_images(&mut self, target: &Target) -> Result<()> {
        let current = self.known.current(&self.state)?;
        let known = current.as_ref().and_then(Generation::manifest).map(Images::of);
        images::ensure(&self.state, self.host, &target.images, &known.unwrap_or_default(), &mut self.report)
    }

    /// The outcome, if there is nothing to do.
    fn as_it_is(&mut self, target: &Target) -> Result<Option<Outcome>> {
        let under_way = Journal::read(&self.state)?.is_some();
        if under_way || generation::current_number(&self.state)? != Some(target.number) {
            return Ok(None);
        }
        let course = self.course(target)?;
        let Some(generation) = target.generation.as_ref().filter(|_| !course.changes()) else {
            return Ok(None);
        };
        // To run is not to answer: what was not well a moment ago is not called well unasked.
        let problems = probe::probe(self.host, generation.probes(), &mut Report::silent());
        course.tell_skipped(&mut self.report);
        let mut outcome = course.told(target);
        if problems.is_empty() {
            let what = format!("generation {} is current, and all of it runs", target.number);
            self.report.line("nothing to do:", &what);
            if self.host.is_running() {
                self.release(generation);
            }
            outcome.ending = Ending::NothingToDo;
        } else {
            outcome.ending =
                Ending::NotWell { reason: "nothing changed, so there is nothing to go back to".to_owned() };
        }
        Ok(Some(Outcome { problems, changed: false, dry_run: false, ..outcome }))
    }
}

/// Refused, by this process or by the one that it handed over to.
fn is_refusal(outcome: &Result<Conclusion, Failure>) -> bool {
    matches!(outcome, Err(Failure::Refused(_)) | Ok(Conclusion::Apart(cli::REFUSED)))
}
