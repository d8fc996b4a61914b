//! Findings → text for people, in the look of rustc, or JSON for tools. The only place that draws a finding.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use annotate_snippets::{
    Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str,
};
use serde::Serialize;

use super::finding::{Finding, Label, Severity};
use super::source::{SourcePath, Sources, Span};

/// All findings with excerpts, sorted by place, and a last line that counts them; empty if there are none.
pub fn render(findings: &[Finding], sources: &Sources, colour: bool) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let mut text = String::new();
    for finding in sorted(findings) {
        text.push_str(&renderer.render(&[drawn(finding, sources)]));
        text.push_str("\n\n");
    }
    text.push_str(&renderer.render(&[Group::with_title(summary(findings))]));
    text.push('\n');
    text
}

/// All findings as JSON, one object a line, in the order of [`render`].
pub fn json(findings: &[Finding], sources: &Sources) -> String {
    let line = |finding| serde_json::to_string(&Json::of(finding, sources)).unwrap_or_default() + "\n";
    sorted(findings).into_iter().map(line).collect()
}

/// By file and place, those without a place first; what is said twice is said once.
fn sorted(findings: &[Finding]) -> Vec<&Finding> {
    let mut sorted: Vec<_> = findings.iter().collect();
    sorted.sort_by_key(|finding| (&finding.primary, finding.severity, &finding.message));
    sorted.dedup();
    sorted
}

fn level(severity: Severity) -> Level<'static> {
    match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    }
}

fn summary(findings: &[Finding]) -> annotate_snippets::Title<'static> {
    let count = |severity, noun: &str| {
        let number = sorted(findings).iter().filter(|finding| finding.severity == severity).count();
        (number > 0).then(|| format!("{number} {noun}{}", if number == 1 { "" } else { "s" }))
    };
    let errors = count(Severity::Error, "error");
    let failed = errors.is_some();
    let counts: Vec<_> = errors.into_iter().chain(count(Severity::Warning, "warning")).collect();
    if failed {
        Level::ERROR.primary_title(format!("{}; nothing was written", counts.join(", ")))
    } else {
        Level::WARNING.primary_title(counts.join(", "))
    }
}

fn drawn<'a>(finding: &'a Finding, sources: &'a Sources) -> Group<'a> {
    let mut group = Group::with_title(level(finding.severity).primary_title(finding.message.as_str()));
    for (file, labels) in by_file(finding) {
        group = match sources.0.get(file) {
            Some(text) => group.element(excerpt(file, text, &labels)),
            None => group.element(Origin::path(file.0.as_str())),
        };
    }
    let notes = finding.notes.iter().map(|note| Level::NOTE.message(normalize_untrusted_str(note)));
    let help = finding.help.iter().map(|help| Level::HELP.message(normalize_untrusted_str(help)));
    group.elements(notes.chain(help))
}

type Marked<'a> = (AnnotationKind, &'a Label);

/// The labels of each file, the file of the primary label first, then in the order of the labels.
fn by_file(finding: &Finding) -> Vec<(&SourcePath, Vec<Marked<'_>>)> {
    let primary = finding.primary.iter().map(|label| (AnnotationKind::Primary, label));
    let secondary = finding.secondary.iter().map(|label| (AnnotationKind::Context, label));
    let mut files: Vec<(&SourcePath, Vec<Marked<'_>>)> = Vec::new();
    for (kind, label) in primary.chain(secondary) {
        match files.iter_mut().find(|(file, _)| **file == label.span.file) {
            Some((_, labels)) => labels.push((kind, label)),
            None => files.push((&label.span.file, vec![(kind, label)])),
        }
    }
    files
}

fn excerpt<'a>(file: &'a SourcePath, text: &'a str, labels: &[Marked<'a>]) -> Snippet<'a, Annotation<'a>> {
    let annotations = labels.iter().map(|(kind, label)| {
        let annotation = kind.span(first_line(text, &label.span));
        let words = (!label.text.is_empty()).then(|| normalize_untrusted_str(&label.text));
        annotation.label(words)
    });
    Snippet::source(text).path(file.0.as_str()).annotations(annotations)
}

/// The part of a span in its first line, on the bounds of characters: a bracket along a whole call hides more than it shows.
fn first_line(text: &str, span: &Span) -> std::ops::Range<usize> {
    let start = text.floor_char_boundary(span.start);
    let end = text.ceil_char_boundary(span.end.max(start));
    let cut = text[start..end].find('\n').map_or(end, |newline| start + newline);
    start..cut
}

/// What a tool reads. Fields are only ever added.
#[derive(Serialize)]
struct Json<'a> {
    severity: Severity,
    message: &'a str,
    #[serde(flatten)]
    place: Option<JsonPlace<'a>>,
    secondary: Vec<JsonPlace<'a>>,
    notes: &'a [String],
    help: &'a [String],
}

#[derive(Serialize)]
struct JsonPlace<'a> {
    file: &'a SourcePath,
    line: usize,
    column: usize,
    end_line: usize,
    end_column: usize,
    label: &'a str,
}

impl<'a> Json<'a> {
    fn of(finding: &'a Finding, sources: &Sources) -> Self {
        Self {
            severity: finding.severity,
            message: &finding.message,
            place: finding.primary.as_ref().map(|label| JsonPlace::of(label, sources)),
            secondary: finding.secondary.iter().map(|label| JsonPlace::of(label, sources)).collect(),
            notes: &finding.notes,
            help: &finding.help,
        }
    }
}

impl<'a> JsonPlace<'a> {
    fn of(label: &'a Label, sources: &Sources) -> Self {
        let Span { file, start, end } = &label.span;
        let (line, column) = sources.position(file, *start);
        let (end_line, end_column) = sources.position(file, *end);
        Self { file, line, column, end_line, end_column, label: &label.text }
    }
}

/// The text without control characters: a file must not be able to move the cursor of who looks at it.
pub(super) fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn sources() -> Sources {
        Sources(BTreeMap::from([
            (SourcePath("env.star".into()), "host(\n    port = 443,\n    ünit(\n    ),\n)\n".into()),
            (SourcePath("lib.star".into()), "port(443)\n".into()),
        ]))
    }

    fn span(file: &str, start: usize, end: usize) -> Span {
        Span { file: SourcePath(file.into()), start, end }
    }

    fn findings() -> Vec<Finding> {
        vec![
            Finding::warning("this is odd").at(&span("lib.star", 0, 9), ""),
            Finding::error("two services claim port 443")
                .at(&span("env.star", 17, 20), "claimed again here")
                .and_at(&span("lib.star", 5, 8), "first claimed here")
                .and_at(&span("env.star", 0, 4), "on this host")
                .note("`admin` listens on all addresses")
                .help("give one another port"),
            Finding::error("a call of many lines").at(&span("env.star", 26, 40), "from here"),
            Finding::error("nowhere\u{1b}[31m"),
            Finding::error("nowhere\u{1b}[31m"),
        ]
    }

    #[test]
    fn people_see_every_place_in_order_and_a_count() {
        let seen = render(&findings(), &sources(), false);
        assert_eq!(
            seen,
            "\
error: nowhere␛[31m

error: two services claim port 443
 --> env.star:2:12
  |
1 | host(
  | ---- on this host
2 |     port = 443,
  |            ^^^ claimed again here
  |
 ::: lib.star:1:6
  |
1 | port(443)
  |      --- first claimed here
  |
  = note: `admin` listens on all addresses
  = help: give one another port

error: a call of many lines
 --> env.star:3:5
  |
3 |     ünit(
  |     ^^^^^ from here

warning: this is odd
 --> lib.star:1:1
  |
1 | port(443)
  | ^^^^^^^^^

error: 3 errors, 1 warning; nothing was written
"
        );
    }

    #[test]
    fn nothing_found_is_nothing_said() {
        assert_eq!(render(&[], &sources(), true), "");
        let warning = [Finding::warning("this is odd")];
        assert_eq!(render(&warning, &sources(), false), "warning: this is odd\n\nwarning: 1 warning\n");
    }

    #[test]
    fn places_outside_of_a_text_do_not_panic() {
        for span in [span("env.star", 27, 27), span("env.star", 999, 1000), span("gone.star", 3, 4)] {
            let findings = [Finding::error("x").at(&span, "y")];
            assert!(render(&findings, &sources(), false).contains(&span.file.0));
            assert!(json(&findings, &sources()).contains("\"line\""));
        }
    }

    #[test]
    fn tools_get_one_object_a_line() {
        let seen = json(&findings(), &sources());
        let lines: Vec<_> = seen.lines().collect();
        assert_eq!(lines.len(), 4);
        assert_eq!(
            lines[1],
            r#"{"severity":"error","message":"two services claim port 443","file":"env.star","line":2,"column":12,"end_line":2,"end_column":15,"label":"claimed again here","secondary":[{"file":"lib.star","line":1,"column":6,"end_line":1,"end_column":9,"label":"first claimed here"},{"file":"env.star","line":1,"column":1,"end_line":1,"end_column":5,"label":"on this host"}],"notes":["`admin` listens on all addresses"],"help":["give one another port"]}"#
        );
    }
}
