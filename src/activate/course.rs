//! What it takes to get from where the host is to a target: everything is asked here, nothing is done.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::applied::Applied;
use super::contents::Contents;
use super::desired::{Desired, Wanted};
use super::explain;
use super::generation::{self, Generation};
use super::host::{LoadState, UnitState, side_by_side};
use super::journal::Journal;
use super::plan::{self, Plan, Situation, Step};
use super::report::{Ending, Outcome, Report};
use super::state::State;
use super::target::Target;
use super::{Activation, anchors, diff, images, switch};
use crate::bundle::manifest::Role;
use crate::bundle::names::UnitName;

/// What a switch to a target takes.
pub(super) struct Course {
    /// The units of the target, with the instances of its templates.
    pub(super) desired: Desired,
    /// The units of the generation that the host has.
    pub(super) ours: Desired,
    pub(super) plan: Plan,
    /// What was applied, as it holds now.
    pub(super) applied: Applied,
    /// The units of the generation that systemd has loaded.
    pub(super) loaded: Desired,
    /// All these units as systemd has them.
    pub(super) live: BTreeMap<UnitName, UnitState>,
    /// The generation that the host has.
    pub(super) previous: u32,
    /// The target is another one.
    pub(super) flip: bool,
    /// systemd has yet to read the units of the target.
    pub(super) unread: bool,
    /// All anchors stand.
    planted: bool,
    pub(super) missing_images: Vec<String>,
}

impl Activation<'_> {
    /// Looks at the host, and plans.
    pub(super) fn course(&self, target: &Target) -> Result<Course> {
        let current = generation::current_number(&self.state)?;
        let previous = current.unwrap_or(0);
        let flip = previous != target.number;
        let mut now = match current {
            Some(current) if flip => self.known.get(&self.state, current)?.desired()?,
            Some(_) => target.desired.clone(),
            None => Desired::default(),
        };
        let applied = Applied::read(&self.state)?.in_boot(&self.host.boot_id()?, previous, &now);
        let mut loaded = if applied.generation == previous { now.clone() } else { self.loaded(&applied) };
        let mut desired = target.desired.clone();
        let halted = Journal::read(&self.state)?.map(|journal| journal.halted).unwrap_or_default();
        let templates = desired.templates().chain(now.templates()).chain(loaded.templates());
        let templates: BTreeSet<_> = templates.cloned().collect();
        let instances = self.host.instances(&templates.into_iter().collect::<Vec<_>>())?;
        for units in [&mut desired, &mut now, &mut loaded] {
            units.add_instances(instances.iter().chain(&applied.displaced).chain(&halted));
        }
        let names = [desired.names(), now.names(), loaded.names()].into_iter().flatten();
        let names = names.chain(applied.units.keys().cloned());
        let (missing_images, live) =
            side_by_side(|| images::missing(self.host, &target.images), || switch::observe(self.host, names));
        let (missing_images, live) = (missing_images?, live?);
        // A switch was cut short between its commit and what systemd read: whatever started since may be of either.
        let others: &[&Desired] = if applied.generation == previous { &[] } else { &[&now] };
        let applied = applied.seen(&live, &loaded, others);
        let unknown = |unit: &Wanted| {
            unit.role != Role::Mask
                && live.get(&unit.name).is_some_and(|state| state.load == LoadState::NotFound)
        };
        let unread = flip || applied.generation != target.number || desired.units.iter().any(unknown);
        let mut plan = plan::plan(&Situation {
            desired: &desired,
            applied: &applied,
            ours: &now,
            live: &live,
            halted: &halted,
        });
        explain::explain(&mut plan, &applied, &target.contents, |number| {
            Contents::at(&self.known, &self.state, number)
        });
        let planted = match &target.generation {
            Some(generation) => anchors::planted(&self.state, generation)?,
            None => false,
        };
        Ok(Course {
            desired,
            ours: now,
            plan,
            applied,
            loaded,
            live,
            previous,
            flip,
            unread,
            planted,
            missing_images,
        })
    }

    /// The units of the generation that systemd has loaded. Nothing is known of one that cannot be read, so all of it is done again.
    fn loaded(&self, applied: &Applied) -> Desired {
        let generation = self.known.get(&self.state, applied.generation);
        generation.and_then(|generation| generation.desired()).unwrap_or_default()
    }

    /// Says what a dry run found.
    pub(super) fn tell(&mut self, target: &Target, course: &Course) {
        for name in &course.missing_images {
            let verb = if target.images.pulled.contains(name) { "would pull" } else { "would load" };
            self.report.line(verb, name);
        }
        if course.flip {
            let what = format!("generation {} (now: {})", target.number, course.previous);
            self.report.line("would switch to", &what);
        } else if course.unread {
            self.report.line("would read", "the units again");
        } else if course.applied.unmade {
            self.report.line("would make", "the directories, which went wrong before");
        }
        self.tell_copies(target);
        for step in &course.plan.steps {
            let verb = format!("would {}", step.verb.word());
            self.report.line(&verb, &step.told());
            self.show(step, target, course);
        }
        for skip in &course.plan.skipped {
            self.report.line("would leave", &skip.told());
        }
        if !course.changes() {
            self.report.line(
                "nothing to do:",
                &format!("generation {} is current, and all of it runs", target.number),
            );
        }
    }
}

impl Activation<'_> {
    /// Shows how the files changed that a step is taken for, if that is wanted.
    fn show(&mut self, step: &Step, target: &Target, course: &Course) {
        let record = course.applied.units.get(&step.unit).and_then(|record| record.generation);
        let Some(number) = record.filter(|_| self.report.diffs && !step.changed.is_empty()) else { return };
        let Some(before) = Contents::at(&self.known, &self.state, number) else { return };
        let labels = (format!("generation {number}"), format!("generation {}", target.number));
        for change in &step.changed {
            if let Some(diff) = diff::unified(&change.path, &before, &target.contents, &labels) {
                self.report.diff(&diff);
            }
        }
    }
}

impl Course {
    /// Makes what must be there before the host is touched: a record of what is about to be displaced, and the anchors.
    pub(super) fn prepare(&mut self, state: &State, target: &Generation) -> Result<()> {
        self.applied.displaced = self.applied.displaced.union(&self.plan.displaced).cloned().collect();
        self.applied.unmade |= self.unread;
        self.applied.write(state)?;
        anchors::plant(state, target)
    }

    /// There is something to do.
    pub(super) fn changes(&self) -> bool {
        self.flip
            || self.unread
            || self.applied.unmade
            || !self.planted
            || !self.missing_images.is_empty()
            || !self.plan.steps.is_empty()
    }

    /// What is said of it before anything is done.
    pub(super) fn told(&self, target: &Target) -> Outcome {
        Outcome {
            ending: Ending::Told,
            generation: target.number,
            tried: target.number,
            previous: self.previous,
            digest: target.digest,
            dry_run: true,
            changed: self.changes(),
            steps: self.plan.steps.clone(),
            skipped: self.plan.skipped.clone(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }

    pub(super) fn tell_skipped(&self, report: &mut Report) {
        for skip in &self.plan.skipped {
            report.line("leave", &skip.told());
        }
    }
}
