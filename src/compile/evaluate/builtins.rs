//! The built-in constructors: the host's own nouns.
//!
//! A constructor checks its arguments' types and gives a struct that holds the noun, as JSON, and the place of the call. It changes
//! nothing: a noun takes part only if a module's `build` or `finish` returns it.

use std::collections::BTreeMap;

use starlark::environment::{Globals, GlobalsBuilder, LibraryExtension};
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::Value;
use starlark::values::dict::DictRef;
use starlark::values::list::{ListRef, UnpackList};
use starlark::values::none::{NoneOr, NoneType};
use starlark::values::structs::AllocStruct;
use starlark::values::tuple::UnpackTuple;

use super::super::finding::Finding;
use super::super::item::{
    Auth, Backend, Body, Content, Directory, File, Group, Image, Noun, Port, Probe, ProbeTarget, Program,
    Quadlet, Sections, Site, Unit, UnitBody, User,
};
use super::super::render::caddyfile::{self, CaddyConfig};
use super::super::render::ini;
use super::super::source::{SourcePath, Span};
use super::session::span_of;
use super::tree::{folder_of, resolve};
use crate::bundle::names::{AccountName, HostName};
use crate::bundle::token::Token;

/// The field of a noun's struct that holds the noun itself.
pub(super) const NOUN: &str = "_noun";
/// The field of a noun, module or service that holds its place.
pub(super) const AT: &str = "_at";
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
    ];
    GlobalsBuilder::extended_by(&library).with(structure).with(nouns).with(texts).with(findings).build()
}

type Eval<'v, 'a, 'b, 'c> = &'c mut Evaluator<'v, 'a, 'b>;
type Made<'v> = anyhow::Result<Value<'v>>;
type Texts = UnpackList<String>;

/// The place of the call that is `depth` frames out; 0 is the running built-in's own.
fn place(eval: &Evaluator<'_, '_, '_>, depth: usize) -> anyhow::Result<Span> {
    let place = eval.call_stack_nth_location(depth).ok_or_else(|| anyhow::anyhow!("called from nowhere"))?;
    Ok(span_of(&place))
}

fn place_value<'v>(eval: &Evaluator<'v, '_, '_>, depth: usize) -> Made<'v> {
    Ok(eval.heap().alloc(serde_json::to_string(&place(eval, depth)?)?))
}

/// Gives a noun as a value; `shown` are the fields that modules may read.
fn made<'v>(eval: Eval<'v, '_, '_, '_>, noun: &Noun, shown: &[(&'static str, Value<'v>)]) -> Made<'v> {
    let heap = eval.heap();
    let mut fields = vec![(NOUN, heap.alloc(serde_json::to_string(noun)?)), (AT, place_value(eval, 0)?)];
    fields.extend_from_slice(shown);
    Ok(heap.alloc(AllocStruct(fields)))
}

/// A path in the source tree, as written in the file that calls.
fn source_path(eval: &Evaluator<'_, '_, '_>, written: &str) -> anyhow::Result<SourcePath> {
    let caller = place(eval, 0)?.file;
    resolve(folder_of(&caller.0), written)
        .map_err(|why| anyhow::anyhow!("cannot use the source path `{written}`: {why}"))
}

/// The service that is being built.
fn current_service(eval: &Evaluator<'_, '_, '_>, what: &str) -> anyhow::Result<String> {
    let current = eval.module().get(CURRENT).and_then(|name| name.unpack_str());
    let current = current.filter(|name| !name.is_empty());
    current
        .map(str::to_owned)
        .ok_or_else(|| anyhow::anyhow!("{what}() belongs into a module's `build` or `finish` function"))
}

fn account(name: &str) -> anyhow::Result<AccountName> {
    name.parse().map_err(anyhow::Error::msg)
}

/// The bodies that `unit` and `quadlet` take: sections, a pasted text, or a file of the source.
fn body<'v>(
    eval: &Evaluator<'v, '_, '_>,
    sections: NoneOr<DictRef<'v>>,
    text: NoneOr<String>,
    source: NoneOr<String>,
) -> anyhow::Result<Body> {
    match (sections, text, source) {
        (NoneOr::Other(sections), NoneOr::None, NoneOr::None) => Ok(Body::Sections(section_list(&sections)?)),
        (NoneOr::None, NoneOr::Other(text), NoneOr::None) => Ok(Body::Text(text, None)),
        (NoneOr::None, NoneOr::None, NoneOr::Other(source)) => {
            Ok(Body::Text(String::new(), Some(source_path(eval, &source)?)))
        }
        _ => anyhow::bail!("give exactly one of: a dictionary of sections, `text = …`, `source = …`"),
    }
}

fn section_list(sections: &DictRef<'_>) -> anyhow::Result<Sections> {
    let mut list = Sections::new();
    for (section, keys) in sections.iter() {
        let section = text_of(section, "a section's name")?;
        let Some(keys) = DictRef::from_value(keys) else {
            anyhow::bail!("section `{section}` is not a dictionary of keys");
        };
        let mut entries = Vec::new();
        for (key, value) in keys.iter() {
            let key = text_of(key, "a key")?;
            match ListRef::from_value(value) {
                Some(values) => {
                    for value in values.iter() {
                        entries.push((key.clone(), scalar(&key, value)?));
                    }
                }
                None if value.is_none() => {}
                None => entries.push((key.clone(), scalar(&key, value)?)),
            }
        }
        list.push((section, entries));
    }
    Ok(list)
}

fn text_of(value: Value<'_>, what: &str) -> anyhow::Result<String> {
    value
        .unpack_str()
        .map(str::to_owned)
        .ok_or_else(|| anyhow::anyhow!("{what} must be a string, not {}", value.get_type()))
}

/// A value of a unit key: text as it is, numbers, and booleans as yes and no.
fn scalar(key: &str, value: Value<'_>) -> anyhow::Result<String> {
    if let Some(text) = value.unpack_str() {
        return Ok(text.to_owned());
    }
    if let Some(flag) = value.unpack_bool() {
        return Ok(if flag { "yes" } else { "no" }.to_owned());
    }
    if value.get_type() == "int" {
        return Ok(value.to_string());
    }
    anyhow::bail!("`{key}` must be a string, a number, a boolean or a list of them, not {}", value.get_type())
}

/// What gives an environment its structure.
#[starlark_module]
#[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)]
fn structure(builder: &mut GlobalsBuilder) {
    /// The environment that this file describes.
    fn environment<'v>(
        #[starlark(require = named)] name: &str,
        #[starlark(require = named)] hosts: UnpackList<Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<NoneType> {
        if eval.module().get(ENVIRONMENT).is_some() {
            anyhow::bail!("a file describes one environment, and this is the second");
        }
        let heap = eval.heap();
        let fields =
            [("name", heap.alloc(name)), ("hosts", heap.alloc(hosts.items)), (AT, place_value(eval, 0)?)];
        eval.module().set(ENVIRONMENT, heap.alloc(AllocStruct(fields)));
        Ok(NoneType)
    }

    /// A host of the environment.
    fn host<'v>(
        #[starlark(require = named)] name: &str,
        #[starlark(require = named)] domain: &str,
        #[starlark(require = named)] services: UnpackList<Value<'v>>,
        #[starlark(require = named, default = "debian-13")] os: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let heap = eval.heap();
        Ok(heap.alloc(AllocStruct([
            ("_host", heap.alloc(true)),
            ("name", heap.alloc(name)),
            ("domain", heap.alloc(domain)),
            ("os", heap.alloc(os)),
            ("services", heap.alloc(services.items)),
            (AT, place_value(eval, 0)?),
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
        let mut fields = vec![("type", r#type), ("doc", heap.alloc(doc)), (AT, place_value(eval, 0)?)];
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
        collects: DictRef<'v>,
        finish: Value<'v>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let heap = eval.heap();
        let copy = |dict: &DictRef<'v>| heap.alloc(starlark::values::dict::AllocDict(dict.iter()));
        let definition = heap.alloc(AllocStruct([
            (DEFINITION, heap.alloc(true)),
            ("doc", heap.alloc(doc)),
            ("build", build),
            ("options", copy(&options)),
            ("requires", copy(&requires)),
            ("wants", copy(&wants)),
            ("provides", heap.alloc(provides.items)),
            ("collects", copy(&collects)),
            ("finish", finish),
            // The call of `module()` in the module's own file, one frame further out than the prelude's.
            (AT, place_value(eval, 1)?),
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
        let options = heap.alloc(starlark::values::dict::AllocDict(options.iter()));
        Ok(heap.alloc(AllocStruct([
            (SERVICE, definition),
            ("options", options),
            (AT, place_value(eval, 1)?),
        ])))
    }
}

/// The nouns of a host.
#[starlark_module]
#[allow(clippy::too_many_arguments, clippy::needless_pass_by_value)]
fn nouns(builder: &mut GlobalsBuilder) {
    /// A Unix group; its number is the host's to give.
    fn group<'v>(
        #[starlark(require = pos)] name: &str,
        #[starlark(require = named, default = UnpackList::default())] members: Texts,
        #[starlark(require = named, default = NoneOr::None)] id: NoneOr<u32>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let noun = Noun::Group(Group { name: name.to_owned(), members: members.items, id: id.into_option() });
        let name = eval.heap().alloc(name);
        made(eval, &noun, &[("name", name)])
    }

    /// A Unix user with a group of its own; its number is the host's to give.
    fn user<'v>(
        #[starlark(require = pos)] name: &str,
        #[starlark(require = named, default = UnpackList::default())] groups: Texts,
        #[starlark(require = named, default = "")] description: &str,
        #[starlark(require = named, default = "/nonexistent")] home: &str,
        #[starlark(require = named, default = NoneOr::None)] id: NoneOr<u32>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let noun = Noun::User(User {
            name: name.to_owned(),
            groups: groups.items,
            description: description.to_owned(),
            home: home.to_owned(),
            id: id.into_option(),
        });
        let name = eval.heap().alloc(name);
        made(eval, &noun, &[("name", name)])
    }

    /// A directory of the host, made at activation and at boot, never removed.
    fn directory<'v>(
        #[starlark(require = pos)] path: &str,
        #[starlark(require = named)] user: &str,
        #[starlark(require = named)] group: &str,
        #[starlark(require = named, default = 0o750)] mode: u32,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let noun = Noun::Directory(Directory {
            path: path.to_owned(),
            mode,
            user: user.to_owned(),
            group: group.to_owned(),
        });
        let path = eval.heap().alloc(path);
        made(eval, &noun, &[("path", path)])
    }

    /// A configuration file: `content` is text, `source` a file or folder of the source tree. `path` is where the host has it.
    /// Files of one `object`, by default the service, move together.
    fn file<'v>(
        #[starlark(require = pos)] name: &str,
        #[starlark(require = named, default = NoneOr::None)] content: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] source: NoneOr<String>,
        #[starlark(require = named, default = false)] stable: bool,
        #[starlark(require = named, default = false)] executable: bool,
        #[starlark(require = named, default = NoneOr::None)] object: NoneOr<String>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let service = current_service(eval, "file")?;
        let object = object.into_option().unwrap_or(service);
        let content = match (content, source) {
            (NoneOr::Other(text), NoneOr::None) => Content::Text(text),
            (NoneOr::None, NoneOr::Other(source)) => Content::Payload(source_path(eval, &source)?),
            _ => anyhow::bail!("give exactly one of `content = …` and `source = …`"),
        };
        let path = if stable {
            format!("/var/lib/rick/current/etc/{object}/{name}")
        } else {
            format!("{}/{name}", Token::Object(object.parse().map_err(anyhow::Error::msg)?))
        };
        let noun = Noun::File(File { name: name.to_owned(), content, object, stable, executable });
        let (name, path) = (eval.heap().alloc(name), eval.heap().alloc(path));
        made(eval, &noun, &[("name", name), ("path", path)])
    }

    /// A systemd unit. `drop_in` makes it an addition to a unit of the distribution, `replaces` says that it knowingly takes one's place.
    fn unit<'v>(
        #[starlark(require = pos)] name: &str,
        #[starlark(default = NoneOr::None)] sections: NoneOr<DictRef<'v>>,
        #[starlark(require = named, default = NoneOr::None)] text: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] source: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] drop_in: NoneOr<String>,
        #[starlark(require = named, default = UnpackList::default())] reload_on: UnpackList<Value<'v>>,
        #[starlark(require = named, default = false)] replaces: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let body = body(eval, sections, text, source)?;
        let body = match drop_in {
            NoneOr::None => UnitBody::Whole(body),
            NoneOr::Other(stem) => UnitBody::DropIn(stem, body),
        };
        let mut files = Vec::new();
        for file in reload_on.items {
            match noun_of(file) {
                Some(Noun::File(file)) => files.push(file.name),
                _ => anyhow::bail!("`reload_on` takes what file() gave, not {}", file.get_type()),
            }
        }
        let noun = Noun::Unit(Unit { name: name.to_owned(), body, reload_on: files, replaces });
        let name = eval.heap().alloc(name);
        made(eval, &noun, &[("name", name)])
    }

    /// Hides a unit of the distribution: it is stopped and cannot start.
    fn mask<'v>(
        #[starlark(require = pos)] name: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let noun = Noun::Unit(Unit {
            name: name.to_owned(),
            body: UnitBody::Mask,
            reload_on: Vec::new(),
            replaces: true,
        });
        let name = eval.heap().alloc(name);
        made(eval, &noun, &[("name", name)])
    }

    /// A Quadlet file.
    fn quadlet<'v>(
        #[starlark(require = pos)] name: &str,
        #[starlark(default = NoneOr::None)] sections: NoneOr<DictRef<'v>>,
        #[starlark(require = named, default = NoneOr::None)] text: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] source: NoneOr<String>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let noun =
            Noun::Quadlet(Quadlet { name: name.to_owned(), body: body(eval, sections, text, source)? });
        let name = eval.heap().alloc(name);
        made(eval, &noun, &[("name", name)])
    }

    /// A web site, for the service that collects sites. `auth` is `"public"`, `"oidc"` or `"forward"`; one must be chosen.
    fn site<'v>(
        #[starlark(require = pos)] host: &str,
        #[starlark(require = named, default = NoneOr::None)] auth: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] proxy: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] files: NoneOr<String>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        host.parse::<HostName>().map_err(anyhow::Error::msg)?;
        let auth = match auth {
            NoneOr::None => anyhow::bail!(
                "site `{host}` does not say who may see it\n\
                 help: choose `auth = \"oidc\"` (the application signs people in), `auth = \"forward\"` (the proxy does) or `auth = \"public\"`"
            ),
            NoneOr::Other(auth) => match auth.as_str() {
                "public" => Auth::Public,
                "oidc" => Auth::Oidc,
                "forward" => Auth::Forward,
                other => anyhow::bail!("`{other}` is no way to sign in: `public`, `oidc` and `forward` are"),
            },
        };
        let backend = match (proxy, files) {
            (NoneOr::Other(proxy), NoneOr::None) => Backend::Proxy(proxy),
            (NoneOr::None, NoneOr::Other(files)) => Backend::Files(files),
            _ => anyhow::bail!("give exactly one of `proxy = …` and `files = …`"),
        };
        let shown = serde_json::to_value(auth)?;
        let noun = Noun::Site(Site { host: host.to_owned(), auth, backend });
        let (host, auth) = (eval.heap().alloc(host), eval.heap().alloc(shown.as_str().unwrap_or_default()));
        made(eval, &noun, &[("host", host), ("auth", auth)])
    }

    /// A container image: one layer for each entry of `layers`, a path in the image → a path of the source. `ref` names it in Quadlets.
    fn image<'v>(
        #[starlark(require = pos)] name: &str,
        #[starlark(require = named)] layers: DictRef<'v>,
        #[starlark(require = named, default = UnpackList::default())] entrypoint: Texts,
        #[starlark(require = named, default = UnpackList::default())] command: Texts,
        #[starlark(require = named, default = NoneOr::None)] environment: NoneOr<DictRef<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let mut pieces = Vec::new();
        for (path, source) in layers.iter() {
            let source = source_path(eval, &text_of(source, "a layer's source")?)?;
            pieces.push((text_of(path, "a layer's path")?, source));
        }
        let mut variables = BTreeMap::new();
        if let NoneOr::Other(environment) = environment {
            for (key, value) in environment.iter() {
                variables.insert(text_of(key, "a variable's name")?, text_of(value, "a variable's value")?);
            }
        }
        let noun = Noun::Image(Image {
            name: name.to_owned(),
            layers: pieces,
            entrypoint: entrypoint.items,
            command: command.items,
            environment: variables,
        });
        let reference = eval.heap().alloc(format!("localhost/{name}"));
        made(eval, &noun, &[("ref", reference)])
    }

    /// A claim on a port of the host, so that nobody else takes it.
    fn port<'v>(
        #[starlark(require = pos)] number: i32,
        #[starlark(require = named, default = "tcp")] protocol: &str,
        #[starlark(require = named, default = "0.0.0.0")] address: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let checked = u16::try_from(number).ok().filter(|number| *number > 0);
        let checked = checked.ok_or_else(|| anyhow::anyhow!("{number} is not a port: 1 to 65535 are"))?;
        let noun =
            Noun::Port(Port { number: checked, protocol: protocol.to_owned(), address: address.to_owned() });
        let number = eval.heap().alloc(number);
        made(eval, &noun, &[("number", number)])
    }

    /// Something that answers once the service is well: a Unix socket or a TCP address that accepts.
    fn probe<'v>(
        #[starlark(require = named, default = NoneOr::None)] unix: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] tcp: NoneOr<String>,
        #[starlark(require = named, default = 30)] timeout: u32,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let target = match (unix, tcp) {
            (NoneOr::Other(path), NoneOr::None) => ProbeTarget::Unix(path),
            (NoneOr::None, NoneOr::Other(address)) => ProbeTarget::Tcp(address),
            _ => anyhow::bail!("give exactly one of `unix = …` and `tcp = …`"),
        };
        made(eval, &Noun::Probe(Probe { target, timeout_s: timeout }), &[])
    }

    /// A program that the host must have before anything is touched.
    fn program<'v>(
        #[starlark(require = pos)] path: &str,
        #[starlark(require = named)] package: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let noun = Noun::Program(Program { path: path.to_owned(), package: package.to_owned() });
        let path = eval.heap().alloc(path);
        made(eval, &noun, &[("path", path)])
    }
}

/// Texts that need quoting or the host's numbers.
#[starlark_module]
#[allow(clippy::needless_pass_by_value)]
fn texts(builder: &mut GlobalsBuilder) {
    /// The number of a user, known on the host only.
    fn uid(#[starlark(require = pos)] name: &str) -> anyhow::Result<String> {
        Ok(Token::Uid(account(name)?).to_string())
    }

    /// The number of a group, known on the host only.
    fn gid(#[starlark(require = pos)] name: &str) -> anyhow::Result<String> {
        Ok(Token::Gid(account(name)?).to_string())
    }

    /// A command line for `ExecStart=` and its like, each argument quoted.
    fn command(#[starlark(args)] arguments: UnpackTuple<String>) -> anyhow::Result<String> {
        Ok(ini::command(&arguments.items))
    }

    /// An assignment for `Environment=` of a unit, quoted.
    fn variable(
        #[starlark(require = pos)] name: &str,
        #[starlark(require = pos)] value: &str,
    ) -> anyhow::Result<String> {
        Ok(ini::environment(name, value))
    }

    /// An assignment for `Environment=` of a container, quoted: there, `$` would mean a variable.
    fn container_variable(
        #[starlark(require = pos)] name: &str,
        #[starlark(require = pos)] value: &str,
    ) -> anyhow::Result<String> {
        Ok(ini::container_environment(name, value))
    }

    /// The text of a Caddyfile that serves these sites.
    fn caddyfile<'v>(
        #[starlark(require = named)] sites: UnpackList<Value<'v>>,
        #[starlark(require = named)] admin: &str,
        #[starlark(require = named, default = NoneOr::None)] email: NoneOr<String>,
        #[starlark(require = named, default = false)] tls_internal: bool,
        #[starlark(require = named, default = NoneOr::None)] forward_auth: NoneOr<String>,
    ) -> anyhow::Result<String> {
        let mut by_host = BTreeMap::new();
        for site in sites.items {
            match noun_of(site) {
                // Two sites for one host name are for `check` to say, which can show both places.
                Some(Noun::Site(site)) => by_host.entry(site.host.clone()).or_insert(site),
                _ => anyhow::bail!("`sites` takes what site() gave, not {}", site.get_type()),
            };
        }
        let config = CaddyConfig {
            email: email.into_option(),
            tls_internal,
            admin: admin.parse().map_err(anyhow::Error::msg)?,
            forward_auth: forward_auth.into_option(),
            sites: by_host.into_values().collect(),
        };
        caddyfile::render(&config).map_err(anyhow::Error::msg)
    }
}

/// Findings of a module's own: returned from `build` or `finish` like a noun.
#[starlark_module]
fn findings(builder: &mut GlobalsBuilder) {
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
    eval: Eval<'v, '_, '_, '_>,
    finding: Finding,
    at: NoneOr<Value<'v>>,
    help: NoneOr<&str>,
) -> Made<'v> {
    let place = at.into_option().and_then(place_of).map_or_else(|| place(eval, 0), Ok)?;
    let mut finding = finding.at(&place, "");
    if let NoneOr::Other(help) = help {
        finding = finding.help(help);
    }
    let heap = eval.heap();
    Ok(heap.alloc(AllocStruct([(FINDING, heap.alloc(serde_json::to_string(&finding)?))])))
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
    let fields = starlark::values::structs::StructRef::from_value(value)?;
    fields.iter().find(|(key, _)| key.as_str() == name).map(|(_, value)| value)
}
