//! The images of a build that a registry has → the image layout, durably. Of an image only the blobs come that the layout lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result};

use super::Activation;
use super::fetch::described;
use super::images;
use super::receive::{MAX_IMAGE_BLOB, has_blob};
use super::registry::{Place, Registry};
use super::report::size;
use super::state::State;
use crate::bundle::digest::Digest;
use crate::bundle::oci::{Descriptor, Manifest};
use crate::durable;
use crate::refusal::refuse;
use crate::registry::Origin;

impl Activation<'_> {
    /// Brings images into the layout, durably, one after the other: what came whole need not come again. In a dry run it is only told what would
    /// be fetched.
    pub(super) fn fetch_images(&mut self, origin: &Origin, images: &BTreeMap<String, Digest>) -> Result<()> {
        let mut registry = Registry { origin, report: &mut self.report };
        for (name, digest) in images {
            let image = Image::find(&mut registry, &self.state, *digest)?;
            let lacking = image.lacking(&self.state);
            if !lacking.is_empty() {
                let (all, bytes) = (image.blobs().count(), lacking.iter().map(|blob| blob.size).sum());
                let verb = if self.dry_run { "would fetch" } else { "fetch" };
                registry
                    .report
                    .line(verb, &format!("{name}: {} of {all} blobs, {}", lacking.len(), size(bytes)));
            }
            if !self.dry_run {
                image.bring(&mut registry, &self.state, &lacking)?;
            }
        }
        Ok(())
    }
}

/// A container image.
struct Image {
    manifest: Manifest,
    bytes: Vec<u8>,
    /// The layout has its manifest.
    kept: bool,
}

impl Image {
    /// The layout's own, or the registry's.
    fn find(registry: &mut Registry<'_>, state: &State, digest: Digest) -> Result<Self> {
        let kept = durable::read_if_there(&state.image_blob(&digest))?;
        if let Some(bytes) = kept.filter(|bytes| Digest::of(bytes) == digest) {
            let manifest = serde_json::from_slice(&bytes).context("the image layout is damaged")?;
            return Ok(Self { manifest, bytes, kept: true });
        }
        let (manifest, bytes) = registry.manifest(digest)?;
        Ok(Self { manifest, bytes, kept: false })
    }

    fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        std::iter::once(&self.manifest.config).chain(&self.manifest.layers)
    }

    /// The blobs that the layout lacks, each once.
    fn lacking(&self, state: &State) -> Vec<&Descriptor> {
        let mut seen = BTreeSet::new();
        let lacks = |blob: &&Descriptor| {
            seen.insert(blob.digest) && !has_blob(&state.image_blob(&blob.digest), blob.size)
        };
        self.blobs().filter(lacks).collect()
    }

    /// Fetches what is lacking, and puts the image on the list. If that breaks off, the blobs that came whole stay.
    fn bring(&self, registry: &mut Registry<'_>, state: &State, lacking: &[&Descriptor]) -> Result<()> {
        let place = Place::new(Some(state))?;
        let entry = described(&self.bytes);
        let mut copied = Ok(());
        if !lacking.is_empty() {
            self.link_into(&place, state);
            copied = registry.copy(entry.digest, lacking, MAX_IMAGE_BLOB, place.path());
        }
        let sound = lacking.iter().filter(|blob| place.holds(blob));
        let mut sound: Vec<Digest> = sound.map(|blob| blob.digest).collect();
        let mut listed = Vec::new();
        if copied.is_ok() && sound.len() == lacking.len() {
            if !self.kept {
                place.put(&entry.digest, &self.bytes)?;
                sound.push(entry.digest);
            }
            listed.push(entry);
        }
        images::keep(state, &place.blobs(), &listed, &sound)?;
        copied?;
        match lacking.iter().find(|blob| !sound.contains(&blob.digest)) {
            Some(blob) => refuse!("blob {} did not come as its digest says", blob.digest),
            None => Ok(()),
        }
    }

    /// What the layout has of it need not be fetched: skopeo finds it where it would write it.
    fn link_into(&self, place: &Place, state: &State) {
        for blob in self.blobs().filter(|blob| has_blob(&state.image_blob(&blob.digest), blob.size)) {
            // If that does not work, it is fetched.
            let _ = fs::hard_link(state.image_blob(&blob.digest), place.blob(&blob.digest));
        }
    }
}
