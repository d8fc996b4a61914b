//! The generations of a host, for people and for programs.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;

use super::applied::Applied;
use super::generation::{self, Generation};
use super::marks::{Mark, Marks, Verdict};
use super::state::State;
use crate::bundle::digest::Digest;

/// One generation, as it is listed.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its number.
    pub number: u32,
    /// The host has it.
    pub current: bool,
    /// The host that it was compiled for; none for generation 0.
    pub host: Option<String>,
    /// The environment; none for generation 0.
    pub environment: Option<String>,
    /// The digest of the build; none for generation 0.
    pub digest: Option<Digest>,
    /// When it came to be, in UTC.
    pub made: Option<String>,
    /// The generation that the host had then.
    pub before: Option<u32>,
    /// How it went, the last time that it was switched to.
    pub verdict: Option<Verdict>,
    /// Who signed it, if the host trusted somebody who did.
    pub signed_by: Option<String>,
    /// Somebody wants it kept.
    pub pinned: bool,
    /// How many units were last started from it.
    pub units: usize,
    /// Why it cannot be read, if so.
    pub damaged: Option<String>,
}

/// All generations, ascending.
pub fn list(state: &State) -> Result<Vec<Row>> {
    let current = generation::current_number(state)?;
    let marks = Marks::read(state)?;
    let row = |number| {
        let mark = marks.generations.get(&number).cloned().unwrap_or_default();
        row(state, number, current == Some(number), mark)
    };
    generation::numbers(state)?.into_iter().map(row).collect()
}

/// Counts the units that run from each generation in the boot `boot_id`.
pub fn count_units(rows: &mut [Row], state: &State, boot_id: &str) -> Result<()> {
    let Some(current) = Generation::current(state)? else { return Ok(()) };
    let applied = Applied::read(state)?.in_boot(boot_id, current.number, &current.desired()?);
    for row in rows {
        row.units = applied.units.values().filter(|unit| unit.generation == Some(row.number)).count();
    }
    Ok(())
}

/// The rows as a table.
pub fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "rick never activated anything on this host\n".to_owned();
    }
    let mut text = String::from(
        "  generation  made (UTC)        digest        before  environment  host         notes\n",
    );
    for row in rows {
        let mark = if row.current { '*' } else { ' ' };
        let digest = row.digest.map_or("-".to_owned(), |digest| digest.short());
        let made = row.made.as_deref().unwrap_or("-");
        let before = row.before.map_or("-".to_owned(), |number| number.to_string());
        let environment = row.environment.as_deref().unwrap_or("-");
        let host = row.host.as_deref().unwrap_or("-");
        let notes = row.notes().join(", ");
        let line = format!(
            "{mark} {:<10}  {made:<16}  {digest:<12}  {before:<6}  {environment:<11}  {host:<11}  {notes}",
            row.number
        );
        text.extend([line.trim_end(), "\n"]);
    }
    text
}

impl Row {
    fn notes(&self) -> Vec<String> {
        let verdict = match &self.verdict {
            None => None,
            Some(Verdict::Good) => Some("good".to_owned()),
            Some(Verdict::Bad { why }) => Some(format!("bad ({why})")),
        };
        let signed = self.signed_by.as_ref().map(|signer| format!("signed by {signer}"));
        let pinned = self.pinned.then(|| "pinned".to_owned());
        let units = match self.units {
            0 => None,
            1 => Some("1 unit runs from it".to_owned()),
            units => Some(format!("{units} units run from it")),
        };
        let empty = (self.number == 0).then(|| "(empty)".to_owned());
        [self.damaged.clone(), empty, verdict, signed, pinned, units].into_iter().flatten().collect()
    }
}

fn row(state: &State, number: u32, current: bool, mark: Mark) -> Result<Row> {
    let mut row = Row {
        number,
        current,
        host: None,
        environment: None,
        digest: None,
        made: None,
        before: generation::made_after(state, number)?,
        verdict: mark.verdict,
        signed_by: None,
        pinned: mark.pinned,
        units: 0,
        damaged: None,
    };
    match Generation::read(state, number) {
        Ok(generation) => {
            row.made = generation.made().map(utc);
            row.signed_by = generation.signer();
            row.digest = generation.content.as_ref().map(|content| content.digest);
            row.host = generation.manifest().map(|manifest| manifest.host.to_string());
            row.environment = generation.manifest().map(|manifest| manifest.environment.to_string());
        }
        Err(error) => row.damaged = Some(format!("{error:#}")),
    }
    Ok(row)
}

/// `2025-03-01 12:30`, by the calendar's usual arithmetic on days since 0000-03-01.
pub(super) fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, minutes) = (seconds / 86_400 + 719_468, seconds % 86_400 / 60);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::activate::story::Story;
    use crate::activate::terms::Terms;
    use crate::activate::testing::Build;
    use crate::bundle::manifest::Role;

    #[test]
    fn a_host_without_generations_is_said_to_have_none() {
        assert_eq!(table(&[]), "rick never activated anything on this host\n");
    }

    #[test]
    fn each_generation_is_told_with_what_became_of_it() {
        let mut story = Story::begin();
        let build = |text: &str| {
            Build::new("h").unit("a.service", Role::Run, text, &[]).unit("b.service", Role::Run, "", &[])
        };
        story.activate(&build("1"));
        story.activate(&build("2"));
        story.host.broken.insert("a.service".parse().unwrap());
        let outcome =
            story.on_stage(false, Terms::default(), |run| run.activate(build("3").bundle().as_slice()));
        assert!(outcome.is_ok());
        story.on_stage(false, Terms::default(), |run| run.pin(Some(1), true)).unwrap();
        fs::write(story.state().generation(1).join("digest"), "?").unwrap();
        let mut rows = list(&story.state()).unwrap();
        count_units(&mut rows, &story.state(), "").unwrap();
        let told: Vec<_> =
            rows.iter().map(|row| (row.number, row.current, row.before, row.notes().join(", "))).collect();
        assert_eq!(told[0], (0, false, None, "(empty)".to_owned()));
        assert!(told[1].3.contains("generation 1 is damaged"), "{told:?}");
        assert_eq!(told[2], (2, true, Some(1), "good".to_owned()));
        assert!(told[3].3.starts_with("bad (a.service failed ())"), "{told:?}");
        assert!(told[1].3.ends_with(", good, pinned, 1 unit runs from it"), "{told:?}");
        // Since the next boot, all runs from the current one.
        count_units(&mut rows, &story.state(), "another boot").unwrap();
        assert_eq!(rows[2].units, 2);
        let table = table(&rows);
        assert!(table.contains("* 2 ") && table.lines().all(|line| !line.ends_with(' ')), "{table}");
    }

    #[test]
    fn times_are_told_in_utc() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01 00:00");
        assert_eq!(at(951_827_696), "2000-02-29 12:34");
        assert_eq!(at(1_740_832_200), "2025-03-01 12:30");
    }
}
