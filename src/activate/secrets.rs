//! Secrets of a generation → files in memory, each at a path that names what it was decrypted from.
//!
//! ```text
//! gens/N/secrets/NAME.age                            encrypted for this host
//! gens/N/secrets.json                                which files are to be made of them
//! /run/rick/secrets/HEX/USER.GROUP.MODE              one such file; HEX is the digest of the encrypted one
//! ```
//!
//! A changed secret has another path, and so changes the units that name it, as any other file of the store does. Those of two generations
//! stand beside each other, so all are made before anything is switched, and nothing is taken from what still runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::Activation;
use super::generation;
use super::state::{STATE, State};
use crate::bundle::digest::Digest;
use crate::bundle::names::{BundlePath, SecretName};
use crate::bundle::secret::{self, SecretFile};
use crate::durable;
use crate::refusal::{Refusal, refuse};

/// What says which files are made of the secrets, inside a generation that has some.
const FILES: &str = "secrets.json";
/// The unit that makes them when the host boots.
const UNIT: &str = "rick-secrets.service";
/// Those keys of the host that a secret may be encrypted for.
pub const HOST_KEYS: [&str; 2] = ["/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_rsa_key"];

/// What decrypts: either is enough.
pub const PROGRAMS: [&str; 2] = ["/usr/bin/age", "/usr/bin/rage"];

/// Files in memory that services of a generation read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets(BTreeSet<Wanted>);

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    secret: SecretName,
    /// That of the encrypted file.
    digest: Digest,
    /// Its path on the host.
    path: String,
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Secrets {
    /// Adds a file, made of the encrypted one with this digest; gives its path on the host.
    pub fn add(&mut self, file: &SecretFile, digest: Digest, uid: u32, gid: u32) -> String {
        let path = secret::path(file, digest);
        let mode = file.mode.bits();
        let wanted = Wanted { secret: file.name.clone(), digest, path: path.clone(), uid, gid, mode };
        self.0.insert(wanted);
        path
    }

    /// Those of a generation.
    fn of(directory: &Path) -> Result<Self> {
        let path = directory.join(FILES);
        let Some(bytes) = durable::read_if_there(&path)? else { return Ok(Self::default()) };
        serde_json::from_slice(&bytes).with_context(|| format!("cannot read {}", path.display()))
    }

    /// Writes them into a generation, and gives the unit that makes them when the host boots, with the target that wants it.
    pub(super) fn write(&self, directory: &Path) -> Result<Option<(&'static str, &'static str, String)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        durable::write_new(&directory.join(FILES), &serde_json::to_vec(self)?, 0o644)?;
        Ok(Some((UNIT, "sysinit.target", unit())))
    }

    fn digests(&self) -> BTreeSet<Digest> {
        self.0.iter().map(|wanted| wanted.digest).collect()
    }
}

/// Before everything that is no part of the early boot. What it needs is on the root file system. It may do what it takes to read a key of the
/// host, run age, and give away files in memory.
fn unit() -> String {
    let folder = secret::MEMORY.trim_start_matches("/run/");
    format!(
        "[Unit]\n\
         Description=rick: secrets into memory\n\
         DefaultDependencies=no\n\
         RequiresMountsFor={STATE} /usr /etc/ssh /run\n\
         Conflicts=shutdown.target\n\
         Before=sysinit.target shutdown.target\n\n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart={STATE}/bin/rick-activate secrets\n\
         RuntimeDirectory={folder}\n\
         RuntimeDirectoryMode=0711\n\
         RuntimeDirectoryPreserve=yes\n\
         {}\n\n\
         [Install]\n\
         WantedBy=sysinit.target\n",
        MAY_LITTLE.join("\n")
    )
}

/// What the service at boot may do. Not `PrivateTmp=`, which would have it wait for more of the boot.
const MAY_LITTLE: [&str; 27] = [
    "CapabilityBoundingSet=CAP_CHOWN CAP_FOWNER",
    "NoNewPrivileges=yes",
    "UMask=0077",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateDevices=yes",
    "PrivateNetwork=yes",
    "RestrictAddressFamilies=none",
    "IPAddressDeny=any",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "ProcSubset=pid",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallFilter=~@privileged @resources",
    "SystemCallFilter=@chown",
    "SystemCallErrorNumber=EPERM",
];

impl Wanted {
    /// It is there, and as it should be. A file appears whole.
    fn is_there(&self, state: &State) -> bool {
        let found = fs::symlink_metadata(state.on_host(&self.path));
        found.is_ok_and(|found| {
            let is_as_told =
                (found.uid(), found.gid(), found.mode() & 0o7777) == (self.uid, self.gid, self.mode);
            found.is_file() && is_as_told
        })
    }

    fn make(&self, state: &State, plain: &[u8]) -> Result<()> {
        let place = state.on_host(&self.path);
        let new = place.with_extension("new");
        durable::remove_file_if_there(&new)?;
        let cannot = || format!("cannot write {}", place.display());
        let mut file = durable::create_new(&new, 0o600)?;
        std::io::Write::write_all(&mut file, plain).with_context(cannot)?;
        fchown(&file, Some(self.uid), Some(self.gid)).with_context(cannot)?;
        file.set_permissions(Permissions::from_mode(self.mode)).with_context(cannot)?;
        fs::rename(&new, &place).with_context(cannot)
    }
}

impl Activation<'_> {
    /// Makes what the current generation wants: nothing of it outlives a boot.
    pub fn bring_current_secrets(&mut self) -> Result<()> {
        match generation::current_number(&self.state)? {
            Some(number) => self.bring_secrets(&self.state.generation(number)),
            None => Ok(()),
        }
    }

    /// Makes those that the generation in `directory` wants and that are not there. All are decrypted before the first is written.
    pub(super) fn bring_secrets(&mut self, directory: &Path) -> Result<()> {
        if !self.host.is_running() {
            return Ok(());
        }
        let wanted = Secrets::of(directory)?.0;
        let missing: Vec<Wanted> =
            wanted.into_iter().filter(|wanted| !wanted.is_there(&self.state)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let folder = self.state.on_host(secret::MEMORY);
        make_folder(&folder)?;
        if !self.host.is_in_memory(&folder)? {
            refuse!("{} is not in memory, and secrets in clear are written nowhere else", folder.display());
        }
        let names: BTreeSet<&SecretName> = missing.iter().map(|wanted| &wanted.secret).collect();
        let told: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        self.report.line("decrypt", &told.join(", "));
        let plain = names.into_iter().map(|name| Ok((name, self.decrypt(directory, name)?)));
        let plain = plain.collect::<Result<BTreeMap<&SecretName, Vec<u8>>>>()?;
        for wanted in &missing {
            make_folder(&folder.join(wanted.digest.hex()))?;
            wanted.make(&self.state, plain.get(&wanted.secret).map_or(&[], Vec::as_slice))?;
        }
        Ok(())
    }

    fn decrypt(&self, directory: &Path, name: &SecretName) -> Result<Vec<u8>> {
        let file = directory.join(secret::encrypted(name)?.as_str());
        self.host.decrypt(&file).map_err(|error| {
            Refusal::new(format!("the secret `{name}` cannot be decrypted on this host: {error:#}"))
                .help("if the host has a new key: correct its `ssh_key`, then `rickbuild secrets rekey`")
                .into()
        })
    }

    /// Removes what neither the current generation nor the one before it wants. That can wait, so it refuses nothing.
    pub(super) fn forget_secrets(&mut self) {
        let forgotten = self.needed_secrets().and_then(|needed| forget(&self.state, &needed));
        if let Err(error) = forgotten {
            self.report.line("left", &format!("old secrets in memory: {error:#}"));
        }
    }

    fn needed_secrets(&self) -> Result<BTreeSet<Digest>> {
        let current = self.known.current(&self.state)?;
        let before = current.as_ref().map(|current| generation::made_after(&self.state, current.number));
        let directories = current.as_ref().map(|current| current.directory.clone()).into_iter();
        let before = before.transpose()?.flatten().map(|before| self.state.generation(before));
        let directories = directories.chain(before);
        let mut needed = BTreeSet::new();
        for directory in directories {
            needed.extend(Secrets::of(&directory)?.digests());
        }
        Ok(needed)
    }
}

/// The file with a secret of the generation in `directory` that only root can read, if it has one: the path on the host.
pub(super) fn path_for_root(directory: &Path, name: &SecretName) -> Result<Option<String>> {
    let of_root = |wanted: &Wanted| wanted.secret == *name && wanted.uid == 0;
    Ok(Secrets::of(directory)?.0.into_iter().find(of_root).map(|wanted| wanted.path))
}

/// Removes all but these.
pub(super) fn forget(state: &State, needed: &BTreeSet<Digest>) -> Result<()> {
    for (digest, path) in in_memory(state)? {
        if !needed.contains(&digest) {
            durable::remove_tree_if_there(&path)?;
        }
    }
    Ok(())
}

/// What is there. What is named otherwise belongs to somebody else.
fn in_memory(state: &State) -> Result<Vec<(Digest, PathBuf)>> {
    let folder = state.on_host(secret::MEMORY);
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        found.extend(entry.file_name().to_str().and_then(Digest::from_hex).map(|hex| (hex, entry.path())));
    }
    Ok(found)
}

/// Who knows a path below it gets there; what is there is for root to see.
fn make_folder(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    durable::make_directory(folder, 0o711).map(drop)
}

/// The encrypted files among those of a bundle, by the names of the secrets.
pub(super) fn name_of(path: &BundlePath) -> Option<SecretName> {
    path.as_str().strip_prefix("secrets/")?.strip_suffix(".age")?.parse().ok()
}
