//! What `module()` was given fits together, so that a module's own mistake is told where the module stands, not where it is used.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use starlark::values::Value;
use starlark::values::dict::DictRef;

use super::super::service::EVERY_SERVICE;
use super::{OPTION, field};

/// What `module()` was given.
pub(super) struct Shape<'s, 'v> {
    pub(super) build: Value<'v>,
    pub(super) finish: Value<'v>,
    pub(super) options: &'s DictRef<'v>,
    /// `requires` and `wants`.
    pub(super) facts: [&'s DictRef<'v>; 2],
    pub(super) provides: &'s [Value<'v>],
    pub(super) contributes: &'s [Value<'v>],
    pub(super) collects: &'s DictRef<'v>,
    pub(super) observes: &'s DictRef<'v>,
}

/// Nouns that a service can leave to another one, which collects them.
const COLLECTED: [&str; 1] = ["site"];
/// Nouns that a service can look at.
const OBSERVED: [&str; 2] = ["site", "state"];

/// Says the first thing that is wrong.
pub(super) fn check(shape: &Shape<'_, '_>) -> anyhow::Result<()> {
    for (name, option) in shape.options.iter() {
        let name = parameter("options", name)?;
        if EVERY_SERVICE.contains(&name) {
            anyhow::bail!("every service has the option `{name}` already; give this one another name");
        }
        if field(option, OPTION).is_none() {
            anyhow::bail!(
                "the option `{name}` must be declared by `option(TYPE, doc = …)`, not {}",
                option.get_type()
            );
        }
    }
    let mut parameters = Vec::new();
    for (what, facts) in ["requires", "wants"].into_iter().zip(shape.facts) {
        for (name, fact) in facts.iter() {
            let name = parameter(what, name)?;
            if parameters.contains(&name) {
                anyhow::bail!("the fact `{name}` is both in `requires` and in `wants`");
            }
            if !is_record_type(fact) {
                anyhow::bail!("the fact `{name}` must be a record type, not {}", fact.get_type());
            }
            parameters.push(name);
        }
    }
    if let Some(wrong) = shape.provides.iter().find(|fact| !is_record_type(**fact)) {
        anyhow::bail!("`provides` must list record types, not {}", wrong.get_type());
    }
    callable("build", shape.build, &parameters)?;
    if let Some(wrong) = shape.contributes.iter().find(|kind| !is_kind(**kind, &COLLECTED)) {
        anyhow::bail!("`contributes` must list record types or \"site\", not {wrong}");
    }
    let facts = parameters.len();
    for (what, kinds, nouns) in
        [("collect", shape.collects, COLLECTED.as_slice()), ("observe", shape.observes, &OBSERVED)]
    {
        for (name, kind) in kinds.iter() {
            let name = parameter(&format!("{what}s"), name)?;
            if !is_kind(kind, nouns) {
                let nouns: Vec<String> = nouns.iter().map(|noun| format!("\"{noun}\"")).collect();
                anyhow::bail!("`{name}` can {what} a record type or {}, not {kind}", nouns.join(" or "));
            }
            if parameters.contains(&name) {
                anyhow::bail!("`{name}` is both a collection and another parameter");
            }
            parameters.push(name);
        }
    }
    if !shape.finish.is_none() {
        callable("finish", shape.finish, &parameters)
    } else if parameters.len() == facts {
        Ok(())
    } else {
        anyhow::bail!("what a module collects or observes is given to its `finish`, and this one has none")
    }
}

/// A record type, or one of these nouns.
fn is_kind(value: Value<'_>, nouns: &[&str]) -> bool {
    is_record_type(value) || value.unpack_str().is_some_and(|name| nouns.contains(&name))
}

/// A key that becomes the name of an argument.
fn parameter<'v>(what: &str, name: Value<'v>) -> anyhow::Result<&'v str> {
    let identifier = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let text = name.unpack_str().filter(|text| identifier(text));
    text.ok_or_else(|| anyhow::anyhow!("the keys of `{what}` must be names, and {name} is none"))
}

/// `ctx` comes first, the rest by name.
fn callable(what: &str, function: Value<'_>, parameters: &[&str]) -> anyhow::Result<()> {
    let Some(spec) = function.parameters_spec() else {
        anyhow::bail!("`{what}` must be a function of the module, not {}", function.get_type());
    };
    if spec.can_fill_with_args(1, parameters) {
        return Ok(());
    }
    let given: Vec<&str> = std::iter::once("ctx").chain(parameters.iter().copied()).collect();
    let takes = match spec.parameters_str() {
        none if none.is_empty() => "nothing".to_owned(),
        some => format!("`{some}`"),
    };
    anyhow::bail!("`{what}` is given `{}`, and its function takes {takes}", given.join(", "))
}

/// A record type has no other mark that can be seen from here: to the language it is a function.
fn is_record_type(value: Value<'_>) -> bool {
    value.get_type() == "function" && value.to_string().starts_with("record(")
}
