//! `rick.lock`: what rick takes from outside the source tree, and which one it is. `rickbuild lock` writes it, a build only reads it.
//!
//! ```toml
//! version = 1
//!
//! [images]                      # the digest of what a tag names: an index or a manifest
//! "docker.io/library/debian:13" = "sha256:…"
//!
//! [archives]
//! "https://example.com/x-1.0.tar.gz" = "sha256:…"
//!
//! [debian."trixie: gcc libc6-dev"]
//! snapshot = "20261128T081341Z"    # when the archive was like this
//! "debian/pool/main/g/gcc-14/gcc-14_14.2.0-19_amd64.deb" = "sha256:…"
//! ```
//!
//! One line for each thing, sorted, so that a change of one is a change of one line. What is in the file is as hostile as what servers
//! say: every name in it is parsed before it means anything.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod change;
mod edit;
mod parse;
mod plan;
mod pool;
mod snapshot;

use std::collections::BTreeMap;

use super::finding::Finding;
use super::outside::{Outside, Packages, Reference, Url};
use crate::bundle::digest::Digest;
pub use change::Change;
pub use edit::Edit;
pub use plan::{Anew, Plan};
pub use pool::PoolPath;
pub use snapshot::Snapshot;

/// The file's name, at the source root.
pub const FILE: &str = "rick.lock";
/// The version of its format that this program knows.
const VERSION: i64 = 1;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lock {
    images: BTreeMap<Reference, Digest>,
    archives: BTreeMap<Url, Digest>,
    debian: BTreeMap<Packages, Resolved>,
}

/// The files that some packages of Debian, and all that they depend on, are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// When the archive was like this.
    pub snapshot: Snapshot,
    /// The files, in the order of the lock.
    pub packages: Vec<Package>,
}

/// A file of a package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Where it is, in all mirrors.
    pub path: PoolPath,
    /// What it holds.
    pub digest: Digest,
}

/// Which one something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// The index or manifest of an image.
    Image(Reference, Digest),
    /// What a file holds.
    Archive(Url, Digest),
    /// The files of packages.
    Packages(Packages, Resolved),
}

impl Lock {
    /// Reads the text of the file. A lock with findings is not whole.
    pub fn parse(text: &str) -> (Self, Vec<Finding>) {
        parse::parse(text)
    }

    /// The digest of the index or manifest of an image: the one in its name, or that of its entry.
    pub fn image(&self, reference: &Reference) -> Option<Digest> {
        reference.digest().or_else(|| self.images.get(reference).copied())
    }

    /// The digest of a file.
    pub fn archive(&self, url: &Url) -> Option<Digest> {
        self.archives.get(url).copied()
    }

    /// The files that packages and all that they depend on are, in the order of the lock.
    pub fn packages(&self, packages: &Packages) -> Option<Vec<Package>> {
        self.resolved(packages).map(|resolved| resolved.packages.clone())
    }

    /// The same, and when that was.
    pub fn resolved(&self, packages: &Packages) -> Option<&Resolved> {
        self.debian.get(packages)
    }

    /// It says which one this is.
    pub fn knows(&self, outside: &Outside) -> bool {
        match outside {
            Outside::Image(reference) => self.image(reference).is_some(),
            Outside::Archive(url) => self.archives.contains_key(url),
            Outside::Packages(packages) => self.debian.contains_key(packages),
        }
    }

    /// What another lock says otherwise.
    pub fn changes_to(&self, other: &Self) -> Vec<Change> {
        change::between(self, other)
    }

    /// Everything that has an entry, in the order of the tables.
    pub fn entries(&self) -> impl Iterator<Item = Outside> {
        let images = self.images.keys().cloned().map(Outside::Image);
        let archives = self.archives.keys().cloned().map(Outside::Archive);
        images.chain(archives).chain(self.debian.keys().cloned().map(Outside::Packages))
    }
}

#[cfg(test)]
mod tests;
