//! The nouns of a host as modules state them, with the places where they were stated. What `evaluate` gives and `check` takes.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod build;
mod image;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::path_pattern::PathPattern;
use super::secret;
use super::secret::folder::Folder;
use super::source::{SourcePath, Sources, Span};
use crate::bundle::digest::Digest;
use crate::bundle::manifest::{Keep, OnChange};
pub use build::{Archive, Base, BaseKind, Build, MAX_DEPTH, Outside, Source, Tell};
pub use image::{Copied, EmptyDirectory, Image, Layer, Piece, Written};

/// Where a host has its current generation.
pub const CURRENT: &str = "/var/lib/rick/current";

/// An evaluated environment: plain data, nothing of the language left in it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Evaluation {
    /// The environment's name.
    pub environment: String,
    /// Its hosts, in the order of the source.
    pub hosts: Vec<Host>,
    /// The images of registries that containers run come in the bundle.
    pub embeds: bool,
    /// Who can read all its secrets beside the hosts.
    pub operators: Vec<PublicKey>,
    /// The texts of the files that were loaded.
    pub sources: Sources,
    /// The digest of each of these files.
    pub read: BTreeMap<SourcePath, Digest>,
}

impl Evaluation {
    /// Every file or tree of the source that a host gets: its path, the place that names it, and the service that wants it.
    /// Of its secrets, those that `secrets` holds: what is wrong with the others is told with them.
    pub fn payloads(&self, secrets: &Folder) -> Vec<(SourcePath, &Span, &Service)> {
        let mut payloads = Vec::new();
        for (host, service, item) in self.items() {
            let mut tell = |path: &SourcePath, place| payloads.push((path.clone(), place, service));
            match &item.noun {
                Noun::File(File { content: Content::Payload(path), .. }) => tell(path, item.place("source")),
                Noun::Image(image) => image.copied(item.place("layers"), &mut tell),
                Noun::Secret(Secret { name }) if host.ssh_key.is_some() => {
                    // What is no name is told elsewhere.
                    let file = name.parse().map(|name| secret::file_of(&self.environment, &name));
                    if let Some(file) = file.ok().filter(|file| secrets.holds(file)) {
                        tell(&file, item.place(name));
                    }
                }
                _ => {}
            }
        }
        payloads
    }

    fn items(&self) -> impl Iterator<Item = (&Host, &Service, &Item)> {
        let services =
            self.hosts.iter().flat_map(|host| host.services.iter().map(move |service| (host, service)));
        services.flat_map(|(host, service)| service.items.iter().map(move |item| (host, service, item)))
    }
}

/// A host and what its services ask for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The domain below which its sites live.
    pub domain: String,
    /// Its operating system, which decides the versions of systemd and Podman.
    pub os: Os,
    /// What it has its secrets encrypted to; without one, it keeps its own.
    pub ssh_key: Option<PublicKey>,
    /// Where it is declared.
    pub span: Span,
    /// Its services, providers before consumers.
    pub services: Vec<Service>,
}

/// A public key, as it was stated.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PublicKey {
    /// One line.
    pub text: String,
    /// Where it stands.
    pub span: Span,
}

/// Operating systems that rick knows the versions of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Os {
    /// Debian 13: systemd 257, Podman 5.4, Caddy 2.6.
    #[serde(rename = "debian-13")]
    Debian13,
    /// Debian 14, in the making: systemd 262, Podman 5.8, Caddy 2.11.
    #[serde(rename = "debian-14")]
    Debian14,
    /// Arch Linux, rolling: at least what Debian 14 has.
    #[serde(rename = "arch")]
    Arch,
}

/// One instance of a module on a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Service {
    /// The instance's name, unique on its host.
    pub name: String,
    /// The module's name.
    pub module: String,
    /// The call in the environment.
    pub span: Span,
    /// Where it was before, `ENVIRONMENT/HOST`, and where that stands.
    pub moved_from: Option<(String, Span)>,
    /// What its `build` and `finish` returned.
    pub items: Vec<Item>,
}

/// A noun and the call that stated it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Item {
    /// The noun.
    pub noun: Noun,
    /// The call of its constructor.
    pub span: Span,
    /// Places inside that call: argument name, or dictionary key, → its literal. For carets; a name may be missing.
    pub places: BTreeMap<String, Span>,
}

impl Item {
    /// The place of an argument or key, or of the whole call.
    pub fn place(&self, name: &str) -> &Span {
        self.places.get(name).unwrap_or(&self.span)
    }
}

/// What modules can ask for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Noun {
    /// A Unix group.
    Group(Group),
    /// A Unix user.
    User(User),
    /// A directory on the host.
    Directory(Directory),
    /// A configuration file or tree.
    File(File),
    /// A systemd unit, a drop-in for one, or a mask over one.
    Unit(Unit),
    /// An addition to every unit of a type.
    TypeDropIn(TypeDropIn),
    /// A Quadlet file.
    Quadlet(Quadlet),
    /// A web site; served by whichever module collects sites.
    Site(Site),
    /// A container image to build.
    Image(Box<Image>),
    /// A claim on a port of the host.
    Port(Port),
    /// Something that answers when the service is well.
    Probe(Probe),
    /// A program that judges files before anything stops.
    Validation(Validation),
    /// A program that the host must have.
    Program(Program),
    /// A secret that the host must have.
    Secret(Secret),
    /// A directory that outlives generations.
    State(State),
    /// What outlives generations in the care of another service.
    Dump(Dump),
    /// Where copies of all that are kept.
    Repository(Repository),
}

/// `group(name, members = [], id = None)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Users that join it.
    pub members: Vec<String>,
    /// A pinned number.
    pub id: Option<u32>,
}

/// `user(name, groups = [], home = "/nonexistent", shell = None, id = None, external = False)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its name; its own group has the same.
    pub name: String,
    /// Further groups that it joins.
    pub groups: Vec<String>,
    /// What stands in the comment field of passwd.
    pub description: String,
    /// Its home directory.
    pub home: String,
    /// A pinned number.
    pub id: Option<u32>,
}

/// `directory(path, mode, user, group)`, `state(…)`: made by systemd-tmpfiles, never removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Where.
    pub path: String,
    /// Permission bits, setgid included.
    pub mode: u32,
    /// Its owner.
    pub user: String,
    /// Its group.
    pub group: String,
}

/// `state(path, …, copied = "live")`: a directory that holds what must outlive generations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The directory.
    pub directory: Directory,
    /// The service is stopped while it is copied.
    pub at_rest: bool,
}

/// `dump(name, user, save, restore, empty, clear, after = [])`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// What it is called.
    pub name: String,
    /// Who runs the commands.
    pub user: String,
    /// Writes it to standard output.
    pub save: Vec<String>,
    /// Takes it from standard input.
    pub restore: Vec<String>,
    /// Says whether there is nothing.
    pub empty: Vec<String>,
    /// Removes it.
    pub clear: Vec<String>,
    /// The units without which the commands do not work.
    pub after: Vec<String>,
}

/// `repository(address, password, credentials = None, ssh_key = None, known_hosts = None, keep = {}, restores = True)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repository {
    /// Its address.
    pub address: String,
    /// The secret that opens it.
    pub password: String,
    /// The secret with what its server asks for.
    pub credentials: Option<String>,
    /// The secret with the private key, and the file with the public keys of its host.
    pub ssh: Option<(String, String)>,
    /// What is kept.
    pub keep: BTreeMap<Keep, u32>,
    /// What is absent is restored from here.
    pub restores: bool,
}

/// `file(name, content | source, stable = False, executable = False)`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    /// Its path inside the service's configuration directory.
    pub name: String,
    /// What it holds.
    pub content: Content,
    /// The folder that it stands in, by default the service's. A unit that names a file of one moves whenever the folder changes.
    pub object: String,
    /// At a path that stays (`/var/lib/rick/current/etc/…`), for what reloads; else in the store, where a change changes the path.
    pub stable: bool,
    /// Mode 0755 in place of 0644.
    pub executable: bool,
}

impl File {
    /// Where it stands in the bundle, and below [`CURRENT`].
    pub fn place(&self) -> String {
        let folder = if self.stable { "etc" } else { "objects" };
        format!("{folder}/{}/{}", self.object, self.name)
    }
}

/// Where the bytes of a file come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Content {
    /// Generated text, tokens included.
    Text(String),
    /// A file or a tree of the source, byte for byte.
    Payload(SourcePath),
}

/// Sections of a unit or Quadlet, in order; a key may come more than once.
pub type Sections = Vec<(String, Vec<(String, String)>)>;

/// The body of a unit or Quadlet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Body {
    /// From dictionaries.
    Sections(Sections),
    /// A whole file, pasted or from the source tree; the path if it is from there.
    Text(String, Option<SourcePath>),
}

/// What a switch does with a unit: `on_change = "restart", optional = False, barrier = False`. Whoever says nothing leaves it to others
/// who speak of the same unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handling {
    /// What is done when it changed, if that is said.
    pub on_change: Option<OnChange>,
    /// The host is well without it.
    pub optional: bool,
    /// What it does once it was started anew cannot be undone.
    pub barrier: bool,
}

impl Handling {
    /// What is said here, and where nothing is, what another says.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            on_change: self.on_change.or(other.on_change),
            optional: self.optional || other.optional,
            barrier: self.barrier || other.barrier,
        }
    }
}

/// `unit(name, {…} | text | source, …)`, `mask(name)`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unit {
    /// The unit's name, `valkey-server.service`.
    pub name: String,
    /// What it says.
    pub body: UnitBody,
    /// Files (by their `name`, all of the same service) whose change only needs a reload.
    pub reload_on: Vec<String>,
    /// It stands in the place of a unit of the distribution, knowingly.
    pub replaces: bool,
    /// Of a drop-in: what starts the unit is the distribution's business, and rick does not.
    pub follows: bool,
    /// What a switch does with it.
    pub handling: Handling,
}

/// The forms of a unit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum UnitBody {
    /// A whole unit.
    Whole(Body),
    /// A drop-in `NAME.d/FILE.conf` for a unit of the distribution: the file's stem and its body.
    DropIn(String, Body),
    /// A link to /dev/null in its place.
    Mask,
}

/// `type_drop_in(kind, {…}, drop_in)`: systemd reads `KIND.d/DROP_IN.conf` for every unit of that type.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TypeDropIn {
    /// The type of units, `service`.
    pub kind: String,
    /// The file's name without `.conf`.
    pub stem: String,
    /// What it says.
    pub body: Body,
}

/// `quadlet(name, {…} | text | source, …)`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Quadlet {
    /// The file's name, `whoami.container`.
    pub name: String,
    /// What it says.
    pub body: Body,
    /// The unit that is made of it stands in the place of one of the distribution, knowingly.
    pub replaces: bool,
    /// What a switch does with that unit.
    pub handling: Handling,
}

/// `site(host, auth, proxy | files, public = [], protected = [])`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// The complete host name.
    pub host: String,
    /// Who may see it.
    pub auth: Auth,
    /// What answers.
    pub backend: Backend,
    /// Where it is otherwise: on a `forward` site the paths that everybody may see, on a `public` one those for which the proxy asks.
    pub exceptions: Vec<PathPattern>,
}

impl Site {
    /// For some of its paths the proxy asks the forward-auth endpoint first.
    pub fn asks(&self) -> bool {
        match self.auth {
            Auth::Forward => true,
            Auth::Public => !self.exceptions.is_empty(),
            Auth::Oidc => false,
        }
    }
}

/// Who may see a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auth {
    /// Everybody.
    Public,
    /// The application signs people in by OIDC.
    Oidc,
    /// The proxy asks the forward-auth endpoint first.
    Forward,
}

/// What answers a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Backend {
    /// Files below a directory (a path, usually with an object token).
    Files(String),
    /// An HTTP server: `127.0.0.1:8080` or `unix//run/x.sock`.
    Proxy(String),
}

/// `secret(name)`: what only who needs it may read; from a file of the source tree, or a credential of the host's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// The credential's name.
    pub name: String,
}

/// `port(number, protocol = "tcp", address = "0.0.0.0")`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Port {
    /// The number.
    pub number: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The address that is listened on; `0.0.0.0` and `::` are all.
    pub address: String,
}

/// `probe(unix = PATH | tcp = ADDRESS | http = ADDRESS or PATH, … | command = […], user = None | unit = NAME, timeout = 30)`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// What is asked.
    pub target: ProbeTarget,
    /// How long to go on asking, in seconds.
    pub timeout_s: u32,
}

/// What a probe asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ProbeTarget {
    /// A Unix socket accepts.
    Unix(String),
    /// A TCP port accepts.
    Tcp(String),
    /// A web server answers.
    Http {
        /// Address and port, or the path of a Unix socket.
        to: String,
        /// The path and query.
        path: String,
        /// What stands in `Host:`.
        host: String,
        /// The status that is expected.
        status: Option<i32>,
    },
    /// A program ends well.
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// Whose rights it has.
        user: Option<String>,
    },
    /// A unit runs, or ended well: its name, or that of the Quadlet file that it is made of.
    Unit(String),
}

/// `validate(command, files)`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Validation {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The places in the bundle of the files that it judges, all of the same service.
    pub files: Vec<String>,
}

/// `program(path, package)`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Program {
    /// Where the host has it.
    pub path: String,
    /// The package that brings it.
    pub package: String,
}
