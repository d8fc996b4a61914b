//! Source files and places in them.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A file of the source tree, by its path relative to the root, with `/` on every system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourcePath(pub String);

impl std::fmt::Display for SourcePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A range of bytes in a source file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Span {
    /// The file.
    pub file: SourcePath,
    /// The first byte.
    pub start: usize,
    /// The byte after the last.
    pub end: usize,
}

impl Span {
    /// The place to name when a whole file is meant.
    pub fn start_of(file: &SourcePath) -> Self {
        Self { file: file.clone(), start: 0, end: 0 }
    }
}

/// The texts of all source files that were read, for excerpts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources(pub BTreeMap<SourcePath, String>);

impl Sources {
    /// Line and column of a byte, both from 1; the column counts characters.
    pub fn position(&self, file: &SourcePath, byte: usize) -> (usize, usize) {
        let text = self.0.get(file).map_or("", String::as_str);
        let before = text.get(..byte).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}
