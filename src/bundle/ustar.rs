//! A strict reader of plain USTAR archives: regular files and nothing else.
//!
//! Deliberately absent: pax and GNU records, links, devices, sparse files, directories. General tar readers accept them, and
//! disagreements between readers over such entries have been used to smuggle files. What this reader does not know is an error.

use std::fmt;
use std::io::{self, Read};

use super::names::BundlePath;

const BLOCK: usize = 512;

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
        let over = usize::try_from(entry.size % BLOCK as u64).unwrap_or(0);
        if over > 0 {
            let padding = &mut buffer[..BLOCK - over];
            if fill(&mut self.inner, padding)? < padding.len() {
                return Err(UstarError::Truncated(Some(entry.path.to_string())));
            }
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
        let mut more = false;
        while let Some(block) = self.read_block()? {
            if block.iter().any(|&b| b != 0) {
                return Err(UstarError::NotUstar("there are bytes after its end marker".to_owned()));
            }
            more = true;
        }
        if more { Ok(()) } else { Err(UstarError::Truncated(None)) }
    }
}

fn read_some(inner: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
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
    let name = text_field(&header[..100]);
    let prefix = text_field(&header[345..500]);
    let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
    let refuse = |why: String| UstarError::Entry(path.clone(), why);

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
    let path = path.parse().map_err(refuse)?;
    Ok(Entry { path, size, mode })
}

fn text_field(field: &[u8]) -> String {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
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
