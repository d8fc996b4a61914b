//! A host that follows a name in a registry: what the name has now is what the host is to have, unless the host had it and left it.
//!
//! A timer calls this every few minutes, so it must be cheap when nothing moved, and must never try again and again what does not work:
//! neither what was not well here ([`super::marks`]), nor what somebody went back from by hand ([`Followed`]).

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::journal::Journal;
use super::marks::Marks;
use super::state::{Claim, State};
use super::{Activation, Conclusion, Failure, generation, is_refusal};
use crate::bundle::digest::Digest;
use crate::bundle::oci;
use crate::durable;
use crate::registry::Origin;
use crate::registry::reference::Reference;

/// What the host had last of what it follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Followed {
    /// What it follows.
    pub reference: String,
    /// The build that this was.
    pub digest: Digest,
}

impl Followed {
    fn new(reference: &Reference, digest: Digest) -> Self {
        Self { reference: reference.to_string(), digest }
    }

    fn read(state: &State) -> Result<Option<Self>> {
        let path = state.followed();
        let parse = |bytes: Vec<u8>| {
            serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
        };
        durable::read_if_there(&path)?.map(parse).transpose()
    }

    fn remember(&self, state: &State) -> Result<()> {
        if Self::read(state)?.as_ref() == Some(self) {
            return Ok(());
        }
        durable::replace_file(&state.followed(), &oci::canonical_json(self)?, 0o644)
    }
}

impl Activation<'_> {
    /// Switches the host to what a registry has for it, if that is something new.
    pub fn follow(&mut self, origin: &Origin) -> Result<Conclusion, Failure> {
        // Without the lock: a registry takes its time, and most often nothing comes of it.
        let host = self.find(origin).map_err(Failure::Refused)?;
        let followed = Followed::new(&origin.reference, host.digest);
        let claim = match self.may_follow(&followed).map_err(Failure::Refused)? {
            Ok(claim) => claim,
            Err(why_not) => {
                self.report.line("nothing to do:", &why_not);
                return self.settled().map(Conclusion::Here).map_err(Failure::Refused);
            }
        };
        let conclusion = self.switch_claimed(claim.as_ref(), |run| run.target_at(origin, &host));
        // What was refused left no trace, and may be mended on the host.
        if claim.is_some() && conclusion.is_ok() && !is_refusal(&conclusion) {
            followed.remember(&self.state).map_err(Failure::Halfway)?;
        }
        conclusion
    }

    /// The lock, which a dry run does not need; or why the host stays where it is. Whoever goes on with a switch that was cut short needs
    /// the lock more than this, and is not kept from it.
    fn may_follow(&self, followed: &Followed) -> Result<Result<Option<Claim>, String>> {
        if Journal::read(&self.state)?.is_some() {
            return Ok(Err("a switch is under way, and `rick-activate status` tells of it".to_owned()));
        }
        let claim = if self.dry_run { None } else { Claim::try_take(&self.state)? };
        if claim.is_none() && !self.dry_run {
            return Ok(Err("another rick-activate is running: the next time, then".to_owned()));
        }
        Ok(self.why_not(followed)?.map_or(Ok(claim), Err))
    }

    /// Why the host does not go to what it follows, if it does not. What it has is remembered, so that it is known when it was left.
    fn why_not(&self, followed: &Followed) -> Result<Option<String>> {
        let Followed { reference, digest } = followed;
        let is_that = |number: &u32| generation::build_of(&self.state, *number) == Some(*digest);
        if let Some(current) = generation::current_number(&self.state)?.filter(is_that) {
            if !self.dry_run {
                followed.remember(&self.state)?;
            }
            return Ok(Some(format!("{reference} is what generation {current} has ({})", digest.short())));
        }
        let (had, marks) =
            (generation::numbers(&self.state)?.into_iter().rfind(is_that), Marks::read(&self.state)?);
        let left = Followed::read(&self.state)?.as_ref() == Some(followed);
        let why = match had {
            Some(bad) if marks.is_bad(bad) => format!("the host was not well with it (generation {bad})"),
            _ if left => "the host was taken back from it".to_owned(),
            _ => return Ok(None),
        };
        Ok(Some(format!(
            "{reference} is {} still, and {why}; it is tried again when that moves, or by hand: `rick-activate {reference}`",
            digest.short()
        )))
    }
}
