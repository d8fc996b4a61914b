//! Blobs: bytes with a digest, in memory or on the disk, ready to be written as often as needed.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::{SpooledData, SpooledTempFile};

use super::identity::Identity;
use crate::bundle::digest::{Digest, Hashing};

/// What is larger waits in a temporary file.
const MEMORY_BYTES: usize = 8 << 20;
/// What is read from a file at once.
const BUFFER: usize = 64 << 10;

/// Some bytes and their digest. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Blob {
    /// The digest of the bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Memory(Arc<Vec<u8>>),
    /// A file without a name, which goes with its last user.
    Spooled(Arc<File>),
    /// A file of the cache, as it was when it held the bytes.
    Stored(PathBuf, Identity),
}

impl Blob {
    /// A blob of these bytes.
    pub fn of(bytes: Vec<u8>) -> Self {
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        Self { digest, size, body: Body::Memory(Arc::new(bytes)) }
    }

    /// The blob in a file that is known to hold it as long as the file is this one.
    pub(crate) fn known(path: PathBuf, identity: Identity, digest: Digest, size: u64) -> Self {
        Self { digest, size, body: Body::Stored(path, identity) }
    }

    /// The blob in a file, if the file is there and holds what it should.
    pub(crate) fn stored(path: PathBuf, digest: Digest, size: u64) -> Option<Self> {
        let mut file = File::open(&path).ok()?;
        let identity = Identity::of(&file.metadata().ok()?);
        let sound = identity.size == size && Digest::of_all(&mut file).ok()? == digest;
        sound.then_some(Self { digest, size, body: Body::Stored(path, identity) })
    }

    /// Reads the bytes.
    ///
    /// # Errors
    /// A file that is not there any more.
    pub fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        Ok(match &self.body {
            Body::Memory(bytes) => Box::new(bytes.as_slice()),
            Body::Spooled(file) => Box::new(FromStart { file, at: 0 }.take(self.size)),
            Body::Stored(path, _) => Box::new(File::open(path)?.take(self.size)),
        })
    }

    /// Writes the bytes to `out`.
    ///
    /// # Errors
    /// Also if a file no longer holds them.
    pub fn copy(&self, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        let whole = match &self.body {
            Body::Memory(bytes) => return out.write_all(bytes),
            Body::Spooled(file) => copy(FromStart { file, at: 0 }.take(self.size), out)? == self.size,
            Body::Stored(path, identity) => {
                let file = File::open(path)?;
                if Identity::of(&file.metadata()?) == *identity {
                    copy(file.take(self.size), out)? == self.size
                } else {
                    let mut out = Hashing::new(out);
                    copy(file.take(self.size), &mut out)?;
                    let (_, digest, size) = out.finish();
                    (digest, size) == (self.digest, self.size)
                }
            }
        };
        if whole {
            return Ok(());
        }
        Err(io::Error::other(format!("the stored bytes of {} have changed", self.digest)))
    }
}

/// Copies with few calls.
fn copy(from: impl Read, to: &mut (impl Write + ?Sized)) -> io::Result<u64> {
    io::copy(&mut BufReader::with_capacity(BUFFER, from), to)
}

/// Reads a file from its start, whoever else reads it.
struct FromStart<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(buffer, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

/// Collects what is written into a blob.
pub struct BlobWriter(Hashing<SpooledTempFile>);

impl Default for BlobWriter {
    fn default() -> Self {
        Self(Hashing::new(SpooledTempFile::new(MEMORY_BYTES)))
    }
}

impl BlobWriter {
    /// The blob of all that was written.
    pub fn finish(self) -> Blob {
        let (spool, digest, size) = self.0.finish();
        let body = match spool.into_inner() {
            SpooledData::InMemory(bytes) => Body::Memory(Arc::new(bytes.into_inner())),
            SpooledData::OnDisk(file) => Body::Spooled(Arc::new(file)),
        };
        Blob { digest, size, body }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blobs_are_the_same_wherever_they_wait() {
        for size in [0, 1000, MEMORY_BYTES + 1000] {
            let bytes: Vec<u8> = (0..=250).cycle().take(size).collect();
            let mut writer = BlobWriter::default();
            bytes.chunks(7777).for_each(|chunk| writer.write_all(chunk).unwrap());
            let blob = writer.finish();
            assert_eq!((blob.digest, blob.size), (Digest::of(&bytes), size as u64));
            for _ in 0..2 {
                let mut copy = Vec::new();
                blob.copy(&mut copy).unwrap();
                assert!(copy == bytes);
            }
        }
    }

    #[test]
    fn a_damaged_file_is_no_blob() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "abc").unwrap();
        let blob = Blob::stored(path.clone(), Digest::of(b"abc"), 3).unwrap();
        assert!(Blob::stored(path.clone(), Digest::of(b"abd"), 3).is_none());
        std::fs::write(&path, "ab").unwrap();
        assert!(blob.copy(&mut Vec::new()).is_err());
        assert!(Blob::stored(folder.path().join("y"), Digest::of(b""), 0).is_none());
    }
}
