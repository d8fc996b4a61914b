//! Payload files: what modules and environments ship byte for byte. This stage finds them; nothing is held in memory. Their digests are
//! [`known`](super::known) from an earlier build, or from when they are first read.
//!
//! Confined to the source root: neither `..` nor a symbolic link leads out. Of what the disk says about a file, its content and
//! whether its owner may execute it are believed (both of which git keeps), nothing else.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use rayon::prelude::*;
use walkdir::{DirEntry, WalkDir};

use super::finding::Finding;
use super::identity::Identity;
use super::known::{Found, Known};
use super::similar::closest;
use super::source::{SourcePath, Span};
use crate::bundle::digest::{Digest, Hashing};
use crate::bundle::names::BundlePath;

/// What is read from a file at once, between these two and by its size.
const MIN_BUFFER: usize = 8 << 10;
const MAX_BUFFER: usize = 128 << 10;

/// The payloads that were asked for: the members of a tree, sorted by their path, or the one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payloads(pub BTreeMap<SourcePath, Vec<PayloadFile>>);

impl Payloads {
    /// All files whose content is known by now.
    pub fn found(&self) -> impl Iterator<Item = Found<'_>> {
        let files = self.0.values().flatten();
        files.filter_map(|file| Some((file.location.as_path(), &file.identity, file.digest()?)))
    }
}

/// One file of the source tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadFile {
    /// Its path below the tree that was asked for; none if it was asked for itself.
    pub relative: Option<BundlePath>,
    /// Its owner may execute it.
    pub executable: bool,
    /// Its size in bytes.
    pub size: u64,
    /// Where it is read from. Never part of an output.
    pub location: PathBuf,
    /// What tells it from what it was or will be.
    identity: Identity,
    /// The digest of its content, once that is known.
    digest: OnceLock<Digest>,
    /// It is of the store, which makes it again if it is not there.
    kept: bool,
}

impl PayloadFile {
    /// The file that is called `relative`, whose content is known.
    #[cfg(test)]
    pub fn of(relative: Option<BundlePath>, executable: bool, content: &[u8], location: &str) -> Self {
        Self::stored(relative, executable, location.into(), Digest::of(content), content.len() as u64)
    }

    /// The file at `location` that is called `relative`, whose content is known: one of the store.
    pub fn stored(
        relative: Option<BundlePath>,
        executable: bool,
        location: PathBuf,
        digest: Digest,
        size: u64,
    ) -> Self {
        let digest = OnceLock::from(digest);
        Self { relative, executable, size, location, identity: Identity::default(), digest, kept: true }
    }

    /// The file of the source tree that is at `location`.
    fn found(
        location: &Path,
        identity: Identity,
        relative: Option<BundlePath>,
        digest: Option<Digest>,
    ) -> Self {
        Self {
            relative,
            executable: identity.mode & 0o100 != 0,
            size: identity.size,
            location: location.to_owned(),
            identity,
            digest: digest.map_or_else(OnceLock::new, OnceLock::from),
            kept: false,
        }
    }

    /// The digest of its content, if that is known.
    pub fn digest(&self) -> Option<Digest> {
        self.digest.get().copied()
    }

    /// The digest of its content, which is read if that is not known.
    ///
    /// # Errors
    /// As of [`Self::copy`].
    pub fn hash(&self) -> io::Result<Digest> {
        match self.digest() {
            Some(digest) => Ok(digest),
            None => self.copy(&mut io::sink()),
        }
    }

    /// Its permission bits wherever it goes: 0755 or 0644.
    pub fn mode(&self) -> u32 {
        if self.executable { 0o755 } else { 0o644 }
    }

    /// Copies the content to `out`; gives its digest.
    ///
    /// # Errors
    /// Also if the file is no longer what was found: size and content may be promised elsewhere by then.
    pub fn copy(&self, out: &mut (impl Write + ?Sized)) -> io::Result<Digest> {
        let mut hashing = Hashing::new(out);
        // One byte more than expected shows that it has grown.
        let mut file = File::open(&self.location).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot read {}: {error}", self.location.display()))
        })?;
        let buffer = usize::try_from(self.size).unwrap_or(MAX_BUFFER).clamp(MIN_BUFFER, MAX_BUFFER);
        io::copy(&mut BufReader::with_capacity(buffer, (&mut file).take(self.size)), &mut hashing)?;
        let grown = file.read(&mut [0])? > 0;
        let (_, digest, size) = hashing.finish();
        if grown || size != self.size || *self.digest.get_or_init(|| digest) != digest {
            let what = if self.kept && fs::remove_file(&self.location).is_ok() {
                "was damaged, and is removed: it is made again with the next run"
            } else {
                "changed while it was read"
            };
            return Err(io::Error::other(format!("{} {what}", self.location.display())));
        }
        Ok(digest)
    }

    /// The content as text, if it is text of a reasonable size.
    pub fn text(&self) -> Option<String> {
        const MAX_TEXT: u64 = 1 << 20;
        let mut bytes = Vec::new();
        let whole = self.size <= MAX_TEXT && self.copy(&mut bytes).is_ok();
        String::from_utf8(bytes).ok().filter(|_| whole)
    }
}

/// Finds what is wanted below `root`; each path once, whatever its number of places.
pub fn find(
    root: &Path,
    wanted: impl Iterator<Item = (SourcePath, Span)>,
    known: &Known,
) -> (Payloads, Vec<Finding>) {
    let real_root = match root.canonicalize() {
        Ok(real_root) => real_root,
        Err(error) => {
            let message = format!("cannot read the source tree {}: {error}", root.display());
            return (Payloads::default(), vec![Finding::error(message)]);
        }
    };
    let mut places = BTreeMap::new();
    for (path, span) in wanted {
        places.entry(path).or_insert(span);
    }
    let mut payloads = Payloads::default();
    let mut findings = Vec::new();
    for (path, span) in places {
        match load_one(&real_root, &path, known) {
            Ok(files) => drop(payloads.0.insert(path, files)),
            Err(all) => findings.extend(all.into_iter().map(|refusal| refusal.finding(&path, &span))),
        }
    }
    (payloads, findings)
}

/// Why a path is not taken; becomes a finding once its place is known.
#[derive(Debug)]
struct Refusal {
    message: String,
    help: Option<String>,
}

impl Refusal {
    fn new(message: String) -> Self {
        Self { message, help: None }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn finding(self, wanted: &SourcePath, span: &Span) -> Finding {
        let finding = Finding::error(self.message).at(span, format!("`{wanted}` is wanted here"));
        match self.help {
            Some(help) => finding.help(help),
            None => finding,
        }
    }
}

fn load_one(root: &Path, wanted: &SourcePath, known: &Known) -> Result<Vec<PayloadFile>, Vec<Refusal>> {
    let path = plain_path(wanted).map_err(|refusal| vec![refusal])?;
    let start = root.join(path);
    let metadata = confined_metadata(root, &start, wanted).map_err(|refusal| vec![refusal])?;
    if metadata.is_dir() {
        return load_tree(root, &start, wanted, known);
    }
    let file = load_file(&start, &metadata, None, &|| wanted.0.clone(), known);
    file.map(|file| vec![file]).map_err(|refusal| vec![refusal])
}

/// The path as one that cannot lead out of the root by itself.
fn plain_path(wanted: &SourcePath) -> Result<&Path, Refusal> {
    let path = Path::new(&wanted.0);
    let stays = |component| matches!(component, Component::Normal(_) | Component::CurDir);
    if wanted.0.contains('\0') || wanted.0.is_empty() {
        return Err(Refusal::new(format!("`{}` is no path", wanted.0.escape_debug())));
    }
    if path.components().all(stays) {
        return Ok(path);
    }
    Err(Refusal::new(format!("`{}` leads out of the source tree", wanted.0.escape_debug()))
        .help("write a path relative to the root of the source tree, without `..`"))
}

/// What stands at `path`, links followed, if it is there and inside the root.
fn confined_metadata(root: &Path, path: &Path, wanted: &SourcePath) -> Result<Metadata, Refusal> {
    let real = path.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => missing(root, wanted),
        _ => Refusal::new(format!("cannot read `{wanted}`: {error}")),
    })?;
    if !real.starts_with(root) {
        return Err(leads_out(&wanted.0));
    }
    fs::metadata(&real).map_err(|error| Refusal::new(format!("cannot read `{wanted}`: {error}")))
}

fn leads_out(shown: &str) -> Refusal {
    Refusal::new(format!("`{shown}` is a symbolic link that leads out of the source tree"))
        .help("put the file itself into the source tree")
}

/// Names the first component that is missing, and what stands beside it under a similar name.
fn missing(root: &Path, wanted: &SourcePath) -> Refusal {
    let mut present = PathBuf::new();
    for component in Path::new(&wanted.0).components() {
        let next = present.join(component);
        if root.join(&next).symlink_metadata().is_err() {
            let name = component.as_os_str().to_string_lossy();
            let refusal = Refusal::new(format!("`{wanted}` does not exist in the source tree"));
            return match similar(&root.join(&present), &name) {
                Some(other) => {
                    refusal.help(format!("write `{}`, which is there", present.join(other).display()))
                }
                None => refusal
                    .help(format!("add the file, or correct the path: `{}` is missing", next.display())),
            };
        }
        present = next;
    }
    Refusal::new(format!("`{wanted}` is a symbolic link to something that does not exist"))
}

fn similar(folder: &Path, name: &str) -> Option<String> {
    let entries = fs::read_dir(folder).ok()?;
    let mut siblings: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    // Of several that are as near, the first is meant: the disk's own order would say another each time.
    siblings.sort();
    closest(name, siblings.iter().map(String::as_str)).map(str::to_owned)
}

fn load_tree(
    root: &Path,
    start: &Path,
    wanted: &SourcePath,
    known: &Known,
) -> Result<Vec<PayloadFile>, Vec<Refusal>> {
    let shown =
        |entry: &DirEntry| format!("{}/{}", wanted.0.trim_end_matches('/'), below(start, entry).display());
    let mut entries = Vec::new();
    let mut refusals = Vec::new();
    let mut walk = WalkDir::new(start).follow_links(true).into_iter();
    while let Some(entry) = walk.next() {
        match entry {
            Err(error) => refusals.push(walk_refusal(start, wanted, &error)),
            Ok(entry) if leaves(root, &entry) => {
                refusals.push(leads_out(&shown(&entry)));
                if entry.file_type().is_dir() {
                    walk.skip_current_dir();
                }
            }
            Ok(entry) if entry.file_type().is_dir() => {}
            Ok(entry) => entries.push(entry),
        }
    }
    let load = |entry| load_entry(entry, below(start, entry), &|| shown(entry), known);
    let loaded: Vec<_> = entries.par_iter().map(load).collect();
    let (mut files, mut refused) = (Vec::new(), Vec::new());
    for loaded in loaded {
        loaded.map_or_else(|refusal| refused.push(refusal), |file| files.push(file));
    }
    refusals.extend(refused);
    // The disk has them in some order.
    files.par_sort_unstable_by(|a: &PayloadFile, b| a.relative.cmp(&b.relative));
    refusals.sort_by(|a, b| a.message.cmp(&b.message));
    if !refusals.is_empty() {
        return Err(refusals);
    }
    if files.is_empty() {
        let refusal = Refusal::new(format!("the directory `{wanted}` holds no file"));
        return Err(vec![refusal.help("put a file into it: git does not keep empty directories")]);
    }
    Ok(files)
}

/// The path of an entry below where the walk began. By bytes: all of them begin with the same, and there may be many.
fn below<'a>(start: &Path, entry: &'a DirEntry) -> &'a Path {
    let path = entry.path().as_os_str().as_bytes();
    let rest = path.get(start.as_os_str().len()..).unwrap_or_default();
    Path::new(OsStr::from_bytes(rest.strip_prefix(b"/").unwrap_or(rest)))
}

/// It is a link to something outside the root.
fn leaves(root: &Path, entry: &DirEntry) -> bool {
    entry.path_is_symlink() && entry.path().canonicalize().is_ok_and(|real| !real.starts_with(root))
}

fn load_entry(
    entry: &DirEntry,
    relative: &Path,
    shown: &dyn Fn() -> String,
    known: &Known,
) -> Result<PayloadFile, Refusal> {
    let path = entry.path();
    let name = relative.to_str().ok_or_else(|| {
        Refusal::new(format!("the name of `{}` is not UTF-8", shown())).help("rename the file")
    })?;
    let relative = Some(name.parse().map_err(Refusal::new)?);
    if let Some((identity, digest)) = known.standing(path) {
        return Ok(PayloadFile::found(path, identity.clone(), relative, Some(digest)));
    }
    let metadata =
        fs::metadata(path).map_err(|error| Refusal::new(format!("cannot read `{}`: {error}", shown())))?;
    load_file(path, &metadata, relative, shown, known)
}

fn walk_refusal(start: &Path, wanted: &SourcePath, error: &walkdir::Error) -> Refusal {
    let path = error.path().unwrap_or(start);
    let shown = Path::new(&wanted.0).join(path.strip_prefix(start).unwrap_or(path));
    let why = match (error.loop_ancestor(), error.io_error()) {
        (Some(_), _) => "it is a symbolic link to a directory that contains it".to_owned(),
        (None, Some(error)) => error.to_string(),
        (None, None) => "it cannot be listed".to_owned(),
    };
    Refusal::new(format!("cannot read `{}`: {why}", shown.display()))
}

fn load_file(
    path: &Path,
    metadata: &Metadata,
    relative: Option<BundlePath>,
    shown: &dyn Fn() -> String,
    known: &Known,
) -> Result<PayloadFile, Refusal> {
    if !metadata.is_file() {
        return Err(Refusal::new(format!("`{}` is neither a file nor a directory", shown())));
    }
    let identity = Identity::of(metadata);
    let digest = known.digest(path, &identity);
    Ok(PayloadFile::found(path, identity, relative, digest))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use tempfile::TempDir;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    fn load_path(root: &Path, path: &str) -> Result<Vec<PayloadFile>, Vec<Finding>> {
        let span = Span { file: SourcePath("environments/x.star".to_owned()), start: 0, end: 1 };
        let (mut payloads, findings) =
            find(root, std::iter::once((SourcePath(path.to_owned()), span)), &Known::default());
        payloads.0.remove(&SourcePath(path.to_owned())).ok_or(findings)
    }

    fn message(root: &TempDir, path: &str) -> String {
        let findings = load_path(root.path(), path).unwrap_err();
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].primary.is_some());
        format!("{} / {}", findings[0].message, findings[0].help.join(" "))
    }

    #[test]
    fn a_tree_is_sorted_by_path_in_whatever_order_it_was_made() {
        let files = [("site/b/x", "1"), ("site/b-c", "2"), ("site/a", "3"), ("site/b/.hidden", "4")];
        let mut backwards = files;
        backwards.reverse();
        let list = |root: &TempDir| -> Vec<_> {
            let files = load_path(root.path(), "site").unwrap();
            files.into_iter().map(|file| (file.relative.unwrap().to_string(), file.digest)).collect()
        };
        let (first, second) = (list(&tree(&files)), list(&tree(&backwards)));
        assert_eq!(first, second);
        let names: Vec<&str> = first.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b-c", "b/.hidden", "b/x"]);
    }

    #[test]
    fn only_the_owners_execute_bit_is_read_from_the_disk() {
        let root = tree(&[("a", "x")]);
        for (mode, executable) in [(0o600, false), (0o700, true), (0o755, true), (0o677, false)] {
            fs::set_permissions(root.path().join("a"), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(load_path(root.path(), "a").unwrap()[0].executable, executable, "{mode:o}");
        }
    }

    #[test]
    fn what_leads_out_of_the_root_is_refused() {
        let outside = tree(&[("secret", "x"), ("dir/secret", "x")]);
        let root = tree(&[("site/a", "x")]);
        symlink(outside.path().join("secret"), root.path().join("link")).unwrap();
        symlink(outside.path().join("dir"), root.path().join("dir")).unwrap();
        symlink("../..", root.path().join("site/up")).unwrap();
        assert!(message(&root, "../x").contains("leads out of the source tree"));
        assert!(message(&root, "site/../site/a").contains("leads out of the source tree"));
        assert!(message(&root, "/etc/passwd").contains("leads out of the source tree"));
        assert!(message(&root, "link").contains("symbolic link that leads out"));
        assert!(message(&root, "dir").contains("symbolic link that leads out"));
        assert!(message(&root, "dir/secret").contains("symbolic link that leads out"));
        assert!(message(&root, "site").contains("`site/up` is a symbolic link that leads out"));
    }

    #[test]
    fn links_inside_the_root_are_followed() {
        let root = tree(&[("real/a", "x"), ("site/b", "y")]);
        symlink("../real", root.path().join("site/linked")).unwrap();
        let files = load_path(root.path(), "site").unwrap();
        let names: Vec<String> =
            files.iter().map(|file| file.relative.as_ref().unwrap().to_string()).collect();
        assert_eq!(names, ["b", "linked/a"]);
    }

    #[test]
    fn endless_links_are_refused() {
        let root = tree(&[("site/b", "y")]);
        symlink("../site", root.path().join("site/again")).unwrap();
        assert!(message(&root, "site").contains("contains it"));
        symlink("loop", root.path().join("loop")).unwrap();
        assert!(message(&root, "loop").starts_with("cannot read `loop`"));
    }

    #[test]
    fn what_is_missing_is_named_with_what_may_be_meant() {
        let root = tree(&[("modules/whoami/whoami", "x")]);
        symlink("nowhere", root.path().join("dangling")).unwrap();
        assert_eq!(
            message(&root, "modules/whoami/whoam"),
            "`modules/whoami/whoam` does not exist in the source tree / write `modules/whoami/whoami`, which is there"
        );
        assert!(message(&root, "module/whoami/whoami").ends_with("write `modules`, which is there"));
        assert!(message(&root, "x/y").ends_with("add the file, or correct the path: `x` is missing"));
        assert!(message(&root, "modules/whoami/whoami/x").contains("does not exist"));
        assert!(message(&root, "dangling").contains("symbolic link to something that does not exist"));
        assert!(message(&root, "").contains("no path"));
    }

    #[test]
    fn only_files_with_plain_names_are_taken() {
        let root = tree(&[("bad/a\nb", "x")]);
        let _socket = UnixListener::bind(root.path().join("socket")).unwrap();
        fs::create_dir(root.path().join("empty")).unwrap();
        assert!(message(&root, "socket").contains("neither a file nor a directory"));
        assert!(message(&root, "bad").contains("control character"));
        assert!(message(&root, "empty").contains("holds no file"));
        fs::create_dir(root.path().join("latin")).unwrap();
        fs::write(root.path().join("latin").join(OsStr::from_bytes(b"\xe4")), "x").unwrap();
        assert!(message(&root, "latin").contains("not UTF-8"));
    }

    #[test]
    fn a_file_that_changes_after_it_was_hashed_is_an_error() {
        let root = tree(&[("a", "abc")]);
        let file = load_path(root.path(), "a").unwrap().remove(0);
        let mut copy = Vec::new();
        file.copy(&mut copy).unwrap();
        assert_eq!(copy, b"abc");
        for other in ["abd", "abcd", "ab"] {
            fs::write(root.path().join("a"), other).unwrap();
            assert!(file.copy(&mut Vec::new()).is_err(), "{other}");
        }
    }
}
