//! The syntax of unit and Quadlet files: text → sections and entries that know where they stand. [`super::render::ini`] is the way
//! back.
//!
//! systemd's own rules: a trailing backslash continues a line, comment lines inside a continuation are skipped, and values are
//! stripped but otherwise left as they are. What cannot be parsed is said for every line at once.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::ops::Range;

use super::item::Sections;

/// `[Section]` and what stands below it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) range: Range<usize>,
    pub(crate) entries: Vec<Assignment>,
}

/// `Key=value`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) key: String,
    pub(crate) value: String,
    /// The key's place, as far as it stands in the first line.
    pub(crate) key_range: Range<usize>,
    /// The value's place, as far as it stands in the first line.
    pub(crate) value_range: Range<usize>,
}

/// A line that is none of a section, an assignment, a comment and nothing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) range: Range<usize>,
    pub(crate) message: &'static str,
}

/// Parses a whole text.
pub(crate) fn parse(text: &str) -> (Vec<Part>, Vec<Wrong>) {
    let mut parser = Parser::default();
    let body = text.trim_start_matches('\u{feff}');
    let mut offset = text.len() - body.len();
    for line in body.split_inclusive('\n') {
        let words = line.trim_start();
        parser.line(words.trim_end_matches('\n').trim_end_matches('\r'), offset + line.len() - words.len());
        offset += line.len();
    }
    parser.end_line();
    (parser.parts, parser.wrong)
}

#[derive(Default)]
struct Parser {
    parts: Vec<Part>,
    wrong: Vec<Wrong>,
    open: Option<Line>,
}

/// A line with those that continue it.
struct Line {
    text: String,
    /// The byte where it starts.
    start: usize,
    /// How much of it stands in its first line.
    first: usize,
}

impl Parser {
    /// Takes one line of the file, which starts at byte `start`.
    fn line(&mut self, line: &str, start: usize) {
        if line.starts_with(['#', ';']) {
            return;
        }
        let open = self.open.get_or_insert(Line { text: String::new(), start, first: line.len() });
        open.text.push_str(line);
        if continues(&open.text) {
            open.text.pop();
            if open.text.trim().is_empty() {
                // Nothing yet: the line begins with the next one.
                self.open = None;
                return;
            }
            open.first = open.first.min(open.text.trim_end().len());
            open.text.push(' ');
        } else {
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        let Some(line) = self.open.take() else { return };
        let text = line.text.trim_end();
        let range = line.start..line.start + line.first.min(text.len());
        if text.starts_with('[') {
            self.section(text, range);
        } else if !text.is_empty() {
            self.assignment(text, range);
        }
    }

    fn section(&mut self, text: &str, range: Range<usize>) {
        match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => self.parts.push(Part { name: name.to_owned(), range, entries: Vec::new() }),
            None => self.wrong.push(Wrong { range, message: "the section's `]` is missing" }),
        }
    }

    fn assignment(&mut self, text: &str, range: Range<usize>) {
        let Some((key, value)) = text.split_once('=') else {
            self.wrong.push(Wrong { range, message: "this line is neither `Key=value` nor `[Section]`" });
            return;
        };
        let Some(part) = self.parts.last_mut() else {
            self.wrong.push(Wrong { range, message: "this line stands before the first `[Section]`" });
            return;
        };
        let (key, value) = (key.trim_end(), value.trim_start());
        let key_range = range.start..(range.start + key.len()).min(range.end);
        let value_range = range.start + text.len() - value.len()..range.end;
        part.entries.push(Assignment {
            key: key.to_owned(),
            value: value.to_owned(),
            // A value that starts in a later line is shown by its key.
            value_range: if value_range.is_empty() { key_range.clone() } else { value_range },
            key_range,
        });
    }
}

/// systemd pairs backslashes from the left; an odd number at the end continues the line.
pub(crate) fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|&b| b == b'\\').count() % 2 == 1
}

/// The sections of a text that has nothing wrong in it, each name once.
#[cfg(test)]
pub(crate) fn sections(text: &str) -> Sections {
    let (parts, wrong) = parse(text);
    assert_eq!(wrong, [], "{text:?}");
    merged(
        parts.into_iter().map(|part| {
            (part.name, part.entries.into_iter().map(|entry| (entry.key, entry.value)).collect())
        }),
    )
}

/// Parts of the same name as one section, where the first of them stands.
pub(crate) fn merged(parts: impl IntoIterator<Item = (String, Vec<(String, String)>)>) -> Sections {
    let mut sections = Sections::new();
    for (name, entries) in parts {
        match sections.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => known.extend(entries),
            None => sections.push((name, entries)),
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_continue_and_places_are_kept() {
        let text = "# head\n[Unit]\nAfter = a \\\n; not this\n  b\n\n[Service]\n  ExecStart=/bin/x\n";
        let (parts, wrong) = parse(text);
        assert_eq!(wrong, []);
        let after = &parts[0].entries[0];
        assert_eq!((after.key.as_str(), after.value.as_str()), ("After", "a  b"));
        assert_eq!((&text[after.key_range.clone()], &text[after.value_range.clone()]), ("After", "a"));
        let start = &parts[1].entries[0];
        assert_eq!(&text[start.value_range.clone()], "/bin/x");
        assert_eq!(&text[parts[1].range.clone()], "[Service]");
    }

    #[test]
    fn parsing_follows_systemd() {
        let text = "\u{feff}# a comment\n; another\n[Unit]\n  Description = Some thing  \n\n[Service]\r\n\
                    ExecStart=/bin/sh \\\n# inside\n   -c \\\n  'a; b'\nEnvironment=\n[Unit]\nAfter=a.service\n\
                    [Install]\nWantedBy=x.target \\";
        let entry = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        let section =
            |name: &str, entries: Vec<_>| (name.to_owned(), entries.into_iter().map(entry).collect());
        let expected: Sections = vec![
            section("Unit", vec![("Description", "Some thing"), ("After", "a.service")]),
            section("Service", vec![("ExecStart", "/bin/sh  -c  'a; b'"), ("Environment", "")]),
            section("Install", vec![("WantedBy", "x.target")]),
        ];
        assert_eq!(sections(text), expected);
    }

    #[test]
    fn a_lone_backslash_begins_nothing_and_a_key_may_go_on() {
        for (text, key, shown) in
            [("[]\n\\\nü=", "ü", "ü"), ("[]\n \\\n \\\n  a=b", "a", "a"), ("[]\na\\\nb=c", "a b", "a")]
        {
            let (parts, wrong) = parse(text);
            assert_eq!(wrong, []);
            let entry = &parts[0].entries[0];
            assert_eq!((entry.key.as_str(), &text[entry.key_range.clone()]), (key, shown), "{text:?}");
        }
    }

    #[test]
    fn every_wrong_line_is_told() {
        let (_, wrong) = parse("a=b\n[Unit\nhello\n");
        assert_eq!(wrong.len(), 3);
    }

    proptest! {
        #[test]
        fn places_lie_in_the_text(text in "[\\[\\]=#\\\\\n Aü\u{feff}]{0,60}") {
            for part in parse(&text).0 {
                prop_assert!(text.get(part.range).is_some());
                for entry in part.entries {
                    let shown = text.get(entry.key_range).unwrap_or("\0");
                    prop_assert!(entry.key == shown || entry.key.starts_with(shown) && text.contains("\\\n"), "{shown:?}");
                    prop_assert!(text.get(entry.value_range).is_some());
                }
            }
        }
    }
}
