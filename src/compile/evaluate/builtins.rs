//! The built-in functions of the language, and how their values are read back.
//!
//! A constructor checks its arguments' types and gives a struct that holds the noun, as JSON, and the place of the call. It changes
//! nothing: a noun takes part only if a module's `build` or `finish` returns it.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod builds;
mod findings;
mod images;
mod nouns;
mod probes;
mod shape;
mod sites;
mod structure;
mod texts;

use std::path::Path;

use starlark::environment::{Globals, GlobalsBuilder, LibraryExtension};
use starlark::eval::Evaluator;
use starlark::values::Value;
use starlark::values::structs::{AllocStruct, StructRef};

use super::session::span_of;
use crate::compile::finding::Finding;
use crate::compile::item::Noun;
use crate::compile::source::Span;

/// What the prelude is called in errors. No path of the source: those end in `.star`.
pub(super) const PRELUDE: &str = "prelude";
/// The field of a noun's struct that holds the noun itself.
pub(super) const NOUN: &str = "_noun";
/// The field of a noun, module or service that holds its place.
pub(super) const AT: &str = "_at";
/// The field of what a layer's constructor gave that holds the piece itself.
pub(super) const PIECE: &str = "_piece";
/// The field of a finding that a module made.
pub(super) const FINDING: &str = "_finding";
/// The module variable that holds the environment.
pub(super) const ENVIRONMENT: &str = "_environment";
/// The module variable that holds the name of the service that is being built.
pub(super) const CURRENT: &str = "_current_service";
/// The module variable that lists the modules that a file defines.
pub(super) const DEFINITIONS: &str = "_definitions";
/// The field by which a module's definition is known.
pub(super) const DEFINITION: &str = "_module";
/// The field by which an option is known: its type.
pub(super) const OPTION: &str = "_option";
/// The field by which a service is known: its module's definition.
pub(super) const SERVICE: &str = "_service";

/// Everything that a file can use without loading it.
pub(super) fn globals() -> Globals {
    let library = [
        LibraryExtension::StructType,
        LibraryExtension::RecordType,
        LibraryExtension::EnumType,
        LibraryExtension::Typing,
        LibraryExtension::Partial,
        LibraryExtension::Map,
        LibraryExtension::Filter,
        LibraryExtension::Json,
    ];
    GlobalsBuilder::extended_by(&library)
        .with(structure::structure)
        .with(nouns::nouns)
        .with(images::images)
        .with(builds::builds)
        .with(probes::probes)
        .with(sites::sites)
        .with(texts::texts)
        .with(findings::findings)
        .build()
}

type Made<'v> = anyhow::Result<Value<'v>>;

/// The place where a file of the source called, directly or by way of the prelude.
///
/// The whole stack is looked at: how many frames lie between, and whether a function of the prelude has one of its own or was
/// inlined, is the optimiser's choice.
fn place(eval: &Evaluator<'_, '_, '_>) -> anyhow::Result<Span> {
    let stack = eval.call_stack();
    let mut places = stack.frames.iter().rev().filter_map(|frame| frame.location.as_ref()).map(span_of);
    // The language's own functions stand in the stack too, and so does the prelude: neither is a file of the source.
    let of_the_source =
        |place: &Span| Path::new(&place.file.0).extension().is_some_and(|kind| kind == "star");
    places.find(of_the_source).ok_or_else(|| anyhow::anyhow!("called from nowhere"))
}

fn place_value<'v>(eval: &Evaluator<'v, '_, '_>) -> Made<'v> {
    Ok(eval.heap().alloc(serde_json::to_string(&place(eval)?)?))
}

/// Gives a noun as a value; `shown` are the fields that modules may read.
fn made<'v>(eval: &mut Evaluator<'v, '_, '_>, noun: &Noun, shown: &[(&'static str, Value<'v>)]) -> Made<'v> {
    let heap = eval.heap();
    let mut fields = vec![(NOUN, heap.alloc(serde_json::to_string(noun)?)), (AT, place_value(eval)?)];
    fields.extend_from_slice(shown);
    Ok(heap.alloc(AllocStruct(fields)))
}

/// The finding that `error()` or `warning()` gave, if this is one.
pub(super) fn finding_of(value: Value<'_>) -> Option<Finding> {
    serde_json::from_str(field(value, FINDING)?.unpack_str()?).ok()
}

/// The noun that a constructor gave, if this is one.
pub(super) fn noun_of(value: Value<'_>) -> Option<Noun> {
    serde_json::from_str(field(value, NOUN)?.unpack_str()?).ok()
}

/// The place that a noun, module or service carries.
pub(super) fn place_of(value: Value<'_>) -> Option<Span> {
    serde_json::from_str(field(value, AT)?.unpack_str()?).ok()
}

/// A field of a struct.
pub(super) fn field<'v>(value: Value<'v>, name: &str) -> Option<Value<'v>> {
    let fields = StructRef::from_value(value)?;
    fields.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value)
}
