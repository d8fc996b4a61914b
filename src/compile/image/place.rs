//! What each layer of an image holds, path by path.
//!
//! A directory has the owner and mode that some layer declares for it, in every layer that has to write it, so that no layer takes
//! back what another one said, in whatever order they stand.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use anyhow::anyhow;

use super::cut::cut;
use crate::bundle::names::BundlePath;
use crate::compile::host::{Image, Layer, Piece};
use crate::compile::members::{Link, Members};
use crate::compile::owner::Owner;
use crate::compile::payload::PayloadFile;

/// The entries of a layer. Their order puts a directory before what is in it.
pub(super) type Entries<'a> = BTreeMap<BundlePath, Entry<'a>>;

/// What stands at a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) owner: Owner,
    pub(super) mode: u32,
    pub(super) content: Content<'a>,
}

/// The kinds of entries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    Directory,
    File(&'a PayloadFile),
    Text(&'a str),
    Link(&'a str),
}

/// The mode of a directory that says none.
const DIRECTORY: u32 = 0o755;
/// What a link's mode is said to be; nothing reads it.
const LINK: u32 = 0o777;

/// Directories of which a layer says whose they are.
type Declared<'a> = BTreeMap<BundlePath, Entry<'a>>;

/// The entries of each layer, in the order of the pieces, of which large ones are several. `members` are what the source of each piece holds,
/// if it has one. There are at most `most`, unless there are more
/// pieces.
pub(super) fn place<'a>(
    image: &'a Image,
    members: &'a [Members<'_>],
    most: usize,
) -> anyhow::Result<Vec<Entries<'a>>> {
    let own: Vec<Entries<'_>> = image
        .layers
        .iter()
        .zip(members)
        .map(|(layer, members)| own(layer, members))
        .collect::<anyhow::Result<_>>()?;
    let declared = declared(&image.layers, &own)?;
    cut(&own, most).into_iter().map(|entries| with_parents(entries, &declared)).collect()
}

/// What a layer puts at its place and, if that is a tree, below.
fn own<'a>(layer: &'a Layer, members: &'a Members<'_>) -> anyhow::Result<Entries<'a>> {
    let one = |owner, mode, content| Ok(Entries::from([(layer.at.clone(), Entry { owner, mode, content })]));
    match &layer.piece {
        Piece::Written { text, mode, owner } => one(*owner, *mode, Content::Text(text)),
        Piece::Linked { target } => one(Owner::ROOT, LINK, Content::Link(target)),
        Piece::EmptyDirectory { mode, owner } => one(*owner, *mode, Content::Directory),
        Piece::Copied { selection, owner, .. } => {
            let place = |relative: Option<&BundlePath>| match relative {
                Some(relative) => layer.at.join(relative.as_str()).map_err(|why| anyhow!(why)),
                None => Ok(layer.at.clone()),
            };
            let file = |file: &'a PayloadFile| {
                let mode = selection.mode(file);
                let entry = Entry { owner: *owner, mode, content: Content::File(file) };
                Ok((place(file.relative.as_ref())?, entry))
            };
            let link = |link: &'a Link| {
                let entry = Entry { owner: Owner::ROOT, mode: LINK, content: Content::Link(&link.target) };
                Ok((place(Some(&link.relative))?, entry))
            };
            let files = selection.of(&members.files).map(file);
            files.chain(selection.links(&members.links).map(link)).collect()
        }
    }
}

/// The directories of trees, which are their owner's; over those, the ones that are declared by themselves. Where trees stand in each
/// other, the inner one says it.
fn declared<'a>(layers: &[Layer], own: &[Entries<'a>]) -> anyhow::Result<Declared<'a>> {
    let mut declared = Declared::new();
    let mut inner_last: Vec<(&Layer, &Entries<'a>)> = layers.iter().zip(own).collect();
    inner_last.sort_by_key(|(layer, _)| layer.at.as_str().len());
    for (layer, entries) in inner_last {
        let Piece::Copied { owner, .. } = layer.piece else { continue };
        let entry = Entry { owner, mode: DIRECTORY, content: Content::Directory };
        for path in entries.keys() {
            for parent in parents(path)?.filter(|parent| is_at_or_below(parent, &layer.at)) {
                declared.insert(parent, entry);
            }
        }
    }
    let directories = own.iter().flatten().filter(|(_, entry)| matches!(entry.content, Content::Directory));
    declared.extend(directories.map(|(path, entry)| (path.clone(), *entry)));
    Ok(declared)
}

fn with_parents<'a>(mut entries: Entries<'a>, declared: &Declared<'a>) -> anyhow::Result<Entries<'a>> {
    let plain = Entry { owner: Owner::ROOT, mode: DIRECTORY, content: Content::Directory };
    let own: Vec<BundlePath> = entries.keys().cloned().collect();
    for path in &own {
        for parent in parents(path)? {
            let entry = declared.get(&parent).copied().unwrap_or(plain);
            entries.entry(parent).or_insert(entry);
        }
    }
    Ok(entries)
}

/// `a` and `a/b` of `a/b/c`.
fn parents(path: &BundlePath) -> anyhow::Result<impl Iterator<Item = BundlePath>> {
    let path = path.as_str();
    let parents = path.match_indices('/').map(|(slash, _)| path[..slash].parse());
    let parents: Result<Vec<BundlePath>, String> = parents.collect();
    parents.map(Vec::into_iter).map_err(|why| anyhow!(why))
}

fn is_at_or_below(path: &BundlePath, base: &BundlePath) -> bool {
    let rest = path.as_str().strip_prefix(base.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
