//! One layer of an image: what stands at its place, with the directories that lead there.

use std::io::{self, Write};

use serde::Serialize;

use super::cache::Cache;
use super::place::{Content, Entries, Entry};
use crate::bundle::digest::Digest;
use crate::bundle::oci;
use crate::compile::archive::{self, Archive, CODEC, Packed};

/// Changes when the same entries are written as other bytes.
const LAYER_FORMAT: u32 = 2;

/// The layer, from the cache if it is there.
pub(super) fn pack(entries: &Entries<'_>, cache: Option<&Cache>) -> anyhow::Result<Packed> {
    let key = key(entries)?;
    if let Some(packed) = cache.and_then(|cache| cache.get(key)) {
        return Ok(packed);
    }
    let packed = archive::pack(|archive| {
        entries.iter().try_for_each(|(path, entry)| write(archive, path.as_str(), entry))
    })?;
    if let Some(cache) = cache {
        cache.put(key, &packed);
    }
    Ok(packed)
}

fn write(archive: &mut Archive<impl Write>, path: &str, entry: &Entry<'_>) -> io::Result<()> {
    let Entry { owner, mode, .. } = *entry;
    match entry.content {
        Content::Directory => archive.directory(path, owner, mode),
        Content::File(file) => archive.owned_file(path, owner, mode, file.size, |out| file.copy(out)),
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

impl<'a> From<Content<'a>> for Told<'a> {
    fn from(content: Content<'a>) -> Self {
        match content {
            Content::Directory => Self::Directory,
            Content::File(file) => Self::File(file.digest),
            Content::Text(text) => Self::File(Digest::of(text.as_bytes())),
            Content::Link(target) => Self::Link(target),
        }
    }
}

/// All that the bytes of the layer depend on.
fn key(entries: &Entries<'_>) -> serde_json::Result<Digest> {
    let entries: Vec<_> = entries
        .iter()
        .map(|(path, entry)| (path, entry.owner.to_string(), entry.mode, Told::from(entry.content)))
        .collect();
    oci::canonical_json(&(LAYER_FORMAT, CODEC, entries)).map(|json| Digest::of(&json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::owner::Owner;

    #[test]
    fn the_key_tells_all_that_can_differ() {
        let one = |path: &str, owner: &str, mode, content| -> Digest {
            let owner: Owner = owner.parse().unwrap();
            key(&Entries::from([(path.parse().unwrap(), Entry { owner, mode, content })])).unwrap()
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
