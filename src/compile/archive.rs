//! Tar archives that depend on nothing but what is put into them, and their compressed form.

use std::io::{self, Write};

use flate2::{Compression, GzBuilder, write::GzEncoder};

use super::blob::{Blob, BlobWriter};
use crate::bundle::digest::{Digest, Hashing};

const BLOCK: u64 = 512;
/// Two blocks of zeros.
const END: [u8; 1024] = [0; 1024];
/// What the octal size field of USTAR can hold: 8 GiB.
const MAX_SIZE: u64 = (1 << 33) - 1;

/// How layers are compressed. Part of every cache key: with another library or level, other bytes come out.
pub const CODEC: &str = "gzip zlib-rs-0.6 level 6 chunks 64k";
const LEVEL: Compression = Compression::new(6);

/// Writes plain USTAR: owner, group and time 0, no names, modes as told.
pub struct Archive<W> {
    out: W,
}

impl<W: Write> Archive<W> {
    /// Begins an archive.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Adds a regular file whose `size` bytes `body` writes.
    ///
    /// # Errors
    /// Also if the path or the size does not fit USTAR, or the body has another size.
    pub fn file(
        &mut self,
        path: &str,
        mode: u32,
        size: u64,
        body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        self.header(path, tar::EntryType::Regular, mode, size)?;
        let mut counted = Counted { out: &mut self.out, size: 0 };
        body(&mut counted)?;
        if counted.size != size {
            let message = format!("`{path}` has {} bytes, and {size} were announced", counted.size);
            return Err(io::Error::other(message));
        }
        let padding = size.next_multiple_of(BLOCK) - size;
        io::copy(&mut io::Read::take(io::repeat(0), padding), &mut self.out)?;
        Ok(())
    }

    /// Adds a directory, mode 0755.
    ///
    /// # Errors
    /// Also if the path does not fit USTAR.
    pub fn directory(&mut self, path: &str) -> io::Result<()> {
        self.header(&format!("{path}/"), tar::EntryType::Directory, 0o755, 0)
    }

    /// Writes the end of the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&END)?;
        Ok(self.out)
    }

    fn header(&mut self, path: &str, kind: tar::EntryType, mode: u32, size: u64) -> io::Result<()> {
        if size > MAX_SIZE {
            return Err(io::Error::other(format!(
                "`{path}` has more than 8 GiB, too much for a USTAR archive"
            )));
        }
        let mut header = tar::Header::new_ustar();
        header.set_path(path)?;
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }
}

struct Counted<'a, W> {
    out: &'a mut W,
    size: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A compressed archive.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The compressed bytes.
    pub blob: Blob,
    /// The digest of the archive itself, which is what OCI calls a layer's diff id.
    pub diff_id: Digest,
}

/// The archive below [`pack`]: hashed as it is, then compressed and hashed again.
pub type Packing = Archive<Hashing<Chunks<GzEncoder<BlobWriter>>>>;

/// Passes bytes on in chunks of one size. What a compressor makes of some bytes depends on how many come at once (seen with
/// zlib-rs 0.6), and reads of files and pipes are as long as they please.
pub struct Chunks<W> {
    inner: W,
    buffer: Vec<u8>,
}

impl<W: Write> Chunks<W> {
    const SIZE: usize = 64 << 10;

    fn new(inner: W) -> Self {
        Self { inner, buffer: Vec::with_capacity(Self::SIZE) }
    }

    fn finish(mut self) -> io::Result<W> {
        self.inner.write_all(&self.buffer)?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for Chunks<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(Self::SIZE - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        if self.buffer.len() == Self::SIZE {
            self.inner.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(taken)
    }

    /// Deliberately nothing: a flush would show in the compressed bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Compresses the archive that `fill` writes.
///
/// # Errors
/// What `fill` says, or a full disk.
pub fn pack(fill: impl FnOnce(&mut Packing) -> io::Result<()>) -> io::Result<Packed> {
    // No time, no name, and 255 for the system it was made on.
    let encoder = GzBuilder::new().mtime(0).operating_system(255).write(BlobWriter::default(), LEVEL);
    let mut archive = Archive::new(Hashing::new(Chunks::new(encoder)));
    fill(&mut archive)?;
    let (chunks, diff_id, _) = archive.finish()?.finish();
    Ok(Packed { blob: chunks.finish()?.finish()?.finish(), diff_id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::ustar::Reader;

    fn sample(archive: &mut Packing) -> io::Result<()> {
        archive.file("a/b", 0o755, 3, |out| out.write_all(b"abc"))?;
        archive.file("empty", 0o644, 0, |_| Ok(()))
    }

    #[test]
    fn archives_hold_nothing_of_this_machine() {
        let mut archive = Archive::new(Vec::new());
        archive.file("a/b", 0o755, 3, |out| out.write_all(b"abc")).unwrap();
        archive.directory("c").unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len(), 512 * 5);
        let mut reader = tar::Archive::new(bytes.as_slice());
        for entry in reader.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()), (0, 0, 0));
            assert_eq!((header.username().unwrap(), header.groupname().unwrap()), (Some(""), Some("")));
            assert_eq!(header.mode().unwrap(), 0o755);
        }
    }

    #[test]
    fn our_own_strict_reader_takes_it() {
        let long = format!("{}/{}", "a".repeat(90), "b".repeat(100));
        let mut archive = Archive::new(Vec::new());
        archive.file(&long, 0o644, 5, |out| out.write_all(b"12345")).unwrap();
        let bytes = archive.finish().unwrap();
        let mut reader = Reader::new(bytes.as_slice());
        let entry = reader.next_entry().unwrap().unwrap();
        assert_eq!((entry.path.as_str(), entry.mode), (long.as_str(), 0o644));
        assert_eq!(reader.body(10).unwrap(), b"12345");
        assert!(reader.next_entry().unwrap().is_none());
    }

    #[test]
    fn a_body_of_another_size_is_an_error() {
        let mut archive = Archive::new(Vec::new());
        assert!(archive.file("a", 0o644, 3, |out| out.write_all(b"ab")).is_err());
        assert!(archive.file("a", 0o644, 3, |out| out.write_all(b"abcd")).is_err());
        assert!(archive.file(&"a".repeat(300), 0o644, 0, |_| Ok(())).is_err());
        assert!(archive.file("a", 0o644, MAX_SIZE + 1, |_| Ok(())).is_err());
    }

    #[test]
    fn the_gzip_header_names_no_time_and_no_system() {
        let mut bytes = Vec::new();
        pack(sample).unwrap().blob.copy(&mut bytes).unwrap();
        assert_eq!(bytes[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
    }

    /// If this fails after an update of flate2 or zlib-rs, the compressed bytes have changed: change `CODEC` too.
    #[test]
    fn the_codec_is_what_its_name_says() {
        let text: String =
            (0..50_000).flat_map(|number| [number.to_string(), " bottles\n".to_owned()]).collect();
        // Neither may the size of the reads show.
        for chunk in [1, 7000, 1 << 20] {
            let packed = pack(|archive| {
                archive.file("bottles", 0o644, text.len() as u64, |out| {
                    text.as_bytes().chunks(chunk).try_for_each(|chunk| out.write_all(chunk))
                })
            });
            let packed = packed.unwrap();
            assert_eq!(packed.diff_id.short(), "28bbad1495bd");
            assert_eq!(packed.blob.digest.short(), "7b856663d2c4");
        }
    }
}
