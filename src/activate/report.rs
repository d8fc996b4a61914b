//! What is said while it happens: one line per action.

use std::io::{self, IsTerminal, Write};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use super::diff::painted;
use super::plan::{Skip, Step};
use crate::bundle::digest::Digest;
use crate::bundle::names::UnitName;
use crate::refusal::printable;

/// Where the journal of systemd listens.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// How often a terminal is told how long something has taken.
const TICK: Duration = Duration::from_secs(1);

/// Where the lines go.
pub struct Report {
    form: Form,
    /// The journal of systemd gets them as well: the caller may be gone.
    journal: Option<UnixDatagram>,
    /// How files would change is to be shown.
    pub(super) diffs: bool,
}

/// What the lines look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// A verb, and what it is done to.
    Lines { colour: bool },
    /// A JSON object each.
    Json,
    /// There are none.
    Silent,
}

/// What became of an activation.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// The generation that the host has (in a dry run: would have).
    pub generation: u32,
    /// The generation that it was to have.
    pub tried: u32,
    /// The generation that it had.
    pub previous: u32,
    /// The digest of the build that it has; none for generation 0.
    pub digest: Option<Digest>,
    /// Nothing was done, only told.
    pub dry_run: bool,
    /// Something was done (or would be).
    pub changed: bool,
    /// What was done to units, in order.
    pub steps: Vec<Step>,
    /// What was left as it is although it changed.
    pub skipped: Vec<Skip>,
    /// What is not well now, or was not, so that it was gone back.
    pub problems: Vec<Problem>,
    /// What is not well, and need not be.
    pub warnings: Vec<Problem>,
}

/// How an activation ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Nothing had to be done, and all is well.
    NothingToDo,
    /// It was only told what would be done.
    Told,
    /// The host has what it was to have, and is well.
    Done,
    /// It was not well, and the host has what it had before.
    RolledBack,
    /// The host is not well.
    NotWell {
        /// Why it did not go back, or what came of that.
        reason: String,
    },
}

impl Outcome {
    /// Nothing was to be done, so far.
    pub fn nothing() -> Self {
        Self {
            ending: Ending::NothingToDo,
            generation: 0,
            tried: 0,
            previous: 0,
            digest: None,
            dry_run: false,
            changed: false,
            steps: Vec::new(),
            skipped: Vec::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// Something that is not well after a switch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The unit that it is about, if it is about one.
    pub unit: Option<UnitName>,
    /// What is wrong, with what.
    pub message: String,
    /// The last lines of its log.
    pub log: Vec<String>,
}

impl Report {
    /// Lines on standard output, in colour if that is a terminal.
    pub fn lines() -> Self {
        Self::new(Form::Lines { colour: in_colour(&io::stdout()) })
    }

    /// A JSON object per line on standard output, for programs.
    pub fn json() -> Self {
        Self::new(Form::Json)
    }

    /// Nothing.
    pub fn silent() -> Self {
        Self::new(Form::Silent)
    }

    fn new(form: Form) -> Self {
        Self { form, journal: None, diffs: false }
    }

    /// The same, and how files would change.
    #[must_use]
    pub fn with_diffs(mut self, diffs: bool) -> Self {
        self.diffs = diffs;
        self
    }

    /// The same, and to the journal of systemd.
    #[must_use]
    pub fn and_to_the_journal(mut self) -> Self {
        self.journal = UnixDatagram::unbound().ok().filter(|socket| socket.connect(JOURNAL).is_ok());
        self
    }

    /// Does something that may take long, and on a terminal says meanwhile how long it has taken.
    pub fn during<T: Send>(&self, what: &str, work: impl FnOnce() -> T + Send) -> T {
        // A line that wraps could not be taken back.
        let what: String = what.chars().take(60).collect();
        if !matches!(self.form, Form::Lines { .. }) || !io::stderr().is_terminal() {
            return work();
        }
        let (done, is_done) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                let begin = Instant::now();
                let mut shown = false;
                while is_done.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                    shown = true;
                    // From the begin of the line, and nothing left of what stood there.
                    let _ = write!(io::stderr(), "\r\x1b[K{what}, {} s", begin.elapsed().as_secs());
                }
                if shown {
                    let _ = write!(io::stderr(), "\r\x1b[K");
                }
            });
            let result = work();
            drop(done);
            result
        })
    }

    /// How a file would change.
    pub fn diff(&mut self, diff: &str) {
        let _ = match self.form {
            Form::Silent => Ok(()),
            Form::Json => writeln!(io::stdout(), "{}", json!({"event": "diff", "what": diff})),
            Form::Lines { colour } => write!(io::stdout(), "{}", painted(diff, colour)),
        };
    }

    /// One action: its verb and what it is done to.
    pub fn line(&mut self, verb: &str, what: &str) {
        if let Some(journal) = &self.journal {
            let entry =
                format!("SYSLOG_IDENTIFIER=rick-activate\nPRIORITY=6\nMESSAGE={verb} {}\n", one_line(what));
            let _ = journal.send(entry.as_bytes());
        }
        // Whoever reads may have gone away; the switch goes on.
        let _ = match self.form {
            Form::Silent => Ok(()),
            Form::Json => {
                writeln!(io::stdout(), "{}", json!({"event": verb.trim_end_matches(':'), "what": what}))
            }
            Form::Lines { colour: true } => {
                writeln!(io::stdout(), "\x1b[1;32m{verb:<10}\x1b[0m {}", printable(what))
            }
            Form::Lines { colour: false } => writeln!(io::stdout(), "{verb:<10} {}", printable(what)),
        };
    }
}

/// So many bytes, for people.
pub fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0..10 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        mebibytes => format!("{mebibytes} MiB"),
    }
}

/// What is written there may be in colour.
pub fn in_colour(to: &impl IsTerminal) -> bool {
    to.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// An entry of the journal's own protocol ends at a line break.
fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

impl Problem {
    /// A problem that is about no unit, and has no log.
    pub fn new(message: impl Into<String>) -> Self {
        Self { unit: None, message: message.into(), log: Vec::new() }
    }
}
