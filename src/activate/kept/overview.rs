//! What services of this host keep and kept, and the copies of it.

use anyhow::Result;
use serde::Serialize;

use super::record::{Record, Resting, Word};
use super::restic::{Restic, Snapshot};
use super::{Kept, Part, Scene, leave};
use crate::bundle::names::Label;

/// One service.
#[derive(Debug, Serialize)]
pub struct Overview {
    /// Its name.
    pub service: Label,
    /// Whether it is a service of this host, or was one.
    pub here: bool,
    /// What it keeps: directories, and names of dumps.
    pub parts: Vec<Part>,
    /// What rick knows of it; nothing as long as there is no repository.
    pub record: Option<Record>,
    /// How it is, in a few words.
    pub told: String,
}

impl Scene<'_> {
    /// All that services of this host keep or kept.
    pub fn overview(&self) -> Result<Vec<Overview>> {
        let mut known = Record::all(self.state)?;
        let kept = self.generation.manifest().map(Kept::all).unwrap_or_default();
        let mut all: Vec<Overview> = kept
            .into_iter()
            .map(|kept| {
                let record = known.remove(&kept.service);
                let told = told(record.as_ref());
                Overview { service: kept.service, here: true, parts: kept.parts, record, told }
            })
            .collect();
        all.extend(known.into_iter().map(|(service, record)| {
            let parts = record.held.iter().cloned().collect();
            let told = left(&record);
            Overview { service, here: false, parts, record: Some(record), told }
        }));
        Ok(all)
    }

    /// The copies in the repository that is restored from: of a service, or of all; of other hosts too, if they are not only of this one.
    pub fn snapshots(&self, service: Option<&Label>, everywhere: bool) -> Result<Vec<Snapshot>> {
        let restic = Restic::open(self.state, &self.generation, &self.repository()?)?;
        let manifest = self.manifest()?;
        let mut tags = if everywhere { Vec::new() } else { vec![manifest.environment.as_str()] };
        tags.extend(service.map(Label::as_str));
        let host = (!everywhere).then(|| manifest.host.as_str());
        let mut found = restic.snapshots(host, &tags)?;
        found.retain(Snapshot::is_copy);
        Ok(found)
    }

    /// Sees that all repositories, or the one that the service instance `to` brings, are sound, and reads a part of what they hold.
    pub fn check(&mut self, part: &str, to: Option<&Label>) -> Result<()> {
        let repositories = self.manifest()?.repositories.clone();
        for (_, repository) in repositories.iter().filter(|(name, _)| to.is_none_or(|to| to == *name)) {
            self.report.line("check", &format!("{} and {part} of what it holds", repository.address));
            let restic = Restic::open(self.state, &self.generation, repository)?;
            restic.check(part)?;
        }
        let asks = repositories
            .iter()
            .any(|(name, repository)| repository.restores && to.is_none_or(|to| to == name));
        if asks { leave::release(self) } else { Ok(()) }
    }
}

fn told(record: Option<&Record>) -> String {
    let Some(record) = record else { return "never copied".to_owned() };
    if record.restoring.is_some() {
        return "a restore was cut short".to_owned();
    }
    match (&record.copied, &record.came_from) {
        (Some(copy), _) => format!("last copy {copy}"),
        (None, Some(home)) => format!("came from {home}, never copied here"),
        (None, None) => "never copied".to_owned(),
    }
}

fn left(record: &Record) -> String {
    let Some(left) = &record.left else { return "gone".to_owned() };
    let copy = match &left.resting {
        Some(Resting::Copy(copy)) => format!(", last copy {copy}"),
        Some(Resting::Nothing) => ", with nothing".to_owned(),
        None => String::new(),
    };
    let word = if matches!(left.word, Word::Said(_)) { ", other hosts may have it" } else { "" };
    format!("gone since generation {}{copy}{word}", left.generation)
}

/// A line for each service and part, for people.
pub fn table(all: &[Overview]) -> String {
    let width = all.iter().map(|row| row.service.as_str().len()).max().unwrap_or_default();
    let rows = all.iter().flat_map(|row| {
        let how = if row.here { "" } else { "not of this host any more; " };
        let first = format!("{:width$}  {how}{}\n", row.service.as_str(), row.told);
        let parts = row.parts.iter().map(move |part| format!("{:width$}    {part}\n", ""));
        std::iter::once(first).chain(parts)
    });
    rows.collect()
}

/// A line for each copy, for people.
pub fn list(copies: &[Snapshot]) -> String {
    let line = |copy: &Snapshot| {
        let service = copy.tags.get(1).map_or("?", String::as_str);
        let environment = copy.tags.first().map_or("?", String::as_str);
        let generation = copy.generation().map_or(String::new(), |number| format!("  generation {number}"));
        let before = if copy.is_before_switch() { ", before it was left" } else { "" };
        let time = copy.time.get(..19).unwrap_or(&copy.time).replace('T', " ");
        format!("{}  {time}  {environment}/{}  {service}{generation}{before}\n", copy.id, copy.hostname)
    };
    copies.iter().map(line).collect()
}
