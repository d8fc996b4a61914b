//! The sections and keys that systemd and Podman's Quadlet know, and the version that brought each.
//!
//! The tables beside this file are made from the real parsers by `ci/key-tables`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod table;
mod version;

pub use table::Life;
pub use version::{Program, QUADLETS_NAME_QUADLETS, QUADLETS_UPHELD_BY, Version, Versions};

use super::similar::closest;
use table::{quadlet, systemd};

/// The kinds of Quadlet files: the extension, its own section, and what the unit's name gets after the stem.
pub const QUADLET_KINDS: [(&str, &str, &str); 8] = [
    ("container", "Container", ""),
    ("pod", "Pod", "-pod"),
    ("network", "Network", "-network"),
    ("volume", "Volume", "-volume"),
    ("image", "Image", "-image"),
    ("build", "Build", "-build"),
    ("kube", "Kube", ""),
    ("artifact", "Artifact", "-artifact"),
];

/// The kinds of units that have a section of their own.
const UNIT_KINDS: [(&str, &str); 8] = [
    ("service", "Service"),
    ("socket", "Socket"),
    ("timer", "Timer"),
    ("path", "Path"),
    ("mount", "Mount"),
    ("automount", "Automount"),
    ("swap", "Swap"),
    ("slice", "Slice"),
];

/// One section of one kind of file.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    name: &'static str,
    program: Program,
    keys: &'static table::Keys,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It is in the table.
    Known(Life),
    /// It is not; the nearest that is.
    Unknown(Option<&'static str>),
}

impl Section {
    /// Who reads it, and so whose versions count.
    pub fn program(&self) -> Program {
        self.program
    }

    /// Looks a key up. Keys that start with `X-` are for others than systemd and known to be ignored.
    pub fn key(&self, key: &str) -> Lookup {
        match self.keys.get(key) {
            Some(life) => Lookup::Known(*life),
            None if key.starts_with("X-") && self.program == Program::Systemd => {
                Lookup::Known(Life::default())
            }
            None => Lookup::Unknown(closest(key, self.keys.keys().copied())),
        }
    }

    /// Its name, without brackets.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

/// The section of that name in a unit file of that kind (`service`, …).
pub fn unit_section(kind: &str, section: &str) -> Option<Section> {
    let name = unit_sections(kind).into_iter().find(|name| *name == section)?;
    Some(Section { name, program: Program::Systemd, keys: systemd().get(name)? })
}

/// The names of the sections that a unit file of that kind can have.
pub fn unit_sections(kind: &str) -> Vec<&'static str> {
    let own = UNIT_KINDS.iter().find(|(known, _)| *known == kind).map(|(_, section)| *section);
    ["Unit", "Install"].into_iter().chain(own).collect()
}

/// The section of that name in a Quadlet file of that kind (`container`, …).
pub fn quadlet_section(kind: &str, section: &str) -> Option<Section> {
    let name = quadlet_sections(kind).into_iter().find(|name| *name == section)?;
    match quadlet().get(name) {
        Some(keys) => Some(Section { name, program: Program::Podman, keys }),
        None => unit_section("service", name),
    }
}

/// The names of the sections that a Quadlet file of that kind can have.
pub fn quadlet_sections(kind: &str) -> Vec<&'static str> {
    let own = QUADLET_KINDS.iter().find(|(known, ..)| *known == kind).map(|(_, section, _)| *section);
    ["Unit", "Service", "Install", "Quadlet"].into_iter().chain(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn since(section: Section, key: &str) -> Option<String> {
        match section.key(key) {
            Lookup::Known(life) => Some(life.since.map_or("-".to_owned(), |version| version.to_string())),
            Lookup::Unknown(_) => None,
        }
    }

    #[test]
    fn sections_belong_to_kinds() {
        assert!(unit_section("service", "Service").is_some());
        assert!(unit_section("service", "Socket").is_none());
        assert!(unit_section("target", "Unit").is_some());
        assert!(unit_section("target", "Target").is_none());
        assert!(quadlet_section("container", "Service").is_some());
        assert!(quadlet_section("container", "Pod").is_none());
        assert!(QUADLET_KINDS.iter().all(|(kind, section, _)| quadlet_section(kind, section).is_some()));
    }

    #[test]
    fn keys_know_their_version() {
        let service = unit_section("service", "Service").unwrap();
        assert_eq!(since(service, "ExecStart").as_deref(), Some("-"));
        assert_eq!(since(service, "MemoryMax").as_deref(), Some("231"));
        assert_eq!(since(service, "RefreshOnReload").as_deref(), Some("260"));
        assert_eq!(since(service, "X-Anything").as_deref(), Some("-"));
        assert_eq!(service.key("execStart"), Lookup::Unknown(Some("ExecStart")));
        let container = quadlet_section("container", "Container").unwrap();
        assert_eq!(since(container, "Memory").as_deref(), Some("5.5"));
        assert_eq!(container.key("X-Mine"), Lookup::Unknown(None));
    }
}
