//! Registry → a bundle with this host's part alone, as an archive that [`super::receive`] verifies like every other.
//!
//! What the host has is not asked for: of the build that is current not even the files, and of an image only the blobs that the image layout
//! lacks. The order in which a registry is asked is that of trust: each digest comes from bytes whose own digest held, and the first
//! one from the index. What is read here decides only what is fetched; what is believed is decided where it is received.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Cursor, Read, Take};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::Activation;
use super::receive::{
    HostNames, MAX_DOCUMENT, MAX_HOST_LAYER, MAX_IMAGE_BLOB, expect_digest, has_blob, is_host,
    not_for_this_host,
};
use super::report::{Report, size};
use super::state::State;
use crate::bundle::digest::Digest;
use crate::bundle::manifest::HostManifest;
use crate::bundle::names::HostName;
use crate::bundle::oci::{self, Descriptor, Index, Manifest};
use crate::bundle::ustar;
use crate::durable;
use crate::refusal::{Refusal, refuse};
use crate::registry::Origin;
use crate::registry::reference::Version;
use crate::registry::skopeo::{Trouble, patiently};

/// The most things that an index may list if it does not say which of them are hosts.
const MAX_UNNAMED: usize = 200;
/// What the annotation of a host begins with.
const HOST_PREFIX: &str = "host-";
/// The largest file beside blobs that a layout has while it is fetched.
const MAX_LAYOUT_FILE: u64 = 1 << 20;

impl Activation<'_> {
    /// Asks a registry for the manifest of this host: no more than two or three short questions.
    pub(super) fn find(&mut self, origin: &Origin) -> Result<Descriptor> {
        Registry { origin, report: &mut self.report }.find(&self.names)
    }

    /// Fetches what this host lacks of the build whose manifest is `host`. In a dry run images are only asked about. `had` is the build that
    /// the host has.
    pub(super) fn fetch(
        &mut self,
        origin: &Origin,
        host: &Descriptor,
        had: Option<Digest>,
    ) -> Result<Fetched> {
        let wanted = (!self.dry_run).then(|| self.state.incoming().join("fetched"));
        let mut fetched =
            Fetched { place: Place { wanted, made: None }, pieces: VecDeque::new(), index: Vec::new() };
        let mut registry = Registry { origin, report: &mut self.report };
        let images = registry.host(&mut fetched, host, had)?;
        for (digest, name) in &images {
            if self.dry_run {
                registry.tell_image(&self.state, name, digest)?;
            } else {
                registry.image(&mut fetched, &self.state, name, digest)?;
            }
        }
        fetched.complete()
    }
}

/// Asks one registry, and says so.
struct Registry<'a> {
    origin: &'a Origin,
    report: &'a mut Report,
}

impl Registry<'_> {
    fn find(&mut self, names: &HostNames) -> Result<Descriptor> {
        #[derive(Deserialize)]
        struct Document {
            manifests: Option<Vec<Descriptor>>,
        }
        let Origin { reference, skopeo } = self.origin;
        let bytes = self.ask("asking the registry", || skopeo.manifest(reference, MAX_DOCUMENT))?;
        if let Version::Digest(digest) = reference.version() {
            expect_digest(*digest, Digest::of(&bytes))?;
        }
        let document: Document =
            serde_json::from_slice(&bytes).with_context(|| format!("{reference} is not readable"))?;
        let Some(manifests) = document.manifests else {
            // The digest of a host's build names it as well.
            return Ok(described(&bytes));
        };
        let hosts = match named_hosts(&manifests) {
            hosts if hosts.is_empty() => self.unnamed_hosts(&manifests)?,
            hosts => hosts,
        };
        let (ours, others): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|(name, _)| names.matches(name));
        match ours.as_slice() {
            [(_, host)] => Ok(host.clone()),
            [] => {
                let others: Vec<HostName> = others.into_iter().map(|(name, _)| name).collect();
                Err(not_for_this_host(names.first(), &others).into())
            }
            [(one, _), (other, _), ..] => {
                refuse!("the bundle has two manifests for this host (`{one}` and `{other}`)")
            }
        }
    }

    /// The hosts of an index that somebody copied without what names them: each manifest is looked at.
    fn unnamed_hosts(&mut self, manifests: &[Descriptor]) -> Result<Vec<(HostName, Descriptor)>> {
        if manifests.len() > MAX_UNNAMED {
            refuse!(
                "{} does not say which of its {} parts are hosts",
                self.origin.reference,
                manifests.len()
            );
        }
        let mut hosts = Vec::new();
        for entry in manifests {
            let (manifest, _) = self.manifest(entry.digest)?;
            if is_host(&manifest) {
                let config = self.config(entry.digest, &manifest)?;
                hosts.push((HostManifest::parse(&config).map_err(Refusal::new)?.host, entry.clone()));
            }
        }
        Ok(hosts)
    }

    /// The manifest, config and files of the host; gives its images.
    fn host(
        &mut self,
        fetched: &mut Fetched,
        host: &Descriptor,
        had: Option<Digest>,
    ) -> Result<BTreeMap<Digest, String>> {
        let (manifest, bytes) = self.manifest(host.digest)?;
        let [layer] = manifest.layers.as_slice() else {
            refuse!("{} is no bundle of rick's", self.origin.reference);
        };
        if !is_host(&manifest) {
            refuse!("{} is no bundle of rick's", self.origin.reference);
        }
        fetched.list(host.clone(), bytes)?;
        let config = if had == Some(host.digest) {
            let config = self.config(host.digest, &manifest)?;
            fetched.add_bytes(manifest.config.digest, config.clone())?;
            config
        } else {
            let title = manifest_title(host);
            self.report.line("fetch", &format!("{title}, {}", size(layer.size + manifest.config.size)));
            self.copy(fetched, host.digest, &[&manifest.config, layer], MAX_HOST_LAYER)?;
            let config = fetched.read(&manifest.config, MAX_DOCUMENT)?;
            fetched.add_bytes(manifest.config.digest, config.clone())?;
            fetched.add_file(layer)?;
            config
        };
        let images = HostManifest::parse(&config).map_err(Refusal::new)?.images;
        Ok(images.into_iter().map(|(name, digest)| (digest, name)).collect())
    }

    /// What the layout lacks of an image.
    fn image(&mut self, fetched: &mut Fetched, state: &State, name: &str, digest: &Digest) -> Result<()> {
        let (manifest, bytes) = self.image_manifest(state, *digest)?;
        let annotations = BTreeMap::from([(oci::REF_NAME.to_owned(), name.to_owned())]);
        fetched.list(Descriptor { annotations, ..described(&bytes) }, bytes)?;
        let lacking = lacking(state, &manifest, |digest| fetched.has(digest));
        if lacking.is_empty() {
            return Ok(());
        }
        self.report.line("fetch", &told(name, &manifest, &lacking));
        fetched.link_from(state, &manifest)?;
        self.copy(fetched, *digest, &lacking, MAX_IMAGE_BLOB)?;
        lacking.into_iter().try_for_each(|blob| fetched.add_file(blob))
    }

    fn tell_image(&mut self, state: &State, name: &str, digest: &Digest) -> Result<()> {
        let (manifest, _) = self.image_manifest(state, *digest)?;
        let lacking = lacking(state, &manifest, |_| false);
        if !lacking.is_empty() {
            self.report.line("would fetch", &told(name, &manifest, &lacking));
        }
        Ok(())
    }

    /// The manifest of an image: the layout's own, or the registry's.
    fn image_manifest(&mut self, state: &State, digest: Digest) -> Result<(Manifest, Vec<u8>)> {
        match durable::read_if_there(&state.image_blob(&digest))? {
            Some(bytes) if Digest::of(&bytes) == digest => Ok((parse(digest, &bytes)?, bytes)),
            _ => self.manifest(digest),
        }
    }

    fn manifest(&mut self, digest: Digest) -> Result<(Manifest, Vec<u8>)> {
        let Origin { reference, skopeo } = self.origin;
        let what = reference.at(digest);
        let bytes = self.ask("asking the registry", || skopeo.manifest(&what, MAX_DOCUMENT))?;
        expect_digest(digest, Digest::of(&bytes))?;
        Ok((parse(digest, &bytes)?, bytes))
    }

    fn config(&mut self, digest: Digest, manifest: &Manifest) -> Result<Vec<u8>> {
        let Origin { reference, skopeo } = self.origin;
        let what = reference.at(digest);
        let bytes = self.ask("asking the registry", || skopeo.config(&what, MAX_DOCUMENT))?;
        expect_digest(manifest.config.digest, Digest::of(&bytes))?;
        Ok(bytes)
    }

    fn copy(
        &mut self,
        fetched: &mut Fetched,
        digest: Digest,
        blobs: &[&Descriptor],
        limit: u64,
    ) -> Result<()> {
        if let Some(blob) = blobs.iter().find(|blob| blob.size > limit) {
            refuse!("blob {} has {} bytes, and at most {limit} are allowed", blob.digest, blob.size);
        }
        let layout = fetched.place.directory()?.to_owned();
        // What cannot fit is not begun with.
        durable::expect_room(&layout.join("room"), blobs.iter().map(|blob| blob.size).sum())?;
        let largest = blobs.iter().map(|blob| blob.size).max().unwrap_or(0).max(MAX_LAYOUT_FILE);
        let Origin { reference, skopeo } = self.origin;
        let what = reference.at(digest);
        self.ask("fetching", || skopeo.fetch(&what, &layout, &digest.hex(), largest))
    }

    /// Asks, and asks again if the trouble may pass.
    fn ask<T: Send>(&mut self, what: &str, once: impl Fn() -> Result<T, Trouble> + Sync) -> Result<T> {
        let report = RefCell::new(&mut *self.report);
        patiently(
            |why, pause| report.borrow_mut().line("retry", &format!("in {} s: {why}", pause.as_secs())),
            || report.borrow().during(what, &once),
        )
    }
}

/// The hosts that an index names.
fn named_hosts(manifests: &[Descriptor]) -> Vec<(HostName, Descriptor)> {
    let host = |entry: &Descriptor| {
        let name = entry.annotations.get(oci::REF_NAME)?.strip_prefix(HOST_PREFIX)?;
        Some((name.parse().ok()?, entry.clone()))
    };
    manifests.iter().filter_map(host).collect()
}

fn manifest_title(host: &Descriptor) -> String {
    let name = host.annotations.get(oci::REF_NAME).and_then(|name| name.strip_prefix(HOST_PREFIX));
    name.map_or_else(|| "the files of this host".to_owned(), |name| format!("the files of {name}"))
}

fn parse(digest: Digest, bytes: &[u8]) -> Result<Manifest> {
    serde_json::from_slice(bytes).with_context(|| format!("manifest {digest} is not readable"))
}

/// The descriptor of a manifest.
fn described(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: oci::MANIFEST.to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        artifact_type: None,
        annotations: BTreeMap::new(),
    }
}

/// The blobs of an image that neither the layout has nor somebody else.
fn lacking<'a>(state: &State, image: &'a Manifest, has: impl Fn(&Digest) -> bool) -> Vec<&'a Descriptor> {
    let mut seen = BTreeSet::new();
    let blobs = std::iter::once(&image.config).chain(&image.layers);
    let lacks = |blob: &&Descriptor| {
        seen.insert(blob.digest)
            && !has(&blob.digest)
            && !has_blob(&state.image_blob(&blob.digest), blob.size)
    };
    blobs.filter(lacks).collect()
}

fn told(name: &str, image: &Manifest, lacking: &[&Descriptor]) -> String {
    let bytes = lacking.iter().map(|blob| blob.size).sum();
    format!("{name}: {} of {} blobs, {}", lacking.len(), image.layers.len() + 1, size(bytes))
}

/// A bundle, as far as it had to be fetched: an archive to be read.
pub(super) struct Fetched {
    place: Place,
    pieces: VecDeque<Piece>,
    index: Vec<Descriptor>,
}

/// A part of the archive.
enum Piece {
    Bytes(Cursor<Vec<u8>>),
    /// A file of so many bytes that is in the way once it was read.
    File(PathBuf, u64),
    Open(Take<File>),
}

impl Fetched {
    /// Puts a manifest on the list, and into the archive.
    fn list(&mut self, entry: Descriptor, bytes: Vec<u8>) -> Result<()> {
        self.add_bytes(entry.digest, bytes)?;
        self.index.push(entry);
        Ok(())
    }

    fn add_bytes(&mut self, digest: Digest, bytes: Vec<u8>) -> Result<()> {
        push(&mut self.pieces, &path_of(&digest), bytes.len() as u64, Piece::Bytes(Cursor::new(bytes)))
    }

    fn add_file(&mut self, blob: &Descriptor) -> Result<()> {
        let file = self.file_of(blob)?;
        push(&mut self.pieces, &path_of(&blob.digest), blob.size, Piece::File(file, blob.size))
    }

    /// The bytes of a blob that was fetched.
    fn read(&mut self, blob: &Descriptor, limit: u64) -> Result<Vec<u8>> {
        if blob.size > limit {
            refuse!("blob {} has {} bytes, and at most {limit} are allowed", blob.digest, blob.size);
        }
        let path = self.file_of(blob)?;
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        expect_digest(blob.digest, Digest::of(&bytes))?;
        Ok(bytes)
    }

    /// Where a blob lies that was fetched.
    fn file_of(&mut self, blob: &Descriptor) -> Result<PathBuf> {
        let path = self.place.directory()?.join(path_of(&blob.digest));
        match fs::metadata(&path) {
            Ok(found) if found.len() == blob.size => Ok(path),
            Ok(found) => {
                refuse!("blob {} should have {} bytes and has {}", blob.digest, blob.size, found.len())
            }
            Err(_) => refuse!("blob {} was not fetched", blob.digest),
        }
    }

    fn has(&self, digest: &Digest) -> bool {
        let file = |piece: &Piece| matches!(piece, Piece::File(path, _) if path.ends_with(digest.hex()));
        self.pieces.iter().any(file)
    }

    /// What the layout has of an image need not be fetched: skopeo finds it where it would write it.
    fn link_from(&mut self, state: &State, image: &Manifest) -> Result<()> {
        let layout = self.place.directory()?;
        durable::make_directory(&layout.join("blobs/sha256"), 0o700)?;
        for blob in image.layers.iter().filter(|blob| has_blob(&state.image_blob(&blob.digest), blob.size)) {
            // If that does not work, it is fetched.
            let _ = fs::hard_link(state.image_blob(&blob.digest), layout.join(path_of(&blob.digest)));
        }
        Ok(())
    }

    /// Puts in front what an archive begins with, and at its end what it ends with.
    fn complete(mut self) -> Result<Self> {
        let index = oci::canonical_json(&Index {
            schema_version: 2,
            media_type: oci::INDEX.to_owned(),
            artifact_type: None,
            manifests: std::mem::take(&mut self.index),
        })?;
        let mut front = VecDeque::new();
        for (path, bytes) in [("oci-layout", oci::LAYOUT.into()), ("index.json", index)] {
            push(&mut front, path, bytes.len() as u64, Piece::Bytes(Cursor::new(bytes)))?;
        }
        front.append(&mut self.pieces);
        front.push_back(Piece::Bytes(Cursor::new(vec![0; 2 * ustar::BLOCK])));
        self.pieces = front;
        Ok(self)
    }
}

impl Read for Fetched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(piece) = self.pieces.front_mut() {
            let got = match piece {
                Piece::Bytes(bytes) => bytes.read(buffer)?,
                Piece::Open(file) => file.read(buffer)?,
                Piece::File(path, size) => {
                    let file = File::open(&*path)?;
                    fs::remove_file(&*path)?;
                    *piece = Piece::Open(file.take(*size));
                    continue;
                }
            };
            if got > 0 || buffer.is_empty() {
                return Ok(got);
            }
            self.pieces.pop_front();
        }
        Ok(0)
    }
}

fn path_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn push(pieces: &mut VecDeque<Piece>, path: &str, size: u64, body: Piece) -> Result<()> {
    let Some(header) = ustar::header(path, 0o644, size) else { refuse!("`{path}` is too large") };
    let bytes = |bytes: Vec<u8>| Piece::Bytes(Cursor::new(bytes));
    pieces.extend([bytes(header.to_vec()), body, bytes(vec![0; ustar::padding(size)])]);
    Ok(())
}

/// Where things lie that are fetched, once there are any: gone when nobody reads them any more.
struct Place {
    /// Where; none: somewhere that is no part of the host.
    wanted: Option<PathBuf>,
    made: Option<PathBuf>,
}

impl Place {
    fn directory(&mut self) -> Result<&Path> {
        let made = match self.made.take() {
            Some(made) => made,
            None => self.make()?,
        };
        Ok(self.made.insert(made))
    }

    fn make(&self) -> Result<PathBuf> {
        let Some(path) = &self.wanted else { return durable::create_temporary_directory() };
        durable::make_directory(path, 0o700)?;
        Ok(path.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            // What stays is removed by the next run, or lies where temporary files lie.
            let _ = durable::remove_tree_if_there(path);
        }
    }
}
