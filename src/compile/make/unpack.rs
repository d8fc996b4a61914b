//! A layer as a tar archive → what it says, with the content of its files in the store.

use std::collections::BTreeSet;
use std::io::Read;

use anyhow::{Context as _, Result, bail, ensure};
use tar::{Archive, Entry, EntryType};

use crate::bundle::oci;
use crate::compile::store::{Store, is_executable};
use crate::compile::tree::{Change, Kind, Node};

/// Far above all that layers have: the whole of Debian has about as many files.
const MAX_ENTRIES: usize = 2_000_000;
/// Far above all that files of a layer hold together.
const MAX_BYTES: u64 = 256 << 30;
/// As on Linux.
const MAX_PATH: usize = 4096;
/// As on Linux.
const MAX_NAME: usize = 255;
/// Keys with which a file is said to be stored in another form.
const SPARSE: &[u8] = b"GNU.sparse.";
/// Says in a layer that all that a directory has below is gone.
const HIDES_ALL: &str = ".wh..wh..opq";

/// Reads the layer, and puts what its files hold into the store.
///
/// # Errors
/// Whatever is wrong with the archive, with the path at which it is; a full disk.
pub(super) fn unpack(archive: impl Read, store: &Store) -> Result<Vec<(String, Change)>> {
    let mut changes = Vec::new();
    let mut skipped = BTreeSet::new();
    let mut bytes = 0u64;
    for (number, entry) in Archive::new(archive).entries()?.enumerate() {
        ensure!(number < MAX_ENTRIES, "the archive has more than {MAX_ENTRIES} entries");
        let mut entry = entry.context("the archive is damaged")?;
        bytes = bytes.saturating_add(entry.size());
        ensure!(bytes <= MAX_BYTES, "the files of the archive hold more than {MAX_BYTES} bytes");
        let shown: String = String::from_utf8_lossy(&entry.path_bytes()).chars().take(200).collect();
        match change(&mut entry, store).with_context(|| format!("`{}`", shown.escape_debug()))? {
            Found::Change(_, Change::Same(other)) if skipped.contains(&other) => {}
            Found::Change(path, change) => changes.push((path, change)),
            Found::Device(path) => drop(skipped.insert(path)),
            Found::Nothing => {}
        }
    }
    Ok(changes)
}

/// What an entry is.
enum Found {
    Change(String, Change),
    /// What only root can make, and no image needs.
    Device(String),
    /// The root itself, or words about the archive.
    Nothing,
}

fn change(entry: &mut Entry<'_, impl Read>, store: &Store) -> Result<Found> {
    if let Some(extensions) = entry.pax_extensions()? {
        for extension in extensions {
            let sparse = extension?.key_bytes().starts_with(SPARSE);
            ensure!(!sparse, "it is stored in a form that leaves zeros out, which is not known here");
        }
    }
    let Some(path) = plain(&entry.path_bytes())? else { return Ok(Found::Nothing) };
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
    if name == HIDES_ALL {
        return Ok(Found::Change(folder.to_owned(), Change::HideBelow));
    }
    if let Some(hidden) = name.strip_prefix(oci::WHITEOUT) {
        let hidden = if folder.is_empty() { hidden.to_owned() } else { format!("{folder}/{hidden}") };
        let hidden = plain(hidden.as_bytes())?;
        return Ok(hidden.map_or(Found::Nothing, |hidden| Found::Change(hidden, Change::Hide)));
    }
    let header = entry.header();
    let number = |number: u64| u32::try_from(number).context("the number of its owner is too large");
    let (uid, gid, mode) = (number(header.uid()?)?, number(header.gid()?)?, header.mode()? & 0o7777);
    let kind = match header.entry_type() {
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Link(target(entry)?),
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let (digest, size) = store.keep(entry, is_executable(mode))?;
            Kind::File { digest, size }
        }
        EntryType::Link => {
            let other = plain(target(entry)?.as_bytes())?.context("it is a second name of the root")?;
            return Ok(Found::Change(path, Change::Same(other)));
        }
        EntryType::Char | EntryType::Block | EntryType::Fifo => return Ok(Found::Device(path)),
        EntryType::XGlobalHeader => return Ok(Found::Nothing),
        other => bail!("an entry of the kind {other:?} is not known"),
    };
    Ok(Found::Change(path, Change::Put(Node { uid, gid, mode, kind })))
}

fn target(entry: &Entry<'_, impl Read>) -> Result<String> {
    let target = entry.link_name_bytes().context("it is a link to nowhere")?;
    String::from_utf8(target.into_owned()).context("the target of the link is not UTF-8")
}

/// The path below the root; nothing for the root itself.
fn plain(path: &[u8]) -> Result<Option<String>> {
    ensure!(path.len() <= MAX_PATH, "the path is longer than {MAX_PATH} bytes");
    let path = std::str::from_utf8(path).context("the name is not UTF-8")?;
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    ensure!(!parts.contains(&".."), "the path leads upwards");
    ensure!(
        parts.iter().all(|part| part.len() <= MAX_NAME),
        "a name in the path is longer than {MAX_NAME} bytes"
    );
    ensure!(!path.contains('\0'), "the path has a zero byte");
    Ok(Some(parts.join("/")).filter(|path| !path.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::io;

    use tar::{Builder, Header};

    use super::*;
    use crate::compile::tree::Tree;

    fn archive(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        for (kind, path, text) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o104_755);
            header.set_uid(7);
            header.set_gid(8);
            let is_link = matches!(kind, EntryType::Symlink | EntryType::Link);
            let body = if is_link { "" } else { *text };
            if is_link {
                header.set_link_name_literal(text).unwrap();
            }
            header.set_size(body.len() as u64);
            // As hostile ones do it: the library would refuse some.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, body.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn unpacked(entries: &[(EntryType, &str, &str)]) -> Result<Tree> {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::at(folder.path());
        let mut tree = Tree::default();
        tree.apply(unpack(archive(entries).as_slice(), &store)?).map_err(anyhow::Error::msg)?;
        for (path, node) in tree.entries() {
            if let Kind::File { size, digest } = node.kind {
                let bytes = std::fs::read(store.file(digest, is_executable(node.mode))).unwrap();
                assert_eq!(
                    (bytes.len() as u64, crate::bundle::digest::Digest::of(&bytes)),
                    (size, digest),
                    "{path}"
                );
            }
        }
        Ok(tree)
    }

    #[test]
    fn every_kind_of_entry_is_read() {
        let tree = unpacked(&[
            (EntryType::Directory, "./a/", ""),
            (EntryType::Regular, "./a/f", "text"),
            (EntryType::Link, "a/g", "./a/f"),
            (EntryType::Symlink, "/l", "../x"),
            (EntryType::Char, "dev/null", ""),
            (EntryType::Directory, "./", ""),
        ])
        .unwrap();
        let paths: Vec<&str> = tree.entries().map(|(path, _)| path).collect();
        assert_eq!(paths, ["a", "a/f", "a/g", "l"]);
        assert_eq!(tree.get("a/f"), tree.get("a/g"));
        let node = tree.get("a/f").unwrap();
        assert_eq!((node.uid, node.gid, node.mode), (7, 8, 0o4755));
        assert_eq!(tree.get("l").unwrap().kind, Kind::Link("../x".to_owned()));
    }

    #[test]
    fn names_that_begin_with_wh_hide() {
        let changes = |name| {
            let folder = tempfile::tempdir().unwrap();
            unpack(archive(&[(EntryType::Regular, name, "")]).as_slice(), &Store::at(folder.path())).unwrap()
        };
        assert_eq!(changes("a/.wh.b"), [("a/b".to_owned(), Change::Hide)]);
        assert_eq!(changes("a/.wh..wh..opq"), [("a".to_owned(), Change::HideBelow)]);
        assert_eq!(changes(".wh.a"), [("a".to_owned(), Change::Hide)]);
    }

    #[test]
    fn hostile_archives_are_refused() {
        for path in ["../x", "a/../../x", "a/..", "..", ".wh..."] {
            assert!(unpacked(&[(EntryType::Regular, path, "x")]).is_err(), "{path}");
        }
        assert!(unpacked(&[(EntryType::Link, "a", "../../etc/passwd")]).is_err());
        assert!(
            unpacked(&[(EntryType::Link, "a", "/etc/passwd")]).is_err(),
            "of the archive, not of the machine"
        );
        assert!(unpacked(&[(EntryType::Regular, "a\x01", "x")]).is_ok());
        let mut cut = archive(&[(EntryType::Regular, "a", &"x".repeat(3000))]);
        cut.truncate(1500);
        let folder = tempfile::tempdir().unwrap();
        assert!(unpack(cut.as_slice(), &Store::at(folder.path())).is_err());
        assert!(unpack(io::repeat(7).take(5000), &Store::at(folder.path())).is_err());
        // Longer than a header holds: such paths come by extensions.
        let long = |path: &str| {
            let mut builder = Builder::new(Vec::new());
            let mut header = Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            builder.append_data(&mut header, path, io::empty()).unwrap();
            unpack(builder.into_inner().unwrap().as_slice(), &Store::at(folder.path()))
        };
        assert!(long(&"a/".repeat(2000)).is_ok());
        assert!(long(&"a/".repeat(30_000)).is_err() && long(&"a".repeat(300)).is_err());
        let mut sparse = Builder::new(Vec::new());
        sparse.append_pax_extensions([("GNU.sparse.major", b"1".as_slice())]).unwrap();
        sparse.append(&Header::new_ustar(), io::empty()).unwrap();
        assert!(unpack(sparse.into_inner().unwrap().as_slice(), &Store::at(folder.path())).is_err());
    }

    #[test]
    fn a_second_name_of_a_device_is_left_out_like_the_device() {
        let tree =
            unpacked(&[(EntryType::Block, "dev/sda", ""), (EntryType::Link, "dev/disk", "dev/sda")]).unwrap();
        assert_eq!(tree.entries().count(), 0);
    }
}
