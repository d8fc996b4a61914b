//! What must survive a power cut: write, link, rename, sync, lock.
//!
//! Two ways, and no third:
//!
//! - A single file or link that others read at any time: [`replace_file`], [`replace_link`]. Written beside, synced, renamed over,
//!   directory synced. Readers see the old or the new one whole.
//! - A tree: [`write_new`] and [`make_directory`] into a place that nobody reads, one [`sync_filesystem`] for all of it, then
//!   [`rename`]. Not synced file by file: one sync for a thousand files costs what three hundred single ones do.
//!
//! What is deliberately not promised: that several renames happen together.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink,
};
use std::path::{Path, PathBuf};
use std::process;

use anyhow::{Context as _, Result};

/// Creates the file `path`, which must not exist, with exactly this mode whatever the umask. Not yet durable.
pub fn create_new(path: &Path, mode: u32) -> Result<File> {
    let create = || {
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        Ok::<_, io::Error>(file)
    };
    create().with_context(|| cannot("write", path))
}

/// Writes the file `path`, which must not exist. Not yet durable.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    create_new(path, mode)?.write_all(bytes).with_context(|| cannot("write", path))
}

/// A file to write and to read that has no name, so that it is gone when it is closed. `path`, which must not exist, is its name for a moment.
pub fn create_nameless(path: &Path) -> Result<File> {
    let create = || {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        fs::remove_file(path)?;
        Ok::<_, io::Error>(file)
    };
    create().with_context(|| cannot("write", path))
}

/// A file without a name for what is needed for a moment, where that is no part of the host. It may be large, so not in memory.
pub fn create_temporary() -> Result<File> {
    create_nameless(&temporary_name())
}

/// The same for several files: a directory that nobody else can enter, for the caller to remove.
pub fn create_temporary_directory() -> Result<PathBuf> {
    let path = temporary_name();
    DirBuilder::new().mode(0o700).create(&path).with_context(|| cannot("create the directory", &path))?;
    Ok(path)
}

fn temporary_name() -> PathBuf {
    let directory = env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    // What a process of this number left there before its file lost its name.
    let names = (0..16).map(|n| directory.join(format!(".rick-{}-{n}", process::id())));
    let free = names.into_iter().find(|path| fs::symlink_metadata(path).is_err());
    free.unwrap_or(directory)
}

/// Makes the directory `path` and those above it, each that is new with this mode; gives those that are new, the topmost first.
pub fn make_directory(path: &Path, mode: u32) -> Result<Vec<PathBuf>> {
    let absent: Vec<&Path> = path.ancestors().take_while(|above| !above.is_dir()).collect();
    let mut created = Vec::new();
    for directory in absent.into_iter().rev().filter(|above| !above.as_os_str().is_empty()) {
        fs::create_dir(directory)
            .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(mode)))
            .with_context(|| cannot("create the directory", directory))?;
        created.push(directory.to_owned());
    }
    Ok(created)
}

/// Puts `bytes` in the place of the file `path`, durably: readers see the old or the new file whole.
pub fn replace_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let beside = beside(path);
    remove_file_if_there(&beside)?;
    let mut file = create_new(&beside, mode)?;
    if let Err(error) = file.write_all(bytes).and_then(|()| file.sync_all()) {
        remove_file_if_there(&beside)?;
        return Err(error).with_context(|| cannot("write", path));
    }
    rename(&beside, path)
}

/// Puts a symbolic link in the place of the link `path`, durably: readers see the old or the new one.
pub fn replace_link(path: &Path, target: &Path) -> Result<()> {
    let beside = beside(path);
    remove_file_if_there(&beside)?;
    symlink(target, &beside).with_context(|| cannot("create the link", &beside))?;
    rename(&beside, path)
}

/// Renames durably within one directory or between two of the same file system.
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| cannot("put in place", to))?;
    sync_name(to)
}

/// Makes durable that something is called `path`.
pub fn sync_name(path: &Path) -> Result<()> {
    let above = parent(path);
    File::open(above).and_then(|directory| directory.sync_all()).with_context(|| cannot("sync", above))
}

/// Makes everything written so far to the file system of `path` durable.
pub fn sync_filesystem(path: &Path) -> Result<()> {
    let directory = File::open(path).with_context(|| cannot("open", path))?;
    rustix::fs::syncfs(&directory).map_err(io::Error::from).with_context(|| cannot("sync", path))
}

/// Removes a file or link; that there is none is fine.
pub fn remove_file_if_there(path: &Path) -> Result<()> {
    fs::remove_file(path).or_else(absent_is_fine).with_context(|| cannot("remove", path))
}

/// Removes a tree; that there is none is fine.
pub fn remove_tree_if_there(path: &Path) -> Result<()> {
    fs::remove_dir_all(path).or_else(absent_is_fine).with_context(|| cannot("remove", path))
}

/// Reads a file; `None` if there is none.
pub fn read_if_there(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| cannot("read", path)),
    }
}

/// Reads where a link leads; `None` if nothing is there.
pub fn read_link_if_there(path: &Path) -> Result<Option<PathBuf>> {
    match fs::read_link(path) {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| cannot("read the link", path)),
    }
}

/// What stands in this directory is never written to a disk, but for swap: its file system is a tmpfs or ramfs.
pub fn is_in_memory(directory: &Path) -> Result<bool> {
    const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];
    let found = rustix::fs::statfs(directory).with_context(|| cannot("look at", directory))?;
    Ok(u64::try_from(found.f_type).is_ok_and(|kind| IN_MEMORY.contains(&kind)))
}

/// Refuses if the file system of `path`, which must not exist, has no room for `bytes` more. A file system that cannot tell has.
pub fn expect_room(path: &Path, bytes: u64) -> Result<()> {
    remove_file_if_there(path)?;
    let file = create_new(path, 0o600)?;
    let taken = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes.max(1));
    remove_file_if_there(path)?;
    match taken {
        Err(error) if error != rustix::io::Errno::OPNOTSUPP => {
            Err(io::Error::from(error)).with_context(|| cannot("write", path))
        }
        _ => Ok(()),
    }
}

/// Takes the lock file `path` without waiting; `None` if somebody else holds it.
pub fn try_lock(path: &Path) -> Result<Option<File>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        // It may become the standard input of another process.
        .read(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| cannot("open", path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(fs::TryLockError::WouldBlock) => return Ok(None),
        Err(fs::TryLockError::Error(error)) => return Err(error).with_context(|| cannot("lock", path)),
    }
    // The holder before may have removed the file just before it let go: then this lock guards nothing.
    let ours = file.metadata().with_context(|| cannot("read", path))?.ino();
    let still_there = fs::metadata(path).is_ok_and(|there| there.ino() == ours);
    Ok(still_there.then_some(file))
}

/// `file` is the lock file `path`, and held.
pub fn is_lock(file: &File, path: &Path) -> Result<bool> {
    let ours = file.metadata().with_context(|| cannot("read", path))?;
    let same = fs::metadata(path).is_ok_and(|there| there.ino() == ours.ino() && there.dev() == ours.dev());
    // Whoever shares it holds it already, and only they can take it again.
    Ok(same && file.try_lock().is_ok())
}

/// Removes a file durably; that there is none is fine.
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => sync_name(path),
        Err(error) => absent_is_fine(error).with_context(|| cannot("remove", path)),
    }
}

fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".tmp");
    PathBuf::from(name)
}

fn cannot(verb: &str, path: &Path) -> String {
    format!("cannot {verb} {}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        fs::write(dir.path().join("a.json.tmp"), "left by a crash").unwrap();
        replace_file(&path, b"1", 0o600).unwrap();
        replace_file(&path, b"2", 0o644).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_replaced_link_switches() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("current");
        assert_eq!(read_link_if_there(&path).unwrap(), None);
        replace_link(&path, Path::new("gens/0")).unwrap();
        replace_link(&path, Path::new("gens/1")).unwrap();
        assert_eq!(read_link_if_there(&path).unwrap(), Some(PathBuf::from("gens/1")));
    }

    #[test]
    fn a_lock_is_held_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = try_lock(&path).unwrap();
        assert!(held.is_some());
        assert!(try_lock(&path).unwrap().is_none());
        drop(held);
        assert!(try_lock(&path).unwrap().is_some());
    }

    #[test]
    fn new_directories_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let made = make_directory(&dir.path().join("a/b"), 0o755).unwrap();
        assert_eq!(made, [dir.path().join("a"), dir.path().join("a/b")]);
        assert!(make_directory(&dir.path().join("a/b"), 0o755).unwrap().is_empty());
    }
}
