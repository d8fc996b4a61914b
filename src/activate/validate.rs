//! The new generation before the host's own programs: systemd judges the units, and what a module names judges its files. It lies in its
//! place by then, and nothing leads to it.

use std::path::PathBuf;

use anyhow::Result;

use super::generation::Generation;
use super::host::Host;
use super::report::Report;
use super::state::STATE;
use crate::bundle::manifest::{HostManifest, Role, Validation};
use crate::bundle::names::BundlePath;
use crate::refusal::Refusal;

/// Refuses a generation that one of the host's programs does not take, with all that they say. What is as it was in the generation
/// `before` was judged then.
pub fn validate(
    host: &dyn Host,
    generation: &Generation,
    before: Option<&Generation>,
    report: &mut Report,
) -> Result<()> {
    let Some(manifest) = generation.manifest().filter(|_| host.is_running()) else { return Ok(()) };
    let changed = |path: &BundlePath| {
        let digest = |generation: &Generation| generation.digest_of(path).ok();
        let is = digest(generation);
        is.is_some() && before.and_then(digest) != is
    };
    let mut refusals = Vec::new();
    let units = changed_units(manifest, changed);
    if !units.is_empty() {
        report.line("verify", &format!("{} units, with systemd", units.len()));
        let files: Vec<PathBuf> = units.iter().map(|path| generation.directory.join(path.as_str())).collect();
        refusals.extend(host.check_units(&generation.directory.join("units"), &files).err());
    }
    for validation in manifest.validations.iter().filter(|validation| validation.files.iter().any(changed)) {
        report.line("validate", &format!("{}: {}", validation.service, validation.command.join(" ")));
        refusals.extend(host.validate(&command_for(generation, validation)).err());
    }
    let refusals = refusals.into_iter().map(|error| Refusal::new(format!("{error:#}"))).collect();
    Refusal::all(refusals).map_err(anyhow::Error::new)
}

/// The whole units that run or follow, of which a file changed. Drop-ins for units of the distribution are judged with those when
/// systemd reads them: here they would be found wanting for what the distribution did.
fn changed_units(manifest: &HostManifest, changed: impl Fn(&BundlePath) -> bool) -> Vec<BundlePath> {
    let whole =
        |path: &&BundlePath| path.as_str().strip_prefix("units/").is_some_and(|name| !name.contains('/'));
    let units = manifest.units.iter().filter(|unit| unit.role != Role::Mask);
    let files = units.filter(|unit| unit.restart_on.iter().any(&changed)).flat_map(|unit| &unit.restart_on);
    let mut files: Vec<BundlePath> = files.filter(whole).cloned().collect();
    files.sort();
    files.dedup();
    files
}

/// The command, with the generation that is judged in the place of the current one.
fn command_for(generation: &Generation, validation: &Validation) -> Vec<String> {
    let (current, judged) = (format!("{STATE}/current/"), format!("{STATE}/gens/{}/", generation.number));
    validation.command.iter().map(|word| word.replace(&current, &judged)).collect()
}
