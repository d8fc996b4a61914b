//! One registry, asked for this host. What it answers is held to the digest that it was asked for.

use std::cell::RefCell;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::receive::{MAX_DOCUMENT, expect_digest};
use super::report::Report;
use super::state::State;
use crate::bundle::digest::Digest;
use crate::bundle::oci::{Descriptor, Manifest};
use crate::durable;
use crate::refusal::refuse;
use crate::registry::Origin;
use crate::registry::reference::Version;
use crate::registry::skopeo::{Trouble, patiently};

/// The largest file beside blobs that a layout has while it is fetched.
const MAX_LAYOUT_FILE: u64 = 1 << 20;

/// A registry, and where it is told of that it is asked again.
pub(super) struct Registry<'a> {
    pub(super) origin: &'a Origin,
    pub(super) report: &'a mut Report,
}

impl Registry<'_> {
    /// The bytes of what the reference names: an index or a manifest.
    pub(super) fn named(&mut self) -> Result<Vec<u8>> {
        let Origin { reference, skopeo } = self.origin;
        let bytes = self.ask("asking the registry", &|| skopeo.manifest(reference, MAX_DOCUMENT))?;
        if let Version::Digest(digest) = reference.version() {
            expect_digest(*digest, Digest::of(&bytes))?;
        }
        Ok(bytes)
    }

    /// A manifest, and its bytes.
    pub(super) fn manifest(&mut self, digest: Digest) -> Result<(Manifest, Vec<u8>)> {
        let Origin { reference, skopeo } = self.origin;
        let what = reference.at(digest);
        let bytes = self.ask("asking the registry", &|| skopeo.manifest(&what, MAX_DOCUMENT))?;
        expect_digest(digest, Digest::of(&bytes))?;
        let manifest = serde_json::from_slice(&bytes);
        Ok((manifest.with_context(|| format!("manifest {digest} is not readable"))?, bytes))
    }

    /// The bytes of the config that a manifest names.
    pub(super) fn config(&mut self, digest: Digest, manifest: &Manifest) -> Result<Vec<u8>> {
        let Origin { reference, skopeo } = self.origin;
        let what = reference.at(digest);
        let bytes = self.ask("asking the registry", &|| skopeo.config(&what, MAX_DOCUMENT))?;
        expect_digest(manifest.config.digest, Digest::of(&bytes))?;
        Ok(bytes)
    }

    /// Brings what the manifest `digest` names into an OCI layout; what lies there is not fetched. `blobs` are those that do not, each of at
    /// most `limit` bytes. Nobody has verified them yet.
    pub(super) fn copy(
        &mut self,
        digest: Digest,
        blobs: &[&Descriptor],
        limit: u64,
        layout: &Path,
    ) -> Result<()> {
        if let Some(blob) = blobs.iter().find(|blob| blob.size > limit) {
            refuse!("blob {} has {} bytes, and at most {limit} are allowed", blob.digest, blob.size);
        }
        // What cannot fit is not begun with.
        durable::expect_room(&layout.join("room"), blobs.iter().map(|blob| blob.size).sum())?;
        let largest = blobs.iter().map(|blob| blob.size).max().unwrap_or(0).max(MAX_LAYOUT_FILE);
        let Origin { reference, skopeo } = self.origin;
        let what = reference.at(digest);
        self.ask("fetching", &|| skopeo.fetch(&what, layout, &digest.hex(), largest).map(|()| Vec::new()))
            .map(drop)
    }

    /// Asks, and asks again if the trouble may pass. One function for all that is asked: the program is to be small.
    fn ask(&mut self, what: &str, once: &(dyn Fn() -> Result<Vec<u8>, Trouble> + Sync)) -> Result<Vec<u8>> {
        let report = RefCell::new(&mut *self.report);
        patiently(
            |why, pause| report.borrow_mut().line("retry", &format!("in {} s: {why}", pause.as_secs())),
            || report.borrow().during(what, once),
        )
    }
}

/// Where a layout lies while it is fetched; gone with the value.
pub(super) struct Place(PathBuf);

impl Place {
    /// In `incoming/`, or somewhere that is no part of the host.
    pub(super) fn new(state: Option<&State>) -> Result<Self> {
        let place = match state {
            Some(state) => {
                let path = state.incoming().join("fetched");
                durable::make_directory(&state.incoming(), 0o700)?;
                durable::remove_tree_if_there(&path)?;
                Self(path)
            }
            None => Self(durable::create_temporary_directory()?),
        };
        durable::make_directory(&place.blobs(), 0o700)?;
        Ok(place)
    }

    /// The layout.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The directory of its blobs.
    pub(super) fn blobs(&self) -> PathBuf {
        self.0.join("blobs/sha256")
    }

    /// Where a blob lies.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    /// A blob that was fetched, if it has the size that it should have.
    pub(super) fn open(&self, blob: &Descriptor) -> Result<File> {
        let path = self.blob(&blob.digest);
        let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let size = file.metadata().with_context(|| format!("cannot read {}", path.display()))?.len();
        if size != blob.size {
            refuse!("blob {} should have {} bytes and has {size}", blob.digest, blob.size);
        }
        Ok(file)
    }

    /// A blob was fetched, and is what its digest says.
    pub(super) fn holds(&self, blob: &Descriptor) -> bool {
        let found = self.open(blob).and_then(|mut file| Ok(Digest::of_all(&mut file)?));
        found.is_ok_and(|found| found == blob.digest)
    }

    /// Puts a blob there.
    pub(super) fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<()> {
        durable::remove_file_if_there(&self.blob(digest))?;
        durable::write_new(&self.blob(digest), bytes, 0o644)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What stays is removed by the next run, or lies where temporary files lie.
        let _ = durable::remove_tree_if_there(&self.0);
    }
}
