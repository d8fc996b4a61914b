//! The settle window: whether services that were started stay up. That systemd started one says little of a program that dies three
//! seconds later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::Result;

use super::host::{Host, UnitState};
use super::switch::observe;
use crate::bundle::names::UnitName;

/// How often one looks.
const LOOK: Duration = Duration::from_millis(500);
/// A unit that does not hold out for one window in this many is given up.
const WINDOWS: u32 = 3;

/// What watching found.
#[derive(Debug)]
pub struct Watched {
    /// The units as they were in the end.
    pub states: BTreeMap<UnitName, UnitState>,
    /// Units that systemd had to start again, to the end.
    pub unsteady: BTreeSet<UnitName>,
}

/// Watches `units`, whose states are `begin`, until each has lived one life for a whole `window`, or is down for good, or has had
/// [`WINDOWS`] windows in vain.
pub fn watch(
    host: &dyn Host,
    units: &[UnitName],
    begin: BTreeMap<UnitName, UnitState>,
    window: Duration,
) -> Result<Watched> {
    let looks = u32::try_from(window.as_millis().div_ceil(LOOK.as_millis())).unwrap_or(u32::MAX);
    let mut states = begin;
    let mut steady_since: BTreeMap<&UnitName, u32> = units.iter().map(|unit| (unit, 0)).collect();
    let mut now = 0;
    loop {
        if units.iter().any(|unit| states.get(unit).is_some_and(is_down_for_good)) {
            return Ok(Watched { states, unsteady: BTreeSet::new() });
        }
        let unsteady = units.iter().filter(|unit| now - steady_since[unit] < looks);
        let unsteady: BTreeSet<UnitName> = unsteady.cloned().collect();
        if unsteady.is_empty() || now >= looks.saturating_mul(WINDOWS) {
            return Ok(Watched { states, unsteady });
        }
        now += 1;
        host.pause(LOOK);
        let seen = observe(host, units.iter().cloned())?;
        for unit in units {
            if !is_the_same_life(states.get(unit), seen.get(unit)) {
                steady_since.insert(unit, now);
            }
        }
        states.extend(seen);
    }
}

/// It failed, and nothing will start it again.
fn is_down_for_good(state: &UnitState) -> bool {
    state.failed() && !state.auto_restart
}

fn is_the_same_life(before: Option<&UnitState>, now: Option<&UnitState>) -> bool {
    let life = |state: Option<&UnitState>| {
        state.map(|state| (state.invocation_id.clone(), state.active, state.auto_restart))
    };
    life(before) == life(now)
}
