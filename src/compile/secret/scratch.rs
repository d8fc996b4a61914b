//! A folder in memory for what is in clear as long as a person edits it, and for all that an editor puts beside.
//!
//! It goes however this program ends: another process, out of reach of the terminal's signals, holds the end of a pipe, and removes
//! the folder when the other end is closed. That is this very program, which must call [`serve`] when it is given [`COMMAND`].

use std::fs::{self, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::durable;
use crate::refusal::Refusal;

/// The hidden argument by which a program knows that it is to remove a folder.
pub const COMMAND: &str = "__remove";
const PREFIX: &str = "rick-secret-";
/// How often removing is tried while an editor goes on writing.
const TRIES: u32 = 50;

/// The folder.
pub(super) struct Scratch {
    path: PathBuf,
    remover: Child,
}

impl Scratch {
    /// Makes one that only this user can enter.
    ///
    /// # Errors
    /// No file system in memory is known.
    pub(super) fn new() -> Result<Self> {
        let runtime =
            std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
        let places = runtime.into_iter().chain([PathBuf::from("/dev/shm")]);
        let Some(folder) = places.into_iter().find_map(|place| in_memory(&place)) else {
            let refusal =
                Refusal::new("there is no place in memory for a value in clear, and on a disk it would stay");
            return Err(refusal.help("mount a tmpfs at /dev/shm, or say one in XDG_RUNTIME_DIR").into());
        };
        let mut remover = Command::new("/proc/self/exe")
            .arg(COMMAND)
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start what removes the folder")?;
        let mut ready = remover.stdout.take().context("no word from what removes the folder")?;
        ready.read_exact(&mut [0]).context("what removes the folder did not start")?;
        // Its own from now on.
        Ok(Self { path: folder.keep(), remover })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(self.remover.stdin.take());
        let _ = self.remover.wait();
    }
}

/// A new folder there, if it is in memory.
fn in_memory(place: &Path) -> Option<TempDir> {
    let folder = tempfile::Builder::new()
        .prefix(PREFIX)
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(place)
        .ok()?;
    durable::is_in_memory(folder.path()).ok()?.then_some(folder)
}

/// The whole work of the other process: waits for the end of standard input, and removes the folder.
///
/// # Errors
/// It cannot be removed.
pub fn serve(folder: &Path) -> Result<()> {
    let ours = folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    if !ours || !folder.is_absolute() {
        bail!("{} is no folder of rickbuild", folder.display());
    }
    // What is typed at the terminal ends the other, and must not end this one.
    rustix::process::setsid().context("cannot begin a session")?;
    io::stdout().write_all(b"\n").and_then(|()| io::stdout().flush())?;
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    let mut tries = 0;
    while let Err(error) = fs::remove_dir_all(folder) {
        if error.kind() == io::ErrorKind::NotFound {
            break;
        }
        tries += 1;
        if tries == TRIES {
            return Err(error).with_context(|| format!("cannot remove {}", folder.display()));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
