//! Container images: kept in an OCI layout, and copied from there into the container storage.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::host::{Host, Images};
use super::report::Report;
use super::state::State;
use crate::bundle::digest::Digest;
use crate::bundle::oci::{self, Descriptor, Index, Manifest};
use crate::durable;
use crate::refusal::Refusal;

/// Puts blobs that were verified, and lie in the directory `from`, into the layout, durably, and `images` on its list.
///
/// The layout names each image by the digest of its manifest, not by its tag: a tag moves on with the next bundle, and going back needs
/// the old image under it.
pub fn keep(state: &State, from: &Path, images: &[Descriptor], blobs: &[Digest]) -> Result<()> {
    if images.is_empty() && blobs.is_empty() {
        return Ok(());
    }
    durable::make_directory(&state.images(), 0o700)?;
    durable::make_directory(&state.image_blobs(), 0o755)?;
    if !blobs.is_empty() {
        durable::sync_filesystem(from)?;
    }
    for digest in blobs {
        durable::rename(&from.join(digest.hex()), &state.image_blob(digest))?;
    }
    if images.is_empty() { Ok(()) } else { list(state, images) }
}

/// Brings those of `images` into the container storage that it lacks. Nobody is asked about those that are in use: `known`.
pub fn ensure(
    state: &State,
    host: &dyn Host,
    images: &Images,
    known: &Images,
    report: &mut Report,
) -> Result<()> {
    let own = images.own.iter().filter(|(name, digest)| known.own.get(*name) != Some(digest));
    let new = Images {
        own: own.map(|(name, digest)| (name.clone(), *digest)).collect(),
        pulled: images.pulled.difference(&known.pulled).cloned().collect(),
    };
    load(state, host, &new, &missing(host, &new)?, report)
}

/// Brings the images called `missing` into the container storage: from the layout, or from their registries.
pub fn load(
    state: &State,
    host: &dyn Host,
    images: &Images,
    missing: &[String],
    report: &mut Report,
) -> Result<()> {
    for (name, digest) in images.own.iter().filter(|(name, _)| missing.contains(name)) {
        if !state.image_blob(digest).is_file() {
            return Err(Refusal::new(format!(
                "the image `{name}` ({digest}) is neither in the bundle nor on this host"
            ))
            .help("activate a bundle that was compiled with its images")
            .into());
        }
        report.line("load", name);
        report.during(&format!("loading {name}"), || host.load_image(&state.images(), name, digest))?;
    }
    for name in images.pulled.iter().filter(|name| missing.contains(name)) {
        report.line("pull", name);
        report.during(&format!("pulling {name}"), || host.pull_image(name)).map_err(|error| {
            Refusal::new(format!("podman cannot pull `{name}`: {error:#}"))
                .help("see that the registry can be reached from this host, or pull the image by hand, and activate again")
        })?;
    }
    Ok(())
}

/// The images that the container storage lacks. Nobody is asked if there are none to ask about.
pub fn missing(host: &dyn Host, images: &Images) -> Result<Vec<String>> {
    if images.is_empty() { Ok(Vec::new()) } else { host.missing_images(images) }
}

/// The manifest of an image, if the layout has it.
pub fn manifest(state: &State, image: &Digest) -> Result<Option<Manifest>> {
    let path = state.image_blob(image);
    let parse = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
    };
    durable::read_if_there(&path)?.map(parse).transpose()
}

/// The blobs of these images: manifests, configurations and layers.
pub fn blobs(state: &State, images: &BTreeSet<Digest>) -> Result<BTreeSet<Digest>> {
    let mut blobs = images.clone();
    for image in images {
        let Some(manifest) = manifest(state, image)? else { continue };
        blobs.insert(manifest.config.digest);
        blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
    }
    Ok(blobs)
}

/// The images that the layout lists.
pub fn listed(state: &State) -> Result<BTreeSet<Digest>> {
    let index = read_index(state)?;
    Ok(index.into_iter().flat_map(|index| index.manifests).map(|entry| entry.digest).collect())
}

/// Takes all images but these off the list. Their blobs stay.
pub fn forget_all_but(state: &State, images: &BTreeSet<Digest>) -> Result<()> {
    let Some(mut index) = read_index(state)? else { return Ok(()) };
    let before = index.manifests.len();
    index.manifests.retain(|entry| images.contains(&entry.digest));
    if index.manifests.len() == before { Ok(()) } else { write_index(state, &index) }
}

fn index_path(state: &State) -> PathBuf {
    state.images().join("index.json")
}

fn read_index(state: &State) -> Result<Option<Index>> {
    let path = index_path(state);
    let parse = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
    };
    durable::read_if_there(&path)?.map(parse).transpose()
}

fn write_index(state: &State, index: &Index) -> Result<()> {
    durable::replace_file(&index_path(state), &oci::canonical_json(index)?, 0o644)
}

fn list(state: &State, images: &[Descriptor]) -> Result<()> {
    let layout = state.images().join("oci-layout");
    if !layout.is_file() {
        durable::replace_file(&layout, oci::LAYOUT.as_bytes(), 0o644)?;
    }
    let before = read_index(state)?.unwrap_or_else(|| Index {
        schema_version: 2,
        media_type: oci::INDEX.to_owned(),
        artifact_type: None,
        manifests: Vec::new(),
    });
    let mut index = before.clone();
    let known =
        |index: &Index, image: &Descriptor| index.manifests.iter().any(|entry| entry.digest == image.digest);
    for image in images {
        if !known(&index, image) {
            let annotations = BTreeMap::from([(oci::REF_NAME.to_owned(), image.digest.hex())]);
            index.manifests.push(Descriptor { annotations, ..image.clone() });
        }
    }
    if index == before { Ok(()) } else { write_index(state, &index) }
}
