//! `rick.lock` on the disk.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;

use super::finding::Finding;
use super::lock::{FILE, Lock};
use super::source::{SourcePath, Span};

/// What was read.
#[derive(Clone, Debug, Default)]
pub struct LockFile {
    /// The text, empty where there is no file.
    pub text: String,
    /// What it says.
    pub lock: Lock,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

impl LockFile {
    /// Reads the file of a source tree. None is the same as one without entries.
    ///
    /// # Errors
    /// What the machine says.
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let path = root.join(FILE);
        let cannot = || format!("cannot read {}", path.display());
        let wrong = |message: String| {
            let finding = Finding::error(message).at(&Span::start_of(&SourcePath(FILE.to_owned())), "");
            Ok(Self { findings: vec![finding], ..Self::default() })
        };
        // A link could lead out of the source tree, and be replaced when the lock is written.
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Ok(there) if !there.is_file() => return wrong(format!("`{FILE}` is no regular file")),
            there => there.with_context(cannot)?,
        };
        let Ok(text) = String::from_utf8(fs::read(&path).with_context(cannot)?) else {
            return wrong(format!("`{FILE}` is no text in UTF-8"));
        };
        let (lock, findings) = Lock::parse(&text);
        Ok(Self { text, lock, findings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(root: &Path) -> Vec<String> {
        LockFile::read(root).unwrap().findings.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn only_a_regular_file_of_text_is_a_lock() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join(FILE);
        let read = LockFile::read(root.path()).unwrap();
        assert_eq!((read.text.as_str(), read.lock), ("", Lock::default()));
        assert_eq!(messages(root.path()), [""; 0]);
        fs::write(&file, "version = 1\n").unwrap();
        assert_eq!(LockFile::read(root.path()).unwrap().text, "version = 1\n");
        fs::write(&file, b"version = 1 # \xff\n").unwrap();
        assert_eq!(messages(root.path()), ["`rick.lock` is no text in UTF-8"]);
        // Also if it leads to one.
        fs::rename(&file, root.path().join("other")).unwrap();
        std::os::unix::fs::symlink("other", &file).unwrap();
        assert_eq!(messages(root.path()), ["`rick.lock` is no regular file"]);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        assert_eq!(messages(root.path()), ["`rick.lock` is no regular file"]);
    }
}
