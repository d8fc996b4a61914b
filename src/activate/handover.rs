//! Out of the session that called: the switch runs as a service of PID 1, so that a connection that breaks, a terminal that closes or a
//! service that is restarted on the way does not break it.
//!
//! The lock goes along as the service's standard input: there is no moment in which nobody holds it. What the service says goes to the
//! standard output and error of the caller, as long as there is one.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::cli::ROLLED_BACK;
use super::journal::Journal;
use super::marks::Marks;
use super::refusal::refuse;
use super::state::{Claim, State};
use super::{Activation, Conclusion, Failure, generation};
use crate::durable;

/// How often the caller looks whether PID 1 is done with the way back.
const LOOK: Duration = Duration::from_millis(200);

impl Activation<'_> {
    pub(super) fn hand_over(
        &mut self,
        number: u32,
        arguments: &[String],
        claim: &Claim,
    ) -> Result<Conclusion, Failure> {
        let lock = keep_program(&self.state).and_then(|()| claim.share()).map_err(Failure::Refused)?;
        let arguments = [&["switch-to".to_owned(), number.to_string()], arguments].concat();
        let code = self.host.run_apart(&self.state.program(), &arguments, lock).map_err(Failure::Refused)?;
        let code = self.see_it_end(claim, number, code).map_err(Failure::Halfway)?;
        Ok(Conclusion::Apart(code))
    }

    /// The service may have been ended from outside, by PID 1 at its deadline or by a person: what became of the switch then is not in
    /// its exit code.
    fn see_it_end(&mut self, claim: &Claim, number: u32, code: u8) -> Result<u8> {
        if Journal::read(&self.state)?.is_none() {
            return Ok(code);
        }
        claim.let_go()?;
        self.report.line("wait", "for systemd: the switch was ended before it was done");
        let begin = Instant::now();
        // As long as PID 1 may take to begin, and then to go back.
        let patience = Duration::from_secs(2 * u64::from(self.terms.deadline_s) + 60);
        while Journal::read(&self.state)?.is_some() {
            if begin.elapsed() > patience {
                refuse!("the switch to generation {number} is not done, and nobody goes on with it");
            }
            self.host.pause(LOOK);
        }
        let current = generation::current_number(&self.state)?.unwrap_or(0);
        if current == number && Marks::read(&self.state)?.is_good(number) {
            return Ok(0);
        }
        self.report.line("rolled back:", &format!("generation {current} is current again"));
        Ok(ROLLED_BACK)
    }
}

/// Puts this very program where PID 1 finds it, now and after a boot, if it is not there already.
pub fn keep_program(state: &State) -> Result<()> {
    let this = "/proc/self/exe";
    let program = fs::read(this).with_context(|| format!("cannot read {this}"))?;
    let path = state.program();
    if durable::read_if_there(&path)?.as_ref() == Some(&program) {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        durable::make_directory(directory, 0o755)?.iter().try_for_each(|new| durable::sync_name(new))?;
    }
    durable::replace_file(&path, &program, 0o755)
}
