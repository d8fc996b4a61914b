//! Which units a generation wants, and the keys that say what each was made of.

use std::collections::BTreeSet;
use std::io::{self, Write as _};

use anyhow::Result;

use crate::bundle::digest::{Digest, Hashing};
use crate::bundle::manifest::{HostManifest, OnChange, Role};
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
    /// What is done when its restart key changed.
    pub on_change: OnChange,
    /// The host is well without it.
    pub optional: bool,
    /// What it does when it is started anew cannot be undone by going back.
    pub barrier: bool,
}

impl Desired {
    /// The units of `manifest`; `read` gives the realised bytes of a file. It is not asked for those of payload.
    pub fn of(manifest: &HostManifest, read: impl Fn(&BundlePath) -> Result<Vec<u8>>) -> Result<Self> {
        let content = |path: &BundlePath| {
            let known = manifest.files.get(path).and_then(|file| file.digest);
            match (manifest.links.get(path), known) {
                (Some(target), _) => Ok(Digest::of(target.as_bytes())),
                (None, _) if is_definition(path) => Ok(Digest::of(&what_counts(&read(path)?))),
                (None, Some(digest)) => Ok(digest),
                (None, None) => Ok(Digest::of(&read(path)?)),
            }
        };
        let wanted = |unit: &crate::bundle::manifest::UnitEntry| -> Result<Wanted> {
            let reload_key =
                (!unit.reload_on.is_empty()).then(|| key(&unit.reload_on, content)).transpose()?;
            let restart_key = key(&unit.restart_on, content)?;
            let borrowed = !unit.restart_on.is_empty() && unit.restart_on.iter().all(is_drop_in);
            Ok(Wanted {
                name: unit.name.clone(),
                role: unit.role,
                restart_key,
                reload_key,
                borrowed,
                on_change: unit.on_change,
                optional: unit.optional,
                barrier: unit.barrier,
            })
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

/// The digest of some files. For each, sorted by path: path, NUL, the digest of the bytes that count, NUL. Changing this restarts
/// everything once.
fn key(paths: &[BundlePath], content: impl Fn(&BundlePath) -> Result<Digest>) -> Result<Digest> {
    let paths: BTreeSet<&BundlePath> = paths.iter().collect();
    let mut hash = Hashing::new(io::sink());
    for path in paths {
        write!(hash, "{path}\0{}\0", content(path)?)?;
    }
    Ok(hash.finish().1)
}

/// It is a unit, a drop-in or a Quadlet.
pub(super) fn is_definition(path: &BundlePath) -> bool {
    path.as_str().starts_with("units/") || path.as_str().starts_with("quadlets/")
}

/// Keys of `[Unit]` that hold from the next daemon-reload on, for what runs as for what will: nothing has to be restarted for them.
const TAKEN_ON_RELOAD: [&str; 17] = [
    "After",
    "AllowIsolate",
    "Before",
    "CollectMode",
    "Description",
    "Documentation",
    "JobRunningTimeoutSec",
    "JobTimeoutSec",
    "OnFailure",
    "OnFailureJobMode",
    "OnSuccess",
    "OnSuccessJobMode",
    "RefuseManualStart",
    "RefuseManualStop",
    "SourcePath",
    "StartLimitBurst",
    "StartLimitIntervalSec",
];

/// What of a definition a running unit would have to be restarted for: no comments, no `[Install]`, nothing of [`TAKEN_ON_RELOAD`]. Each
/// setting stands after its section, so that a section of which nothing counts is as good as none.
pub(super) fn what_counts(definition: &[u8]) -> Vec<u8> {
    let (mut kept, mut section, mut keeps) = (Vec::new(), b"".as_slice(), false);
    let mut continues = false;
    for line in definition.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
        // A comment in the middle of a value is skipped, and the value goes on.
        if line.starts_with(b"#") || line.starts_with(b";") || (line.is_empty() && !continues) {
            continue;
        }
        if line.starts_with(b"[") && !continues {
            section = line;
            continue;
        }
        if !continues {
            keeps = section != b"[Install]" && !(section == b"[Unit]" && is_taken_on_reload(line));
            kept.extend_from_slice(if keeps { section } else { b"" });
        }
        continues = line.ends_with(b"\\");
        if keeps {
            kept.extend_from_slice(line);
            kept.push(b'\n');
        }
    }
    kept
}

fn is_taken_on_reload(line: &[u8]) -> bool {
    let key = line.split(|&byte| byte == b'=').next().unwrap_or_default().trim_ascii();
    TAKEN_ON_RELOAD.iter().any(|known| known.as_bytes() == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(text: &str) -> String {
        String::from_utf8(what_counts(text.as_bytes())).unwrap()
    }

    #[test]
    fn what_a_running_unit_need_not_be_restarted_for_does_not_count() {
        let unit = "# rick: app\n\n[Unit]\nDescription=One \\\n  thing\nAfter=a.service\nWants=b.service\n\
                    [Service]\nExecStart=/bin/a \\\n# why\n  --b\nOnFailure=kept\n[Install]\nWantedBy=x.target\n";
        assert_eq!(
            counts(unit),
            "[Unit]Wants=b.service\n[Service]ExecStart=/bin/a \\\n--b\n[Service]OnFailure=kept\n"
        );
        assert_eq!(counts("[Unit]\nDescription=A\n[Service]\nUser=a"), counts("[Service]\nUser=a\n"));
        assert_ne!(counts("[Service]\nExecStart=/bin/a"), counts("[Service]\nExecStart=/bin/b"));
    }
}
