//! The files of an environment's secrets, as they lie in the source tree.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use anyhow::Context as _;

use super::header::{Header, Wrong};
use super::{FOLDER, folder_of};
use crate::bundle::digest::Digest;
use crate::bundle::names::Label;
use crate::compile::source::SourcePath;

/// No secret is larger: what a service reads as one are keys, tokens and the like.
pub const MAX_FILE: u64 = 1 << 20;

/// What lies in `secrets/ENV`, and beside that folder.
#[derive(Clone, Debug, Default)]
pub struct Folder {
    /// File → who can read it, or why it is no file of a secret.
    pub files: BTreeMap<SourcePath, Result<Header, Wrong>>,
    /// The digest of each of these that was read.
    pub read: BTreeMap<SourcePath, Digest>,
}

impl Folder {
    /// Reads the files of an environment. No folder is the same as an empty one.
    ///
    /// # Errors
    /// What the machine says.
    pub fn read(root: &Path, environment: &Label) -> anyhow::Result<Self> {
        let mut folder = Self::default();
        for path in [SourcePath(FOLDER.to_owned()), folder_of(environment.as_str())] {
            let listed = folder.list(root, &path);
            listed.with_context(|| format!("cannot read {}", root.join(&path.0).display()))?;
            // What is below one that leads elsewhere is not ours.
            if folder.files.contains_key(&path) {
                break;
            }
        }
        Ok(folder)
    }

    /// The file is whole, and as age writes it.
    pub fn holds(&self, file: &SourcePath) -> bool {
        self.files.get(file).is_some_and(Result::is_ok)
    }

    fn list(&mut self, root: &Path, folder: &SourcePath) -> io::Result<()> {
        // A link could lead out of the source tree.
        match fs::symlink_metadata(root.join(&folder.0)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            there => {
                if !there?.is_dir() {
                    self.files.insert(folder.clone(), Err(Wrong::Special));
                    return Ok(());
                }
            }
        }
        for entry in fs::read_dir(root.join(&folder.0))? {
            let entry = entry?;
            let mut name = entry.file_name().to_string_lossy().into_owned();
            // What tools keep beside, and what people read.
            if name.starts_with('.')
                || Path::new(&name).extension() == Some("md".as_ref())
                || (folder.0 == FOLDER && entry.file_type()?.is_dir())
            {
                continue;
            }
            // It is shown, and is no name of a secret anyway.
            if name.chars().any(char::is_control) {
                name = name.escape_debug().to_string();
            }
            self.look(SourcePath(format!("{folder}/{name}")), &entry)?;
        }
        Ok(())
    }

    fn look(&mut self, file: SourcePath, entry: &DirEntry) -> io::Result<()> {
        if !entry.file_type()?.is_file() {
            self.files.insert(file, Err(Wrong::Special));
            return Ok(());
        }
        let mut bytes = Vec::new();
        File::open(entry.path())?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            self.files.insert(file, Err(Wrong::Large));
            return Ok(());
        }
        self.read.insert(file.clone(), Digest::of(&bytes));
        self.files.insert(file, Header::of(&bytes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn kinds(root: &Path) -> Vec<(String, String)> {
        let folder = Folder::read(root, &"case".parse().unwrap()).unwrap();
        let kind = |(file, read): (SourcePath, Result<Header, Wrong>)| {
            (file.0, read.map_or_else(|wrong| wrong.to_string(), |_| "good".to_owned()))
        };
        folder.files.into_iter().map(kind).collect()
    }

    fn expected(files: &[(&str, &str)]) -> Vec<(String, String)> {
        files.iter().map(|(file, kind)| ((*file).to_owned(), (*kind).to_owned())).collect()
    }

    #[test]
    fn only_regular_files_of_the_folder_itself_are_read() {
        let root = tempfile::tempdir().unwrap();
        let secrets = root.path().join("secrets");
        assert_eq!(kinds(root.path()), []);
        fs::create_dir_all(secrets.join("case/folder")).unwrap();
        fs::create_dir_all(secrets.join("other")).unwrap();
        for file in ["case/a.age", "case/.hidden", "case/READ.md", "case/b\u{1b}c", "other/a.age", "loose"] {
            fs::write(secrets.join(file), "in clear").unwrap();
        }
        fs::write(secrets.join("case/large.age"), vec![b'x'; 1 << 21]).unwrap();
        symlink("a.age", secrets.join("case/link.age")).unwrap();
        let _socket = UnixListener::bind(secrets.join("case/socket.age")).unwrap();
        let files = [
            ("secrets/case/a.age", "NOT ENCRYPTED"),
            ("secrets/case/b\\u{1b}c", "NOT ENCRYPTED"),
            ("secrets/case/folder", "no regular file"),
            ("secrets/case/large.age", "too large"),
            ("secrets/case/link.age", "no regular file"),
            ("secrets/case/socket.age", "no regular file"),
            ("secrets/loose", "NOT ENCRYPTED"),
        ];
        assert_eq!(kinds(root.path()), expected(&files));
    }

    #[test]
    fn a_folder_that_leads_elsewhere_is_not_looked_into() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(outside.path().join("case")).unwrap();
        fs::write(outside.path().join("case/a.age"), "in clear").unwrap();
        symlink(outside.path(), root.path().join("secrets")).unwrap();
        assert_eq!(kinds(root.path()), expected(&[("secrets", "no regular file")]));
        fs::remove_file(root.path().join("secrets")).unwrap();
        fs::create_dir(root.path().join("secrets")).unwrap();
        symlink(outside.path().join("case"), root.path().join("secrets/case")).unwrap();
        assert_eq!(kinds(root.path()), expected(&[("secrets/case", "no regular file")]));
    }
}
