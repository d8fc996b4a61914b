//! What services keep: it outlives generations, is copied, and comes back where it is absent.
//!
//! ```text
//! /var/lib/rick/kept/SERVICE.json            what this host knows of it: see `record`
//! /var/lib/rick/kept/SERVICE/owners.json     the numbers of the accounts, as they were when it was copied
//! /var/lib/rick/kept/SERVICE/dumps/NAME      what a command gave, while it is copied or restored
//! /run/rick/kept/SERVICE.lock                one at a time
//! /run/rick/kept/turn-N                      not all services call a repository at once
//! /run/rick/kept/SERVICE.halted              units that were stopped for a copy, and are started again
//! /run/rick/kept/SERVICE.waits               it was not admitted, and is to ask again
//! /run/rick/kept/credentials/NAME.PID        a secret that restic wants as a file, as long as it does
//! ```
//!
//! [`copy`] takes a copy, [`admit`] is asked before each start of a service and restores what is absent, [`leave`] says of a service that is
//! gone that another host may have it. What is absent is said by `presence`, what follows from that by `decide`, and both are asked in one place.
//! Nothing here removes or replaces what is there, but for `forget`, `restore --replace` and going back with `--with-state`.

pub mod admit;
pub mod copy;
pub mod decide;
mod dumps;
pub mod leave;
pub mod overview;
mod owners;
pub mod presence;
mod process;
pub mod record;
pub mod restic;
pub mod restore;
pub mod upgrade;
mod words;

use std::fmt::{self, Display};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::generation::{Generation, Known};
use super::host::Host;
use super::report::Report;
use super::state::{STATE, State};
use crate::bundle::manifest::{Dump, HostManifest, Repository};
use crate::bundle::names::{HostPath, Label, UnitName};
use crate::durable;
use crate::refusal::{Refusal, refuse};

/// The unit that asks whether a service may start: the module that states the repository calls it thus.
pub fn gate(service: &Label) -> Option<UnitName> {
    format!("rick-restore-{service}.service").parse().ok()
}

/// What belongs to whoever copies or restores, and to nobody for longer than a boot.
const RUNTIME: &str = "/run/rick/kept";

/// What one service keeps, as a generation says.
#[derive(Clone, Debug)]
pub struct Kept {
    service: Label,
    /// Its directories and dumps, in order.
    parts: Vec<Part>,
    /// What its dumps take.
    dumps: Vec<Dump>,
    at_rest: bool,
    units: Vec<UnitName>,
}

/// One thing that a service keeps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// A directory.
    Directory(HostPath),
    /// What a command gives.
    Dump(Label),
}

impl Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{path}"),
            Self::Dump(name) => write!(f, "the dump `{name}`"),
        }
    }
}

impl Kept {
    /// What a service keeps; `None`: nothing.
    pub fn of(manifest: &HostManifest, service: &Label) -> Option<Self> {
        let directories = manifest.states.iter().filter(|(_, owner)| *owner == service);
        let dumps: Vec<Dump> =
            manifest.dumps.iter().filter(|dump| dump.service == *service).cloned().collect();
        let mut parts: Vec<Part> = directories.map(|(path, _)| Part::Directory(path.clone())).collect();
        parts.extend(dumps.iter().map(|dump| Part::Dump(dump.name.clone())));
        let units = manifest.units.iter().filter(|unit| unit.service == *service && !unit.name.is_template());
        (!parts.is_empty()).then(|| Self {
            service: service.clone(),
            parts,
            dumps,
            at_rest: manifest.at_rest.contains(service),
            units: units.map(|unit| unit.name.clone()).collect(),
        })
    }

    /// All services of a generation that keep something, in the order of their names.
    pub fn all(manifest: &HostManifest) -> Vec<Self> {
        let mut services: Vec<&Label> =
            manifest.states.values().chain(manifest.dumps.iter().map(|dump| &dump.service)).collect();
        services.sort_unstable();
        services.dedup();
        services.into_iter().filter_map(|service| Self::of(manifest, service)).collect()
    }

    /// The service.
    pub fn service(&self) -> &Label {
        &self.service
    }

    /// It is stopped while it is copied.
    pub fn at_rest(&self) -> bool {
        self.at_rest
    }

    /// The units that rick runs for it.
    pub fn units(&self) -> &[UnitName] {
        &self.units
    }

    fn directories(&self) -> impl Iterator<Item = &HostPath> {
        self.parts.iter().filter_map(|part| match part {
            Part::Directory(path) => Some(path),
            Part::Dump(_) => None,
        })
    }
}

/// The repository from which a generation restores what is absent.
pub fn restoring(manifest: &HostManifest) -> Option<&Repository> {
    manifest.repositories.values().find(|repository| repository.restores)
}

/// Where it all happens.
pub struct Scene<'a> {
    /// The files of the host.
    pub state: &'a State,
    /// The host.
    pub host: &'a dyn Host,
    /// The generation that says what is kept, and where copies are.
    pub generation: Generation,
    /// Where the lines go.
    pub report: &'a mut Report,
}

impl<'a> Scene<'a> {
    /// With the generation that the host has.
    pub fn current(
        state: &'a State,
        known: &Known,
        host: &'a dyn Host,
        report: &'a mut Report,
    ) -> Result<Self> {
        match known.current(state)? {
            Some(generation) => Ok(Self { state, host, generation, report }),
            None => refuse!("rick never activated anything on this host"),
        }
    }

    /// What the build said about this host.
    pub fn manifest(&self) -> Result<&HostManifest> {
        match self.generation.manifest() {
            Some(manifest) => Ok(manifest),
            None => refuse!("generation 0 has no services"),
        }
    }

    /// What a service of the generation keeps.
    pub fn kept(&self, service: &Label) -> Result<Kept> {
        let manifest = self.manifest()?;
        Kept::of(manifest, service).ok_or_else(|| {
            let names: Vec<String> =
                Kept::all(manifest).iter().map(|kept| kept.service.to_string()).collect();
            let refusal = Refusal::new(format!("no service `{service}` of this host keeps anything"));
            match names.as_slice() {
                [] => refusal.into(),
                names => refusal.help(format!("those that do: {}", names.join(", "))).into(),
            }
        })
    }

    /// The repository that what is absent comes from.
    fn repository(&self) -> Result<Repository> {
        match restoring(self.manifest()?) {
            Some(repository) => Ok(repository.clone()),
            None => Err(Refusal::new("this host has no repository to restore from")
                .help("the module `backups` brings one")
                .into()),
        }
    }
}

/// The folder in which what is not in directories of its own is put to be copied.
fn folder(state: &State, service: &Label) -> PathBuf {
    state.kept().join(service.as_str())
}

/// The same path, as a copy has it.
fn folder_in_copy(service: &Label) -> String {
    format!("{STATE}/kept/{service}")
}

/// A file of a service that lasts no longer than the boot.
fn runtime(state: &State, service: &Label, kind: &str) -> Result<PathBuf> {
    in_memory(state, &format!("{service}.{kind}"))
}

/// A file that lasts no longer than the boot.
fn in_memory(state: &State, name: &str) -> Result<PathBuf> {
    let folder = state.on_host(RUNTIME);
    if !folder.is_dir() {
        durable::make_directory(&folder, 0o711)?;
    }
    Ok(folder.join(name))
}

/// A file to be locked, by nobody but root: who can read one can hold it.
fn open_lock(path: &Path) -> Result<File> {
    let file = File::options().create(true).append(true).mode(0o600).open(path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

/// Waits until nobody else copies or restores what the service keeps.
fn lock(state: &State, service: &Label) -> Result<File> {
    let path = runtime(state, service, "lock")?;
    let cannot = || format!("cannot lock {}", path.display());
    let file = open_lock(&path)?;
    file.lock().with_context(cannot)?;
    Ok(file)
}
