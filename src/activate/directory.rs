//! A host that does not run: the root directory of one. Files and accounts are real, units and images are not there.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};

use super::applied::Applied;
use super::generation::Generation;
use super::host::{ActiveState, Definition, Host, Images, LoadState, Log, UnitState, Verb};
use super::state::State;
use super::systemd::run;
use crate::bundle::digest::Digest;
use crate::bundle::manifest::{Check, Role, UnitEntry, Versioned};
use crate::bundle::names::UnitName;
use crate::durable;
use crate::refusal::refuse;

/// A root directory. What was started in it is taken to run, and what is asked of its units to happen, so that plans read as they would on
/// the host.
#[derive(Debug)]
pub struct Directory {
    state: State,
    running: Mutex<BTreeSet<UnitName>>,
}

impl Directory {
    /// The host whose root directory `state` is in.
    pub fn open(state: &State) -> Result<Self> {
        let current = Generation::current(state)?;
        let units =
            current.as_ref().and_then(Generation::manifest).map_or(&[][..], |manifest| &manifest.units);
        let applied = Applied::read(state)?.units;
        let runs = |unit: &&UnitEntry| unit.role == Role::Run && applied.contains_key(&unit.name);
        let running = units.iter().filter(runs).map(|unit| unit.name.clone()).collect();
        Ok(Self { state: state.clone(), running: Mutex::new(running) })
    }

    fn running(&self) -> MutexGuard<'_, BTreeSet<UnitName>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(name);
        command.arg(format!("--root={}", self.state.root().display()));
        command
    }
}

impl Host for Directory {
    fn is_running(&self) -> bool {
        false
    }

    fn name(&self) -> Result<String> {
        let path = self.state.on_host("/etc/hostname");
        fs::read_to_string(&path).map(|name| name.trim().to_owned()).with_context(|| {
            format!("cannot read the host's name from {} (`--host` gives it too)", path.display())
        })
    }

    /// Never booted.
    fn boot_id(&self) -> Result<String> {
        Ok(String::new())
    }

    fn unit_states(&self, units: &[UnitName]) -> Result<Vec<UnitState>> {
        let running = self.running();
        let state = |unit: &UnitName| UnitState {
            load: LoadState::Loaded,
            active: if running.contains(unit) { ActiveState::Active } else { ActiveState::Inactive },
            ..UnitState::default()
        };
        Ok(units.iter().map(state).collect())
    }

    fn definitions(&self, units: &[UnitName]) -> Result<Vec<Definition>> {
        Ok(vec![Definition::default(); units.len()])
    }

    fn armed(&self) -> Result<Option<SystemTime>> {
        Ok(None)
    }

    fn instances(&self, _: &[UnitName]) -> Result<Vec<UnitName>> {
        Ok(Vec::new())
    }

    fn run_jobs(&self, verb: Verb, units: &[UnitName]) -> Result<()> {
        let mut running = self.running();
        for unit in units {
            match verb {
                Verb::Stop => drop(running.remove(unit)),
                Verb::Reload => {}
                Verb::Restart | Verb::Start => drop(running.insert(unit.clone())),
            }
        }
        Ok(())
    }

    fn reset_failed(&self, _units: &[UnitName]) -> Result<()> {
        Ok(())
    }

    fn daemon_reload(&self) -> Result<()> {
        Ok(())
    }

    fn pause(&self, _time: Duration) {}

    fn keep_program(&self, _path: &Path) -> Result<()> {
        Ok(())
    }

    /// Nothing runs: there is nobody to call, and no time in which it could go wrong.
    fn arm(&self, _program: &Path, _seconds: u32) -> Result<()> {
        Ok(())
    }

    fn disarm(&self) -> Result<()> {
        Ok(())
    }

    fn end_switch(&self) -> Result<()> {
        Ok(())
    }

    fn run_apart(&self, _program: &Path, _arguments: &[String], _lock: File) -> Result<Option<u8>> {
        refuse!("nothing runs in a directory")
    }

    fn version(&self, _program: Versioned) -> Option<(u32, u32)> {
        None
    }

    fn check_units(&self, _units: &Path, _files: &[PathBuf]) -> Result<()> {
        Ok(())
    }

    fn validate(&self, _command: &[String]) -> Result<()> {
        Ok(())
    }

    /// There is no podman to ask.
    fn check_quadlets(&self, _directory: &Path) -> Result<()> {
        Ok(())
    }

    /// systemd-sysusers wants a place for its lock, which a directory to try things on may not have yet; and the shadow files that it makes
    /// itself are open to nobody but root.
    fn sysusers(&self, file: &Path) -> Result<()> {
        durable::make_directory(&self.state.on_host("/etc"), 0o755)?;
        if !is_root() {
            for shadow in ["/etc/shadow", "/etc/gshadow"] {
                let _ = fs::set_permissions(self.state.on_host(shadow), Permissions::from_mode(0o600));
            }
        }
        run(self.tool("systemd-sysusers").arg(file)).map(drop)
    }

    fn is_in_memory(&self, _directory: &Path) -> Result<bool> {
        Ok(true)
    }

    /// The keys are the host's own, so nothing is decrypted for it here.
    fn decrypt(&self, _file: &Path) -> Result<Vec<u8>> {
        refuse!("secrets are decrypted on the host itself")
    }

    /// Only root can give directories away; to everybody else a try-out shows all but these.
    fn tmpfiles(&self, file: &Path) -> Result<()> {
        if !is_root() {
            return Ok(());
        }
        run(self.tool("systemd-tmpfiles").arg("--create").arg(file)).map(drop)
    }

    /// Nothing to load them into: they wait in the layout.
    fn missing_images(&self, _images: &Images) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn pull_image(&self, _name: &str) -> Result<()> {
        Ok(())
    }

    fn load_image(&self, _layout: &Path, _name: &str, _digest: &Digest) -> Result<()> {
        Ok(())
    }

    fn images_in_use(&self) -> Result<BTreeSet<Digest>> {
        Ok(BTreeSet::new())
    }

    fn image_tags(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn remove_image_tag(&self, _tag: &str) -> Result<()> {
        Ok(())
    }

    fn journal(&self, _log: Log<'_>) -> Vec<String> {
        Vec::new()
    }

    fn answers(&self, _check: &Check) -> Result<()> {
        Ok(())
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::generation::Known;
    use crate::activate::receive::HostNames;
    use crate::activate::report::Report;
    use crate::activate::terms::Terms;
    use crate::activate::testing::Build;
    use crate::activate::{Activation, Conclusion};

    #[test]
    fn a_directory_is_switched_once_and_then_is_as_wanted() {
        let root = tempfile::tempdir().unwrap();
        let state = State::new(root.path());
        let build = Build::new("h")
            .unit("a.service", Role::Run, "", &[])
            .unit("b.service", Role::Follow, "", &[])
            .unit("c.service", Role::Mask, "", &[]);
        let activate = || {
            let host = Directory::open(&state).unwrap();
            let names = HostNames::given(&"h".parse().unwrap());
            let report = Report::silent();
            let mut run = Activation {
                state: state.clone(),
                known: Known::default(),
                host: &host,
                names,
                dry_run: false,
                allow_older: false,
                allow_unsigned: true,
                terms: Terms::default(),
                apart: None,
                report,
            };
            match run.activate(build.bundle().as_slice()).unwrap() {
                Conclusion::Here(outcome) => outcome,
                Conclusion::Apart(code) => panic!("{code}"),
            }
        };
        assert_eq!(activate().steps.len(), 1);
        assert!(!activate().changed);
    }
}
