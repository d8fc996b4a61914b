//! The fence: an evaluation in a process of its own, with hard limits on memory and time.
//!
//! The limits inside the language cannot see everything: one expression can ask for any amount of memory, and a syntax tree can be
//! deeper than a stack. So the program that must survive starts itself again with the one argument [`COMMAND`]; the child takes its
//! limits, evaluates, and writes the outcome as JSON. A child that dies of a limit is an error in the source, said as one; a child
//! that dies of anything else is a bug of ours, or the machine's doing.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use serde::de::DeserializeOwned;

use super::super::finding::Finding;
use super::{Description, Fallible, Outcome};

/// The hidden argument by which a program knows that it is the child.
pub const COMMAND: &str = "__evaluate";
/// The task to evaluate an environment.
const ENVIRONMENT: &str = "environment";
/// The task to describe a module.
const MODULE: &str = "module";
/// Starts a line of the child's standard error that says what it is doing.
const TRAIL: &str = "doing: ";
/// All the memory that an evaluation may map.
const MEMORY: u64 = 1 << 30;
/// Processor time, in seconds.
const SECONDS: u64 = 60;

/// The child's whole work: takes its limits, does the task, and writes what came of it to standard output.
///
/// # Errors
/// If the limits cannot be set, the task is none, or the outcome cannot be written.
pub fn serve(task: &str, root: &Path, name: &str) -> anyhow::Result<()> {
    // A parent that is killed takes its child along.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    limit(Resource::As, MEMORY)?;
    limit(Resource::Cpu, SECONDS)?;
    limit(Resource::Core, 0)?;
    let trail = |doing: &str| eprintln!("{TRAIL}{doing}");
    let json = match task {
        ENVIRONMENT => serde_json::to_vec(&super::evaluate(root, name, trail)?)?,
        MODULE => serde_json::to_vec(&super::describe(root, name, trail)?)?,
        _ => anyhow::bail!("`{task}` is no task of an evaluation"),
    };
    std::io::stdout().write_all(&json)?;
    Ok(())
}

/// Lowers a limit; one that is already lower stays.
fn limit(resource: Resource, value: u64) -> anyhow::Result<()> {
    let lower = |old: Option<u64>, value: u64| Some(old.map_or(value, |old| old.min(value)));
    let before = getrlimit(resource);
    // The limit that kills stands above the one that tells, so that the signal says which it was.
    let maximum = lower(before.maximum, value.saturating_add(1));
    Ok(setrlimit(resource, Rlimit { current: lower(before.current, value), maximum })?)
}

/// Evaluates an environment in a child: this very program, which must call [`serve`] when it is given [`COMMAND`].
///
/// # Errors
/// If no child can be started, or one dies that kept its limits: a bug of ours, or somebody killed it.
pub fn evaluate(root: &Path, environment: &str) -> anyhow::Result<Outcome> {
    in_child(ENVIRONMENT, root, environment)
}

/// Describes the modules of a file in a child.
///
/// # Errors
/// The same as of [`evaluate`].
pub fn describe(root: &Path, module: &str) -> anyhow::Result<Description> {
    in_child(MODULE, root, module)
}

fn in_child<T: DeserializeOwned + Fallible>(task: &str, root: &Path, name: &str) -> anyhow::Result<T> {
    let mut child = Command::new("/proc/self/exe")
        .args([COMMAND, task])
        .arg(root)
        .arg(name)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the evaluation")?;
    let errors = child.stderr.take();
    // Both pipes are drained at once, or the child could wait for one while its parent waits for the other.
    let listener = std::thread::spawn(move || errors.map(LastWords::of).unwrap_or_default());
    let mut json = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut json).context("cannot read the evaluation's outcome")?;
    }
    let status = child.wait().context("cannot wait for the evaluation")?;
    let words = listener.join().unwrap_or_default();
    if status.success() {
        return serde_json::from_slice(&json).context("cannot read the evaluation's outcome");
    }
    if let Some(finding) = limit_reached(name, status.signal(), &words) {
        return Ok(T::failed(finding));
    }
    let doing = &words.doing;
    match status.signal() {
        Some(signal) => anyhow::bail!("the evaluation was ended by signal {signal} while {doing}"),
        None => {
            anyhow::bail!("the evaluation failed while {doing}: {}", words.complaint)
        }
    }
}

/// What a child said on standard error, as far as it matters when it is dead.
struct LastWords {
    /// What it was doing.
    doing: String,
    /// The other lines, as one and not without end: a message may be followed by a long backtrace.
    complaint: String,
}

impl Default for LastWords {
    fn default() -> Self {
        Self { doing: "starting".to_owned(), complaint: String::new() }
    }
}

impl LastWords {
    /// Reads to the end, however much is said.
    fn of(pipe: impl Read) -> Self {
        let mut words = Self::default();
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            match line.strip_prefix(TRAIL) {
                Some(doing) => doing.clone_into(&mut words.doing),
                None if words.complaint.len() < 1000 && !line.trim().is_empty() => {
                    words.complaint.push_str(if words.complaint.is_empty() { "" } else { " " });
                    words.complaint.push_str(line.trim());
                }
                None => {}
            }
        }
        words
    }
}

/// The limit that a child died of, as an error of the source.
fn limit_reached(environment: &str, signal: Option<i32>, words: &LastWords) -> Option<Finding> {
    let too_much = |what: &str| {
        Finding::error(format!("evaluating `{environment}` needs more than {what}"))
            .note(format!("it happened while {}", words.doing))
    };
    let says = |all: &[&str]| all.iter().any(|some| words.complaint.contains(some));
    if says(&["overflowed its stack"]) {
        let finding = too_much("its stack");
        return Some(
            finding.help("look for an expression, most likely a literal, that is nested thousands deep"),
        );
    }
    if says(&["memory allocation", "capacity overflow", "out of memory"]) {
        let finding = too_much("1 GiB of memory");
        return Some(finding.help("look for a text or list that grows without end"));
    }
    if signal == Some(Signal::XCPU.as_raw()) {
        let finding = too_much(&format!("{SECONDS} seconds of processor time"));
        return Some(finding.help("look for a loop that does not end"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_trail_counts_however_long_it_is() {
        let trail = (0..10_000).map(|number| format!("{TRAIL}building `service-{number}`\n"));
        let said = trail.collect::<String>() + "\nthread 'evaluate' has overflowed its stack\n";
        let words = LastWords::of(said.as_bytes());
        assert_eq!(words.doing, "building `service-9999`");
        assert!(limit_reached("case", None, &words).is_some());
        assert!(limit_reached("case", Some(9), &LastWords::default()).is_none());
    }
}
