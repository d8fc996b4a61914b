//! What must hold before anything is touched. Only looks.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::secrets;
use super::state::{STATE, State};
use super::versions::Versions;
use crate::bundle::manifest::{HostManifest, Program};
use crate::bundle::names::{HostPath, Label, SecretName};
use crate::bundle::secret;
use crate::refusal::Refusal;

/// Where systemd looks for encrypted credentials.
const CREDENTIALS: &str = "/etc/credstore.encrypted";

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

/// Everything that a host lacks: refusals where units are to run.
pub fn lacks(state: &State, versions: &Versions, manifest: &HostManifest) -> Vec<Refusal> {
    let lacks = [
        programs(state, manifest),
        secrets(state, manifest),
        decryption(state, manifest),
        versions.lacks(manifest),
    ];
    lacks.into_iter().flatten().collect()
}

/// The programs that a host lacks.
fn programs(state: &State, manifest: &HostManifest) -> Option<Refusal> {
    let missing: Vec<(&HostPath, &Program)> =
        manifest.programs.iter().filter(|(path, _)| !state.on_host(path.as_str()).is_file()).collect();
    if missing.is_empty() {
        return None;
    }
    let told: Vec<String> = missing.iter().map(|(path, program)| tell(path, program)).collect();
    let packages: BTreeSet<&str> = missing.iter().map(|(_, program)| program.package.as_str()).collect();
    let packages: Vec<&str> = packages.into_iter().collect();
    Some(
        Refusal::new(format!("this host lacks {}", told.join(", and ")))
            .help(format!("install {}", packages.join(", "))),
    )
}

/// What a host lacks to decrypt the secrets that came with the bundle.
fn decryption(state: &State, manifest: &HostManifest) -> Option<Refusal> {
    let lacks = |paths: &[&str]| !paths.iter().any(|path| state.on_host(path).is_file());
    if !manifest.files.keys().any(|path| secrets::name_of(path).is_some()) {
        return None;
    }
    if lacks(&secrets::PROGRAMS) {
        let what = "this host cannot decrypt the secrets of the bundle: it lacks `/usr/bin/age`";
        return Some(Refusal::new(what).help("install age"));
    }
    lacks(&secrets::HOST_KEYS).then(|| {
        let what = format!(
            "this host cannot decrypt the secrets of the bundle: it has no {}",
            secrets::HOST_KEYS[0]
        );
        Refusal::new(what)
            .help("make the keys of the host: `ssh-keygen -A`; then encrypt the secrets for them")
    })
}

/// The secrets that a host lacks and that did not come with the bundle: their values are the host's alone.
fn secrets(state: &State, manifest: &HostManifest) -> Option<Refusal> {
    // An empty file is what a broken pipe leaves.
    let there = |name: &SecretName| {
        let found = fs::metadata(state.on_host(&format!("{CREDENTIALS}/{name}")));
        found.is_ok_and(|found| found.is_file() && found.len() > 0)
    };
    let came =
        |name: &SecretName| secret::encrypted(name).is_ok_and(|path| manifest.files.contains_key(&path));
    let missing: Vec<_> = manifest.secrets.iter().filter(|(name, _)| !came(name) && !there(name)).collect();
    if missing.is_empty() {
        return None;
    }
    let told = missing.iter().map(|(name, needed_by)| format!("`{name}`{}", needed(needed_by)));
    let told: Vec<String> = told.collect();
    let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
    let what = if missing.len() == 1 { "the secret" } else { "the secrets" };
    let refusal = Refusal::new(format!("this host lacks {what} {}", told.join(", and ")));
    Some(refusal.help(made_up(&names)).help(format!(
        "store one that you have: systemd-ask-password -n | systemd-creds encrypt --name=NAME - {CREDENTIALS}/NAME"
    )))
}

/// A script that makes secrets which nobody needs to know: 256 random bits each, in 43 characters that fit everywhere.
fn made_up(names: &[&str]) -> String {
    format!(
        "let the host make up those that nobody needs to know:\n\n    \
         install -d -m 0700 {CREDENTIALS}\n    \
         for name in {}; do\n        \
         head -c 32 /dev/urandom | basenc --base64url | tr -d '=\\n' |\n            \
         systemd-creds encrypt --name=$name - {CREDENTIALS}/$name\n    \
         done\n",
        names.join(" ")
    )
}

fn needed(needed_by: &[Label]) -> String {
    let services: Vec<&str> = needed_by.iter().map(Label::as_str).collect();
    if services.is_empty() { String::new() } else { format!(", needed by {}", services.join(", ")) }
}

fn tell(path: &HostPath, program: &Program) -> String {
    format!("`{path}` (package {}{})", program.package, needed(&program.needed_by))
}
