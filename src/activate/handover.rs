//! Out of the session that called: the switch runs as a service of PID 1, so that a connection that breaks, a terminal that closes or a
//! service that is restarted on the way does not break it.
//!
//! The lock goes along as the service's standard input: there is no moment in which nobody holds it. What the service says goes to the
//! standard output and error of the caller, as long as there is one.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::state::Claim;
use super::{Activation, Conclusion, Failure};
use crate::durable;

impl Activation<'_> {
    pub(super) fn hand_over(
        &self,
        number: u32,
        arguments: &[String],
        claim: &Claim,
    ) -> Result<Conclusion, Failure> {
        let prepared = claim.share().map_err(Failure::Refused)?;
        let arguments: Vec<String> = [&["switch-to".to_owned(), number.to_string()], arguments].concat();
        let code = self.host.run_apart(&self.state.program(), &arguments, prepared);
        code.map(Conclusion::Apart).map_err(Failure::Refused)
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
