//! Where a bundle comes from: what its build read, and what is in its images. Two documents for the tools of others, beside the bundle and
//! never in it: a statement in the words of in-toto and SLSA, and a bill of materials in those of CycloneDX.
//!
//! Both are made from what was checked and compiled: the digests that the build itself went by, and the entries of the lock that it asked
//! for. No clock, no random number and no name of a machine is in them, so whoever builds the same gets the same bytes.

mod bill;
mod contents;
mod files;
mod material;
mod package;
mod purl;
mod statement;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::emit::Layout;
use super::outside::Outside;
use super::store::Store;
use super::{Checked, Compiled};
use crate::bundle::digest::Digest;
use crate::bundle::names::HostName;
use crate::bundle::oci;
use contents::Contents;
use material::Material;

/// The type of what the statement says, for those who look for a statement of it.
pub const PREDICATE: &str = statement::PREDICATE;
/// The name of the program that both documents tell of.
const PROGRAM: &str = "rickbuild";

/// All that the documents are made of.
pub struct Provenance {
    environment: String,
    serial: Option<u64>,
    /// The files of the source tree that were read, by their paths.
    files: BTreeMap<String, Digest>,
    /// What was taken from outside of it, and each thing that this is.
    materials: BTreeMap<Outside, Vec<Material>>,
    hosts: BTreeMap<HostName, Host>,
    images: BTreeMap<String, Image>,
    bundle: Digest,
}

/// A host of the bundle.
struct Host {
    digest: Digest,
    /// The images that its bundle brings, by reference.
    images: BTreeSet<String>,
    /// The images of registries that it pulls.
    pulled: BTreeSet<Outside>,
}

/// An image of the bundle.
struct Image {
    digest: Digest,
    contents: Contents,
}

impl Provenance {
    /// What is known of a build: of what was checked, what was compiled, and the layout of that. `store` has what was fetched for it.
    ///
    /// # Errors
    /// [`Refused`](super::finding::Refused) if a package is not on this machine any more; what the machine says.
    pub fn of(
        environment: &str,
        checked: &Checked,
        compiled: &Compiled,
        layout: &Layout,
        store: &Store,
    ) -> Result<Self> {
        let mut this = Self {
            environment: environment.to_owned(),
            serial: compiled.hosts.iter().find_map(|(lowered, _)| lowered.manifest.serial),
            files: files::read(checked)?,
            materials: material::all(&checked.wanted, &checked.lock, store)?,
            hosts: BTreeMap::new(),
            images: BTreeMap::new(),
            bundle: layout.bundle(),
        };
        for (host, (lowered, built)) in checked.hosts.iter().zip(&compiled.hosts) {
            let mut images = BTreeSet::new();
            let own =
                host.images.iter().map(|(name, image)| (format!("localhost/{name}"), Contents::of(image)));
            let embedded = host.embedded.iter();
            let embedded =
                embedded.map(|(name, (reference, _))| (name.clone(), Contents::embedded(reference)));
            for (name, contents) in own.chain(embedded) {
                let Some(digest) = built.get(&name).map(|built| built.manifest.digest) else { continue };
                let reference = super::lower::image_reference(&name, digest);
                images.insert(reference.clone());
                this.images.insert(reference, Image { digest, contents });
            }
            if let Some(digest) = layout.hosts().get(&lowered.manifest.host) {
                let pulled = contents::pulled(host, &this.materials);
                this.hosts.insert(host.name.clone(), Host { digest: *digest, images, pulled });
            }
        }
        Ok(this)
    }

    /// The digest of the bundle's index.
    pub fn bundle(&self) -> Digest {
        self.bundle
    }

    /// How it was built, from what: an in-toto statement with SLSA's predicate. `bundle` is the index as whoever reads this has it:
    /// versions of skopeo write it down differently.
    ///
    /// # Errors
    /// None that is known.
    pub fn statement(&self, bundle: Digest) -> Result<Vec<u8>> {
        Ok(oci::canonical_json(&statement::statement(self, bundle))?)
    }

    /// What is in it, for scanners: a bill of materials in CycloneDX.
    ///
    /// # Errors
    /// None that is known.
    pub fn bill(&self, bundle: Digest) -> Result<Vec<u8>> {
        Ok(oci::canonical_json(&bill::bill(self, bundle))?)
    }
}
