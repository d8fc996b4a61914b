//! Text → lock, and a finding with its place for all that is wrong.

use std::collections::BTreeSet;
use std::ops::Range;
use std::str::FromStr;

use toml_edit::{Document, Item, Key, Table};

use super::{FILE, Lock, Package, Resolved, Snapshot, VERSION};
use crate::compile::finding::Finding;
use crate::compile::outside::{Packages, Reference, Wrong};
use crate::compile::similar::did_you_mean;
use crate::compile::source::{SourcePath, Span};

/// What can stand at the top.
const TABLES: [&str; 3] = ["images", "archives", "debian"];

pub(super) fn parse(text: &str) -> (Lock, Vec<Finding>) {
    let mut reading = Reading::default();
    // As good as none.
    if !text.trim().is_empty() {
        match Document::parse(text) {
            Ok(document) => reading.document(document.as_table()),
            Err(error) => {
                let message = error.message().lines().collect::<Vec<_>>().join(", ");
                reading.wrong(error.span(), format!("`{FILE}` cannot be read: {message}"));
            }
        }
    }
    (reading.lock, reading.findings)
}

#[derive(Default)]
struct Reading {
    lock: Lock,
    findings: Vec<Finding>,
}

impl Reading {
    /// Notes an error; help can be added to it.
    fn wrong(&mut self, place: Option<Range<usize>>, message: impl Into<String>) -> &mut Finding {
        let file = SourcePath(FILE.to_owned());
        let Range { start, end } = place.unwrap_or_default();
        let span = Span { file, start, end };
        self.findings.push(Finding::error(message).at(&span, ""));
        let last = self.findings.len() - 1;
        &mut self.findings[last]
    }

    fn mend(&mut self, place: Option<Range<usize>>, message: impl Into<String>, help: impl Into<String>) {
        self.wrong(place, message).help.push(help.into());
    }

    fn document(&mut self, document: &Table) {
        // What another version means by the rest, nobody knows.
        if !self.version(document) {
            return;
        }
        for (name, item) in document.iter().filter(|(name, _)| *name != "version") {
            let key = document.key(name);
            let place = key.and_then(Key::span);
            if !TABLES.contains(&name) {
                let message = format!("`{FILE}` has no `{}`", name.escape_debug());
                let help = did_you_mean(name, TABLES).into_iter();
                let finding = self.wrong(place, message);
                finding.help.extend(help);
                finding.notes.push(format!("its tables are: {}", TABLES.join(", ")));
                continue;
            }
            let Some(table) = self.table(item, place, &format!("[{name}]")) else { continue };
            match name {
                "images" => self.images(table),
                "archives" => self.archives(table),
                _ => self.debian(table),
            }
        }
    }

    fn version(&mut self, document: &Table) -> bool {
        let Some((key, item)) = document.get_key_value("version") else {
            self.mend(
                None,
                format!("`{FILE}` says no version"),
                format!("write `version = {VERSION}` at its top"),
            );
            return false;
        };
        if item.as_integer() == Some(VERSION) {
            return true;
        }
        let message =
            format!("this `rickbuild` reads version {VERSION} of `{FILE}`, and this is another one");
        self.mend(item.span().or(key.span()), message, "use the `rickbuild` that wrote it, or a later one");
        false
    }

    /// A table with a header of its own, one entry a line: the others cannot be edited line by line.
    fn table<'a>(&mut self, item: &'a Item, place: Option<Range<usize>>, header: &str) -> Option<&'a Table> {
        let table = item.as_table().filter(|table| !table.is_dotted());
        if table.is_none() {
            let help = format!("write `{header}`, and below it one entry a line");
            self.mend(place, format!("`{header}` of `{FILE}` is no table"), help);
        }
        table
    }

    fn images(&mut self, table: &Table) {
        for (text, item) in table {
            let place = table.key(text).and_then(Key::span);
            let Some(reference) = self.key::<Reference>(text, place.clone()) else { continue };
            if reference.digest().is_some() {
                let message = format!("`{text}` says its digest itself");
                self.mend(place, message, "remove the entry");
                continue;
            }
            if let Some(digest) = self.value(text, item, place) {
                self.lock.images.insert(reference, digest);
            }
        }
    }

    fn archives(&mut self, table: &Table) {
        for (text, item) in table {
            let place = table.key(text).and_then(Key::span);
            let Some(url) = self.key(text, place.clone()) else { continue };
            if let Some(digest) = self.value(text, item, place) {
                self.lock.archives.insert(url, digest);
            }
        }
    }

    fn debian(&mut self, table: &Table) {
        for (text, item) in table {
            let place = table.key(text).and_then(Key::span);
            let Some(packages) = self.key::<Packages>(text, place.clone()) else { continue };
            if packages.to_string() != text {
                let message = format!("`{text}` is another way to write `{packages}`");
                self.mend(place, message, format!("write `[debian.\"{packages}\"]`"));
                continue;
            }
            let header = format!("[debian.\"{text}\"]");
            let Some(table) = self.table(item, place.clone(), &header) else { continue };
            if let Some(resolved) = self.packages(table, &header, place) {
                self.lock.debian.insert(packages, resolved);
            }
        }
    }

    fn packages(&mut self, table: &Table, header: &str, place: Option<Range<usize>>) -> Option<Resolved> {
        let mut packages = Vec::new();
        let mut seen = BTreeSet::new();
        for (text, item) in table.iter().filter(|(text, _)| *text != "snapshot") {
            let place = table.key(text).and_then(Key::span);
            let path = match text.parse::<super::PoolPath>() {
                Ok(path) => path,
                Err(message) => {
                    self.wrong(place, message);
                    continue;
                }
            };
            if !seen.insert(path.package().to_owned()) {
                let message = format!("`{header}` has two files of the package `{}`", path.package());
                self.mend(place, message, "remove one of them");
                continue;
            }
            packages.extend(self.value(text, item, place).map(|digest| Package { path, digest }));
        }
        let Some((key, snapshot)) = table.get_key_value("snapshot") else {
            let message = format!("`{header}` has no `snapshot`");
            self.mend(place, message, "remove the table, and run `rickbuild lock`");
            return None;
        };
        let snapshot: Snapshot = self.value("snapshot", snapshot, key.span())?;
        Some(Resolved { snapshot, packages })
    }

    fn key<T: FromStr<Err = Wrong>>(&mut self, text: &str, place: Option<Range<usize>>) -> Option<T> {
        text.parse().map_err(|Wrong { message, help }| self.mend(place, message, help)).ok()
    }

    fn value<T: FromStr<Err = String>>(
        &mut self,
        key: &str,
        item: &Item,
        place: Option<Range<usize>>,
    ) -> Option<T> {
        let place = item.span().or(place);
        let Some(text) = item.as_str() else {
            self.wrong(place, format!("what `{}` is set to is no text", key.escape_debug()));
            return None;
        };
        match text.parse() {
            Ok(value) => Some(value),
            Err(why) => {
                self.wrong(place, why);
                None
            }
        }
    }
}
