//! Layers that were packed before: what goes in decides what comes out, so it need not be compressed again.
//!
//! ```text
//! layers/KEY      {"diff_id": …, "digest": …, "size": …}
//! blobs/DIGEST    the compressed layer
//! ```
//!
//! A cache may be deleted at any time, or be damaged: what is read from it is hashed first, and what does not fit is made anew.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::bundle::digest::Digest;
use crate::bundle::oci;
use crate::compile::archive::Packed;
use crate::compile::blob::Blob;

/// A directory of packed layers.
pub(super) struct Cache {
    layers: PathBuf,
    blobs: PathBuf,
}

/// What is known of a layer whose inputs are known.
#[derive(Serialize, Deserialize)]
struct Record {
    diff_id: Digest,
    digest: Digest,
    size: u64,
}

impl Cache {
    /// Uses `directory`, which is made if it is missing.
    pub(super) fn open(directory: &Path) -> anyhow::Result<Self> {
        let cache = Self { layers: directory.join("layers"), blobs: directory.join("blobs") };
        for folder in [&cache.layers, &cache.blobs] {
            fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the cache directory {}", folder.display()))?;
        }
        Ok(cache)
    }

    /// The layer under this key, if it is there and sound.
    pub(super) fn get(&self, key: Digest) -> Option<Packed> {
        let record = fs::read(self.layers.join(key.hex())).ok()?;
        let record: Record = serde_json::from_slice(&record).ok()?;
        let blob = Blob::stored(self.blobs.join(record.digest.hex()), record.digest, record.size)?;
        Some(Packed { blob, diff_id: record.diff_id })
    }

    /// Keeps a layer, and gives it back.
    pub(super) fn put(&self, key: Digest, packed: Packed) -> anyhow::Result<Packed> {
        let Blob { digest, size, .. } = packed.blob;
        let record = Record { diff_id: packed.diff_id, digest, size };
        write(&self.blobs, digest, |file| packed.blob.copy(file))?;
        let record = oci::canonical_json(&record)?;
        write(&self.layers, key, |file| file.write_all(&record))?;
        Ok(packed)
    }
}

/// Writes a file whole or not at all. It may still be lost with the power: a reader checks it.
fn write(
    folder: &Path,
    name: Digest,
    content: impl FnOnce(&mut fs::File) -> std::io::Result<()>,
) -> anyhow::Result<()> {
    let attempt = || -> std::io::Result<()> {
        let mut file = NamedTempFile::new_in(folder)?;
        content(file.as_file_mut())?;
        file.persist(folder.join(name.hex()))?;
        Ok(())
    };
    attempt().with_context(|| format!("cannot write into the cache directory {}", folder.display()))
}
