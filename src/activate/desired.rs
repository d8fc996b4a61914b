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
    /// The distribution defines it, and the generation only adds to that.
    pub borrowed: bool,
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
            let borrowed = !unit.restart_on.is_empty() && unit.restart_on.iter().all(is_drop_in);
            Ok(Wanted { name: unit.name.clone(), role: unit.role, restart_key, reload_key, borrowed })
        };
        Ok(Self { units: manifest.units.iter().map(wanted).collect::<Result<_>>()? })
    }

    /// The templates among the units.
    pub fn templates(&self) -> impl Iterator<Item = &UnitName> {
        self.units.iter().map(|unit| &unit.name).filter(|name| name.is_template())
    }

    /// Adds those of `units` that are instances of a template here, and not named here: what holds of the template holds of them.
    pub fn add_instances<'a>(&mut self, units: impl IntoIterator<Item = &'a UnitName>) {
        for name in units {
            let template = name.template();
            let at = self.units.iter().position(|unit| Some(&unit.name) == template.as_ref());
            let Some(at) = at.filter(|_| !self.units.iter().any(|unit| unit.name == *name)) else { continue };
            let instance = Wanted { name: name.clone(), ..self.units[at].clone() };
            self.units.insert(at + 1, instance);
        }
    }

    /// The names of all units.
    pub fn names(&self) -> BTreeSet<UnitName> {
        self.units.iter().map(|unit| unit.name.clone()).collect()
    }
}

/// `units/NAME.d/…`: all else defines a unit.
fn is_drop_in(path: &BundlePath) -> bool {
    path.as_str().strip_prefix("units/").is_some_and(|path| path.contains(".d/"))
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
