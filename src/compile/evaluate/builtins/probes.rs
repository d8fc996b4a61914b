//! What is asked of a service and of its files: probes once it runs, validations before.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
// The signatures are those of the language, and the macro passes every argument by value and wants a result of each.
#![allow(clippy::too_many_arguments, clippy::needless_pass_by_value, clippy::unnecessary_wraps)]

use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::Value;
use starlark::values::list::UnpackList;
use starlark::values::none::NoneOr;

use super::{made, noun_of};
use crate::compile::item::{Noun, Probe, ProbeTarget, Validation};

type Texts = UnpackList<String>;

/// What is asked.
#[starlark_module]
pub(super) fn probes(builder: &mut GlobalsBuilder) {
    /// Something that answers once the service is well, of one kind: a Unix socket or a TCP address that accepts; a web server, at an
    /// address or a socket, that answers a GET of `path` with `status`, or with any from 200 to 399; a command that ends well, as `user` or
    /// as nobody; a unit that runs, or ended well.
    fn probe<'v>(
        #[starlark(require = named, default = NoneOr::None)] unix: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] tcp: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] http: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] path: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] host: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] status: NoneOr<i32>,
        #[starlark(require = named, default = NoneOr::None)] command: NoneOr<Texts>,
        #[starlark(require = named, default = NoneOr::None)] user: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] unit: NoneOr<Value<'v>>,
        #[starlark(require = named, default = 30)] timeout: u32,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let (path, host, status) = (path.into_option(), host.into_option(), status.into_option());
        let (http, command, user) = (http.into_option(), command.into_option(), user.into_option());
        let given = [
            ("path", "http", path.is_some() && http.is_none()),
            ("host", "http", host.is_some() && http.is_none()),
            ("status", "http", status.is_some() && http.is_none()),
            ("user", "command", user.is_some() && command.is_none()),
        ];
        if let Some((argument, kind, _)) = given.iter().find(|(.., alone)| *alone) {
            anyhow::bail!("`{argument}` is for a probe by `{kind} = …`");
        }
        let target = match (unix.into_option(), tcp.into_option(), http, command, unit.into_option()) {
            (Some(path), None, None, None, None) => ProbeTarget::Unix(path),
            (None, Some(address), None, None, None) => ProbeTarget::Tcp(address),
            (None, None, Some(to), None, None) => ProbeTarget::Http {
                to,
                path: path.unwrap_or_else(|| "/".to_owned()),
                host: host.unwrap_or_else(|| "localhost".to_owned()),
                status,
            },
            (None, None, None, Some(command), None) => {
                ProbeTarget::Command { command: some(command, "`command`")?, user }
            }
            (None, None, None, None, Some(unit)) => ProbeTarget::Unit(unit_name(unit)?),
            _ => anyhow::bail!(
                "give exactly one of `unix = …`, `tcp = …`, `http = …`, `command = […]` and `unit = …`"
            ),
        };
        made(eval, &Noun::Probe(Probe { target, timeout_s: timeout }), &[])
    }

    /// A program of the host that judges `files` before anything stops: it ends well, or the host stays as it is. It runs as nobody, without
    /// network, and writes nowhere but in a `/tmp` of its own.
    fn validate<'v>(
        #[starlark(require = pos)] command: Texts,
        #[starlark(require = named)] files: UnpackList<Value<'v>>,
        eval: &mut Evaluator<'v, '_, '_>,
    ) -> anyhow::Result<Value<'v>> {
        let mut places = Vec::new();
        for file in files.items {
            match noun_of(file) {
                Some(Noun::File(file)) => places.push(file.place()),
                _ => anyhow::bail!("`files` takes what file() gave, not {}", file.get_type()),
            }
        }
        if places.is_empty() {
            anyhow::bail!("a validation judges files: name them in `files`");
        }
        let command = some(command, "the command of a validation")?;
        made(eval, &Noun::Validation(Validation { command, files: places }), &[])
    }
}

/// A command that has at least a program.
fn some(command: Texts, what: &str) -> anyhow::Result<Vec<String>> {
    if command.items.is_empty() {
        anyhow::bail!("{what} is a program and its arguments, and this is empty");
    }
    Ok(command.items)
}

/// A unit by its name, or as `unit()` or `quadlet()` gave it. A Quadlet file's name is translated later.
fn unit_name(value: Value<'_>) -> anyhow::Result<String> {
    match (value.unpack_str(), noun_of(value)) {
        (Some(name), _) => Ok(name.to_owned()),
        (None, Some(Noun::Unit(unit))) => Ok(unit.name),
        (None, Some(Noun::Quadlet(quadlet))) => Ok(quadlet.name),
        _ => anyhow::bail!("`unit` takes a name, or what unit() or quadlet() gave, not {}", value.get_type()),
    }
}
