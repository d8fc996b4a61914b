//! Texts that need quoting, or the host's numbers.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
// The signatures are those of the language, and the macro passes every argument by value and wants a result of each.
#![allow(clippy::too_many_arguments, clippy::needless_pass_by_value, clippy::unnecessary_wraps)]

use std::collections::BTreeMap;

use starlark::environment::GlobalsBuilder;
use starlark::starlark_module;
use starlark::values::Value;
use starlark::values::list::UnpackList;
use starlark::values::none::NoneOr;
use starlark::values::tuple::UnpackTuple;

use super::noun_of;
use crate::bundle::names::AccountName;
use crate::bundle::secret::{SecretFile, SecretMode};
use crate::bundle::token::Token;
use crate::compile::item::Noun;
use crate::compile::render::caddyfile::{self, CaddyConfig};
use crate::compile::render::ini;

/// Texts that need quoting or the host's numbers.
#[starlark_module]
pub(super) fn texts(builder: &mut GlobalsBuilder) {
    /// The number of a user, known on the host only.
    fn uid(#[starlark(require = pos)] name: &str) -> anyhow::Result<String> {
        Ok(Token::Uid(account(name)?).to_string())
    }

    /// The number of a group, known on the host only.
    fn gid(#[starlark(require = pos)] name: &str) -> anyhow::Result<String> {
        Ok(Token::Gid(account(name)?).to_string())
    }

    /// The path of a file with the value of a secret that the service states: in memory, and there before anything starts that could read
    /// it. A changed value has another path.
    fn secret_file(
        #[starlark(require = pos)] name: &str,
        #[starlark(require = named, default = "root")] user: &str,
        #[starlark(require = named, default = "root")] group: &str,
        #[starlark(require = named, default = 0o400)] mode: u32,
    ) -> anyhow::Result<String> {
        let Some(mode) = SecretMode::of(mode) else {
            anyhow::bail!(
                "a secret's file has mode 0o400 or 0o440, not 0o{mode:o}\nhelp: 0o440 lets the members of `group` read it too"
            )
        };
        let name = name.parse().map_err(anyhow::Error::msg)?;
        let file = SecretFile { name, user: account(user)?, group: account(group)?, mode };
        Ok(Token::Secret(file).to_string())
    }

    /// A command line for `ExecStart=` and its like, each argument quoted.
    fn command(#[starlark(args)] arguments: UnpackTuple<String>) -> anyhow::Result<String> {
        Ok(ini::command(&arguments.items))
    }

    /// A command line for `Exec=` and `PodmanArgs=` of a container, each argument quoted.
    fn container_command(#[starlark(args)] arguments: UnpackTuple<String>) -> anyhow::Result<String> {
        ini::container_command(&arguments.items).map_err(anyhow::Error::msg)
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

fn account(name: &str) -> anyhow::Result<AccountName> {
    name.parse().map_err(anyhow::Error::msg)
}
