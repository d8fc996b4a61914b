//! Where everything lies: the root of the host, and rick's own directory in it.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::bundle::digest::Digest;
use crate::bundle::names::Label;
use crate::durable;
use crate::refusal::{Refusal, refuse};

/// Where rick's own directory is on every host. Texts that hosts read name it thus, whatever the root is.
pub const STATE: &str = "/var/lib/rick";

/// The paths of a host, all below one root.
///
/// ```text
/// /var/lib/rick/store/HEX/…       configuration directories under the digest of their content
///               images/           an OCI image layout
///               gens/N/…          generations; 0 is empty and always there
///               current           → gens/N
///               applied.json      what the running units were last started with
///               journal.json      the switch that is under way; none if all is settled
///               confirmed         the number of the generation that somebody confirmed
///               adopted/          unit files of others that were taken over, for the day that the unit leaves
///               marks.json        which generations were well, which were not, and which are pinned; the highest number there was
///               followed.json     what was last had of a registry that is followed
///               bin/              the activator itself, for PID 1 to call: it must be there at boot whatever becomes of the one called
///               kept/             what is known of what services keep, and what is copied or restored of it at the moment
///               ids.json          the number of every account ever named
///               lock              held by the activator that runs
///               incoming/         what is being received, staged or removed; nothing reads it, the next run removes it
/// ```
#[derive(Clone, Debug)]
pub struct State {
    root: PathBuf,
}

impl State {
    /// The state of the host whose root is `root`, `/` for the running one.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Where the host's path `path` is to be found.
    pub fn on_host(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// The root of the host.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// rick's own directory.
    pub fn directory(&self) -> PathBuf {
        self.on_host(STATE)
    }

    /// The store of configuration directories.
    pub fn store(&self) -> PathBuf {
        self.directory().join("store")
    }

    /// One configuration directory.
    pub fn object(&self, digest: &Digest) -> PathBuf {
        self.store().join(digest.hex())
    }

    /// The OCI image layout.
    pub fn images(&self) -> PathBuf {
        self.directory().join("images")
    }

    /// The blobs of the image layout.
    pub fn image_blobs(&self) -> PathBuf {
        self.images().join("blobs/sha256")
    }

    /// A blob of the image layout.
    pub fn image_blob(&self, digest: &Digest) -> PathBuf {
        self.image_blobs().join(digest.hex())
    }

    /// All generations.
    pub fn generations(&self) -> PathBuf {
        self.directory().join("gens")
    }

    /// One generation.
    pub fn generation(&self, number: u32) -> PathBuf {
        self.generations().join(number.to_string())
    }

    /// The link to the generation that the host has.
    pub fn current(&self) -> PathBuf {
        self.directory().join("current")
    }

    /// The record of what was applied.
    pub fn applied(&self) -> PathBuf {
        self.directory().join("applied.json")
    }

    /// The switch that is under way.
    pub fn journal(&self) -> PathBuf {
        self.directory().join("journal.json")
    }

    /// What says that a generation was confirmed.
    pub fn confirmed(&self) -> PathBuf {
        self.directory().join("confirmed")
    }

    /// What is known of generations.
    pub fn marks(&self) -> PathBuf {
        self.directory().join("marks.json")
    }

    /// What was last had of a registry that is followed.
    pub fn followed(&self) -> PathBuf {
        self.directory().join("followed.json")
    }

    /// What was taken from others, each file below under the path that it had.
    pub fn adopted(&self) -> PathBuf {
        self.directory().join("adopted")
    }

    /// The activator for PID 1 to call.
    pub fn program(&self) -> PathBuf {
        self.directory().join("bin/rick-activate")
    }

    /// The record of numbers.
    pub fn ids(&self) -> PathBuf {
        self.directory().join("ids.json")
    }

    /// What services keep, as far as rick has to know.
    pub fn kept(&self) -> PathBuf {
        self.directory().join("kept")
    }

    /// The record of one of them.
    pub fn kept_record(&self, service: &Label) -> PathBuf {
        self.kept().join(format!("{service}.json"))
    }

    /// The place for what is not yet verified or not yet durable.
    pub fn incoming(&self) -> PathBuf {
        self.directory().join("incoming")
    }

    fn lock(&self) -> PathBuf {
        self.directory().join("lock")
    }
}

/// The state, held by this process alone until it is dropped.
///
/// Dropping removes `incoming/`, and the whole of rick's directory if nothing has come to stand in it, so that a host whose first
/// activation is refused is as it was.
#[derive(Debug)]
pub struct Claim {
    state: State,
    made: Vec<PathBuf>,
    /// The host had no generation.
    first: bool,
    lock: File,
}

impl Claim {
    /// Takes the lock without waiting, and removes what a killed run left in `incoming/`.
    pub fn take(state: &State) -> Result<Self> {
        match Self::try_take(state)? {
            Some(claim) => Ok(claim),
            None => Err(Refusal::new("another rick-activate is running")
                .help("wait until it is done, then run this again")
                .help("if it waits to be confirmed: `rick-activate confirm`, or let its time run out")
                .into()),
        }
    }

    /// The same; `None` if somebody else holds the lock.
    pub fn try_take(state: &State) -> Result<Option<Self>> {
        let made = durable::make_directory(&state.directory(), 0o755)?;
        made.iter().try_for_each(|new| durable::sync_name(new))?;
        let Some(lock) = durable::try_lock(&state.lock())? else { return Ok(None) };
        durable::remove_tree_if_there(&state.incoming())?;
        let first = fs::symlink_metadata(state.current()).is_err();
        Ok(Some(Self { state: state.clone(), made, first, lock }))
    }

    /// The lock as another process handed it over, as its standard input: it is held as long as either of them holds it.
    pub fn handed_over(state: &State, stdin: impl AsFd) -> Result<Self> {
        let lock = File::from(stdin.as_fd().try_clone_to_owned().context("cannot use standard input")?);
        if !durable::is_lock(&lock, &state.lock())? {
            refuse!("this is for rick-activate itself to call: standard input is not the lock");
        }
        Ok(Self { state: state.clone(), made: Vec::new(), first: false, lock })
    }

    /// The lock, for another process to have as well.
    pub fn share(&self) -> Result<File> {
        self.lock.try_clone().context("cannot share the lock")
    }

    /// Lets somebody else have the lock.
    pub fn let_go(&self) -> Result<()> {
        self.lock.unlock().context("cannot unlock")
    }

    /// No generation was current when it was taken.
    pub fn is_first(&self) -> bool {
        self.first
    }

    /// Removes what a refused first activation made; nothing of it was ever in use.
    pub fn take_back(&self) -> Result<()> {
        let state = &self.state;
        [state.current(), state.applied(), state.ids(), state.marks()]
            .iter()
            .try_for_each(|path| durable::remove_file_if_there(path))?;
        [state.generations(), state.store(), state.images(), state.directory().join("bin")]
            .iter()
            .try_for_each(|path| durable::remove_tree_if_there(path))
    }

    /// Removes the directory, in which nothing but the lock may be left.
    pub fn give_up(mut self) -> Result<()> {
        self.made.push(self.state.directory());
        drop(self);
        Ok(())
    }

    fn nothing_but_the_lock(&self) -> bool {
        fs::read_dir(self.state.directory())
            .is_ok_and(|entries| entries.flatten().all(|entry| entry.file_name() == "lock"))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Errors are left alone: the next run removes `incoming/`, and an empty directory does no harm.
        let _ = durable::remove_tree_if_there(&self.state.incoming());
        if self.nothing_but_the_lock() {
            let _ = fs::remove_file(self.state.lock());
            for directory in self.made.iter().rev() {
                let _ = fs::remove_dir(directory);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_on_a_fresh_host_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::new(dir.path());
        let claim = Claim::take(&state).unwrap();
        fs::create_dir(state.incoming()).unwrap();
        assert_eq!(Claim::take(&state).unwrap_err().to_string(), "another rick-activate is running");
        drop(claim);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_claim_keeps_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::new(dir.path());
        fs::create_dir_all(state.generations()).unwrap();
        fs::create_dir(state.incoming()).unwrap();
        drop(Claim::take(&state).unwrap());
        assert!(state.generations().is_dir());
        assert!(!state.incoming().exists());
    }
}
