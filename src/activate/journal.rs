//! `journal.json`: the switch that is under way. It is written before anything stops and removed when the host is settled, so whoever
//! finds it (the next run, the boot, the timer) knows where the host was going, and where to go back to.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::state::State;
use super::terms::Terms;
use crate::bundle::names::UnitName;
use crate::bundle::oci;
use crate::durable;

/// A switch that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Journal {
    /// The last generation that was well: the one to go back to.
    pub from: u32,
    /// The generation to go to.
    pub to: u32,
    /// The boot in which it began.
    pub boot_id: String,
    /// How far it is.
    pub phase: Phase,
    /// What was asked of it.
    pub terms: Terms,
    /// Units that were started anew and whose work cannot be undone by going back.
    pub crossed: Vec<UnitName>,
    /// Units that ran until they were stopped for this: they run again, here or where the host goes back to, if that has them.
    #[serde(default)]
    pub halted: BTreeSet<UnitName>,
}

/// How far a switch is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// On the way to `to`.
    Switching,
    /// There, and well as far as rick can tell: somebody is to say so, too.
    Confirming,
    /// On the way back to `from`.
    Reverting {
        /// Why.
        why: String,
    },
}

impl Journal {
    /// The switch that is under way, if one is.
    pub fn read(state: &State) -> Result<Option<Self>> {
        let path = state.journal();
        let bytes = durable::read_if_there(&path)?;
        let parse = |bytes: Vec<u8>| {
            serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
        };
        bytes.map(parse).transpose()
    }

    /// Writes it durably.
    pub fn write(&self, state: &State) -> Result<()> {
        durable::replace_file(&state.journal(), &oci::canonical_json(self)?, 0o644)
    }

    /// Why the host keeps the new generation though it is not well; `None`: it goes back. Before that is the `current` one, nobody has asked
    /// for it to be kept, and what was stopped for it is to run again.
    pub fn reason_to_stay(&self, current: u32) -> Option<String> {
        if current != self.to {
            return None;
        }
        if self.from == self.to {
            return Some("there is nothing to go back to".to_owned());
        }
        if !self.terms.go_back {
            return Some("going back was not wanted".to_owned());
        }
        let crossed: Vec<&str> = self.crossed.iter().map(UnitName::as_str).collect();
        (!crossed.is_empty()).then(|| {
            format!("what {} did when it was started cannot be undone by going back", crossed.join(", "))
        })
    }

    /// The host is settled.
    pub fn end(state: &State) -> Result<()> {
        durable::remove_file(&state.journal())?;
        forget_confirmation(state)
    }
}

/// What was confirmed says nothing of the next switch: a number may come again once its generation is gone.
pub fn forget_confirmation(state: &State) -> Result<()> {
    durable::remove_file(&state.confirmed())
}

/// Says that generation `number` is fine. Whoever holds the lock finds it.
pub fn say_confirmed(state: &State, number: u32) -> Result<()> {
    durable::replace_file(&state.confirmed(), format!("{number}\n").as_bytes(), 0o644)
}

/// Somebody said that generation `number` is fine.
pub fn is_confirmed(state: &State, number: u32) -> Result<bool> {
    let said = durable::read_if_there(&state.confirmed())?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&said).trim() == number.to_string())
}
