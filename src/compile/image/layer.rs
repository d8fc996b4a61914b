//! One layer of an image: what stands at its place, with the directories that lead there.

use std::io::{self, BufWriter, Write};

use serde::Serialize;

use super::cache::Cache;
use super::place::{Content, Entries, Entry};
use crate::bundle::digest::{Digest, Hashing};
use crate::compile::archive::{self, Archive, Codec, Packed};

/// Changes when the same entries are written as other bytes.
const LAYER_FORMAT: u32 = 2;

/// The layer, from the cache if it is there.
pub(in crate::compile) fn pack(
    entries: &Entries<'_>,
    codec: Codec,
    cache: Option<&Cache>,
) -> anyhow::Result<Packed> {
    if let Some(key) = key(entries, codec)?
        && let Some(packed) = cache.and_then(|cache| cache.get(key, codec))
    {
        return Ok(packed);
    }
    let packed = archive::pack(codec, |archive| {
        entries.iter().try_for_each(|(path, entry)| write(archive, path.as_str(), entry))
    })?;
    // What was read is known now.
    Ok(match (cache, key(entries, codec)?) {
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

/// What an entry is, for a key.
#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Told<'a> {
    Directory,
    File(Digest),
    Link(&'a str),
}

impl<'a> Told<'a> {
    /// Nothing, if the digest of a file is not known yet.
    fn of(content: Content<'a>) -> Option<Self> {
        Some(match content {
            Content::Directory => Self::Directory,
            Content::File(file) => Self::File(file.digest()?),
            Content::Text(text) => Self::File(Digest::of(text.as_bytes())),
            Content::Link(target) => Self::Link(target),
        })
    }
}

/// All that the bytes of the layer depend on, as far as it is known.
fn key(entries: &Entries<'_>, codec: Codec) -> serde_json::Result<Option<Digest>> {
    let mut told = BufWriter::new(Hashing::new(io::sink()));
    serde_json::to_writer(&mut told, &(LAYER_FORMAT, codec.name()))?;
    for (path, Entry { owner, mode, content }) in entries {
        let Some(content) = Told::of(*content) else { return Ok(None) };
        serde_json::to_writer(&mut told, &(path, owner.uid(), owner.gid(), mode, content))?;
    }
    let hashing = told.into_inner().map_err(|error| serde_json::Error::io(error.into_error()))?;
    Ok(Some(hashing.finish().1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::owner::Owner;

    #[test]
    fn the_key_tells_all_that_can_differ() {
        let one = |path: &str, owner: &str, mode, content| -> Digest {
            let owner: Owner = owner.parse().unwrap();
            let entries = Entries::from([(path.parse().unwrap(), Entry { owner, mode, content })]);
            key(&entries, Codec::Zstd).unwrap().unwrap()
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
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
    }
}
