//! What each layer of an image holds, path by path.
//!
//! A directory has the owner and mode that some layer declares for it, in every layer that has to write it, so that no layer takes
//! back what another one said, in whatever order they stand.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use anyhow::anyhow;
use rayon::prelude::*;

use super::cut::cut;
use crate::bundle::names::BundlePath;
use crate::compile::by_path::ByPath;
use crate::compile::host::{Image, Layer, Piece};
use crate::compile::members::{Link, Members};
use crate::compile::owner::Owner;
use crate::compile::payload::PayloadFile;
use crate::compile::tree::{Kind, Tree};

/// The entries of a layer.
pub(in crate::compile) type Entries<'a> = ByPath<Entry<'a>>;

/// What stands at a path.
#[derive(Clone, Copy, Debug)]
pub(in crate::compile) struct Entry<'a> {
    pub(in crate::compile) owner: Owner,
    pub(in crate::compile) mode: u32,
    pub(in crate::compile) content: Content<'a>,
}

/// The kinds of entries.
#[derive(Clone, Copy, Debug)]
pub(in crate::compile) enum Content<'a> {
    Directory,
    File(&'a PayloadFile),
    Text(&'a str),
    Link(&'a str),
}

/// The mode of a directory that says none.
const DIRECTORY: u32 = 0o755;
/// What a link's mode is said to be; nothing reads it.
const LINK: u32 = 0o777;

/// What each layer holds by itself. `members` are what the source of each piece holds, if it has one.
pub(in crate::compile) fn own_entries<'a>(
    image: &'a Image,
    members: &'a [Members<'_>],
) -> anyhow::Result<Vec<Entries<'a>>> {
    image.layers.iter().zip(members).map(|(layer, members)| own(layer, members)).collect()
}

/// The entries of each layer of an image, in the order of the pieces, of which large ones are several: at most `most`, unless there are more
/// pieces. `below` is the file system that they stand on.
pub(in crate::compile) fn place<'a>(
    image: &'a Image,
    own: &[Entries<'a>],
    below: Option<&Tree>,
    most: usize,
) -> Vec<Entries<'a>> {
    let directories = Directories { stated: stated(own), of_trees: of_trees(&image.layers, own), below };
    cut(own, most).into_par_iter().map(|entries| with_parents(&entries, &directories)).collect()
}

/// What a layer puts at its place and, if that is a tree, below.
fn own<'a>(layer: &'a Layer, members: &'a Members<'_>) -> anyhow::Result<Entries<'a>> {
    let one =
        |owner, mode, content| Ok([(layer.at.clone(), Entry { owner, mode, content })].into_iter().collect());
    match &layer.piece {
        Piece::Written { text, mode, owner } => one(*owner, *mode, Content::Text(text)),
        Piece::Linked { target } => one(Owner::ROOT, LINK, Content::Link(target)),
        Piece::EmptyDirectory { mode, owner } => one(*owner, *mode, Content::Directory),
        Piece::Copied { selection, owner, .. } => {
            let place = |relative: Option<&BundlePath>| match relative {
                Some(relative) => layer.at.join_path(relative).map_err(|why| anyhow!(why)),
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
            let files = members.files.par_iter().filter(|file| selection.takes(file)).map(file);
            // Of several that are wrong, the first is told, whichever was looked at first.
            let files: Vec<_> = files.collect();
            files.into_iter().chain(selection.links(&members.links).map(link)).collect()
        }
    }
}

/// What is known of directories, the first that says something of one being right.
struct Directories<'b> {
    /// Those that layers state by themselves.
    stated: BTreeMap<&'b str, (Owner, u32)>,
    /// Those that the image below has.
    below: Option<&'b Tree>,
    /// Those of trees.
    of_trees: BTreeMap<&'b str, Owner>,
}

impl Directories<'_> {
    fn entry<'a>(&self, path: &str) -> Entry<'a> {
        let below = || {
            let node = self.below?.get(path).filter(|node| node.kind == Kind::Directory)?;
            Some((Owner::of(node.uid, node.gid)?, node.mode))
        };
        let of_tree = || Some((*self.of_trees.get(path)?, DIRECTORY));
        let said = self.stated.get(path).copied().or_else(below).or_else(of_tree);
        let (owner, mode) = said.unwrap_or((Owner::ROOT, DIRECTORY));
        Entry { owner, mode, content: Content::Directory }
    }
}

fn stated<'b>(own: &'b [Entries<'_>]) -> BTreeMap<&'b str, (Owner, u32)> {
    let directories = own.iter().flatten().filter(|(_, entry)| matches!(entry.content, Content::Directory));
    directories.map(|(path, entry)| (path.as_str(), (entry.owner, entry.mode))).collect()
}

/// The directories of trees, which are their owner's. Where trees stand in each other, the inner one says it.
fn of_trees<'b>(layers: &'b [Layer], own: &'b [Entries<'_>]) -> BTreeMap<&'b str, Owner> {
    let mut inner_last: Vec<(&Layer, &Entries<'_>)> = layers.iter().zip(own).collect();
    inner_last.sort_by_key(|(layer, _)| layer.at.as_str().len());
    let mut directories = Vec::new();
    for (layer, entries) in inner_last {
        if let Piece::Copied { owner, .. } = layer.piece {
            let parents = parents(entries.as_slice().iter().map(|(path, _)| path));
            let inside = parents.filter(|(_, parent)| is_at_or_below(parent, &layer.at));
            directories.extend(inside.map(|(_, parent)| (parent, owner)));
        }
    }
    directories.into_iter().collect()
}

/// The entries, and a directory for each that has none of its own in them.
fn with_parents<'a>(entries: &[&(BundlePath, Entry<'a>)], directories: &Directories<'_>) -> Entries<'a> {
    let is_there = |parent: &str| entries.binary_search_by(|(path, _)| path.as_str().cmp(parent)).is_ok();
    let missing = parents(entries.iter().map(|(path, _)| path)).filter(|(_, parent)| !is_there(parent));
    let missing = missing.map(|(path, parent)| (path.parent(parent), directories.entry(parent)));
    entries.iter().copied().cloned().chain(missing).collect()
}

/// The directories that lead to sorted paths, each once; before it, the path that it was found with.
fn parents<'b>(
    paths: impl Iterator<Item = &'b BundlePath>,
) -> impl Iterator<Item = (&'b BundlePath, &'b str)> {
    let mut before = "";
    paths.flat_map(move |path| {
        let parents = path.parents_beyond(std::mem::replace(&mut before, path.as_str()));
        parents.map(move |parent| (path, parent))
    })
}

fn is_at_or_below(path: &str, base: &BundlePath) -> bool {
    let rest = path.strip_prefix(base.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
