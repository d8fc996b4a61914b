//! Web sites: what answers, and who may see it.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
// The signatures are those of the language, and the macro passes every argument by value and wants a result of each.
#![allow(clippy::too_many_arguments, clippy::needless_pass_by_value, clippy::unnecessary_wraps)]

use starlark::environment::GlobalsBuilder;
use starlark::eval::Evaluator;
use starlark::starlark_module;
use starlark::values::Value;
use starlark::values::list::UnpackList;
use starlark::values::none::NoneOr;
use starlark::values::record::Record;

use super::made;
use crate::bundle::names::HostName;
use crate::compile::item::{Auth, Backend, Noun, Site};
use crate::compile::path_pattern::PathPattern;

type Texts = UnpackList<String>;

/// Web sites.
#[starlark_module]
pub(super) fn sites(builder: &mut GlobalsBuilder) {
    /// A web site, for the service that collects sites. `auth` is `"public"`, `"oidc"` or `"forward"`; one must be chosen.
    /// `public` are paths of a `forward` site that everybody may see, `protected` those of a `public` one that the proxy guards.
    /// `access` says which people the proxy lets in; only who gives the forward authentication knows what it means.
    /// `client` is what an `oidc` site is to its provider: without one nobody would be asked at all.
    fn site<'v>(
        #[starlark(require = pos)] host: &str,
        #[starlark(require = named, default = NoneOr::None)] auth: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] proxy: NoneOr<String>,
        #[starlark(require = named, default = NoneOr::None)] files: NoneOr<String>,
        #[starlark(require = named, default = UnpackList::default())] public: Texts,
        #[starlark(require = named, default = UnpackList::default())] protected: Texts,
        #[starlark(require = named, default = NoneOr::None)] access: NoneOr<Value<'v>>,
        #[starlark(require = named, default = NoneOr::None)] client: NoneOr<Value<'v>>,
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
        let client = client.into_option().is_some_and(|client| Record::from_value(client).is_some());
        if auth == Auth::Oidc && !client {
            anyhow::bail!(
                "site `{host}` leaves signing in to an application that is no client of OpenID Connect\n\
                 help: choose `auth = \"forward\"` or `auth = \"public\"`; \
                 an application that can says what it is to its provider: `client = OidcClient(…)`"
            )
        }
        let exceptions = exceptions(auth, &public.items, &protected.items)?;
        let site = Site { host: host.to_owned(), auth, backend, exceptions };
        if let NoneOr::Other(_) = access
            && !site.asks()
        {
            anyhow::bail!(
                "site `{host}` says who has access, and the proxy asks nobody who they are\n\
                 help: choose `auth = \"forward\"`, or leave it to the application's own sign-in"
            )
        }
        let public = if auth == Auth::Forward { site.exceptions.as_slice() } else { &[] };
        let public: Vec<&str> = public.iter().map(PathPattern::as_str).collect();
        let shown = serde_json::to_value(auth)?;
        let heap = eval.heap();
        let fields = [
            ("host", heap.alloc(host)),
            ("auth", heap.alloc(shown.as_str().unwrap_or_default())),
            ("asks", heap.alloc(site.asks())),
            ("public", heap.alloc(public)),
            ("access", access.into_option().unwrap_or_else(Value::new_none)),
        ];
        made(eval, &Noun::Site(site), &fields)
    }
}

/// The paths of a site that are otherwise than the rest.
fn exceptions(auth: Auth, public: &[String], protected: &[String]) -> anyhow::Result<Vec<PathPattern>> {
    let written = match auth {
        Auth::Forward if protected.is_empty() => public,
        Auth::Public if public.is_empty() => protected,
        Auth::Forward => anyhow::bail!("everything on a `forward` site is protected but its `public` paths"),
        Auth::Public => anyhow::bail!("everything on a `public` site is public but its `protected` paths"),
        Auth::Oidc if public.is_empty() && protected.is_empty() => &[],
        Auth::Oidc => {
            anyhow::bail!("on an `oidc` site the application decides about each path, not the proxy")
        }
    };
    let mut patterns = Vec::new();
    for text in written {
        let pattern: PathPattern = text.parse().map_err(anyhow::Error::msg)?;
        // Caddy compares paths without regard to case.
        let first = pattern.as_str().split('/').nth(1).unwrap_or_default();
        if first.eq_ignore_ascii_case("outpost.goauthentik.io") {
            anyhow::bail!("`{pattern}` is where people sign in: it is open already");
        }
        patterns.push(pattern);
    }
    Ok(patterns)
}
