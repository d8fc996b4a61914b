//! One layer of an image: a file or tree at its place.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;

use super::cache::Cache;
use crate::bundle::digest::Digest;
use crate::bundle::names::BundlePath;
use crate::bundle::oci;
use crate::compile::archive::{self, CODEC, Packed};
use crate::compile::payload::PayloadFile;

/// Changes when the same files are written as other bytes.
const LAYER_FORMAT: u32 = 1;

/// The files of a layer at their path in the image.
pub(super) type Files<'a> = BTreeMap<BundlePath, &'a PayloadFile>;

/// Puts the members of a tree below `base`, or the one file at `base` itself.
pub(super) fn place<'a>(base: &BundlePath, members: &'a [PayloadFile]) -> anyhow::Result<Files<'a>> {
    let path = |member: &PayloadFile| match &member.relative {
        Some(relative) => base.join(relative.as_str()),
        None => Ok(base.clone()),
    };
    members.iter().map(|member| Ok((path(member).map_err(|why| anyhow!(why))?, member))).collect()
}

/// The layer, from the cache if it is there.
pub(super) fn pack(files: &Files<'_>, cache: Option<&Cache>) -> anyhow::Result<Packed> {
    let key = key(files)?;
    if let Some(packed) = cache.and_then(|cache| cache.get(key)) {
        return Ok(packed);
    }
    let packed = archive::pack(|archive| {
        let mut directories = BTreeSet::new();
        for (path, file) in files {
            for parent in parents(path.as_str()) {
                if directories.insert(parent) {
                    archive.directory(parent)?;
                }
            }
            archive.file(path.as_str(), file.mode(), file.size, |out| file.copy(out))?;
        }
        Ok(())
    })?;
    if let Some(cache) = cache {
        cache.put(key, &packed);
    }
    Ok(packed)
}

/// `a` and `a/b` of `a/b/c`.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(slash, _)| &path[..slash])
}

/// All that the bytes of the layer depend on.
fn key(files: &Files<'_>) -> serde_json::Result<Digest> {
    let entries: Vec<_> = files.iter().map(|(path, file)| (path, file.mode(), file.digest)).collect();
    oci::canonical_json(&(LAYER_FORMAT, CODEC, entries)).map(|json| Digest::of(&json))
}
