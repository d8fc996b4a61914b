//! What one evaluation has read and found so far.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use starlark::codemap::FileSpan;
use starlark::environment::{FrozenModule, Globals};

use super::super::finding::Finding;
use super::super::item::Item;
use super::super::source::{SourcePath, Sources, Span};
use super::builtins::PRELUDE;
use super::index::{Index, range};
use super::limits;
use super::tree::{Refusal, Tree};
use crate::bundle::digest::Digest;

/// Files, indexes, findings.
pub(super) struct Session {
    pub(super) tree: Tree,
    pub(super) globals: Globals,
    pub(super) prelude: FrozenModule,
    pub(super) sources: Sources,
    /// The digest of each file that was read, byte by byte: what `sources` has is text without what some editors put before it.
    pub(super) read: BTreeMap<SourcePath, Digest>,
    pub(super) indexes: BTreeMap<SourcePath, Index>,
    /// Loaded modules by the spelling of their path; `None` if one could not be loaded (that is among the findings).
    pub(super) modules: BTreeMap<SourcePath, Option<FrozenModule>>,
    /// The files that are being loaded, outermost first.
    pub(super) loading: Vec<SourcePath>,
    pub(super) findings: Vec<Finding>,
    /// Told what is being done, so that it can be said if the process dies of it.
    pub(super) trail: Trail,
}

/// Takes one line: what is being done now.
pub(super) type Trail = fn(&str);

impl Session {
    /// Reads a file of the source tree, and notes that it was read.
    pub(super) fn read(&mut self, path: &SourcePath) -> Result<String, Refusal> {
        let text = self.tree.read(path)?;
        self.read.insert(path.clone(), Digest::of(text.as_bytes()));
        Ok(text)
    }

    /// Notes something that is wrong.
    pub(super) fn report(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// The call whose place is `span`.
    pub(super) fn call(&self, span: &Span) -> Option<&super::index::Call> {
        self.indexes.get(&span.file)?.call(span.start, span.end)
    }

    /// Names the places inside an item's call.
    pub(super) fn place(&self, noun: super::super::item::Noun, span: Span) -> Item {
        let places = self.places(&span);
        Item { noun, span, places }
    }

    /// Places inside a call: argument name, or literal, → where it stands.
    pub(super) fn places(&self, span: &Span) -> BTreeMap<String, Span> {
        let mut places = BTreeMap::new();
        if let Some(call) = self.call(span) {
            let at = |(start, end): (usize, usize)| Span { file: span.file.clone(), start, end };
            places.extend(call.literals.iter().map(|(text, range)| (text.clone(), at(*range))));
            places.extend(call.named.iter().map(|(name, (_, value))| (name.clone(), at(*value))));
        }
        places
    }

    /// The place of a named argument's name in the call at `span`, or the call.
    pub(super) fn argument_name(&self, span: &Span, name: &str) -> Span {
        let named = self.call(span).and_then(|call| call.named.get(name));
        named.map_or_else(
            || span.clone(),
            |((start, end), _)| Span { file: span.file.clone(), start: *start, end: *end },
        )
    }

    /// The place of a named argument's value in the call at `span`, or the call.
    pub(super) fn argument_value(&self, span: &Span, name: &str) -> Span {
        let named = self.call(span).and_then(|call| call.named.get(name));
        named.map_or_else(
            || span.clone(),
            |(_, (start, end))| Span { file: span.file.clone(), start: *start, end: *end },
        )
    }

    /// The place of one element of an argument that is written as a list, or the argument's.
    pub(super) fn element(&self, span: &Span, name: &str, number: usize) -> Span {
        let elements = self.call(span).and_then(|call| call.elements.get(name));
        elements.and_then(|elements| elements.get(number)).map_or_else(
            || self.argument_value(span, name),
            |(start, end)| Span { file: span.file.clone(), start: *start, end: *end },
        )
    }

    /// Turns an error of the language into a finding. `context` is a further place that takes part.
    pub(super) fn report_error(&mut self, error: &starlark::Error, context: Option<(&Span, String)>) {
        let text = in_our_words(error.without_diagnostic().to_string());
        let mut lines = text.lines();
        let first = lines.next().unwrap_or("evaluation failed").trim_end_matches('.');
        let (message, suggestion) = match first.split_once(", did you mean ") {
            Some((message, suggestion)) => (message, Some(suggestion.trim_end_matches('?'))),
            None => (first, None),
        };
        let known = |span: &Span| self.sources.0.contains_key(&span.file);
        let frames = error.call_stack().frames.iter().rev();
        let mut places = frames.filter_map(|frame| frame.location.as_ref()).map(span_of);
        // An error inside the prelude is an error of the call that led there.
        let place = error.span().map(span_of).filter(known).or_else(|| places.find(known));
        let mut finding = match (wrong_argument(message), &place) {
            (Some(wrong), Some(call)) => {
                Finding::error(format!("`{}` must be `{}`", wrong.parameter, wrong.expected)).at(
                    &self.argument_value(call, wrong.parameter),
                    format!("this is `{}`", wrong.actual.replace("NoneType", "None")),
                )
            }
            (_, Some(place)) => Finding::error(lower_first(message)).at(place, ""),
            (_, None) => Finding::error(lower_first(message)),
        };
        for line in lines.map(str::trim).filter(|line| !line.is_empty()) {
            finding = match line.strip_prefix("help: ") {
                Some(help) => finding.help(help),
                None => finding.note(line),
            };
        }
        let primary = place;
        for frame in error.call_stack().frames.iter().rev() {
            let Some(place) = frame.location.as_ref().map(span_of) else { continue };
            if Some(&place) != primary.as_ref() && self.sources.0.contains_key(&place.file) {
                finding = finding.and_at(&place, format!("in the call of `{}`", frame.name));
            }
        }
        if let Some(suggestion) = suggestion {
            finding = finding.help(format!("did you mean {suggestion}?"));
        }
        if let Some((place, text)) = context {
            finding =
                if finding.primary.is_some() { finding.and_at(place, text) } else { finding.at(place, text) };
        }
        self.report(finding);
    }
}

/// A place of the language as a place of ours.
pub(super) fn span_of(place: &FileSpan) -> Span {
    let (start, end) = range(place.span);
    Span { file: SourcePath(place.filename().to_owned()), start, end }
}

/// The language's words in ours, where it speaks of what is not seen from outside.
fn in_our_words(text: String) -> String {
    // What a module says with `fail()` is its own.
    match text.strip_prefix("fail: ") {
        Some(said) => said.to_owned(),
        None => limits::in_our_words(text).replace(&format!("`{PRELUDE}."), "`"),
    }
}

/// An argument of another type than its parameter.
struct WrongArgument<'a> {
    parameter: &'a str,
    expected: &'a str,
    actual: &'a str,
}

/// Takes ``Type of parameter `hosts` doesn't match, expected `list`, actual `int (repr: 1)` `` apart.
fn wrong_argument(text: &str) -> Option<WrongArgument<'_>> {
    let (parameter, rest) =
        text.strip_prefix("Type of parameter `")?.split_once("` doesn't match, expected `")?;
    let (expected, rest) = rest.split_once("`, actual `")?;
    let (actual, _) = rest.split_once(" (repr:")?;
    Some(WrongArgument { parameter, expected, actual })
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    // `Variable x not found` reads on after `error:`; `PostgresInfo …` is a name and stays.
    let second_is_lower = chars.clone().next().is_some_and(char::is_lowercase);
    let word_end = text.find(' ').unwrap_or(text.len());
    if second_is_lower && !text[1..word_end].chars().any(char::is_uppercase) {
        first.to_lowercase().chain(chars).collect()
    } else {
        text.to_owned()
    }
}
