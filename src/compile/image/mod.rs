//! Container images: from their definition to OCI blobs.
//!
//! At least one layer for each declared piece, so that a changed application leaves the layers below it alone. An image depends on
//! its definition and the content of its files: no time, no host, no history. Layers are packed side by side, one on each core.

mod base;
pub(super) mod cache;
mod config;
mod cut;
mod fit;
pub(super) mod layer;
pub(super) mod place;

use std::collections::BTreeMap;

use anyhow::Context;
use oci_spec::image::Config;

use rayon::prelude::*;

use super::archive::Packed;
use super::blob::Blob;
use super::finding::{Finding, Refused};
use super::host::{Host, Image, MAX_LAYERS, Piece};
use super::make::Maker;
use super::members::Members;
use crate::bundle::digest::Digest;
use crate::bundle::oci::{self, Descriptor, Manifest};
use cache::Cache;

/// As many as Docker takes, and with it every registry and tool.
const MAX_MOUNTED: usize = 127;

/// An image as blobs.
#[derive(Clone, Debug)]
pub struct Built {
    /// The manifest; its digest is the image's.
    pub manifest: Blob,
    /// The configuration.
    pub config: Blob,
    /// The layers, lowest first.
    pub layers: Vec<Packed>,
    /// What a container is like, as the configuration has it.
    pub settings: Config,
}

/// The images of a host, as Quadlet files name them: `localhost/NAME`, or an image of a registry.
pub type Images = BTreeMap<String, Built>;

/// What [`super::lower::lower`] needs to know of them.
pub fn digests(images: &Images) -> BTreeMap<String, Digest> {
    images.iter().map(|(name, built)| (name.clone(), built.manifest.digest)).collect()
}

/// Builds all images of a host. Layers that are in the cache directory are taken from there, others are put there if they can be.
///
/// # Errors
/// [`Refused`] if something cannot be built, a payload that changed since it was hashed, a full disk.
pub fn build_all(host: &Host, maker: &Maker<'_>) -> anyhow::Result<Images> {
    let own = host.images.iter().map(|(name, image)| {
        let built = build(image, maker).with_context(|| format!("cannot build the image `{name}`"))?;
        Ok((format!("localhost/{name}"), built))
    });
    let embedded = host.embedded.iter().map(|(name, (reference, place))| {
        let built = base::embedded(reference, place, maker);
        Ok((name.clone(), built.with_context(|| format!("cannot embed the image `{name}`"))?))
    });
    own.chain(embedded).collect()
}

/// Builds an image, and all that it is made of.
///
/// # Errors
/// As of [`build_all`].
pub fn build(image: &Image, maker: &Maker<'_>) -> anyhow::Result<Built> {
    maker.once(image, || build_anew(image, maker))
}

fn build_anew(image: &Image, maker: &Maker<'_>) -> anyhow::Result<Built> {
    let below = base::below(image, maker)?;
    let members = image.layers.iter().map(|layer| match &layer.piece {
        Piece::Copied { source, .. } => maker.members(source, image.architecture),
        Piece::Written { .. } | Piece::Linked { .. } | Piece::EmptyDirectory { .. } => Ok(Members::default()),
    });
    let members = members.collect::<anyhow::Result<Vec<_>>>()?;
    let own = place::own_entries(image, &members)?;
    fit::check(image, &members, &own, below.tree.as_deref())?;
    let most = MAX_LAYERS.saturating_sub(below.layers.len());
    let placed = place::place(image, &own, below.tree.as_deref(), most);
    drop(own);
    let cache = maker.cache().map(Cache::at);
    let packed: Vec<_> =
        placed.par_iter().map(|entries| layer::pack(entries, image.codec, cache.as_ref())).collect();
    let mut layers = below.layers;
    for packed in packed {
        layers.push(packed?);
    }
    if let (Some(base), true) = (&image.base, layers.len() > MAX_MOUNTED) {
        let message =
            format!("an image of {} layers, and {MAX_MOUNTED} are the most that hosts take", layers.len());
        return Err(Refused::because(Finding::error(message).at(&base.span, "on this one")));
    }
    let settings = config::over(below.config, &image.settings);
    let config = Blob::of(config::render(image.architecture, &settings, &layers)?);
    let manifest = Blob::of(manifest(&image.annotations, &config, &layers)?);
    Ok(Built { manifest, config, layers, settings })
}

fn manifest(
    annotations: &BTreeMap<String, String>,
    config: &Blob,
    layers: &[Packed],
) -> anyhow::Result<Vec<u8>> {
    Ok(oci::canonical_json(&Manifest {
        schema_version: 2,
        media_type: oci::MANIFEST.to_owned(),
        artifact_type: None,
        config: descriptor(oci::IMAGE_CONFIG, config),
        layers: layers.iter().map(|layer| descriptor(layer.codec.layer(), &layer.blob)).collect(),
        annotations: annotations.clone(),
    })?)
}

/// Names a blob without further words.
pub(super) fn descriptor(media_type: &str, blob: &Blob) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: blob.digest,
        size: blob.size,
        artifact_type: None,
        annotations: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests;
