//! A tree → a folder of the disk, for a sandbox that only reads it.
//!
//! Owners are nobody's: in the sandbox all belong to the one user there is. Of modes it is kept
//! whether a file may be executed.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::bundle::digest::Digest;
use crate::compile::store::{EPOCH, Store, epoch, is_executable, is_untouched};
use crate::compile::tree::{Kind, Node, Tree};

/// How files come from the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// As other names of what the store has, but for a content that was there already: two files stay two.
    Linked,
    /// As files of their own.
    Copied,
}

/// Lays the tree out in `folder`, which has to be there and empty; or, if the tree is one file without a name, at that path. Every file is read
/// before it is believed.
///
/// # Errors
/// A file that the store lacks, or has damaged, in which case it is removed; what the machine says.
pub(super) fn lay_out(tree: &Tree, store: &Store, folder: &Path, content: Content) -> Result<()> {
    let mut seen = BTreeSet::new();
    for (path, node) in tree.entries() {
        let place = if path.is_empty() { folder.to_owned() } else { folder.join(path) };
        lay(node, store, &place, content, &mut seen).with_context(|| format!("cannot lay out `/{path}`"))?;
    }
    // Inner ones first: what is put into a directory changes its time.
    let directories: Vec<&str> =
        tree.entries().filter(|(_, node)| node.kind == Kind::Directory).map(|(path, _)| path).collect();
    for path in directories.into_iter().rev() {
        File::open(folder.join(path))?.set_modified(epoch())?;
    }
    if folder.is_dir() {
        File::open(folder)?.set_modified(epoch())?;
    }
    Ok(())
}

/// Whether all files of the tree are in `folder`, as far as their sizes and times tell.
pub(super) fn is_laid_out(tree: &Tree, folder: &Path) -> bool {
    tree.entries().all(|(path, node)| match node.kind {
        Kind::File { size, .. } => is_untouched(&folder.join(path), size),
        Kind::Directory | Kind::Link(_) => true,
    })
}

fn lay(
    node: &Node,
    store: &Store,
    place: &Path,
    content: Content,
    seen: &mut BTreeSet<Digest>,
) -> Result<()> {
    match &node.kind {
        Kind::Directory => make_directory(place)?,
        Kind::Link(target) => {
            symlink(target, place)?;
            let time = Timespec { tv_sec: EPOCH.try_into()?, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Kind::File { digest, .. } => {
            let kept = store.file(*digest, is_executable(node.mode));
            if Digest::of_all(&mut File::open(&kept)?)? != *digest {
                fs::remove_file(&kept)?;
                bail!("{} was damaged, and is removed: it comes again with the next run", kept.display());
            }
            let linked = content == Content::Linked && seen.insert(*digest);
            if !(linked && fs::hard_link(&kept, place).is_ok()) {
                fs::copy(&kept, place)?;
                File::open(place)?.set_modified(epoch())?;
            }
        }
    }
    Ok(())
}

/// Makes a directory with the same mode under every umask.
pub(super) fn make_directory(place: &Path) -> io::Result<()> {
    fs::create_dir(place)?;
    fs::set_permissions(place, Permissions::from_mode(0o755))
}
