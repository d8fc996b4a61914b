//! Why something could not be had.

use std::io;

use crate::compile::finding::Finding;

/// What went wrong.
#[derive(Debug)]
pub enum Failure {
    /// The network, or a program that asks it, said no. The finding has no place yet.
    Refused(Box<Finding>),
    /// The machine failed.
    Machine(anyhow::Error),
}

impl Failure {
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::Refused(Box::new(Finding::error(message)))
    }

    /// Adds what a program or server said.
    pub(super) fn note(self, text: impl Into<String>) -> Self {
        match self {
            Self::Refused(finding) => Self::Refused(Box::new(finding.note(text))),
            machine @ Self::Machine(_) => machine,
        }
    }

    /// Adds what to do.
    pub(super) fn help(self, text: impl Into<String>) -> Self {
        match self {
            Self::Refused(finding) => Self::Refused(Box::new(finding.help(text))),
            machine @ Self::Machine(_) => machine,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Machine(error.into())
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Machine(error)
    }
}
