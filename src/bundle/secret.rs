//! Secrets that come with a bundle: encrypted files in it, and where what they hold stands on the host.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;
use super::names::{AccountName, BundlePath, SecretName};

/// Where they stand in clear: in memory.
pub const MEMORY: &str = "/run/rick/secrets";

/// The largest encrypted file.
pub const MAX_SIZE: u64 = 1 << 20;

/// A file with the value of a secret, as one service reads it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretFile {
    /// The secret.
    pub name: SecretName,
    /// Its owner.
    pub user: AccountName,
    /// Its group.
    pub group: AccountName,
    /// Who may read it.
    pub mode: SecretMode,
}

impl SecretFile {
    /// One that only root reads: what systemd hands on as a credential.
    pub fn of_root(name: SecretName) -> Option<Self> {
        let root: AccountName = ROOT.parse().ok()?;
        Some(Self { name, user: root.clone(), group: root, mode: SecretMode::Owner })
    }
}

/// Who may read a secret's file. Nobody may write it, and never everybody read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretMode {
    /// The owner.
    #[default]
    Owner,
    /// The owner and the group.
    Group,
}

impl SecretMode {
    /// The permission bits.
    pub fn bits(self) -> u32 {
        match self {
            Self::Owner => 0o400,
            Self::Group => 0o440,
        }
    }

    /// The mode with these permission bits, if there is one.
    pub fn of(bits: u32) -> Option<Self> {
        [Self::Owner, Self::Group].into_iter().find(|mode| mode.bits() == bits)
    }
}

/// The user and group that every host has.
pub const ROOT: &str = "root";

impl fmt::Display for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, user, group, mode } = self;
        write!(f, "{name}:{user}:{group}:{:o}", mode.bits())
    }
}

impl FromStr for SecretFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{}` is no file of a secret: NAME:USER:GROUP:400 is", text.escape_debug());
        let parts: Vec<&str> = text.split(':').collect();
        let [name, user, group, mode] = parts.as_slice() else { return Err(wrong()) };
        let mode = u32::from_str_radix(mode, 8).ok().and_then(SecretMode::of).ok_or_else(wrong)?;
        Ok(Self { name: name.parse()?, user: user.parse()?, group: group.parse()?, mode })
    }
}

/// Where the encrypted file of a secret is in a bundle.
///
/// # Errors
/// A name that is too long for that.
pub fn encrypted(name: &SecretName) -> anyhow::Result<BundlePath> {
    format!("secrets/{name}.age").parse().map_err(anyhow::Error::msg)
}

/// Where a file with the value of a secret is on a host. `digest` is that of the encrypted one.
pub fn path(file: &SecretFile, digest: Digest) -> String {
    let SecretFile { user, group, mode, .. } = file;
    // No name of an account has a dot.
    format!("{MEMORY}/{}/{user}.{group}.{:o}", digest.hex(), mode.bits())
}
