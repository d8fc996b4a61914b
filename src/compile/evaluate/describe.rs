//! A module as its file states it: what it can be told, what it needs, and what it gives.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use starlark::values::list::ListRef;
use starlark::values::{Heap, Value};

use super::builtins::{DEFINITIONS, OPTION, field};
use super::load;
use super::service::Definition;
use super::session::Session;
use super::tree::Refusal;
use super::wire::type_name;
use crate::compile::finding::Finding;
use crate::compile::options::{Kind, Module, Opt, Record, RecordField, Use};
use crate::compile::similar::closest;
use crate::compile::source::{SourcePath, Span};

/// Describes the modules of one file: `postgresql` is that of `//modules/postgresql`, `//x/y` that of another folder.
pub(super) fn describe(session: &mut Session, written: &str) -> Option<Vec<Module>> {
    let path = path_of(session, written)?;
    let module = session.load_module(&path)?;
    let Some(definitions) = module.get_any_visibility(DEFINITIONS).ok().map(|(value, _)| value) else {
        session.report(
            Finding::error(format!("`{path}` defines no module"))
                .at(&Span::start_of(&path), "")
                .help("what it holds is for other modules to load, so read it; or give it one: `NAME = module(doc = …, build = …)`"),
        );
        return None;
    };
    Heap::temp(|heap| {
        let list = ListRef::from_value(heap.access_owned_frozen_value(&definitions))?;
        let definitions: Vec<_> =
            list.iter().filter_map(|definition| Definition::of(session, definition)).collect();
        Some(definitions.iter().map(|definition| one(session, heap, &path, definition)).collect())
    })
}

/// The file that is meant; one that does not exist is explained.
fn path_of(session: &mut Session, written: &str) -> Option<SourcePath> {
    let spelling =
        if written.starts_with("//") { written.to_owned() } else { format!("//modules/{written}") };
    let shown = written.escape_debug();
    let path = match load::module_path(&SourcePath(String::new()), &spelling) {
        Ok(path) => path,
        Err(why) => {
            session.report(Finding::error(format!("`{shown}` is no module")).note(why));
            return None;
        }
    };
    if let Err(Refusal::Missing(missing, beside)) = session.tree.read(&path) {
        let mut finding = Finding::error(format!("there is no module `{shown}`"))
            .note(format!("it would be the file `{path}` below the source root"));
        if let Some(close) = closest(&missing, beside.iter().map(String::as_str)) {
            finding = finding.help(format!("did you mean `{close}`?"));
        } else if !written.starts_with("//") && !beside.is_empty() {
            finding = finding.help(format!("choose one of: {}", beside.join(", ")));
        }
        session.report(finding);
        return None;
    }
    Some(path)
}

fn one<'v>(session: &Session, heap: Heap<'v>, path: &SourcePath, definition: &Definition<'v>) -> Module {
    let kinds = |values: &[Value<'v>]| values.iter().map(|value| kind(session, heap, *value)).collect();
    let uses = |entries: &[(String, Value<'v>)]| {
        let each = entries.iter();
        each.map(|(name, value)| Use { name: name.clone(), kind: kind(session, heap, *value) }).collect()
    };
    let text = session.sources.0.get(path).map_or("", String::as_str);
    Module {
        name: definition.name.clone(),
        path: spelling(path),
        doc: definition.doc.clone(),
        description: docstring_body(text),
        options: definition.options.iter().map(|(name, value)| option(heap, name, *value)).collect(),
        requires: uses(&definition.requires),
        wants: uses(&definition.wants),
        provides: kinds(&definition.provides),
        contributes: kinds(&definition.contributes),
        collects: uses(&definition.collects),
        observes: uses(&definition.observes),
    }
}

fn option<'v>(heap: Heap<'v>, name: &str, value: Value<'v>) -> Opt {
    let kind = field(value, OPTION).map_or_else(String::new, |kind| type_name(heap, kind));
    Opt {
        name: name.to_owned(),
        kind,
        default: field(value, "default").map(Value::to_repr),
        doc: field(value, "doc").and_then(Value::unpack_str).unwrap_or_default().to_owned(),
    }
}

/// A noun by its name, or a record with where it is defined and what stands above its fields.
fn kind<'v>(session: &Session, heap: Heap<'v>, value: Value<'v>) -> Kind {
    if let Some(noun) = value.unpack_str() {
        return Kind::Noun(noun.to_owned());
    }
    let name = type_name(heap, value);
    let defined = session.modules.iter().find_map(|(path, module)| {
        let same =
            module.as_ref()?.get_any_visibility(&name).is_ok_and(|(found, _)| found.value().ptr_eq(value));
        let (start, call) = session.indexes.get(path)?.assigned(&name).filter(|_| same)?;
        Some((path, start, call))
    });
    let Some((path, start, call)) = defined else {
        return Kind::Record(Record { name, path: String::new(), doc: String::new(), fields: Vec::new() });
    };
    let text = session.sources.0.get(path).map_or("", String::as_str);
    let mut named: Vec<_> = call.named.iter().collect();
    named.sort_by_key(|(_, (name, _))| name.0);
    let fields = named.into_iter().map(|(name, (at, value))| {
        let kind = text.get(value.0..value.1).unwrap_or_default().to_owned();
        // What stands above a record that is written on one line is about the record.
        let own_line = text.get(start..at.0).is_some_and(|between| between.contains('\n'));
        let doc = if own_line { comment_above(text, at.0) } else { String::new() };
        RecordField { name: name.clone(), kind, doc }
    });
    let fields = fields.collect();
    Kind::Record(Record { name, path: spelling(path), doc: comment_above(text, start), fields })
}

/// How a file is named in `load`: `//modules/x` for `modules/x/x.star`, else its whole path.
fn spelling(path: &SourcePath) -> String {
    let whole = &path.0;
    let short = whole.rsplit_once('/').filter(|(folder, file)| {
        file.strip_suffix(".star") == Some(folder.rsplit_once('/').map_or(*folder, |(_, name)| name))
    });
    format!("//{}", short.map_or(whole.as_str(), |(folder, _)| folder))
}

/// The comment lines right above the line that a place stands in, as one text.
fn comment_above(text: &str, at: usize) -> String {
    let before = text.get(..at).unwrap_or_default();
    let above = before.rsplit_once('\n').map_or("", |(above, _)| above);
    let mut lines: Vec<&str> =
        above.lines().rev().map_while(|line| line.trim_start().strip_prefix('#')).map(str::trim).collect();
    lines.reverse();
    lines.join(" ")
}

/// What a file's documentation string says after its first line.
fn docstring_body(text: &str) -> String {
    let inside = text.strip_prefix("\"\"\"").and_then(|rest| rest.split_once("\"\"\""));
    let body = inside.and_then(|(doc, _)| doc.split_once('\n')).map_or("", |(_, body)| body);
    body.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documentation_is_what_stands_above() {
        let text = "# Not this.\n\n# What a client\n# needs.\nInfo = record(\n    # The way.\n    path = str,\n    group = str,\n)\n";
        assert_eq!(comment_above(text, text.find("Info").unwrap()), "What a client needs.");
        assert_eq!(comment_above(text, text.find("path").unwrap()), "The way.");
        assert_eq!(comment_above(text, text.find("group").unwrap()), "");
        let path = |text: &str| spelling(&SourcePath(text.to_owned()));
        assert_eq!(path("modules/x/x.star"), "//modules/x");
        assert_eq!(path("x/x.star"), "//x");
        assert_eq!(path("modules/x/other.star"), "//modules/x/other.star");
        assert_eq!(docstring_body("\"\"\"One line.\"\"\"\n\nx = 1"), "");
        assert_eq!(docstring_body("\"\"\"One line.\n\nMore\nof it.\n\"\"\"\n"), "More\nof it.");
    }
}
