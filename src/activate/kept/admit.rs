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
use std::time::Duration;

use anyhow::Result;

use super::copy::gone;
use super::decide::{Verdict, decide};
use super::presence::Presence;
use super::record::{Record, Resting, Restoring};
use super::restic::{RECLAIMED, Restic, Snapshot, SnapshotId, TAKEN};
use super::words::Words;
use super::{Kept, Scene, lock, presence, runtime};
use crate::bundle::manifest::Home;
use crate::bundle::names::Label;
use crate::durable;
use crate::refusal::{Refusal, refuse};

/// How long whoever keeps a dump may be late, in seconds.
const LATE: u32 = 90;

/// What became of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may start.
    Granted,
    /// Not yet: another host has it.
    Waits,
}

/// What another host left.
enum Taken {
    /// It has not let the service go.
    Not,
    /// It kept nothing. By this word.
    Nothing(SnapshotId),
    /// The copy to begin with, and the word by which it came.
    Copy(Snapshot, SnapshotId),
}

impl Scene<'_> {
    /// Says whether a service may start, after whatever that takes.
    pub fn admit(&mut self, service: &Label) -> Result<Admission> {
        let kept = self.kept(service)?;
        let lock = lock(self.state, service)?;
        let admission = self.admitted(&kept, &lock);
        let waits = runtime(self.state, service, "waits")?;
        match &admission {
            Ok(Admission::Granted) => durable::remove_file_if_there(&waits)?,
            // Who could not ask asks again, like who is to wait.
            Ok(Admission::Waits) | Err(_) => durable::replace_file(&waits, b"", 0o600)?,
        }
        admission
    }

    fn admitted(&mut self, kept: &Kept, lock: &File) -> Result<Admission> {
        let service = &kept.service;
        let known = Record::read(self.state, service)?;
        let mut record = known.clone().unwrap_or_default();
        record.expect_mounted(self.state, kept)?;
        if let Some(mut restoring) = record.restoring.clone() {
            if self.is_due(&mut restoring, &record)? {
                let restic = self.open(lock)?;
                let snapshot = restic.snapshot(&restoring.snapshot)?;
                restoring.begun = true;
                record.restoring = Some(restoring);
                record.write(self.state, service)?;
                return self
                    .carry_out(kept, &restic, &mut record, snapshot, lock)
                    .map(|()| Admission::Granted);
            }
            record.restoring = None;
            record.write(self.state, service)?;
        }
        if record.may_be_elsewhere() {
            let restic = self.open(lock)?;
            self.take_back(service, &restic)?;
        }
        let from = self.manifest()?.moved.get(service).cloned();
        let presence = self.look(kept)?;
        match decide(&presence, known.as_ref(), from.as_ref()) {
            Verdict::Start => {
                let news = record.sees(self.state, &presence)? | record.starts();
                if news || known.is_none() {
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

    /// What there is. Whoever keeps its dumps may be late, and is waited for: who required this would not be started again.
    fn look(&self, kept: &Kept) -> Result<Presence> {
        let mut left = LATE;
        loop {
            match presence::look(self.state, kept) {
                Err(_) if left > 0 && !kept.dumps.is_empty() => left -= 1,
                found => return found,
            }
            self.host.pause(Duration::from_secs(1));
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
        let found = if let Some(home) = coming {
            match self.take(&restic, &home, service)? {
                Taken::Copy(snapshot, word) => Some((snapshot, Some((home, word)))),
                Taken::Nothing(word) => {
                    (record.came_from, record.came) = (Some(home), Some(word));
                    None
                }
                Taken::Not => return Ok(Admission::Waits),
            }
        } else {
            // Also what nobody on this host remembers may be another one's by now.
            let words = self.take_back(service, &restic)?;
            self.last(&restic, words, service, &record)?.map(|snapshot| (snapshot, None))
        };
        let Some((snapshot, from)) = found else {
            if lost {
                return Err(Refusal::new(format!(
                    "all that `{service}` kept is gone, and there is no copy of it"
                ))
                .help("is its file system mounted?")
                .help(format!("`rick-activate accept {service}` has it begin with nothing"))
                .into());
            }
            self.report.line("begin", &format!("{service}: nothing is there, and there is no copy"));
            record.starts();
            record.write(self.state, service)?;
            return Ok(Admission::Granted);
        };
        record.restoring = Some(Restoring {
            snapshot: snapshot.id.clone(),
            replace: false,
            generation: None,
            begun: true,
            from,
        });
        record.write(self.state, service)?;
        self.carry_out(kept, &restic, &mut record, snapshot, lock).map(|()| Admission::Granted)
    }

    /// The last copy of what this host had, by its number, whatever the clock said: none that is older than the one that it knows. A repository that
    /// was never made has none.
    pub(super) fn last(
        &self,
        restic: &Restic,
        words: Option<Words>,
        service: &Label,
        record: &Record,
    ) -> Result<Option<Snapshot>> {
        let Some(words) = words else {
            return if Record::has_copies(self.state, restic.address())? {
                Err(gone(restic))
            } else {
                Ok(None)
            };
        };
        let here = Home::of(self.manifest()?);
        let newest = |whole: bool| {
            let copies = words.copies(&here, None).filter(|copy| !whole || copy.is_complete());
            copies.max_by_key(|copy| copy.number())
        };
        let Some(known) = &record.copied else { return Ok(newest(true).or_else(|| newest(false)).cloned()) };
        // One that was taken, and of which a killed run left no note.
        if let Some(later) = newest(true).filter(|copy| copy.number() > record.number) {
            return Ok(Some(later.clone()));
        }
        words.copy(known).cloned().map(Some).ok_or_else(|| {
            Refusal::new(format!("the repository does not have the last copy of `{service}`, {known}"))
                .help(format!("`rick-activate restore {service} --snapshot ID` brings back an older one that `rick-activate snapshots` shows"))
                .into()
        })
    }

    /// What another host had when it let the service go, if it did so. That this host has it now is said first, and then it is looked whether the
    /// other one has it again.
    fn take(&mut self, restic: &Restic, home: &Home, service: &Label) -> Result<Taken> {
        let here = Home::of(self.manifest()?);
        let not_yet = |scene: &mut Self, why: String| {
            scene.report.line("wait", &format!("{service}: {why}"));
            Ok(Taken::Not)
        };
        let words = Words::read(restic, service)?;
        let Some((words, word)) =
            words.as_ref().and_then(|words| Some((words, words.released(home)?.clone())))
        else {
            return not_yet(self, format!("{home} has not let it go"));
        };
        match words.taken(&word.id).map(|taken| taken.tagged("by").unwrap_or_default().to_owned()) {
            Some(by) if by != here.to_string() => {
                return not_yet(self, format!("{home} let it go, and {by} has it"));
            }
            Some(_) if words.passed_on(&word.id, &here) => {
                return not_yet(self, format!("{home} has not let it go since it had it from here"));
            }
            // This host had it, and does not remember.
            Some(_) => {
                let own = words.copies(&here, Some(&word.id)).filter(|copy| copy.is_complete());
                if let Some(own) = own.max_by_key(|copy| copy.number()) {
                    return Ok(Taken::Copy(own.clone(), word.id));
                }
            }
            None if words.reclaimed(&word.id) => return not_yet(self, format!("{home} has not let it go")),
            None => {
                let mut tags = vec![home.environment.to_string(), service.to_string(), TAKEN.to_owned()];
                tags.extend([format!("by={here}"), format!("word={}", word.id.as_str())]);
                let said = restic.say(here.host.as_str(), &tags)?;
                if Words::read(restic, service)?.is_none_or(|words| words.reclaimed(&word.id)) {
                    restic.remove(&[&said])?;
                    return not_yet(self, format!("{home} took it back"));
                }
            }
        }
        let copy = word.tagged("copy").unwrap_or_default();
        if copy == Resting::Nothing.to_string() {
            return Ok(Taken::Nothing(word.id));
        }
        let copy = SnapshotId::try_from(copy.to_owned());
        let copy = copy.map_err(|why| Refusal::new(format!("the word of {home}: {why}")))?;
        Ok(Taken::Copy(restic.snapshot(&copy)?, word.id))
    }

    /// If this host let the service go, it has it again, unless another one has it by now: that it has is said first. Gives what the repository has after
    /// that.
    fn reclaim(&mut self, service: &Label, restic: &Restic) -> Result<Option<Words>> {
        let here = Home::of(self.manifest()?);
        let words = Words::read(restic, service)?;
        let open = |words: &Words| words.let_go(&here).filter(|word| words.is_open(&word.id)).cloned();
        let Some(word) = words.as_ref().and_then(open) else { return Ok(words) };
        let mut tags = self.tags(service)?;
        tags.extend([RECLAIMED.to_owned(), format!("word={}", word.id.as_str())]);
        restic.say(here.host.as_str(), &tags)?;
        Words::read(restic, service)
    }

    /// The same, for whoever cannot go on if another host has it.
    pub(super) fn take_back(&mut self, service: &Label, restic: &Restic) -> Result<Option<Words>> {
        let words = self.reclaim(service, restic)?;
        let here = Home::of(self.manifest()?);
        let Some(taken) = words.as_ref().and_then(|words| words.taken_from(&here)) else { return Ok(words) };
        let by = taken.tagged("by").unwrap_or(&taken.hostname);
        Err(Refusal::new(format!("`{service}` left this host, and {by} has it since {}", taken.time))
            .help("to move it back: `rick-activate forget` here what it left, say `moved_from`, and take it out of the other environment")
            .help(format!("`rick-activate accept {service}` starts it with what this host had when it left"))
            .into())
    }

    /// Takes what is there as it is, and whatever is missing as meant.
    pub fn accept(&mut self, service: &Label) -> Result<()> {
        let kept = self.kept(service)?;
        let lock = lock(self.state, service)?;
        let presence = presence::look(self.state, &kept)?;
        let mut record = Record::read(self.state, service)?.unwrap_or_default();
        if record.may_be_elsewhere() {
            let restic = self.open(&lock)?;
            // That another host has it is what is accepted; that one takes it later is not.
            let words = self.reclaim(service, &restic)?;
            let here = Home::of(self.manifest()?);
            if let Some(taken) = words.as_ref().and_then(|words| words.taken_from(&here)) {
                let by = taken.tagged("by").unwrap_or(&taken.hostname);
                self.report.line("accept", &format!("{service}: {by} has it, too"));
            }
        }
        record.held.clear();
        record.mounts.clear();
        record.sees(self.state, &presence)?;
        record.restoring = None;
        record.starts();
        record.came_from = self.manifest()?.moved.get(service).cloned().or(record.came_from);
        record.write(self.state, service)?;
        for (part, there) in &presence {
            let what = if *there { "there" } else { "begins with nothing" };
            self.report.line("accept", &format!("{service}: {part}: {what}"));
        }
        Ok(())
    }
}

/// A service waits for another host, as it said in this boot.
pub fn waits(state: &crate::activate::state::State, service: &Label) -> bool {
    runtime(state, service, "waits").is_ok_and(|path| path.exists())
}
