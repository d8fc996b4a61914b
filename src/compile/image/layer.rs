//! The layers of an image: each declared piece, a file or tree at its place, is one, and a large piece several.
//!
//! A piece is cut where the names of its files say so, and not by counting: a file that comes, goes or changes touches the layer that it
//! is in, and perhaps the one beside it, whatever becomes of all others.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::anyhow;

use super::cache::Cache;
use crate::bundle::digest::Digest;
use crate::bundle::names::BundlePath;
use crate::bundle::oci;
use crate::compile::archive::{self, Codec, Packed};
use crate::compile::payload::PayloadFile;

/// Changes when the same files are written as other bytes.
const LAYER_FORMAT: u32 = 2;
/// About how many bytes a layer has if its piece is larger, and the image not so large that these would be too many.
const SMALLEST: u64 = 1 << 20;
/// The most layers that an image has: each is a directory that the kernel looks through for every name.
pub(super) const MAX_LAYERS: usize = 60;

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

/// Cuts the pieces of an image into its layers, each piece by itself: into as many as an image may have, but into none for the sake of it.
pub(super) fn cut<'a>(pieces: &[Files<'a>]) -> Vec<Files<'a>> {
    // Powers of two, so that it stays what it is while an image grows.
    let mut target = SMALLEST;
    loop {
        let layers: Vec<Files<'a>> = pieces.iter().flat_map(|piece| cut_piece(piece, target)).collect();
        if layers.len() <= MAX_LAYERS.max(pieces.len()) {
            return layers;
        }
        target *= 2;
    }
}

/// A layer ends before a file as often as that is large, measured by `target`; which ones, their paths decide.
fn cut_piece<'a>(piece: &Files<'a>, target: u64) -> Vec<Files<'a>> {
    let mut layers = vec![Files::new()];
    for (path, file) in piece {
        let dice = Digest::of(path.as_str().as_bytes()).first_u64();
        let ends = u128::from(dice) * u128::from(target) < u128::from(file.size) << 64;
        match layers.last_mut().filter(|layer| !ends || layer.is_empty()) {
            Some(layer) => drop(layer.insert(path.clone(), file)),
            None => layers.push(Files::from([(path.clone(), *file)])),
        }
    }
    layers
}

/// The layer, from the cache if it is there.
pub(super) fn pack(files: &Files<'_>, codec: Codec, cache: Option<&Cache>) -> anyhow::Result<Packed> {
    if let Some(key) = key(files, codec)?
        && let Some(packed) = cache.and_then(|cache| cache.get(key, codec))
    {
        return Ok(packed);
    }
    let packed = archive::pack(codec, |archive| {
        let mut directories = BTreeSet::new();
        for (path, file) in files {
            for parent in parents(path.as_str()) {
                if directories.insert(parent) {
                    archive.directory(parent)?;
                }
            }
            archive.file(path.as_str(), file.mode(), file.size, |out| file.copy(out).map(drop))?;
        }
        Ok(())
    })?;
    // What was read is known now.
    if let (Some(cache), Some(key)) = (cache, key(files, codec)?) {
        cache.put(key, &packed);
    }
    Ok(packed)
}

/// `a` and `a/b` of `a/b/c`.
fn parents(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(slash, _)| &path[..slash])
}

/// All that the bytes of the layer depend on; nothing, if the digest of a file is not known yet.
fn key(files: &Files<'_>, codec: Codec) -> serde_json::Result<Option<Digest>> {
    let entry = |(path, file): (_, &&PayloadFile)| Some((path, file.mode(), file.digest()?));
    let Some(entries) = files.iter().map(entry).collect::<Option<Vec<_>>>() else { return Ok(None) };
    oci::canonical_json(&(LAYER_FORMAT, codec.name(), entries)).map(|json| Some(Digest::of(&json)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(sizes: &BTreeMap<String, u64>) -> Vec<(BundlePath, PayloadFile)> {
        let file = |(path, size): (&String, &u64)| {
            let mut file = PayloadFile::of(None, false, b"", "/nowhere");
            file.size = *size;
            (path.parse().unwrap(), file)
        };
        sizes.iter().map(file).collect()
    }

    /// The paths of each layer of an image with one piece, which has these files.
    fn layers(sizes: &BTreeMap<String, u64>) -> Vec<Vec<String>> {
        let piece = piece(sizes);
        let files = piece.iter().map(|(path, file)| (path.clone(), file)).collect();
        cut(&[files]).iter().map(|layer| layer.keys().map(ToString::to_string).collect()).collect()
    }

    fn sizes(count: u32, size: u64) -> BTreeMap<String, u64> {
        (0..count).map(|number| (format!("s{}/p{number}", number / 100), size)).collect()
    }

    #[test]
    fn a_small_piece_is_one_layer_and_a_large_one_several() {
        assert_eq!(layers(&sizes(20, 1000)).len(), 1);
        let large = layers(&sizes(5000, 10_000)).len();
        assert!((20..=MAX_LAYERS).contains(&large), "{large}");
        assert_eq!(layers(&sizes(1, 1 << 40)).len(), 1, "a file is never cut");
    }

    #[test]
    fn pieces_are_never_mixed() {
        let pieces: Vec<_> =
            (0..70).map(|number| piece(&BTreeMap::from([(format!("f{number}"), 1)]))).collect();
        let placed = |piece: &Vec<(BundlePath, PayloadFile)>| -> Vec<BundlePath> {
            piece.iter().map(|(path, _)| path.clone()).collect()
        };
        let files: Vec<Files<'_>> = pieces
            .iter()
            .map(|piece| piece.iter().map(|(path, file)| (path.clone(), file)).collect())
            .collect();
        let layers: Vec<Vec<BundlePath>> =
            cut(&files).into_iter().map(|layer| layer.into_keys().collect()).collect();
        assert_eq!(layers, pieces.iter().map(placed).collect::<Vec<_>>());
    }

    #[test]
    fn one_file_touches_two_layers_at_most() {
        let mut sizes = sizes(5000, 10_000);
        let before = layers(&sizes);
        for (path, size) in [("s20/p2050", 10_100), ("s20/new", 3_000), ("a", 1)] {
            sizes.insert(path.to_owned(), size);
            let after = layers(&sizes);
            let other = after.iter().filter(|layer| !before.contains(layer)).count();
            assert!(other <= 2, "{path}: {other} layers are other ones");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_the_order_stays(
            sizes in prop::collection::btree_map("[a-c]{1,3}/[a-z]{1,6}", 0..(8u64 << 20), 1..200),
        ) {
            let layers = layers(&sizes);
            prop_assert!(layers.len() <= MAX_LAYERS && layers.iter().all(|layer| !layer.is_empty()));
            let all: Vec<String> = layers.concat();
            prop_assert_eq!(all, sizes.into_keys().collect::<Vec<_>>());
        }
    }
}
