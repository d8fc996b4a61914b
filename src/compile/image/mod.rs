//! Container images: from their definition to OCI blobs.
//!
//! At least one layer for each declared piece, so that a changed application leaves the layers below it alone. An image depends on
//! its definition and the content of its files: no time, no host, no history. Layers are packed side by side, one on each core.

mod cache;
mod config;
mod cut;
mod layer;
mod place;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;

use rayon::prelude::*;

use super::archive::Packed;
use super::blob::Blob;
use super::host::{Host, Image, Layer, Piece, Source};
use super::members::Members;
use super::payload::Payloads;
use crate::bundle::digest::Digest;
use crate::bundle::names::Label;
use crate::bundle::oci::{self, Descriptor, Manifest};
use cache::Cache;

/// An image as blobs.
#[derive(Clone, Debug)]
pub struct Built {
    /// The manifest; its digest is the image's.
    pub manifest: Blob,
    /// The configuration.
    pub config: Blob,
    /// The layers, lowest first.
    pub layers: Vec<Blob>,
}

/// The images of a host.
pub type Images = BTreeMap<Label, Built>;

/// What [`super::lower::lower`] needs to know of them.
pub fn digests(images: &Images) -> BTreeMap<Label, Digest> {
    images.iter().map(|(name, built)| (name.clone(), built.manifest.digest)).collect()
}

/// Builds all images of a host. Layers that are in the cache directory are taken from there, others are put there if they can be.
///
/// # Errors
/// A payload that changed since it was hashed, a path that no archive can hold, a full disk.
pub fn build_all(host: &Host, payloads: &Payloads, cache: Option<&Path>) -> anyhow::Result<Images> {
    let cache = cache.map(Cache::at);
    let build = |(name, image): (&Label, &Image)| {
        let built = build(image, payloads, cache.as_ref());
        Ok((name.clone(), built.with_context(|| format!("cannot build the image `{name}`"))?))
    };
    host.images.iter().map(build).collect()
}

fn build(image: &Image, payloads: &Payloads, cache: Option<&Cache>) -> anyhow::Result<Built> {
    let members: Vec<Members<'_>> =
        image.layers.iter().map(|layer| members(layer, payloads)).collect::<Result<_, _>>()?;
    let layers = place::place(image, &members)?;
    let packed: Vec<_> = layers.par_iter().map(|entries| layer::pack(entries, image.codec, cache)).collect();
    let layers: Vec<Packed> = packed.into_iter().collect::<Result<_, _>>()?;
    let config = Blob::of(config::render(image, &layers)?);
    let manifest = Blob::of(manifest(image, &config, &layers)?);
    Ok(Built { manifest, config, layers: layers.into_iter().map(|layer| layer.blob).collect() })
}

/// What the source of a layer holds, if it has one.
fn members<'a>(layer: &Layer, payloads: &'a Payloads) -> anyhow::Result<Members<'a>> {
    match &layer.piece {
        Piece::Copied { source: Source::Tree(source), .. } => {
            let files =
                payloads.0.get(source).with_context(|| format!("the payload `{source}` was not read"))?;
            Ok(Members { files: files.into(), links: Vec::new() })
        }
        Piece::Copied { .. } => anyhow::bail!("not yet"),
        Piece::Written { .. } | Piece::Linked { .. } | Piece::EmptyDirectory { .. } => Ok(Members::default()),
    }
}

fn manifest(image: &Image, config: &Blob, layers: &[Packed]) -> anyhow::Result<Vec<u8>> {
    Ok(oci::canonical_json(&Manifest {
        schema_version: 2,
        media_type: oci::MANIFEST.to_owned(),
        artifact_type: None,
        config: descriptor(oci::IMAGE_CONFIG, config),
        layers: layers.iter().map(|layer| descriptor(layer.codec.layer(), &layer.blob)).collect(),
        annotations: image.annotations.clone(),
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
