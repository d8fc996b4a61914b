//! What a bundle says about one host: typed, sorted, versioned.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::digest::Digest;
use super::names::{AccountName, BundlePath, HostName, HostPath, Label, SecretName, UnitName};

/// The version of the format that is written. Changing anything in this file is another one.
pub const FORMAT: u32 = 6;

/// The oldest version that is still read, since hosts have generations of it: 1 knew neither secrets nor state, 2 neither serials,
/// versions and validations, nor how a unit wants to be changed, nor the digests of files, 3 no images to pull, 4 no secrets in the bundle, 5 of
/// what services keep directories only, and nowhere to keep copies.
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
    /// Counts up from build to build, if the builder counts: a host refuses one that is lower than what it had.
    #[serde(default, skip_serializing_if = "is_default")]
    pub serial: Option<u64>,
    /// The users and groups that the files name; all must exist after systemd-sysusers ran.
    pub accounts: Accounts,
    /// Every file of the host layer.
    #[serde(deserialize_with = "each_once")]
    pub files: BTreeMap<BundlePath, FileEntry>,
    /// Symbolic links below `units/`: path → target. A target is `../NAME`, `NAME` or `/dev/null`.
    #[serde(deserialize_with = "each_once")]
    pub links: BTreeMap<BundlePath, String>,
    /// The units that rick runs, in an order in which each stands after those that it is ordered after.
    pub units: Vec<UnitEntry>,
    /// Container images: `localhost/NAME:TAG` → the digest of the image manifest.
    #[serde(deserialize_with = "each_once")]
    pub images: BTreeMap<String, Digest>,
    /// Images of registries that containers run, `REGISTRY/REPOSITORY@sha256:…`: they are there before anything stops.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pulls: BTreeSet<String>,
    /// Programs that the host must have before anything is touched.
    #[serde(deserialize_with = "each_once")]
    pub programs: BTreeMap<HostPath, Program>,
    /// The versions that keys of the units and Quadlets need.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "each_once")]
    pub versions: BTreeMap<Versioned, Needed>,
    /// Programs of the host that judge files of a generation before anything stops.
    #[serde(default, skip_serializing_if = "is_default")]
    pub validations: Vec<Validation>,
    /// What must answer once the switch is done.
    pub probes: Vec<Probe>,
    /// Secrets → the service instances that need them. Those that are not among `files`, as [`super::secret::encrypted`] names them, the host must
    /// have before anything is touched: each is a credential of systemd, `/etc/credstore.encrypted/NAME`.
    #[serde(default, deserialize_with = "each_once")]
    pub secrets: BTreeMap<SecretName, Vec<Label>>,
    /// Directories that hold what must outlive generations → the service instance whose data it is.
    #[serde(default, deserialize_with = "each_once")]
    pub states: BTreeMap<HostPath, Label>,
    /// What services keep that is in no directory of theirs.
    #[serde(default, skip_serializing_if = "is_default")]
    pub dumps: Vec<Dump>,
    /// Services that are stopped while what they keep is copied.
    #[serde(default, skip_serializing_if = "is_default")]
    pub at_rest: BTreeSet<Label>,
    /// Where copies of all that are, by the service instance that says so.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "each_once")]
    pub repositories: BTreeMap<Label, Repository>,
    /// Services that come from another host, and do not start before what they keep has come.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "each_once")]
    pub moved: BTreeMap<Label, Home>,
}

/// What a service keeps in the care of another one: its database. Each command is a program and its arguments, which runs as `user`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dump {
    /// The service instance whose data it is.
    pub service: Label,
    /// What it is called, once for each service.
    pub name: Label,
    /// Who runs the commands.
    pub user: AccountName,
    /// Writes all of it to its standard output.
    pub save: Vec<String>,
    /// Takes what `save` wrote from its standard input, where there is nothing yet; all of it or nothing.
    pub restore: Vec<String>,
    /// Exits with 0 if there is nothing, with 1 if there is something; anything else is no answer.
    pub empty: Vec<String>,
    /// Removes it, so that `restore` can come.
    pub clear: Vec<String>,
}

/// A repository of restic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository {
    /// Its address, as restic takes it.
    pub address: String,
    /// The secret that opens it.
    pub password: SecretName,
    /// The secret with what its server asks for: lines of `NAME=VALUE`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub credentials: Option<SecretName>,
    /// How its host is reached, if it is one that is reached by SSH.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ssh: Option<Ssh>,
    /// What is kept of each service: restic's word → how many. Nothing: all of it.
    #[serde(default, skip_serializing_if = "is_default", deserialize_with = "each_once")]
    pub keep: BTreeMap<Keep, u32>,
    /// What is absent is restored from here.
    pub restores: bool,
}

/// How a host is reached by SSH.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    /// The secret with the private key.
    pub key: SecretName,
    /// The file with the public keys of the other host.
    pub known_hosts: HostPath,
}

/// A rule of what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Keep {
    /// The last ones, whatever their age.
    Last,
    /// The last one of each of the last days.
    Daily,
    /// The same for weeks.
    Weekly,
    /// The same for months.
    Monthly,
}

impl Keep {
    /// The rule that restic has this word for.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Last, Self::Daily, Self::Weekly, Self::Monthly]
            .into_iter()
            .find(|rule| rule.to_string() == word)
    }
}

impl Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Last => "last",
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        })
    }
}

/// A host of an environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Home {
    /// The environment.
    pub environment: Label,
    /// The host.
    pub host: HostName,
}

impl Home {
    /// The host that a manifest is for.
    pub fn of(manifest: &HostManifest) -> Self {
        Self { environment: manifest.environment.clone(), host: manifest.host.clone() }
    }
}

impl Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.environment, self.host)
    }
}

impl FromStr for Home {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (environment, host) =
            text.split_once('/').ok_or("a host of an environment is written ENVIRONMENT/HOST")?;
        Ok(Self { environment: environment.parse()?, host: host.parse()? })
    }
}

/// Names whose numbers are the host's to give; a pinned number must come out as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accounts {
    /// User name → pinned uid, or null.
    #[serde(deserialize_with = "each_once")]
    pub users: BTreeMap<AccountName, Option<u32>>,
    /// Group name → pinned gid, or null.
    #[serde(deserialize_with = "each_once")]
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
    /// The digest of its bytes. Those of a text with tokens are known on the host only; and formats before 3 said it of none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub digest: Option<Digest>,
    /// Its size in bytes, if `digest` is there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub size: u64,
}

impl FileEntry {
    /// A text whose tokens are replaced on the host.
    pub fn with_tokens(mode: u32) -> Self {
        Self { mode, tokens: true, digest: None, size: 0 }
    }

    /// A file that lies on the host as it is in the bundle.
    pub fn as_it_is(mode: u32, digest: Digest, size: u64) -> Self {
        Self { mode, tokens: false, digest: Some(digest), size }
    }
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
    /// What is done when its restart key changed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_change: OnChange,
    /// The host is well without it: that it failed is a warning.
    #[serde(default, skip_serializing_if = "is_default")]
    pub optional: bool,
    /// Once it was started anew, what it did cannot be undone by going back: it moves a database to a new schema, say.
    #[serde(default, skip_serializing_if = "is_default")]
    pub barrier: bool,
    /// It knowingly takes the place of a unit of the distribution.
    #[serde(default, skip_serializing_if = "is_default")]
    pub replaces: bool,
}

impl UnitEntry {
    /// A unit that is restarted when it changes, and of which nothing else is said.
    pub fn new(
        name: UnitName,
        service: Label,
        role: Role,
        restart_on: Vec<BundlePath>,
        reload_on: Vec<BundlePath>,
    ) -> Self {
        Self {
            name,
            service,
            role,
            restart_on,
            reload_on,
            on_change: OnChange::default(),
            optional: false,
            barrier: false,
            replaces: false,
        }
    }
}

/// What is done to a running unit whose definition, or something that it reads, changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnChange {
    /// It is restarted, under the new definition.
    #[default]
    Restart,
    /// It is reloaded.
    Reload,
    /// It is stopped under the old definition, and started under the new one.
    StopStart,
    /// It goes on as it is; the report says so.
    Nothing,
}

/// A program of the host that has versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Versioned {
    /// systemd, `257`.
    Systemd,
    /// Podman, `5.4`.
    Podman,
}

impl Display for Versioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Systemd => "systemd",
            Self::Podman => "podman",
        })
    }
}

/// The version that is needed of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needed {
    /// Major and minor version; systemd has no minor one, so 0.
    pub at_least: (u32, u32),
    /// What needs it, for the message: `` `RestartSteps=` of `app.service` ``.
    pub because: String,
}

/// A program of the host that judges files of a generation before anything stops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// The service instance whose files they are.
    pub service: Label,
    /// Program and arguments. Paths below `/var/lib/rick/current/` mean the generation that is judged. It runs as nobody, without
    /// network, and writes nowhere; exit status 0 is a yes.
    pub command: Vec<String>,
    /// The files that it judges. Those that are as they were are not judged again.
    pub files: Vec<BundlePath>,
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
    /// A GET over plain HTTP is answered with the status that is expected.
    Http {
        /// Who is asked: address and port, or the path of a Unix socket.
        to: String,
        /// The path and query, from `/` on.
        path: String,
        /// What stands in `Host:`.
        host: String,
        /// The status that is expected; `None`: any from 200 to 399.
        status: Option<u16>,
    },
    /// A program exits with status 0.
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// Whose rights it has; `None`: nobody's.
        user: Option<AccountName>,
    },
    /// A unit runs, or is over and went well.
    Unit {
        /// The unit.
        unit: UnitName,
    },
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path } => write!(f, "unix {path}"),
            Self::Tcp { address } => write!(f, "tcp {address}"),
            Self::Http { to, path, host, status } => {
                write!(f, "http {to} GET {path} Host: {host}")?;
                status.map_or(Ok(()), |status| write!(f, ", {status}"))
            }
            Self::Command { command, user } => {
                write!(f, "command {}", command.join(" "))?;
                user.as_ref().map_or(Ok(()), |user| write!(f, " as {user}"))
            }
            Self::Unit { unit } => write!(f, "unit {unit}"),
        }
    }
}

/// Reads a map in which no key stands twice: of two, one reader takes the first, and another the last.
fn each_once<'de, D, K, V>(deserializer: D) -> Result<BTreeMap<K, V>, D::Error>
where
    D: Deserializer<'de>,
    K: Deserialize<'de> + Ord + Display,
    V: Deserialize<'de>,
{
    struct EachOnce<K, V>(PhantomData<(K, V)>);

    impl<'de, K, V> Visitor<'de> for EachOnce<K, V>
    where
        K: Deserialize<'de> + Ord + Display,
        V: Deserialize<'de>,
    {
        type Value = BTreeMap<K, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut all = BTreeMap::new();
            while let Some(key) = map.next_key::<K>()? {
                if all.contains_key(&key) {
                    return Err(A::Error::custom(format!("`{key}` stands there twice")));
                }
                all.insert(key, map.next_value()?);
            }
            Ok(all)
        }
    }

    deserializer.deserialize_map(EachOnce(PhantomData))
}

/// What is as usual is not written.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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
        // The name of a field that is not known stands in it as it came: it must not look like a line of ours.
        let said = |error: serde_json::Error| error.to_string().replace(char::is_control, "?");
        let Version { format } = serde_json::from_slice(bytes)
            .map_err(|error| format!("the host manifest is not readable: {}", said(error)))?;
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
        serde_json::from_slice(bytes)
            .map_err(|error| format!("the host manifest is not valid: {}", said(error)))
    }
}
