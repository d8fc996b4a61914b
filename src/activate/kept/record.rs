//! What a host knows of what a service keeps, beyond what it can see.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::Part;
use super::presence::Presence;
use super::restic::SnapshotId;
use crate::activate::state::State;
use crate::bundle::manifest::Home;
use crate::bundle::names::Label;
use crate::bundle::oci;
use crate::durable;

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
    /// The last copy that was taken.
    #[serde(default)]
    pub copied: Option<SnapshotId>,
    /// Generation → the copy that was taken when the host left it for one that may change the data.
    #[serde(default)]
    pub before: BTreeMap<u32, SnapshotId>,
    /// The service is gone from this host.
    #[serde(default)]
    pub left: Option<Left>,
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
    /// The host that the copy is from, if it is another one.
    #[serde(default)]
    pub from: Option<Home>,
}

/// A service that is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Left {
    /// The last generation that had it.
    pub generation: u32,
    /// The copy that was taken when it had stopped; none without a repository.
    pub snapshot: Option<SnapshotId>,
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

    /// Notes what is there; says whether that is news.
    pub fn sees(&mut self, presence: &Presence) -> bool {
        let there = presence.iter().filter(|(_, there)| **there).map(|(part, _)| part.clone());
        let before = self.held.len();
        self.held.extend(there);
        self.held.len() > before
    }
}
