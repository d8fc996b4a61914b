//! `applied.json`: what the units that run were last started with. A plan is desired against this, never new against old.
//!
//! Not only rick starts units: systemd does after a crash, people do by hand, and a run of rick may have been killed after some. So
//! each record names the life of the unit that it speaks of. A unit in another life was started since, hence from the generation that
//! systemd had loaded: [`Applied::seen`] says so.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::desired::{Desired, Wanted};
use super::host::UnitState;
use super::state::State;
use crate::bundle::digest::Digest;
use crate::bundle::manifest::Role;
use crate::bundle::names::UnitName;
use crate::bundle::oci;
use crate::durable;

/// What rick last did to this host's units.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Applied {
    /// The generation that systemd last loaded. Another one than the current: a switch was cut short.
    pub generation: u32,
    /// The directories that the current generation asks for were not all made.
    pub unmade: bool,
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
    /// The restart key; none if it was not rick's when it was started, or failed.
    pub restart_key: Option<Digest>,
    /// The reload key.
    pub reload_key: Option<Digest>,
    /// systemd's name for the life that this speaks of; none if it has had none yet.
    pub invocation_id: Option<String>,
    /// The generation that it was started or reloaded from: what it has open lies there, so that is kept. None if not rick's.
    #[serde(default)]
    pub generation: Option<u32>,
    /// The role that it had there.
    #[serde(default)]
    pub role: Option<Role>,
    /// The distribution defines it, and that generation only added to it.
    #[serde(default)]
    pub borrowed: bool,
}

impl AppliedUnit {
    /// The record of a unit that is as generation `number` wants it.
    pub fn of(wanted: &Wanted, invocation_id: Option<String>, number: u32) -> Self {
        Self {
            restart_key: Some(wanted.restart_key),
            reload_key: wanted.reload_key,
            invocation_id,
            generation: Some(number),
            role: Some(wanted.role),
            borrowed: wanted.borrowed,
        }
    }

    /// The unit is as `wanted`.
    pub fn is(&self, wanted: &Wanted) -> bool {
        self.restart_key == Some(wanted.restart_key) && self.reload_key == wanted.reload_key
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
        // The boot made them.
        self.unmade = false;
        boot_id.clone_into(&mut self.boot_id);
        self.units = current
            .units
            .iter()
            .map(|unit| (unit.name.clone(), AppliedUnit::of(unit, None, number)))
            .collect();
        self.displaced.retain(|unit| self.units.contains_key(unit));
        self
    }

    /// What holds if the units are `live` now: whatever began another life was started from `loaded`, the units of the generation that
    /// systemd has loaded; or from `others`, if those may have been current or loaded as well by then. systemd reads a unit that it does not
    /// have in memory when that is started, and a service reads its configuration when it starts: only what all of them agree on is known.
    /// What failed is as nothing wants it, so that it is not taken for done once systemd has forgotten that it did: a run that is killed on its
    /// way back may have made it forget.
    #[must_use]
    pub fn seen(
        mut self,
        live: &BTreeMap<UnitName, UnitState>,
        loaded: &Desired,
        others: &[&Desired],
    ) -> Self {
        for unit in loaded.units.iter().filter(|unit| unit.role != Role::Mask) {
            if let Some(began) = new_life(&self, &unit.name, live) {
                let mut record = AppliedUnit::of(unit, Some(began), self.generation);
                for other in others {
                    let other = other.units.iter().find(|other| other.name == unit.name);
                    let (restart_key, reload_key) =
                        (other.map(|other| other.restart_key), other.and_then(|other| other.reload_key));
                    record.restart_key = record.restart_key.filter(|key| Some(*key) == restart_key);
                    record.reload_key = record.reload_key.filter(|key| Some(*key) == reload_key);
                }
                self.units.insert(unit.name.clone(), record);
            }
            if live.get(&unit.name).is_some_and(UnitState::failed)
                && let Some(record) = self.units.get_mut(&unit.name)
            {
                (record.restart_key, record.reload_key) = (None, None);
            }
        }
        self
    }

    /// What holds once systemd has loaded generation `number`, which wants `desired`, and the units are still `live`: of those that rick did
    /// not start, nobody will know later what they were started with.
    pub fn loads(&mut self, number: u32, desired: &Desired, live: &BTreeMap<UnitName, UnitState>) {
        self.generation = number;
        for unit in live.keys() {
            if let Some(life) = new_life(self, unit, live) {
                let wanted = desired.units.iter().find(|wanted| wanted.name == *unit);
                let record = AppliedUnit {
                    restart_key: None,
                    reload_key: None,
                    invocation_id: Some(life),
                    generation: None,
                    role: wanted.map(|wanted| wanted.role),
                    borrowed: wanted.is_some_and(|wanted| wanted.borrowed),
                };
                self.units.insert(unit.clone(), record);
            }
        }
    }
}

/// The life that a unit is in, if the record does not speak of it.
fn new_life(applied: &Applied, unit: &UnitName, live: &BTreeMap<UnitName, UnitState>) -> Option<String> {
    let recorded = applied.units.get(unit).and_then(|record| record.invocation_id.as_ref());
    live.get(unit)?.invocation_id.clone().filter(|life| recorded != Some(life))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::host::ActiveState;
    use crate::bundle::manifest::OnChange;

    fn wants(unit: &str, restart: &str, reload: &str) -> Desired {
        let wanted = Wanted {
            name: unit.parse().unwrap(),
            role: Role::Run,
            restart_key: Digest::of(restart.as_bytes()),
            reload_key: Some(Digest::of(reload.as_bytes())),
            borrowed: false,
            on_change: OnChange::Restart,
            optional: false,
            barrier: false,
        };
        Desired { units: vec![wanted] }
    }

    #[test]
    fn of_a_life_that_began_between_two_generations_is_known_what_both_say() {
        let state = UnitState { invocation_id: Some("new".to_owned()), ..UnitState::default() };
        let live = BTreeMap::from([("a.service".parse().unwrap(), state)]);
        let seen = |loaded: &Desired, others: &[&Desired]| {
            let record = Applied::default().seen(&live, loaded, others).units.into_values().next().unwrap();
            (record.restart_key.is_some(), record.reload_key.is_some())
        };
        let before = wants("a.service", "1", "1");
        assert_eq!(seen(&before, &[]), (true, true));
        assert_eq!(seen(&before, &[&before, &wants("a.service", "1", "2")]), (true, false));
        assert_eq!(seen(&before, &[&before, &wants("a.service", "2", "1")]), (false, true));
        assert_eq!(seen(&before, &[&Desired::default()]), (false, false));
    }

    #[test]
    fn what_failed_is_not_as_wanted_though_it_was_started_from_what_is() {
        let name: UnitName = "job.service".parse().unwrap();
        let loaded = wants("job.service", "new", "new");
        let wanted = &loaded.units[0];
        let live = |active| {
            let state = UnitState { active, invocation_id: Some("life".to_owned()), ..UnitState::default() };
            BTreeMap::from([(name.clone(), state)])
        };
        let working = Applied::default().seen(&live(ActiveState::Activating), &loaded, &[]);
        assert!(working.units[&name].is(wanted));
        for before in [Applied::default(), working] {
            let failed = before.seen(&live(ActiveState::Failed), &loaded, &[]);
            assert!(!failed.units[&name].is(wanted));
            // Somebody made systemd forget.
            let forgotten = failed.seen(&live(ActiveState::Inactive), &loaded, &[]);
            assert!(!forgotten.units[&name].is(wanted));
        }
    }
}
