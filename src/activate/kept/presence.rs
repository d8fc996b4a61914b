//! Whether there is anything: the one place that says what is absent.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::dumps;
use super::{Kept, Part};
use crate::activate::state::State;
use crate::refusal::Refusal;

/// Part → there is something.
pub type Presence = BTreeMap<Part, bool>;

/// Looks at every part. A directory that is not there, one that is empty and one in which there are empty directories only are the same: who makes
/// them before anything stands in them has no say.
///
/// # Errors
/// It cannot be known: then nobody may go on as if nothing was there.
pub fn look(state: &State, kept: &Kept) -> Result<Presence> {
    kept.parts.iter().map(|part| Ok((part.clone(), self::part(state, kept, part)?))).collect()
}

/// Looks at one part.
pub fn part(state: &State, kept: &Kept, part: &Part) -> Result<bool> {
    let there = match part {
        Part::Directory(path) => holds_something(&state.on_host(path.as_str())),
        Part::Dump(name) => dumps::is_empty(kept, name).map(|empty| !empty),
    };
    there.with_context(|| format!("cannot tell whether {part} is there"))
}

/// There is something in it, or below, that is no directory. What a file system brings does not count.
///
/// # Errors
/// Also if it is a link: a copy would have the link, and nothing of what it leads to.
pub(super) fn holds_something(directory: &Path) -> Result<bool> {
    match fs::symlink_metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Ok(found) if found.is_symlink() => {
            return Err(Refusal::new(format!(
                "{} is a link, of which a copy would hold nothing",
                directory.display()
            ))
            .help("state the directory that it leads to, or mount that in its place (`mount --bind`)")
            .into());
        }
        _ => {}
    }
    let cannot = || format!("cannot read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let is_directory = entry.file_type().with_context(cannot)?.is_dir();
        if !is_directory || (entry.file_name() != "lost+found" && holds_something(&entry.path())?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where the file system begins that a directory is on, or would be.
pub fn begins(directory: &Path) -> Result<PathBuf> {
    let cannot = || format!("cannot tell which file system {} is on", directory.display());
    let there = directory.ancestors().find(|path| fs::symlink_metadata(path).is_ok());
    let mut place = there.unwrap_or(Path::new("/")).canonicalize().with_context(cannot)?;
    let device = fs::metadata(&place).with_context(cannot)?.dev();
    while let Some(above) = place.parent() {
        if fs::metadata(above).with_context(cannot)?.dev() != device {
            break;
        }
        place.pop();
    }
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_absent_and_what_cannot_be_read_is_neither() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        assert!(!holds_something(&data).unwrap());
        fs::create_dir(&data).unwrap();
        assert!(!holds_something(&data).unwrap());
        fs::create_dir(data.join("lost+found")).unwrap();
        assert!(!holds_something(&data).unwrap());
        fs::create_dir_all(data.join("repositories/none")).unwrap();
        assert!(!holds_something(&data).unwrap(), "who makes directories has no say");
        fs::write(data.join("repositories/none/.hidden"), "").unwrap();
        assert!(holds_something(&data).unwrap());
        fs::write(dir.path().join("file"), "").unwrap();
        holds_something(&dir.path().join("file")).unwrap_err();
        std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
        holds_something(&dir.path().join("link")).unwrap_err();
    }
}
