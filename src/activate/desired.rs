//! Which units a generation wants, and the keys that say what each was made of.

use std::collections::BTreeSet;
use std::io::{self, Write as _};

use anyhow::Result;

use crate::bundle::digest::{Digest, Hashing};
use crate::bundle::manifest::{HostManifest, Role};
use crate::bundle::names::{BundlePath, UnitName};

/// The units of a generation, each after those that it is ordered after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// The units.
    pub units: Vec<Wanted>,
}

/// One unit that a generation wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The unit.
    pub name: UnitName,
    /// What rick does with it.
    pub role: Role,
    /// Over all that a restart is needed for.
    pub restart_key: Digest,
    /// Over all that a reload is enough for; `None` if it never reloads.
    pub reload_key: Option<Digest>,
}

impl Desired {
    /// The units of `manifest`; `read` gives the realised bytes of a file.
    pub fn of(manifest: &HostManifest, read: impl Fn(&BundlePath) -> Result<Vec<u8>>) -> Result<Self> {
        let content = |path: &BundlePath| match manifest.links.get(path) {
            Some(target) => Ok(target.clone().into_bytes()),
            None => read(path),
        };
        let wanted = |unit: &crate::bundle::manifest::UnitEntry| -> Result<Wanted> {
            let reload_key =
                (!unit.reload_on.is_empty()).then(|| key(&unit.reload_on, content)).transpose()?;
            let restart_key = key(&unit.restart_on, content)?;
            Ok(Wanted { name: unit.name.clone(), role: unit.role, restart_key, reload_key })
        };
        Ok(Self { units: manifest.units.iter().map(wanted).collect::<Result<_>>()? })
    }

    /// The templates that are hidden.
    pub fn hidden_templates(&self) -> Vec<UnitName> {
        let hidden = self.units.iter().filter(|unit| unit.role == Role::Mask && unit.name.is_template());
        hidden.map(|unit| unit.name.clone()).collect()
    }

    /// Hides, of these units, the instances of hidden templates: systemd hides them, and what is said of them must be said by name.
    pub fn hide_instances(&mut self, units: impl IntoIterator<Item = UnitName>) {
        for name in units {
            let template = name.template();
            let hidden = |unit: &&Wanted| unit.role == Role::Mask && Some(&unit.name) == template.as_ref();
            let Some(template) = self.units.iter().find(hidden) else { continue };
            if !self.units.iter().any(|unit| unit.name == name) {
                self.units.push(Wanted { name, ..template.clone() });
            }
        }
    }

    /// The names of all units.
    pub fn names(&self) -> BTreeSet<UnitName> {
        self.units.iter().map(|unit| unit.name.clone()).collect()
    }
}

/// The digest of some files. For each, sorted by path: path, NUL, size in decimal, NUL, bytes. Changing this restarts everything once.
fn key(paths: &[BundlePath], content: impl Fn(&BundlePath) -> Result<Vec<u8>>) -> Result<Digest> {
    let paths: BTreeSet<&BundlePath> = paths.iter().collect();
    let mut hash = Hashing::new(io::sink());
    for path in paths {
        let bytes = content(path)?;
        write!(hash, "{path}\0{}\0", bytes.len())?;
        hash.write_all(&bytes)?;
    }
    Ok(hash.finish().1)
}
