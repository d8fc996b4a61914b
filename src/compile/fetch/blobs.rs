//! The bytes in the cache, each file named by its digest, where builds read them.
//!
//! ```text
//! blobs/DIGEST     bytes whose digest this is
//! fetching/        what is on its way; emptied by whoever comes next
//! fetching.lock    held by who fetches
//! ```

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::{NamedTempFile, TempDir};

use super::progress::Progress;
use crate::bundle::digest::Digest;

/// The folder of blobs, and one beside it for what is not one yet.
pub(super) struct Blobs {
    folder: PathBuf,
    scratch: PathBuf,
    /// As long as it is open, nobody else empties the scratch folder.
    _lock: File,
}

impl Blobs {
    pub(super) fn at(cache: &Path, progress: &Progress) -> anyhow::Result<Self> {
        let (folder, scratch) = (cache.join("blobs"), cache.join("fetching"));
        let cannot = || format!("cannot use the cache {}", cache.display());
        fs::create_dir_all(&folder).with_context(cannot)?;
        let lock = File::create(cache.join("fetching.lock")).with_context(cannot)?;
        if lock.try_lock().is_err() {
            progress.begin("wait for another `rickbuild lock`");
            lock.lock().with_context(cannot)?;
        }
        // What a killed process left.
        match fs::remove_dir_all(&scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error).with_context(cannot),
            _ => fs::create_dir(&scratch).with_context(cannot)?,
        }
        Ok(Self { folder, scratch, _lock: lock })
    }

    /// The blob is there and sound: a build does not take one that is not.
    pub(super) fn has(&self, digest: Digest) -> bool {
        let file = File::open(self.path(digest));
        file.and_then(|mut file| Digest::of_all(&mut file)).is_ok_and(|found| found == digest)
    }

    /// Where a blob is.
    pub(super) fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(digest.hex())
    }

    /// A new folder for what is not verified; it goes when it is dropped.
    pub(super) fn scratch(&self) -> io::Result<TempDir> {
        tempfile::tempdir_in(&self.scratch)
    }

    /// Makes a blob of a file of a scratch folder, under its own digest, which is given.
    pub(super) fn adopt(&self, file: &Path) -> io::Result<Digest> {
        let digest = Digest::of_all(&mut File::open(file)?)?;
        fs::rename(file, self.path(digest))?;
        Ok(digest)
    }

    /// Makes a blob of a file of a scratch folder if it holds what it should; else gives its digest.
    pub(super) fn adopt_as(&self, file: &Path, digest: Digest) -> io::Result<Result<(), Digest>> {
        let found = Digest::of_all(&mut File::open(file)?)?;
        if found != digest {
            return Ok(Err(found));
        }
        fs::rename(file, self.path(digest))?;
        Ok(Ok(()))
    }

    /// Makes a blob of these bytes.
    pub(super) fn keep(&self, bytes: &[u8]) -> io::Result<()> {
        let mut file = NamedTempFile::new_in(&self.scratch)?;
        file.write_all(bytes)?;
        file.persist(self.path(Digest::of(bytes)))?;
        Ok(())
    }
}

impl Drop for Blobs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.scratch);
    }
}
