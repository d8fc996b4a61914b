//! Gives the host back: generation 0, and then no trace of rick. What services wrote, and the accounts that own it, stay.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::generation::{self, Generation};
use super::report::Ending;
use super::state::Claim;
use super::target::Target;
use super::{Activation, Conclusion, Failure, anchors, gc, secrets};
use crate::durable;
use crate::refusal::refuse;

impl Activation<'_> {
    /// Goes to generation 0, then removes what is rick's. Run again, it goes on.
    pub fn uninstall(&mut self) -> Result<Conclusion, Failure> {
        let claim = self.claim().map_err(Failure::Refused)?;
        let target = self.without_rick().map_err(Failure::Refused)?;
        // Before the switch, which tidies up old generations.
        let left = self.what_stays().map_err(Failure::Refused)?;
        let conclusion = self.switch_to(&target, claim.as_ref())?;
        let is_gone = match &conclusion {
            Conclusion::Here(outcome) => matches!(outcome.ending, Ending::Done | Ending::NothingToDo),
            Conclusion::Apart(code) => *code == 0,
        };
        match claim {
            None => self.report.line("would remove", "/var/lib/rick, and the links that lead there"),
            Some(claim) if is_gone => self.remove(claim).map_err(Failure::Halfway)?,
            Some(_) => return Ok(conclusion),
        }
        for what in left {
            self.report.line("leave", &what);
        }
        Ok(conclusion)
    }

    fn without_rick(&self) -> Result<Target> {
        if generation::current_number(&self.state)?.is_none() {
            refuse!("there is nothing to uninstall: rick never activated anything on this host");
        }
        Target::there(Generation::read(&self.state, 0)?)
    }

    /// Data and accounts of all generations. One that cannot be read has nothing to say.
    fn what_stays(&self) -> Result<BTreeSet<String>> {
        let numbers = generation::numbers(&self.state)?;
        let generations: Vec<Generation> =
            numbers.into_iter().filter_map(|number| Generation::read(&self.state, number).ok()).collect();
        let manifests = generations.iter().filter_map(Generation::manifest);
        let stay = manifests.flat_map(|manifest| {
            let data = manifest.states.iter().map(|(path, service)| format!("{path}: the data of {service}"));
            data.chain(manifest.accounts.users.keys().map(|user| format!("user {user}")))
        });
        Ok(stay.collect())
    }

    /// From the container storage: what nothing is left to need. One that somebody else uses stays, and is no reason to stop.
    fn remove_images(&mut self) {
        let unpinned = durable::remove_file_if_there(&self.state.marks());
        let swept = unpinned.and_then(|()| self.sweep(&gc::find(&self.state, self.host, 0)?));
        if let Err(error) = swept {
            self.report.line("leave", &format!("the images in podman's storage: {error:#}"));
        }
    }

    /// First what leads to rick's directory, then what is in it, `current` last: as long as that is there, another run goes on here.
    fn remove(&mut self, claim: Claim) -> Result<()> {
        self.remove_images();
        secrets::forget(&self.state, &BTreeSet::new())?;
        anchors::uproot(&self.state)?;
        self.host.daemon_reload()?;
        let directory = self.state.directory();
        let adopted = self.state.adopted();
        if adopted.is_dir() && holds_files(&adopted)? {
            refuse!(
                "{} holds unit files that could not be put back, for something else is in their place: see to them, then run this again",
                adopted.display()
            );
        }
        let entries =
            fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))?;
        let names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        for name in names.iter().filter(|name| *name != "current" && *name != "lock") {
            let path = directory.join(name);
            if path.is_dir() {
                durable::remove_tree_if_there(&path)?;
            } else {
                durable::remove_file_if_there(&path)?;
            }
        }
        durable::remove_file_if_there(&self.state.current())?;
        claim.give_up()?;
        self.report.line("removed", "/var/lib/rick, and the links that led there");
        Ok(())
    }
}

/// Some file is left below a directory.
fn holds_files(directory: &Path) -> Result<bool> {
    for entry in fs::read_dir(directory).with_context(|| format!("cannot read {}", directory.display()))? {
        let path = entry.with_context(|| format!("cannot read {}", directory.display()))?.path();
        if !path.is_dir() || holds_files(&path)? {
            return Ok(true);
        }
    }
    Ok(false)
}
