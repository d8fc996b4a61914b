//! The archive reader, with headers as they come and with their checksums mended.

use rick::bundle::ustar::{self, BLOCK, Reader};

use super::{assert_stays_inside, script};

type Files = Vec<(String, u32, Vec<u8>)>;

pub(super) fn run(input: &[u8]) -> bool {
    let taken = judge(input);
    let mut mended = input.to_vec();
    for block in mended.chunks_exact_mut(BLOCK).filter(|block| &block[257..262] == b"ustar") {
        script::set_checksum(block);
    }
    judge(&mended);
    taken
}

/// What is accepted has plain paths and no more bytes than there were, and is the same once it is written anew.
fn judge(archive: &[u8]) -> bool {
    let Some(files) = read(archive) else { return false };
    let held: usize = files.iter().map(|(_, _, body)| BLOCK + body.len()).sum();
    assert!(held + 2 * BLOCK <= archive.len(), "more came out than went in");
    let mut anew = Vec::new();
    for (path, mode, body) in &files {
        let Some(header) = ustar::header(path, *mode, body.len() as u64) else { return true };
        anew.extend(header);
        anew.extend(body);
        anew.resize(anew.len().next_multiple_of(BLOCK), 0);
    }
    anew.extend([0; 2 * BLOCK]);
    assert_eq!(read(&anew).as_ref(), Some(&files));
    true
}

fn read(archive: &[u8]) -> Option<Files> {
    let mut reader = Reader::new(archive);
    let mut files = Files::new();
    while let Some(entry) = reader.next_entry().ok()? {
        assert_stays_inside(&entry.path);
        assert!(matches!(entry.mode, 0o644 | 0o755), "{:o}", entry.mode);
        let body = reader.body(archive.len() as u64).ok()?;
        assert_eq!(body.len() as u64, entry.size);
        files.push((entry.path.to_string(), entry.mode, body));
    }
    Some(files)
}
