//! Bundles taken apart, changed, and put together again: with every digest right, or with one thing wrong on purpose.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use rick::bundle::digest::Digest;
use rick::bundle::ustar::Reader;
use serde_json::Value;

const BLOCK: usize = 512;

/// A bundle as what it is: an archive.
#[derive(Clone)]
pub(crate) struct Bundle {
    pub(crate) entries: Vec<Entry>,
}

/// One entry of an archive, right or wrong.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) path: String,
    /// The type flag: `0` is a regular file.
    pub(crate) kind: u8,
    pub(crate) mode: u32,
    /// The size that its header tells.
    pub(crate) size: u64,
    pub(crate) bytes: Vec<u8>,
}

/// What a bundle holds for one host.
pub(crate) struct HostPart {
    pub(crate) manifest: Value,
    pub(crate) files: Vec<Entry>,
    /// How many more zeros stand at the end of the layer.
    pub(crate) more_zeros: usize,
}

impl Entry {
    pub(crate) fn file(path: &str, bytes: &[u8]) -> Self {
        Self {
            path: path.to_owned(),
            kind: b'0',
            mode: 0o644,
            size: bytes.len() as u64,
            bytes: bytes.to_vec(),
        }
    }

    /// Something that is no regular file.
    pub(crate) fn special(path: &str, kind: u8) -> Self {
        Self { kind, ..Self::file(path, b"") }
    }

    /// A blob under its right name.
    pub(crate) fn blob(bytes: &[u8]) -> Self {
        Self::file(&format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes)
    }

    pub(crate) fn is_blob(&self) -> bool {
        self.path.starts_with("blobs/")
    }

    /// The digest that its name tells.
    pub(crate) fn digest(&self) -> String {
        format!("sha256:{}", self.path.trim_start_matches("blobs/sha256/"))
    }

    fn pack(&self) -> Vec<u8> {
        let mut header = [0u8; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, self.path.as_bytes());
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, b"0000000");
        put(116, b"0000000");
        put(124, format!("{:011o}", self.size).as_bytes());
        put(136, b"00000000000");
        put(148, b"        ");
        put(156, &[self.kind]);
        put(257, b"ustar\x0000");
        if self.kind == b'2' {
            put(157, b"/etc/passwd");
        }
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let mut all = [&header, self.bytes.as_slice()].concat();
        all.resize(all.len().next_multiple_of(BLOCK), 0);
        all
    }
}

impl HostPart {
    fn mend(&mut self, before: &[Entry]) {
        let Some(listed) = self.manifest.get_mut("files").and_then(Value::as_object_mut) else { return };
        let is_new = |file: &&Entry| {
            !before.iter().any(|before| before.path == file.path && before.bytes == file.bytes)
        };
        for file in self.files.iter().filter(is_new) {
            let Some(listed) = listed.get_mut(&file.path).and_then(Value::as_object_mut) else { continue };
            listed.remove("digest");
            listed.remove("size");
            if listed["tokens"] == false {
                listed.insert("digest".to_owned(), Digest::of(&file.bytes).to_string().into());
                listed.insert("size".to_owned(), file.bytes.len().into());
            }
        }
    }
}

impl Bundle {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        Self { entries: unpack(bytes) }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        pack(&self.entries)
    }

    /// The bundle after a change to its archive.
    pub(crate) fn with(&self, change: impl FnOnce(&mut Vec<Entry>)) -> Vec<u8> {
        let mut changed = self.clone();
        change(&mut changed.entries);
        changed.bytes()
    }

    /// The bundle after a change to what it holds for a host, consistent in all its digests: the manifest says of files whose bytes changed
    /// what they are now.
    pub(crate) fn with_host(&self, host: &str, change: impl FnOnce(&mut HostPart)) -> Vec<u8> {
        let mut changed = self.clone();
        let manifest = changed.json(&path_of(&changed.host(host)));
        let (config, layer) = (&manifest["config"]["digest"], &manifest["layers"][0]["digest"]);
        let mut tar = Vec::new();
        MultiGzDecoder::new(changed.entry(&path_of(layer)).bytes.as_slice()).read_to_end(&mut tar).unwrap();
        let mut part =
            HostPart { manifest: changed.json(&path_of(config)), files: unpack(&tar), more_zeros: 0 };
        let before = part.files.clone();
        change(&mut part);
        part.mend(&before);
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(&pack(&part.files)).unwrap();
        gzip.write_all(&vec![0; part.more_zeros]).unwrap();
        changed.replace(layer.as_str().unwrap(), &gzip.finish().unwrap());
        changed.replace(config.as_str().unwrap(), &serde_json::to_vec(&part.manifest).unwrap());
        changed.bytes()
    }

    /// The digest of a host's manifest.
    pub(crate) fn host(&self, host: &str) -> Value {
        let index: Value = self.json("index.json");
        let name = format!("host-{host}");
        let is_it = |entry: &&Value| entry["annotations"]["org.opencontainers.image.ref.name"] == name;
        let entry = index["manifests"].as_array().and_then(|all| all.iter().find(is_it));
        entry.expect("the bundle has this host")["digest"].clone()
    }

    /// The bundle after a change to the text of a host's manifest, consistent in all its digests.
    pub(crate) fn with_text(&self, host: &str, change: impl FnOnce(&str) -> String) -> Vec<u8> {
        let mut changed = self.clone();
        let config = &changed.json(&path_of(&changed.host(host)))["config"]["digest"];
        let text = String::from_utf8(changed.entry(&path_of(config)).bytes.clone()).unwrap();
        changed.replace(config.as_str().unwrap(), change(&text).as_bytes());
        changed.bytes()
    }

    /// Puts other bytes in the place of a blob, and mends all that names it.
    pub(crate) fn replace(&mut self, old: &str, bytes: &[u8]) {
        let at = self.entries.iter().position(|entry| entry.is_blob() && entry.digest() == old).unwrap();
        let new = Entry::blob(bytes);
        if new.digest() == old {
            return;
        }
        let (digest, size) = (new.digest(), new.size);
        self.entries[at] = new;
        let names_it = |entry: &Entry| {
            let mut value: Value = serde_json::from_slice(&entry.bytes).ok()?;
            mend(&mut value, old, &digest, size).then(|| (entry.clone(), serde_json::to_vec(&value).unwrap()))
        };
        let all: Vec<(Entry, Vec<u8>)> = self.entries.iter().filter_map(names_it).collect();
        for (entry, bytes) in all {
            if entry.is_blob() {
                self.replace(&entry.digest(), &bytes);
            } else {
                *self.entries.iter_mut().find(|other| other.path == entry.path).unwrap() =
                    Entry::file(&entry.path, &bytes);
            }
        }
    }

    pub(crate) fn entry(&self, path: &str) -> &Entry {
        self.entries.iter().find(|entry| entry.path == path).unwrap_or_else(|| panic!("no entry `{path}`"))
    }

    pub(crate) fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.entry(path).bytes).unwrap()
    }
}

pub(crate) fn path_of(digest: &Value) -> String {
    digest.as_str().unwrap().replace("sha256:", "blobs/sha256/")
}

/// Replaces a digest wherever it stands, and the size beside it; says whether it stood anywhere.
fn mend(value: &mut Value, old: &str, new: &str, size: u64) -> bool {
    match value {
        Value::String(text) if text == old => {
            new.clone_into(text);
            true
        }
        Value::Array(all) => mend_all(all.iter_mut(), old, new, size),
        Value::Object(map) => {
            if map.get("digest").is_some_and(|digest| digest == old) {
                map.insert("size".to_owned(), size.into());
            }
            mend_all(map.values_mut(), old, new, size)
        }
        _ => false,
    }
}

/// The same for several, of which none is passed over.
fn mend_all<'a>(values: impl Iterator<Item = &'a mut Value>, old: &str, new: &str, size: u64) -> bool {
    values.filter_map(|value| mend(value, old, new, size).then_some(())).count() > 0
}

pub(crate) fn unpack(bytes: &[u8]) -> Vec<Entry> {
    let mut reader = Reader::new(bytes);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        let bytes = reader.body(u64::MAX).unwrap();
        entries.push(Entry { mode: entry.mode, ..Entry::file(entry.path.as_str(), &bytes) });
    }
    entries
}

fn pack(entries: &[Entry]) -> Vec<u8> {
    let mut bytes: Vec<u8> = entries.iter().flat_map(Entry::pack).collect();
    bytes.extend([0; 2 * BLOCK]);
    bytes
}
