//! Bundle → verified parts. One pass; nothing is believed before its digest holds.
//!
//! The first that comes of a build is the manifest of its host: unless somebody signed that whom this host trusts ([`super::trust`]), it is
//! also the last. Every blob must have been listed by one that was verified before it, come once, and have the size and digest that were listed.
//! What is meant for other hosts is verified as well, and dropped. What must be small is held in memory. The layer of
//! this host goes to a file without a name, and layers and configs of its images to `incoming/`, but for those that the image layout has.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::layer::Layer;
use super::state::State;
use super::trust::{Trust, Verdict};
use crate::bundle::digest::{Digest, Hashing};
use crate::bundle::manifest::HostManifest;
use crate::bundle::names::HostName;
use crate::bundle::oci::{self, Descriptor, Index, Manifest};
use crate::bundle::signature::ANNOTATION;
use crate::bundle::ustar::{Entry, Reader, UstarError};
use crate::durable;
use crate::refusal::{Refusal, refuse};

/// The largest `oci-layout`.
pub const MAX_LAYOUT: u64 = 4 << 10;
/// The largest `index.json`, `manifest.json`, manifest, or host config.
pub const MAX_DOCUMENT: u64 = 4 << 20;
/// The largest host layer, packed.
pub const MAX_HOST_LAYER: u64 = 256 << 20;
/// The most blobs that a bundle may name. Each takes some memory.
pub const MAX_BLOBS: usize = 1 << 16;
/// The largest blob of an image.
pub const MAX_IMAGE_BLOB: u64 = 8 << 30;

/// What a bundle holds for one host.
#[derive(Debug)]
pub struct Received {
    /// The digest of the host manifest: *the* digest of the build.
    pub digest: Digest,
    /// What the bundle says about this host.
    pub manifest: HostManifest,
    /// Who answers for it.
    pub verdict: Verdict,
    /// The bytes of `manifest`.
    pub config: Vec<u8>,
    /// The host layer; none if this is the build that the host has.
    pub layer: Option<Layer>,
    /// The manifests of this host's images that came with the bundle.
    pub images: Vec<Descriptor>,
    /// The blobs of those images that lie in `incoming/`, by the digest as a file name.
    pub blobs: Vec<Digest>,
}

/// The names that this host answers to: the one given, or its own and that up to the first dot.
#[derive(Clone, Debug)]
pub struct HostNames(Vec<String>);

impl HostNames {
    /// The host called `name`, if it is to be taken at its word.
    pub fn given(name: &HostName) -> Self {
        Self(vec![name.to_string()])
    }

    /// The host that calls itself `name`, perhaps with its domain.
    pub fn of_host(name: &str) -> Self {
        let name = name.trim().to_ascii_lowercase();
        let label = name.split('.').next().unwrap_or_default().to_owned();
        Self(vec![name, label])
    }

    /// What it calls itself.
    pub fn first(&self) -> &str {
        &self.0[0]
    }

    /// The host called `host` is this one.
    pub fn matches(&self, host: &HostName) -> bool {
        self.0.iter().any(|name| name == host.as_str())
    }
}

/// Reads and verifies a whole bundle. With `keep`, `incoming/` is written to; without, nothing of the host is. `current` is the build that
/// the host has: its layer is verified, and dropped. `partial`: what is not wanted need not come.
pub fn receive(
    bundle: impl Read,
    state: &State,
    names: &HostNames,
    trust: &Trust,
    keep: bool,
    current: Option<Digest>,
    partial: bool,
) -> Result<Received> {
    let mut receiver = Receiver::new(Reader::new(bundle), state, names, trust, keep, current);
    receiver.read_layout()?;
    receiver.read_index()?;
    while let Some(entry) = receiver.next_blob()? {
        receiver.read_blob(&entry)?;
    }
    receiver.finish(partial)
}

/// What a blob is, as far as the activator minds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A manifest: of a host, an image or something else.
    Manifest,
    /// The index over the whole bundle.
    Index,
    /// The config of a host manifest.
    HostConfig,
    /// The layer of a host manifest.
    HostLayer,
    /// A config or layer of something else.
    Other,
}

#[derive(Debug)]
struct Listed {
    kind: Kind,
    size: u64,
    /// It is this host's.
    wanted: bool,
    seen: bool,
}

/// The manifest of what may be this host: its digest, who answers for it, and what it names.
#[derive(Debug)]
struct Candidate {
    digest: Digest,
    verdict: Verdict,
    config: Digest,
    layer: Digest,
}

struct Receiver<'a, R> {
    reader: Reader<R>,
    state: &'a State,
    names: &'a HostNames,
    trust: &'a Trust,
    keep: bool,
    current: Option<Digest>,
    /// An entry that was read ahead of its turn.
    ahead: Option<Entry>,
    listed: BTreeMap<Digest, Listed>,
    index: Vec<Descriptor>,
    candidates: Vec<Candidate>,
    /// Hosts of the bundle that are not this one.
    others: Vec<HostName>,
    chosen: Option<(Candidate, HostManifest, Vec<u8>)>,
    layer: Option<Layer>,
    blobs: Vec<Digest>,
}

impl<'a, R: Read> Receiver<'a, R> {
    fn new(
        reader: Reader<R>,
        state: &'a State,
        names: &'a HostNames,
        trust: &'a Trust,
        keep: bool,
        current: Option<Digest>,
    ) -> Self {
        Self {
            reader,
            state,
            names,
            trust,
            keep,
            current,
            ahead: None,
            listed: BTreeMap::new(),
            index: Vec::new(),
            candidates: Vec::new(),
            others: Vec::new(),
            chosen: None,
            layer: None,
            blobs: Vec::new(),
        }
    }

    fn read_layout(&mut self) -> Result<()> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Layout {
            image_layout_version: String,
        }
        let body = self.expect_document("oci-layout", MAX_LAYOUT)?;
        let layout: Layout =
            serde_json::from_slice(&body).context("`oci-layout` of the bundle is not readable")?;
        if layout.image_layout_version != "1.0.0" {
            refuse!(
                "the bundle is an OCI layout of version `{}`, and only 1.0.0 is known",
                layout.image_layout_version
            );
        }
        Ok(())
    }

    fn read_index(&mut self) -> Result<()> {
        let body = self.expect_document("index.json", MAX_DOCUMENT)?;
        let index: Index =
            serde_json::from_slice(&body).context("`index.json` of the bundle is not readable")?;
        for entry in &index.manifests {
            let kind = if entry.media_type == oci::INDEX { Kind::Index } else { Kind::Manifest };
            self.list(entry, kind, false)?;
        }
        self.index = index.manifests;
        self.skip_docker_manifest()
    }

    /// `manifest.json` is there for `podman load` alone.
    fn skip_docker_manifest(&mut self) -> Result<()> {
        let Some(entry) = self.reader.next_entry()? else { return Ok(()) };
        if entry.path.as_str() == "manifest.json" {
            self.reader.body(MAX_DOCUMENT)?;
        } else {
            self.ahead = Some(entry);
        }
        Ok(())
    }

    fn expect_document(&mut self, path: &str, limit: u64) -> Result<Vec<u8>> {
        match self.reader.next_entry() {
            Ok(Some(entry)) if entry.path.as_str() == path => Ok(self.reader.body(limit)?),
            Ok(Some(entry)) => {
                refuse!("this is no bundle: `{path}` was expected, and `{}` stands there", entry.path)
            }
            Ok(None) | Err(UstarError::Truncated(None)) => {
                refuse!("this is no bundle: it ends where `{path}` was expected")
            }
            Err(error) => Err(error.into()),
        }
    }

    fn next_blob(&mut self) -> Result<Option<Entry>> {
        match self.ahead.take() {
            Some(entry) => Ok(Some(entry)),
            None => Ok(self.reader.next_entry()?),
        }
    }

    fn list(&mut self, blob: &Descriptor, kind: Kind, wanted: bool) -> Result<()> {
        let limit = limit_of(kind);
        if blob.size > limit {
            refuse!("blob {} has {} bytes, and at most {limit} are allowed", blob.digest, blob.size);
        }
        if self.listed.len() == MAX_BLOBS && !self.listed.contains_key(&blob.digest) {
            refuse!("the bundle names more than {MAX_BLOBS} blobs");
        }
        let new = Listed { kind, size: blob.size, wanted, seen: false };
        let listed = self.listed.entry(blob.digest).or_insert(new);
        if listed.kind != kind || listed.size != blob.size {
            refuse!("the bundle names blob {} twice, and differently", blob.digest);
        }
        if wanted && !listed.wanted && listed.seen {
            refuse!("blob {} of the bundle comes before what names it", blob.digest);
        }
        listed.wanted |= wanted;
        Ok(())
    }

    fn read_blob(&mut self, entry: &Entry) -> Result<()> {
        let digest = digest_of_path(entry)?;
        let Some(listed) = self.listed.get_mut(&digest) else {
            refuse!("blob {digest} of the bundle is named by nothing before it");
        };
        if listed.seen {
            refuse!("blob {digest} stands in the bundle twice");
        }
        listed.seen = true;
        if listed.size != entry.size {
            refuse!("blob {digest} should have {} bytes and has {}", listed.size, entry.size);
        }
        let (kind, wanted) = (listed.kind, listed.wanted);
        match kind {
            Kind::Manifest => self.read_manifest(digest),
            Kind::Index => self.read_bundle_index(digest),
            Kind::HostConfig => self.read_host_config(digest),
            Kind::HostLayer if wanted => self.spool_layer(digest),
            Kind::Other if wanted => self.write_blob(digest),
            Kind::HostLayer | Kind::Other => self.drop_blob(digest),
        }
    }

    fn read_manifest(&mut self, digest: Digest) -> Result<()> {
        let bytes = self.in_memory(digest, MAX_DOCUMENT)?;
        let manifest: Manifest =
            serde_json::from_slice(&bytes).with_context(|| format!("manifest {digest} is not readable"))?;
        if is_host(&manifest) {
            return self.read_host_manifest(digest, &manifest, &bytes);
        }
        let wanted = self.wants_image(&digest);
        // Two images may share a config of which only the second is wanted, so configs are kept as soon as any image is.
        self.list(&manifest.config, Kind::Other, self.wants_any_image())?;
        for layer in &manifest.layers {
            self.list(layer, Kind::Other, wanted)?;
        }
        if wanted { self.write_incoming(digest, &bytes) } else { Ok(()) }
    }

    fn read_host_manifest(&mut self, digest: Digest, manifest: &Manifest, bytes: &[u8]) -> Result<()> {
        let [layer] = manifest.layers.as_slice() else {
            refuse!("host manifest {digest} has {} layers instead of one", manifest.layers.len());
        };
        self.list(layer, Kind::HostLayer, false)?;
        let named: Vec<HostName> = self.entries(digest).filter_map(Descriptor::host).collect();
        if let (Some(other), false) = (named.first(), named.iter().any(|host| self.names.matches(host))) {
            self.others.push(other.clone());
            return self.list(&manifest.config, Kind::Other, false);
        }
        let signatures = self.entries(digest).find_map(|entry| entry.annotations.get(ANNOTATION));
        let verdict = self.trust.judge(bytes, signatures.map(String::as_str))?;
        self.list(&manifest.config, Kind::HostConfig, false)?;
        let (config, layer) = (manifest.config.digest, layer.digest);
        self.candidates.push(Candidate { digest, verdict, config, layer });
        Ok(())
    }

    /// What `index.json` says of a manifest.
    fn entries(&self, digest: Digest) -> impl Iterator<Item = &Descriptor> {
        self.index.iter().filter(move |entry| entry.digest == digest)
    }

    fn read_host_config(&mut self, digest: Digest) -> Result<()> {
        let bytes = self.in_memory(digest, MAX_DOCUMENT)?;
        let manifest = HostManifest::parse(&bytes).map_err(Refusal::new)?;
        if !self.names.matches(&manifest.host) {
            self.others.push(manifest.host);
            return Ok(());
        }
        if let Some((_, other, _)) = &self.chosen {
            refuse!("the bundle has two manifests for this host (`{}` and `{}`)", other.host, manifest.host);
        }
        let Some(at) = self.candidates.iter().position(|candidate| candidate.config == digest) else {
            refuse!("host config {digest} of the bundle belongs to no host manifest");
        };
        let candidate = self.candidates.swap_remove(at);
        let Some(layer) = self.listed.get_mut(&candidate.layer) else {
            refuse!("host manifest {} lists no layer", candidate.digest);
        };
        if layer.seen {
            refuse!("the layer of host `{}` comes before the host's config", manifest.host);
        }
        layer.wanted = self.current != Some(candidate.digest);
        self.chosen = Some((candidate, manifest, bytes));
        Ok(())
    }

    fn read_bundle_index(&mut self, digest: Digest) -> Result<()> {
        let bytes = self.in_memory(digest, MAX_DOCUMENT)?;
        let index: Index =
            serde_json::from_slice(&bytes).with_context(|| format!("index {digest} is not readable"))?;
        match index.manifests.iter().find(|entry| !self.listed.contains_key(&entry.digest)) {
            Some(entry) => refuse!("the bundle index names {}, and `index.json` does not", entry.digest),
            None => Ok(()),
        }
    }

    fn wants_any_image(&self) -> bool {
        self.chosen.as_ref().is_some_and(|(_, manifest, _)| !manifest.images.is_empty())
    }

    fn wants_image(&self, digest: &Digest) -> bool {
        self.chosen
            .as_ref()
            .is_some_and(|(_, manifest, _)| manifest.images.values().any(|image| image == digest))
    }

    fn in_memory(&mut self, digest: Digest, limit: u64) -> Result<Vec<u8>> {
        let bytes = self.reader.body(limit)?;
        expect_digest(digest, Digest::of(&bytes))?;
        Ok(bytes)
    }

    fn drop_blob(&mut self, digest: Digest) -> Result<()> {
        self.copy(digest, &mut io::sink(), Path::new("/dev/null"))
    }

    fn write_blob(&mut self, digest: Digest) -> Result<()> {
        let Some(path) = self.place_for(digest)? else { return self.drop_blob(digest) };
        // A large blob for which there is no room ends it now, not when the disk is full.
        durable::expect_room(&path, self.listed[&digest].size)?;
        self.copy(digest, &mut durable::create_new(&path, 0o644)?, &path)
    }

    /// Too large to be held in memory, and of no use to anybody else.
    fn spool_layer(&mut self, digest: Digest) -> Result<()> {
        let (mut file, path) = if self.keep {
            let path = self.state.incoming().join(digest.hex());
            durable::make_directory(&self.state.incoming(), 0o700)?;
            durable::expect_room(&path, self.listed[&digest].size)?;
            (durable::create_nameless(&path)?, path)
        } else {
            (durable::create_temporary()?, "a temporary file".into())
        };
        self.copy(digest, &mut file, &path)?;
        self.layer = Some(Layer::new(file));
        Ok(())
    }

    fn copy(&mut self, digest: Digest, to: &mut dyn Write, path: &Path) -> Result<()> {
        let mut to = Hashing::new(to);
        let mut buffer = vec![0; 128 << 10];
        loop {
            match self.reader.read_body(&mut buffer)? {
                0 => break,
                got => to
                    .write_all(&buffer[..got])
                    .with_context(|| format!("cannot write {}", path.display()))?,
            }
        }
        expect_digest(digest, to.finish().1)
    }

    fn write_incoming(&mut self, digest: Digest, bytes: &[u8]) -> Result<()> {
        match self.place_for(digest)? {
            Some(path) => durable::write_new(&path, bytes, 0o644),
            None => Ok(()),
        }
    }

    /// Where a blob is to be written; nowhere if nothing is kept, or if the layout has it.
    fn place_for(&mut self, digest: Digest) -> Result<Option<PathBuf>> {
        if !self.keep || has_blob(&self.state.image_blob(&digest), self.listed[&digest].size) {
            return Ok(None);
        }
        let directory = self.state.incoming();
        durable::make_directory(&directory, 0o700)?;
        self.blobs.push(digest);
        Ok(Some(directory.join(digest.hex())))
    }

    fn finish(self, partial: bool) -> Result<Received> {
        let missing = |(_, listed): &(&Digest, &Listed)| !(listed.seen || partial && !listed.wanted);
        if let Some((digest, _)) = self.listed.iter().find(missing) {
            return Err(Refusal::new(format!("blob {digest} is missing in the bundle"))
                .help("it was cut short or put together wrongly: compile or copy it again")
                .into());
        }
        let Some((candidate, manifest, config)) = self.chosen else {
            return Err(not_for_this_host(self.names.first(), &self.others).into());
        };
        let wanted = |entry: &Descriptor| manifest.images.values().any(|image| *image == entry.digest);
        let images = self.index.into_iter().filter(wanted).collect();
        Ok(Received {
            digest: candidate.digest,
            verdict: candidate.verdict,
            manifest,
            config,
            layer: self.layer,
            images,
            blobs: self.blobs,
        })
    }
}

fn limit_of(kind: Kind) -> u64 {
    match kind {
        Kind::Manifest | Kind::Index | Kind::HostConfig => MAX_DOCUMENT,
        Kind::HostLayer => MAX_HOST_LAYER,
        Kind::Other => MAX_IMAGE_BLOB,
    }
}

fn digest_of_path(entry: &Entry) -> Result<Digest> {
    let path = entry.path.as_str();
    let digest = path.strip_prefix("blobs/sha256/").map(|hex| format!("sha256:{hex}").parse());
    match digest {
        Some(Ok(digest)) => Ok(digest),
        _ => refuse!("entry `{path}` has no place in a bundle"),
    }
}

/// It is the manifest of a host. Some tools drop one of the two that say so.
pub(super) fn is_host(manifest: &Manifest) -> bool {
    manifest.artifact_type.as_deref() == Some(oci::HOST_ARTIFACT)
        || manifest.config.media_type == oci::HOST_CONFIG
}

/// Refuses bytes that are not those that were named.
pub(super) fn expect_digest(listed: Digest, found: Digest) -> Result<()> {
    if listed == found {
        return Ok(());
    }
    Err(Refusal::new(format!("blob {listed} is damaged: its bytes have the digest {found}"))
        .help("the bundle changed after it was compiled: compile or copy it again")
        .into())
}

/// A blob of this size lies there, which was verified when it came.
pub(super) fn has_blob(path: &Path, size: u64) -> bool {
    fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == size)
}

/// The refusal of a bundle for others.
pub(super) fn not_for_this_host(this: &str, others: &[HostName]) -> Refusal {
    if others.is_empty() {
        return Refusal::new("this bundle holds no host that this rick-activate knows")
            .help("was it made by `rickbuild`, of the same version?");
    }
    let list: Vec<String> = others.iter().map(|host| format!("`{host}`")).collect();
    Refusal::new(format!("this bundle is for {}; this host is `{this}`", list.join(", ")))
        .help(format!("if this is that host under another name, say `--host {}`", others[0]))
}
