//! A unit or Quadlet as it was written: sections and entries, each with the place that a finding points at.

use std::ops::Range;

use super::super::finding::Finding;
use super::super::ini;
use super::super::item::{Body, Sections};
use super::super::source::{SourcePath, Sources, Span};
use super::stated::Stated;

/// A parsed body and where it comes from.
pub(super) struct Written<'a> {
    pub(super) stated: Stated<'a>,
    /// The name of the unit or Quadlet file.
    pub(super) name: &'a str,
    pub(super) parts: Vec<Part>,
}

/// A section.
pub(super) struct Part {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) entries: Vec<Entry>,
}

/// A key and one value.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: String,
    pub(super) key_place: Place,
    pub(super) value_place: Place,
}

/// A place in a source file, or a line of a text that stands in none.
#[derive(Clone)]
pub(super) struct Place {
    span: Span,
    line: Option<usize>,
}

impl<'a> Written<'a> {
    /// Reads a body; every line that cannot be read is told.
    pub(super) fn read(
        stated: Stated<'a>,
        name: &'a str,
        body: &Body,
        sources: &Sources,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let parts = match body {
            Body::Sections(sections) => from_sections(stated, sections),
            Body::Text(text, path) => {
                let text =
                    Source { stated, text, path: path.as_ref().filter(|path| sources.0.contains_key(path)) };
                let (parts, wrong) = ini::parse(text.text);
                findings.extend(wrong.iter().map(|wrong| {
                    place_at(
                        stated,
                        &text.place(&wrong.range),
                        Finding::error(format!("`{name}` is not a unit file: {}", wrong.message)),
                        "",
                    )
                }));
                parts.into_iter().map(|part| text.part(part)).collect()
            }
        };
        Self { stated, name, parts }
    }

    /// What stands after the last dot of the name; an addition to a type of units has the type for a name.
    pub(super) fn kind(&self) -> &'a str {
        self.name.rsplit_once('.').map_or(self.name, |(_, kind)| kind)
    }

    /// All entries of a section, which may stand in several parts.
    pub(super) fn section(&self, name: &str) -> impl Iterator<Item = &Entry> {
        self.parts.iter().filter(move |part| part.name == name).flat_map(|part| &part.entries)
    }

    /// All entries with this key in a section; an empty value takes back those before it.
    pub(super) fn all(&self, section: &str, key: &str) -> Vec<&Entry> {
        let mut entries: Vec<_> = self.section(section).filter(|entry| entry.key == key).collect();
        if let Some(reset) = entries.iter().rposition(|entry| entry.value.is_empty()) {
            entries.drain(..=reset);
        }
        entries
    }

    /// The value that counts: the last one.
    pub(super) fn last(&self, section: &str, key: &str) -> Option<&Entry> {
        self.section(section).filter(|entry| entry.key == key).last()
    }

    /// The last value as text; empty if there is none.
    pub(super) fn value(&self, section: &str, key: &str) -> &str {
        self.last(section, key).map_or("", |entry| entry.value.as_str())
    }

    /// Every entry.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.parts.iter().flat_map(|part| &part.entries)
    }

    /// An error at a place of it.
    pub(super) fn error(&self, place: &Place, message: impl Into<String>, label: &str) -> Finding {
        place_at(self.stated, place, Finding::error(message), label)
    }

    /// A warning at a place of it.
    pub(super) fn warning(&self, place: &Place, message: impl Into<String>, label: &str) -> Finding {
        place_at(self.stated, place, Finding::warning(message), label)
    }

    /// The sections without places, each name once.
    pub(super) fn sections(&self) -> Sections {
        let pair = |entry: &Entry| (entry.key.clone(), entry.value.clone());
        ini::merged(
            self.parts.iter().map(|part| (part.name.clone(), part.entries.iter().map(pair).collect())),
        )
    }
}

impl Place {
    /// The span, for a second label.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }
}

fn place_at(stated: Stated<'_>, place: &Place, finding: Finding, label: &str) -> Finding {
    let finding = stated.locate(finding, &place.span, label);
    match place.line {
        Some(line) => finding.note(format!("in line {line} of the text")),
        None => finding,
    }
}

fn from_sections(stated: Stated<'_>, sections: &Sections) -> Vec<Part> {
    let place = |words: &[&str]| Place { span: stated.place(words).clone(), line: None };
    let entry = |(key, value): &(String, String)| Entry {
        key: key.clone(),
        value: value.clone(),
        key_place: place(&[key]),
        value_place: place(&[value, key]),
    };
    sections
        .iter()
        .map(|(name, entries)| Part {
            name: name.clone(),
            place: place(&[name]),
            entries: entries.iter().map(entry).collect(),
        })
        .collect()
}

/// A text, and its file if it has one.
struct Source<'a> {
    stated: Stated<'a>,
    text: &'a str,
    path: Option<&'a SourcePath>,
}

impl Source<'_> {
    fn place(&self, range: &Range<usize>) -> Place {
        match self.path {
            Some(path) => {
                Place { span: Span { file: path.clone(), start: range.start, end: range.end }, line: None }
            }
            None => Place {
                span: self.stated.place(&["text", "source"]).clone(),
                line: Some(self.text[..range.start].matches('\n').count() + 1),
            },
        }
    }

    fn part(&self, part: ini::Part) -> Part {
        let entry = |entry: ini::Assignment| Entry {
            key_place: self.place(&entry.key_range),
            value_place: self.place(&entry.value_range),
            key: entry.key,
            value: entry.value,
        };
        Part {
            place: self.place(&part.range),
            name: part.name,
            entries: part.entries.into_iter().map(entry).collect(),
        }
    }
}
