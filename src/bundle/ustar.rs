//! A strict reader of plain USTAR archives: regular files and nothing else.
//!
//! Deliberately absent: pax and GNU records, links, devices, sparse files, directories. General tar readers accept them, and
//! disagreements between readers over such entries have been used to smuggle files. What this reader does not know is an error.

use std::fmt;
use std::io::{self, Read};

use super::names::BundlePath;

/// Archives are made of blocks of so many bytes, and end in two of zeros.
pub const BLOCK: usize = 512;

/// How many bytes of zeros may stand at the end. Programs fill up to 10 KiB; more only keeps a reader busy.
const MAX_END: usize = 64 << 10;

/// What can be wrong with an archive.
#[derive(Debug)]
pub enum UstarError {
    /// The archive could not be read.
    Io(io::Error),
    /// The archive ends before its end; the path is the entry that was being read, if one was.
    Truncated(Option<String>),
    /// An entry is not what a bundle may hold; the path as far as it is known, and why.
    Entry(String, String),
    /// The bytes are no USTAR archive.
    NotUstar(String),
}

impl fmt::Display for UstarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot read the archive: {error}"),
            Self::Truncated(Some(path)) => {
                write!(f, "the archive is truncated: it ends in the middle of `{path}`")
            }
            Self::Truncated(None) => write!(f, "the archive is truncated: its end marker is missing"),
            Self::Entry(path, why) => {
                write!(f, "entry `{}` of the archive is refused: {why}", path.escape_debug())
            }
            Self::NotUstar(why) => write!(f, "this is no bundle: {why}"),
        }
    }
}

impl std::error::Error for UstarError {}

impl From<io::Error> for UstarError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// One regular file; its bytes come from [`Reader::read_body`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands in the archive.
    pub path: BundlePath,
    /// Its size in bytes.
    pub size: u64,
    /// Its permission bits.
    pub mode: u32,
}

/// Reads entries in order.
pub struct Reader<R> {
    inner: R,
    /// The entry whose body comes next, with the bytes that are still to be read, padding excluded.
    current: Option<(Entry, u64)>,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the archive in `inner`.
    pub fn new(inner: R) -> Self {
        Self { inner, current: None, ended: false }
    }

    /// The next entry, or `None` at the end of the archive. What is left of the previous body is skipped.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, UstarError> {
        if self.ended {
            return Ok(None);
        }
        self.finish_body()?;
        let Some(header) = self.read_block()? else { return Err(UstarError::Truncated(None)) };
        if header.iter().all(|&b| b == 0) {
            self.expect_end()?;
            self.ended = true;
            return Ok(None);
        }
        let entry = parse_header(&header)?;
        self.current = Some((entry.clone(), entry.size));
        Ok(Some(entry))
    }

    /// Reads a part of the current entry's body; 0 at its end.
    pub fn read_body(&mut self, buffer: &mut [u8]) -> Result<usize, UstarError> {
        let Some((entry, left)) = &mut self.current else { return Ok(0) };
        let wanted = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let got = read_some(&mut self.inner, &mut buffer[..wanted])?;
        if got == 0 {
            return Err(UstarError::Truncated(Some(entry.path.to_string())));
        }
        *left -= got as u64;
        Ok(got)
    }

    /// The whole body of the current entry, refused if it is larger than `limit` bytes.
    pub fn body(&mut self, limit: u64) -> Result<Vec<u8>, UstarError> {
        let Some((entry, left)) = &self.current else { return Ok(Vec::new()) };
        if *left > limit {
            let why = format!("it has {left} bytes, and at most {limit} are allowed");
            return Err(UstarError::Entry(entry.path.to_string(), why));
        }
        let mut bytes = Vec::new();
        let mut buffer = [0; 8192];
        loop {
            match self.read_body(&mut buffer)? {
                0 => return Ok(bytes),
                got => bytes.extend_from_slice(&buffer[..got]),
            }
        }
    }

    fn finish_body(&mut self) -> Result<(), UstarError> {
        let mut buffer = [0; 8192];
        while self.read_body(&mut buffer)? > 0 {}
        let Some((entry, _)) = self.current.take() else { return Ok(()) };
        let padding = &mut buffer[..padding(entry.size)];
        if fill(&mut self.inner, padding)? < padding.len() {
            return Err(UstarError::Truncated(Some(entry.path.to_string())));
        }
        Ok(())
    }

    /// A whole block, or `None` if the archive ends here; a part of one is a truncation.
    fn read_block(&mut self) -> Result<Option<[u8; BLOCK]>, UstarError> {
        let mut block = [0; BLOCK];
        match fill(&mut self.inner, &mut block)? {
            BLOCK => Ok(Some(block)),
            0 => Ok(None),
            _ => Err(UstarError::Truncated(None)),
        }
    }

    /// After the first zero block: at least one more, and nothing but zeros to the end of the input.
    fn expect_end(&mut self) -> Result<(), UstarError> {
        let mut blocks = 1;
        while let Some(block) = self.read_block()? {
            if block.iter().any(|&b| b != 0) {
                return Err(UstarError::NotUstar("there are bytes after its end marker".to_owned()));
            }
            blocks += 1;
            if blocks * BLOCK > MAX_END {
                return Err(UstarError::NotUstar(format!("more than {MAX_END} bytes of zeros are its end")));
            }
        }
        if blocks > 1 { Ok(()) } else { Err(UstarError::Truncated(None)) }
    }
}

/// One read that no signal breaks off; 0 at the end.
pub fn read_some(inner: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match inner.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Fills `buffer` as far as the input goes.
fn fill(inner: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match read_some(inner, &mut buffer[done..])? {
            0 => break,
            got => done += got,
        }
    }
    Ok(done)
}

fn parse_header(header: &[u8; BLOCK]) -> Result<Entry, UstarError> {
    if &header[257..265] != b"ustar\x0000" {
        return Err(UstarError::NotUstar("it is not a USTAR archive (is it compressed?)".to_owned()));
    }
    let (name, prefix) = (text_field(&header[..100]), text_field(&header[345..500]));
    let path = if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() };
    let shown = String::from_utf8_lossy(&path).into_owned();
    let refuse = |why: String| UstarError::Entry(shown.clone(), why);

    let sum: u32 = header
        .iter()
        .enumerate()
        .map(|(at, &b)| u32::from(if (148..156).contains(&at) { b' ' } else { b }))
        .sum();
    if octal(&header[148..156]) != Some(u64::from(sum)) {
        return Err(refuse("its header is damaged (wrong checksum)".to_owned()));
    }
    match header[156] {
        b'0' => {}
        other => {
            return Err(refuse(format!("it is {}, and a bundle holds regular files only", kind_of(other))));
        }
    }
    let size = octal(&header[124..136]).ok_or_else(|| refuse("its size is not a number".to_owned()))?;
    let mode = octal(&header[100..108]).ok_or_else(|| refuse("its mode is not a number".to_owned()))?;
    let mode = u32::try_from(mode).ok().filter(|mode| matches!(mode, 0o644 | 0o755));
    let mode = mode.ok_or_else(|| refuse("its mode is neither 0644 nor 0755".to_owned()))?;
    let path = std::str::from_utf8(&path).map_err(|_| refuse("its path is not UTF-8".to_owned()))?;
    let path = path.parse().map_err(refuse)?;
    Ok(Entry { path, size, mode })
}

/// The header of a regular file, as [`Reader`] takes it: owner and time 0. `None` if the path has more than 100 bytes, or the file more than
/// the format can say.
pub fn header(path: &str, mode: u32, size: u64) -> Option<[u8; BLOCK]> {
    if path.len() > 100 || size >= 1 << 33 || mode >= 1 << 21 {
        return None;
    }
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, path);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(header)
}

/// How many zeros follow a body of `size` bytes.
pub fn padding(size: u64) -> usize {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if over == 0 { 0 } else { BLOCK - over }
}

fn text_field(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    &field[..end]
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() || !text.bytes().all(|b| matches!(b, b'0'..=b'7')) {
        return None;
    }
    u64::from_str_radix(text, 8).ok()
}

fn kind_of(flag: u8) -> String {
    let known = match flag {
        b'1' => "a hard link",
        b'2' => "a symbolic link",
        b'3' | b'4' => "a device",
        b'5' => "a directory",
        b'6' => "a pipe",
        b'x' | b'g' => "a pax record",
        b'L' | b'K' | b'S' => "a GNU record",
        other => return format!("of the unknown type {other:#04x}"),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// A header as `tar` programs write it, with its checksum.
    fn header(path: &str, flag: u8, size: u64) -> [u8; BLOCK] {
        let mut header = [0; BLOCK];
        header[..path.len()].copy_from_slice(path.as_bytes());
        header[100..108].copy_from_slice(b"0000644\0");
        header[108..116].copy_from_slice(b"0000000\0");
        header[116..124].copy_from_slice(b"0000000\0");
        header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[156] = flag;
        header[257..265].copy_from_slice(b"ustar\x0000");
        with_checksum(header)
    }

    fn with_checksum(mut header: [u8; BLOCK]) -> [u8; BLOCK] {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        header
    }

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (path, body) in entries {
            bytes.extend(header(path, b'0', body.len() as u64));
            bytes.extend(*body);
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.extend([0; 2 * BLOCK]);
        bytes
    }

    #[test]
    fn a_header_that_is_written_is_read() {
        let bytes =
            [super::header("a/b", 0o755, 3).unwrap().as_slice(), b"abc", &[0; 509 + 2 * BLOCK]].concat();
        assert_eq!((read(&bytes).unwrap(), padding(3)), (vec![("a/b".to_owned(), b"abc".to_vec())], 509));
        assert!(super::header(&"x".repeat(101), 0o644, 0).is_none());
        assert!(super::header("x", 0o644, 1 << 33).is_none());
        assert_eq!((padding(0), padding(512), padding(513)), (0, 0, 511));
    }

    type Files = Vec<(String, Vec<u8>)>;

    fn read(bytes: &[u8]) -> Result<Files, UstarError> {
        let mut reader = Reader::new(bytes);
        let mut files = Files::new();
        while let Some(entry) = reader.next_entry()? {
            files.push((entry.path.to_string(), reader.body(1 << 20)?));
        }
        Ok(files)
    }

    /// Reads headers alone, so that bodies are skipped.
    fn skim(bytes: &[u8]) -> Result<usize, UstarError> {
        let mut reader = Reader::new(bytes);
        let mut entries = 0;
        while reader.next_entry()?.is_some() {
            entries += 1;
        }
        Ok(entries)
    }

    fn message(bytes: &[u8]) -> String {
        read(bytes).unwrap_err().to_string()
    }

    fn sample() -> Vec<u8> {
        archive(&[("oci-layout", b"{}"), ("blobs/sha256/full", &[7; 1024]), ("empty", b""), ("last", b"x")])
    }

    #[test]
    fn files_come_out_in_order_whether_read_or_skipped() {
        let files = read(&sample()).unwrap();
        let names: Vec<&str> = files.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(names, ["oci-layout", "blobs/sha256/full", "empty", "last"]);
        assert_eq!((files[0].1.as_slice(), files[1].1.len(), files[2].1.len()), (b"{}".as_slice(), 1024, 0));
        assert_eq!(skim(&sample()).unwrap(), 4);
    }

    #[test]
    fn an_archive_that_ends_anywhere_early_is_an_error() {
        let whole = sample();
        for end in 0..whole.len() {
            assert!(matches!(read(&whole[..end]), Err(UstarError::Truncated(_))), "read, {end} bytes");
            assert!(matches!(skim(&whole[..end]), Err(UstarError::Truncated(_))), "skimmed, {end} bytes");
        }
        // More zeros than needed are what tar programs write.
        assert!(read(&[whole.as_slice(), &[0; 10 * BLOCK]].concat()).is_ok());
        assert!(message(&whole[..=BLOCK]).contains("in the middle of `oci-layout`"));
    }

    #[test]
    fn a_reader_that_gives_one_byte_at_a_time_is_enough() {
        struct Slow(Cursor<Vec<u8>>);
        impl Read for Slow {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                let end = buffer.len().min(1);
                self.0.read(&mut buffer[..end])
            }
        }
        let mut reader = Reader::new(Slow(Cursor::new(sample())));
        let mut sizes = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            sizes.push(reader.body(entry.size).unwrap().len());
        }
        assert_eq!(sizes, [2, 1024, 0, 1]);
        assert!(reader.next_entry().unwrap().is_none());
    }

    #[test]
    fn whatever_is_no_regular_file_is_refused_by_name() {
        for (flag, word) in [
            (b'1', "a hard link"),
            (b'2', "a symbolic link"),
            (b'3', "a device"),
            (b'5', "a directory"),
            (b'6', "a pipe"),
            (b'x', "a pax record"),
            (b'g', "a pax record"),
            (b'L', "a GNU record"),
            (b'S', "a GNU record"),
            (b'7', "unknown type 0x37"),
            (0, "unknown type 0x00"),
        ] {
            let bytes = [header("a", flag, 0).as_slice(), &[0; 2 * BLOCK]].concat();
            let message = message(&bytes);
            assert!(message.contains(word) && message.contains("`a`"), "{message}");
        }
    }

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        for path in ["/etc/passwd", "../x", "a/../b", "./a", "a//b", "a/", ""] {
            assert!(matches!(read(&archive(&[(path, b"")])), Err(UstarError::Entry(..))), "{path:?}");
        }
        let mut prefixed = header("b", b'0', 0);
        prefixed[345..347].copy_from_slice(b"..");
        let bytes = [with_checksum(prefixed).as_slice(), &[0; 2 * BLOCK]].concat();
        assert!(message(&bytes).contains("contains `..`"));
        let mut latin = header("b", b'0', 0);
        latin[0] = 0xe4;
        let bytes = [with_checksum(latin).as_slice(), &[0; 2 * BLOCK]].concat();
        assert!(message(&bytes).contains("its path is not UTF-8"));
    }

    #[test]
    fn a_changed_byte_in_a_header_is_noticed() {
        let whole = sample();
        for at in 0..BLOCK {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            let read = read(&damaged);
            // The checksum field itself is padded with bytes that mean nothing; what it says stays true.
            assert!(read.is_err() || read.unwrap() == self::read(&whole).unwrap(), "byte {at}");
        }
    }

    #[test]
    fn numbers_that_are_none_are_refused() {
        let damage = |range: std::ops::Range<usize>, with: &[u8]| {
            let mut header = header("a", b'0', 0);
            header[range].copy_from_slice(with);
            message(&[with_checksum(header).as_slice(), &[0; 2 * BLOCK]].concat())
        };
        assert!(damage(124..136, b"0000000000x\0").contains("size is not a number"));
        // GNU's base-256 numbers.
        assert!(damage(124..136, b"\x80\0\0\0\0\0\0\0\0\0\0\x01").contains("size is not a number"));
        assert!(damage(124..136, &[0; 12]).contains("size is not a number"));
        assert!(damage(100..108, b"0004755\0").contains("neither 0644 nor 0755"));
        assert!(damage(100..108, b"-000644\0").contains("mode is not a number"));
    }

    #[test]
    fn an_announced_size_is_not_believed() {
        let mut huge = header("a", b'0', 0);
        huge[124..136].copy_from_slice(b"77777777777\0");
        let bytes = [with_checksum(huge).as_slice(), &[1; BLOCK]].concat();
        assert!(message(&bytes).contains("at most 1048576 are allowed"));
        assert!(matches!(skim(&bytes), Err(UstarError::Truncated(Some(_)))));
    }

    #[test]
    fn bytes_behind_the_end_are_refused() {
        let garbage = [sample().as_slice(), b"garbage"].concat();
        assert!(read(&garbage).is_err());
        let mut block = [0; BLOCK];
        block[511] = 1;
        assert!(message(&[sample().as_slice(), &block].concat()).contains("bytes after its end marker"));
        let one_zero_block = [header("a", b'0', 0).as_slice(), &[0; BLOCK], &header("b", b'0', 0)].concat();
        assert!(message(&one_zero_block).contains("bytes after its end marker"));
    }

    #[test]
    fn what_is_no_archive_is_said_to_be_none() {
        assert!(message(&[0x1f; BLOCK]).contains("is it compressed?"));
        let mut gnu = header("a", b'0', 0);
        gnu[257..265].copy_from_slice(b"ustar  \0");
        assert!(message(&with_checksum(gnu)).contains("not a USTAR archive"));
    }
}
