//! A tree → a folder of the disk, for a sandbox that only reads it.
//!
//! Its files are hard links of those in the store. Owners are nobody's: in the sandbox all belong to the one user there is. Of modes it is kept
//! whether a file may be executed.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

use crate::bundle::digest::Digest;
use crate::compile::store::{EPOCH, Store, epoch, is_executable};
use crate::compile::tree::{Kind, Node, Tree};

/// Lays the tree out in `folder`, which has to be there and empty. Every file is read before it is believed.
///
/// # Errors
/// A file that the store lacks or has damaged; what the machine says.
pub(super) fn lay_out(tree: &Tree, store: &Store, folder: &Path) -> Result<()> {
    for (path, node) in tree.entries() {
        lay(node, store, &folder.join(path)).with_context(|| format!("cannot lay out `/{path}`"))?;
    }
    // Inner ones first: what is put into a directory changes its time.
    let directories: Vec<&str> =
        tree.entries().filter(|(_, node)| node.kind == Kind::Directory).map(|(path, _)| path).collect();
    for path in directories.into_iter().rev().chain([""]) {
        File::open(folder.join(path))?.set_modified(epoch())?;
    }
    Ok(())
}

/// Whether all files of the tree are in `folder`, as far as their sizes tell.
pub(super) fn is_laid_out(tree: &Tree, folder: &Path) -> bool {
    tree.entries().all(|(path, node)| match node.kind {
        Kind::File { size, .. } => {
            let there = folder.join(path).symlink_metadata();
            there.is_ok_and(|there| there.is_file() && there.len() == size)
        }
        Kind::Directory | Kind::Link(_) => true,
    })
}

fn lay(node: &Node, store: &Store, place: &Path) -> Result<()> {
    match &node.kind {
        Kind::Directory => make_directory(place)?,
        Kind::Link(target) => {
            symlink(target, place)?;
            let time = Timespec { tv_sec: EPOCH.try_into()?, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Kind::File { digest, .. } => {
            let content = store.file(*digest, is_executable(node.mode));
            let found = Digest::of_all(&mut File::open(&content)?)?;
            anyhow::ensure!(found == *digest, "what {} holds has changed: remove it", content.display());
            link_or_copy(&content, place)?;
        }
    }
    Ok(())
}

/// Makes a directory with the same mode under every umask.
pub(super) fn make_directory(place: &Path) -> io::Result<()> {
    fs::create_dir(place)?;
    fs::set_permissions(place, Permissions::from_mode(0o755))
}

/// A file system may have no more names for a file.
fn link_or_copy(content: &Path, place: &Path) -> io::Result<()> {
    match fs::hard_link(content, place) {
        Err(error) if matches!(error.kind(), io::ErrorKind::TooManyLinks | io::ErrorKind::CrossesDevices) => {
            fs::copy(content, place)?;
            File::open(place)?.set_modified(epoch())
        }
        other => other,
    }
}
