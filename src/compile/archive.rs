//! Tar archives that depend on nothing but what is put into them, and their compressed form.

use std::cell::RefCell;
use std::io::{self, Read, Write};

use libdeflater::CompressionLvl;
use rayon::prelude::*;
use zstd::bulk::Compressor as Zstd;

use super::blob::{Blob, BlobWriter};
use super::owner::Owner;
use crate::bundle::digest::{Digest, Hashing};
use crate::bundle::oci;

const BLOCK: u64 = 512;
/// Two blocks of zeros.
const END: [u8; 1024] = [0; 1024];
/// What the octal size field of USTAR can hold: 8 GiB.
const MAX_SIZE: u64 = (1 << 33) - 1;

/// What the field of USTAR for the target of a link holds.
pub const MAX_TARGET: usize = 100;

const ZSTD_LEVEL: i32 = 3;
/// 1.5.7.
const ZSTD_VERSION: u32 = 10507;
const GZIP_LEVEL: CompressionLvl = match CompressionLvl::new(6) {
    Ok(level) => level,
    Err(_) => panic!("libdeflate has levels up to 12"),
};

/// Writes plain USTAR: time 0, no names, owners and modes as told.
pub struct Archive<W> {
    out: W,
}

impl<W: Write> Archive<W> {
    /// Begins an archive.
    pub fn new(out: W) -> Self {
        Self { out }
    }

    /// Adds a regular file of root whose `size` bytes `body` writes.
    ///
    /// # Errors
    /// As of [`owned_file`](Self::owned_file).
    pub fn file(
        &mut self,
        path: &str,
        mode: u32,
        size: u64,
        body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        self.owned_file(path, Owner::ROOT, mode, size, body)
    }

    /// Adds a regular file whose `size` bytes `body` writes.
    ///
    /// # Errors
    /// Also if the path or the size does not fit USTAR, or the body has another size.
    pub fn owned_file(
        &mut self,
        path: &str,
        owner: Owner,
        mode: u32,
        size: u64,
        body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        if size > MAX_SIZE {
            let message = format!("`{path}` has more than 8 GiB, too much for a USTAR archive");
            return Err(io::Error::other(message));
        }
        let mut header = header(tar::EntryType::Regular, owner, mode);
        header.set_path(path)?;
        header.set_size(size);
        self.add(header)?;
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

    /// Adds a directory.
    ///
    /// # Errors
    /// Also if the path does not fit USTAR.
    pub fn directory(&mut self, path: &str, owner: Owner, mode: u32) -> io::Result<()> {
        let mut header = header(tar::EntryType::Directory, owner, mode);
        // The slash at the end is a custom, and the type says the same: a path that just fits goes without it.
        let slashed = format!("{path}/");
        let fits = tar::Header::new_ustar().set_path(&slashed).is_ok();
        header.set_path(if fits { &slashed } else { path })?;
        self.add(header)
    }

    /// Adds a symbolic link of root.
    ///
    /// # Errors
    /// Also if the path or the target does not fit USTAR.
    pub fn link(&mut self, path: &str, target: &str) -> io::Result<()> {
        let mut header = header(tar::EntryType::Symlink, Owner::ROOT, 0o777);
        header.set_path(path)?;
        header.set_link_name_literal(target)?;
        self.add(header)
    }

    /// Writes the end of the archive.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.write_all(&END)?;
        Ok(self.out)
    }

    fn add(&mut self, mut header: tar::Header) -> io::Result<()> {
        header.set_cksum();
        self.out.write_all(header.as_bytes())
    }
}

/// A header that says nothing of this machine, for an entry of no size.
fn header(kind: tar::EntryType, owner: Owner, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header.set_uid(owner.uid().into());
    header.set_gid(owner.gid().into());
    header.set_mtime(0);
    header
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

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// What all takes that reads images since 2022, smaller and several times faster than gzip.
    Zstd,
    /// What everything reads.
    Gzip,
}

impl Codec {
    /// All of them, with the words for them.
    pub const ALL: [(&str, Self); 2] = [("zstd", Self::Zstd), ("gzip", Self::Gzip)];

    /// The codec with all that its bytes depend on. Part of every cache key: with another library or level, other bytes come out.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd 1.5.7 level 3, frames 4m",
            Self::Gzip => "gzip libdeflate-1.26 level 6, members 1m",
        }
    }

    /// The size of a frame, before compression. Zstandard looks back over 2 MiB, and loses a hundredth with frames of 4.
    fn frame(self) -> usize {
        match self {
            Self::Zstd => 4 << 20,
            Self::Gzip => 1 << 20,
        }
    }

    /// A whole frame of these bytes, in one go, which is faster than a stream.
    fn compress(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        KEPT.with_borrow_mut(|kept| match self {
            Self::Zstd => match &mut kept.zstd {
                Some(zstd) => zstd.compress(bytes),
                none => none.insert(Zstd::new(ZSTD_LEVEL)?).compress(bytes),
            },
            Self::Gzip => {
                let gzip = kept.gzip.get_or_insert_with(|| libdeflater::Compressor::new(GZIP_LEVEL));
                let mut member = vec![0; gzip.gzip_compress_bound(bytes.len())];
                let size = gzip.gzip_compress(bytes, &mut member).map_err(io::Error::other)?;
                member.truncate(size);
                Ok(member)
            }
        })
    }

    /// The media type of a layer.
    pub fn layer(self) -> &'static str {
        match self {
            Self::Zstd => oci::LAYER_ZSTD,
            Self::Gzip => oci::LAYER_GZIP,
        }
    }
}

/// A compressed archive.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The compressed bytes.
    pub blob: Blob,
    /// How they are compressed.
    pub codec: Codec,
    /// The digest of the archive itself, which is what OCI calls a layer's diff id.
    pub diff_id: Digest,
}

/// The archive below [`pack`]: hashed as it is, then compressed and hashed again.
pub type Packing = Archive<Hashing<Frames>>;

/// What a thread keeps for the next frame: it is memory by the megabyte, which takes longer to get anew than a frame to hash. A compressor
/// makes the same bytes whatever it made before.
struct Kept {
    zstd: Option<Zstd<'static>>,
    gzip: Option<libdeflater::Compressor>,
    /// None while it is in use.
    batch: Option<Vec<u8>>,
}

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept { zstd: None, gzip: None, batch: Some(Vec::new()) }) };
}

/// How much is compressed at once, on as many cores as it has frames. What waits for that is in memory.
const BATCH: usize = 8 << 20;

/// Compresses in frames of one size, each by itself, so that cores can share them. Cutting by size also hides how many bytes come at once, on
/// which a compressor's output may depend: reads of files and pipes are as long as they please.
pub struct Frames {
    codec: Codec,
    batch: Vec<u8>,
    /// The batch is the thread's own, which the next one gets.
    is_kept: bool,
    out: BlobWriter,
    any: bool,
}

impl Frames {
    fn new(codec: Codec) -> io::Result<Self> {
        // Whoever builds rick may link another one, which makes other bytes.
        if codec == Codec::Zstd && zstd::zstd_safe::version_number() != ZSTD_VERSION {
            return Err(io::Error::other("this rickbuild is built with another zstd than 1.5.7"));
        }
        let kept = KEPT.with_borrow_mut(|kept| kept.batch.take());
        let is_kept = kept.is_some();
        let mut batch = kept.unwrap_or_default();
        // What is not used of it is never touched, and one that grows leaves holes behind.
        batch.reserve_exact(BATCH);
        Ok(Self { codec, is_kept, batch, out: BlobWriter::default(), any: false })
    }

    fn compress(&mut self) -> io::Result<()> {
        let frames = self.batch.par_chunks(self.codec.frame()).map(|bytes| self.codec.compress(bytes));
        for frame in frames.collect::<Vec<_>>() {
            self.out.write_all(&frame?)?;
        }
        self.any = true;
        self.batch.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<Blob> {
        if !self.batch.is_empty() {
            self.compress()?;
        }
        if !self.any {
            // Nothing at all is no compressed file.
            self.out.write_all(&self.codec.compress(&[])?)?;
        }
        // A thread that waits for others packs another layer meanwhile, and would keep two.
        if self.is_kept {
            KEPT.with_borrow_mut(|kept| kept.batch = Some(self.batch));
        }
        Ok(self.out.finish())
    }
}

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BATCH - self.batch.len());
        self.batch.extend_from_slice(&bytes[..taken]);
        if self.batch.len() == BATCH {
            self.compress()?;
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
pub fn pack(codec: Codec, fill: impl FnOnce(&mut Packing) -> io::Result<()>) -> io::Result<Packed> {
    let mut archive = Archive::new(Hashing::new(Frames::new(codec)?));
    fill(&mut archive)?;
    let (frames, diff_id, _) = archive.finish()?.finish();
    Ok(Packed { blob: frames.finish()?, codec, diff_id })
}

/// Compresses an archive as it is.
///
/// # Errors
/// What either side says.
pub fn compress(codec: Codec, archive: &mut impl Read) -> io::Result<Packed> {
    let mut hashing = Hashing::new(Frames::new(codec)?);
    io::copy(archive, &mut hashing)?;
    let (frames, diff_id, _) = hashing.finish();
    Ok(Packed { blob: frames.finish()?, codec, diff_id })
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
        archive.directory("c", Owner::ROOT, 0o755).unwrap();
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
    fn owners_links_and_directories_are_written_as_told() {
        let mut archive = Archive::new(Vec::new());
        let owner: Owner = "2097151:100".parse().unwrap();
        archive.owned_file("a", owner, 0o4755, 1, |out| out.write_all(b"x")).unwrap();
        archive.directory("tmp", owner, 0o1777).unwrap();
        archive.link("a/link", "../somewhere//else/").unwrap();
        assert!(archive.link("b", &"x".repeat(101)).is_err());
        let bytes = archive.finish().unwrap();
        let mut reader = tar::Archive::new(bytes.as_slice());
        let told: Vec<_> = reader
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let (header, link) =
                    (entry.header(), entry.link_name_bytes().map(std::borrow::Cow::into_owned));
                let link = String::from_utf8(link.unwrap_or_default()).unwrap();
                (header.uid().unwrap(), header.gid().unwrap(), header.mode().unwrap(), link)
            })
            .collect();
        let link = "../somewhere//else/".to_owned();
        let none = String::new();
        assert_eq!(
            told,
            [(2_097_151, 100, 0o4755, none.clone()), (2_097_151, 100, 0o1777, none), (0, 0, 0o777, link)]
        );
    }

    #[test]
    fn whatever_path_a_file_can_have_a_directory_can_have_too() {
        let mut archive = Archive::new(Vec::new());
        let paths = ["x".repeat(99), "x".repeat(100), format!("{}/{}", "a".repeat(99), "b".repeat(100))];
        for path in &paths {
            archive.directory(path, Owner::ROOT, 0o755).unwrap();
        }
        let bytes = archive.finish().unwrap();
        let mut reader = tar::Archive::new(bytes.as_slice());
        for (entry, path) in reader.entries().unwrap().zip(paths) {
            let entry = entry.unwrap();
            assert!(entry.header().entry_type().is_dir());
            assert_eq!(entry.path().unwrap().to_str().unwrap().trim_end_matches('/'), path);
        }
    }

    #[test]
    fn a_body_of_another_size_is_an_error() {
        let mut archive = Archive::new(Vec::new());
        assert!(archive.file("a", 0o644, 3, |out| out.write_all(b"ab")).is_err());
        assert!(archive.file("a", 0o644, 3, |out| out.write_all(b"abcd")).is_err());
        assert!(archive.file(&"a".repeat(300), 0o644, 0, |_| Ok(())).is_err());
        assert!(archive.file("a", 0o644, MAX_SIZE + 1, |_| Ok(())).is_err());
    }

    fn unpacked(packed: &Packed) -> Vec<u8> {
        let (mut bytes, mut archive) = (Vec::new(), Vec::new());
        packed.blob.copy(&mut bytes).unwrap();
        match packed.codec {
            Codec::Zstd => archive = zstd::decode_all(bytes.as_slice()).unwrap(),
            Codec::Gzip => {
                flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_end(&mut archive).unwrap();
            }
        }
        archive
    }

    #[test]
    fn the_gzip_header_names_no_time_and_no_system() {
        let mut bytes = Vec::new();
        pack(Codec::Gzip, sample).unwrap().blob.copy(&mut bytes).unwrap();
        assert_eq!(bytes[..8], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[9], 255);
    }

    #[test]
    fn what_is_compressed_is_the_archive() {
        for codec in [Codec::Zstd, Codec::Gzip] {
            let packed = pack(codec, sample).unwrap();
            assert_eq!(Digest::of(&unpacked(&packed)), packed.diff_id);
            let empty = pack(codec, |_| Ok(())).unwrap();
            assert_eq!(unpacked(&empty), END);
        }
    }

    #[test]
    fn a_compressor_makes_the_same_bytes_whatever_it_made_before() {
        let text = |seed: usize, size: usize| -> Vec<u8> {
            let word = |number: usize| format!("{} ", (number * seed) % 1009).into_bytes();
            (0..size).flat_map(word).take(size).collect()
        };
        let noise = |size: usize| -> Vec<u8> {
            let blocks = (0..).flat_map(|number: u32| Digest::of(&number.to_be_bytes()).bytes().to_vec());
            blocks.take(size).collect()
        };
        let large = [text(7, 4 << 20), noise(300_000), text(7, (4 << 20) - 1)];
        let small = [1, 20, 3000, 70_000].map(|size| [text(size, size), noise(size), vec![0; size]]);
        let inputs: Vec<Vec<u8>> =
            large.into_iter().chain(small.into_iter().flatten()).chain([vec![]]).collect();
        // One behind the other in memory, as frames are.
        let batch = text(7, 8 << 20);
        let parts = batch.chunks(1 << 20);
        for (_, codec) in Codec::ALL {
            let backwards = inputs.iter().rev().map(Vec::as_slice);
            for input in inputs.iter().map(Vec::as_slice).chain(backwards).chain(parts.clone()) {
                let anew = std::thread::scope(|scope| scope.spawn(|| codec.compress(input)).join());
                assert!(
                    codec.compress(input).unwrap() == anew.unwrap().unwrap(),
                    "{codec:?}, {}",
                    input.len()
                );
            }
        }
    }

    /// If this fails after an update of a library, the compressed bytes have changed: change the name of the codec too.
    #[test]
    fn a_codec_is_what_its_name_says() {
        let text: String =
            (0..750_000).flat_map(|number| [number.to_string(), " bottles\n".to_owned()]).collect();
        assert!(text.len() > BATCH + (2 << 20), "several frames of each codec, and more than one batch");
        for (codec, digest) in [(Codec::Zstd, "7323590de7e9"), (Codec::Gzip, "fb1509e43b09")] {
            // Neither may the size of the reads show.
            for chunk in [97, 7000, 3 << 20, 20 << 20] {
                let packed = pack(codec, |archive| {
                    archive.file("bottles", 0o644, text.len() as u64, |out| {
                        text.as_bytes().chunks(chunk).try_for_each(|chunk| out.write_all(chunk))
                    })
                });
                let packed = packed.unwrap();
                assert_eq!(packed.diff_id.short(), "67fb47056c6d");
                assert_eq!(packed.blob.digest.short(), digest, "{codec:?} in pieces of {chunk}");
            }
        }
    }
}
