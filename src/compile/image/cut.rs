//! Large pieces of an image → several layers each.
//!
//! A piece is cut where the names of its files say so, and not by counting: a file that comes, goes or changes touches the layer that it
//! is in, and perhaps the one beside it, whatever becomes of all others. The one exception: an image that grows to more than 60 layers is cut
//! anew, into half as many.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::iter;

use super::place::{Content, Entries, Entry};
use crate::bundle::digest::Digest;
use crate::bundle::names::BundlePath;

/// About how many bytes a layer has if its piece is larger, and the image not so large that these would be too many. A power of two, as
/// all sizes are that layers may have instead, so that it stays what it is while an image grows.
const SMALLEST: u64 = 1 << 20;

/// Far above all that files have: no name is such that it has to end a layer even here.
const LARGEST: u64 = 1 << 62;

/// Cuts the pieces of an image into its layers, each piece by itself: into at most `most`, but into none for the sake of it.
pub(super) fn cut(pieces: Vec<Entries<'_>>, most: usize) -> Vec<Entries<'_>> {
    let ends: Vec<Vec<u64>> =
        pieces.iter().map(|piece| piece.iter().map(|(path, entry)| ends(path, entry)).collect()).collect();
    let layers = |target| -> usize {
        let inside = |ends: &Vec<u64>| ends.iter().skip(1).filter(|end| **end >= target).count();
        ends.iter().map(|ends| 1 + inside(ends)).sum()
    };
    let mut target = SMALLEST;
    while layers(target) > most.max(pieces.len()) && target <= LARGEST {
        target *= 2;
    }
    pieces.into_iter().zip(ends).flat_map(|(piece, ends)| cut_piece(piece, &ends, target)).collect()
}

/// The largest size of layers with which one ends before this entry; 0 if there is none. The larger a file is, the more often that is so; of
/// which ones, their paths decide.
fn ends(path: &BundlePath, entry: &Entry<'_>) -> u64 {
    let size = u128::from(size(entry)) << 64;
    if size == 0 {
        return 0;
    }
    let dice = u128::from(Digest::of(path.as_str().as_bytes()).first_u64());
    let targets = iter::successors(Some(SMALLEST), |target| (*target <= LARGEST).then(|| target * 2));
    targets.take_while(|target| dice * u128::from(*target) < size).last().unwrap_or(0)
}

fn cut_piece<'a>(piece: Entries<'a>, ends: &[u64], target: u64) -> Vec<Entries<'a>> {
    let mut layers: Vec<Vec<_>> = vec![Vec::new()];
    for (entry, end) in piece.into_iter().zip(ends) {
        match layers.last_mut().filter(|layer| *end < target || layer.is_empty()) {
            Some(layer) => layer.push(entry),
            None => layers.push(vec![entry]),
        }
    }
    layers.into_iter().map(Entries::from_iter).collect()
}

fn size(entry: &Entry<'_>) -> u64 {
    match entry.content {
        Content::File(file) => file.size,
        Content::Text(text) => text.len() as u64,
        Content::Directory | Content::Link(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::compile::host::MAX_LAYERS;
    use crate::compile::owner::Owner;
    use crate::compile::payload::PayloadFile;

    fn piece(sizes: &BTreeMap<String, u64>) -> Vec<(BundlePath, PayloadFile)> {
        let file = |(path, size): (&String, &u64)| {
            let mut file = PayloadFile::of(None, false, b"", "/nowhere");
            file.size = *size;
            (path.parse().unwrap(), file)
        };
        sizes.iter().map(file).collect()
    }

    fn entries(files: &[(BundlePath, PayloadFile)]) -> Entries<'_> {
        let entry = |file| Entry { owner: Owner::ROOT, mode: 0o644, content: Content::File(file) };
        files.iter().map(|(path, file)| (path.clone(), entry(file))).collect()
    }

    /// The paths of each layer of an image with one piece, which has these files.
    fn layers(sizes: &BTreeMap<String, u64>) -> Vec<Vec<String>> {
        let piece = piece(sizes);
        cut(vec![entries(&piece)], MAX_LAYERS)
            .iter()
            .map(|layer| layer.keys().map(ToString::to_string).collect())
            .collect()
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
        let all: Vec<Entries<'_>> = pieces.iter().map(|piece| entries(piece)).collect();
        let layers: Vec<Vec<BundlePath>> =
            cut(all, MAX_LAYERS).into_iter().map(|layer| layer.into_keys().collect()).collect();
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
