//! The text of a unit or Quadlet file → sections and entries that know where they stand.
//!
//! systemd's own rules: a trailing backslash continues a line, comment lines inside a continuation are skipped, and values
//! are stripped but otherwise left as they are. What cannot be parsed is said for every line at once.

use std::ops::Range;

/// `[Section]` and what stands below it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) range: Range<usize>,
    pub(super) entries: Vec<Assignment>,
}

/// `Key=value`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assignment {
    pub(super) key: String,
    pub(super) value: String,
    /// The key's place.
    pub(super) key_range: Range<usize>,
    /// The value's place, as far as it stands in the first line.
    pub(super) value_range: Range<usize>,
    continues: bool,
}

/// A line that is none of a section, an assignment, a comment and nothing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) range: Range<usize>,
    pub(super) message: &'static str,
}

/// Parses a whole text.
pub(super) fn parse(text: &str) -> (Vec<Part>, Vec<Wrong>) {
    let mut parser = Parser::default();
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let start = offset + line.len() - line.trim_start().len();
        parser.line(line.trim(), start);
        offset += line.len();
    }
    (parser.parts, parser.wrong)
}

#[derive(Default)]
struct Parser {
    parts: Vec<Part>,
    wrong: Vec<Wrong>,
}

impl Parser {
    /// Takes one trimmed line, which starts at byte `start`.
    fn line(&mut self, line: &str, start: usize) {
        if line.starts_with(['#', ';']) {
            return;
        }
        let open = self.parts.last_mut().and_then(|part| part.entries.last_mut());
        if let Some(entry) = open.filter(|entry| entry.continues) {
            let (text, continues) = continued(line);
            entry.continues = continues;
            if !entry.value.is_empty() && !text.is_empty() {
                entry.value.push(' ');
            }
            entry.value.push_str(text);
            return;
        }
        let range = start..start + line.len();
        if line.starts_with('[') {
            self.section(line, range);
        } else if !line.is_empty() {
            self.assignment(line, range);
        }
    }

    fn section(&mut self, line: &str, range: Range<usize>) {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => self.parts.push(Part { name: name.to_owned(), range, entries: Vec::new() }),
            None => self.wrong.push(Wrong { range, message: "the section's `]` is missing" }),
        }
    }

    fn assignment(&mut self, line: &str, range: Range<usize>) {
        let Some((key, value)) = line.split_once('=') else {
            self.wrong.push(Wrong { range, message: "this line is neither `Key=value` nor `[Section]`" });
            return;
        };
        let Some(part) = self.parts.last_mut() else {
            self.wrong.push(Wrong { range, message: "this line stands before the first `[Section]`" });
            return;
        };
        let (text, continues) = continued(value);
        let value_start = range.end - value.trim_start().len();
        part.entries.push(Assignment {
            key: key.trim_end().to_owned(),
            value: text.to_owned(),
            key_range: range.start..range.start + key.trim_end().len(),
            value_range: value_start..value_start + text.len(),
            continues,
        });
    }
}

/// A line without the backslash that continues it.
fn continued(line: &str) -> (&str, bool) {
    match line.strip_suffix('\\') {
        Some(rest) => (rest.trim(), true),
        None => (line.trim(), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_continue_and_places_are_kept() {
        let text = "# head\n[Unit]\nAfter = a \\\n; not this\n  b\n\n[Service]\n  ExecStart=/bin/x\n";
        let (parts, wrong) = parse(text);
        assert_eq!(wrong, []);
        let after = &parts[0].entries[0];
        assert_eq!((after.key.as_str(), after.value.as_str()), ("After", "a b"));
        assert_eq!((&text[after.key_range.clone()], &text[after.value_range.clone()]), ("After", "a"));
        let start = &parts[1].entries[0];
        assert_eq!(&text[start.value_range.clone()], "/bin/x");
        assert_eq!(&text[parts[1].range.clone()], "[Service]");
    }

    #[test]
    fn every_wrong_line_is_told() {
        let (_, wrong) = parse("a=b\n[Unit\nhello\n");
        assert_eq!(wrong.len(), 3);
    }
}
