//! Which files of a tree are taken, and with which modes.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::members::Link;
use super::payload::PayloadFile;
use super::tree_pattern::TreePattern;

/// What an image takes of a file or tree.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Files of a tree that are left out.
    pub exclude: Vec<TreePattern>,
    /// The mode of what no pattern names; without one it is 0755 or 0644, as the source says.
    pub mode: Option<u32>,
    /// The modes of what patterns name. Of several, the last one counts.
    pub modes: Vec<(TreePattern, u32)>,
}

impl Selection {
    /// Whether a file is taken.
    pub fn takes(&self, file: &PayloadFile) -> bool {
        !self.exclude.iter().any(|pattern| is_meant(pattern, file))
    }

    /// The files that are taken.
    pub fn of<'a>(&self, members: &'a [PayloadFile]) -> impl Iterator<Item = &'a PayloadFile> {
        members.iter().filter(|file| self.takes(file))
    }

    /// The links that are taken.
    pub fn links<'a>(&self, links: &'a [Link]) -> impl Iterator<Item = &'a Link> {
        links.iter().filter(|link| !self.exclude.iter().any(|pattern| pattern.matches(&link.relative)))
    }

    /// The permission bits of a file.
    pub fn mode(&self, file: &PayloadFile) -> u32 {
        let named = self.modes.iter().rev().find(|(pattern, _)| is_meant(pattern, file));
        named.map(|(_, mode)| *mode).or(self.mode).unwrap_or_else(|| file.mode())
    }
}

/// Whether a pattern means a file. A source that is one file has no path that a pattern could mean.
pub fn is_meant(pattern: &TreePattern, file: &PayloadFile) -> bool {
    file.relative.as_ref().is_some_and(|path| pattern.matches(path))
}
