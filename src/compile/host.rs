//! A checked host: names are parsed, references resolve, bodies are sections. What `check` gives and `lower` takes.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod image;

use std::collections::{BTreeMap, BTreeSet};

use super::item::{Content, Handling, Os, Sections};
use super::outside::Reference;
use super::secret::recipient::Recipient;
use super::source::{SourcePath, Span};
use crate::bundle::digest::Digest;
use crate::bundle::manifest::{Dump, Home, Probe, Repository, Validation};
use crate::bundle::names::{AccountName, BundlePath, HostName, HostPath, Label, SecretName, UnitName};
pub use image::{Architecture, Base, BaseKind, Build, Image, Layer, MAX_LAYERS, Piece, Settings, Source};

/// Everything that one host gets.
#[derive(Clone, Debug)]
pub struct Host {
    /// The environment that it belongs to.
    pub environment: Label,
    /// Its name.
    pub name: HostName,
    /// Its operating system.
    pub os: Os,
    /// What it has its secrets encrypted to; without one, it keeps its own.
    pub ssh_key: Option<Recipient>,
    /// All groups: name → pinned number and members; a user's own group is here only if it was declared.
    pub groups: BTreeMap<AccountName, Group>,
    /// All users.
    pub users: BTreeMap<AccountName, User>,
    /// All directories.
    pub directories: BTreeMap<HostPath, Directory>,
    /// All files, at their path in the bundle (`objects/INSTANCE/…` or `etc/INSTANCE/…`).
    pub files: BTreeMap<BundlePath, File>,
    /// Units, drop-ins and masks.
    pub units: Vec<Unit>,
    /// What is added to every unit of a type.
    pub type_drop_ins: Vec<TypeDropIn>,
    /// Quadlet files.
    pub quadlets: Vec<Quadlet>,
    /// Images to build, by name.
    pub images: BTreeMap<Label, Image>,
    /// Images of registries that come in the bundle: as Quadlet files name them → which, and where that is stated.
    pub embedded: BTreeMap<String, (Reference, Span)>,
    /// Probes.
    pub probes: Vec<Probe>,
    /// Validations; a file of one may be a tree.
    pub validations: Vec<Validation>,
    /// Programs: path → package and the services that need it.
    pub programs: BTreeMap<HostPath, (String, Vec<Label>)>,
    /// Secrets, by name.
    pub secrets: BTreeMap<SecretName, Secret>,
    /// Directories of `directories` that hold what must outlive generations → the service whose data it is.
    pub states: BTreeMap<HostPath, Label>,
    /// What services keep that is in no directory of theirs.
    pub dumps: Vec<Dump>,
    /// Services that are stopped while what they keep is copied.
    pub at_rest: BTreeSet<Label>,
    /// Where copies of all that are kept.
    pub repositories: BTreeMap<Label, Repository>,
    /// Services that come from another host.
    pub moved: BTreeMap<Label, Home>,
}

/// A secret.
#[derive(Clone, Debug, Default)]
pub struct Secret {
    /// The services that need it.
    pub needed_by: Vec<Label>,
    /// The file of the source tree that holds it, encrypted for the host; without one, it is the host's own.
    pub file: Option<SourcePath>,
}

/// A group.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// A pinned number.
    pub id: Option<u32>,
    /// Users that join it, from both sides (`group(members)` and `user(groups)`).
    pub members: BTreeSet<AccountName>,
}

/// A user.
#[derive(Clone, Debug)]
pub struct User {
    /// A pinned number.
    pub id: Option<u32>,
    /// The comment field.
    pub description: String,
    /// The home directory.
    pub home: HostPath,
}

/// A directory that systemd-tmpfiles makes.
#[derive(Clone, Debug)]
pub struct Directory {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub user: AccountName,
    /// Group.
    pub group: AccountName,
}

/// A file.
#[derive(Clone, Debug)]
pub struct File {
    /// What it holds: a `Payload` is one file or a tree, whose members then stand below the file's path.
    pub content: Content,
    /// Mode 0755 in place of 0644. Files of a payload tree are executable if the source says so.
    pub executable: bool,
}

/// A unit file, a drop-in or a mask.
#[derive(Clone, Debug)]
pub struct Unit {
    /// The service instance that states it.
    pub service: Label,
    /// The unit's name.
    pub name: UnitName,
    /// What it says.
    pub body: UnitBody,
    /// Files whose change only needs a reload.
    pub reload_on: Vec<BundlePath>,
    /// It stands in the place of a unit of the distribution, knowingly.
    pub replaces: bool,
    /// Of a drop-in: rick does not start the unit.
    pub follows: bool,
    /// What a switch does with it.
    pub handling: Handling,
}

/// The forms of a unit.
#[derive(Clone, Debug)]
pub enum UnitBody {
    /// A whole unit.
    Whole(Sections),
    /// A drop-in: its file name without `.conf`, and what it says.
    DropIn(Label, Sections),
    /// A link to /dev/null.
    Mask,
}

/// A drop-in for every unit of a type.
#[derive(Clone, Debug)]
pub struct TypeDropIn {
    /// The service instance that states it.
    pub service: Label,
    /// The type of units, `service`.
    pub kind: String,
    /// Its file name without `.conf`.
    pub stem: Label,
    /// What it says.
    pub sections: Sections,
}

/// A Quadlet file.
#[derive(Clone, Debug)]
pub struct Quadlet {
    /// The service instance that states it.
    pub service: Label,
    /// The file's name, `whoami.container`: a plain file name.
    pub name: BundlePath,
    /// The unit that Quadlet makes of it.
    pub unit: UnitName,
    /// What it says. A value `localhost/NAME` of `Image=` names an image of this host; `lower` writes its digest.
    pub sections: Sections,
    /// What `rick.lock` says of an image of a registry that it names by a tag; `lower` writes it.
    pub pinned: Option<Digest>,
    /// The unit stands in the place of one of the distribution, knowingly.
    pub replaces: bool,
    /// What a switch does with the unit.
    pub handling: Handling,
}
