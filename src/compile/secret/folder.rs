//! The files of an environment's secrets, as they lie in the source tree.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use anyhow::Context as _;

use super::header::{Header, Wrong};
use super::{FOLDER, folder_of};
use crate::bundle::names::Label;
use crate::compile::source::SourcePath;

/// No secret is larger: what a service reads as one are keys, tokens and the like.
pub const MAX_FILE: u64 = 1 << 20;

/// What lies in `secrets/ENV`, and beside that folder: file → who can read it, or why it is no file of a secret.
#[derive(Clone, Debug, Default)]
pub struct Folder(pub BTreeMap<SourcePath, Result<Header, Wrong>>);

impl Folder {
    /// Reads the files of an environment. No folder is the same as an empty one.
    ///
    /// # Errors
    /// What the machine says.
    pub fn read(root: &Path, environment: &Label) -> anyhow::Result<Self> {
        let mut folder = Self::default();
        for path in [SourcePath(FOLDER.to_owned()), folder_of(environment.as_str())] {
            let read = folder.list(root, &path);
            read.with_context(|| format!("cannot read {}", root.join(&path.0).display()))?;
        }
        Ok(folder)
    }

    /// The file is whole, and as age writes it.
    pub fn holds(&self, file: &SourcePath) -> bool {
        self.0.get(file).is_some_and(Result::is_ok)
    }

    fn list(&mut self, root: &Path, folder: &SourcePath) -> io::Result<()> {
        // A link could lead out of the source tree.
        match fs::symlink_metadata(root.join(&folder.0)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            there => {
                if !there?.is_dir() {
                    self.0.insert(folder.clone(), Err(Wrong::Special));
                    return Ok(());
                }
            }
        }
        for entry in fs::read_dir(root.join(&folder.0))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // What tools keep beside, and what people read.
            if name.starts_with('.')
                || Path::new(&name).extension() == Some("md".as_ref())
                || (folder.0 == FOLDER && entry.file_type()?.is_dir())
            {
                continue;
            }
            self.0.insert(SourcePath(format!("{folder}/{name}")), read(&entry)?);
        }
        Ok(())
    }
}

fn read(entry: &DirEntry) -> io::Result<Result<Header, Wrong>> {
    if !entry.file_type()?.is_file() {
        return Ok(Err(Wrong::Special));
    }
    let mut bytes = Vec::new();
    File::open(entry.path())?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Ok(Err(Wrong::Large));
    }
    Ok(Header::of(&bytes))
}
