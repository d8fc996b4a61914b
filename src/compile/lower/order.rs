//! The order of a host's units.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use super::install::{values, words};
use crate::bundle::names::UnitName;
use crate::compile::item::Sections;

/// Which units each unit is ordered after.
#[derive(Default)]
pub(super) struct Order(BTreeMap<UnitName, BTreeSet<UnitName>>);

impl Order {
    /// `later` is ordered after `earlier`.
    pub(super) fn add(&mut self, later: &UnitName, earlier: &UnitName) {
        if later != earlier {
            self.0.entry(later.clone()).or_default().insert(earlier.clone());
        }
    }

    /// What the sections of a unit, or of a drop-in for it, say, and what systemd adds to them by itself. `resolve` knows aliases.
    pub(super) fn add_sections(
        &mut self,
        name: &UnitName,
        sections: &Sections,
        resolve: impl Fn(&str) -> Option<UnitName>,
    ) {
        let named = |key: &'static str| words(sections, "Unit", key).into_iter().filter_map(&resolve);
        named("After").for_each(|earlier| self.add(name, &earlier));
        named("Before").for_each(|later| self.add(&later, name));
        if name.kind() == "target" {
            named("Wants").chain(named("Requires")).for_each(|earlier| self.add(name, &earlier));
        }
    }

    /// A socket, timer or path unit comes before what it starts.
    pub(super) fn add_trigger(&mut self, name: &UnitName, all_sections: &[&Sections]) {
        let (section, key) = match name.kind() {
            "socket" => ("Socket", "Service"),
            "timer" => ("Timer", "Unit"),
            "path" => ("Path", "Unit"),
            _ => return,
        };
        let said = all_sections.iter().flat_map(|sections| values(sections, section, key)).last();
        let triggered = said.map_or_else(|| format!("{}.service", name.stem()), str::to_owned);
        if let Ok(triggered) = triggered.parse() {
            self.add(&triggered, name);
        }
    }

    /// `names` so that each stands after those that it is ordered after, ties by name. A circle, which `check` reports, is cut
    /// at its first name.
    pub(super) fn sort(&self, names: BTreeSet<UnitName>) -> Vec<UnitName> {
        let none = BTreeSet::new();
        let mut waiting = names;
        let mut sorted = Vec::with_capacity(waiting.len());
        while let Some(first) = waiting.first() {
            let ready = |name: &&UnitName| self.0.get(*name).unwrap_or(&none).is_disjoint(&waiting);
            let next = waiting.iter().find(ready).unwrap_or(first).clone();
            waiting.remove(&next);
            sorted.push(next);
        }
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::ini;

    fn sorted(units: &[(&str, &str)]) -> Vec<String> {
        let mut order = Order::default();
        for (name, text) in units {
            let (name, sections) = (name.parse().unwrap(), ini::sections(text));
            order.add_sections(&name, &sections, |word| word.parse().ok());
            order.add_trigger(&name, &[&sections]);
        }
        let names = units.iter().map(|(name, _)| name.parse().unwrap()).collect();
        order.sort(names).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn units_stand_after_what_they_are_ordered_after() {
        let units = [
            ("a.service", "[Unit]\nAfter=c.service network.target\n"),
            ("b.service", ""),
            ("c.service", "[Unit]\nAfter=d.service"),
            ("d.service", "[Unit]\nRequires=a.service"),
            ("e.service", "[Unit]\nBefore=b.service"),
        ];
        assert_eq!(sorted(&units), ["d.service", "c.service", "a.service", "e.service", "b.service"]);
    }

    #[test]
    fn triggers_come_before_what_they_start_and_targets_after_what_they_want() {
        let units = [
            ("a.target", "[Unit]\nWants=z.service"),
            ("b.service", ""),
            ("b.socket", ""),
            ("m.service", ""),
            ("x.timer", "[Timer]\nUnit=m.service"),
            ("z.service", ""),
        ];
        assert_eq!(
            sorted(&units),
            ["b.socket", "b.service", "x.timer", "m.service", "z.service", "a.target"]
        );
    }

    #[test]
    fn a_circle_ends() {
        let units = [
            ("a.service", "[Unit]\nAfter=b.service a.service"),
            ("b.service", "[Unit]\nAfter=a.service"),
            ("c.service", "[Unit]\nAfter=b.service"),
        ];
        assert_eq!(sorted(&units), ["a.service", "b.service", "c.service"]);
    }
}
