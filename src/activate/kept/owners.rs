//! Numbers of accounts are each host's own: what comes from another one gets those of this one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::activate::accounts::Remembered;
use crate::activate::state::State;
use crate::bundle::digest::Digest;
use crate::durable;

/// The numbers of the host that took a copy, inside what is copied.
pub(super) const FILE: &str = "owners.json";

/// Puts the numbers of this host beside what is copied.
pub(super) fn note(state: &State, folder: &Path) -> Result<()> {
    durable::write_new(&folder.join(FILE), &numbers(state)?, 0o600)
}

/// Stands for the numbers of this host: a copy with the same needs no translation.
pub(super) fn mark(state: &State) -> Result<String> {
    Ok(format!("numbers={}", Digest::of(&numbers(state)?).short()))
}

fn numbers(state: &State) -> Result<Vec<u8>> {
    let numbers = durable::read_if_there(&state.ids())?;
    Ok(numbers.unwrap_or_else(|| b"{\"users\":{},\"groups\":{}}".to_vec()))
}

/// What has the numbers that stand in `folder` gets those of this host.
pub(super) fn translate(state: &State, folder: &Path, directories: &[&Path]) -> Result<()> {
    let Some(bytes) = durable::read_if_there(&folder.join(FILE))? else { return Ok(()) };
    let there: Remembered =
        serde_json::from_slice(&bytes).context("the numbers of its accounts are damaged")?;
    let numbers = there.renumbered(&Remembered::read(state)?);
    if numbers.iter().all(BTreeMap::is_empty) {
        return Ok(());
    }
    let mut done = BTreeSet::new();
    directories.iter().try_for_each(|directory| below(directory, &numbers, &mut done))
}

/// `done` are the files that have several names: none is translated twice.
fn below(path: &Path, numbers: &[BTreeMap<u32, u32>; 2], done: &mut BTreeSet<(u64, u64)>) -> Result<()> {
    let cannot = || format!("cannot give {} its owner", path.display());
    let found = fs::symlink_metadata(path).with_context(cannot)?;
    if !found.is_dir() && found.nlink() > 1 && !done.insert((found.dev(), found.ino())) {
        return Ok(());
    }
    let (user, group) = (numbers[0].get(&found.uid()), numbers[1].get(&found.gid()));
    if user.is_some() || group.is_some() {
        lchown(path, user.copied(), group.copied()).with_context(cannot)?;
        // The kernel takes these bits away.
        if found.is_file() && found.mode() & 0o6000 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(found.mode() & 0o7777))
                .with_context(cannot)?;
        }
    }
    if found.is_dir() {
        for entry in fs::read_dir(path).with_context(cannot)? {
            below(&entry.with_context(cannot)?.path(), numbers, done)?;
        }
    }
    Ok(())
}
