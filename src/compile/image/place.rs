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
use crate::compile::tree::{Kind, Tree};

/// The entries of a layer. Their order puts a directory before what is in it.
pub(in crate::compile) type Entries<'a> = BTreeMap<BundlePath, Entry<'a>>;

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

/// Directories of which a layer says whose they are.
type Declared<'a> = BTreeMap<BundlePath, Entry<'a>>;

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
    own: Vec<Entries<'a>>,
    below: Option<&Tree>,
    most: usize,
) -> Vec<Entries<'a>> {
    let directories = Directories { stated: stated(&own), of_trees: of_trees(&image.layers, &own), below };
    cut(own, most).into_iter().map(|entries| with_parents(entries, &directories)).collect()
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
            let files = selection.of(&members.files).map(file);
            files.chain(selection.links(&members.links).map(link)).collect()
        }
    }
}

/// What is known of directories, the first that says something of one being right.
struct Directories<'a, 'b> {
    /// Those that layers state by themselves.
    stated: Declared<'a>,
    /// Those that the image below has.
    below: Option<&'b Tree>,
    /// Those of trees.
    of_trees: Declared<'a>,
}

impl<'a> Directories<'a, '_> {
    fn entry(&self, path: &BundlePath) -> Entry<'a> {
        let below = || {
            let node = self.below?.get(path.as_str()).filter(|node| node.kind == Kind::Directory)?;
            let owner = Owner::of(node.uid, node.gid)?;
            Some(Entry { owner, mode: node.mode, content: Content::Directory })
        };
        let plain = Entry { owner: Owner::ROOT, mode: DIRECTORY, content: Content::Directory };
        let stated = self.stated.get(path).copied().or_else(below);
        stated.or_else(|| self.of_trees.get(path).copied()).unwrap_or(plain)
    }
}

fn stated<'a>(own: &[Entries<'a>]) -> Declared<'a> {
    let directories = own.iter().flatten().filter(|(_, entry)| matches!(entry.content, Content::Directory));
    directories.map(|(path, entry)| (path.clone(), *entry)).collect()
}

/// The directories of trees, which are their owner's. Where trees stand in each other, the inner one says it.
fn of_trees<'a>(layers: &[Layer], own: &[Entries<'a>]) -> Declared<'a> {
    let mut declared = Declared::new();
    let mut inner_last: Vec<(&Layer, &Entries<'a>)> = layers.iter().zip(own).collect();
    inner_last.sort_by_key(|(layer, _)| layer.at.as_str().len());
    for (layer, entries) in inner_last {
        let Piece::Copied { owner, .. } = layer.piece else { continue };
        let entry = Entry { owner, mode: DIRECTORY, content: Content::Directory };
        let mut before = "";
        for path in entries.keys() {
            for parent in path.parents_beyond(before).filter(|parent| is_at_or_below(parent, &layer.at)) {
                declared.insert(path.parent(parent), entry);
            }
            before = path.as_str();
        }
    }
    declared
}

fn with_parents<'a>(mut entries: Entries<'a>, directories: &Directories<'a, '_>) -> Entries<'a> {
    let mut missing = Vec::new();
    let mut before = "";
    for path in entries.keys() {
        for parent in path.parents_beyond(before).filter(|parent| !entries.contains_key(*parent)) {
            let parent = path.parent(parent);
            let entry = directories.entry(&parent);
            missing.push((parent, entry));
        }
        before = path.as_str();
    }
    entries.extend(missing);
    entries
}

fn is_at_or_below(path: &str, base: &BundlePath) -> bool {
    let rest = path.strip_prefix(base.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
