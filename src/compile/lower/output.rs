//! What lowering has made so far.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use super::Content;
use crate::bundle::digest::Digest;
use crate::bundle::manifest::FileEntry;
use crate::bundle::names::BundlePath;
use crate::bundle::token::{Piece, Token, pieces};
use crate::compile::finding::Finding;
use crate::compile::payload::PayloadFile;

/// Files, links, the tokens in the files, and what went wrong.
#[derive(Default)]
pub(super) struct Output {
    pub(super) entries: BTreeMap<BundlePath, FileEntry>,
    pub(super) contents: BTreeMap<BundlePath, Content>,
    pub(super) links: BTreeMap<BundlePath, String>,
    pub(super) tokens: BTreeSet<Token>,
    pub(super) findings: Vec<Finding>,
}

impl Output {
    /// Notes what is wrong.
    pub(super) fn problem(&mut self, message: impl Into<String>) {
        self.findings.push(Finding::error(message));
    }

    /// Adds a generated file, and collects its tokens.
    pub(super) fn text(&mut self, path: &str, text: String, executable: bool) {
        let found = match pieces(&text) {
            Ok(pieces) => pieces.into_iter().filter_map(token).collect::<Vec<_>>(),
            Err(why) => return self.problem(format!("in `{path}`: {why}")),
        };
        let entry = if found.is_empty() {
            FileEntry::as_it_is(mode(executable), Digest::of(text.as_bytes()), text.len() as u64)
        } else {
            FileEntry::with_tokens(mode(executable))
        };
        self.tokens.extend(found);
        self.add(path, entry, Content::Text(text));
    }

    /// Adds a file of the source tree. Nothing in it is a token.
    pub(super) fn payload(&mut self, path: &str, file: PayloadFile, executable: bool) {
        let Some(digest) = file.digest() else {
            return self.problem(format!("the payload {} of `{path}` was not read", file.location.display()));
        };
        let entry = FileEntry::as_it_is(mode(executable || file.executable), digest, file.size);
        self.add(path, entry, Content::Payload(file));
    }

    fn add(&mut self, path: &str, entry: FileEntry, content: Content) {
        let Some(path) = self.path(path) else { return };
        if self.contents.insert(path.clone(), content).is_some() {
            self.problem(format!("two files have the path `{path}` in the bundle"));
        }
        self.entries.insert(path, entry);
    }

    /// Adds a symbolic link.
    pub(super) fn link(&mut self, path: &str, target: &str) {
        let Some(path) = self.path(path) else { return };
        let before = self.links.insert(path.clone(), target.to_owned());
        if before.is_some_and(|before| before != target) {
            self.problem(format!("two links have the path `{path}` in the bundle"));
        }
    }

    /// A path in the bundle, or a problem.
    pub(super) fn path(&mut self, path: &str) -> Option<BundlePath> {
        path.parse().map_err(|why: String| self.problem(why)).ok()
    }

    /// All files at `path` or below.
    pub(super) fn below(&self, path: &BundlePath) -> Vec<BundlePath> {
        let inside = format!("{path}/");
        let below = |known: &&BundlePath| *known == path || known.as_str().starts_with(&inside);
        self.entries.keys().filter(below).cloned().collect()
    }

    /// Finds paths that are a file or link, and a directory for another.
    pub(super) fn finish_paths(&mut self) {
        let mut wrong = Vec::new();
        for path in self.entries.keys().chain(self.links.keys()) {
            for parent in path.parents() {
                if self.entries.contains_key(parent) || self.links.contains_key(parent) {
                    wrong.push(format!("`{parent}` is a file, and `{path}` needs it to be a directory"));
                }
            }
            if self.entries.contains_key(path) && self.links.contains_key(path) {
                wrong.push(format!("`{path}` is both a file and a link"));
            }
        }
        wrong.dedup();
        self.findings.extend(wrong.into_iter().map(Finding::error));
    }
}

fn mode(executable: bool) -> u32 {
    if executable { 0o755 } else { 0o644 }
}

fn token(piece: Piece<'_>) -> Option<Token> {
    match piece {
        Piece::Token(token) => Some(token),
        Piece::Text(_) => None,
    }
}
