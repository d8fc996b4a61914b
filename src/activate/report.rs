//! What is said while it happens: one line per action.

use std::io::{self, IsTerminal as _, Write};

use serde::Serialize;

use super::plan::Step;
use crate::bundle::digest::Digest;
use crate::bundle::names::UnitName;

/// Where the lines go.
pub struct Report {
    out: Box<dyn Write>,
    colour: bool,
    quiet: bool,
}

/// What became of an activation.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The generation that the host has (in a dry run: would have).
    pub generation: u32,
    /// The generation that it had.
    pub previous: u32,
    /// The digest of the build; none for generation 0.
    pub digest: Option<Digest>,
    /// Nothing was done, only told.
    pub dry_run: bool,
    /// Something was done (or would be).
    pub changed: bool,
    /// What was done to units, in order.
    pub steps: Vec<Step>,
    /// What is not well now.
    pub problems: Vec<Problem>,
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
    pub fn to_stdout() -> Self {
        let stdout = io::stdout();
        let colour =
            stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { out: Box::new(stdout), colour, quiet: false }
    }

    /// No lines: a program reads the [`Outcome`] instead.
    pub fn silent() -> Self {
        Self { out: Box::new(io::sink()), colour: false, quiet: true }
    }

    /// One action: its verb and what it is done to.
    pub fn line(&mut self, verb: &str, what: &str) {
        if self.quiet {
            return;
        }
        // Whoever reads may have gone away; the switch goes on.
        let _ = if self.colour {
            writeln!(self.out, "\x1b[1;32m{verb:<10}\x1b[0m {what}")
        } else {
            writeln!(self.out, "{verb:<10} {what}")
        };
    }
}

impl Problem {
    /// A problem that is about no unit, and has no log.
    pub fn new(message: impl Into<String>) -> Self {
        Self { unit: None, message: message.into(), log: Vec::new() }
    }
}
