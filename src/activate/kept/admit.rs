//! Whether a service may start: asked before each start, by a unit that its units require.
//!
//! ```text
//! a restore was cut short              gone on with
//! everything is there                  it starts
//! nothing is there, and never was      the last copy is restored; if there is none, it starts with nothing
//! nothing is there any more            the last copy is restored; if there is none, it does not start
//! some of it is gone                   it does not start: what belongs together is brought back together
//! it is to come from another host      it waits until that host has let it go, and is restored
//! it left for another host             it starts if no host has it yet, which is then taken back
//! ```
//!
//! Where the repository has to be asked and does not answer, nothing starts: to begin with nothing is to copy nothing over what was good.

use std::fs::File;

use anyhow::Result;

use super::copy::gone;
use super::decide::{Verdict, decide};
use super::record::{Record, Restoring, Word};
use super::restic::{RELEASED, Restic, Snapshot, SnapshotId, TAKEN};
use super::{Kept, Scene, lock, presence, runtime};
use crate::bundle::manifest::Home;
use crate::bundle::names::Label;
use crate::durable;
use crate::refusal::{Refusal, refuse};

/// What became of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may start.
    Granted,
    /// Not yet: another host has it.
    Waits,
}

impl Scene<'_> {
    /// Says whether a service may start, after whatever that takes.
    pub fn admit(&mut self, service: &Label) -> Result<Admission> {
        let kept = self.kept(service)?;
        let lock = lock(self.state, service)?;
        let admission = self.admitted(&kept, &lock)?;
        let waits = runtime(self.state, service, "waits")?;
        match admission {
            Admission::Granted => durable::remove_file_if_there(&waits)?,
            Admission::Waits => durable::replace_file(&waits, b"", 0o600)?,
        }
        Ok(admission)
    }

    fn admitted(&mut self, kept: &Kept, lock: &File) -> Result<Admission> {
        let service = &kept.service;
        let known = Record::read(self.state, service)?;
        let mut record = known.clone().unwrap_or_default();
        record.expect_mounted(self.state, kept)?;
        if let Some(mut restoring) = record.restoring.clone() {
            if self.is_due(&mut restoring, &record)? {
                restoring.begun = true;
                record.restoring = Some(restoring);
                record.write(self.state, service)?;
                let restic = self.open(lock)?;
                return self.carry_out(kept, &restic, &mut record, None).map(|()| Admission::Granted);
            }
            record.restoring = None;
            record.write(self.state, service)?;
        }
        if let Some(left) = &record.left {
            self.take_back(service, &left.word, lock)?;
        }
        let from = self.manifest()?.moved.get(service).cloned();
        let presence = presence::look(self.state, kept)?;
        match decide(&presence, known.as_ref(), from.as_ref()) {
            Verdict::Start => {
                let news =
                    record.sees(self.state, &presence)? || record.left.take().is_some() || known.is_none();
                if news {
                    record.write(self.state, service)?;
                }
                Ok(Admission::Granted)
            }
            Verdict::Lost(parts) => {
                let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
                Err(Refusal::new(format!("{} of `{service}` is empty, and was not before", parts.join(", ")))
                    .help(format!(
                        "`rick-activate restore {service} --replace` brings all of it back from the last copy"
                    ))
                    .help(format!("`rick-activate accept {service}` takes what is there as it is"))
                    .into())
            }
            Verdict::Foreign(home) => Err(Refusal::new(format!(
                "`{service}` is to come from {home}, and this host has data for it that did not"
            ))
            .help("restore it by hand, or leave `moved_from` out; `rick-activate state` shows what is there")
            .into()),
            Verdict::Ask { lost } => self.ask(kept, record, from, lost, lock),
        }
    }

    fn open(&self, lock: &File) -> Result<Restic> {
        let mut restic = Restic::open(self.state, &self.generation, &self.repository()?)?;
        restic.hold(lock)?;
        Ok(restic)
    }

    /// A restore that was to be done for a generation is done for that one. If the host went elsewhere after it was begun, it gets what it
    /// had before.
    fn is_due(&self, restoring: &mut Restoring, record: &Record) -> Result<bool> {
        let here = self.generation.number;
        match restoring.generation {
            Some(number) if number != here && !restoring.begun => Ok(false),
            Some(number) if number != here => match record.before.get(&here) {
                Some(id) => {
                    restoring.snapshot = id.clone();
                    restoring.generation = Some(here);
                    Ok(true)
                }
                None => refuse!(
                    "a restore for generation {number} was cut short, and there is no copy of what generation {here} had"
                ),
            },
            _ => Ok(true),
        }
    }

    /// Nothing is there: what the repository has decides.
    fn ask(
        &mut self,
        kept: &Kept,
        mut record: Record,
        from: Option<Home>,
        lost: bool,
        lock: &File,
    ) -> Result<Admission> {
        let service = &kept.service;
        let restic = self.open(lock)?;
        let coming = from.filter(|home| record.came_from.as_ref() != Some(home));
        let found = match &coming {
            Some(home) => match self.take(&restic, home, service)? {
                Some(snapshot) => Some(snapshot),
                None => return Ok(Admission::Waits),
            },
            None => self.last(&restic, service, record.copied.as_ref())?,
        };
        let Some(snapshot) = found else {
            if lost {
                return Err(Refusal::new(format!(
                    "all that `{service}` kept is gone, and there is no copy of it"
                ))
                .help("is its file system mounted?")
                .help(format!("`rick-activate accept {service}` has it begin with nothing"))
                .into());
            }
            self.report.line("begin", &format!("{service}: nothing is there, and there is no copy"));
            record.left = None;
            record.write(self.state, service)?;
            return Ok(Admission::Granted);
        };
        record.restoring = Some(Restoring {
            snapshot: snapshot.id.clone(),
            replace: false,
            generation: None,
            begun: true,
            from: coming,
        });
        record.write(self.state, service)?;
        self.carry_out(kept, &restic, &mut record, Some(snapshot)).map(|()| Admission::Granted)
    }

    /// The last copy of what this host had: the one that it knows, else the one with the highest number, whatever the clock said. A
    /// repository that was never made has none.
    pub(super) fn last(
        &self,
        restic: &Restic,
        service: &Label,
        known: Option<&SnapshotId>,
    ) -> Result<Option<Snapshot>> {
        let manifest = self.manifest()?;
        let Some(found) = restic.snapshots_if_there(None, &[service.as_str()])? else {
            return if Record::has_copies(self.state, restic.address())? {
                Err(gone(restic))
            } else {
                Ok(None)
            };
        };
        let mut copies = found.into_iter().filter(Snapshot::is_copy);
        let Some(known) = known else {
            let environment = manifest.environment.to_string();
            let own =
                |copy: &Snapshot| copy.hostname == manifest.host.as_str() && copy.tags.contains(&environment);
            return Ok(copies.filter(own).max_by_key(Snapshot::number));
        };
        copies.find(|copy| copy.id == *known).map(Some).ok_or_else(|| {
            Refusal::new(format!("the repository does not have the last copy of `{service}`, {known}"))
                .help(format!("`rick-activate restore {service} --snapshot ID` brings back an older one that `rick-activate snapshots` shows"))
                .into()
        })
    }

    /// The copy with which another host let the service go; `None`: it did not, so far. That this host has it now is said first, and then it is
    /// looked whether the other one took it back meanwhile: of two that do so at once, one sees the other.
    fn take(&mut self, restic: &Restic, home: &Home, service: &Label) -> Result<Option<Snapshot>> {
        if !restic.exists()? {
            self.report.line("wait", &format!("{service}: {home} has not let it go"));
            return Ok(None);
        }
        let word = released(restic, home, service)?;
        let Some(word) = word else {
            self.report.line("wait", &format!("{service}: {home} has not let it go"));
            return Ok(None);
        };
        let manifest = self.manifest()?;
        let mut tags = vec![home.environment.to_string(), service.to_string(), TAKEN.to_owned()];
        tags.extend([format!("by={}", Home::of(manifest)), format!("word={}", word.id.as_str())]);
        let said = restic.say(manifest.host.as_str(), &tags)?;
        let still = released(restic, home, service)?;
        let copy =
            still.filter(|still| still.id == word.id).and_then(|word| word.tagged("copy").map(str::to_owned));
        let Some(copy) = copy else {
            restic.remove(&[&said])?;
            self.report.line("wait", &format!("{service}: {home} took it back"));
            return Ok(None);
        };
        let copy =
            copy.try_into().map_err(|why: String| Refusal::new(format!("the word of {home}: {why}")))?;
        restic.snapshot(&copy).map(Some)
    }

    /// The service left this host, which has it again: unless another one has it by now. The word that one may have it is taken back first.
    fn take_back(&mut self, service: &Label, word: &Word, lock: &File) -> Result<()> {
        if *word == Word::None {
            return Ok(());
        }
        let here = Home::of(self.manifest()?);
        let restic = self.open(lock)?;
        let there = released(&restic, &here, service)?;
        if let Some(there) = &there {
            restic.remove(&[&there.id])?;
        }
        let said = match word {
            Word::Said(id) => Some(id),
            _ => there.as_ref().map(|there| &there.id),
        };
        let taken = restic.snapshots(None, &[here.environment.as_str(), service.as_str(), TAKEN])?;
        let taken =
            taken.iter().find(|taken| said.is_some_and(|said| taken.tagged("word") == Some(said.as_str())));
        let Some(taken) = taken else { return Ok(()) };
        let by = taken.tagged("by").unwrap_or(&taken.hostname);
        Err(Refusal::new(format!("`{service}` left this host, and {by} has it since {}", taken.time))
            .help("to move it back: `rick-activate forget` here what it left, say `moved_from`, and take it out of the other environment")
            .help(format!("`rick-activate accept {service}` starts it with what this host had when it left"))
            .into())
    }

    /// Takes what is there as it is, and whatever is missing as meant.
    pub fn accept(&mut self, service: &Label) -> Result<()> {
        let kept = self.kept(service)?;
        let _lock = lock(self.state, service)?;
        let presence = presence::look(self.state, &kept)?;
        let mut record = Record::read(self.state, service)?.unwrap_or_default();
        record.held.clear();
        record.mounts.clear();
        record.sees(self.state, &presence)?;
        record.restoring = None;
        record.left = None;
        record.came_from = self.manifest()?.moved.get(service).cloned().or(record.came_from);
        record.write(self.state, service)?;
        for (part, there) in &presence {
            let what = if *there { "there" } else { "begins with nothing" };
            self.report.line("accept", &format!("{service}: {part}: {what}"));
        }
        Ok(())
    }
}

/// The word of a host that another one may have the service: the last one.
pub(super) fn released(restic: &Restic, home: &Home, service: &Label) -> Result<Option<Snapshot>> {
    let tags = [home.environment.as_str(), service.as_str(), RELEASED];
    Ok(restic.snapshots(Some(home.host.as_str()), &tags)?.pop())
}

/// A service waits for another host, as it said in this boot.
pub fn waits(state: &crate::activate::state::State, service: &Label) -> bool {
    runtime(state, service, "waits").is_ok_and(|path| path.exists())
}
