//! `marks.json`: what is known of generations beside what is in them.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::state::State;
use crate::bundle::oci;
use crate::durable;

/// What is known of each generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Marks {
    /// The highest serial that was ever switched to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<u64>,
    /// The highest number that a generation had when some were removed: none gets it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest: Option<u32>,
    /// By number.
    pub generations: BTreeMap<u32, Mark>,
}

/// What is known of one generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// How it went, the last time that it was switched to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
    /// Somebody wants it kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

/// How it went with a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The host was well with it.
    Good,
    /// The host was not.
    Bad {
        /// Why.
        why: String,
    },
}

impl Marks {
    /// Reads the marks; a host without them has none.
    pub fn read(state: &State) -> Result<Self> {
        let path = state.marks();
        match durable::read_if_there(&path)? {
            Some(bytes) => {
                serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
            }
            None => Ok(Self::default()),
        }
    }

    /// Writes them durably.
    pub fn write(&self, state: &State) -> Result<()> {
        durable::replace_file(&state.marks(), &oci::canonical_json(self)?, 0o644)
    }

    /// Writes down how it went with a generation, if that is news; `serial` is that of its build.
    pub fn judge(state: &State, number: u32, verdict: Verdict, serial: Option<u64>) -> Result<()> {
        let before = Self::read(state)?;
        let mut marks = before.clone();
        if verdict == Verdict::Good {
            marks.serial = marks.serial.max(serial);
        }
        // The host without rick is nobody's to judge.
        if number != 0 {
            marks.generations.entry(number).or_default().verdict = Some(verdict);
        }
        if marks == before { Ok(()) } else { marks.write(state) }
    }

    /// The generations that somebody wants kept.
    pub fn pinned(&self) -> impl Iterator<Item = u32> {
        self.generations.iter().filter(|(_, mark)| mark.pinned).map(|(number, _)| *number)
    }

    /// The host was not well with generation `number`.
    pub fn is_bad(&self, number: u32) -> bool {
        let mark = self.generations.get(&number);
        mark.is_some_and(|mark| matches!(mark.verdict, Some(Verdict::Bad { .. })))
    }

    /// The host was well with generation `number`. It always was without rick.
    pub fn is_good(&self, number: u32) -> bool {
        number == 0 || self.generations.get(&number).is_some_and(|mark| mark.verdict == Some(Verdict::Good))
    }
}
