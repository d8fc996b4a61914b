//! A whole Caddyfile, that Caddy 2.6.2 (Debian 13) and 2.11 (Debian 14, Arch) understand alike.
//!
//! Every site is one `route`: only there does Caddy keep the written order, and the order is what makes it safe. First the
//! identity headers that a client may have sent are removed, then the endpoint is asked, which may set them.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::bundle::names::HostPath;
use crate::compile::item::{Auth, Backend, Site};
use crate::compile::path_pattern::PathPattern;

/// What Caddy is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaddyConfig {
    /// The address that the certificate authority may write to.
    pub email: Option<String>,
    /// Certificates from Caddy's own authority, for hosts without public names.
    pub tls_internal: bool,
    /// The Unix socket of the admin endpoint. Its permissions are the directory's: no suffix works in every version.
    pub admin: HostPath,
    /// Where the forward-auth endpoint (authentik's outpost) answers: `127.0.0.1:9000` or `unix//run/x.sock`.
    pub forward_auth: Option<String>,
    /// The sites, in any order.
    pub sites: Vec<Site>,
}

/// Where the endpoint answers on every site that asks it: the way to log in, back and out.
const OUTPOST: &str = "/outpost.goauthentik.io/*";

/// The headers by which a client could claim to be somebody, to come from elsewhere, or to ask for another path. Caddy sets anew what it
/// has to say itself: `X-Forwarded-For`, `-Host`, `-Proto`, and what the forward-auth endpoint says of a person.
const CLAIMS: [&str; 12] = [
    "Remote-*",
    "X-Authentik-*",
    "X-Forwarded-*",
    "X-Remote-*",
    "X-Auth-Request-*",
    "X-Webauth-*",
    "X-Original-*",
    "X-Rewrite-*",
    "X-Real-Ip",
    "X-Client-Ip",
    "True-Client-Ip",
    "Forwarded",
];

/// What the endpoint says about a person: the name of a matcher, the endpoint's header, the header that applications read.
const IDENTITY: [(&str, &str, &str); 4] = [
    ("@rick_no_user", "X-Authentik-Username", "Remote-User"),
    ("@rick_no_groups", "X-Authentik-Groups", "Remote-Groups"),
    ("@rick_no_email", "X-Authentik-Email", "Remote-Email"),
    ("@rick_no_name", "X-Authentik-Name", "Remote-Name"),
];

/// The Caddyfile.
///
/// # Errors
/// A site that nobody can guard, two sites for one host, or a text that a Caddyfile cannot hold.
pub fn render(config: &CaddyConfig) -> Result<String, String> {
    let mut sites: Vec<&Site> = config.sites.iter().collect();
    sites.sort_by(|a, b| a.host.cmp(&b.host));
    if let Some(twice) = sites.windows(2).find(|pair| pair[0].host == pair[1].host) {
        return Err(format!("two sites have the host name `{}`", twice[0].host.escape_debug()));
    }
    let mut out = Writer::default();
    global_options(&mut out, config)?;
    if !sites.is_empty() {
        out.block(&["(rick_no_claims)"], |out| {
            // A target such as `x:http://host/admin` has no path that could be compared, and would be passed on as it is.
            out.raw("@rick_no_path not vars_regexp {http.request.uri} ^/");
            out.line(&["respond", "@rick_no_path", "400"])?;
            CLAIMS.iter().try_for_each(|header| out.line(&["request_header", &format!("-{header}")]))
        })?;
    }
    if sites.iter().any(|site| site.asks()) {
        let address = config.forward_auth.as_deref().ok_or_else(|| unguarded(&sites))?;
        out.block(&["(rick_forward_auth)"], |out| forward_auth(out, address))?;
    }
    sites.iter().try_for_each(|site| {
        render_site(&mut out, site).map_err(|why| format!("site `{}`: {why}", site.host.escape_debug()))
    })?;
    Ok(out.text)
}

fn unguarded(sites: &[&Site]) -> String {
    let hosts: Vec<String> = sites
        .iter()
        .filter(|site| site.asks())
        .map(|site| format!("`{}`", site.host.escape_debug()))
        .collect();
    format!("{} asks for forward authentication, and no forward-auth endpoint is known", hosts.join(", "))
}

fn global_options(out: &mut Writer, config: &CaddyConfig) -> Result<(), String> {
    out.block(&[], |out| {
        out.line(&["admin", &format!("unix/{}", config.admin)])?;
        if let Some(email) = &config.email {
            out.line(&["email", email])?;
        }
        if config.tls_internal {
            // Caddy would call sudo to install its root certificate on the host otherwise.
            out.line(&["skip_install_trust"])?;
            out.line(&["local_certs"])?;
        }
        Ok(())
    })
}

/// The login paths first, or nobody could sign in; then the question; then what 2.6.2 leaves behind.
fn forward_auth(out: &mut Writer, address: &str) -> Result<(), String> {
    check_address(address)?;
    out.line(&["reverse_proxy", OUTPOST, address])?;
    out.block(&["forward_auth", address], |out| {
        out.line(&["uri", "/outpost.goauthentik.io/auth/caddy"])?;
        let copies: Vec<String> = IDENTITY.iter().map(|(_, from, to)| format!("{from}>{to}")).collect();
        let mut words = vec!["copy_headers"];
        words.extend(copies.iter().map(String::as_str));
        out.line(&words)
    })?;
    // If the endpoint sends no such header, 2.6.2 passes on its own placeholder, `{http.…}`, as the person's name.
    IDENTITY.iter().try_for_each(|(matcher, _, header)| {
        out.raw(&format!("{matcher} header_regexp {header} ^\\{{"));
        out.line(&["request_header", matcher, &format!("-{header}")])
    })
}

fn render_site(out: &mut Writer, site: &Site) -> Result<(), String> {
    check_host(&site.host)?;
    out.block(&[&site.host], |out| {
        out.block(&["route"], |out| {
            out.line(&["import", "rick_no_claims"])?;
            match (site.asks(), site.exceptions.as_slice()) {
                (false, _) => backend(out, &site.backend),
                (true, []) => guarded(out, &site.backend),
                (true, exceptions) => partly_open(out, site, exceptions),
            }
        })
    })
}

/// Behind the question who it is.
fn guarded(out: &mut Writer, to: &Backend) -> Result<(), String> {
    out.line(&["import", "rick_forward_auth"])?;
    backend(out, to)
}

/// Paths that a web server and the application behind it may read in two ways: Caddy compares paths decoded and cleaned of `..`, and the
/// application gets them as they were sent. `/public/..;/admin` is `/admin` to some, `/admin/../public/x` begins with `/admin` for others,
/// some decode a `/` that is escaped, and some decode twice. So what holds such a thing is nothing that everybody may see, wherever it
/// seems to lead.
const AMBIGUOUS: [&str; 2] = [
    r"not vars_regexp {http.request.uri.path} `[;\\%?#[:cntrl:]]|//|/\.\.?(/|$)`",
    r"not vars_regexp {http.request.uri} `^[^?]*%(2[EeFf]|5[Cc])`",
];

/// A site of which a part is open: its open paths in a branch that asks nobody, everything else behind the question.
fn partly_open(out: &mut Writer, site: &Site, exceptions: &[PathPattern]) -> Result<(), String> {
    out.block(&["@rick_open"], |out| {
        let alike: Vec<String> = exceptions.iter().flat_map(PathPattern::with_what_is_alike).collect();
        let mut words = Vec::new();
        if site.auth == Auth::Forward {
            words.push("path");
            words.extend(exceptions.iter().map(PathPattern::as_str));
        } else {
            // The way to log in is behind the question too: the outpost answers there.
            words.extend(["not", "path", OUTPOST]);
            words.extend(alike.iter().map(String::as_str));
        }
        out.line(&words)?;
        for line in AMBIGUOUS {
            out.raw(line);
        }
        Ok(())
    })?;
    out.block(&["handle", "@rick_open"], |out| backend(out, &site.backend))?;
    // `handle` sorts what it holds; only `route` keeps the order.
    out.block(&["handle"], |out| out.block(&["route"], |out| guarded(out, &site.backend)))
}

fn backend(out: &mut Writer, backend: &Backend) -> Result<(), String> {
    match backend {
        Backend::Files(root) => {
            out.line(&["root", "*", root])?;
            out.line(&["encode", "gzip"])?;
            out.line(&["file_server"])
        }
        Backend::Proxy(address) => {
            check_address(address)?;
            out.line(&["reverse_proxy", address])
        }
    }
}

/// A site's address is a bare host name: with a scheme, port or path it would no longer be one HTTPS site.
fn check_host(host: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '*');
    if !host.is_empty() && host.chars().all(good) {
        return Ok(());
    }
    Err("it is no host name".to_owned())
}

/// An upstream must not be taken for a matcher, a path or a placeholder.
fn check_address(address: &str) -> Result<(), String> {
    let socket = address.strip_prefix("unix/").is_some_and(|path| path.parse::<HostPath>().is_ok());
    let tcp = address.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']'))
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if socket || tcp {
        return Ok(());
    }
    Err(format!(
        "`{}` is no address of a server: write `127.0.0.1:8080` or `unix//run/app/http.sock`",
        address.escape_debug()
    ))
}

/// Lines in Caddyfile's own format: one tab for each level, an empty line between blocks of the outermost.
#[derive(Default)]
struct Writer {
    text: String,
    depth: usize,
}

impl Writer {
    fn line(&mut self, words: &[&str]) -> Result<(), String> {
        let words = words.iter().map(|word| quote(word)).collect::<Result<Vec<_>, _>>()?;
        self.raw(&words.join(" "));
        Ok(())
    }

    /// A line with a constant text of ours, which `quote` would refuse.
    fn raw(&mut self, line: &str) {
        self.text.extend(std::iter::repeat_n('\t', self.depth));
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn block(
        &mut self,
        head: &[&str],
        body: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        if self.depth == 0 && !self.text.is_empty() {
            self.text.push('\n');
        }
        let mut words = head.iter().map(|word| quote(word)).collect::<Result<Vec<_>, _>>()?;
        words.push("{".to_owned());
        self.raw(&words.join(" "));
        self.depth += 1;
        body(self)?;
        self.depth -= 1;
        self.raw("}");
        Ok(())
    }
}

/// One token of a Caddyfile, in quotes if it needs them.
///
/// # Errors
/// Braces are refused: `{$X}` is replaced before anything is read, `{x}` when it is used, and 2.6.2 and 2.11 differ over escapes.
/// So are control characters, and what neither kind of quotes can hold.
fn quote(word: &str) -> Result<String, String> {
    let cannot = |why: &str| Err(format!("`{}` cannot stand in a Caddyfile: {why}", word.escape_debug()));
    if word.contains(['{', '}']) {
        return cannot("braces mean a placeholder there");
    }
    if word.chars().any(char::is_control) {
        return cannot("it holds a control character");
    }
    let plain = !word.is_empty()
        && !word.starts_with('#')
        && !word.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '`' | '\\' | '<'));
    if plain {
        return Ok(word.to_owned());
    }
    if !word.contains(['"', '\\']) {
        return Ok(format!("\"{word}\""));
    }
    if !word.contains('`') {
        return Ok(format!("`{word}`"));
    }
    cannot("it mixes backticks with other quotes or backslashes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(host: &str, auth: Auth, backend: Backend) -> Site {
        Site { host: host.to_owned(), auth, backend, exceptions: Vec::new() }
    }

    fn with(exceptions: &[&str], site: Site) -> Site {
        Site { exceptions: exceptions.iter().map(|path| path.parse().unwrap()).collect(), ..site }
    }

    fn proxy(host: &str, auth: Auth, address: &str) -> Site {
        site(host, auth, Backend::Proxy(address.to_owned()))
    }

    fn config(sites: Vec<Site>) -> CaddyConfig {
        CaddyConfig {
            email: None,
            tls_internal: false,
            admin: "/run/caddy/admin.sock".parse().unwrap(),
            forward_auth: Some("127.0.0.1:9000".to_owned()),
            sites,
        }
    }

    fn homelab() -> CaddyConfig {
        let sites = vec![
            proxy("whoami.jnss.me", Auth::Forward, "127.0.0.1:8080"),
            proxy("git.jnss.me", Auth::Oidc, "unix//run/gitea/http.sock"),
            site("docs.jnss.me", Auth::Forward, Backend::Files("@rick(object:docs)/site".to_owned())),
            site("jnss.me", Auth::Public, Backend::Files("/srv/a site".to_owned())),
            with(
                &["/health", "/metrics", "/public/*"],
                proxy("app.jnss.me", Auth::Forward, "unix//run/app/http.sock"),
            ),
            with(&["/admin/*"], site("shop.jnss.me", Auth::Public, Backend::Files("/srv/shop".to_owned()))),
        ];
        CaddyConfig { email: Some("admin@jnss.me".to_owned()), tls_internal: true, ..config(sites) }
    }

    #[test]
    fn the_whole_file_is_as_tried_with_both_versions_of_caddy() {
        assert_eq!(render(&homelab()).unwrap(), include_str!("testdata/Caddyfile"));
    }

    #[test]
    fn the_order_of_sites_does_not_matter() {
        let mut backwards = homelab();
        backwards.sites.reverse();
        assert_eq!(render(&backwards), render(&homelab()));
    }

    #[test]
    fn a_host_without_sites_has_only_the_global_options() {
        assert_eq!(render(&config(vec![])).unwrap(), "{\n\tadmin unix//run/caddy/admin.sock\n}\n");
    }

    #[test]
    fn every_site_begins_with_what_no_client_may_claim() {
        let text = render(&homelab()).unwrap();
        assert_eq!(text.matches("\troute {\n\t\timport rick_no_claims\n").count(), 6);
        assert!(text.contains(
            "respond @rick_no_path 400\n\trequest_header -Remote-*\n\trequest_header -X-Authentik-*\n"
        ));
    }

    #[test]
    fn forward_auth_without_an_endpoint_is_an_error() {
        let mut config = homelab();
        config.forward_auth = None;
        let error = render(&config).unwrap_err();
        assert!(error.contains("`app.jnss.me`, `docs.jnss.me`, `shop.jnss.me`, `whoami.jnss.me`"), "{error}");
        config.sites.retain(|site| !site.asks());
        assert!(render(&config).is_ok());
    }

    #[test]
    fn what_would_become_something_else_is_refused() {
        for address in
            ["/path", "@name:80", "*", "{$X}:80", "a b:80", "8080", "a:0", "unix/run/x", "http://a:80", ""]
        {
            assert!(render(&config(vec![proxy("a.b", Auth::Public, address)])).is_err(), "{address}");
        }
        for host in ["", "a.b:80", "http://a.b", "a.b/x", "a b", "a.b,c.d", "{$X}", "a\n", "(x)"] {
            assert!(render(&config(vec![proxy(host, Auth::Public, "a:80")])).is_err(), "{host:?}");
        }
        assert!(
            render(&config(vec![proxy("a", Auth::Public, "a:80"), proxy("a", Auth::Oidc, "b:80")])).is_err()
        );
    }

    #[test]
    fn tokens_are_quoted_only_where_they_must() {
        for (word, expected) in [
            ("/srv/www", "/srv/www"),
            ("@rick(object:docs)/site", "@rick(object:docs)/site"),
            ("a#b", "a#b"),
            ("", "\"\""),
            ("a b", "\"a b\""),
            ("#a", "\"#a\""),
            ("a`b", "\"a`b\""),
            ("a\"b", "`a\"b`"),
            ("a\\b", "`a\\b`"),
        ] {
            assert_eq!(quote(word).as_deref(), Ok(expected));
        }
        for word in ["{env.X}", "a\nb", "`\"", "`\\"] {
            assert!(quote(word).is_err(), "{word:?}");
        }
    }
}
