//! The generations of a host, for people and for programs.

use std::fmt::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;

use super::generation::{self, Generation};
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
    /// Why it cannot be read, if so.
    pub damaged: Option<String>,
}

/// All generations, ascending.
pub fn list(state: &State) -> Result<Vec<Row>> {
    let current = generation::current_number(state)?;
    let row = |number| row(state, number, current == Some(number));
    Ok(generation::numbers(state)?.into_iter().map(row).collect())
}

/// The rows as a table.
pub fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "rick never activated anything on this host\n".to_owned();
    }
    let mut text = String::from("  generation  made (UTC)        digest        environment  host\n");
    for row in rows {
        let mark = if row.current { '*' } else { ' ' };
        let digest = row.digest.map_or("-".to_owned(), |digest| digest.short());
        let made = row.made.as_deref().unwrap_or("-");
        let rest = match (&row.damaged, &row.environment, &row.host) {
            (Some(why), ..) => why.clone(),
            (None, Some(environment), Some(host)) => format!("{environment:<11}  {host}"),
            _ => "(empty)".to_owned(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{mark} {:<10}  {made:<16}  {digest:<12}  {rest}", row.number);
    }
    text
}

fn row(state: &State, number: u32, current: bool) -> Row {
    let mut row =
        Row { number, current, host: None, environment: None, digest: None, made: None, damaged: None };
    match Generation::read(state, number) {
        Ok(generation) => {
            row.made = generation.made().map(utc);
            row.digest = generation.content.as_ref().map(|content| content.digest);
            row.host = generation.manifest().map(|manifest| manifest.host.to_string());
            row.environment = generation.manifest().map(|manifest| manifest.environment.to_string());
        }
        Err(error) => row.damaged = Some(format!("{error:#}")),
    }
    row
}

/// `2025-03-01 12:30`, by the calendar's usual arithmetic on days since 0000-03-01.
fn utc(time: SystemTime) -> String {
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
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_host_without_generations_is_said_to_have_none() {
        assert_eq!(table(&[]), "rick never activated anything on this host\n");
    }

    #[test]
    fn times_are_told_in_utc() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01 00:00");
        assert_eq!(at(951_827_696), "2000-02-29 12:34");
        assert_eq!(at(1_740_832_200), "2025-03-01 12:30");
    }
}
