//! The host layer: a gzipped archive → exactly the files that the manifest lists, with the bytes that it says.
//!
//! Payload is as large as it likes, so it is never held in memory: it goes from the archive to its place. What is held are the texts that
//! somebody here must read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, Write};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use flate2::bufread::MultiGzDecoder;

use super::desired::is_definition;
use crate::bundle::digest::Hashing;
use crate::bundle::manifest::{FileEntry, HostManifest};
use crate::bundle::names::BundlePath;
use crate::bundle::ustar::{Entry, Reader};
use crate::durable;
use crate::refusal::refuse;

/// How many bytes the files of a host may have.
pub const MAX_UNPACKED: u64 = 256 << 20;
/// Above so many bytes, the files may have only so many times the bytes of the layer.
pub const MAX_UNRATED: u64 = 16 << 20;
/// See [`MAX_UNRATED`]. Configuration becomes about ten times as many.
pub const MAX_RATIO: u64 = 200;
/// How many of those may be texts.
pub const MAX_TEXTS: u64 = 4 << 20;
/// The largest file whose lines are shown.
pub const MAX_SHOWN: u64 = 1 << 20;
/// The most files that a host may have.
pub const MAX_FILES: usize = 100_000;

/// Texts and their bytes.
pub type Texts = BTreeMap<BundlePath, Vec<u8>>;

/// The host layer, packed, in a file that nobody else sees.
#[derive(Debug)]
pub struct Layer(File);

/// Where the bytes of a file go.
enum Place {
    Memory,
    File(File, PathBuf),
    Nowhere,
}

impl Layer {
    /// The layer that `file` holds.
    pub fn new(file: File) -> Self {
        Self(file)
    }

    /// Holds every file of the layer against `manifest`, and gives the texts.
    pub fn texts(&self, manifest: &HostManifest) -> Result<Texts> {
        self.unpack(manifest, |path, listed| {
            Ok(if is_text(path, listed) { Place::Memory } else { Place::Nowhere })
        })
    }

    /// Writes payload to where `place` says; what has no place is left out.
    pub fn write(
        &self,
        manifest: &HostManifest,
        place: impl Fn(&BundlePath) -> Result<Option<PathBuf>>,
    ) -> Result<()> {
        let place = |path: &BundlePath, listed: &FileEntry| {
            let place = if is_text(path, listed) { None } else { place(path)? };
            let Some(place) = place else { return Ok(Place::Nowhere) };
            Ok(Place::File(durable::create_new(&place, listed.mode)?, place))
        };
        self.unpack(manifest, place).map(drop)
    }

    /// The payload that may be shown.
    pub fn shown(&self, manifest: &HostManifest) -> Result<Shown> {
        let file = durable::create_temporary()?;
        let (mut places, mut end) = (BTreeMap::new(), 0);
        self.unpack(manifest, |path, listed| {
            if is_text(path, listed) || listed.size > MAX_SHOWN {
                return Ok(Place::Nowhere);
            }
            places.insert(path.clone(), (end, listed.size));
            end += listed.size;
            // It goes on where the one before ended.
            Ok(Place::File(
                file.try_clone().context("cannot write a temporary file")?,
                "a temporary file".into(),
            ))
        })?;
        Ok(Shown { file, places })
    }

    fn unpack(
        &self,
        manifest: &HostManifest,
        mut place: impl FnMut(&BundlePath, &FileEntry) -> Result<Place>,
    ) -> Result<Texts> {
        if manifest.files.len() > MAX_FILES {
            refuse!(
                "the bundle has {} files for this host, and at most {MAX_FILES} are allowed",
                manifest.files.len()
            );
        }
        let packed = self.0.metadata().context("cannot read the host layer")?.len();
        let rated = MAX_UNRATED.max(packed.saturating_mul(MAX_RATIO));
        let mut reader = self.reader()?;
        let (mut seen, mut texts, mut size, mut held) = (BTreeSet::new(), Texts::new(), 0, 0);
        while let Some(entry) = reader.next_entry().context(IN_LAYER)? {
            let Some((path, listed)) = manifest.files.get_key_value(&entry.path) else {
                refuse!("the host layer holds `{}`, and the manifest does not list it", entry.path);
            };
            size += entry.size;
            if size > MAX_UNPACKED {
                refuse!("the files of the host layer have more than {MAX_UNPACKED} bytes");
            }
            if size > rated {
                refuse!(
                    "the {packed} bytes of the host layer become more than {rated}: nothing but a trap is packed that well"
                );
            }
            check_entry(&entry, listed)?;
            if !seen.insert(path) {
                refuse!("the host layer holds `{path}` twice");
            }
            match place(path, listed)? {
                Place::Memory => {
                    held += entry.size;
                    if held > MAX_TEXTS {
                        refuse!("the texts of the host layer have more than {MAX_TEXTS} bytes");
                    }
                    let mut bytes = Vec::new();
                    copy(&mut reader, path, listed, &mut bytes, &"memory")?;
                    texts.insert(path.clone(), bytes);
                }
                Place::File(mut file, place) => {
                    copy(&mut reader, path, listed, &mut file, &place.display())?;
                }
                Place::Nowhere => copy(&mut reader, path, listed, &mut io::sink(), &"nowhere")?,
            }
        }
        match manifest.files.keys().find(|path| !seen.contains(path)) {
            Some(missing) => refuse!("the manifest lists `{missing}`, and the host layer does not hold it"),
            None => Ok(texts),
        }
    }

    fn reader(&self) -> Result<Reader<impl Read>> {
        let mut file = &self.0;
        file.rewind().context("cannot read the host layer")?;
        // The archive ends in zeros of any number: what the decoder gives is limited, not only what the entries say.
        Ok(Reader::new(MultiGzDecoder::new(BufReader::with_capacity(64 << 10, file)).take(2 * MAX_UNPACKED)))
    }
}

/// Files that may be shown, one after the other in a file that nobody else sees.
#[derive(Debug)]
pub struct Shown {
    file: File,
    /// Where each begins, and how many bytes it has.
    places: BTreeMap<BundlePath, (u64, u64)>,
}

impl Shown {
    /// The bytes of a file.
    pub fn read(&self, path: &BundlePath) -> Option<Vec<u8>> {
        let (at, size) = self.places.get(path)?;
        let mut bytes = vec![0; usize::try_from(*size).ok()?];
        self.file.read_exact_at(&mut bytes, *at).ok()?;
        Some(bytes)
    }
}

const IN_LAYER: &str = "the host layer of the bundle is refused";

/// Somebody here must read it: all that has tokens, units and Quadlets, and what systemd is told of accounts and directories.
pub fn is_text(path: &BundlePath, listed: &FileEntry) -> bool {
    listed.tokens || is_definition(path) || !path.as_str().contains('/')
}

fn check_entry(entry: &Entry, listed: &FileEntry) -> Result<()> {
    let Entry { path, size, mode } = entry;
    if listed.mode != *mode {
        refuse!("`{path}` has mode {mode:o} in the host layer and {:o} in the manifest", listed.mode);
    }
    if listed.digest.is_some() && listed.size != *size {
        refuse!("`{path}` has {size} bytes in the host layer and {} in the manifest", listed.size);
    }
    Ok(())
}

fn copy(
    reader: &mut Reader<impl Read>,
    path: &BundlePath,
    listed: &FileEntry,
    to: &mut impl Write,
    place: &dyn Display,
) -> Result<()> {
    let mut to = Hashing::new(to);
    let mut buffer = [0; 16 << 10];
    loop {
        match reader.read_body(&mut buffer).context(IN_LAYER)? {
            0 => break,
            got => to.write_all(&buffer[..got]).with_context(|| format!("cannot write {place}"))?,
        }
    }
    let found = to.finish().1;
    match listed.digest {
        Some(digest) if digest != found => {
            refuse!("`{path}` has the digest {found} in the host layer and {digest} in the manifest")
        }
        _ => Ok(()),
    }
}
