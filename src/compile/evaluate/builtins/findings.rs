//! What a module finds wrong with what it was asked for.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
// The signatures are those of the language, and the macro passes every argument by value and wants a result of each.
#![allow(clippy::too_many_arguments, clippy::needless_pass_by_value, clippy::unnecessary_wraps)]

use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::Value;
use starlark::values::none::NoneOr;
use starlark::values::structs::AllocStruct;

use super::{FINDING, Made, place_of};
use crate::compile::finding::Finding;

/// Findings of a module's own: returned from `build` or `finish` like a noun.
#[starlark_module]
pub(super) fn findings(builder: &mut GlobalsBuilder) {
    /// Something that is wrong with what was asked for. `at` is the noun that it is about.
    fn error<'v>(
        #[starlark(require = pos)] message: &str,
        #[starlark(require = named, default = NoneOr::None)] at: NoneOr<Value<'v>>,
        #[starlark(require = named, default = NoneOr::None)] help: NoneOr<&str>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        finding(eval, Finding::error(message), at, help)
    }

    /// Something that a person should look at. `at` is the noun that it is about.
    fn warning<'v>(
        #[starlark(require = pos)] message: &str,
        #[starlark(require = named, default = NoneOr::None)] at: NoneOr<Value<'v>>,
        #[starlark(require = named, default = NoneOr::None)] help: NoneOr<&str>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        finding(eval, Finding::warning(message), at, help)
    }
}

fn finding<'v>(
    eval: &mut Evaluator<'v, '_, '_>,
    finding: Finding,
    at: NoneOr<Value<'v>>,
    help: NoneOr<&str>,
) -> Made<'v> {
    // Without a noun it is about the service, and where the module says so helps nobody.
    let mut finding = match at.into_option().and_then(place_of) {
        Some(place) => finding.at(&place, ""),
        None => finding,
    };
    if let NoneOr::Other(help) = help {
        finding = finding.help(help);
    }
    let json = eval.heap().alloc(serde_json::to_string(&finding)?);
    Ok(eval.heap().alloc(AllocStruct([(FINDING, json)])))
}
