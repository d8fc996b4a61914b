//! Layers that were packed before: what goes in decides what comes out, so it need not be compressed again.
//!
//! ```text
//! layers/KEY      {"diff_id": …, "digest": …, "size": …}
//! blobs/DIGEST    the compressed layer
//! ```
//!
//! A cache may be deleted at any time, be damaged or be read-only: a blob that is not as it was when it was last read is hashed, what does
//! not fit is made anew, and what cannot be kept is not kept. Nothing about it fails a build.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::bundle::digest::Digest;
use crate::compile::archive::{Codec, Packed};
use crate::compile::blob::Blob;
use crate::compile::identity::{Horizon, Identity};
use crate::compile::store::Store;

/// The folder of what is known of layers.
const LAYERS: &str = "layers";

/// Packed layers in a store.
pub(in crate::compile) struct Cache(Store);

/// What is known of a layer whose inputs are known.
#[derive(Serialize, Deserialize)]
struct Record {
    diff_id: Digest,
    digest: Digest,
    size: u64,
    /// The blob's file, if it was read when a change of it could not go unseen.
    seen: Option<Identity>,
}

impl Cache {
    /// Uses `directory`, which is made when something is to be kept.
    pub(in crate::compile) fn at(directory: &Path) -> Self {
        Self(Store::at(directory))
    }

    /// The layer under this key, if it is there and sound.
    pub(in crate::compile) fn get(&self, key: Digest, codec: Codec) -> Option<Packed> {
        let record: Record = self.0.record(LAYERS, key)?;
        let path = self.0.blob_path(record.digest);
        let identity = Identity::of(&fs::metadata(&path).ok()?);
        let horizon = Horizon::now();
        let blob = if record.seen.as_ref() == Some(&identity) {
            Blob::known(path, identity, record.digest, record.size)
        } else {
            let blob = Blob::stored(path, record.digest, record.size)?;
            if identity.is_settled(horizon) {
                let _ = self.record(key, &Record { seen: Some(identity), ..record });
            }
            blob
        };
        Some(Packed { blob, codec, diff_id: record.diff_id })
    }

    /// Keeps a layer, if that can be done, and gives the one in the cache then, so that not all layers of all images wait in memory. The blob
    /// goes first: a record never names what was not written.
    pub(in crate::compile) fn put(&self, key: Digest, packed: Packed) -> Packed {
        let Blob { digest, size, .. } = packed.blob;
        let record = Record { diff_id: packed.diff_id, digest, size, seen: None };
        let kept = self.0.keep_blob(digest, |file| packed.blob.copy(file)).and_then(|path| {
            self.record(key, &record)?;
            let identity = Identity::of(&fs::metadata(&path)?);
            Ok(Blob::known(path, identity, digest, size))
        });
        Packed { blob: kept.unwrap_or(packed.blob), ..packed }
    }

    fn record(&self, key: Digest, record: &Record) -> io::Result<()> {
        self.0.keep_record(LAYERS, key, record)
    }
}
