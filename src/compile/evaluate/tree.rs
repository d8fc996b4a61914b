//! The source tree: the only reader of its Starlark files, confined to its root.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::super::source::SourcePath;

/// The largest file that is read as text.
const LARGEST: u64 = 16 << 20;

/// A directory that nothing is read from but by a path inside it.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: PathBuf,
}

/// Why a path of the source cannot be had.
pub(super) enum Refusal {
    /// It leads out of the root, or would; the reason.
    Outside(String),
    /// There is nothing: the first component of the path that is missing, and the names that stand where it would.
    Missing(String, Vec<String>),
    /// It is there and cannot be read.
    Unreadable(String),
}

impl Tree {
    /// The tree below `root`.
    pub(super) fn new(root: &Path) -> io::Result<Self> {
        Ok(Self { root: root.canonicalize()? })
    }

    /// The text of a file.
    pub(super) fn read(&self, path: &SourcePath) -> Result<String, Refusal> {
        let full = self.root.join(&path.0);
        let real = full.canonicalize().map_err(|error| self.explain(&full, &error))?;
        if !real.starts_with(&self.root) {
            return Err(Refusal::Outside(
                "a symbolic link on its way leads out of the source root".to_owned(),
            ));
        }
        // A pipe would be waited for without end, a device read so.
        let metadata = fs::metadata(&real).map_err(|error| self.explain(&full, &error))?;
        if metadata.is_dir() {
            return Err(Refusal::Unreadable("it is a folder".to_owned()));
        }
        if !metadata.is_file() {
            return Err(Refusal::Unreadable("it is no regular file".to_owned()));
        }
        if metadata.len() > LARGEST {
            return Err(Refusal::Unreadable(format!("it is larger than {} MiB", LARGEST >> 20)));
        }
        let bytes = fs::read(&real).map_err(|error| self.explain(&full, &error))?;
        String::from_utf8(bytes).map_err(|error| {
            let sound = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]);
            let line = sound.matches('\n').count() + 1;
            Refusal::Unreadable(format!("it is not UTF-8 text: line {line} holds something else"))
        })
    }

    fn explain(&self, full: &Path, error: &io::Error) -> Refusal {
        if error.kind() != io::ErrorKind::NotFound {
            return Refusal::Unreadable(error.to_string());
        }
        let mut missing = full;
        while let Some(folder) = missing.parent().filter(|folder| folder.starts_with(&self.root)) {
            if folder.is_dir() {
                let name = missing.file_name().map(|name| name.to_string_lossy().into_owned());
                return Refusal::Missing(name.unwrap_or_default(), names_in(folder));
            }
            missing = folder;
        }
        Refusal::Missing(String::new(), Vec::new())
    }
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Joins a path as written in a file of `folder`: `//x` from the root, else from that folder. Never leads out.
pub(super) fn resolve(folder: &str, written: &str) -> Result<SourcePath, String> {
    let (base, rest) = match written.strip_prefix("//") {
        Some(rest) => ("", rest),
        None if written.starts_with('/') => {
            return Err("it is absolute; a path starts with `//` (the source root) or with a name".to_owned());
        }
        None => (folder, written),
    };
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in rest.trim_end_matches('/').split('/') {
        match part {
            ".." => {
                return Err("`..` is not allowed; write `//` and the path from the source root".to_owned());
            }
            "" | "." => return Err("it has an empty component or `.`".to_owned()),
            _ if part.contains(['\0', '\n', '\\']) => {
                return Err("it has a character that no path may have".to_owned());
            }
            _ => parts.push(part),
        }
    }
    Ok(SourcePath(parts.join("/")))
}

/// The folder of a file, without the file's name.
pub(super) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside_the_root() {
        assert_eq!(resolve("modules/whoami", "whoami"), Ok(SourcePath("modules/whoami/whoami".to_owned())));
        assert_eq!(resolve("modules/whoami", "//sites/docs/"), Ok(SourcePath("sites/docs".to_owned())));
        for wrong in ["/etc/passwd", "../x", "//../x", "a/../../x", "a//b", "", "//"] {
            assert!(resolve("modules", wrong).is_err(), "{wrong}");
        }
    }
}
