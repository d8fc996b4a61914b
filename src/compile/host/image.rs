//! A checked image.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::bundle::names::{BundlePath, HostPath, Label};
use crate::compile::archive::Codec;
use crate::compile::outside::{Packages, Reference, Url};
use crate::compile::owner::Owner;
use crate::compile::selection::Selection;
use crate::compile::source::{SourcePath, Span};

/// The most layers that an image has: each is a directory that the kernel looks through for every name.
pub const MAX_LAYERS: usize = 60;

/// An image to build.
#[derive(Clone, Debug)]
pub struct Image {
    /// The processors that its programs are for.
    pub architecture: Architecture,
    /// How its layers are compressed.
    pub codec: Codec,
    /// The image below its own layers.
    pub base: Option<Base>,
    /// Its layers, lowest first.
    pub layers: Vec<Layer>,
    /// What its configuration says.
    pub settings: Settings,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
}

/// A kind of processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// x86-64.
    Amd64,
    /// 64-bit ARM.
    Arm64,
}

impl Architecture {
    /// That of every host that rick knows.
    pub const OF_HOSTS: Self = Self::Amd64;
    /// Its name in images.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// All of them, with the name of the platform.
    pub const PLATFORMS: [(&str, Self); 2] = [("linux/amd64", Self::Amd64), ("linux/arm64", Self::Arm64)];
}

/// What a container of an image is like unless it is told otherwise.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What is run.
    pub entrypoint: Vec<String>,
    /// Its default arguments.
    pub command: Vec<String>,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// Who it runs as: `1000`, `1000:1000`, or names of the image's own accounts.
    pub user: Option<String>,
    /// Where it runs; `/` if nothing is said.
    pub working_directory: Option<HostPath>,
    /// Ports that it listens on, `8080/tcp`.
    pub ports: BTreeSet<String>,
    /// Directories that hold data.
    pub volumes: BTreeSet<HostPath>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What tells it to stop.
    pub stop_signal: Option<String>,
}

/// One layer: what stands at a path.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The path in the image, without the leading `/`.
    pub at: BundlePath,
    /// What stands there.
    pub piece: Piece,
    /// Where it is stated.
    pub span: Span,
}

/// What stands at a path of an image.
#[derive(Clone, Debug)]
pub enum Piece {
    /// A file or a tree.
    Copied {
        /// Which.
        source: Source,
        /// What is taken of it.
        selection: Selection,
        /// Whose it is, with its directories.
        owner: Owner,
    },
    /// A file.
    Written {
        /// What it holds.
        text: String,
        /// Its permission bits.
        mode: u32,
        /// Whose it is.
        owner: Owner,
    },
    /// A symbolic link.
    Linked {
        /// Where it leads; short enough for a USTAR archive.
        target: String,
    },
    /// A directory.
    EmptyDirectory {
        /// Its permission bits.
        mode: u32,
        /// Whose it is.
        owner: Owner,
    },
}

/// Where the content of a layer, or an input of a build, comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file or tree of the source tree.
    Tree(SourcePath),
    /// A file of the network, and where it is stated.
    Archive(Url, Span),
    /// What a build leaves at a path below `/out`.
    Output(Box<Build>, BundlePath),
    /// What an image has at a path, without the leading `/`.
    Within(Box<Base>, BundlePath),
}

/// An image that others stand on.
#[derive(Clone, Debug)]
pub struct Base {
    /// Which.
    pub kind: BaseKind,
    /// Where it is stated.
    pub span: Span,
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            BaseKind::Upstream(reference) => reference.fmt(f),
            BaseKind::Debian(packages) => packages.fmt(f),
            BaseKind::Image(_) => f.write_str("an image of a module"),
        }
    }
}

/// The images that others can stand on.
#[derive(Clone, Debug)]
pub enum BaseKind {
    /// An image of a registry.
    Upstream(Reference),
    /// Packages of Debian.
    Debian(Packages),
    /// An image of a module.
    Image(Box<Image>),
}

/// A command that makes files.
#[derive(Clone, Debug)]
pub struct Build {
    /// What it is called, for people.
    pub name: Label,
    /// The file system that it runs in.
    pub root: Base,
    /// What stands at a path, without the leading `/`.
    pub inputs: BTreeMap<BundlePath, Source>,
    /// The program, and its arguments.
    pub command: Vec<String>,
    /// Environment variables.
    pub environment: BTreeMap<String, String>,
    /// What it makes, as paths below `/out`.
    pub outputs: BTreeSet<BundlePath>,
    /// How many processors it sees.
    pub cores: u32,
    /// Where it is stated.
    pub span: Span,
}
