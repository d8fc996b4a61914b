//! The host's own nouns.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
// The signatures are those of the language, and the macro passes every argument by value and wants a result of each.
#![allow(clippy::too_many_arguments, clippy::needless_pass_by_value, clippy::unnecessary_wraps)]

use std::collections::BTreeMap;

use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::Value;
use starlark::values::dict::{DictRef, UnpackDictEntries};
use starlark::values::list::{ListRef, UnpackList};
use starlark::values::none::NoneOr;

use super::super::tree::{folder_of, resolve};
use super::{CURRENT, made, noun_of, place};
use crate::bundle::manifest::{Keep, OnChange};
use crate::bundle::names::UNIT_TYPES;
use crate::bundle::token::Token;
use crate::compile::item::{
    self, Body, Content, Directory, Dump, File, Group, Handling, Noun, Port, Program, Quadlet, Repository,
    Secret, Sections, State, TypeDropIn, Unit, UnitBody, User,
};
use crate::compile::similar::did_you_mean;
use crate::compile::source::SourcePath;

type Texts = UnpackList<String>;

/// The nouns of a host.
#[starlark_module]
pub(super) fn nouns(builder: &mut GlobalsBuilder) {
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
        let noun = Noun::Directory(directory_of(path, user, group, mode));
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
        let file = File { name: name.to_owned(), content, object, stable, executable };
        let path = if stable {
            format!("{}/{}", item::CURRENT, file.place())
        } else {
            format!("{}/{name}", Token::Object(file.object.parse().map_err(anyhow::Error::msg)?))
        };
        let noun = Noun::File(file);
        let (name, path) = (eval.heap().alloc(name), eval.heap().alloc(path));
        made(eval, &noun, &[("name", name), ("path", path)])
    }

    /// A systemd unit. `drop_in` makes it an addition to a unit of the distribution, and `follows` one that the distribution starts, not
    /// rick; `replaces` says that it knowingly takes one's place. `on_change` is what a change of it does: `"restart"`, `"reload"`,
    /// `"stop-start"` or `"nothing"`. The host is well without one that is `optional`; what a `barrier` does cannot be undone.
    fn unit<'v>(
        #[starlark(require = pos)] name: &str,
        #[starlark(default = NoneOr::None)] sections: NoneOr<DictRef<'v>>,
        #[starlark(require = named, default = NoneOr::None)] text: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] source: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] drop_in: NoneOr<String>,
        #[starlark(require = named, default = UnpackList::default())] reload_on: UnpackList<Value<'v>>,
        #[starlark(require = named, default = false)] replaces: bool,
        #[starlark(require = named, default = false)] follows: bool,
        #[starlark(require = named, default = NoneOr::None)] on_change: NoneOr<String>,
        #[starlark(require = named, default = false)] optional: bool,
        #[starlark(require = named, default = false)] barrier: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let handling = Handling { on_change: on_change_of(on_change)?, optional, barrier };
        let body = body(eval, sections, text, source)?;
        let body = match drop_in {
            NoneOr::None => UnitBody::Whole(body),
            NoneOr::Other(stem) => UnitBody::DropIn(stem, body),
        };
        if follows && !matches!(body, UnitBody::DropIn(..)) {
            anyhow::bail!(
                "`follows` is for a drop-in: a whole unit is started by rick if its `[Install]` says so"
            );
        }
        let mut files = Vec::new();
        for file in reload_on.items {
            match noun_of(file) {
                Some(Noun::File(file)) => files.push(file.name),
                _ => anyhow::bail!("`reload_on` takes what file() gave, not {}", file.get_type()),
            }
        }
        let noun =
            Noun::Unit(Unit { name: name.to_owned(), body, reload_on: files, replaces, follows, handling });
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
            follows: false,
            handling: Handling::default(),
        });
        let name = eval.heap().alloc(name);
        made(eval, &noun, &[("name", name)])
    }

    /// A Quadlet file. `replaces`, `on_change`, `optional` and `barrier` are those of the unit that is made of it.
    fn quadlet<'v>(
        #[starlark(require = pos)] name: &str,
        #[starlark(default = NoneOr::None)] sections: NoneOr<DictRef<'v>>,
        #[starlark(require = named, default = NoneOr::None)] text: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] source: NoneOr<String>,
        #[starlark(require = named, default = false)] replaces: bool,
        #[starlark(require = named, default = NoneOr::None)] on_change: NoneOr<String>,
        #[starlark(require = named, default = false)] optional: bool,
        #[starlark(require = named, default = false)] barrier: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let handling = Handling { on_change: on_change_of(on_change)?, optional, barrier };
        let body = body(eval, sections, text, source)?;
        let noun = Noun::Quadlet(Quadlet { name: name.to_owned(), body, replaces, handling });
        let name = eval.heap().alloc(name);
        made(eval, &noun, &[("name", name)])
    }

    /// A secret that the host must have before anything is touched: a credential of systemd, encrypted, in its store.
    fn secret<'v>(
        #[starlark(require = pos)] name: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let noun = Noun::Secret(Secret { name: name.to_owned() });
        let name = eval.heap().alloc(name);
        made(eval, &noun, &[("name", name)])
    }

    /// A directory that holds what must outlive generations: a service's data. Never removed, and what is backed up. `copied`: `"live"`, or
    /// `"stopped"` if its service must not write to it meanwhile.
    fn state<'v>(
        #[starlark(require = pos)] path: &str,
        #[starlark(require = named)] user: &str,
        #[starlark(require = named)] group: &str,
        #[starlark(require = named, default = 0o750)] mode: u32,
        #[starlark(require = named, default = "live")] copied: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let at_rest = match copied {
            "live" => false,
            "stopped" => true,
            other => anyhow::bail!("`copied` is `{}`, and takes `live` or `stopped`", other.escape_debug()),
        };
        let noun = Noun::State(State { directory: directory_of(path, user, group, mode), at_rest });
        let path = eval.heap().alloc(path);
        made(eval, &noun, &[("path", path)])
    }

    /// What a service keeps in the care of another one, its database say, and must outlive generations. `save` writes it to standard output,
    /// `restore` takes it from standard input, all or nothing, where `empty` exits with 0 (1: something is there) and after `clear`. They run
    /// as `user`, once the units of `after` were started.
    fn dump<'v>(
        #[starlark(require = pos)] name: &str,
        #[starlark(require = named)] user: &str,
        #[starlark(require = named)] save: UnpackList<String>,
        #[starlark(require = named)] restore: UnpackList<String>,
        #[starlark(require = named)] empty: UnpackList<String>,
        #[starlark(require = named)] clear: UnpackList<String>,
        #[starlark(require = named, default = UnpackList::default())] after: UnpackList<String>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let noun = Noun::Dump(Dump {
            name: name.to_owned(),
            user: user.to_owned(),
            save: save.items,
            restore: restore.items,
            empty: empty.items,
            clear: clear.items,
            after: after.items,
        });
        let name = eval.heap().alloc(name);
        made(eval, &noun, &[("name", name)])
    }

    /// A repository of restic that keeps copies of what the services of the host keep, and from which what is absent is restored.
    /// `password`, `credentials` and `ssh_key` are names of secrets; `keep` says how many `last`, `daily`, `weekly` and `monthly` ones stay.
    fn repository<'v>(
        #[starlark(require = pos)] address: &str,
        #[starlark(require = named)] password: &str,
        #[starlark(require = named, default = NoneOr::None)] credentials: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] ssh_key: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] known_hosts: NoneOr<String>,
        #[starlark(require = named, default = UnpackDictEntries::default())] keep: UnpackDictEntries<
            String,
            u32,
        >,
        #[starlark(require = named, default = true)] restores: bool,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let rule = |(word, number): (String, u32)| {
            let rule = Keep::of(&word);
            let rule = rule.ok_or_else(|| {
                anyhow::anyhow!(
                    "`keep` has no rule `{}`: last, daily, weekly and monthly are",
                    word.escape_debug()
                )
            });
            Ok((rule?, number))
        };
        let keep = keep.entries.into_iter().map(rule).collect::<anyhow::Result<BTreeMap<_, _>>>()?;
        let noun = Noun::Repository(Repository {
            address: address.to_owned(),
            password: password.to_owned(),
            credentials: credentials.into_option(),
            ssh: ssh_key.into_option().zip(known_hosts.into_option()),
            keep: keep.into_iter().filter(|(_, number)| *number > 0).collect(),
            restores,
        });
        let address = eval.heap().alloc(address);
        made(eval, &noun, &[("address", address)])
    }

    /// An addition to every unit of a type, `"service"`, whoever brought it. `drop_in` names the file: a drop-in of that name for one unit
    /// stands in its place there.
    fn type_drop_in<'v>(
        #[starlark(require = pos)] kind: &str,
        #[starlark(require = pos)] sections: DictRef<'v>,
        #[starlark(require = named)] drop_in: &str,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        if !UNIT_TYPES.contains(&kind) {
            anyhow::bail!("`{}` is no type of units: {} are", kind.escape_debug(), UNIT_TYPES.join(", "));
        }
        let body = Body::Sections(section_list(&sections)?);
        let noun = TypeDropIn { kind: kind.to_owned(), stem: drop_in.to_owned(), body };
        made(eval, &Noun::TypeDropIn(noun), &[])
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

fn directory_of(path: &str, user: &str, group: &str, mode: u32) -> Directory {
    Directory { path: path.to_owned(), mode, user: user.to_owned(), group: group.to_owned() }
}

/// The words for what a change of a unit does.
const ON_CHANGE: [(&str, OnChange); 4] = [
    ("restart", OnChange::Restart),
    ("reload", OnChange::Reload),
    ("stop-start", OnChange::StopStart),
    ("nothing", OnChange::Nothing),
];

fn on_change_of(word: NoneOr<String>) -> anyhow::Result<Option<OnChange>> {
    let NoneOr::Other(word) = word else { return Ok(None) };
    if let Some((_, on_change)) = ON_CHANGE.iter().find(|(known, _)| *known == word) {
        return Ok(Some(*on_change));
    }
    let near = did_you_mean(&word, ON_CHANGE.iter().map(|(known, _)| *known));
    let help = near.map_or(String::new(), |near| format!("\nhelp: {near}"));
    anyhow::bail!(
        "`on_change` can be `restart`, `reload`, `stop-start` or `nothing`, not `{}`{help}",
        word.escape_debug()
    )
}

/// A path in the source tree, as written in the file that calls.
pub(super) fn source_path(eval: &Evaluator<'_, '_, '_>, written: &str) -> anyhow::Result<SourcePath> {
    let caller = place(eval)?.file;
    resolve(folder_of(&caller.0), written)
        .map_err(|why| anyhow::anyhow!("cannot use the source path `{written}`: {why}"))
}

/// The service that is being built.
fn current_service(eval: &Evaluator<'_, '_, '_>, what: &str) -> anyhow::Result<String> {
    let current = eval.module().get(CURRENT).and_then(Value::unpack_str);
    let current = current.filter(|name| !name.is_empty());
    current
        .map(str::to_owned)
        .ok_or_else(|| anyhow::anyhow!("{what}() belongs into a module's `build` or `finish` function"))
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

pub(super) fn text_of(value: Value<'_>, what: &str) -> anyhow::Result<String> {
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
