//! What a bundle says about one host: typed, sorted, versioned.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::names::{AccountName, BundlePath, HostName, HostPath, Label, SecretName, UnitName};

/// The version of the format that is written. Changing anything in this file is another one.
pub const FORMAT: u32 = 2;

/// The oldest version that is still read, since hosts have generations of it: 1 knew neither secrets nor state.
pub const OLDEST_FORMAT: u32 = 1;

/// The config blob of a host manifest: everything that the activator is told beside the files themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostManifest {
    /// [`OLDEST_FORMAT`] to [`FORMAT`].
    pub format: u32,
    /// The environment that was compiled.
    pub environment: Label,
    /// The host that this is for.
    pub host: HostName,
    /// The users and groups that the files name; all must exist after systemd-sysusers ran.
    pub accounts: Accounts,
    /// Every file of the host layer.
    pub files: BTreeMap<BundlePath, FileEntry>,
    /// Symbolic links below `units/`: path → target. A target is `../NAME`, `NAME` or `/dev/null`.
    pub links: BTreeMap<BundlePath, String>,
    /// The units that rick runs, in an order in which each stands after those that it is ordered after.
    pub units: Vec<UnitEntry>,
    /// Container images: `localhost/NAME:TAG` → the digest of the image manifest.
    pub images: BTreeMap<String, Digest>,
    /// Programs that the host must have before anything is touched.
    pub programs: BTreeMap<HostPath, Program>,
    /// What must answer once the switch is done.
    pub probes: Vec<Probe>,
    /// Secrets that the host must have before anything is touched → the service instances that need them. Each is a credential of
    /// systemd, `/etc/credstore.encrypted/NAME`.
    #[serde(default)]
    pub secrets: BTreeMap<SecretName, Vec<Label>>,
    /// Directories that hold what must outlive generations → the service instance whose data it is.
    #[serde(default)]
    pub states: BTreeMap<HostPath, Label>,
}

/// Names whose numbers are the host's to give; a pinned number must come out as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// User name → pinned uid, or null.
    pub users: BTreeMap<AccountName, Option<u32>>,
    /// Group name → pinned gid, or null.
    pub groups: BTreeMap<AccountName, Option<u32>>,
}

/// One regular file of the host layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Permission bits: 0o644 or 0o755.
    pub mode: u32,
    /// The text holds [`super::token`]s that are replaced on the host.
    pub tokens: bool,
}

/// One unit that rick runs or hides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitEntry {
    /// The unit's name as systemd knows it (`whoami.service` for `whoami.container`).
    pub name: UnitName,
    /// The service instance that it belongs to.
    pub service: Label,
    /// What rick does with it.
    pub role: Role,
    /// The files whose realised bytes, hashed together, are the unit's restart key.
    pub restart_on: Vec<BundlePath>,
    /// The same for its reload key. Empty: it never reloads.
    pub reload_on: Vec<BundlePath>,
}

/// What rick does with a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Started with `rick.target` and kept in step.
    Run,
    /// Not started by rick (a timer, a socket or another unit does it), but restarted when it changed and is running.
    Follow,
    /// Hidden behind a link to /dev/null; stopped if it runs.
    Mask,
}

/// A program that a host must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The package that brings it, for the message.
    pub package: String,
    /// The service instances that need it.
    pub needed_by: Vec<Label>,
}

/// Something that answers when a service is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The service instance that it speaks for.
    pub service: Label,
    /// What is asked.
    pub check: Check,
    /// How long to go on asking, in seconds.
    pub timeout_s: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Check {
    /// A connection to a Unix stream socket is accepted.
    Unix {
        /// The socket.
        path: HostPath,
    },
    /// A TCP connection is accepted.
    Tcp {
        /// Address and port, `127.0.0.1:8080`.
        address: String,
    },
}

impl HostManifest {
    /// Reads a manifest, the format version first.
    ///
    /// # Errors
    /// What is wrong with it, in words for people.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = serde_json::from_slice(bytes)
            .map_err(|error| format!("the host manifest is not readable: {error}"))?;
        if format > FORMAT {
            return Err(format!(
                "the bundle has format {format}, and this rick-activate knows {FORMAT}: upgrade rick-activate on this host"
            ));
        }
        if format < OLDEST_FORMAT {
            return Err(format!(
                "the bundle has format {format}, and this rick-activate knows {FORMAT}: compile it again"
            ));
        }
        serde_json::from_slice(bytes).map_err(|error| format!("the host manifest is not valid: {error}"))
    }
}
