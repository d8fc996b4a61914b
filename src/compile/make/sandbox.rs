//! Runs a command where there is nothing but what it was given: no network, no file of the machine, no variable, no name. The work is
//! bubblewrap's.
//!
//! ```text
//! /                 the root, read-only
//! /PATH             each input, read-only
//! /build            where the command starts, its HOME; empty
//! /tmp              empty
//! /out              where it leaves what it makes; empty
//! /dev /proc        the sandbox's own
//! ```
//!
//! What it can still tell: the processor's model, the kernel's version, whether rickbuild is root (whom `/proc` belongs to), and what time it is. A build that lets them into what it makes
//! is found by `--rebuild`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::lay_out::make_directory;
use crate::compile::store::EPOCH;
use crate::compile::tree::Kind;

/// What every build finds in its environment, unless it says otherwise.
const ENVIRONMENT: [(&str, &str); 6] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/build"),
    ("TMPDIR", "/tmp"),
    ("OUT", "/out"),
    ("LC_ALL", "C.UTF-8"),
    ("TZ", "UTC"),
];
/// Who the command is, as user and as group.
const ID: &str = "1000";
const HOST_NAME: &str = "rick";
/// Does for its child what no program can do for another one: sets the umask, closes what the one who called us left open, opens a file.
const SHELL: &str = "umask 022; ulimit -c 0; status=$1; shift
for fd in /proc/$$/fd/*; do fd=${fd##*/}; ((fd > 2)) && exec {fd}>&-; done
exec bwrap --json-status-fd 3 \"$@\" 3>\"$status\"";
/// Namespaces of every kind and no way to make others, no privilege, no terminal, and no life of its own.
const SEALED: [&str; 7] = [
    "--unshare-all",
    "--unshare-user",
    "--disable-userns",
    "--cap-drop",
    "ALL",
    "--new-session",
    "--die-with-parent",
];
const MISSING: &str =
    "builds run in bubblewrap: install it (`apt install bubblewrap`, `pacman -S bubblewrap`)";
/// How much of the end of what a command said is kept.
const LOG_END: u64 = 16 << 10;

/// A command and all that it sees.
pub(super) struct Sandbox<'a> {
    /// The folder that has the root.
    pub(super) root: &'a Path,
    /// What the root has at its top.
    pub(super) top: Vec<(&'a str, &'a Kind)>,
    /// Path without the leading `/` → the file or folder that has it.
    pub(super) inputs: Vec<(&'a str, PathBuf)>,
    /// The program and its arguments.
    pub(super) command: &'a [String],
    /// Its variables.
    pub(super) environment: &'a BTreeMap<String, String>,
    /// How many processors it sees.
    pub(super) cores: u32,
}

/// How a command ended.
pub(super) struct Ended {
    /// Its status.
    pub(super) status: ExitStatus,
    /// The end of what it said.
    pub(super) log: String,
}

impl Sandbox<'_> {
    /// Runs the command. `scratch` is an empty folder; what it makes is in `out` there.
    ///
    /// # Errors
    /// If it cannot be started: no bubblewrap, no right to make namespaces, too few processors.
    pub(super) fn run(&self, scratch: &Path) -> Result<Ended> {
        for folder in ["out", "build", "tmp"] {
            make_directory(&scratch.join(folder))?;
        }
        let mut log = File::options().read(true).write(true).create_new(true).open(scratch.join("log"))?;
        let mut command = self.bubblewrap(scratch);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
        let status = on_cores(self.cores, || command.status())?
            .context("cannot start bash, which starts bubblewrap")?;
        let length = log.seek(SeekFrom::End(0))?;
        log.seek(SeekFrom::Start(length.saturating_sub(LOG_END)))?;
        let mut end = Vec::new();
        log.read_to_end(&mut end)?;
        let log = String::from_utf8_lossy(&end).into_owned();
        // Bubblewrap tells how the command ended, if it came to that.
        let told = fs::read_to_string(scratch.join("status")).unwrap_or_default();
        if !told.contains("exit-code") && !log.starts_with("bwrap: execvp ") {
            let why = if status.code() == Some(127) { MISSING } else { "cannot make a sandbox" };
            bail!("{why}: {}", log.trim_end());
        }
        Ok(Ended { status, log })
    }

    fn bubblewrap(&self, scratch: &Path) -> Command {
        let mut command = Command::new("bash");
        command.args(["-c", SHELL, "bash"]).arg(scratch.join("status")).args(SEALED);
        command.args(["--uid", ID, "--gid", ID, "--hostname", HOST_NAME, "--tmpfs", "/"]);
        for (name, kind) in &self.top {
            let place = format!("/{name}");
            match kind {
                Kind::Link(target) => command.args(["--symlink", target, &place]),
                Kind::Directory | Kind::File { .. } => {
                    command.arg("--ro-bind").arg(self.root.join(name)).arg(place)
                }
            };
        }
        for (path, place) in &self.inputs {
            command.arg("--ro-bind").arg(place).arg(format!("/{path}"));
        }
        command.args(["--dev", "/dev", "--proc", "/proc"]);
        for folder in ["out", "build", "tmp"] {
            command.arg("--bind").arg(scratch.join(folder)).arg(format!("/{folder}"));
        }
        // Where rickbuild is root, so is the command for the kernel, without a single privilege: parameters of the kernel would be its files.
        command.args(["--remount-ro", "/proc", "--remount-ro", "/", "--chdir", "/build", "--clearenv"]);
        let epoch = EPOCH.to_string();
        let fixed = ENVIRONMENT.into_iter().chain([("SOURCE_DATE_EPOCH", epoch.as_str())]);
        let own = self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in fixed.chain(own) {
            command.args(["--setenv", name, value]);
        }
        command.arg("--").args(self.command);
        command
    }
}

/// Runs something, with all that it starts, on this number of processors.
fn on_cores<T: Send>(cores: u32, run: impl FnOnce() -> T + Send) -> Result<T> {
    let had = sched_getaffinity(None).context("cannot tell the processors")?;
    let mut set = CpuSet::new();
    let usable = (0..CpuSet::MAX_CPU).filter(|cpu| had.is_set(*cpu)).take(cores as usize);
    usable.for_each(|cpu| set.set(cpu));
    let there = had.count();
    ensure!(set.count() == cores, "the build says `cores = {cores}`, and this machine has {there}");
    // In a thread of its own: what it is bound to goes with it.
    thread::scope(|scope| {
        let bound = scope.spawn(|| -> io::Result<T> {
            sched_setaffinity(None, &set)?;
            Ok(run())
        });
        let ran = bound.join().map_err(|_| anyhow::anyhow!("the thread of the sandbox broke down"))?;
        ran.context("cannot choose processors")
    })
}
