//! The host layer: a gzipped archive → exactly the files that the manifest lists.

use std::collections::BTreeMap;
use std::io::Read as _;

use anyhow::{Context as _, Result};
use flate2::bufread::GzDecoder;

use super::refusal::refuse;
use crate::bundle::manifest::HostManifest;
use crate::bundle::names::BundlePath;
use crate::bundle::ustar::Reader;

/// How many bytes the files of a host may have.
pub const MAX_UNPACKED: u64 = 256 << 20;
/// The most files that a host may have.
pub const MAX_FILES: usize = 100_000;

/// Files and their bytes.
pub type Files = BTreeMap<BundlePath, Vec<u8>>;

/// Unpacks the layer of the host that `manifest` speaks about.
pub fn unpack(layer: &[u8], manifest: &HostManifest) -> Result<Files> {
    if manifest.files.len() > MAX_FILES {
        refuse!(
            "the bundle has {} files for this host, and at most {MAX_FILES} are allowed",
            manifest.files.len()
        );
    }
    // The archive ends in zeros of any number: what the decoder gives is limited, not only what the entries say.
    let mut reader = Reader::new(GzDecoder::new(layer).take(2 * MAX_UNPACKED));
    let (mut files, mut size) = (Files::new(), 0);
    let in_layer = "the host layer of the bundle is refused";
    while let Some(entry) = reader.next_entry().context(in_layer)? {
        let Some(listed) = manifest.files.get(&entry.path) else {
            refuse!("the host layer holds `{}`, and the manifest does not list it", entry.path);
        };
        if listed.mode != entry.mode {
            refuse!(
                "`{}` has mode {:o} in the host layer and {:o} in the manifest",
                entry.path,
                entry.mode,
                listed.mode
            );
        }
        size += entry.size;
        if size > MAX_UNPACKED {
            refuse!("the files of the host layer have more than {MAX_UNPACKED} bytes");
        }
        let bytes = reader.body(MAX_UNPACKED).context(in_layer)?;
        if files.insert(entry.path.clone(), bytes).is_some() {
            refuse!("the host layer holds `{}` twice", entry.path);
        }
    }
    match manifest.files.keys().find(|path| !files.contains_key(*path)) {
        Some(missing) => refuse!("the manifest lists `{missing}`, and the host layer does not hold it"),
        None => Ok(files),
    }
}
