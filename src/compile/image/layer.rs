//! One layer of an image: what stands at its place, with the directories that lead there.

use std::io::{self, Write};

use super::cache::Cache;
use super::place::{Content, Entries, Entry};
use crate::bundle::digest::Digest;
use crate::compile::archive::{self, Archive, Codec, Packed};

/// Changes when the same entries are written as other bytes.
const LAYER_FORMAT: u32 = 2;

/// The layer, from the cache if it is there.
pub(in crate::compile) fn pack(
    entries: &Entries<'_>,
    codec: Codec,
    cache: Option<&Cache>,
) -> anyhow::Result<Packed> {
    if let Some(key) = key(entries, codec)
        && let Some(packed) = cache.and_then(|cache| cache.get(key, codec))
    {
        return Ok(packed);
    }
    let packed = archive::pack(codec, |archive| {
        entries.into_iter().try_for_each(|(path, entry)| write(archive, path.as_str(), entry))
    })?;
    // What was read is known now.
    Ok(match (cache, key(entries, codec)) {
        (Some(cache), Some(key)) => cache.put(key, packed),
        _ => packed,
    })
}

fn write(archive: &mut Archive<impl Write>, path: &str, entry: &Entry<'_>) -> io::Result<()> {
    let Entry { owner, mode, .. } = *entry;
    match entry.content {
        Content::Directory => archive.directory(path, owner, mode),
        Content::File(file) => {
            archive.owned_file(path, owner, mode, file.size, |out| file.copy(out).map(drop))
        }
        Content::Text(text) => {
            archive.owned_file(path, owner, mode, text.len() as u64, |out| out.write_all(text.as_bytes()))
        }
        Content::Link(target) => archive.link(path, target),
    }
}

/// All that the bytes of the layer depend on. Nothing, if the digest of a file is not known yet.
fn key(entries: &Entries<'_>, codec: Codec) -> Option<Digest> {
    let mut told = Told(LAYER_FORMAT.to_be_bytes().to_vec());
    told.text(codec.name());
    for (path, Entry { owner, mode, content }) in entries {
        told.text(path.as_str());
        told.0.extend([owner.uid(), owner.gid(), *mode].map(u32::to_be_bytes).as_flattened());
        match content {
            Content::Directory => told.text("directory"),
            Content::File(file) => told.file(file.digest()?),
            Content::Text(text) => told.file(Digest::of(text.as_bytes())),
            Content::Link(target) => {
                told.text("link");
                told.text(target);
            }
        }
    }
    Some(Digest::of(&told.0))
}

/// What a key is made of. Each text comes after its length, so that no two layers are told as the same bytes.
struct Told(Vec<u8>);

impl Told {
    fn text(&mut self, text: &str) {
        self.0.extend(text.len().to_be_bytes());
        self.0.extend(text.as_bytes());
    }

    fn file(&mut self, content: Digest) {
        self.text("file");
        self.0.extend(content.bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::compile::owner::Owner;

    #[test]
    fn the_key_tells_all_that_can_differ() {
        let one = |path: &str, owner: &str, mode, content| -> Digest {
            let owner: Owner = owner.parse().unwrap();
            let entries: Entries<'_> =
                [(path.parse().unwrap(), Entry { owner, mode, content })].into_iter().collect();
            key(&entries, Codec::Zstd).unwrap()
        };
        let keys = [
            one("a", "0", 0o644, Content::Text("x")),
            one("b", "0", 0o644, Content::Text("x")),
            one("a", "1:0", 0o644, Content::Text("x")),
            one("a", "0:1", 0o644, Content::Text("x")),
            one("a", "0", 0o4644, Content::Text("x")),
            one("a", "0", 0o644, Content::Text("y")),
            one("a", "0", 0o644, Content::Link("x")),
            one("a", "0", 0o644, Content::Link("y")),
            one("a", "0", 0o644, Content::Directory),
        ];
        let different: BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }

    /// Also wherever a text ends and the next begins.
    #[test]
    fn no_two_layers_have_one_key() {
        let (paths, targets) = (["a", "l", "ll"], ["", "l", "link"]);
        let mut keys = BTreeSet::new();
        // Each path is not there, or leads to one of the targets.
        for which in 0..64_usize {
            let target = |at: usize| (which >> (2 * at) & 3).checked_sub(1).map(|number| targets[number]);
            let links = paths.iter().enumerate().filter_map(|(at, path)| Some((path, target(at)?)));
            let link = |target| Entry { owner: Owner::ROOT, mode: 0o777, content: Content::Link(target) };
            let entries = links.map(|(path, target)| (path.parse().unwrap(), link(target)));
            keys.insert(key(&entries.collect(), Codec::Zstd).unwrap());
        }
        assert_eq!(keys.len(), 64);
    }
}
