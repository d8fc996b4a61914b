//! What gives an environment its structure: `environment`, `host`, `option`, and what `module()` stands on.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
// The signatures are those of the language, and the macro passes every argument by value and wants a result of each.
#![allow(clippy::too_many_arguments, clippy::needless_pass_by_value, clippy::unnecessary_wraps)]

use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::Value;
use starlark::values::dict::{AllocDict, DictRef};
use starlark::values::list::{ListRef, UnpackList};
use starlark::values::none::{NoneOr, NoneType};
use starlark::values::structs::AllocStruct;
use starlark::values::tuple::UnpackTuple;
use starlark::values::typing::TypeCompiled;

use super::shape::{self, Shape};
use super::{AT, DEFINITION, DEFINITIONS, ENVIRONMENT, OPTION, SERVICE, place_value};

/// What gives an environment its structure.
#[starlark_module]
pub(super) fn structure(builder: &mut GlobalsBuilder) {
    /// The environment that this file describes. Every host of it has its `services`, before those of its own. `operators` are the public
    /// keys of those who keep its secrets.
    fn environment<'v>(
        #[starlark(require = named)] name: &str,
        #[starlark(require = named)] hosts: UnpackList<Value<'v>>,
        #[starlark(require = named, default = UnpackList::default())] services: UnpackList<Value<'v>>,
        #[starlark(require = named, default = "pulled")] registry_images: &str,
        #[starlark(require = named, default = UnpackList::default())] operators: UnpackList<String>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<NoneType> {
        let embeds = match registry_images {
            "pulled" => false,
            "embedded" => true,
            other => anyhow::bail!(
                "`registry_images` is `{}`, and takes `pulled` or `embedded`\nhelp: `embedded` puts the images of registries into the bundle, so that hosts need not reach these",
                other.escape_debug()
            ),
        };
        if eval.module().get(ENVIRONMENT).is_some() {
            anyhow::bail!("a file describes one environment, and this is the second");
        }
        let heap = eval.heap();
        let fields = [
            ("name", heap.alloc(name)),
            ("hosts", heap.alloc(hosts.items)),
            ("services", heap.alloc(services.items)),
            ("embeds", heap.alloc(embeds)),
            ("operators", heap.alloc(operators.items)),
            (AT, place_value(eval)?),
        ];
        eval.module().set(ENVIRONMENT, heap.alloc(AllocStruct(fields)));
        Ok(NoneType)
    }

    /// A host of the environment. What it needs of secrets comes in files of the source tree if its public key, `ssh_key`, is said.
    fn host<'v>(
        #[starlark(require = named)] name: &str,
        #[starlark(require = named)] domain: &str,
        #[starlark(require = named)] services: UnpackList<Value<'v>>,
        #[starlark(require = named, default = "debian-13")] os: &str,
        #[starlark(require = named, default = NoneOr::None)] ssh_key: NoneOr<&str>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let heap = eval.heap();
        Ok(heap.alloc(AllocStruct([
            ("_host", heap.alloc(true)),
            ("name", heap.alloc(name)),
            ("domain", heap.alloc(domain)),
            ("os", heap.alloc(os)),
            ("ssh_key", ssh_key.into_option().map_or(Value::new_none(), |key| heap.alloc(key))),
            ("services", heap.alloc(services.items)),
            (AT, place_value(eval)?),
        ])))
    }

    /// An option of a module: its type, its documentation, and its default unless it must be given.
    fn option<'v>(
        #[starlark(require = pos)] r#type: Value<'v>,
        #[starlark(require = named)] doc: &str,
        #[starlark(require = named)] default: Option<Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let heap = eval.heap();
        let Ok(compiled) = TypeCompiled::new(r#type, heap) else {
            anyhow::bail!(
                "an option's type must be a type, such as `str` or `list[int]`, not {}",
                r#type.get_type()
            )
        };
        if let Some(default) = default.filter(|default| !compiled.matches(*default)) {
            anyhow::bail!(
                "the default must be `{}`, as the option is, not {}",
                compiled.as_ty(),
                default.get_type()
            );
        }
        let mut fields = vec![(OPTION, r#type), ("doc", heap.alloc(doc))];
        fields.extend(default.map(|default| ("default", default)));
        Ok(heap.alloc(AllocStruct(fields)))
    }

    /// Called by `module()` of the prelude.
    fn _module<'v>(
        doc: &str,
        build: Value<'v>,
        options: DictRef<'v>,
        requires: DictRef<'v>,
        wants: DictRef<'v>,
        provides: UnpackList<Value<'v>>,
        contributes: UnpackList<Value<'v>>,
        collects: DictRef<'v>,
        observes: DictRef<'v>,
        finish: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        shape::check(&Shape {
            build,
            finish,
            options: &options,
            facts: [&requires, &wants],
            provides: &provides.items,
            contributes: &contributes.items,
            collects: &collects,
            observes: &observes,
        })?;
        let heap = eval.heap();
        let copy = |dict: &DictRef<'v>| heap.alloc(AllocDict(dict.iter()));
        let definition = heap.alloc(AllocStruct([
            (DEFINITION, heap.alloc(true)),
            ("doc", heap.alloc(doc)),
            ("build", build),
            ("options", copy(&options)),
            ("requires", copy(&requires)),
            ("wants", copy(&wants)),
            ("provides", heap.alloc(provides.items)),
            ("contributes", heap.alloc(contributes.items)),
            ("collects", copy(&collects)),
            ("observes", copy(&observes)),
            ("finish", finish),
            (AT, place_value(eval)?),
        ]));
        let known = eval.module().get(DEFINITIONS);
        let mut all: Vec<Value<'v>> =
            known.and_then(ListRef::from_value).map_or(Vec::new(), |list| list.content().to_vec());
        all.push(definition);
        eval.module().set(DEFINITIONS, heap.alloc(all));
        Ok(definition)
    }

    /// What calling a module gives: a service of a host. Options are checked when all services are known.
    fn _service<'v>(
        #[starlark(require = pos)] definition: Value<'v>,
        #[starlark(args)] positional: UnpackTuple<Value<'v>>,
        #[starlark(kwargs)] options: DictRef<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        if !positional.items.is_empty() {
            anyhow::bail!("options of a module are given by name: `version = 17`");
        }
        let heap = eval.heap();
        let options = heap.alloc(AllocDict(options.iter()));
        Ok(heap.alloc(AllocStruct([(SERVICE, definition), ("options", options), (AT, place_value(eval)?)])))
    }
}
