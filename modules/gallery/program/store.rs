//! The photos on the disk.
//!
//! ```text
//! DATA/photos/NAME        a photo, whole
//! DATA/photos/.upload-N   one that is being received; of a server that was killed if none is running
//! ```
//!
//! Such a file gets its name by a rename, after its bytes are on the disk. No photo's name starts with a dot, so
//! what is half received can be neither seen nor asked for.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

/// What is read or written at once.
pub(crate) const CHUNK: usize = 256 * 1024;
const MAX_NAME: usize = 100;
const UPLOAD: &str = ".upload-";
/// Linux's flags for `open` on x86-64: follow no link, and wait for nobody at the other end of a pipe.
const NO_FOLLOW_NO_WAIT: i32 = 0o400_000 | 0o4_000;

/// A name that is safe in a path, in an address and in HTML.
#[derive(Debug, PartialEq)]
pub(crate) struct Name<'a> {
    text: &'a str,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Jpeg,
    Png,
    Webp,
    Gif,
    Avif,
}

impl<'a> Name<'a> {
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if text.len() > MAX_NAME || text.starts_with('.') || !text.bytes().all(allowed) {
            return None;
        }
        let (_, extension) = text.rsplit_once('.')?;
        let kind = match extension.to_ascii_lowercase().as_str() {
            "jpg" | "jpeg" => Kind::Jpeg,
            "png" => Kind::Png,
            "webp" => Kind::Webp,
            "gif" => Kind::Gif,
            "avif" => Kind::Avif,
            _ => return None,
        };
        Some(Self { text, kind })
    }
}

impl Kind {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Gif => "image/gif",
            Self::Avif => "image/avif",
        }
    }

    /// Do these first bytes belong to such a file?
    fn fits(self, bytes: &[u8]) -> bool {
        match self {
            Self::Jpeg => bytes.starts_with(b"\xff\xd8\xff"),
            Self::Png => bytes.starts_with(b"\x89PNG\r\n\x1a\n"),
            Self::Webp => bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP"),
            Self::Gif => bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a"),
            Self::Avif => is_avif(bytes),
        }
    }
}

/// ISO 14496-12, 4.3: the first box is called `ftyp` and lists brands: a main one, a version, and further ones.
fn is_avif(bytes: &[u8]) -> bool {
    let Some((&[a, b, c, d, b'f', b't', b'y', b'p'], _)) = bytes.split_first_chunk() else {
        return false;
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    let brands = bytes.get(8..length.min(bytes.len())).unwrap_or_default();
    let is_ours = |brand: &[u8]| matches!(brand, b"avif" | b"avis");
    brands.chunks_exact(4).enumerate().any(|(at, brand)| at != 1 && is_ours(brand))
}

pub(crate) struct Photo {
    pub(crate) name: String,
    pub(crate) modified: SystemTime,
}

/// A photo that is open, so that it stays as it is while another takes its name.
pub(crate) struct Found {
    pub(crate) file: File,
    pub(crate) length: u64,
    /// An entity tag in its quotes: other bytes have another.
    pub(crate) tag: String,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Saved {
    New,
    Replaced,
}

#[derive(Debug)]
pub(crate) enum Unsaved {
    /// The bytes are not what the name says.
    OtherKind,
    Client(io::Error),
    Disk(io::Error),
}

pub(crate) struct Store {
    photos: PathBuf,
    uploads: AtomicU64,
}

impl Store {
    /// Makes the directory if need be, and removes what a killed server had half received.
    pub(crate) fn open(data: &Path) -> io::Result<Self> {
        let photos = data.join("photos");
        match DirBuilder::new().mode(0o750).create(&photos) {
            Ok(()) => sync(data)?,
            Err(why) if why.kind() == ErrorKind::AlreadyExists => {}
            Err(why) => return Err(why),
        }
        for entry in fs::read_dir(&photos)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(UPLOAD.as_bytes()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self { photos, uploads: AtomicU64::new(0) })
    }

    fn path(&self, name: &Name) -> PathBuf {
        self.photos.join(name.text)
    }

    /// Newest first. What is no file, or is called otherwise, is not a photo.
    pub(crate) fn list(&self) -> io::Result<Vec<Photo>> {
        let mut photos = Vec::new();
        for entry in fs::read_dir(&self.photos)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if Name::parse(&name).is_none() {
                continue;
            }
            match entry.metadata() {
                Ok(found) if found.is_file() => photos.push(Photo { name, modified: found.modified()? }),
                Ok(_) => {}
                // Deleted meanwhile.
                Err(why) if why.kind() == ErrorKind::NotFound => {}
                Err(why) => return Err(why),
            }
        }
        photos.sort_by(|a, b| b.modified.cmp(&a.modified).then_with(|| a.name.cmp(&b.name)));
        Ok(photos)
    }

    pub(crate) fn find(&self, name: &Name) -> io::Result<Option<Found>> {
        let path = self.path(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_file() => {}
            Ok(_) => return Ok(None),
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(why),
        }
        let file = match OpenOptions::new().read(true).custom_flags(NO_FOLLOW_NO_WAIT).open(path) {
            Ok(file) => file,
            Err(why) if why.kind() == ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(why),
        };
        let found = file.metadata()?;
        let tag =
            format!("\"{:x}-{:x}.{:x}-{:x}\"", found.ino(), found.mtime(), found.mtime_nsec(), found.len());
        Ok(found.is_file().then_some(Found { file, length: found.len(), tag }))
    }

    /// Receives a photo. When this returns well it is on the disk. Otherwise nothing has changed, unless it was the
    /// directory that could not be written to the disk: then the photo is there, and may not outlast a power cut.
    pub(crate) fn save(&self, name: &Name, body: &mut impl Read) -> Result<Saved, Unsaved> {
        let mut chunk = vec![0; CHUNK];
        let mut read = body.read(&mut chunk).map_err(Unsaved::Client)?;
        if !name.kind.fits(&chunk[..read]) {
            return Err(Unsaved::OtherKind);
        }
        let number = self.uploads.fetch_add(1, Ordering::Relaxed);
        let mut upload =
            Upload::create(self.photos.join(format!("{UPLOAD}{number}"))).map_err(Unsaved::Disk)?;
        while read > 0 {
            upload.file.write_all(&chunk[..read]).map_err(Unsaved::Disk)?;
            read = body.read(&mut chunk).map_err(Unsaved::Client)?;
        }
        self.publish(upload, name).map_err(Unsaved::Disk)
    }

    fn publish(&self, mut upload: Upload, name: &Name) -> io::Result<Saved> {
        upload.file.sync_all()?;
        let path = self.path(name);
        // Only a word in the answer hangs on it, so it may be out of date.
        let saved = if fs::symlink_metadata(&path).is_ok() { Saved::Replaced } else { Saved::New };
        fs::rename(&upload.path, path)?;
        upload.named = true;
        sync(&self.photos)?;
        Ok(saved)
    }

    /// Was there one?
    pub(crate) fn delete(&self, name: &Name) -> io::Result<bool> {
        match fs::remove_file(self.path(name)) {
            Ok(()) => sync(&self.photos).map(|()| true),
            Err(why) if why.kind() == ErrorKind::NotFound => Ok(false),
            Err(why) => Err(why),
        }
    }
}

/// After this the names in a directory outlast a power cut.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// A photo that is being received, removed when dropped before it has its name.
struct Upload {
    path: PathBuf,
    file: File,
    named: bool,
}

impl Upload {
    fn create(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path)?;
        Ok(Self { path, file, named: false })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.named {
            // If it cannot be removed now, the next start will.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::env;
    use std::os::unix::fs::symlink;
    use std::process;
    use std::time::Duration;

    use super::*;

    pub(crate) const JPEG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF\0";
    pub(crate) const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR";
    pub(crate) const GIF: &[u8] = b"GIF89a\x01\0\x01\0";
    const WEBP: &[u8] = b"RIFF\x04\0\0\0WEBPVP8 ";
    const AVIF: &[u8] = b"\0\0\0\x18ftypavif\0\0\0\0mif1miaf";

    /// A directory for one test.
    pub(crate) struct Directory(pub(crate) PathBuf);

    impl Directory {
        pub(crate) fn new() -> Self {
            static MADE: AtomicU64 = AtomicU64::new(0);
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            let path = env::temp_dir().join(format!("gallery-server-{}-{number}", process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn name(text: &str) -> Name<'_> {
        Name::parse(text).unwrap()
    }

    #[test]
    fn a_name_is_plain() {
        for (text, kind) in [
            ("a.jpg", Kind::Jpeg),
            ("A-1_b.c.JPEG", Kind::Jpeg),
            ("-.png", Kind::Png),
            ("a..webp", Kind::Webp),
            ("jpg.gif", Kind::Gif),
            (&*format!("{}.avif", "a".repeat(95)), Kind::Avif),
        ] {
            assert_eq!(Name::parse(text), Some(Name { text, kind }));
        }
        for wrong in [
            "",
            ".",
            "..",
            "a",
            "jpg",
            ".jpg",
            "..jpg",
            ".upload-0",
            "a.txt",
            "a.jpg.",
            "a.svg",
            "a b.jpg",
            "a/b.jpg",
            "../a.jpg",
            "a%2f.jpg",
            "a\\b.jpg",
            "a\0.jpg",
            "a\n.jpg",
            "ø.jpg",
            "a.jpg/",
            "a.jpg\u{301}",
        ] {
            assert_eq!(Name::parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(Name::parse(&format!("{}.avif", "a".repeat(96))), None);
    }

    #[test]
    fn first_bytes_belong_to_one_kind() {
        let kinds = [Kind::Jpeg, Kind::Png, Kind::Webp, Kind::Gif, Kind::Avif];
        for (bytes, its) in [JPEG, PNG, WEBP, GIF, AVIF].into_iter().zip(kinds) {
            for kind in kinds {
                assert_eq!(kind.fits(bytes), kind == its, "{kind:?} {its:?}");
                for end in 0..bytes.len() {
                    assert!(!kind.fits(&bytes[..end]) || kind == its, "{kind:?} {end}");
                }
            }
            assert!(!its.fits(&bytes[1..]) && !its.fits(b"") && !its.fits(b"<svg onload=alert(1)>"));
        }
        assert!(Kind::Avif.fits(b"\0\0\0\x18ftypmif1\0\0\0\0miafavif"), "a further brand");
        assert!(!Kind::Avif.fits(b"\0\0\0\x14ftypmif1\0\0\0\0miafavif"), "not in the box");
        assert!(!Kind::Avif.fits(b"\0\0\0\x18ftypmif1avifmiafheic"), "a version");
        assert!(!Kind::Avif.fits(b"\0\0\0\0ftypavif") && !Kind::Avif.fits(b"\xff\xff\xff\xffftyp"));
    }

    #[test]
    fn photos_are_kept_found_and_listed() {
        let directory = Directory::new();
        let store = Store::open(&directory.0).unwrap();
        let mut long = JPEG.to_vec();
        long.resize(3 * CHUNK + 1, 7);
        assert_eq!(store.save(&name("a.jpg"), &mut &long[..]).unwrap(), Saved::New);
        assert_eq!(store.save(&name("b.gif"), &mut &*GIF).unwrap(), Saved::New);
        let mut found = store.find(&name("a.jpg")).unwrap().unwrap();
        assert_eq!(found.length, long.len() as u64);

        assert_eq!(store.save(&name("a.jpg"), &mut &*JPEG).unwrap(), Saved::Replaced);
        let mut bytes = Vec::new();
        found.file.read_to_end(&mut bytes).unwrap();
        assert!(bytes == long, "who reads the old photo reads it to its end");
        assert_ne!(store.find(&name("a.jpg")).unwrap().unwrap().tag, found.tag);

        for (photo, seconds) in [("a.jpg", 1), ("b.gif", 2)] {
            let file = OpenOptions::new().write(true).open(store.path(&name(photo))).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        }
        let names =
            |store: &Store| store.list().unwrap().into_iter().map(|photo| photo.name).collect::<Vec<_>>();
        assert_eq!(names(&store), ["b.gif", "a.jpg"]);
        assert!(store.delete(&name("b.gif")).unwrap());
        assert!(!store.delete(&name("b.gif")).unwrap());
        assert_eq!(names(&store), ["a.jpg"]);
        assert_eq!(names(&Store::open(&directory.0).unwrap()), ["a.jpg"]);
    }

    /// Says something, and then fails.
    struct Broken(&'static [u8]);

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer) {
                Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
                read => read,
            }
        }
    }

    #[test]
    fn what_is_not_whole_leaves_nothing() {
        let directory = Directory::new();
        let store = Store::open(&directory.0).unwrap();
        store.save(&name("a.gif"), &mut &*GIF).unwrap();
        assert!(matches!(store.save(&name("a.gif"), &mut Broken(GIF)), Err(Unsaved::Client(_))));
        assert!(matches!(store.save(&name("a.gif"), &mut Broken(b"")), Err(Unsaved::Client(_))));
        assert!(matches!(store.save(&name("a.gif"), &mut &*PNG), Err(Unsaved::OtherKind)));
        assert!(matches!(store.save(&name("a.gif"), &mut &b""[..]), Err(Unsaved::OtherKind)));
        fs::create_dir(store.path(&name("d.gif"))).unwrap();
        assert!(matches!(store.save(&name("d.gif"), &mut &*GIF), Err(Unsaved::Disk(_))));
        fs::remove_dir(store.path(&name("d.gif"))).unwrap();
        assert_eq!(fs::read_dir(&store.photos).unwrap().count(), 1);
        assert_eq!(fs::read(store.path(&name("a.gif"))).unwrap(), GIF);
    }

    #[test]
    fn a_killed_upload_is_removed_and_nothing_else() {
        let directory = Directory::new();
        drop(Store::open(&directory.0).unwrap());
        let photos = directory.0.join("photos");
        for file in [".upload-0", ".other", "notes.txt", "a.gif"] {
            fs::write(photos.join(file), GIF).unwrap();
        }
        let store = Store::open(&directory.0).unwrap();
        assert!(!photos.join(".upload-0").exists());
        assert_eq!(fs::read_dir(photos).unwrap().count(), 3);
        assert_eq!(store.list().unwrap().len(), 1);
    }

    #[test]
    fn only_files_are_photos() {
        let directory = Directory::new();
        let store = Store::open(&directory.0).unwrap();
        fs::write(directory.0.join("secret"), GIF).unwrap();
        symlink(directory.0.join("secret"), store.path(&name("link.gif"))).unwrap();
        fs::create_dir(store.path(&name("directory.gif"))).unwrap();
        for photo in ["link.gif", "directory.gif"] {
            assert!(store.find(&name(photo)).unwrap().is_none(), "{photo}");
        }
        assert!(store.list().unwrap().is_empty());
        assert!(store.delete(&name("link.gif")).unwrap());
        assert!(directory.0.join("secret").exists());
    }
}
