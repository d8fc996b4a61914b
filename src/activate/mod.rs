//! The program `rick-activate`: a bundle → a host that runs it.
//!
//! The stages, in order:
//!
//! 1. [`receive`]: stream in, verify every digest, pick this host's part; [`check`] that it makes sense.
//! 2. [`preflight`]: programs, file system, nothing in the way. Only looks.
//! 3. [`accounts`]: systemd-sysusers, then every number read back and held to what was declared.
//! 4. [`realise`] and [`stage`]: tokens → numbers and store paths; into the store and `gens/N`, durable. [`images`] into podman.
//! 5. [`plan`]: [`desired`] against [`applied`] and what systemd says → steps with nothing left to decide.
//! 6. [`switch`]: stop, **one rename**, daemon-reload, reload, restart and start, record, probe.
//!
//! Going back is stages 2, 3, 5 and 6 toward a generation that is there already.
//!
//! # Killed here → the host then has, and the next run does
//!
//! | killed in | the host has | the next run |
//! |---|---|---|
//! | 1–4 | the old generation, untouched | removes `incoming/` and begins anew; what is in the store already is used |
//! | 6, before the rename | the old generation, some units stopped | starts or replaces them |
//! | 6, after the rename | the new generation, some units not restarted | restarts exactly those: their applied keys are the old ones |
//!
//! After a reboot the same holds, but all units were then started from the one generation that `current` led to. Not yet there: a
//! journal of switches, health over time, going back by itself, collecting garbage.

pub mod accounts;
pub mod anchors;
pub mod applied;
pub mod check;
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
#[cfg(test)]
mod testing;

use std::collections::BTreeMap;
use std::io::Read;
use std::mem;
use std::path::Path;
use std::thread;

use anyhow::Result;

use self::accounts::{HostAccounts, Ids, Remembered};
use self::applied::Applied;
use self::desired::Desired;
use self::generation::Generation;
use self::host::{Host, LoadState};
use self::layer::Files;
use self::plan::{Plan, Situation};
use self::realise::Realised;
use self::receive::{HostNames, Received};
use self::report::{Outcome, Report};
use self::stage::Staged;
use self::state::{Claim, State};
use self::switch::Switch;
use crate::bundle::digest::Digest;
use crate::bundle::manifest::{Accounts, HostManifest, Role};
use crate::durable;

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

/// The generation that the host is to have: one that is there, or in a dry run one that is not.
struct Target {
    number: u32,
    digest: Option<Digest>,
    desired: Desired,
    images: BTreeMap<String, Digest>,
    generation: Option<Generation>,
}

/// What a switch to a target takes.
struct Course {
    /// The units of the target, with the instances of templates that it hides.
    desired: Desired,
    plan: Plan,
    applied: Applied,
    previous: u32,
    flip: bool,
    unread: bool,
    planted: bool,
    missing_images: Vec<String>,
}

impl Activation<'_> {
    /// Switches the host to a bundle.
    pub fn activate(&mut self, bundle: impl Read) -> Result<Outcome, Failure> {
        let _claim = self.claim().map_err(Failure::Refused)?;
        let target = self.target_of(bundle).map_err(Failure::Refused)?;
        self.switch_to(&target)
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

    fn target_of(&mut self, bundle: impl Read) -> Result<Target> {
        let received = receive::receive(bundle, &self.state, &self.names, !self.dry_run)?;
        let manifest = &received.manifest;
        let what = format!("{} for {} ({})", manifest.environment, manifest.host, received.digest.short());
        self.report.line("bundle", &what);
        check::check_manifest(manifest)?;
        preflight::check_host(&self.state, Some(manifest))?;
        match Generation::current(&self.state)? {
            Some(current)
                if current.content.as_ref().is_some_and(|content| content.digest == received.digest) =>
            {
                self.keep_current(&received, current)
            }
            _ => self.make_new(received),
        }
    }

    /// The same build as the current generation's, and numbers never change: the same bytes, so no new generation.
    fn keep_current(&mut self, received: &Received, current: Generation) -> Result<Target> {
        self.accounts(&received.manifest.accounts, &current.directory.join("sysusers.conf"))?;
        if !self.dry_run {
            images::keep(&self.state, received)?;
        }
        Target::there(current)
    }

    /// Written with the numbers that are known before any account is made: a full disk or a Quadlet that podman does not take
    /// ends it while the host is as it was.
    fn make_new(&mut self, mut received: Received) -> Result<Target> {
        let files = layer::unpack(&mem::take(&mut received.layer), &received.manifest)?;
        let (received, manifest) = (&received, &received.manifest);
        check::check_tokens(manifest, &files)?;
        let known = self.resolve(&manifest.accounts)?;
        let realised = realise::realise(&files, manifest, &known)?;
        if self.dry_run {
            return self.imagined(received, &realised);
        }
        let mut staged = self.stage(received, &realised)?;
        let ids = self.new_accounts(manifest, &files, &known)?;
        if ids != known {
            staged = self.stage(received, &realise::realise(&files, manifest, &ids)?)?;
        }
        let generation = stage::keep(&self.state, received, &staged)?;
        Remembered::read(&self.state)?.remember(&self.state, &ids)?;
        Target::there(generation)
    }

    fn stage(&self, received: &Received, realised: &Realised<'_>) -> Result<Staged> {
        let staged = stage::write(&self.state, received, realised)?;
        if received.manifest.files.keys().any(|path| path.as_str().starts_with("quadlets/")) {
            self.host.check_quadlets(&staged.quadlets())?;
        }
        Ok(staged)
    }

    fn target_back(&mut self, asked: Option<u32>) -> Result<Target> {
        let target = generation::to_go_back_to(&self.state, asked)?;
        preflight::check_host(&self.state, target.manifest())?;
        if let Some(manifest) = target.manifest() {
            self.accounts(&manifest.accounts, &target.directory.join("sysusers.conf"))?;
        }
        Target::there(target)
    }

    /// What a dry run would make.
    fn imagined(&self, received: &Received, realised: &Realised<'_>) -> Result<Target> {
        let read = |path: &_| Ok(realised.files.get(path).map(|bytes| bytes.to_vec()).unwrap_or_default());
        Ok(Target {
            number: generation::next_number(&self.state)?,
            digest: Some(received.digest),
            desired: Desired::of(&received.manifest, read)?,
            images: received.manifest.images.clone(),
            generation: None,
        })
    }

    /// The numbers for a generation that is to be made. systemd-sysusers runs though all may be known: it makes memberships as well.
    fn new_accounts(&self, manifest: &HostManifest, files: &Files, known: &Ids) -> Result<Ids> {
        let Some((_, sysusers)) = files.iter().find(|(path, _)| path.as_str() == "sysusers.conf") else {
            return Ok(known.clone().expect_complete()?);
        };
        let file = self.state.incoming().join("sysusers.conf");
        durable::write_new(&file, sysusers, 0o644)?;
        self.make_accounts(&manifest.accounts, &file)
    }

    /// The numbers for a generation that is there; accounts that somebody removed are made again.
    fn accounts(&self, accounts: &Accounts, sysusers: &Path) -> Result<Ids> {
        let ids = self.resolve(accounts)?;
        if ids.complete() || self.dry_run { Ok(ids) } else { self.make_accounts(accounts, sysusers) }
    }

    /// Additive, so it may come before the commit. The accounts were looked at before, because systemd-sysusers silently takes another
    /// number for one that is taken, and are looked at again after.
    fn make_accounts(&self, accounts: &Accounts, sysusers: &Path) -> Result<Ids> {
        self.host.sysusers(sysusers)?;
        Ok(self.resolve(accounts)?.expect_complete()?)
    }

    fn resolve(&self, accounts: &Accounts) -> Result<Ids> {
        Ok(Ids::resolve(accounts, &HostAccounts::read(&self.state)?, &Remembered::read(&self.state)?)?)
    }

    fn switch_to(&mut self, target: &Target) -> Result<Outcome, Failure> {
        let course = self.course(target).map_err(Failure::Refused)?;
        let mut outcome = course.outcome(target, self.dry_run);
        match &target.generation {
            _ if !outcome.changed => {
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

    fn course(&self, target: &Target) -> Result<Course> {
        let current = Generation::current(&self.state)?;
        let previous = current.as_ref().map_or(0, |current| current.number);
        let flip = previous != target.number;
        let mut now = match &current {
            Some(current) if flip => current.desired()?,
            Some(_) => target.desired.clone(),
            None => Desired::default(),
        };
        let applied = Applied::read(&self.state)?.in_boot(&self.host.boot_id()?, previous, &now);
        let mut desired = target.desired.clone();
        let instances = self.host.instances(&desired.hidden_templates())?;
        desired.hide_instances(instances.into_iter().chain(applied.displaced.iter().cloned()));
        now.hide_instances(applied.displaced.iter().cloned());
        let ours = now.names();
        let names = desired.names().into_iter().chain(ours.clone()).chain(applied.units.keys().cloned());
        let (missing_images, live) =
            side_by_side(|| images::missing(self.host, &target.images), || switch::observe(self.host, names));
        let (missing_images, live) = (missing_images?, live?);
        let unknown = |unit: &desired::Wanted| {
            unit.role != Role::Mask
                && live.get(&unit.name).is_some_and(|state| state.load == LoadState::NotFound)
        };
        let unread = flip || applied.generation != target.number || desired.units.iter().any(unknown);
        let plan = plan::plan(&Situation { desired: &desired, applied: &applied, ours: &ours, live: &live });
        let planted = match &target.generation {
            Some(generation) => anchors::planted(&self.state, generation)?,
            None => false,
        };
        Ok(Course { desired, plan, applied, previous, flip, unread, planted, missing_images })
    }

    fn carry_out(
        &mut self,
        target: &Target,
        generation: &Generation,
        course: Course,
    ) -> Result<Vec<report::Problem>, Failure> {
        let mut switch = Switch {
            state: &self.state,
            host: self.host,
            target: generation,
            desired: &course.desired,
            plan: &course.plan,
            applied: course.applied,
            flip: course.flip,
            unread: course.unread,
            report: &mut self.report,
        };
        let missing = &course.missing_images;
        images::load(&self.state, self.host, &target.images, missing, switch.report)
            .map_err(Failure::Refused)?;
        switch.prepare().map_err(Failure::Refused)?;
        switch.carry_out().map_err(Failure::Halfway)
    }

    /// The plan of a dry run.
    fn tell(&mut self, target: &Target, course: &Course) {
        if course.flip {
            self.report.line(
                "would make",
                &format!("generation {} current (now: {})", target.number, course.previous),
            );
        }
        for step in &course.plan.steps {
            self.report
                .line(&format!("would {}", step.verb.word()), &format!("{}: {}", step.unit, step.reason));
        }
    }
}

impl Target {
    fn there(generation: Generation) -> Result<Self> {
        let desired = generation.desired()?;
        let digest = generation.content.as_ref().map(|content| content.digest);
        let images = generation.manifest().map(|manifest| manifest.images.clone()).unwrap_or_default();
        Ok(Self { number: generation.number, digest, desired, images, generation: Some(generation) })
    }
}

impl Course {
    fn outcome(&self, target: &Target, dry_run: bool) -> Outcome {
        Outcome {
            generation: target.number,
            previous: self.previous,
            digest: target.digest,
            dry_run,
            changed: self.flip
                || self.unread
                || !self.planted
                || !self.missing_images.is_empty()
                || !self.plan.steps.is_empty(),
            steps: self.plan.steps.clone(),
            problems: Vec::new(),
        }
    }
}

/// Asks two slow questions at once: podman and systemd each take their time to answer.
fn side_by_side<A: Send, B>(elsewhere: impl FnOnce() -> A + Send, here: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let other = scope.spawn(elsewhere);
        let here = here();
        match other.join() {
            Ok(other) => (other, here),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
