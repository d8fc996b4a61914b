//! Before a switch that may change what services keep: a copy, so that going back can bring it back.

use std::collections::BTreeSet;

use anyhow::Result;

use super::copy::Occasion;
use super::presence;
use super::record::{Record, Restoring};
use super::restic::Restic;
use super::{Kept, Scene, lock, restoring};
use crate::activate::generation::Generation;
use crate::activate::state::State;
use crate::bundle::manifest::{HostManifest, Repository, UnitEntry};
use crate::bundle::names::Label;
use crate::refusal::{Refusal, refuse};

/// What becomes of what services keep when the host goes back over something that cannot be undone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnBarrier {
    /// That is refused.
    #[default]
    Refuse,
    /// The copy that was taken before comes back.
    Restore,
    /// It stays as it is, whatever the older programs make of it.
    Leave,
}

/// The services that keep something and that the target changes in a way which may change that too, or takes away.
pub fn touched(from: &Generation, to: &Generation) -> Vec<Kept> {
    let Some(before) = from.manifest() else { return Vec::new() };
    let changes = |service: &Label, after: &HostManifest| {
        programs(from, before, service) != programs(to, after, service)
    };
    let touched =
        |kept: &Kept| leaves(kept, to) || to.manifest().is_some_and(|after| changes(&kept.service, after));
    Kept::all(before).into_iter().filter(touched).collect()
}

/// A service that keeps something is not there any more in the target.
pub fn leaves(kept: &Kept, to: &Generation) -> bool {
    to.manifest().is_none_or(|after| Kept::of(after, &kept.service).is_none())
}

/// The services that keep something and have a barrier on the way from one generation to another.
pub fn barred(from: &Generation, to: &Generation) -> Vec<Label> {
    let (Some(before), Some(after)) = (from.manifest(), to.manifest()) else { return Vec::new() };
    let has_barrier = |service: &Label| {
        [before, after]
            .iter()
            .any(|manifest| manifest.units.iter().any(|unit| unit.barrier && unit.service == *service))
    };
    let services = Kept::all(before).into_iter().map(|kept| kept.service);
    let barred = |service: &Label| {
        Kept::of(after, service).is_some()
            && has_barrier(service)
            && programs(from, before, service) != programs(to, after, service)
    };
    services.filter(barred).collect()
}

/// What may change the data of a service: the images of its containers, and what runs in its barriers that are none.
fn programs(generation: &Generation, manifest: &HostManifest, service: &Label) -> BTreeSet<String> {
    let own = manifest.units.iter().filter(|unit| unit.service == *service);
    let mut programs = BTreeSet::new();
    for unit in own {
        let quadlet = unit.restart_on.iter().find(|path| path.as_str().starts_with("quadlets/"));
        match quadlet {
            Some(path) => {
                let text = generation.file(path).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).into_owned();
                programs.extend(text.lines().filter(|line| line.starts_with("Image=")).map(str::to_owned));
            }
            None if unit.barrier => programs.extend(started(generation, unit)),
            None => {}
        }
    }
    programs
}

/// The lines by which a unit says what it starts.
fn started(generation: &Generation, unit: &UnitEntry) -> Vec<String> {
    let path = unit.restart_on.iter().find(|path| path.as_str() == format!("units/{}", unit.name));
    let text = path.and_then(|path| generation.file(path).ok()).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines()
        .filter(|line| line.starts_with("ExecStart"))
        .map(|line| format!("{}: {line}", unit.name))
        .collect()
}

impl Scene<'_> {
    /// Asks the repository whether it is there, before any of these services is stopped to be copied.
    pub fn expect_answer(&self, services: &[&Kept]) -> Result<()> {
        let Some(repository) = restoring(self.manifest()?) else { return Ok(()) };
        for kept in services {
            if self.is_answered(kept, repository).map_err(|error| error.context(not_copied(kept)))? {
                break;
            }
        }
        Ok(())
    }

    /// The repository answered; false: a service keeps nothing that it would be asked for.
    fn is_answered(&self, kept: &Kept, repository: &Repository) -> Result<bool> {
        if presence::look(self.state, kept)?.values().all(|there| !there) {
            return Ok(false);
        }
        // One that is to be made, or was there and is gone, has answered.
        Restic::open(self.state, &self.generation, repository)?.exists().map(|_| true)
    }

    /// Copies what these services keep, to where it would be restored from. The generation is the one that the host leaves.
    pub fn copy_before(&mut self, services: &[Kept]) -> Result<()> {
        let Some(repository) = restoring(self.manifest()?).cloned() else { return Ok(()) };
        for kept in services {
            self.copy(kept, &repository, Occasion::BeforeSwitch)
                .map_err(|error| error.context(not_copied(kept)))?;
        }
        Ok(())
    }
}

fn not_copied(kept: &Kept) -> Refusal {
    Refusal::new(format!("no copy of `{}` could be taken before", kept.service))
        .help("`--no-copies` switches without")
}

/// The copies that bring back what services kept when the host last left `target`, or a generation with the same programs.
///
/// # Errors
/// There is none of one of them.
pub fn copies_for(state: &State, services: &[Label], target: &Generation) -> Result<Vec<(Label, Restoring)>> {
    let find = |service: &Label| {
        let record = Record::read(state, service)?.unwrap_or_default();
        let like = |number: &u32| is_like(state, *number, target, service);
        let Some(snapshot) =
            record.before.iter().rfind(|(number, _)| like(number)).map(|(_, copy)| copy.clone())
        else {
            refuse!("no copy of `{service}` was taken when the host left generation {}", target.number);
        };
        let generation = Some(target.number);
        Ok((service.clone(), Restoring { snapshot, replace: true, generation, begun: false, from: None }))
    };
    services.iter().map(find).collect()
}

/// Generation `number` has the same programs for a service as another one.
fn is_like(state: &State, number: u32, other: &Generation, service: &Label) -> bool {
    let Ok(generation) = Generation::read(state, number) else { return false };
    let (Some(one), Some(two)) = (generation.manifest(), other.manifest()) else { return false };
    number == other.number || programs(&generation, one, service) == programs(other, two, service)
}

impl Record {
    /// What was copied of the service when the host left these programs before is not what it had when it leaves them now; nor is anything needed of
    /// generations that are gone.
    pub(super) fn leaves(&mut self, state: &State, generation: &Generation, service: &Label) {
        let stays = |number: &u32| {
            state.generation(*number).is_dir() && !is_like(state, *number, generation, service)
        };
        self.before.retain(|number, _| stays(number));
    }
}

/// Notes that what services keep is to be replaced before they start in the generation that it is for.
pub fn note(state: &State, copies: &[(Label, Restoring)]) -> Result<()> {
    for (service, restoring) in copies {
        let _lock = lock(state, service)?;
        let mut record = Record::read(state, service)?.unwrap_or_default();
        record.restoring = Some(restoring.clone());
        record.write(state, service)?;
    }
    Ok(())
}

/// The host leaves a generation, and no copy is taken.
pub fn forget(state: &State, services: &[Kept], generation: &Generation) -> Result<()> {
    for kept in services {
        let _lock = lock(state, &kept.service)?;
        if let Some(mut record) = Record::read(state, &kept.service)? {
            record.leaves(state, generation, &kept.service);
            record.write(state, &kept.service)?;
        }
    }
    Ok(())
}
