//! A generation that is pinned stays, however old it gets.

use anyhow::Result;

use super::Activation;
use super::generation::{self, Generation};
use super::marks::Marks;
use crate::refusal::refuse;

impl Activation<'_> {
    /// Pins a generation, or lets go of it: the one asked for, or the current one. Gives its number.
    pub fn pin(&mut self, asked: Option<u32>, pinned: bool) -> Result<u32> {
        let Some(number) = asked.map_or_else(|| generation::current_number(&self.state), |n| Ok(Some(n)))?
        else {
            refuse!("there is nothing to pin: rick never activated anything on this host");
        };
        Generation::read(&self.state, number)?;
        let _claim = self.claim()?;
        let mut marks = Marks::read(&self.state)?;
        let mark = marks.generations.entry(number).or_default();
        let generation = format!("generation {number}");
        if mark.pinned == pinned {
            let what = if pinned { "is pinned already" } else { "is not pinned" };
            self.report.line("nothing to do:", &format!("{generation} {what}"));
            return Ok(number);
        }
        mark.pinned = pinned;
        if !self.dry_run {
            marks.write(&self.state)?;
        }
        let verb = match (self.dry_run, pinned) {
            (false, true) => "pin",
            (false, false) => "unpin",
            (true, true) => "would pin",
            (true, false) => "would unpin",
        };
        self.report.line(verb, &generation);
        Ok(number)
    }
}
