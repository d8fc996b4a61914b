//! What must hold before anything is touched. Only looks.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::refusal::Refusal;
use super::state::{STATE, State};
use crate::bundle::manifest::{HostManifest, Program};
use crate::bundle::names::{HostPath, Label};

/// Refuses to go on without the rights that it takes.
pub fn check_rights() -> Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Refusal::new("only root can switch this host")
        .help("run it with `sudo`, or try the bundle on a directory: `--root DIR`")
        .into())
}

/// Refuses a host on which generations would not be there when it boots.
pub fn check_file_system(state: &State) -> Result<()> {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    let place = state.directory();
    let existing = place.ancestors().find(|above| above.exists()).unwrap_or(state.root());
    let context = || format!("cannot read {}", existing.display());
    if device(existing).with_context(context)? == device(state.root()).with_context(context)? {
        return Ok(());
    }
    Err(Refusal::new(format!(
        "{STATE} is not on the root file system, so at boot its units would come too late"
    ))
    .help(format!("put {STATE} on the root file system (a separate /var is not supported)"))
    .into())
}

/// The programs that a host lacks: a refusal where units are to run.
pub fn check_programs(state: &State, manifest: &HostManifest) -> Result<(), Refusal> {
    let missing: Vec<(&HostPath, &Program)> =
        manifest.programs.iter().filter(|(path, _)| !state.on_host(path.as_str()).is_file()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let told: Vec<String> = missing.iter().map(|(path, program)| tell(path, program)).collect();
    let packages: BTreeSet<&str> = missing.iter().map(|(_, program)| program.package.as_str()).collect();
    let packages: Vec<&str> = packages.into_iter().collect();
    Err(Refusal::new(format!("this host lacks {}", told.join(", and ")))
        .help(format!("install {}", packages.join(", "))))
}

fn tell(path: &HostPath, program: &Program) -> String {
    let services: Vec<&str> = program.needed_by.iter().map(Label::as_str).collect();
    let needed_by =
        if services.is_empty() { String::new() } else { format!(", needed by {}", services.join(", ")) };
    format!("`{path}` (package {}{needed_by})", program.package)
}
