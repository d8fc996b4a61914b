//! Keys to sign with: one that each host of the tests trusts, as the hosts of people do, and others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// Who signs what the tests compile.
pub(crate) const SIGNER: &str = "tests@rick.test";

/// The file of the key that the hosts trust. It is kept from run to run.
pub(crate) fn key() -> &'static str {
    static KEY: OnceLock<String> = OnceLock::new();
    KEY.get_or_init(|| {
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("signing");
        if !kept.is_dir() {
            let new = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("it is there");
            make(&new.path().join("key"), &["-t", "ed25519"]);
            // Another run may have been first.
            let _ = fs::rename(new.keep(), &kept);
        }
        kept.join("key").display().to_string()
    })
}

/// What the hosts have as `/etc/rick/allowed_signers`.
pub(crate) fn allowed() -> String {
    line(&format!("{SIGNER} namespaces=\"rick-bundle\""), Path::new(key()))
}

/// A line that trusts a key.
pub(crate) fn line(who: &str, key: &Path) -> String {
    format!("{who} {}", fs::read_to_string(key.with_extension("pub")).expect("it was made"))
}

/// Keys of one test.
pub(crate) struct Ring(TempDir);

impl Ring {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A new key, by what ssh-keygen is told.
    pub(crate) fn key(&self, name: &str, options: &[&str]) -> PathBuf {
        make(&self.path(name), options);
        self.path(name)
    }
}

fn make(file: &Path, options: &[&str]) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-C", "", "-f"]).arg(file).args(options);
    if !options.contains(&"-N") {
        command.args(["-N", ""]);
    }
    assert!(command.status().expect("ssh-keygen runs: ci/setup installs it").success());
}
