//! Large pieces of an image → several layers each.
//!
//! The largest run of files is cut in two, again and again, as long as it is worth it. Where, the names of its files say, among those near its
//! middle, and nobody counts: a file that comes, goes or changes touches the layer that it is in, and perhaps the one beside it. What has to
//! go with an image that has as many layers as it may is one cut elsewhere, so that two layers become one.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rayon::prelude::*;

use super::place::{Content, Entries, Entry};
use crate::bundle::digest::Digest;
use crate::bundle::names::BundlePath;

/// What is no larger than this, in bytes, is one layer.
const SMALL: u64 = 1 << 20;

/// Cuts the pieces of an image into its layers, each piece by itself: into at most `most`, but into none for the sake of it.
pub(super) fn cut<'b, 'a>(pieces: &'b [Entries<'a>], most: usize) -> Vec<Vec<&'b (BundlePath, Entry<'a>)>> {
    let all: Vec<_> = pieces.iter().flatten().collect();
    let files: Vec<File> = all.par_iter().map(|(path, entry)| File::of(path, entry)).collect();
    let (mut starts, mut runs, mut end) = (Vec::new(), BinaryHeap::new(), 0);
    for piece in pieces {
        let start = end;
        end += piece.as_slice().len();
        starts.push(start);
        runs.push(Run::of(&files, start, end));
    }
    while let Some(run) = runs.pop().filter(|run| starts.len() < most && run.size > SMALL) {
        // A single file stays as it is.
        if let Some(middle) = run.middle(&files) {
            starts.push(middle);
            runs.extend([Run::of(&files, run.start.0, middle), Run::of(&files, middle, run.end)]);
        }
    }
    starts.sort_unstable();
    let ends = starts.iter().skip(1).copied().chain([end]);
    starts.iter().zip(ends).map(|(start, end)| all[*start..end].to_vec()).collect()
}

/// What decides where cuts are.
struct File {
    size: u64,
    /// As good as drawn by lot, and the same for the same path.
    lot: u64,
}

impl File {
    fn of(path: &BundlePath, entry: &Entry<'_>) -> Self {
        Self { size: size(entry), lot: Digest::of(path.as_str().as_bytes()).first_u64() }
    }
}

/// Files that follow each other in a piece. Of all runs the largest is the greatest, and of those that are equally large the first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Run {
    size: u64,
    start: Reverse<usize>,
    end: usize,
}

impl Run {
    fn of(files: &[File], start: usize, end: usize) -> Self {
        let size = files[start..end].iter().map(|file| file.size).sum();
        Self { size, start: Reverse(start), end }
    }

    /// Where it is cut: before the file that is drawn among those with a quarter of all or more on either side. If that is none, before or after
    /// a large file, as near to the middle as can be.
    fn middle(&self, files: &[File]) -> Option<usize> {
        let mut before = 0;
        let places = (self.start.0 + 1..self.end).map(|place| {
            before += files[place - 1].size;
            let off = before.abs_diff(self.size - before);
            let is_near = off <= self.size / 2;
            (!is_near, if is_near { files[place].lot } else { off }, place)
        });
        places.min().map(|(.., place)| place)
    }
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
        let paths =
            |layer: Vec<&(BundlePath, Entry<'_>)>| layer.iter().map(|(path, _)| path.to_string()).collect();
        cut(&[entries(&piece)], MAX_LAYERS).into_iter().map(paths).collect()
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
        let layers: Vec<Vec<BundlePath>> = cut(&all, MAX_LAYERS)
            .into_iter()
            .map(|layer| layer.iter().map(|(path, _)| path.clone()).collect())
            .collect();
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
            let largest = after.iter().map(Vec::len).max();
            assert!(largest <= Some(5000 * 3 / 100), "one file takes {largest:?} along");
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
