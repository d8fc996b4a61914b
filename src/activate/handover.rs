//! Out of the session that called: the switch runs as a service of PID 1, so that a connection that breaks, a terminal that closes or a
//! service that is restarted on the way does not break it.
//!
//! The lock goes along as the service's standard input: there is no moment in which nobody holds it. What the service says goes to the
//! standard output and error of the caller, as long as there is one.

use std::fs;
use std::mem;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::cli::{NOT_WELL, ROLLED_BACK};
use super::journal::{Journal, Phase};
use super::marks::Marks;
use super::state::Claim;
use super::{Activation, Conclusion, Failure, generation};
use crate::durable;

/// How often the caller looks whether the way back is done.
const LOOK: Duration = Duration::from_millis(200);
/// How long PID 1 has to begin with it, before the caller does.
const TURN: Duration = Duration::from_secs(3);

impl Activation<'_> {
    pub(super) fn hand_over(
        &mut self,
        number: u32,
        arguments: &[String],
        claim: &Claim,
    ) -> Result<Conclusion, Failure> {
        let lock = claim.share().map_err(Failure::Refused)?;
        let arguments = [&["switch-to".to_owned(), number.to_string()], arguments].concat();
        // From here on nobody but the service knows whether it was refused.
        let code = self.host.run_apart(&self.state.program(), &arguments, lock).map_err(Failure::Halfway)?;
        if let (Some(code), None) = (code, Journal::read(&self.state).map_err(Failure::Halfway)?) {
            return Ok(Conclusion::Apart(code));
        }
        claim.let_go().map_err(Failure::Halfway)?;
        self.see_it_end(number)
    }

    /// The service was ended from outside, by PID 1 at the deadline or by a person, or it broke off: what becomes of the switch is not in its
    /// exit code. If nobody else goes back, the caller does.
    fn see_it_end(&mut self, number: u32) -> Result<Conclusion, Failure> {
        let begin = Instant::now();
        let (mut told, mut again) = (false, false);
        while let Some(journal) = Journal::read(&self.state).map_err(Failure::Halfway)? {
            if !mem::replace(&mut told, true) {
                self.report.line("wait", "for the way back: the switch was ended before it was done");
            }
            again = journal.from == journal.to;
            let waits = journal.phase == Phase::Confirming;
            if !waits
                && begin.elapsed() > TURN
                && let Some(_claim) = Claim::try_take(&self.state).map_err(Failure::Halfway)?
            {
                return self.go_on(journal, true).map(Conclusion::Here);
            }
            self.host.pause(LOOK);
        }
        let current = generation::current_number(&self.state).map_err(Failure::Halfway)?.unwrap_or(0);
        let marks = Marks::read(&self.state).map_err(Failure::Halfway)?;
        Ok(Conclusion::Apart(if current != number {
            self.report.line("rolled back:", &format!("generation {current} is current again"));
            ROLLED_BACK
        } else if marks.is_good(number) && !again {
            0
        } else {
            // What was current before may have been well once, which says nothing of now.
            self.report.line("not well:", &format!("generation {number}, and the host keeps it"));
            NOT_WELL
        }))
    }
}

/// Puts this very program at `path`, where PID 1 finds it, now and after a boot, if it is not there already.
pub fn keep_program(path: &Path) -> Result<()> {
    let this = "/proc/self/exe";
    let program = fs::read(this).with_context(|| format!("cannot read {this}"))?;
    if durable::read_if_there(path)?.as_ref() == Some(&program) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        durable::make_directory(directory, 0o755)?.iter().try_for_each(|new| durable::sync_name(new))?;
    }
    durable::replace_file(path, &program, 0o755)
}
