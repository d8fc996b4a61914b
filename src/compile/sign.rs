//! Signs builds, with `ssh-keygen`: it knows all kinds of keys, in files, in agents and in hardware, and asks for passphrases and touches
//! on the terminal. No key is ever read here.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow};

use super::archive::Archive;
use super::blob::Blob;
use super::emit::{self, BLOBS, INDEX};
use crate::bundle::digest::Digest;
use crate::bundle::names::HostName;
use crate::bundle::oci::{self, Descriptor, Index};
use crate::bundle::signature::{self, ANNOTATION, MAX_BYTES, MAX_SIGNATURES, NAMESPACE, Signature};
use crate::bundle::ustar::Reader;
use crate::refusal::{Refusal, refuse};

/// The largest index or manifest, as hosts take it.
const MAX_DOCUMENT: u64 = 4 << 20;

/// A key to sign with.
#[derive(Clone, Debug)]
pub struct Signer {
    /// The file of a private key, or of the public key of one that an agent or hardware has.
    key: PathBuf,
}

impl Signer {
    /// The key in a file.
    ///
    /// # Errors
    /// There is no such file: better said before something is built.
    pub fn with(key: &Path) -> Result<Self> {
        if !key.is_file() {
            let what = format!("there is no key {}", key.display());
            return Err(Refusal::new(what).help("make one: `ssh-keygen -t ed25519 -f KEY`").into());
        }
        Ok(Self { key: key.to_owned() })
    }

    /// Signs manifests: their descriptors say so from then on. Gives the fingerprint of the key.
    ///
    /// # Errors
    /// What ssh-keygen says, which the person has read already.
    pub fn sign(&self, hosts: Vec<(&[u8], &mut Descriptor)>) -> Result<String> {
        let manifests: Vec<&[u8]> = hosts.iter().map(|(manifest, _)| *manifest).collect();
        let mut fingerprint = String::new();
        for (armored, (_, entry)) in self.signatures(&manifests)?.iter().zip(hosts) {
            let Some(Signature { key, .. }) = Signature::parse(armored) else {
                refuse!("ssh-keygen made a signature that is none");
            };
            fingerprint = key;
            let before = entry.annotations.get(ANNOTATION).map(String::as_str);
            let signatures = signature::with(before, armored);
            if signatures.len() > MAX_BYTES || signature::split(&signatures).count() > MAX_SIGNATURES {
                refuse!("the bundle has too many signatures: no host takes more than {MAX_SIGNATURES}");
            }
            entry.annotations.insert(ANNOTATION.to_owned(), signatures);
        }
        Ok(fingerprint)
    }

    /// All in one call, so that a passphrase is asked for once; by way of files, so that what is asked for is read from standard input, if that is a
    /// terminal.
    fn signatures(&self, manifests: &[&[u8]]) -> Result<Vec<String>> {
        if manifests.is_empty() {
            return Ok(Vec::new());
        }
        let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
        let places = (0..manifests.len()).map(|at| folder.path().join(at.to_string()));
        let places: Vec<PathBuf> = places.collect();
        for (place, manifest) in places.iter().zip(manifests) {
            fs::write(place, manifest).context("cannot write to a temporary folder")?;
        }
        let mut command = Command::new("ssh-keygen");
        command.args(["-Y", "sign", "-q", "-n", NAMESPACE, "-f"]).arg(&self.key).args(&places);
        let status = command.stdout(Stdio::null()).status().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Refusal::new("`ssh-keygen` is needed to sign, and not installed here")
                .help("install the package `openssh-client` (Arch: `openssh`)"),
            _ => Refusal::new(format!("cannot run ssh-keygen: {error}")),
        })?;
        if !status.success() {
            let what =
                format!("ssh-keygen does not sign with {}: its own words stand above", self.key.display());
            return Err(Refusal::new(what)
                .help("name a private key, or the public key of one that ssh-agent or a hardware key has")
                .help("where nobody can type a passphrase, as in CI, give the key to an agent: `ssh-add KEY`")
                .into());
        }
        let read = |place: &PathBuf| fs::read_to_string(place.with_extension("sig"));
        places.iter().map(read).collect::<io::Result<_>>().context("ssh-keygen wrote no signature")
    }
}

/// A bundle that was signed, and is not yet written.
pub struct SignedBundle {
    /// The file or directory.
    bundle: PathBuf,
    /// `index.json`.
    top: Blob,
    /// The bundle index as it was named, and as it is; none if the bundle has none.
    index: Option<(Digest, Blob)>,
    /// Each host with its build.
    pub hosts: Vec<(HostName, Digest)>,
    /// The fingerprint of the key.
    pub key: String,
}

/// Signs for each host of a bundle, which is a file or an OCI image layout in a directory.
///
/// # Errors
/// What is no bundle, and what the key says.
pub fn sign(bundle: &Path, signer: &Signer) -> Result<SignedBundle> {
    let is_none = |error: anyhow::Error| Refusal::new(format!("cannot sign {}: {error:#}", bundle.display()));
    let gathered = if bundle.is_dir() { gather_directory(bundle) } else { gather_file(bundle) };
    let (mut top, blobs) = gathered.map_err(is_none)?;
    let mut index: Option<(Digest, Index)> = None;
    if let Some(entry) = top.manifests.iter().find(|entry| entry.media_type == oci::INDEX) {
        let bytes = blob(&blobs, entry).map_err(is_none)?;
        index = Some((entry.digest, serde_json::from_slice(bytes).map_err(|error| is_none(error.into()))?));
    }
    let mut hosts = Vec::new();
    for entry in top.manifests.iter_mut().filter(|entry| entry.host().is_some()) {
        hosts.push((blob(&blobs, entry).map_err(is_none)?, entry));
    }
    if hosts.is_empty() {
        return Err(is_none(anyhow!("there is no host in it")).help("was it made by `rickbuild`?").into());
    }
    let key = signer.sign(hosts)?;
    let mut hosts = Vec::new();
    for entry in &top.manifests {
        let Some(host) = entry.host() else { continue };
        let same = |other: &&mut Descriptor| other.digest == entry.digest;
        for other in index.iter_mut().flat_map(|(_, index)| &mut index.manifests).filter(same) {
            other.annotations.clone_from(&entry.annotations);
        }
        hosts.push((host, entry.digest));
    }
    let index = index
        .map(|(before, index)| oci::canonical_json(&index).map(|now| (before, Blob::of(now))))
        .transpose()?;
    for entry in &mut top.manifests {
        if let Some((_, now)) = index.as_ref().filter(|(before, _)| *before == entry.digest) {
            (entry.digest, entry.size) = (now.digest, now.size);
        }
    }
    Ok(SignedBundle {
        bundle: bundle.to_owned(),
        top: Blob::of(oci::canonical_json(&top)?),
        index,
        hosts,
        key,
    })
}

impl SignedBundle {
    /// Writes the archive, if that is what was signed: all else as it was.
    ///
    /// # Errors
    /// What is read and what is written to say.
    pub fn write(&self, out: impl Write) -> io::Result<()> {
        let (mut archive, mut reader) = (Archive::new(out), open(&self.bundle)?);
        while let Some(entry) = reader.next_entry().map_err(io::Error::other)? {
            let path = entry.path.as_str();
            let index = self.index.as_ref().filter(|(before, _)| path_of(before) == path);
            if path == INDEX {
                archive.file(path, entry.mode, self.top.size, |out| self.top.copy(out))?;
            } else if let Some((_, now)) = index {
                archive.file(&path_of(&now.digest), entry.mode, now.size, |out| now.copy(out))?;
            } else {
                let mut body = Body(&mut reader);
                archive.file(path, entry.mode, entry.size, |out| io::copy(&mut body, out).map(drop))?;
            }
        }
        archive.finish()?.flush()
    }

    /// Writes what is new into the directory, if that is what was signed. `index.json` comes last, and what it named before stays, for whoever reads
    /// meanwhile.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write_directory(&self) -> io::Result<()> {
        if let Some((_, now)) = &self.index {
            emit::write_blob(&self.bundle.join(path_of(&now.digest)), now)?;
        }
        emit::write_blob(&self.bundle.join(INDEX), &self.top)
    }
}

/// What has to be looked at: `index.json`, and some of the blobs.
type Gathered = (Index, BTreeMap<Digest, Vec<u8>>);

fn gather_file(bundle: &Path) -> Result<Gathered> {
    let (mut reader, mut top, mut blobs) = (open(bundle)?, None, BTreeMap::new());
    while let Some(entry) = reader.next_entry()? {
        match (entry.path.as_str(), &top) {
            (INDEX, _) => top = Some(parse(&reader.body(MAX_DOCUMENT)?)?),
            (path, Some(index)) => {
                if let Some(blob) = needed(index).find(|blob| path_of(&blob.digest) == path) {
                    blobs.insert(blob.digest, reader.body(MAX_DOCUMENT)?);
                }
            }
            (_, None) => {}
        }
    }
    Ok((top.context("it has no index.json")?, blobs))
}

fn gather_directory(layout: &Path) -> Result<Gathered> {
    let read = |path: &str| fs::read(layout.join(path)).with_context(|| format!("cannot read `{path}`"));
    let top = parse(&read(INDEX)?)?;
    let blobs = needed(&top).map(|blob| Ok((blob.digest, read(&path_of(&blob.digest))?)));
    let blobs = blobs.collect::<Result<_>>()?;
    Ok((top, blobs))
}

/// The manifests of hosts, and the bundle index.
fn needed(top: &Index) -> impl Iterator<Item = &Descriptor> {
    top.manifests.iter().filter(|entry| entry.host().is_some() || entry.media_type == oci::INDEX)
}

fn parse(index: &[u8]) -> Result<Index> {
    serde_json::from_slice(index).context("its index.json is not readable")
}

/// The bytes of a blob, if they are those that were named: nobody signs what came damaged.
fn blob<'a>(blobs: &'a BTreeMap<Digest, Vec<u8>>, entry: &Descriptor) -> Result<&'a [u8]> {
    let bytes = blobs.get(&entry.digest).filter(|bytes| Digest::of(bytes) == entry.digest);
    bytes.map(Vec::as_slice).with_context(|| format!("blob {} is missing or damaged", entry.digest))
}

fn open(bundle: &Path) -> io::Result<Reader<impl Read>> {
    Ok(Reader::new(BufReader::with_capacity(64 << 10, File::open(bundle)?)))
}

fn path_of(digest: &Digest) -> String {
    format!("{BLOBS}/{}", digest.hex())
}

/// What is left of an entry.
struct Body<'a, R>(&'a mut Reader<R>);

impl<R: Read> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_body(buffer).map_err(io::Error::other)
    }
}
