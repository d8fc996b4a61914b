//! `applied.json`: what the units that run were last started with. A plan is desired against this, never new against old.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::desired::{Desired, Wanted};
use super::state::State;
use crate::bundle::digest::Digest;
use crate::bundle::names::UnitName;
use crate::bundle::oci;
use crate::durable;

/// What rick last did to this host's units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// The generation that systemd last loaded. Another one than the current: a switch was cut short.
    pub generation: u32,
    /// The boot in which this was written.
    pub boot_id: String,
    /// Per unit of rick's, what it was last started or reloaded with.
    pub units: BTreeMap<UnitName, AppliedUnit>,
    /// Units of others that ran when rick took their name or hid them; they run again when rick lets go.
    pub displaced: BTreeSet<UnitName>,
}

/// What one unit was last started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppliedUnit {
    /// The restart key.
    pub restart_key: Digest,
    /// The reload key.
    pub reload_key: Option<Digest>,
    /// systemd's name for the run that resulted; none if it does not run.
    pub invocation_id: Option<String>,
}

impl AppliedUnit {
    /// The record of a unit that is as `wanted`.
    pub fn of(wanted: &Wanted, invocation_id: Option<String>) -> Self {
        Self { restart_key: wanted.restart_key, reload_key: wanted.reload_key, invocation_id }
    }

    /// The unit is as `wanted`.
    pub fn is(&self, wanted: &Wanted) -> bool {
        self.restart_key == wanted.restart_key && self.reload_key == wanted.reload_key
    }
}

impl Applied {
    /// Reads the record; a host without one has had nothing applied.
    pub fn read(state: &State) -> Result<Self> {
        let path = state.applied();
        match durable::read_if_there(&path)? {
            Some(bytes) => {
                serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
            }
            None => Ok(Self::default()),
        }
    }

    /// Writes the record durably.
    pub fn write(&self, state: &State) -> Result<()> {
        durable::replace_file(&state.applied(), &oci::canonical_json(self)?, 0o644)
    }

    /// What holds in the boot `boot_id`, if the host has generation `number` and that wants `current`.
    ///
    /// Every activation writes the record before its commit. So in a boot that no record knows nothing was committed yet, and all that runs was
    /// started from the current generation, whatever was applied before.
    #[must_use]
    pub fn in_boot(mut self, boot_id: &str, number: u32, current: &Desired) -> Self {
        if self.boot_id == boot_id {
            return self;
        }
        self.generation = number;
        boot_id.clone_into(&mut self.boot_id);
        self.units =
            current.units.iter().map(|unit| (unit.name.clone(), AppliedUnit::of(unit, None))).collect();
        self.displaced.retain(|unit| self.units.contains_key(unit));
        self
    }
}
