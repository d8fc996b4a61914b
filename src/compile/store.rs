//! What files hold, by digest, on the disk: where the content of images and builds lies once it is not of the source tree.
//!
//! ```text
//! blobs/DIGEST        what was fetched, and packed layers
//! files/DIGEST[-x]    the content of a file, read-only; `-x` if it may be executed
//! trees/KEY           a file system, as a list
//! roots/KEY/          the same, laid out for a sandbox
//! builds/KEY          what a build made, as a list
//! layers/KEY          which blob is the layer of these files
//! scratch/            where builds run, and files are before they have their names
//! ```
//!
//! All of it may be deleted at any time but while a build runs. Files here have one time, since hard links of them stand in sandboxes.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tempfile::{NamedTempFile, TempDir};

use super::blob::Blob;
use super::tree::{Kind, Tree};
use crate::bundle::digest::{Digest, Hashing};
use crate::bundle::oci;

/// The time of all that a sandbox sees, in seconds since 1970: the first of January 1980, before which ZIP archives know no time.
pub const EPOCH: u64 = 315_532_800;

/// The same as a time of a file.
pub fn epoch() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH)
}

/// Whether a file with this mode is one that somebody may execute.
pub fn is_executable(mode: u32) -> bool {
    mode & 0o111 != 0
}

/// Whether a file that has the one time of them all is as it was written, as far as size and time tell.
pub fn is_untouched(place: &Path, size: u64) -> bool {
    place.symlink_metadata().is_ok_and(|there| {
        there.is_file() && there.len() == size && there.modified().is_ok_and(|time| time == epoch())
    })
}

/// A folder of content.
pub struct Store {
    folder: PathBuf,
    /// Where files are before they have their names.
    unnamed: Mutex<Option<Scratch>>,
}

impl Store {
    /// Uses `folder`, which is made when something is to be kept.
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), unnamed: Mutex::new(None) }
    }

    /// Where the content of a file is, if it is there.
    pub fn file(&self, digest: Digest, executable: bool) -> PathBuf {
        let suffix = if executable { "-x" } else { "" };
        self.folder.join("files").join(digest.hex() + suffix)
    }

    /// A folder for work, on the file system of the store.
    ///
    /// # Errors
    /// What the machine says.
    pub fn scratch(&self) -> io::Result<Scratch> {
        let all = self.made("scratch")?;
        // Whoever tidies does not take a new folder for one that nobody holds.
        let door = File::open(&all)?;
        flock(&door, FlockOperation::LockExclusive)?;
        for entry in fs::read_dir(&all)?.flatten() {
            remove_abandoned(&entry.path());
        }
        let folder = tempfile::tempdir_in(all)?;
        let held = File::open(folder.path())?;
        flock(&held, FlockOperation::NonBlockingLockShared)?;
        Ok(Scratch { folder, _held: held })
    }

    /// Keeps the content of a file; gives its digest and size.
    ///
    /// # Errors
    /// What either side says.
    pub fn keep(&self, content: &mut impl Read, executable: bool) -> io::Result<(Digest, u64)> {
        self.made("files")?;
        let mut hashing = Hashing::new(self.unnamed()?);
        io::copy(content, &mut hashing)?;
        let (file, digest, size) = hashing.finish();
        let place = self.file(digest, executable);
        let mode = if executable { 0o555 } else { 0o444 };
        file.as_file().set_permissions(Permissions::from_mode(mode))?;
        file.as_file().set_modified(epoch())?;
        file.persist(place)?;
        Ok((digest, size))
    }

    /// Whether the content of a file is there, as far as its size and time tell.
    pub fn has(&self, digest: Digest, executable: bool, size: u64) -> bool {
        is_untouched(&self.file(digest, executable), size)
    }

    /// Whether the content of all files of a tree is there.
    pub fn holds(&self, tree: &Tree) -> bool {
        tree.entries().all(|(_, node)| match node.kind {
            Kind::File { digest, size } => self.has(digest, is_executable(node.mode), size),
            Kind::Directory | Kind::Link(_) => true,
        })
    }

    /// Where a blob is, if it is there.
    pub fn blob_path(&self, digest: Digest) -> PathBuf {
        self.folder.join("blobs").join(digest.hex())
    }

    /// Keeps a blob, whole or not at all; gives its place. It may still be lost with the power: a reader checks it.
    ///
    /// # Errors
    /// What either side says.
    pub fn keep_blob(
        &self,
        digest: Digest,
        content: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<PathBuf> {
        self.made("blobs")?;
        let mut file = self.unnamed()?;
        content(file.as_file_mut())?;
        let path = self.blob_path(digest);
        file.persist(&path)?;
        Ok(path)
    }

    /// A blob that is there and sound.
    pub fn blob(&self, digest: Digest) -> Option<Blob> {
        let path = self.blob_path(digest);
        let size = fs::metadata(&path).ok()?.len();
        Blob::stored(path, digest, size)
    }

    /// Where a laid out file system of this key is, or has to be put.
    ///
    /// # Errors
    /// What the machine says.
    pub fn root(&self, key: Digest) -> io::Result<PathBuf> {
        Ok(self.made("roots")?.join(key.hex()))
    }

    /// What was kept as JSON below `kind`, if it is there and sound.
    pub fn record<T: DeserializeOwned>(&self, kind: &str, key: Digest) -> Option<T> {
        serde_json::from_slice(&fs::read(self.folder.join(kind).join(key.hex())).ok()?).ok()
    }

    /// Keeps something as JSON, whole or not at all.
    ///
    /// # Errors
    /// What the machine says.
    pub fn keep_record(&self, kind: &str, key: Digest, value: &impl Serialize) -> io::Result<()> {
        self.made(kind)?;
        let mut file = self.unnamed()?;
        file.write_all(&oci::canonical_json(value)?)?;
        file.persist(self.folder.join(kind).join(key.hex()))?;
        Ok(())
    }

    /// Makes all that was kept survive a power cut.
    ///
    /// # Errors
    /// What the machine says.
    pub fn sync(&self) -> io::Result<()> {
        rustix::fs::syncfs(File::open(&self.folder)?)?;
        Ok(())
    }

    fn unnamed(&self) -> io::Result<NamedTempFile> {
        let mut unnamed = self.unnamed.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = match unnamed.take() {
            Some(scratch) => scratch,
            None => self.scratch()?,
        };
        NamedTempFile::new_in(unnamed.insert(scratch).path())
    }

    fn made(&self, folder: &str) -> io::Result<PathBuf> {
        let folder = self.folder.join(folder);
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

/// A folder that is gone when it is dropped; or, if its owner is killed, when the next one is made.
pub struct Scratch {
    folder: TempDir,
    _held: File,
}

impl Scratch {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        unlock(self.path());
    }
}

/// Removes a folder for work that nobody holds any more.
fn remove_abandoned(folder: &Path) {
    let Ok(held) = File::open(folder) else { return };
    if flock(&held, FlockOperation::NonBlockingLockExclusive).is_ok() {
        unlock(folder);
        let _ = fs::remove_dir_all(folder);
    }
}

/// Lets the owner remove all below: a build may leave directories that nobody may write.
fn unlock(folder: &Path) {
    let _ = fs::set_permissions(folder, Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            unlock(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_content_is_there_once_for_each_way_of_use() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        for executable in [false, true, false] {
            let kept = store.keep(&mut b"abc".as_slice(), executable).unwrap();
            assert_eq!(kept, (Digest::of(b"abc"), 3));
        }
        assert_eq!(fs::read_dir(folder.path().join("files")).unwrap().count(), 2);
        let metadata = fs::metadata(store.file(Digest::of(b"abc"), true)).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o555);
        assert_eq!(metadata.modified().unwrap(), epoch());
    }

    #[test]
    fn what_a_power_cut_left_empty_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let place = store.file(Digest::of(b"abc"), false);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, "").unwrap();
        store.keep(&mut b"abc".as_slice(), false).unwrap();
        assert_eq!(fs::read(place).unwrap(), b"abc");
    }

    #[test]
    fn what_a_killed_build_left_is_removed_by_the_next_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let at_work = store.scratch().unwrap();
        let abandoned = folder.path().join("scratch/abandoned");
        fs::create_dir_all(abandoned.join("out/locked")).unwrap();
        fs::set_permissions(abandoned.join("out/locked"), Permissions::from_mode(0o0)).unwrap();
        let next = store.scratch().unwrap();
        assert!(!abandoned.exists() && at_work.path().exists() && next.path().exists());
    }

    #[test]
    fn a_damaged_record_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let key = Digest::of(b"");
        store.keep_record("trees", key, &vec![1, 2]).unwrap();
        assert_eq!(store.record::<Vec<u8>>("trees", key), Some(vec![1, 2]));
        fs::write(folder.path().join("trees").join(key.hex()), "[1,").unwrap();
        assert_eq!(store.record::<Vec<u8>>("trees", key), None);
    }
}
