//! The fence: an evaluation in a process of its own, with hard limits on memory and time.
//!
//! The limits inside the language cannot see everything: one expression can ask for any amount of memory, and a syntax tree can be
//! deeper than a stack. So the program that must survive starts itself again with the one argument [`COMMAND`]; the child takes its
//! limits, evaluates, and writes the outcome as JSON. A child that dies is an error in the source, said as one.

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::super::finding::Finding;
use super::Outcome;

/// The hidden argument by which a program knows that it is the child.
pub const COMMAND: &str = "__evaluate";
/// Starts a line of the child's standard error that says what it is doing.
const TRAIL: &str = "doing: ";
/// All the memory that an evaluation may map.
const MEMORY: u64 = 1 << 30;
/// Processor time, in seconds.
const SECONDS: u64 = 60;

/// Evaluates in a child: this very program, which must call [`serve`] when it is given [`COMMAND`].
pub fn evaluate(root: &Path, environment: &str) -> Outcome {
    match run(root, environment) {
        Ok(outcome) => outcome,
        Err(finding) => Outcome::failed(*finding),
    }
}

/// The child's whole work: takes its limits, evaluates, and writes the outcome to standard output.
///
/// # Errors
/// If the limits cannot be set or the outcome cannot be written.
pub fn serve(root: &Path, environment: &str) -> anyhow::Result<()> {
    limit(Resource::As, MEMORY)?;
    limit(Resource::Cpu, SECONDS)?;
    limit(Resource::Core, 0)?;
    let outcome = super::evaluate_with(root, environment, |doing| eprintln!("{TRAIL}{doing}"));
    std::io::stdout().write_all(&serde_json::to_vec(&outcome)?)?;
    Ok(())
}

/// Lowers a limit; one that is already lower stays.
fn limit(resource: Resource, value: u64) -> anyhow::Result<()> {
    let before = getrlimit(resource);
    let lower = |old: Option<u64>| Some(old.map_or(value, |old| old.min(value)));
    Ok(setrlimit(resource, Rlimit { current: lower(before.current), maximum: lower(before.maximum) })?)
}

fn run(root: &Path, environment: &str) -> Result<Outcome, Box<Finding>> {
    let broken = |what: &str, why: &dyn std::fmt::Display| {
        Box::new(Finding::error(format!("cannot {what}")).note(why.to_string()))
    };
    let mut child = Command::new("/proc/self/exe")
        .arg(COMMAND)
        .arg(root)
        .arg(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| broken("start the evaluation", &error))?;
    let mut errors = child.stderr.take();
    // The child writes little to either pipe at a time, but both must be drained at once.
    let listener = std::thread::spawn(move || {
        let mut text = Vec::new();
        errors.as_mut().map(|pipe| pipe.take(1 << 16).read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    let mut json = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut json).map_err(|error| broken("read the evaluation's outcome", &error))?;
    }
    let status = child.wait().map_err(|error| broken("wait for the evaluation", &error))?;
    let said = listener.join().unwrap_or_default();
    if status.success() {
        return serde_json::from_slice(&json)
            .map_err(|error| broken("read the evaluation's outcome", &error));
    }
    Err(Box::new(death(environment, status.signal(), &said)))
}

/// Why a child died, as an error of the source.
fn death(environment: &str, signal: Option<i32>, said: &str) -> Finding {
    const SIGXCPU: i32 = 24;
    const SIGKILL: i32 = 9;
    let doing = said.lines().rev().find_map(|line| line.strip_prefix(TRAIL)).unwrap_or("starting");
    let too_much = |what: &str| {
        Finding::error(format!("evaluating `{environment}` needs more than {what}"))
            .note(format!("it happened while {doing}"))
    };
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&["overflowed its stack"]) {
        too_much("its stack")
            .help("look for an expression, most likely a literal, that is nested thousands deep")
    } else if says(&["memory allocation", "capacity overflow", "out of memory"]) {
        too_much("1 GiB of memory").help("look for a text or list that grows without end")
    } else if matches!(signal, Some(SIGXCPU | SIGKILL)) {
        too_much("60 seconds of processor time").help("look for a loop that does not end")
    } else {
        let last = said.lines().rfind(|line| !line.starts_with(TRAIL) && !line.trim().is_empty());
        Finding::error(format!("the evaluation of `{environment}` died while {doing}; this is a bug of rick"))
            .note(last.unwrap_or("it said nothing").trim())
    }
}
