//! The seam: all that the activator asks of a host beside files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use serde::Serialize;

use crate::bundle::digest::Digest;
use crate::bundle::manifest::{Check, HostManifest, Versioned};
use crate::bundle::names::UnitName;

/// A host that can be switched: a running one, or the root directory of one that does not run.
pub trait Host: Sync {
    /// It runs: there is somebody to answer.
    fn is_running(&self) -> bool;

    /// What the host calls itself.
    fn name(&self) -> Result<String>;

    /// The boot that it is in.
    fn boot_id(&self) -> Result<String>;

    /// What holds of each unit, in their order. One question for all.
    fn unit_states(&self, units: &[UnitName]) -> Result<Vec<UnitState>>;

    /// Where systemd has the definition of each unit from, in their order.
    fn definitions(&self, units: &[UnitName]) -> Result<Vec<Definition>>;

    /// When PID 1 goes back, if it is to: see [`Host::arm`].
    fn armed(&self) -> Result<Option<SystemTime>>;

    /// The instances of these templates that run, have failed, or have something to do.
    fn instances(&self, templates: &[UnitName]) -> Result<Vec<UnitName>>;

    /// Does one thing to some units, queued in their order, and waits until all is done.
    fn run_jobs(&self, verb: Verb, units: &[UnitName]) -> Result<()>;

    /// Forgets that units failed, so that they may be started again.
    fn reset_failed(&self, units: &[UnitName]) -> Result<()>;

    /// Makes systemd read all units again, generators included.
    fn daemon_reload(&self) -> Result<()>;

    /// Lets time pass.
    fn pause(&self, time: Duration);

    /// Puts this very program at `path`, for PID 1 to call: before a switch begins, however it is done.
    fn keep_program(&self, path: &Path) -> Result<()>;

    /// Has PID 1 call [`super::Activation::resume`] in this many seconds, unless [`Host::disarm`]ed before, in the place of what it was told
    /// last. `program` is the activator to call.
    fn arm(&self, program: &Path, seconds: u32) -> Result<()>;

    /// Calls that off.
    fn disarm(&self) -> Result<()>;

    /// Ends a switch that some other process is in the middle of; the lock is free afterwards.
    fn end_switch(&self) -> Result<()>;

    /// Runs a program as a service of PID 1 to its end, with `lock` as its standard input and the output of this process; gives its exit
    /// code, if that can be known.
    fn run_apart(&self, program: &Path, arguments: &[String], lock: File) -> Result<Option<u8>>;

    /// The version of a program, if the host has it.
    fn version(&self, program: Versioned) -> Option<(u32, u32)>;

    /// Has systemd judge units, by the paths of their files, as if `units` were one of its directories.
    fn check_units(&self, units: &Path, files: &[PathBuf]) -> Result<()>;

    /// Has a program of the host judge a file.
    fn validate(&self, command: &[String]) -> Result<()>;

    /// Refuses Quadlets that podman would not turn into units, without touching the host.
    fn check_quadlets(&self, directory: &Path) -> Result<()>;

    /// Makes the accounts of a sysusers file that do not exist.
    fn sysusers(&self, file: &Path) -> Result<()>;

    /// What stands in this directory is never written to a disk, but for swap.
    fn is_in_memory(&self, directory: &Path) -> Result<bool>;

    /// What an age file holds that is encrypted for a key of the host.
    fn decrypt(&self, file: &Path) -> Result<Vec<u8>>;

    /// Makes what a tmpfiles file asks for.
    fn tmpfiles(&self, file: &Path) -> Result<()>;

    /// Which of these images the container storage does not have. One question for all.
    fn missing_images(&self, images: &Images) -> Result<Vec<String>>;

    /// Copies an image from an OCI layout into the container storage.
    fn load_image(&self, layout: &Path, name: &str, digest: &Digest) -> Result<()>;

    /// Has podman fetch an image from its registry.
    fn pull_image(&self, name: &str) -> Result<()>;

    /// The images that running containers have, each by the digest of its configuration.
    fn images_in_use(&self) -> Result<BTreeSet<Digest>>;

    /// The tags of all images in the container storage.
    fn image_tags(&self) -> Result<Vec<String>>;

    /// Removes a tag from the container storage, and the image if that was its last; an error if something uses it.
    fn remove_image_tag(&self, tag: &str) -> Result<()>;

    /// The last lines of a log, for a message; empty if there is none.
    fn journal(&self, log: Log<'_>) -> Vec<String>;

    /// Asks once whether something answers.
    fn answers(&self, check: &Check) -> Result<()>;
}

/// The images that containers of a generation run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// Those of the bundle: `localhost/NAME:TAG` → the digest of the manifest.
    pub own: BTreeMap<String, Digest>,
    /// Those of registries, `REGISTRY/REPOSITORY@sha256:…`.
    pub pulled: BTreeSet<String>,
}

impl Images {
    /// Those that a manifest names.
    pub fn of(manifest: &HostManifest) -> Self {
        Self { own: manifest.images.clone(), pulled: manifest.pulls.clone() }
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.own.is_empty() && self.pulled.is_empty()
    }
}

/// Which log.
#[derive(Clone, Copy, Debug)]
pub enum Log<'a> {
    /// That of one run of a unit, or of all of them in this boot.
    Unit(&'a UnitName, Option<&'a str>),
    /// That of the generator which turns Quadlets into units.
    Quadlet,
}

/// What can be done to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verb {
    /// Stop it.
    Stop,
    /// Have it read its configuration again.
    Reload,
    /// Stop and start it.
    Restart,
    /// Start it.
    Start,
}

impl Verb {
    /// systemctl's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Reload => "reload",
            Self::Restart => "restart",
            Self::Start => "start",
        }
    }
}

/// What systemd says of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitState {
    /// Whether it has a definition.
    pub load: LoadState,
    /// Whether it runs.
    pub active: ActiveState,
    /// It is down, and waits to be started again by itself.
    pub auto_restart: bool,
    /// The run that it is in.
    pub invocation_id: Option<String>,
    /// How the last run went; `success` if well.
    pub result: String,
    /// How the last reload went; `success` if well, empty if it is no service.
    pub reload_result: String,
    /// Whether being over is its purpose.
    pub oneshot: Oneshot,
    /// When it was last to be started, a condition of its own said no.
    pub condition_failed: bool,
    /// The units that it starts, if that is what it is for.
    pub triggers: Vec<UnitName>,
}

/// Where systemd has the definition of a unit from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Definition {
    /// The file that defines it.
    pub fragment: Option<PathBuf>,
    /// The files that add to that.
    pub drop_ins: Vec<PathBuf>,
    /// Some of them changed since systemd read them.
    pub outdated: bool,
}

/// Whether a unit is of type oneshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Oneshot {
    /// It is not.
    #[default]
    No,
    /// It is, and does not run once it is over.
    Ends,
    /// It is, and runs once it is over (`RemainAfterExit=`).
    Remains,
}

/// Whether a unit has a definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LoadState {
    /// It has.
    Loaded,
    /// It has none.
    #[default]
    NotFound,
    /// It is hidden.
    Masked,
    /// It has one that systemd does not take; systemd's word for why.
    Wrong(String),
}

/// Whether a unit runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ActiveState {
    /// It runs.
    Active,
    /// It is coming up.
    Activating,
    /// It is going down.
    Deactivating,
    /// It does not run.
    #[default]
    Inactive,
    /// It does not run, and should.
    Failed,
}

impl UnitState {
    /// It runs or comes up.
    pub fn runs(&self) -> bool {
        matches!(self.active, ActiveState::Active | ActiveState::Activating) && !self.auto_restart
    }

    /// It is over, and its last run went well.
    pub fn went_well(&self) -> bool {
        self.active == ActiveState::Inactive && self.result == "success" && self.invocation_id.is_some()
    }

    /// How it is, after its name: "is failed (exit-code)".
    pub fn told(&self) -> String {
        let active = match (&self.load, self.active) {
            (LoadState::NotFound, _) => "is not there",
            (_, ActiveState::Active) => "runs",
            (_, ActiveState::Activating) => "is coming up",
            (_, ActiveState::Deactivating) => "is going down",
            (_, ActiveState::Inactive) => "does not run",
            (_, ActiveState::Failed) => "failed",
        };
        match self.result.as_str() {
            "" | "success" => active.to_owned(),
            result => format!("{active} ({result})"),
        }
    }

    /// It broke down.
    pub fn failed(&self) -> bool {
        self.active == ActiveState::Failed || self.auto_restart
    }

    /// It is a job, and in the middle of it.
    pub fn is_at_work(&self) -> bool {
        self.oneshot != Oneshot::No && self.active == ActiveState::Activating && !self.auto_restart
    }

    /// It does not run, and rightly so: it did its work in this boot, or its own condition kept it from starting. systemd knows of the
    /// life of one that is over as long as something refers to it, as rick.target does to what is to run.
    pub fn is_done(&self) -> bool {
        self.active == ActiveState::Inactive
            && matches!(self.result.as_str(), "" | "success")
            && (self.oneshot == Oneshot::Ends && self.invocation_id.is_some() || self.condition_failed)
    }
}

/// Does two slow things at once: podman and systemd each take their time to answer.
pub(super) fn side_by_side<A: Send, B>(
    elsewhere: impl FnOnce() -> A + Send,
    here: impl FnOnce() -> B,
) -> (A, B) {
    thread::scope(|scope| {
        let other = scope.spawn(elsewhere);
        let here = here();
        match other.join() {
            Ok(other) => (other, here),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
