//! What several of the real programs need of their surroundings.

use crate::Outcome;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{env, fmt};

/// Whom the kernel takes this process for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Process {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
}

impl Process {
    /// Refuses to be root: none of the images may run as it.
    pub(crate) fn not_root() -> Outcome<Self> {
        let path = "/proc/self/status";
        let status = fs::read_to_string(path).map_err(|why| format!("{path}: {why}"))?;
        let process = Self::parse(&status).ok_or_else(|| format!("{path} is not what it should be"))?;
        if process.uid == 0 { Err("runs as root (uid 0)".into()) } else { Ok(process) }
    }

    /// Of real, effective, saved and file system, the effective ids.
    fn parse(status: &str) -> Option<Self> {
        let numbers = |key: &str| -> Option<Vec<u32>> {
            let values = status.lines().find_map(|line| line.strip_prefix(key))?;
            values.split_ascii_whitespace().map(|id| id.parse().ok()).collect()
        };
        let effective = |key: &str| numbers(key)?.get(1).copied();
        Some(Self { uid: effective("Uid:")?, gid: effective("Gid:")?, groups: numbers("Groups:")? })
    }

    /// The members of a JSON object, without its braces.
    pub(crate) fn json(&self) -> String {
        format!(r#""uid":{},"gid":{},"groups":{:?}"#, self.uid, self.gid, self.groups)
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "uid={} gid={} groups={:?}", self.uid, self.gid, self.groups)
    }
}

/// A variable that is set, and not to nothing.
pub(crate) fn variable(name: &str) -> Outcome<Option<String>> {
    match env::var(name) {
        Ok(value) => Ok(Some(value).filter(|value| !value.is_empty())),
        Err(env::VarError::NotPresent) => Ok(None),
        Err(env::VarError::NotUnicode(_)) => Err(format!("{name} is not UTF-8")),
    }
}

/// As `variable`, but it must be there.
pub(crate) fn required(name: &str) -> Outcome<String> {
    variable(name)?.ok_or_else(|| format!("{name} is not set"))
}

/// An absolute path of a directory that exists. Not a host name: everything here speaks over Unix sockets.
pub(crate) fn directory(what: &str, path: &str) -> Outcome<PathBuf> {
    if !path.starts_with('/') {
        return Err(format!("{what} is {path:?}, not the path of a directory"));
    }
    let path = PathBuf::from(path);
    match fs::metadata(&path) {
        Ok(found) if found.is_dir() => Ok(path),
        Ok(_) => Err(format!("{what}: {} is no directory", path.display())),
        Err(why) => Err(format!("{what}: {}: {why}", path.display())),
    }
}

/// The text of a file that this process may read, and that says something.
pub(crate) fn readable_file(what: &str, path: &Path) -> Outcome<String> {
    let text = fs::read(path).map_err(|why| format!("{what}: {}: {why}", path.display()))?;
    String::from_utf8(text).map_err(|_| format!("{what}: {} is not UTF-8", path.display()))
}

/// The secret in a file, without the white space around it. The file must give nothing to others.
pub(crate) fn secret_file(what: &str, path: &Path) -> Outcome<String> {
    let failed = |why: String| format!("{what}: the secret {} {why}", path.display());
    if !path.is_absolute() {
        return Err(failed("has no absolute path".into()));
    }
    let found = fs::metadata(path).map_err(|why| failed(format!("cannot be found: {why}")))?;
    if !found.is_file() {
        return Err(failed("is no file".into()));
    }
    let mode = found.permissions().mode() & 0o7777;
    if mode & 0o007 != 0 {
        return Err(failed(format!("is open to others: its mode is {mode:04o}")));
    }
    let text = fs::read(path).map_err(|why| failed(format!("cannot be read: {why}")))?;
    let text = String::from_utf8(text).map_err(|_| failed("is not UTF-8".into()))?;
    match text.trim() {
        "" => Err(failed("is empty".into())),
        secret => Ok(secret.to_string()),
    }
}

/// Finds out by writing: neither mode nor owner knows about read-only mounts.
pub(crate) fn writable_directory(what: &str, path: &str) -> Outcome<PathBuf> {
    let directory = directory(what, path)?;
    // Containers that share it share their process ids too, so only the time tells them apart.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let file = directory.join(format!(".standin-{now}"));
    File::create_new(&file)
        .and_then(|_| fs::remove_file(&file))
        .map_err(|why| format!("{what}: cannot write in {}: {why}", directory.display()))?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_read_from_the_kernels_text() {
        let status = "Name:\tw\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t984 985 \n";
        let process = Process { uid: 2, gid: 6, groups: vec![984, 985] };
        assert_eq!(Process::parse(status), Some(process.clone()));
        assert_eq!(process.json(), r#""uid":2,"gid":6,"groups":[984, 985]"#);
        assert_eq!(Process::parse("Uid: 1 2\nGid: 1\nGroups:\n"), None);
    }
}
