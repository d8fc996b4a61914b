//! What a host knows of what a service keeps, beyond what it can see.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::presence::{self, Presence};
use super::restic::SnapshotId;
use super::{Kept, Part};
use crate::activate::state::State;
use crate::bundle::manifest::Home;
use crate::bundle::names::{HostPath, Label};
use crate::bundle::oci;
use crate::durable;
use crate::refusal::Refusal;

/// The record of one service. It is written durably before what it announces is begun, and after what it tells of is done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The parts in which there was something once. A service that is known and has none began with nothing.
    pub held: BTreeSet<Part>,
    /// A restore that is under way: what is there is no state of anybody's.
    #[serde(default)]
    pub restoring: Option<Restoring>,
    /// The last copy that was restored.
    #[serde(default)]
    pub restored: Option<SnapshotId>,
    /// The host that it came from.
    #[serde(default)]
    pub came_from: Option<Home>,
    /// The copy that what is there goes back to, in the repository that is restored from: the last that was taken, or that was restored.
    #[serde(default)]
    pub copied: Option<SnapshotId>,
    /// The number of the last copy, counted over all repositories.
    #[serde(default)]
    pub number: u64,
    /// The addresses of the repositories that have copies: none of them can be there no more and be a new one.
    #[serde(default)]
    pub repositories: BTreeSet<String>,
    /// Where the file system begins that a directory was on when there was something in it.
    #[serde(default)]
    pub mounts: BTreeMap<HostPath, PathBuf>,
    /// Generation → the copy that was taken when the host left it for one that may change the data.
    #[serde(default)]
    pub before: BTreeMap<u32, SnapshotId>,
    /// The word by which it came.
    #[serde(default)]
    pub came: Option<SnapshotId>,
    /// What was copied when it had stopped for a switch. Gone as soon as it may start again.
    #[serde(default)]
    pub resting: Option<Resting>,
    /// The service is gone from this host.
    #[serde(default)]
    pub left: Option<Left>,
}

/// What a service keeps that has stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resting {
    /// Nothing.
    Nothing,
    /// What this copy holds.
    Copy(SnapshotId),
}

impl Display for Resting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("none"),
            Self::Copy(id) => f.write_str(id.as_str()),
        }
    }
}

/// A restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restoring {
    /// The copy.
    pub snapshot: SnapshotId,
    /// It takes the place of what is there.
    pub replace: bool,
    /// It is for this generation only; `None`: for whichever.
    #[serde(default)]
    pub generation: Option<u32>,
    /// It was begun, so that what is there is a mixture.
    pub begun: bool,
    /// The host that the copy is from, if it is another one, and its word.
    #[serde(default)]
    pub from: Option<(Home, SnapshotId)>,
}

/// A service that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Left {
    /// The last generation that had it.
    pub generation: u32,
    /// What was copied when it had stopped. Nothing is known without a repository, or if nobody wanted a copy.
    pub resting: Option<Resting>,
    /// Whether other hosts were told that they may have it.
    #[serde(default)]
    pub word: Word,
}

/// The word in the repository that other hosts may have a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// Nothing was said.
    #[default]
    None,
    /// It is being said, and may stand there.
    Saying,
    /// It stands there, under this name.
    Said(SnapshotId),
}

impl Record {
    /// That of a service; `None`: this host never had it.
    pub fn read(state: &State, service: &Label) -> Result<Option<Self>> {
        let path = state.kept_record(service);
        let parse = |bytes: Vec<u8>| {
            serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
        };
        durable::read_if_there(&path)?.map(parse).transpose()
    }

    /// Those of all services that this host ever had.
    pub fn all(state: &State) -> Result<BTreeMap<Label, Self>> {
        let mut all = BTreeMap::new();
        let folder = state.kept();
        if !folder.is_dir() {
            return Ok(all);
        }
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let name = entry?.file_name();
            let service = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok());
            if let Some(service) = service
                && let Some(record) = Self::read(state, &service)?
            {
                all.insert(service, record);
            }
        }
        Ok(all)
    }

    /// Writes it durably.
    pub fn write(&self, state: &State, service: &Label) -> Result<()> {
        let folder = state.kept();
        if !folder.is_dir() {
            durable::make_directory(&folder, 0o700)?;
            durable::sync_name(&folder)?;
        }
        durable::replace_file(&state.kept_record(service), &oci::canonical_json(self)?, 0o600)
    }

    /// Another host was told that it may have the service, or may have been.
    pub fn may_be_elsewhere(&self) -> bool {
        self.left.as_ref().is_some_and(|left| left.word != Word::None)
    }

    /// The service may start: whatever was said of one that has stopped holds no more. Says whether that is news.
    pub fn starts(&mut self) -> bool {
        let (resting, left) = (self.resting.take(), self.left.take());
        resting.is_some() || left.is_some()
    }

    /// Notes what is there; says whether that is news.
    pub fn sees(&mut self, state: &State, presence: &Presence) -> Result<bool> {
        let mut news = false;
        for (part, _) in presence.iter().filter(|(_, there)| **there) {
            news |= self.held.insert(part.clone());
            if let Part::Directory(path) = part {
                let begins = presence::begins(&state.on_host(path.as_str()))?;
                news |= self.mounts.insert(path.clone(), begins.clone()) != Some(begins);
            }
        }
        Ok(news)
    }

    /// Whatever is there now is not what was there if its file system is not mounted: an empty mount point says nothing of what was lost.
    pub fn expect_mounted(&self, state: &State, kept: &Kept) -> Result<()> {
        for path in kept.directories() {
            let Some(mount) = self.mounts.get(path) else { continue };
            let begins = presence::begins(&state.on_host(path.as_str()))?;
            if *mount != begins && mount.starts_with(&begins) {
                let (service, mount) = (&kept.service, mount.display());
                return Err(Refusal::new(format!("{path} of `{service}` was on a file system at {mount}, which is not mounted"))
                    .help("mount it")
                    .help(format!("if it is gone for good: `rick-activate accept {service}` takes what is there, and `rick-activate restore {service} --replace` brings back the last copy"))
                    .into());
            }
        }
        Ok(())
    }

    /// A service of this host has copies at this address.
    pub fn has_copies(state: &State, address: &str) -> Result<bool> {
        Ok(Self::all(state)?.values().any(|record| record.repositories.contains(address)))
    }
}
