//! Services and the modules that they are instances of: shapes and options.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use starlark::values::dict::DictRef;
use starlark::values::list::ListRef;
use starlark::values::structs::AllocStruct;
use starlark::values::typing::TypeCompiled;
use starlark::values::{Heap, Value};

use super::super::finding::Finding;
use super::super::similar::closest;
use super::super::source::Span;
use super::builtins::{DEFINITION, OPTION, SERVICE, field, place_of};
use super::session::Session;
use crate::bundle::names::Label;

/// Option names that every service has.
pub(super) const EVERY_SERVICE: [&str; 3] = ["name", "uses", "moved_from"];

/// A module as its `module()` call stated it.
#[derive(Clone)]
pub(super) struct Definition<'v> {
    /// The variable that holds it in its file.
    pub(super) name: String,
    /// What it is.
    pub(super) doc: String,
    pub(super) span: Span,
    pub(super) build: Value<'v>,
    pub(super) finish: Value<'v>,
    pub(super) options: Vec<(String, Value<'v>)>,
    /// Facts that it cannot do without: parameter → record type.
    pub(super) requires: Vec<(String, Value<'v>)>,
    /// Facts that it takes if they are there.
    pub(super) wants: Vec<(String, Value<'v>)>,
    pub(super) provides: Vec<Value<'v>>,
    /// What it leaves to other services: record types, or names of nouns.
    pub(super) contributes: Vec<Value<'v>>,
    /// Parameter of `finish` → record type, or the name of a noun: what others leave to it.
    pub(super) collects: Vec<(String, Value<'v>)>,
    /// The same for what it only looks at, whoever collects it.
    pub(super) observes: Vec<(String, Value<'v>)>,
}

/// A service of a host.
pub(super) struct Instance<'v> {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) definition: Definition<'v>,
    /// A struct with every option.
    pub(super) options: Value<'v>,
    /// Parameter → the service to take the fact from, where more than one has it.
    pub(super) uses: BTreeMap<String, String>,
    /// The host that had it before, and where that is said.
    pub(super) moved_from: Option<(String, Span)>,
}

impl<'v> Definition<'v> {
    /// Reads what `module()` gave.
    pub(super) fn of(session: &Session, value: Value<'v>) -> Option<Self> {
        field(value, DEFINITION)?;
        let span = place_of(value)?;
        let name = session
            .call(&span)
            .and_then(|call| call.assigned_to.clone())
            .unwrap_or_else(|| "module".to_owned());
        Some(Self {
            name,
            doc: field(value, "doc")?.unpack_str()?.to_owned(),
            span,
            build: field(value, "build")?,
            finish: field(value, "finish")?,
            options: entries(field(value, "options")?),
            requires: entries(field(value, "requires")?),
            wants: entries(field(value, "wants")?),
            provides: ListRef::from_value(field(value, "provides")?)?.content().to_vec(),
            contributes: ListRef::from_value(field(value, "contributes")?)?.content().to_vec(),
            collects: entries(field(value, "collects")?),
            observes: entries(field(value, "observes")?),
        })
    }
}

impl<'v> Instance<'v> {
    /// Reads one element of `services`, which stands at `place`, and checks its options.
    pub(super) fn of(session: &mut Session, heap: Heap<'v>, place: &Span, value: Value<'v>) -> Option<Self> {
        let definition = field(value, SERVICE).and_then(|definition| Definition::of(session, definition));
        let (Some(definition), Some(span)) = (definition, place_of(value)) else {
            let finding =
                Finding::error(format!("a host's services must be services, not {}", value.get_type()))
                    .at(place, "");
            session.report(match value.get_type() {
                "function" => finding.help("call the module: `postgresql()`, not `postgresql`"),
                _ => finding.help("write calls of modules: `services = [postgresql(), …]`"),
            });
            return None;
        };
        let given: Vec<(String, Value<'v>)> = entries(field(value, "options")?);
        let name = service_name(session, &definition, &span, &given);
        let uses = uses(session, &span, &given);
        let moved_from = moved_from(session, &span, &given);
        let options = options(session, heap, &definition, &span, &given);
        Some(Self { name, span, definition, options, uses, moved_from })
    }
}

fn entries(dict: Value<'_>) -> Vec<(String, Value<'_>)> {
    let Some(dict) = DictRef::from_value(dict) else { return Vec::new() };
    dict.iter().map(|(key, value)| (key.to_str(), value)).collect()
}

fn service_name(
    session: &mut Session,
    definition: &Definition<'_>,
    span: &Span,
    given: &[(String, Value<'_>)],
) -> String {
    let place = session.argument_value(span, "name");
    let finding = match given.iter().find(|(key, _)| key == "name").map(|(_, value)| *value) {
        None => match definition.name.parse::<Label>() {
            Ok(name) => return name.to_string(),
            Err(message) => Finding::error(format!("the service's name: {message}"))
                .at(&place, "called like its module")
                .help("give it another name: `name = \"…\"`"),
        },
        Some(value) => match value.unpack_str().map(str::parse::<Label>) {
            Some(Ok(name)) => return name.to_string(),
            Some(Err(message)) => Finding::error(format!("the service's name: {message}")).at(&place, ""),
            None => Finding::error("a service's `name` must be a string")
                .at(&place, format!("this is {}", value.get_type())),
        },
    };
    session.report(finding);
    // Some name that is sound and nobody else's, so that only this one is told.
    format!("service-{}", span.start)
}

fn uses(session: &mut Session, span: &Span, given: &[(String, Value<'_>)]) -> BTreeMap<String, String> {
    let Some((_, value)) = given.iter().find(|(key, _)| key == "uses") else { return BTreeMap::new() };
    let pairs = DictRef::from_value(*value).and_then(|dict| {
        dict.iter().map(|(k, v)| Some((k.unpack_str()?.to_owned(), v.unpack_str()?.to_owned()))).collect()
    });
    pairs.unwrap_or_else(|| {
        let place = session.argument_value(span, "uses");
        session.report(
            Finding::error("`uses` must map facts to the names of services")
                .at(&place, "")
                .help("write it as in `uses = {\"pg\": \"postgresql\"}`"),
        );
        BTreeMap::new()
    })
}

/// What it is that it names is looked at by `check`.
fn moved_from(session: &mut Session, span: &Span, given: &[(String, Value<'_>)]) -> Option<(String, Span)> {
    let (_, value) = given.iter().find(|(key, _)| key == "moved_from")?;
    if value.is_none() {
        return None;
    }
    let place = session.argument_value(span, "moved_from");
    let Some(text) = value.unpack_str() else {
        session.report(
            Finding::error("`moved_from` must name a host, `ENVIRONMENT/HOST`")
                .at(&place, format!("this is {}", value.get_type())),
        );
        return None;
    };
    Some((text.to_owned(), place))
}

/// The struct of all options: what was given where it is right, else the default.
fn options<'v>(
    session: &mut Session,
    heap: Heap<'v>,
    definition: &Definition<'v>,
    span: &Span,
    given: &[(String, Value<'v>)],
) -> Value<'v> {
    unknown_options(session, definition, span, given);
    let mut values = Vec::new();
    for (name, option) in &definition.options {
        let value = given.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
        let default = field(*option, "default");
        let value = match value {
            None if default.is_none() => {
                missing_option(session, definition, span, name, *option);
                None
            }
            None => None,
            Some(value) => right_type(session, heap, definition, span, name, *option, value).then_some(value),
        };
        values.push((name.as_str(), value.or(default).unwrap_or_else(Value::new_none)));
    }
    heap.alloc(AllocStruct(values))
}

fn unknown_options(
    session: &mut Session,
    definition: &Definition<'_>,
    span: &Span,
    given: &[(String, Value<'_>)],
) {
    let known: Vec<&str> =
        definition.options.iter().map(|(name, _)| name.as_str()).chain(EVERY_SERVICE).collect();
    for (name, _) in given.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
        let place = session.argument_name(span, name);
        let mut finding =
            Finding::error(format!("`{}` has no option `{name}`", definition.name)).at(&place, "");
        finding = match closest(name, known.iter().copied()) {
            Some(close) => finding.help(format!("did you mean `{close}`?")),
            None => finding,
        };
        session.report(finding.note(format!("its options are: {}", known.join(", "))));
    }
}

fn missing_option(
    session: &mut Session,
    definition: &Definition<'_>,
    span: &Span,
    name: &str,
    option: Value<'_>,
) {
    let doc = field(option, "doc").map_or_else(String::new, Value::to_str);
    session.report(
        Finding::error(format!("`{}` needs the option `{name}`", definition.name))
            .at(span, format!("`{name}` is missing"))
            .note(format!("{name}: {doc}"))
            .help(format!("add `{name} = …`")),
    );
}

/// Whether `value` has the type of the option; a finding if not.
fn right_type<'v>(
    session: &mut Session,
    heap: Heap<'v>,
    definition: &Definition<'v>,
    span: &Span,
    name: &str,
    option: Value<'v>,
    value: Value<'v>,
) -> bool {
    // `option()` took no other than a type.
    let compiled = field(option, OPTION).and_then(|wanted| TypeCompiled::new(wanted, heap).ok());
    let Some(compiled) = compiled else { return true };
    if compiled.matches(value) {
        return true;
    }
    let place = session.argument_value(span, name);
    let doc = field(option, "doc").map_or_else(String::new, Value::to_str);
    session.report(
        Finding::error(format!("option `{name}` of `{}` must be `{}`", definition.name, compiled.as_ty()))
            .at(&place, format!("this is `{}`", value.get_type()))
            .note(format!("{name}: {doc}")),
    );
    false
}
