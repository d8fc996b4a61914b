//! What a build left: files, links and the directories around them.
//!
//! Whoever wrote it may mean harm, and is gone: no process of the build is left that could change it. No link is followed, at any place of a path.

use std::fs::{self, DirEntry, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::bundle::names::BundlePath;
use crate::compile::store::Store;
use crate::compile::tree::{Change, Kind, Node};

/// Why an output cannot be taken.
pub(super) enum Trouble {
    /// It is not what an output can be.
    Unfit(String),
    /// The machine fails.
    Machine(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Machine(error)
    }
}

/// Takes an output. Whether a file may be executed is all that is taken of its mode.
pub(super) fn take(
    out: &Path,
    output: &BundlePath,
    store: &Store,
    changes: &mut Vec<(String, Change)>,
) -> Result<(), Trouble> {
    let unfit = |why: &str| Err(Trouble::Unfit(format!("`/out/{output}` {why}")));
    let mut place = out.to_owned();
    let mut parts = output.as_str().split('/').peekable();
    while let Some(part) = parts.next() {
        readable(&place)?;
        place.push(part);
        let Ok(metadata) = place.symlink_metadata() else { return unfit("was not made") };
        match parts.peek() {
            Some(_) if !metadata.is_dir() => return unfit("does not stand in directories"),
            None if metadata.is_symlink() => {
                return unfit("is a link: leave a file or a directory there");
            }
            _ => {}
        }
    }
    walk(&place, output.to_string(), store, changes)
}

fn walk(
    place: &Path,
    path: String,
    store: &Store,
    changes: &mut Vec<(String, Change)>,
) -> Result<(), Trouble> {
    let metadata = place.symlink_metadata()?;
    let executable = metadata.permissions().mode() & 0o100 != 0;
    let node = |mode, kind| Change::Put(Node { uid: 0, gid: 0, mode, kind });
    if metadata.is_dir() {
        changes.push((path.clone(), node(0o755, Kind::Directory)));
        readable(place)?;
        let mut entries = fs::read_dir(place)?.collect::<io::Result<Vec<DirEntry>>>()?;
        entries.sort_by_key(DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = name.to_str() else {
                return Err(Trouble::Unfit(format!(
                    "`/out/{path}/{}` has a name that is not UTF-8",
                    name.display()
                )));
            };
            walk(&entry.path(), format!("{path}/{name}"), store, changes)?;
        }
    } else if metadata.is_symlink() {
        let Ok(target) = fs::read_link(place)?.into_os_string().into_string() else {
            return Err(Trouble::Unfit(format!("`/out/{path}` is a link to what is not UTF-8")));
        };
        changes.push((path, node(0o777, Kind::Link(target))));
    } else if metadata.is_file() {
        readable(place)?;
        let (digest, size) = store.keep(&mut File::open(place)?, executable)?;
        changes.push((path, node(if executable { 0o755 } else { 0o644 }, Kind::File { digest, size })));
    } else {
        let what = "is neither a file nor a directory nor a link";
        return Err(Trouble::Unfit(format!("`/out/{path}` {what}")));
    }
    Ok(())
}

/// Lets its owner read what the build may have locked. It is no link.
fn readable(place: &Path) -> io::Result<()> {
    fs::set_permissions(place, Permissions::from_mode(0o700))
}
