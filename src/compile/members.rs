//! What a source holds that an image or a build takes: files and, unless it is of the source tree, links.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::borrow::Cow;

use super::payload::PayloadFile;
use crate::bundle::names::BundlePath;

/// The files and links of a source.
#[derive(Clone, Debug, Default)]
pub struct Members<'a> {
    /// The files, sorted by their path; or the one file that the source is.
    pub files: Cow<'a, [PayloadFile]>,
    /// The symbolic links.
    pub links: Vec<Link>,
}

/// A symbolic link of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where it is, below the tree.
    pub relative: BundlePath,
    /// Where it leads.
    pub target: String,
}
