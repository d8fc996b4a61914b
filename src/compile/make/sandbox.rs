//! Runs a command where there is nothing but what it was given: no network, no file of the machine, no variable, no name. The work is
//! bubblewrap's.
//!
//! ```text
//! /                 the root, read-only
//! /PATH             each input, read-only
//! /build            where the command starts, its HOME; empty
//! /tmp              empty
//! /out              where it leaves what it makes; empty
//! /dev /proc        the sandbox's own; only /dev/shm can be written
//! ```
//!
//! What it can still tell: what time it is, what `/proc` says of the machine (processors, memory, the kernel, what is mounted from where, and whether
//! rickbuild is root), and how full the disk is.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::lay_out::make_directory;
use super::seccomp::filter;
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
/// Does for its child what no program can do for another one: sets limits and the umask, closes what the one who called us left open, opens files.
const SHELL: &str = "umask 022; ulimit -c 0; ulimit -S -n 1024 -s 8192; folder=$1; shift
for fd in /proc/$$/fd/*; do fd=${fd##*/}; ((fd > 2)) && exec {fd}>&-; done
exec env -i --default-signal PATH=\"$PATH\" bwrap --json-status-fd 3 --args 4 --seccomp 5 -- \"$@\" \\
    3>\"$folder/status\" 4<\"$folder/options\" 5<\"$folder/filter\"";
/// Namespaces of every kind and no way to make others, no privilege, no terminal. The command is the first process, with whose end all others
/// have ended too.
const SEALED: [&str; 8] = [
    "--unshare-all",
    "--unshare-user",
    "--disable-userns",
    "--cap-drop",
    "ALL",
    "--new-session",
    "--die-with-parent",
    "--as-pid-1",
];
/// The sandbox's own. Where rickbuild is root, so is the command for the kernel, without a single privilege: parameters of the kernel would be
/// its files if they could be written, and names of keys could be read.
const OWN: [&str; 13] = [
    "--dev",
    "/dev",
    "--tmpfs",
    "/dev/shm",
    "--remount-ro",
    "/dev",
    "--proc",
    "/proc",
    "--ro-bind-try",
    "/dev/null",
    "/proc/keys",
    "--remount-ro",
    "/proc",
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
    /// If it cannot be started: no bubblewrap, no right to make namespaces. Inside: what the build wants and the machine does not have.
    pub(super) fn run(&self, scratch: &Path) -> Result<Result<Ended, String>> {
        for folder in ["out", "build", "tmp"] {
            make_directory(&scratch.join(folder))?;
        }
        let mut log = File::options().read(true).write(true).create_new(true).open(scratch.join("log"))?;
        fs::write(scratch.join("options"), self.options(scratch))?;
        fs::write(scratch.join("filter"), filter())?;
        let mut command = Command::new("bash");
        command.args(["-p", "-c", SHELL, "bash"]).arg(scratch).args(self.command);
        // What stands in the environment is the caller's, and bash would read some of it.
        command.env_clear().env("PATH", env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
        let status = match on_cores(self.cores, || command.status())? {
            Ok(status) => status.context("cannot start bash, which starts bubblewrap")?,
            Err(why) => return Ok(Err(why)),
        };
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
        Ok(Ok(Ended { status, log }))
    }

    /// The options of bubblewrap, each with a zero byte at its end. They stand in a file: a command line has limits, and others can read it.
    fn options(&self, scratch: &Path) -> Vec<u8> {
        let mut options: Vec<OsString> = SEALED.map(OsString::from).to_vec();
        let mut add = |words: &[&OsStr]| options.extend(words.iter().map(OsString::from));
        add(&["--uid", ID, "--gid", ID, "--hostname", HOST_NAME, "--tmpfs", "/"].map(OsStr::new));
        for (name, kind) in &self.top {
            let place = format!("/{name}");
            match kind {
                Kind::Link(target) => add(&["--symlink", target, &place].map(OsStr::new)),
                Kind::Directory | Kind::File { .. } => {
                    add(&["--ro-bind".as_ref(), self.root.join(name).as_os_str(), place.as_ref()]);
                }
            }
        }
        for (path, place) in &self.inputs {
            add(&["--ro-bind".as_ref(), place.as_os_str(), format!("/{path}").as_ref()]);
        }
        add(&OWN.map(OsStr::new));
        for folder in ["out", "build", "tmp"] {
            add(&["--bind".as_ref(), scratch.join(folder).as_os_str(), format!("/{folder}").as_ref()]);
        }
        add(&["--remount-ro", "/", "--chdir", "/build", "--clearenv"].map(OsStr::new));
        let epoch = EPOCH.to_string();
        let fixed = ENVIRONMENT.into_iter().chain([("SOURCE_DATE_EPOCH", epoch.as_str())]);
        let own = self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in fixed.chain(own) {
            add(&["--setenv", name, value].map(OsStr::new));
        }
        options.iter().flat_map(|option| option.as_bytes().iter().copied().chain([0])).collect()
    }
}

/// Runs something, with all that it starts, on this number of processors.
fn on_cores<T: Send>(cores: u32, run: impl FnOnce() -> T + Send) -> Result<Result<T, String>> {
    let had = sched_getaffinity(None).context("cannot tell the processors")?;
    let mut set = CpuSet::new();
    let usable = (0..CpuSet::MAX_CPU).filter(|cpu| had.is_set(*cpu)).take(cores as usize);
    usable.for_each(|cpu| set.set(cpu));
    let there = had.count();
    if set.count() != cores {
        return Ok(Err(format!("it says `cores = {cores}`, and this machine has {there}")));
    }
    // In a thread of its own: what it is bound to goes with it.
    thread::scope(|scope| {
        let bound = scope.spawn(|| -> io::Result<T> {
            sched_setaffinity(None, &set)?;
            Ok(run())
        });
        let ran = bound.join().map_err(|_| anyhow::anyhow!("the thread of the sandbox broke down"))?;
        Ok(Ok(ran.context("cannot choose processors")?))
    })
}
