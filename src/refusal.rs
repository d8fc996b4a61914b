//! Why a program does not go on: what is wrong, and what to do about it.

use std::fmt;
use std::io;

use crate::bundle::ustar::UstarError;

/// A refusal in words for people. Travels inside [`anyhow::Error`], so that the program can show the help under the error.
#[derive(Debug)]
pub struct Refusal {
    message: String,
    help: Vec<String>,
}

impl Refusal {
    /// A refusal with nothing to advise.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), help: Vec::new() }
    }

    /// Many as one: all that is wrong, and all the advice.
    pub fn all(refusals: Vec<Self>) -> Result<(), Self> {
        let joined = refusals.into_iter().reduce(|mut first, next| {
            first.message = format!("{}; and {}", first.message, next.message);
            first.help.extend(next.help);
            first
        });
        joined.map_or(Ok(()), Err)
    }

    /// Puts in front what has been done or not because of it.
    #[must_use]
    pub fn so(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Adds one line of advice.
    #[must_use]
    pub fn help(mut self, line: impl Into<String>) -> Self {
        self.help.push(line.into());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

/// The advice that goes with an error: that of every refusal in its chain, and that for a full disk and a broken transfer.
pub fn help_for(error: &anyhow::Error) -> Vec<String> {
    let mut lines = Vec::new();
    // One that was put before another error is no link of the chain by itself.
    let context = error.downcast_ref::<Refusal>();
    let in_chain = |refusal: &Refusal| {
        error.chain().filter_map(|cause| cause.downcast_ref()).any(|other| std::ptr::eq(other, refusal))
    };
    lines
        .extend(context.filter(|refusal| !in_chain(refusal)).iter().flat_map(|refusal| refusal.help.clone()));
    for cause in error.chain() {
        if let Some(refusal) = cause.downcast_ref::<Refusal>() {
            lines.extend(refusal.help.iter().cloned());
        }
        if cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::StorageFull) {
            lines.push(
                "free some space on that file system (`df -h` shows it), then run this again".to_owned(),
            );
        }
        if let Some(UstarError::Truncated(_)) = cause.downcast_ref::<UstarError>() {
            lines.push("it was cut short: compile or copy it again".to_owned());
        }
    }
    lines
}

/// A text for a terminal, which must obey nothing that stands in a bundle: control characters are shown, but for breaks and tabs.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() && !matches!(char, '\n' | '\t') {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

/// Ends the function with a [`Refusal`], as `bail!` does with a plain text.
macro_rules! refuse {
    ($($arg:tt)*) => {
        return Err(anyhow::Error::new($crate::refusal::Refusal::new(format!($($arg)*))))
    };
}
pub(crate) use refuse;
