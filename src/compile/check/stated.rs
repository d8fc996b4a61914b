//! A noun with the service that stated it, and how findings about it are begun.

use super::super::finding::Finding;
use super::super::item::{Item, Service};
use super::super::source::Span;
use crate::bundle::names::Label;

/// An item and its service.
#[derive(Clone, Copy)]
pub(super) struct Stated<'a> {
    pub(super) service: &'a Service,
    pub(super) item: &'a Item,
}

impl<'a> Stated<'a> {
    /// The place of the first of these words that has one, or of the whole call.
    pub(super) fn place(&self, words: &[&str]) -> &'a Span {
        words.iter().find_map(|word| self.item.places.get(*word)).unwrap_or(&self.item.span)
    }

    /// An error at one of these words.
    pub(super) fn error(&self, words: &[&str], message: impl Into<String>, label: &str) -> Finding {
        self.locate(Finding::error(message), self.place(words), label)
    }

    /// A warning at one of these words.
    pub(super) fn warning(&self, words: &[&str], message: impl Into<String>, label: &str) -> Finding {
        self.locate(Finding::warning(message), self.place(words), label)
    }

    /// Places a finding, and says who asked for the item if that is in another file.
    pub(super) fn locate(&self, finding: Finding, span: &Span, label: &str) -> Finding {
        self.asked(finding.at(span, label), span)
    }

    fn asked(&self, finding: Finding, beside: &Span) -> Finding {
        if self.service.span.file == beside.file {
            return finding;
        }
        and_once(finding, &self.service.span, format!("asked for by `{}` here", self.service.name))
    }

    /// An error about two statements that cannot both be: `self` is the later one.
    pub(super) fn conflict(&self, first: Self, words: &[&str], message: impl Into<String>) -> Finding {
        let (place, earlier) = (self.place(words), first.place(words));
        let by = |service: &Service| format!("by `{}`", service.name);
        let finding = Finding::error(message).at(place, by(self.service));
        let finding = and_once(finding, earlier, format!("first {}", by(first.service)));
        first.asked(self.asked(finding, place), earlier)
    }

    /// The service's name, if it is one; if not, that is said elsewhere.
    pub(super) fn label(&self) -> Option<Label> {
        self.service.name.parse().ok()
    }
}

/// Adds a label unless the finding has one at that place already.
pub(super) fn and_once(finding: Finding, span: &Span, text: String) -> Finding {
    let taken = finding.primary.iter().chain(&finding.secondary).any(|label| label.span == *span);
    if taken { finding } else { finding.and_at(span, text) }
}

/// Adds a sentence of help if there is one.
pub(super) fn help(finding: Finding, help: Option<String>) -> Finding {
    match help {
        Some(help) => finding.help(help),
        None => finding,
    }
}
