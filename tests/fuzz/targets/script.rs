//! Archives in a form that a fuzzer can change: text, in which digests and sizes are filled in afterwards. Otherwise each change would
//! end at the first digest.
//!
//! ```text
//! @oci-layout
//! {"imageLayoutVersion":"1.0.0"}
//! @index.json
//! {…,"manifests":[{…,"digest":"$2d","size":$2s}]}      of the third entry
//! @                                                    without a path: a blob under its digest
//! {"format":$F,"files":{"etc/a":{…"digest":"$3.0d"}}}  of the first file of the fourth entry; the format that is known
//! @
//! >etc/a 0 755 77                                      a packed archive; type, mode and size, if they are unusual
//! text
//! ```

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use rick::bundle::digest::Digest;
use rick::bundle::manifest::FORMAT;
use rick::bundle::ustar::{BLOCK, padding};

/// An entry of an archive as the script has it.
struct Entry<'a> {
    path: &'a [u8],
    kind: u8,
    mode: u64,
    /// What its header says, if not the truth.
    size: Option<u64>,
    body: &'a [u8],
}

/// What can be said of bytes once they are there.
struct Known {
    digest: Digest,
    size: usize,
    inside: Inside,
}

/// The files of a packed archive: their digests and sizes.
type Inside = Vec<(Digest, usize)>;

/// The archive that a script describes.
pub(super) fn archive(script: &[u8]) -> Vec<u8> {
    let entries = entries(script, b'@');
    let mut known: Vec<Option<Known>> = entries.iter().map(|_| None).collect();
    let mut bodies = vec![Vec::new(); entries.len()];
    // What is named comes after what names it, but for the index over all: so once more.
    for (at, entry) in entries.iter().enumerate().rev().chain(entries.iter().enumerate().rev()) {
        let (body, inside) = packed(entry.body).unwrap_or_else(|| (filled(entry.body, &known), Vec::new()));
        known[at] = Some(Known { digest: Digest::of(&body), size: body.len(), inside });
        bodies[at] = body;
    }
    let mut bytes = Vec::new();
    for ((entry, body), known) in entries.iter().zip(&bodies).zip(&known) {
        let blob = known.as_ref().map(|known| format!("blobs/sha256/{}", known.digest.hex()));
        let path =
            if entry.path.is_empty() { blob.as_deref().unwrap_or_default().as_bytes() } else { entry.path };
        append(&mut bytes, entry, path, body);
    }
    bytes.extend([0; 2 * BLOCK]);
    bytes
}

/// A manifest and a packed layer, as two entries describe them.
pub(super) fn manifest_and_layer(script: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let script = script.strip_prefix(b"@\n")?;
    let end = script.windows(3).position(|three| three == b"\n@\n")?;
    let layer = &script[end + 3..];
    let (layer, inside) = packed(layer).unwrap_or_else(|| (layer.to_vec(), Vec::new()));
    let known = Known { digest: Digest::of(&layer), size: layer.len(), inside };
    Some((filled(&script[..end], &[None, Some(known)]), layer))
}

/// The text with all that is known filled in. What is not stays.
pub(super) fn with_format(text: &[u8]) -> Vec<u8> {
    filled(text, &[])
}

fn entries(script: &[u8], mark: u8) -> Vec<Entry<'_>> {
    let starts = (0..script.len()).filter(|at| script[*at] == mark && (*at == 0 || script[at - 1] == b'\n'));
    let starts: Vec<usize> = starts.collect();
    let ends = starts.iter().skip(1).map(|start| start - 1).chain([script.len()]);
    starts.iter().zip(ends).map(|(start, end)| entry(&script[start + 1..end.max(start + 1)])).collect()
}

fn entry(text: &[u8]) -> Entry<'_> {
    let line = text.iter().position(|&byte| byte == b'\n').unwrap_or(text.len());
    let mut words = text[..line].split(|&byte| byte == b' ');
    let path = words.next().unwrap_or_default();
    let kind = words.next().and_then(<[u8]>::first).copied().unwrap_or(b'0');
    let mut number = |radix| {
        let word = words.next().and_then(|word| std::str::from_utf8(word).ok())?;
        u64::from_str_radix(word, radix).ok()
    };
    let (mode, size) = (number(8).unwrap_or(0o644), number(10));
    Entry { path, kind, mode, size, body: text.get(line + 1..).unwrap_or_default() }
}

/// A packed archive, and what is known of its files; `None` if this is none.
fn packed(body: &[u8]) -> Option<(Vec<u8>, Inside)> {
    if body.first() != Some(&b'>') {
        return None;
    }
    let (mut bytes, mut inside) = (Vec::new(), Vec::new());
    for entry in entries(body, b'>') {
        append(&mut bytes, &entry, entry.path, entry.body);
        inside.push((Digest::of(entry.body), entry.body.len()));
    }
    bytes.extend([0; 2 * BLOCK]);
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&bytes).expect("memory takes it");
    Some((gzip.finish().expect("memory takes it"), inside))
}

fn filled(body: &[u8], known: &[Option<Known>]) -> Vec<u8> {
    let mut parts = body.split(|&byte| byte == b'$');
    let mut bytes = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let (value, rest) = value(part, known).unwrap_or_else(|| ("$".to_owned(), part));
        bytes.extend(value.as_bytes());
        bytes.extend(rest);
    }
    bytes
}

/// What stands for the beginning of a text, and what follows.
fn value<'a>(text: &'a [u8], known: &[Option<Known>]) -> Option<(String, &'a [u8])> {
    if let Some(rest) = text.strip_prefix(b"F") {
        return Some((FORMAT.to_string(), rest));
    }
    let (at, rest) = number(text)?;
    let known = known.get(at)?.as_ref()?;
    let (digest, size, rest) = match rest.strip_prefix(b".") {
        None => (known.digest, known.size, rest),
        Some(rest) => {
            let (at, rest) = number(rest)?;
            let (digest, size) = known.inside.get(at)?;
            (*digest, *size, rest)
        }
    };
    match rest.split_first()? {
        (b'd', rest) => Some((digest.to_string(), rest)),
        (b's', rest) => Some((size.to_string(), rest)),
        _ => None,
    }
}

fn number(text: &[u8]) -> Option<(usize, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(digits);
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

fn append(bytes: &mut Vec<u8>, entry: &Entry<'_>, path: &[u8], body: &[u8]) {
    let mut header = [0; BLOCK];
    // Of a long path, as much as goes into the prefix.
    let cut = path.iter().take(156).rposition(|&byte| byte == b'/').filter(|_| path.len() > 100);
    let (prefix, name) = cut.map_or((&path[..0], path), |cut| (&path[..cut], &path[cut + 1..]));
    put(&mut header[..100], name);
    put(&mut header[345..500], prefix);
    put(&mut header[100..107], format!("{:07o}", entry.mode).as_bytes());
    put(&mut header[124..135], format!("{:011o}", entry.size.unwrap_or(body.len() as u64)).as_bytes());
    header[156] = entry.kind;
    header[257..265].copy_from_slice(b"ustar\x0000");
    set_checksum(&mut header);
    bytes.extend(header);
    bytes.extend(body);
    bytes.resize(bytes.len() + padding(body.len() as u64), 0);
}

fn put(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// Gives a header the checksum that is right.
pub(super) fn set_checksum(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
