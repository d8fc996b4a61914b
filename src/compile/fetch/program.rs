//! Programs that ask the network: run to their end, with limits.

use std::fs;
use std::io::{self, Read as _, Seek as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::failure::Failure;
use super::progress::Progress;

/// How often is looked at what a program has written.
const LOOK_MS: u64 = 50;
/// More is not said of what a program has said.
const SAID_BYTES: u64 = 64 << 10;

/// A program, and what to say where it is missing.
pub(super) struct Program {
    pub(super) name: &'static str,
    /// The package that brings it, on Debian and Arch.
    pub(super) package: &'static str,
    /// What it is needed for.
    pub(super) purpose: &'static str,
}

/// What has come of a run.
pub(super) struct Ended {
    /// It did what it was asked for.
    pub(super) well: bool,
    /// The number that it ended with, if it ended by itself.
    pub(super) code: Option<i32>,
    pub(super) stdout: Vec<u8>,
    /// Its last word, without its name; or which limit it went beyond.
    pub(super) said: String,
}

/// What a run may do.
pub(super) struct Limits<'a> {
    /// How many bytes it may write to standard output.
    pub(super) stdout: u64,
    /// A file or folder that it writes to, and how many bytes may be there.
    pub(super) written: Option<(&'a Path, u64)>,
    /// How long it may take.
    pub(super) time: Duration,
}

impl Program {
    /// A call of it, in the language of programs, with nothing to read.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(self.name);
        command.env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    /// Runs it to its end, or until it goes beyond a limit.
    pub(super) fn run(
        &self,
        command: &mut Command,
        limits: &Limits<'_>,
        progress: &Progress,
    ) -> Result<Ended, Failure> {
        // In files, since a pipe that nobody reads would stop the program.
        let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
        let started = Instant::now();
        let child = command.stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).spawn();
        let mut child = match child {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.missing()),
            child => child?,
        };
        let (status, beyond) = loop {
            // Asked for before the sizes, so that they are the last ones.
            let ended = child.try_wait()?;
            let written = limits.written.map_or(0, |(path, _)| size_of(path));
            progress.bytes(child.id(), written);
            let too_much = limits.written.is_some_and(|(_, limit)| written > limit)
                || stdout.metadata()?.len() > limits.stdout;
            let too_long = started.elapsed() > limits.time;
            let beyond = match (too_much, too_long) {
                (true, _) => Some("more came than can be right"),
                (false, true) if ended.is_none() => Some("it took too long"),
                (false, _) => None,
            };
            if ended.is_none() && beyond.is_some() {
                child.kill()?;
                child.wait()?;
            }
            if ended.is_some() || beyond.is_some() {
                break (ended, beyond);
            }
            thread::sleep(Duration::from_millis(LOOK_MS));
        };
        progress.bytes(child.id(), 0);
        if let Some(beyond) = beyond {
            return Ok(Ended { well: false, code: None, stdout: Vec::new(), said: beyond.to_owned() });
        }
        stdout.rewind()?;
        stderr.rewind()?;
        let (mut out, mut said) = (Vec::new(), Vec::new());
        stdout.take(limits.stdout).read_to_end(&mut out)?;
        stderr.take(SAID_BYTES).read_to_end(&mut said)?;
        let said = self.last_line(&String::from_utf8_lossy(&said));
        let well = status.is_some_and(|status| status.success());
        Ok(Ended { well, code: status.and_then(|status| status.code()), stdout: out, said })
    }

    fn missing(&self) -> Failure {
        let Self { name, package, purpose } = self;
        Failure::refused(format!("`{name}` is not installed, which {purpose}"))
            .help(format!("install the package `{package}`"))
    }

    fn last_line(&self, said: &str) -> String {
        let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
        let last = lines.next_back().unwrap_or("it said nothing");
        let own = format!("{}: ", self.name);
        // The second is apt's.
        last.strip_prefix(&own).or_else(|| last.strip_prefix("E: ")).unwrap_or(last).to_owned()
    }
}

/// The bytes of a file, or of the files of a folder.
fn size_of(path: &Path) -> u64 {
    let Ok(there) = fs::symlink_metadata(path) else { return 0 };
    if !there.is_dir() {
        return there.len();
    }
    let files = fs::read_dir(path).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHELL: Program = Program { name: "sh", package: "dash", purpose: "runs scripts" };

    fn run(script: &str, limits: &Limits<'_>) -> Ended {
        SHELL.run(SHELL.command().args(["-c", script]), limits, &Progress::new(false)).unwrap()
    }

    #[test]
    fn what_has_no_end_is_cut_off() {
        let time = Duration::from_mins(1);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x");
        // By the shell itself, which is what is killed.
        let endless = "while :; do echo 0123456789; done";
        let write = format!("{endless} > {}", file.display());
        let too_much = "more came than can be right";
        for written in [file.as_path(), folder.path()] {
            let ended = run(&write, &Limits { stdout: 0, written: Some((written, 1000)), time });
            assert_eq!((ended.well, ended.said.as_str()), (false, too_much));
        }
        let ended = run(endless, &Limits { stdout: 1000, written: None, time });
        assert_eq!((ended.well, ended.said.as_str()), (false, too_much));
        // Also what is over before anybody looks.
        let ended = run("echo 12345", &Limits { stdout: 3, written: None, time });
        assert_eq!((ended.well, ended.said.as_str()), (false, too_much));
        let ended =
            run("exec sleep 60", &Limits { stdout: 0, written: None, time: Duration::from_millis(100) });
        assert_eq!((ended.well, ended.said.as_str()), (false, "it took too long"));
    }

    #[test]
    fn the_last_word_of_a_program_is_known() {
        let limits = Limits { stdout: 100, written: None, time: Duration::from_mins(1) };
        let ended = run("echo out; echo first >&2; echo 'sh: last' >&2; exit 3", &limits);
        assert_eq!((ended.well, ended.code, ended.said.as_str()), (false, Some(3), "last"));
        assert_eq!(ended.stdout, b"out\n");
        assert!(run("true", &limits).well);
    }
}
