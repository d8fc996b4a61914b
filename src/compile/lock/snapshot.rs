//! A moment of an archive, as snapshot.debian.org writes it.

use std::fmt;
use std::str::FromStr;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A second, shown as `20261128T081341Z`. The later one is the greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Snapshot {
    year: u16,
    month: u8,
    day: u8,
    hour: u8,
    minute: u8,
    second: u8,
}

impl Snapshot {
    /// From the `Date:` of a release file: `Sat, 28 Nov 2026 08:13:41 UTC`.
    pub fn of_date(date: &str) -> Option<Self> {
        let date = date.split_once(',').map_or(date, |(_, date)| date);
        let mut words = date.split_ascii_whitespace();
        let (day, month, year) = (words.next()?, words.next()?, words.next()?);
        let month = MONTHS.iter().position(|name| *name == month)? + 1;
        let time: String = words.next()?.chars().filter(|c| *c != ':').collect();
        // The zone is UTC, whatever its name.
        format!("{year:0>4}{month:02}{day:0>2}T{time:0>6}Z").parse().ok()
    }

    /// The same time a day later.
    #[must_use]
    pub fn next_day(self) -> Self {
        if self.day < self.days_of_month() {
            return Self { day: self.day + 1, ..self };
        }
        if self.month < 12 {
            return Self { month: self.month + 1, day: 1, ..self };
        }
        Self { year: self.year + 1, month: 1, day: 1, ..self }
    }

    fn days_of_month(self) -> u8 {
        let leap =
            self.year.is_multiple_of(4) && (!self.year.is_multiple_of(100) || self.year.is_multiple_of(400));
        match self.month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { year, month, day, hour, minute, second } = self;
        write!(f, "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
    }
}

impl FromStr for Snapshot {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text).ok_or_else(|| {
            format!("`{}` is no moment: write one as in `20261128T081341Z`", text.escape_debug())
        })
    }
}

fn parse(text: &str) -> Option<Snapshot> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if (date.len(), time.len()) != (8, 6) || !digits(date) || !digits(time) {
        return None;
    }
    let two = |text: &str, at: usize| text[at..at + 2].parse::<u8>().ok();
    let snapshot = Snapshot {
        year: date[..4].parse().ok()?,
        month: two(date, 4)?,
        day: two(date, 6)?,
        hour: two(time, 0)?,
        minute: two(time, 2)?,
        second: two(time, 4)?,
    };
    let good = (1900..9999).contains(&snapshot.year)
        && (1..=12).contains(&snapshot.month)
        && (1..=snapshot.days_of_month()).contains(&snapshot.day)
        && snapshot.hour < 24
        && snapshot.minute < 60
        && snapshot.second <= 60;
    good.then_some(snapshot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_written_in_one_way() {
        let moment = Snapshot::of_date("Sat, 28 Nov 2026 08:13:41 UTC").unwrap();
        assert_eq!(moment.to_string(), "20261128T081341Z");
        assert_eq!(moment.to_string().parse(), Ok(moment));
        assert_eq!(
            Snapshot::of_date("Sat,  5 Sep 2026 9:03:01 +0000").unwrap().to_string(),
            "20260905T090301Z"
        );
        for bad in ["", "2026", "20261328T000000Z", "20260229T000000Z", "20261128T250000Z", "2026112äT00000Z"]
        {
            assert!(bad.parse::<Snapshot>().is_err(), "{bad}");
        }
        for bad in ["", "yesterday", "Sat, 28 Nov", "Sat, 99 Nov 2026 08:13:41 UTC"] {
            assert_eq!(Snapshot::of_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_next_day_may_be_in_another_month_or_year() {
        for (day, next) in [
            ("20261128T081341Z", "20261129T081341Z"),
            ("20261130T000000Z", "20261201T000000Z"),
            ("20261231T235960Z", "20270101T235960Z"),
            ("20280228T000000Z", "20280229T000000Z"),
            ("21000228T000000Z", "21000301T000000Z"),
        ] {
            assert_eq!(day.parse::<Snapshot>().unwrap().next_day().to_string(), next);
        }
    }
}
