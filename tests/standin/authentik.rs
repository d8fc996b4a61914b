//! `ak`: authentik's server, its worker, and two of its commands.
//!
//! The server's embedded outpost is one for forward authentication of single applications. Whoever is asked to
//! sign in is `alice`, and is in at once.

use crate::checks::{Process, directory, readable_file, required, secret_file, variable, writable_directory};
use crate::http::{self, Listener, Request, Response};
use crate::postgres::{Client, Login, literal};
use crate::text::{json_map, json_strings, percent_encode};
use crate::{Outcome, say};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Component, Path};
use std::sync::Arc;

const DEFAULT_PORT: u16 = 9000;
const COOKIE: &str = "authentik_proxy_standin";
const OUTPOST: &str = "/outpost.goauthentik.io/";

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["server"] => serve("server"),
        ["worker"] => {
            if listen_address()?.port() == DEFAULT_PORT {
                return Err(format!("AUTHENTIK_LISTEN__HTTP: port {DEFAULT_PORT} is the server's"));
            }
            serve("worker")
        }
        ["healthcheck"] => check_health(),
        ["apply_blueprint", path] => apply_blueprint(path),
        _ => Err(format!("the arguments {arguments:?} are not known")),
    }
}

/// Checks what server and worker need alike, and answers.
fn serve(what: &str) -> Outcome {
    let process = Process::not_root()?;
    say(&format!("ak {what}: {process}"));
    drop(connect()?);
    let proxies = networks(&required("AUTHENTIK_LISTEN__TRUSTED_PROXY_CIDRS")?)?;
    writable_directory("authentik's data", "/data")?;
    let login_host = variable("AUTHENTIK_HOST_STANDIN")?.unwrap_or_else(|| "auth.jnss.me".into());
    let listener = Listener::tcp(&listen_address()?.to_string())?;
    say(&format!("ak {what}: ready"));
    let handler: Arc<http::Handler> = if what == "server" {
        Arc::new(move |request: &Request| respond(request, &login_host, &proxies))
    } else {
        Arc::new(|request: &Request| health(request).unwrap_or_else(Response::not_found))
    };
    http::serve(&listener, &handler)
}

/// What every command of authentik loads: its secret key and its database.
fn connect() -> Outcome<Client> {
    let name = "AUTHENTIK_SECRET_KEY";
    let address = required(name)?;
    let path = address.strip_prefix("file://").ok_or_else(|| format!("{name} must be file:///some/path"))?;
    if secret_file(name, Path::new(path))?.len() < 40 {
        return Err(format!("{name}: fewer than 40 bytes are in {path}"));
    }
    let host = "AUTHENTIK_POSTGRESQL__HOST";
    Client::connect(&Login {
        directory: directory(host, &required(host)?)?,
        user: required("AUTHENTIK_POSTGRESQL__USER")?,
        database: required("AUTHENTIK_POSTGRESQL__NAME")?,
    })
}

/// An address with its port; `:9000` is every address, as Go has it.
fn listen_address() -> Outcome<SocketAddr> {
    let name = "AUTHENTIK_LISTEN__HTTP";
    let text = variable(name)?.unwrap_or_else(|| format!("0.0.0.0:{DEFAULT_PORT}"));
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.clone() };
    full.parse().map_err(|_| format!("{name} is {text:?}, not an address with its port"))
}

/// A network: its address, and how many bits of it count.
#[derive(Debug, PartialEq)]
struct Network(IpAddr, u8);

fn networks(list: &str) -> Outcome<Vec<Network>> {
    let network = |text: &str| {
        let (address, bits) = text.trim().split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        bits.parse::<u8>().ok().filter(|bits| *bits <= most).map(|bits| Network(address, bits))
    };
    let wrong = |text: &str| format!("AUTHENTIK_LISTEN__TRUSTED_PROXY_CIDRS: {text:?} is no network");
    list.split(',').map(|text| network(text).ok_or_else(|| wrong(text))).collect()
}

impl Network {
    fn holds(&self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        };
        let same_kind = self.0.is_ipv4() == address.is_ipv4();
        let differ = bits(self.0) ^ bits(address);
        same_kind && (self.1 == 0 || differ >> (128 - u32::from(self.1)) == 0)
    }
}

fn check_health() -> Outcome {
    let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listen_address()?.port());
    match http::get_status(&address.to_string(), "/-/health/live/")? {
        200 => Ok(()),
        status => Err(format!("the server's health is {status}")),
    }
}

// ---- blueprints

/// Checks a blueprint's secrets, and leaves its text in the database as evidence.
fn apply_blueprint(path: &str) -> Outcome {
    Process::not_root()?;
    let relative = Path::new(path);
    if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(format!("the blueprint {path:?} is not one below /blueprints"));
    }
    let text = readable_file("blueprint", &Path::new("/blueprints").join(relative))?;
    for file in files_of_blueprint(&text)? {
        secret_file(&format!("blueprint {path}: !File"), Path::new(&file))?;
    }
    connect()?.query(&format!(
        "CREATE TABLE IF NOT EXISTS standin_blueprint (path text PRIMARY KEY, body text);
         INSERT INTO standin_blueprint VALUES ({}, {})
         ON CONFLICT (path) DO UPDATE SET body = excluded.body",
        literal(path),
        literal(&text),
    ))?;
    say(&format!("ak apply_blueprint: applied {path}"));
    Ok(())
}

/// The path after each `!File`: plain, quoted, or first of a flow list, where a default may follow it.
fn files_of_blueprint(text: &str) -> Outcome<Vec<String>> {
    let mut files = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        for (at, tag) in line.match_indices("!File") {
            let rest = line.get(at + tag.len()..).unwrap_or_default();
            let (list, value) = match rest.trim_start().strip_prefix('[') {
                Some(value) => (true, value.trim_start()),
                None => (false, rest.trim_start()),
            };
            let end = |char: char| char.is_whitespace() || (list && matches!(char, ',' | ']'));
            let path = ['"', '\'']
                .iter()
                .find_map(|quote| value.strip_prefix(*quote)?.split_once(*quote).map(|(path, _)| path))
                .or_else(|| value.split(end).next())
                .filter(|path| path.starts_with('/'));
            files.push(path.ok_or_else(|| format!("no path follows !File in {:?}", line.trim()))?.into());
        }
    }
    Ok(files)
}

// ---- HTTP

fn respond(request: &Request, login_host: &str, proxies: &[Network]) -> Response {
    if let Some(response) = health(request) {
        return response;
    }
    if let Some(command) = request.path.strip_prefix(OUTPOST) {
        // The real one would not read their headers, and know nothing of the site that is asked for.
        let trusted = request.peer.is_some_and(|peer| proxies.iter().any(|network| network.holds(peer)));
        if !trusted {
            return Response::text(400, &format!("{:?} is no trusted proxy\n", request.peer));
        }
        return outpost(command, request, login_host)
            .unwrap_or_else(|| Response::text(400, "the request lacks what it needs\n"));
    }
    match request.path.as_str() {
        "/" => Response::redirect("/flows/-/default/authentication/?next=/"),
        "/if/flow/initial-setup/" => Response::text(200, "authentik's initial setup\n"),
        "/application/o/authorize/" => {
            authorize(request).unwrap_or_else(|| Response::text(400, "redirect_uri is missing or wrong\n"))
        }
        path => discovery(path, request).unwrap_or_else(Response::not_found),
    }
}

fn health(request: &Request) -> Option<Response> {
    let paths = ["/-/health/live/", "/-/health/ready/"];
    paths.contains(&request.path.as_str()).then(|| Response::text(200, "ok\n"))
}

/// What the embedded outpost answers. Nothing stands for a bad request.
fn outpost(command: &str, request: &Request, login_host: &str) -> Option<Response> {
    match command {
        "auth/caddy" => authenticate(request),
        "start" => start(request, login_host),
        "callback" => callback(request),
        "sign_out" => {
            let cookie = format!("{COOKIE}=; Path=/; Max-Age=0; Secure; HttpOnly");
            Some(Response::redirect("/").with("Set-Cookie", &cookie))
        }
        _ => Some(Response::not_found()),
    }
}

/// Caddy asks about the request that it holds: who is it, or where to send them?
fn authenticate(request: &Request) -> Option<Response> {
    let [host, scheme, target] =
        ["x-forwarded-host", "x-forwarded-proto", "x-forwarded-uri"].map(|name| request.header(name));
    let (host, scheme, target) = (host?, scheme?, target?);
    if let Some(name) = signed_in(request) {
        return Some(identity(name));
    }
    if target.split('?').next() == Some("/skip") {
        return Some(Response::empty(200));
    }
    let original = percent_encode(&format!("{scheme}://{host}{target}"));
    Some(Response::redirect(&format!("https://{host}{OUTPOST}start?rd={original}")))
}

fn signed_in(request: &Request) -> Option<&str> {
    let cookies = request.header("cookie")?.split([';', ',']);
    let mut pairs = cookies.filter_map(|cookie| cookie.trim().split_once('='));
    pairs.find(|(key, _)| *key == COOKIE).map(|(_, name)| name).filter(|name| is_name(name))
}

fn is_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte);
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

fn identity(name: &str) -> Response {
    Response::empty(200)
        .with("X-authentik-username", name)
        .with("X-authentik-groups", &format!("users|{name}-group"))
        .with("X-authentik-email", &format!("{name}@example.org"))
        .with("X-authentik-name", name)
        .with("X-authentik-uid", &format!("{name}-uid"))
        .with("X-authentik-jwt", "standin")
}

fn public_host(request: &Request) -> Option<&str> {
    request.header("x-forwarded-host").or_else(|| request.header("host"))
}

fn start(request: &Request, login_host: &str) -> Option<Response> {
    let (host, original) = (public_host(request)?, percent_encode(&request.parameter("rd")?));
    let callback = percent_encode(&format!("https://{host}{OUTPOST}callback?rd={original}"));
    let authorize = format!("https://{login_host}/application/o/authorize/");
    Some(Response::redirect(&format!("{authorize}?client_id=standin&redirect_uri={callback}")))
}

/// Nobody is asked for a password: the person is `alice`.
fn authorize(request: &Request) -> Option<Response> {
    let mut to = request.parameter("redirect_uri")?;
    host_of(&to)?;
    to.push_str(if to.contains('?') { "&code=alice" } else { "?code=alice" });
    if let Some(state) = request.parameter("state") {
        to.extend(["&state=", &percent_encode(&state)]);
    }
    Some(Response::redirect(&to))
}

fn callback(request: &Request) -> Option<Response> {
    let (original, name) = (request.parameter("rd")?, request.parameter("code")?);
    if host_of(&original) != request.header("x-forwarded-host") || !is_name(&name) {
        return None;
    }
    let cookie = format!("{COOKIE}={name}; Path=/; Secure; HttpOnly");
    Some(Response::redirect(&original).with("Set-Cookie", &cookie))
}

/// The host of an address, with its port if it names one.
fn host_of(address: &str) -> Option<&str> {
    let rest = address.strip_prefix("https://").or_else(|| address.strip_prefix("http://"))?;
    let host = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    Some(host).filter(|host| !host.is_empty() && !host.contains('@'))
}

/// The document that an application's OpenID Connect client begins with.
fn discovery(path: &str, request: &Request) -> Option<Response> {
    let slug = path.strip_prefix("/application/o/")?.strip_suffix("/.well-known/openid-configuration")?;
    if !is_name(slug) {
        return None;
    }
    let base = format!("https://{}/application/o", public_host(request)?);
    let addresses = json_map([
        ("issuer", format!("{base}/{slug}/").as_str()),
        ("authorization_endpoint", &format!("{base}/authorize/")),
        ("token_endpoint", &format!("{base}/token/")),
        ("userinfo_endpoint", &format!("{base}/userinfo/")),
        ("end_session_endpoint", &format!("{base}/{slug}/end-session/")),
        ("jwks_uri", &format!("{base}/{slug}/jwks/")),
    ]);
    Some(Response::json(format!(
        "{},\"response_types_supported\":{},\"subject_types_supported\":{},\
         \"id_token_signing_alg_values_supported\":{}}}\n",
        addresses.trim_end_matches('}'),
        json_strings(["code"]),
        json_strings(["public"]),
        json_strings(["RS256"]),
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_file_is_found() {
        let text = "a: !File /a\n# !File /no\nb: !File [/b]\nc: !File [ \"/c d\", x ]\nd: {e: !File '/e'}\n\
                    f: !File \"/f\"\ng: [!File [/g, x], !File [/h]]\n";
        let files = ["/a", "/b", "/c d", "/e", "/f", "/g", "/h"];
        assert_eq!(files_of_blueprint(text), Ok(files.map(String::from).to_vec()));
        for wrong in ["a: !File", "a: !File relative", "a: !File []", "a: !File\n  /b"] {
            assert!(files_of_blueprint(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts_and_networks() {
        assert_eq!(host_of("https://a:1/b@c"), Some("a:1"));
        assert_eq!(host_of("http://a?b"), Some("a"));
        for wrong in ["//a/", "javascript:x", "https://", "https://u@a/"] {
            assert_eq!(host_of(wrong), None, "{wrong}");
        }
        let found = networks("127.0.0.0/8, ::1/128").unwrap();
        assert!(found[0].holds("127.1.2.3".parse().unwrap()) && !found[0].holds("128.0.0.1".parse().unwrap()));
        assert!(found[1].holds("::1".parse().unwrap()) && !found[1].holds("127.0.0.1".parse().unwrap()));
        for wrong in ["", "127.0.0.1", "127.0.0.0/33", "a/8", "127.0.0.0/8,"] {
            assert!(networks(wrong).is_err(), "{wrong}");
        }
    }
}
