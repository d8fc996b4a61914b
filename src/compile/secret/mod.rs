//! Secrets of the source tree: age files, each readable by the hosts that need it and by the operators.

mod armour;
pub mod audience;
mod base64;
mod bech32;
pub mod folder;
pub mod header;
pub mod recipient;

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
