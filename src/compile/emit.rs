//! From lowered hosts and built images to an OCI image layout, as a tar stream or a directory.
//!
//! [`assemble`] computes everything; [`Layout::write`] then cannot fail for any reason but the output's, so that a reader never
//! sees the beginning of a bundle that could not be made. The order of the files is part of the format: see [`crate::bundle`].

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::Context;
use rayon::prelude::*;
use serde::Serialize;

use super::archive::{Archive, Codec};
use super::blob::Blob;
use super::identity::Identity;
use super::image::cache::Cache;
use super::image::place::{self, Entries, Entry};
use super::image::{Built, Images, descriptor, layer};
use super::known::Known;
use super::lower::{Content, Lowered, image_reference};
use super::owner::Owner;
use super::sign::Signer;
use crate::bundle::digest::Digest;
use crate::bundle::names::HostName;
use crate::bundle::oci::{self, Descriptor, Index, Manifest};
use crate::durable;

/// The file name of the host layer, for tools that unpack artifacts.
const LAYER_TITLE: &str = "host.tar.gz";
/// What lists all that a layout holds.
pub(super) const INDEX: &str = "index.json";
/// Where the blobs are.
pub(super) const BLOBS: &str = "blobs/sha256";
/// The same for programs that read what `docker save` writes.
const DOCKER_MANIFEST: &str = "manifest.json";
/// The name of the index over the whole bundle.
pub const BUNDLE_NAME: &str = "bundle";

/// A bundle, complete but not yet written.
#[derive(Clone, Debug)]
pub struct Layout {
    files: Vec<(String, Blob)>,
    hosts: BTreeMap<HostName, Digest>,
    images: BTreeMap<String, Digest>,
    bundle: Digest,
}

impl Layout {
    /// The digest of each host's manifest: *the* digest of a build.
    pub fn hosts(&self) -> &BTreeMap<HostName, Digest> {
        &self.hosts
    }

    /// The digest of each image's manifest, by its reference.
    pub fn images(&self) -> &BTreeMap<String, Digest> {
        &self.images
    }

    /// The digest of the index over all of it.
    pub fn bundle(&self) -> Digest {
        self.bundle
    }

    /// Writes `bundle.tar`.
    ///
    /// # Errors
    /// What the output says; or that a spooled or cached layer was tampered with meanwhile.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let mut archive = Archive::new(out);
        for (path, blob) in &self.files {
            archive.file(path, 0o644, blob.size, |out| blob.copy(out))?;
        }
        archive.finish()?.flush()
    }
}

impl Layout {
    /// Writes the layout into a directory, durably. The blobs of earlier ones may lie there: those that are `known` or found to be sound are
    /// not written again, nor are others removed. `index.json` comes last, and whoever reads meanwhile has the one before.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write_directory(&self, directory: &Path, known: &Known) -> io::Result<()> {
        let rank = |path: &str| match path {
            INDEX => 2,
            DOCKER_MANIFEST => 1,
            _ => 0,
        };
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort_by_key(|(path, _)| rank(path));
        if files.iter().all(|(path, _)| path != DOCKER_MANIFEST) {
            durable::remove_file_if_there(&directory.join(DOCKER_MANIFEST)).map_err(io::Error::other)?;
        }
        let files: Vec<_> = files.into_iter().map(|(path, blob)| (directory.join(path), blob)).collect();
        let there: Vec<_> = files.par_iter().map(|(place, blob)| identity_of(place, blob, known)).collect();
        for ((place, blob), there) in files.iter().zip(&there) {
            if there.is_none() {
                write_blob(place, blob)?;
            }
        }
        let found = files.iter().zip(&there);
        known.keep(
            found.filter_map(|((place, blob), there)| Some((place.as_path(), there.as_ref()?, blob.digest))),
        );
        Ok(())
    }
}

/// What the file at `place` is like if it holds the blob.
fn identity_of(place: &Path, blob: &Blob, known: &Known) -> Option<Identity> {
    let identity = Identity::of(&fs::metadata(place).ok()?);
    let sound = known.digest(place, &identity) == Some(blob.digest)
        || Blob::stored(place.to_owned(), blob.digest, blob.size).is_some();
    sound.then_some(identity)
}

pub(super) fn write_blob(place: &Path, blob: &Blob) -> io::Result<()> {
    let folder = place.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o644)).tempfile_in(folder)?;
    blob.copy(file.as_file_mut())?;
    file.as_file().sync_all()?;
    file.persist(place)?;
    Ok(())
}

impl Layout {
    /// Removes the blobs of other layouts from a directory that this one was written to.
    ///
    /// # Errors
    /// What the file system says.
    pub fn forget_others(&self, directory: &Path) -> io::Result<()> {
        let ours: BTreeSet<_> = self.files.iter().map(|(path, _)| directory.join(path)).collect();
        for entry in fs::read_dir(directory.join(BLOBS))? {
            let path = entry?.path();
            if !ours.contains(&path) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Puts hosts and their images together, signed if there is a key for it. Layers that are in the cache directory are taken from there, as
/// those of images are.
///
/// # Errors
/// A payload that changed since its digest was taken, or a full disk; what the key says.
pub fn assemble(
    hosts: &[(Lowered, Images)],
    cache: Option<&Path>,
    signer: Option<&Signer>,
) -> anyhow::Result<Layout> {
    let cache = cache.map(Cache::at);
    let artifacts = hosts.par_iter().map(|(lowered, _)| host_artifact(lowered, cache.as_ref()));
    let artifacts = artifacts.collect::<anyhow::Result<Vec<_>>>()?;
    let images = all_images(hosts);
    let entries = entries(&artifacts, &images, signer)?;
    let bundle = Blob::of(bundle_index(entries.clone())?);
    let mut files = Files::default();
    files.add("oci-layout".to_owned(), Blob::of(oci::LAYOUT.into()));
    files.add(INDEX.to_owned(), Blob::of(top_index(entries, &bundle)?));
    if !images.is_empty() {
        files.add(DOCKER_MANIFEST.to_owned(), Blob::of(docker_manifest(&images)?));
    }
    for artifact in &artifacts {
        files.blob(&artifact.manifest);
        files.blob(&artifact.config);
    }
    files.blob(&bundle);
    for image in images.values() {
        files.blob(&image.manifest);
        files.blob(&image.config);
    }
    let host_layers = artifacts.iter().map(|artifact| &artifact.layer);
    for layer in
        host_layers.chain(images.values().flat_map(|image| image.layers.iter().map(|layer| &layer.blob)))
    {
        files.blob(layer);
    }
    let hosts = artifacts.into_iter().map(|artifact| (artifact.name, artifact.manifest.digest)).collect();
    let images = images.into_iter().map(|(name, built)| (name, built.manifest.digest)).collect();
    Ok(Layout { files: files.list, hosts, images, bundle: bundle.digest })
}

/// The files of the layout in their order, each once.
#[derive(Default)]
struct Files {
    list: Vec<(String, Blob)>,
    seen: BTreeSet<String>,
}

impl Files {
    fn blob(&mut self, blob: &Blob) {
        self.add(format!("{BLOBS}/{}", blob.digest.hex()), blob.clone());
    }

    fn add(&mut self, path: String, blob: Blob) {
        if self.seen.insert(path.clone()) {
            self.list.push((path, blob));
        }
    }
}

/// What a host is in the layout.
struct HostArtifact {
    name: HostName,
    manifest: Blob,
    config: Blob,
    layer: Blob,
}

fn host_artifact(lowered: &Lowered, cache: Option<&Cache>) -> anyhow::Result<HostArtifact> {
    let name = lowered.manifest.host.clone();
    let layer =
        host_layer(lowered, cache).with_context(|| format!("cannot pack the files of host `{name}`"))?;
    let config = Blob::of(oci::canonical_json(&lowered.manifest)?);
    let mut layer_descriptor = descriptor(oci::LAYER_GZIP, &layer);
    layer_descriptor.annotations.insert(oci::TITLE.to_owned(), LAYER_TITLE.to_owned());
    let manifest = Blob::of(oci::canonical_json(&Manifest {
        schema_version: 2,
        media_type: oci::MANIFEST.to_owned(),
        artifact_type: Some(oci::HOST_ARTIFACT.to_owned()),
        config: descriptor(oci::HOST_CONFIG, &config),
        layers: vec![layer_descriptor],
        annotations: BTreeMap::new(),
    })?);
    Ok(HostArtifact { name, manifest, config, layer })
}

/// The files of a host, in the order of their paths. No directories: the activator makes those that paths need.
fn host_layer(lowered: &Lowered, cache: Option<&Cache>) -> anyhow::Result<Blob> {
    let mut entries = Vec::new();
    for (path, entry) in &lowered.manifest.files {
        let content = match lowered.files.get(path) {
            Some(Content::Text(text)) => place::Content::Text(text),
            Some(Content::Payload(file)) => place::Content::File(file),
            None => anyhow::bail!("`{path}` has no content"),
        };
        entries.push((path.clone(), Entry { owner: Owner::ROOT, mode: entry.mode, content }));
    }
    Ok(layer::pack(&Entries::all(entries), Codec::Gzip, cache)?.blob)
}

/// The images of all hosts under their references; equal ones are one.
fn all_images(hosts: &[(Lowered, Images)]) -> BTreeMap<String, &Built> {
    let images = hosts.iter().flat_map(|(_, images)| images);
    images.map(|(name, built)| (image_reference(name, built.manifest.digest), built)).collect()
}

/// What both indexes list: hosts, then images, each with its name.
fn entries(
    artifacts: &[HostArtifact],
    images: &BTreeMap<String, &Built>,
    signer: Option<&Signer>,
) -> anyhow::Result<Vec<Descriptor>> {
    let mut entries = Vec::new();
    for artifact in artifacts {
        let name = format!("{}{}", oci::HOST_PREFIX, artifact.name);
        let mut host = named(&artifact.manifest, oci::MANIFEST, name);
        host.artifact_type = Some(oci::HOST_ARTIFACT.to_owned());
        entries.push(host);
    }
    if let Some(signer) = signer {
        let bytes = |artifact: &HostArtifact| -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            artifact.manifest.copy(&mut bytes).map(|()| bytes)
        };
        let manifests: Vec<_> = artifacts.iter().map(bytes).collect::<io::Result<_>>()?;
        signer.sign(manifests.iter().map(Vec::as_slice).zip(&mut entries).collect())?;
    }
    entries.extend(images.iter().map(|(name, built)| named(&built.manifest, oci::MANIFEST, name.clone())));
    Ok(entries)
}

fn named(blob: &Blob, media_type: &str, name: String) -> Descriptor {
    let mut descriptor = descriptor(media_type, blob);
    descriptor.annotations.insert(oci::REF_NAME.to_owned(), name);
    descriptor
}

fn bundle_index(manifests: Vec<Descriptor>) -> serde_json::Result<Vec<u8>> {
    oci::canonical_json(&Index {
        schema_version: 2,
        media_type: oci::INDEX.to_owned(),
        artifact_type: Some(oci::BUNDLE_ARTIFACT.to_owned()),
        manifests,
    })
}

fn top_index(mut manifests: Vec<Descriptor>, bundle: &Blob) -> serde_json::Result<Vec<u8>> {
    let mut entry = named(bundle, oci::INDEX, BUNDLE_NAME.to_owned());
    entry.artifact_type = Some(oci::BUNDLE_ARTIFACT.to_owned());
    manifests.push(entry);
    oci::canonical_json(&Index {
        schema_version: 2,
        media_type: oci::INDEX.to_owned(),
        artifact_type: None,
        manifests,
    })
}

/// What `docker save` writes, for `podman load`: it finds no image among several in `index.json`.
fn docker_manifest(images: &BTreeMap<String, &Built>) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Entry<'a> {
        config: String,
        repo_tags: [&'a str; 1],
        layers: Vec<String>,
    }
    let path = |blob: &Blob| format!("{BLOBS}/{}", blob.digest.hex());
    let entries: Vec<Entry<'_>> = images
        .iter()
        .map(|(name, built)| Entry {
            config: path(&built.config),
            repo_tags: [name],
            layers: built.layers.iter().map(|layer| path(&layer.blob)).collect(),
        })
        .collect();
    oci::canonical_json(&entries)
}

#[cfg(test)]
mod tests;
