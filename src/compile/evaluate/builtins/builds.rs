//! Builds, and what images and builds take from elsewhere.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
// The signatures are those of the language, and the macro passes every argument by value and wants a result of each.
#![allow(clippy::too_many_arguments, clippy::needless_pass_by_value, clippy::unnecessary_wraps)]

use std::collections::BTreeMap;

use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::Value;
use starlark::values::dict::{AllocDict, DictRef};
use starlark::values::list::UnpackList;
use starlark::values::none::NoneOr;
use starlark::values::structs::AllocStruct;

use super::images::texts;
use super::nouns::{source_path, text_of};
use super::{AT, field, noun_of, place, place_of, place_value};
use crate::compile::item::{Archive, Base, BaseKind, Build, MAX_DEPTH, Noun, Source};

/// The field of an image that is no module's own, which holds it.
const BASE: &str = "_base";
/// The field of what a layer or a build can take, which holds it.
const SOURCE: &str = "_source";

type Texts = UnpackList<String>;

/// What images and builds are made of.
#[starlark_module]
pub(super) fn builds(builder: &mut GlobalsBuilder) {
    /// An image of a registry, by its whole name: `upstream("docker.io/library/debian:13")`. `rick.lock` says which one that is.
    fn upstream<'v>(
        #[starlark(require = pos)] reference: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        base(eval, BaseKind::Upstream(reference.to_owned()))
    }

    /// An image of packages of Debian, and all that they depend on. Their scripts do not run. `rick.lock` says which files these are.
    fn debian<'v>(
        #[starlark(require = pos)] release: &str,
        #[starlark(require = pos)] packages: Texts,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        base(eval, BaseKind::Debian { release: release.to_owned(), packages: packages.items })
    }

    /// A file of the network. `rick.lock` says what it holds.
    fn archive<'v>(
        #[starlark(require = pos)] url: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let span = place(eval)?;
        source(eval, &Source::Archive(Archive { url: url.to_owned(), span }))
    }

    /// What an image has at a path, a file or a tree.
    fn path_in<'v>(
        #[starlark(require = pos)] image: Value<'v>,
        #[starlark(require = pos)] path: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let base = base_of(image, "`path_in()`")?;
        source(eval, &Source::Within(Box::new(base), path.to_owned()))
    }

    /// Runs `command` in a sandbox whose file system is `root`, an image, without a network. `inputs` are a path → what stands there, read-only.
    /// What it leaves at `/out/NAME` for each name of `outputs` is `outputs[NAME]`. It runs again only when something that went in is another.
    fn build<'v>(
        #[starlark(require = pos)] name: &str,
        #[starlark(require = named)] root: Value<'v>,
        #[starlark(require = named)] command: Texts,
        #[starlark(require = named)] outputs: Texts,
        #[starlark(require = named, default = NoneOr::None)] inputs: NoneOr<DictRef<'v>>,
        #[starlark(require = named, default = NoneOr::None)] environment: NoneOr<DictRef<'v>>,
        #[starlark(require = named, default = 1)] cores: u32,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let build = Build {
            name: name.to_owned(),
            root: base_of(root, "`root`")?,
            inputs: sources(eval, inputs)?,
            command: command.items,
            environment: texts(environment, "a variable")?,
            outputs: outputs.items,
            cores,
            span: place(eval)?,
            places: BTreeMap::new(),
        };
        not_too_deep(build.depth())?;
        let output = |name: &String| {
            let output = Source::Output(Box::new(build.clone()), name.clone());
            Ok((name.clone(), source(eval, &output)?))
        };
        let outputs = build.outputs.iter().map(output).collect::<anyhow::Result<Vec<_>>>()?;
        let heap = eval.heap();
        let fields = [("name", heap.alloc(name)), ("outputs", heap.alloc(AllocDict(outputs)))];
        Ok(heap.alloc(AllocStruct(fields)))
    }
}

fn base<'v>(eval: &Evaluator<'v, '_, '_>, kind: BaseKind) -> anyhow::Result<Value<'v>> {
    let base = Base { kind, span: place(eval)? };
    held(eval, BASE, serde_json::to_string(&base)?)
}

fn source<'v>(eval: &Evaluator<'v, '_, '_>, source: &Source) -> anyhow::Result<Value<'v>> {
    held(eval, SOURCE, serde_json::to_string(source)?)
}

fn held<'v>(eval: &Evaluator<'v, '_, '_>, field: &'static str, json: String) -> anyhow::Result<Value<'v>> {
    let heap = eval.heap();
    Ok(heap.alloc(AllocStruct([(field, heap.alloc(json)), (AT, place_value(eval)?)])))
}

pub(super) fn not_too_deep(depth: usize) -> anyhow::Result<()> {
    anyhow::ensure!(
        depth <= MAX_DEPTH,
        "builds and images stand on each other more than {MAX_DEPTH} deep\nhelp: let one build do what several do"
    );
    Ok(())
}

/// The image that `argument` is given: one of a module, or what `upstream()` or `debian()` gave.
pub(super) fn base_of(value: Value<'_>, argument: &str) -> anyhow::Result<Base> {
    if let Some(base) = field(value, BASE).and_then(Value::unpack_str) {
        return Ok(serde_json::from_str(base)?);
    }
    match (noun_of(value), place_of(value)) {
        (Some(Noun::Image(image)), Some(span)) => Ok(Base { kind: BaseKind::Image(image), span }),
        _ => anyhow::bail!(
            "{argument} takes an image: what image(), upstream() or debian() gave, not {}\nhelp: write `upstream(\"docker.io/library/debian:13\")` for an image of a registry",
            value.get_type()
        ),
    }
}

/// What `argument` takes files from: a path of the source tree, or what a constructor of this file gave.
pub(super) fn source_of(
    eval: &Evaluator<'_, '_, '_>,
    value: Value<'_>,
    argument: &str,
) -> anyhow::Result<Source> {
    if let Some(path) = value.unpack_str() {
        return Ok(Source::Tree(source_path(eval, path)?));
    }
    match field(value, SOURCE).and_then(Value::unpack_str) {
        Some(source) => Ok(serde_json::from_str(source)?),
        None => anyhow::bail!(
            "{argument} takes a path of the source, or what archive(), path_in() or the outputs of a build gave, not {}",
            value.get_type()
        ),
    }
}

fn sources(
    eval: &Evaluator<'_, '_, '_>,
    inputs: NoneOr<DictRef<'_>>,
) -> anyhow::Result<BTreeMap<String, Source>> {
    let NoneOr::Other(inputs) = inputs else { return Ok(BTreeMap::new()) };
    let entry = |(path, value)| {
        let path = text_of(path, "the path of an input")?;
        let source = source_of(eval, value, &format!("the input `{path}`"))?;
        Ok((path, source))
    };
    inputs.iter().map(entry).collect()
}
