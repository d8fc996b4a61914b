//! Takes a copy of what a service keeps.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::presence::{self, Presence};
use super::record::{Record, Resting};
use super::restic::{BEFORE_SWITCH, Restic, Snapshot, SnapshotId};
use super::{Kept, Scene, dumps, folder, folder_in_copy, leave, lock, owners, restoring, runtime};
use crate::activate::host::{Host, UnitState, Verb};
use crate::activate::state::State;
use crate::activate::switch::observe;
use crate::bundle::manifest::{Repository, Role};
use crate::bundle::names::{Label, UnitName};
use crate::durable;
use crate::refusal::Refusal;

/// Why a copy is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// It is time to, or somebody asks.
    Usual,
    /// The host leaves the generation for one that may change the data. Who switches has stopped what is to be stopped for it.
    BeforeSwitch,
    /// Another copy is to take the place of what is there. No copy is forgotten now: it could be that one.
    BeforeRestore,
}

impl Scene<'_> {
    /// Copies what services keep to all repositories of the host, or to the one that the service instance `to` brings: one service, or all.
    pub fn copy_all(&mut self, service: Option<&Label>, to: Option<&Label>) -> Result<()> {
        let manifest = self.manifest()?;
        let repositories: Vec<Repository> = manifest
            .repositories
            .iter()
            .filter(|(name, _)| to.is_none_or(|to| to == *name))
            .map(|(_, repository)| repository.clone())
            .collect();
        if repositories.is_empty() {
            return Err(Refusal::new("this host has no such repository to copy to")
                .help("the module `backups` brings one")
                .into());
        }
        let services = match service {
            Some(service) => vec![self.kept(service)?],
            None => Kept::all(manifest),
        };
        for kept in &services {
            for repository in &repositories {
                self.copy(kept, repository, Occasion::Usual)?;
            }
        }
        // What could not be said when a service left is said as soon as that is possible, by who can reach that repository.
        if repositories.iter().any(|repository| repository.restores) { leave::release(self) } else { Ok(()) }
    }

    /// Makes the repositories that are not there, or the one that the service instance `to` brings.
    pub fn make(&mut self, to: Option<&Label>) -> Result<()> {
        let repositories = self.manifest()?.repositories.clone();
        for (_, repository) in repositories.iter().filter(|(name, _)| to.is_none_or(|to| to == *name)) {
            let restic = Restic::open(self.state, &self.generation, repository)?;
            if !restic.exists()? {
                self.report.line("make", &format!("the repository {}", repository.address));
                restic.init()?;
            }
        }
        Ok(())
    }

    /// Copies what one service keeps to one repository. `None`: it keeps nothing yet.
    pub fn copy(
        &mut self,
        kept: &Kept,
        repository: &Repository,
        occasion: Occasion,
    ) -> Result<Option<SnapshotId>> {
        let service = &kept.service;
        let lock = lock(self.state, service)?;
        let copied = self.copied(kept, repository, occasion, &lock);
        // What starts asks for the lock.
        drop(lock);
        let resumed = match occasion {
            Occasion::Usual => resume(self.state, self.host, service),
            // Who stopped it starts it.
            Occasion::BeforeSwitch | Occasion::BeforeRestore => Ok(()),
        };
        let Some(copied) = copied? else { return resumed.map(|()| None) };
        resumed?;
        if occasion == Occasion::Usual {
            self.keep_to_rules(service, &copied, repository)?;
        }
        Ok(Some(copied.id))
    }

    /// The same while the lock is held. What was stopped for it is still to be started.
    pub(super) fn copied(
        &mut self,
        kept: &Kept,
        repository: &Repository,
        occasion: Occasion,
        lock: &File,
    ) -> Result<Option<Copied>> {
        let service = &kept.service;
        let mut record = Record::read(self.state, service)?.unwrap_or_default();
        record.expect_mounted(self.state, kept)?;
        let presence = presence::look(self.state, kept)?;
        expect_whole(service, &record, &presence)?;
        if presence.values().all(|there| !there) {
            self.report.line("copy", &format!("{service}: it keeps nothing yet"));
            if occasion == Occasion::BeforeSwitch {
                record.resting = Some(Resting::Nothing);
                record.write(self.state, service)?;
            }
            return Ok(None);
        }
        let mut restic = Restic::open(self.state, &self.generation, repository)?;
        let number = self.next_number(&record, &restic, service)?;
        let there = match occasion {
            // Before anything stops: it runs for as long as restic tries.
            Occasion::Usual if kept.at_rest => restic.appears()?,
            Occasion::Usual => true,
            // Somebody waits.
            Occasion::BeforeSwitch | Occasion::BeforeRestore => restic.exists()?,
        };
        if !there {
            return Err(gone(&restic));
        }
        restic.hold(lock)?;
        if kept.at_rest && occasion == Occasion::Usual {
            self.halt(kept)?;
        }
        // Known before it is copied: a copy that fails says nothing of what was there.
        if record.sees(self.state, &presence)? {
            record.write(self.state, service)?;
        }
        let id = self.put(kept, &restic, number, occasion, record.came.as_ref())?;
        self.report.line("copied", &format!("{service}: {id}"));
        record.number = number;
        record.repositories.insert(repository.address.clone());
        if repository.restores || restoring(self.manifest()?).is_none() {
            record.copied = Some(id.clone());
        }
        if occasion == Occasion::BeforeSwitch {
            record.leaves(self.state, &self.generation, service);
            record.before.insert(self.generation.number, id.clone());
            record.resting = Some(Resting::Copy(id.clone()));
        }
        record.write(self.state, service)?;
        Ok(Some(Copied { id, number }))
    }

    /// The number of the next copy, in a repository that is there.
    fn next_number(&mut self, record: &Record, restic: &Restic, service: &Label) -> Result<u64> {
        if record.repositories.contains(restic.address()) {
            return Ok(record.number + 1);
        }
        let manifest = self.manifest()?;
        let tags = [manifest.environment.as_str(), service.as_str()];
        let found = restic.snapshots_if_there(Some(manifest.host.as_str()), &tags)?;
        if found.is_none() {
            if Record::has_copies(self.state, restic.address())? {
                return Err(gone(restic));
            }
            self.report.line("make", &format!("the repository {}", restic.address()));
            restic.init()?;
        }
        let last = found.iter().flatten().map(Snapshot::number).max().unwrap_or_default();
        Ok(record.number.max(last) + 1)
    }

    fn put(
        &self,
        kept: &Kept,
        restic: &Restic,
        number: u64,
        occasion: Occasion,
        came: Option<&SnapshotId>,
    ) -> Result<SnapshotId> {
        let service = &kept.service;
        let folder = Folder::make(self.state, service)?;
        for dump in &kept.dumps {
            dumps::save(dump, folder.create(&dump.name)?)
                .with_context(|| format!("{service}: nothing is copied, and no old copy is touched"))?;
        }
        let mut tags = self.tags(service)?;
        tags.extend([format!("generation={}", self.generation.number), format!("number={number}")]);
        tags.push(owners::mark(self.state)?);
        tags.extend(came.map(|word| format!("came={}", word.as_str())));
        if occasion == Occasion::BeforeSwitch {
            tags.push(BEFORE_SWITCH.to_owned());
        }
        let mut paths = vec![folder_in_copy(service)];
        let directories = kept.directories().filter(|path| self.state.on_host(path.as_str()).is_dir());
        paths.extend(directories.map(ToString::to_string));
        restic.backup(self.manifest()?.host.as_str(), &tags, &paths)?.ok_or_else(|| gone(restic))
    }

    /// The tags of all copies of a service.
    pub(super) fn tags(&self, service: &Label) -> Result<Vec<String>> {
        Ok(vec![self.manifest()?.environment.to_string(), service.to_string()])
    }

    /// Forgets what the rules do not keep, and copies before switches to generations that are gone.
    fn keep_to_rules(&self, service: &Label, copied: &Copied, repository: &Repository) -> Result<()> {
        let manifest = self.manifest()?;
        let tags = [manifest.environment.as_str(), service.as_str()];
        let rules: Vec<_> = repository.keep.iter().map(|(rule, number)| (*rule, *number)).collect();
        if rules.is_empty() {
            return Ok(());
        }
        let restic = Restic::open(self.state, &self.generation, repository)?;
        let kept = restic.forget(manifest.host.as_str(), &tags, copied.number, &rules)?;
        let gone = |number: u32| !self.state.generation(number).is_dir();
        let stale = |snapshot: &&Snapshot| {
            snapshot.is_before_switch() && snapshot.generation().is_none_or(gone) && snapshot.id != copied.id
        };
        let stale: Vec<&SnapshotId> = kept.iter().filter(stale).map(|snapshot| &snapshot.id).collect();
        if stale.is_empty() { Ok(()) } else { restic.remove(&stale) }
    }

    /// Stops the units of a service that run, and notes them first: with those of other services that go down with them.
    fn halt(&self, kept: &Kept) -> Result<()> {
        let (state, host) = (self.state, self.host);
        let others = self.manifest()?.units.iter().filter(|unit| unit.role == Role::Run);
        let others = others.map(|unit| unit.name.clone()).filter(|unit| !unit.is_template());
        let all: BTreeSet<UnitName> = kept.units.iter().cloned().chain(others).collect();
        let live = observe(host, all.iter().cloned())?;
        let ran: Vec<UnitName> =
            all.into_iter().filter(|unit| live.get(unit).is_some_and(UnitState::runs)).collect();
        let running: Vec<UnitName> = kept.units.iter().filter(|unit| ran.contains(unit)).cloned().collect();
        if running.is_empty() {
            return Ok(());
        }
        let path = runtime(state, &kept.service, "halted")?;
        durable::replace_file(&path, &serde_json::to_vec(&ran)?, 0o600)?;
        host.run_jobs(Verb::Stop, &running)?;
        let live = observe(host, ran.iter().cloned())?;
        let halted: Vec<&UnitName> =
            ran.iter().filter(|unit| !live.get(unit).is_some_and(UnitState::runs)).collect();
        durable::replace_file(&path, &serde_json::to_vec(&halted)?, 0o600)
    }
}

/// A copy that was taken.
pub(super) struct Copied {
    /// Its name.
    id: SnapshotId,
    number: u64,
}

/// A repository that had copies is not there: it is not made anew by itself, for it may not be mounted.
pub(super) fn gone(restic: &Restic) -> anyhow::Error {
    Refusal::new(format!("there is no repository at {}, and there was one", restic.address()))
        .help("is its file system mounted?")
        .help("if it is gone for good, `rick-activate backup --make` makes a new one")
        .into()
}

/// What was there is there: a copy of less is not what the next copy should say.
fn expect_whole(service: &Label, record: &Record, presence: &Presence) -> Result<()> {
    if record.restoring.is_some() {
        return Err(Refusal::new(format!("a restore of `{service}` was cut short: nothing is copied"))
            .help(format!("`rick-activate restore {service}` goes on with it"))
            .into());
    }
    let lost: Vec<String> = presence
        .iter()
        .filter(|(part, there)| !**there && record.held.contains(*part))
        .map(|(part, _)| part.to_string())
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(format!(
        "{} of `{service}` is empty, and was not before: nothing is copied, and no old copy is touched",
        lost.join(", ")
    ))
    .help(format!(
        "`rick-activate restore {service}` brings it back; `rick-activate accept {service}` takes it as it is"
    ))
    .into())
}

/// Starts what was stopped for a copy, also if that was cut short.
pub fn resume(state: &State, host: &dyn Host, service: &Label) -> Result<()> {
    let path = runtime(state, service, "halted")?;
    let Some(bytes) = durable::read_if_there(&path)? else { return Ok(()) };
    let units: Vec<UnitName> =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
    start(host, &units)?;
    durable::remove_file(&path)
}

/// Starts units that were stopped for their data to stand still. systemd counts starts, and takes the sixth within ten seconds for a crash loop.
pub(super) fn start(host: &dyn Host, units: &[UnitName]) -> Result<()> {
    // A unit that systemd does not have in memory has nothing to forget.
    let _ = host.reset_failed(units);
    host.run_jobs(Verb::Start, units)
}

/// What is copied beside directories, while it is copied.
struct Folder(PathBuf);

impl Folder {
    fn make(state: &State, service: &Label) -> Result<Self> {
        let path = folder(state, service);
        durable::remove_tree_if_there(&path)?;
        durable::make_directory(&path.join(DUMPS), 0o700)?;
        let folder = Self(path);
        owners::note(state, &folder.0)?;
        Ok(folder)
    }

    fn create(&self, name: &Label) -> Result<File> {
        durable::create_new(&self.0.join(DUMPS).join(name.as_str()), 0o600)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is removed by the next copy.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The folder of dumps in what is copied.
pub(super) const DUMPS: &str = "dumps";

/// The file of a dump in what was restored.
pub(super) fn dump_in(folder: &Path, name: &Label) -> PathBuf {
    folder.join(DUMPS).join(name.as_str())
}
