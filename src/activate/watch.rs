//! The settle window: whether services that were started stay up. That systemd started one says little of a program that dies three
//! seconds later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

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
/// `WINDOWS` windows in vain.
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
    // To look at many units takes a good part of the time until the next look.
    let mut looking = Duration::ZERO;
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
        host.pause(LOOK.saturating_sub(looking));
        let begin = Instant::now();
        let seen = observe(host, units.iter().cloned())?;
        looking = begin.elapsed();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::host::ActiveState;
    use crate::activate::model::{Event, Model, Plot};

    const WINDOW: Duration = Duration::from_secs(5);
    /// How often one looks in a window; each look is two moments: the pause, and the question.
    const LOOKS: usize = 10;

    fn name() -> UnitName {
        "a.service".parse().unwrap()
    }

    /// Watches a unit of this text while the events happen; how it is in the end, whether it is steady, and how often one looked.
    fn watched(text: &str, events: Vec<(usize, Event)>, window: Duration) -> (UnitState, bool, usize) {
        let root = tempfile::tempdir().unwrap();
        let host = Model::boot(root.path(), &[("a.service", text, true)]);
        let begin = observe(&host, [name()]).unwrap();
        host.plot(Plot { events, killed: None });
        let watched = watch(&host, &[name()], begin, window).unwrap();
        (watched.states[&name()].clone(), watched.unsteady.is_empty(), host.moments() / 2)
    }

    const DIES: &str = "[Service]\nExecStart=/bin/a\n";
    const RETURNS: &str = "[Service]\nExecStart=/bin/a\nRestart=on-failure\n";

    #[test]
    fn what_stays_up_is_watched_for_one_window() {
        let (state, steady, looks) = watched(DIES, Vec::new(), WINDOW);
        assert!(state.runs() && steady);
        assert_eq!(looks, LOOKS);
    }

    #[test]
    fn what_is_down_for_good_is_not_waited_for() {
        let (state, _, looks) = watched(DIES, vec![(4, Event::Break(name()))], WINDOW);
        assert_eq!((state.active, looks), (ActiveState::Failed, 3));
    }

    #[test]
    fn what_goes_up_and_down_to_the_end_is_unsteady() {
        let again = |look: usize| {
            let look = look * 6;
            [(look, Event::Break(name())), (look + 2, Event::GoOn(name()))]
        };
        let (_, steady, looks) = watched(RETURNS, (0..LOOKS * 3).flat_map(again).collect(), WINDOW);
        assert!(!steady);
        assert_eq!(looks, LOOKS * 3);
    }

    #[test]
    fn what_recovers_and_stays_for_a_window_is_well() {
        let (state, steady, looks) =
            watched(RETURNS, vec![(4, Event::Break(name())), (10, Event::GoOn(name()))], WINDOW);
        assert!(state.runs() && steady);
        assert_eq!(looks, 6 + LOOKS, "a whole window after it came back");
    }

    #[test]
    fn what_waits_to_be_started_again_to_the_end_is_not_called_well_by_its_state() {
        let (state, ..) = watched(RETURNS, vec![(4, Event::Break(name()))], WINDOW);
        assert!(state.failed());
    }

    #[test]
    fn without_a_window_nobody_looks() {
        let (state, steady, looks) = watched(DIES, vec![(0, Event::Break(name()))], Duration::ZERO);
        assert!(state.runs() && steady);
        assert_eq!(looks, 0);
    }
}
