//! A service that is gone from its host: what it kept stays, and another host may have it.

use std::fs::File;
use std::path::Path;

use anyhow::Result;

use super::record::{Left, Record, Word};
use super::restic::{RELEASED, Restic};
use super::words::Words;
use super::{Kept, Part, Scene, dumps, folder, lock, presence, restoring, upgrade};
use crate::activate::generation::{self, Generation};
use crate::activate::journal::Journal;
use crate::activate::state::State;
use crate::bundle::manifest::Home;
use crate::bundle::names::Label;
use crate::durable;
use crate::refusal::{Refusal, refuse};

/// Notes which services a switch took away, with what they keep.
pub fn note_gone(state: &State, from: &Generation, to: &Generation) -> Result<()> {
    for kept in from.manifest().map(Kept::all).unwrap_or_default() {
        if !upgrade::leaves(&kept, to) {
            continue;
        }
        let _lock = lock(state, &kept.service)?;
        let mut record = Record::read(state, &kept.service)?.unwrap_or_default();
        if record.left.is_some() {
            continue;
        }
        // What cannot be asked is not known to be empty.
        let there = |part: &Part| presence::part(state, &kept, part).unwrap_or(true);
        record.held.extend(kept.parts.iter().filter(|part| there(part)).cloned());
        record.left =
            Some(Left { generation: from.number, resting: record.resting.take(), word: Word::None });
        record.write(state, &kept.service)?;
    }
    Ok(())
}

/// Says of services that are gone that other hosts may have them, in the repository. What cannot be said now is said later.
pub fn release(scene: &mut Scene<'_>) -> Result<()> {
    for (service, record) in Record::all(scene.state)? {
        // Those that are here may be copied at this moment, for hours: nobody waits for them.
        let here = scene.generation.manifest().is_none_or(|manifest| Kept::of(manifest, &service).is_some());
        if here || record.left.is_none_or(|left| matches!(left.word, Word::Said(_))) {
            continue;
        }
        let lock = lock(scene.state, &service)?;
        // A switch that is not over may yet bring it back, and one that is over may have.
        if Journal::read(scene.state)?.is_some()
            || generation::current_number(scene.state)? != Some(scene.generation.number)
        {
            return Ok(());
        }
        release_one(scene, &service, &lock)?;
    }
    Ok(())
}

fn release_one(scene: &mut Scene<'_>, service: &Label, lock: &File) -> Result<()> {
    let (Some(manifest), Some(mut record)) =
        (scene.generation.manifest(), Record::read(scene.state, service)?)
    else {
        return Ok(());
    };
    let Some(left) = record.left.as_mut().filter(|left| !matches!(left.word, Word::Said(_))) else {
        return Ok(());
    };
    let (None, Some(resting), Some(repository)) =
        (Kept::of(manifest, service), left.resting.clone(), restoring(manifest))
    else {
        return Ok(());
    };
    let home = Home::of(manifest);
    let mut restic = Restic::open(scene.state, &scene.generation, repository)?;
    restic.hold(lock)?;
    // Noted first: from here on this host asks before it has the service again.
    left.word = Word::Saying;
    record.write(scene.state, service)?;
    let copy = resting.to_string();
    let words = Words::read(&restic, service)?;
    let there = words.as_ref().and_then(|words| words.released(&home));
    let there = there.filter(|word| word.tagged("copy") == Some(&copy) && word.number() == record.number);
    let said = if let Some(word) = there {
        word.id.clone()
    } else {
        let mut tags = scene.tags(service)?;
        tags.extend([RELEASED.to_owned(), format!("copy={copy}"), format!("number={}", record.number)]);
        tags.extend(record.came.as_ref().map(|came| format!("came={}", came.as_str())));
        restic.say(manifest.host.as_str(), &tags)?
    };
    if let Some(left) = record.left.as_mut() {
        left.word = Word::Said(said);
    }
    record.write(scene.state, service)?;
    scene.report.line("release", &format!("{service}: another host may have it"));
    Ok(())
}

impl Scene<'_> {
    /// Removes what a service kept that is gone from this host. `generation` is one that had it.
    pub fn forget(&mut self, service: &Label) -> Result<()> {
        if self.generation.manifest().is_some_and(|manifest| Kept::of(manifest, service).is_some()) {
            return Err(Refusal::new(format!("`{service}` is a service of this host"))
                .help("take it out of the environment and activate that; then it can be forgotten")
                .into());
        }
        let lock = lock(self.state, service)?;
        let Some(record) = Record::read(self.state, service)? else {
            refuse!(
                "this host keeps nothing of a service `{service}`: `rick-activate state` shows what it keeps"
            );
        };
        for part in &record.held {
            if let Some(owner) = self.owner_now(part).cloned() {
                self.report.line("leave", &format!("{service}: {part}, which is of {owner} now"));
                continue;
            }
            self.report.line("remove", &format!("{service}: {part}"));
            match part {
                Part::Directory(path) => durable::remove_tree_if_there(&self.state.on_host(path.as_str()))?,
                Part::Dump(name) => self.clear(service, name, &lock)?,
            }
        }
        durable::remove_tree_if_there(&folder(self.state, service))?;
        durable::remove_file(&self.state.kept_record(service))
    }

    /// The service of this host that keeps something there, or below, or above.
    fn owner_now(&self, part: &Part) -> Option<&Label> {
        let Part::Directory(part) = part else { return None };
        let part = Path::new(part.as_str());
        let meets = |path: &Path| path.starts_with(part) || part.starts_with(path);
        let mut states = self.generation.manifest()?.states.iter();
        states.find(|(path, _)| meets(Path::new(path.as_str()))).map(|(_, owner)| owner)
    }

    /// Removes what is in the care of another service, as the last generation said that had both.
    fn clear(&self, service: &Label, name: &Label, lock: &File) -> Result<()> {
        for number in generation::numbers(self.state)?.into_iter().rev() {
            let generation = Generation::read(self.state, number)?;
            if let Some(kept) = generation.manifest().and_then(|manifest| Kept::of(manifest, service))
                && let Ok(dump) = dumps::named(&kept, name)
            {
                return dumps::clear(dump, lock);
            }
        }
        Err(Refusal::new(format!(
            "no generation says any more how the dump `{name}` of `{service}` is removed"
        ))
        .help("remove it by hand")
        .into())
    }
}
