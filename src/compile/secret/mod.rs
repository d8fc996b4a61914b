//! Secrets of the source tree: age files, each readable by the hosts that need it and by the operators.
//!
//! - [`recipient`]: public keys; [`header`]: what a file shows of those who can read it; [`audience`]: who should. Pure.
//! - [`folder`] reads the files for a build, which needs no private key; [`overview`] draws who can read what.
//! - [`keeper`] writes them for `rickbuild secrets`, with the machine's `age`.

mod age;
mod armour;
pub mod audience;
mod editor;
pub mod folder;
pub mod header;
pub mod keeper;
pub mod overview;
mod prompt;
pub mod recipient;
pub mod scratch;
pub mod shape;

use super::source::SourcePath;
use crate::bundle::names::SecretName;

/// The folder of all secrets.
pub const FOLDER: &str = "secrets";

/// The folder of an environment's secrets.
pub fn folder_of(environment: &str) -> SourcePath {
    SourcePath(format!("{FOLDER}/{environment}"))
}

/// The file that holds a secret of an environment, for all its readers.
pub fn file_of(environment: &str, name: &SecretName) -> SourcePath {
    SourcePath(format!("{}/{name}.age", folder_of(environment)))
}

/// The secret that a file holds by its path.
pub fn name_of(environment: &str, file: &SourcePath) -> Option<SecretName> {
    let below = file.0.strip_prefix(&folder_of(environment).0)?.strip_prefix('/')?;
    below.strip_suffix(".age")?.parse().ok()
}
