//! The versions of systemd and Podman without which a host would not do what its units and Quadlets say.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::install::words;
use crate::bundle::manifest::{Needed, Versioned};
use crate::compile::host::{Host, Quadlet, UnitBody};
use crate::compile::item::Sections;
use crate::compile::keys::{
    self, Lookup, QUADLETS_NAME_QUADLETS, QUADLETS_UPHELD_BY, Version, quadlet_section, unit_section,
};

/// What `rick-activate` asks of systemd itself: `systemd-analyze verify --recursive-errors=`.
const ACTIVATOR: (u32, u32) = (250, 0);
/// Quadlet follows links to directories, as `/etc/containers/systemd/rick` is one.
const LINKED_QUADLETS: (u32, u32) = (5, 3);
/// The keys in whose values Quadlet translates names.
const DEPENDENCIES: [&str; 12] = [
    "After",
    "Before",
    "BindsTo",
    "Conflicts",
    "OnFailure",
    "OnSuccess",
    "PartOf",
    "PropagatesStopTo",
    "Requires",
    "Requisite",
    "Upholds",
    "Wants",
];

/// The highest version that is needed of each program.
#[derive(Default)]
struct Highest(BTreeMap<Versioned, Needed>);

pub(super) fn needed(host: &Host) -> BTreeMap<Versioned, Needed> {
    let mut highest = Highest::default();
    highest.raise(Versioned::Systemd, ACTIVATOR, "rick-activate".to_owned());
    for unit in &host.units {
        let find = |section: &str| unit_section(unit.name.kind(), section);
        match &unit.body {
            UnitBody::Whole(sections) => highest.keys(unit.name.as_str(), sections, find),
            UnitBody::DropIn(stem, sections) => {
                highest.keys(&format!("{}.d/{stem}.conf", unit.name), sections, find);
            }
            UnitBody::Mask => {}
        }
    }
    for drop_in in &host.type_drop_ins {
        let file = format!("{}.d/{}.conf", drop_in.kind, drop_in.stem);
        highest.keys(&file, &drop_in.sections, |section| unit_section(&drop_in.kind, section));
    }
    for quadlet in &host.quadlets {
        highest.quadlet(quadlet, &host.quadlets);
    }
    highest.0
}

impl Highest {
    fn quadlet(&mut self, quadlet: &Quadlet, all: &[Quadlet]) {
        let (file, sections) = (quadlet.name.as_str(), &quadlet.sections);
        let (_, kind) = file.rsplit_once('.').unwrap_or_default();
        self.raise(Versioned::Podman, LINKED_QUADLETS, "Quadlets in a linked directory".to_owned());
        self.keys(file, sections, |section| quadlet_section(kind, section));
        if !words(sections, "Install", "UpheldBy").is_empty() {
            self.key(keys::Program::Podman, QUADLETS_UPHELD_BY, "UpheldBy", file);
        }
        let is_quadlet = |word: &&str| all.iter().any(|other| other.name.as_str() == *word);
        for key in DEPENDENCIES {
            if words(sections, "Unit", key).iter().any(is_quadlet) {
                self.key(keys::Program::Podman, QUADLETS_NAME_QUADLETS, key, file);
            }
        }
    }

    fn keys(&mut self, file: &str, sections: &Sections, find: impl Fn(&str) -> Option<keys::Section>) {
        for (name, entries) in sections {
            let Some(section) = find(name) else { continue };
            for (key, _) in entries {
                if let Lookup::Known(keys::Life { since: Some(since), .. }) = section.key(key) {
                    self.key(section.program(), since, key, file);
                }
            }
        }
    }

    fn key(&mut self, program: keys::Program, since: Version, key: &str, file: &str) {
        let program = match program {
            keys::Program::Systemd => Versioned::Systemd,
            keys::Program::Podman => Versioned::Podman,
        };
        self.raise(program, since.numbers(), format!("`{key}=` of `{file}`"));
    }

    /// Of two reasons for one version, the first by name is told.
    fn raise(&mut self, program: Versioned, at_least: (u32, u32), because: String) {
        let new = Needed { at_least, because };
        let rank = |needed: &Needed| (needed.at_least, Reverse(needed.because.clone()));
        let highest = self.0.entry(program).or_insert_with(|| new.clone());
        if rank(&new) > rank(highest) {
            *highest = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{drop_in, empty, quadlet, whole};
    use super::*;

    fn because(host: &Host, program: Versioned) -> Option<(u32, u32, String)> {
        needed(host).remove(&program).map(|needed| (needed.at_least.0, needed.at_least.1, needed.because))
    }

    fn systemd(units: Vec<crate::compile::host::Unit>) -> (u32, u32, String) {
        because(&Host { units, ..empty() }, Versioned::Systemd).unwrap()
    }

    fn podman(quadlets: &[(&str, &str)]) -> Option<(u32, u32, String)> {
        let quadlets = quadlets.iter().map(|(name, text)| quadlet(name, "x.service", text)).collect();
        because(&Host { quadlets, ..empty() }, Versioned::Podman)
    }

    #[test]
    fn the_activator_needs_a_systemd_and_quadlets_a_podman() {
        assert_eq!(systemd(vec![]), (250, 0, "rick-activate".to_owned()));
        assert_eq!(podman(&[]), None);
        let linked = (5, 3, "Quadlets in a linked directory".to_owned());
        assert_eq!(podman(&[("a.container", "[Container]\nImage=x\nGroupAdd=1")]), Some(linked));
    }

    #[test]
    fn the_newest_key_decides() {
        let newer = "[Service]\nExecStart=/bin/x\nRestartSteps=3\nRestartMode=direct\nX-Mine=1";
        let units =
            vec![whole("a", "b.service", newer), whole("a", "a.service", "[Service]\nRestartSteps=1")];
        assert_eq!(systemd(units), (254, 0, "`RestartMode=` of `b.service`".to_owned()));
        let units = vec![drop_in("a", "a@.service", "x", "[Unit]\nSurviveFinalKillSignal=yes")];
        assert_eq!(systemd(units), (255, 0, "`SurviveFinalKillSignal=` of `a@.service.d/x.conf`".to_owned()));
        let memory = podman(&[("a.container", "[Container]\nMemory=1G\nImage=x"), ("b.pod", "[Pod]")]);
        assert_eq!(memory, Some((5, 5, "`Memory=` of `a.container`".to_owned())));
    }

    #[test]
    fn what_a_quadlet_gives_to_systemd_is_systemds() {
        let host = |text| Host { quadlets: vec![quadlet("a.container", "a.service", text)], ..empty() };
        let newer = host("[Service]\nRestartSteps=3");
        assert_eq!(because(&newer, Versioned::Systemd).unwrap().0, 254);
        assert_eq!(because(&newer, Versioned::Podman).unwrap().1, 3);
    }

    #[test]
    fn quadlets_are_named_and_upheld_since_a_later_podman() {
        let upheld = podman(&[("a.container", "[Install]\nUpheldBy=b.target")]);
        assert_eq!(upheld, Some((5, 5, "`UpheldBy=` of `a.container`".to_owned())));
        let named = |key: &str| {
            let text = format!("[Unit]\n{key}=b.container");
            podman(&[("a.container", &text), ("b.container", "[Container]")]).unwrap()
        };
        assert_eq!(named("After"), (5, 5, "`After=` of `a.container`".to_owned()));
        assert_eq!(named("Description").1, 3);
    }
}
