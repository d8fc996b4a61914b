//! What can be said to a module, and what it says to others: for the terminal and as Markdown.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use super::report::printable;

/// A module, described.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Module {
    /// The name by which it is called.
    pub name: String,
    /// Where it is loaded from, `//modules/NAME`.
    pub path: String,
    /// What it is, in a sentence or two.
    pub doc: String,
    /// More about it, in Markdown; may be empty.
    pub description: String,
    /// What it can be told.
    pub options: Vec<Opt>,
    /// Facts that it cannot do without.
    pub requires: Vec<Use>,
    /// Facts that it takes if there are any.
    pub wants: Vec<Use>,
    /// Facts that it gives.
    pub provides: Vec<Kind>,
    /// What it leaves to other services.
    pub contributes: Vec<Kind>,
    /// What other services leave to it.
    pub collects: Vec<Use>,
    /// What it looks at, whoever collects it.
    pub observes: Vec<Use>,
}

/// An option.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opt {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its default as it would be written; without one it must be given.
    pub default: Option<String>,
    /// What it means.
    pub doc: String,
}

/// A fact or collection under the name of the parameter that takes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Use {
    /// The parameter.
    pub name: String,
    /// What arrives.
    pub kind: Kind,
}

/// What passes between services.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A noun of the language, `site`.
    Noun(String),
    /// A record of some module.
    Record(Record),
}

/// A record type.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// Where it is loaded from.
    pub path: String,
    /// What it is.
    pub doc: String,
    /// Its fields, in the order of the source.
    pub fields: Vec<RecordField>,
}

/// A field of a record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RecordField {
    /// Its name.
    pub name: String,
    /// Its type, as the source has it.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it means.
    pub doc: String,
}

impl Kind {
    fn name(&self) -> &str {
        match self {
            Self::Noun(name) => name,
            Self::Record(record) => &record.name,
        }
    }
}

/// What passes, with the parameter that it arrives under.
type Exchange<'a> = (Option<&'a str>, &'a Kind);

fn used(uses: &[Use]) -> Vec<Exchange<'_>> {
    uses.iter().map(|used| (Some(used.name.as_str()), &used.kind)).collect()
}

fn given(kinds: &[Kind]) -> Vec<Exchange<'_>> {
    kinds.iter().map(|kind| (None, kind)).collect()
}

/// The sections about what passes between services, without those that are empty.
fn exchanges(module: &Module) -> Vec<(&'static str, Vec<Exchange<'_>>)> {
    let all = [
        ("Needs", used(&module.requires)),
        ("Takes if there", used(&module.wants)),
        ("Gives", given(&module.provides)),
        ("Leaves to others", given(&module.contributes)),
        ("Collects", used(&module.collects)),
        ("Looks at", used(&module.observes)),
    ];
    all.into_iter().filter(|(_, kinds)| !kinds.is_empty()).collect()
}

/// For a terminal.
pub fn text(module: &Module) -> String {
    let mut out = format!("{} (load(\"{}\", \"{}\"))\n", module.name, module.path, module.name);
    paragraph(&mut out, "    ", &module.doc);
    if !module.description.is_empty() {
        out.push('\n');
    }
    // As it was written: lists and commands are in it.
    for described in module.description.lines() {
        line(&mut out, format_args!("{}", format!("    {described}").trim_end()));
    }
    if !module.options.is_empty() {
        out.push_str("\nOptions\n");
    }
    for option in &module.options {
        let default = option
            .default
            .as_ref()
            .map_or_else(|| "  (must be given)".to_owned(), |default| format!(" = {default}"));
        line(&mut out, format_args!("    {}: {}{default}", option.name, option.kind));
        paragraph(&mut out, "        ", &option.doc);
    }
    for (title, kinds) in exchanges(module) {
        line(&mut out, format_args!("\n{title}"));
        for (parameter, kind) in kinds {
            let parameter = parameter.map(|name| format!("{name}: ")).unwrap_or_default();
            line(&mut out, format_args!("    {parameter}{}", kind.name()));
            let Kind::Record(record) = kind else { continue };
            paragraph(&mut out, "        ", &record.doc);
            for field in &record.fields {
                let doc = if field.doc.is_empty() { String::new() } else { format!(" -- {}", field.doc) };
                line(&mut out, format_args!("        {}: {}{doc}", field.name, field.kind));
            }
        }
    }
    // A module may be anybody's.
    printable(&out)
}

/// As Markdown, the way `docs/modules/` holds it.
pub fn markdown(module: &Module) -> String {
    let mut out = format!("# `{}`\n\n{}\n", module.name, module.doc);
    line(&mut out, format_args!("\n```python\nload(\"{}\", \"{}\")\n```", module.path, module.name));
    if !module.description.is_empty() {
        line(&mut out, format_args!("\n{}", module.description));
    }
    if !module.options.is_empty() {
        out.push_str("\n## Options\n\n| option | type | default | meaning |\n|---|---|---|---|\n");
    }
    for option in &module.options {
        let default = option
            .default
            .as_ref()
            .map_or_else(|| "must be given".to_owned(), |default| format!("`{}`", cell(default)));
        let (name, kind, doc) = (&option.name, cell(&option.kind), cell(&option.doc));
        line(&mut out, format_args!("| `{name}` | `{kind}` | {default} | {doc} |"));
    }
    out.push_str("\nEvery service also takes `name` and `uses`.\n");
    for (title, kinds) in exchanges(module) {
        line(&mut out, format_args!("\n## {title}"));
        for (parameter, kind) in kinds {
            let parameter = parameter.map(|name| format!(" as `{name}`")).unwrap_or_default();
            let Kind::Record(record) = kind else {
                line(&mut out, format_args!("\n`{}`{parameter}: a noun of the language.", kind.name()));
                continue;
            };
            let from = if record.path.is_empty() || record.path == module.path {
                String::new()
            } else {
                format!(", from `{}`", record.path)
            };
            line(&mut out, format_args!("\n`{}`{parameter}{from}. {}\n", record.name, record.doc));
            out.push_str("| field | type | meaning |\n|---|---|---|\n");
            for field in &record.fields {
                let (name, kind, doc) = (&field.name, cell(&field.kind), cell(&field.doc));
                line(&mut out, format_args!("| `{name}` | `{kind}` | {doc} |"));
            }
        }
    }
    out.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n"
}

/// A text that cannot end the cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Adds a line.
fn line(out: &mut String, text: fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _ = writeln!(out, "{text}");
}

/// Adds a text, folded so that it can be read.
fn paragraph(out: &mut String, indent: &str, text: &str) {
    const WIDTH: usize = 100;
    let mut current = String::new();
    for word in text.split_whitespace() {
        if !current.is_empty() && indent.len() + current.chars().count() + 1 + word.chars().count() > WIDTH {
            line(out, format_args!("{indent}{current}"));
            current.clear();
        }
        if !current.is_empty() {
            current.push(' ');
        }
        current.push_str(word);
    }
    if !current.is_empty() {
        line(out, format_args!("{indent}{current}"));
    }
}
