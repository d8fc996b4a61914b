//! Takes a copy of what a service keeps.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::presence::{self, Presence};
use super::record::Record;
use super::restic::{BEFORE_SWITCH, Restic, SnapshotId};
use super::{Kept, Scene, dumps, folder, folder_in_copy, leave, lock, owners, runtime};
use crate::activate::host::{Host, UnitState, Verb};
use crate::activate::state::State;
use crate::activate::switch::observe;
use crate::bundle::manifest::Repository;
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
        // What could not be said when a service left is said as soon as that is possible.
        leave::release(self)
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
        let mut record = Record::read(self.state, service)?.unwrap_or_default();
        let presence = presence::look(self.state, kept)?;
        expect_whole(service, &record, &presence)?;
        if presence.values().all(|there| !there) {
            self.report.line("copy", &format!("{service}: it keeps nothing yet"));
            return Ok(None);
        }
        let restic = Restic::open(self.state, &self.generation, repository)?;
        if !restic.exists()? {
            self.report.line("make", &format!("the repository {}", repository.address));
            restic.init()?;
        }
        let halts = kept.at_rest && occasion == Occasion::Usual;
        let halted = if halts { halt(self.state, self.host, kept)? } else { Vec::new() };
        let copied = self.copied(kept, &restic, occasion);
        if let Ok(id) = &copied {
            record.sees(&presence);
            record.copied = Some(id.clone());
            if occasion == Occasion::BeforeSwitch {
                record.leaves(self.state, &self.generation, service);
                record.before.insert(self.generation.number, id.clone());
            }
            record.write(self.state, service)?;
        }
        // Before it starts it is asked whether it may, which takes the lock.
        drop(lock);
        if !halted.is_empty() {
            resume(self.state, self.host, service)?;
        }
        let id = copied?;
        self.report.line("copied", &format!("{service}: {id}"));
        if occasion == Occasion::Usual {
            self.keep_to_rules(service, &restic, repository)?;
        }
        Ok(Some(id))
    }

    fn copied(&self, kept: &Kept, restic: &Restic, occasion: Occasion) -> Result<SnapshotId> {
        let service = &kept.service;
        let folder = Folder::make(self.state, service)?;
        for dump in &kept.dumps {
            dumps::save(dump, folder.create(&dump.name)?)
                .with_context(|| format!("{service}: nothing is copied, and no old copy is touched"))?;
        }
        let mut tags = self.tags(service)?;
        tags.push(format!("generation={}", self.generation.number));
        if occasion == Occasion::BeforeSwitch {
            tags.push(BEFORE_SWITCH.to_owned());
        }
        let mut paths = vec![folder_in_copy(service)];
        let directories = kept.directories().filter(|path| self.state.on_host(path.as_str()).is_dir());
        paths.extend(directories.map(ToString::to_string));
        restic.backup(self.manifest()?.host.as_str(), &tags, &paths)
    }

    /// The tags of all copies of a service.
    pub(super) fn tags(&self, service: &Label) -> Result<Vec<String>> {
        Ok(vec![self.manifest()?.environment.to_string(), service.to_string()])
    }

    /// Forgets what the rules do not keep, and copies before switches to generations that are gone.
    fn keep_to_rules(&self, service: &Label, restic: &Restic, repository: &Repository) -> Result<()> {
        let manifest = self.manifest()?;
        let tags = [manifest.environment.as_str(), service.as_str()];
        let rules: Vec<_> = repository.keep.iter().map(|(rule, number)| (*rule, *number)).collect();
        if rules.is_empty() {
            return Ok(());
        }
        restic.unlock()?;
        let host = manifest.host.as_str();
        let of_switches = restic.snapshots(Some(host), &[tags[0], tags[1], BEFORE_SWITCH])?;
        let gone = |number: u32| !self.state.generation(number).is_dir();
        let stale: Vec<&SnapshotId> = of_switches
            .iter()
            .filter(|snapshot| snapshot.generation().is_none_or(gone))
            .map(|snapshot| &snapshot.id)
            .collect();
        if !stale.is_empty() {
            restic.remove(&stale)?;
        }
        restic.forget(host, &tags, &rules)
    }
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

/// Stops the units of a service that run, and remembers them first; gives them.
fn halt(state: &State, host: &dyn Host, kept: &Kept) -> Result<Vec<UnitName>> {
    let live = observe(host, kept.units.iter().cloned())?;
    let running: Vec<UnitName> =
        kept.units.iter().filter(|unit| live.get(unit).is_some_and(UnitState::runs)).cloned().collect();
    if running.is_empty() {
        return Ok(running);
    }
    let path = runtime(state, &kept.service, "halted")?;
    durable::replace_file(&path, &serde_json::to_vec(&running)?, 0o600)?;
    host.run_jobs(Verb::Stop, &running)?;
    Ok(running)
}

/// Starts what was stopped for a copy, also if that was cut short.
pub fn resume(state: &State, host: &dyn Host, service: &Label) -> Result<()> {
    let path = runtime(state, service, "halted")?;
    let Some(bytes) = durable::read_if_there(&path)? else { return Ok(()) };
    let units: Vec<UnitName> =
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
    host.run_jobs(Verb::Start, &units)?;
    durable::remove_file(&path)
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
