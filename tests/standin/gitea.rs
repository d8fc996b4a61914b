//! `gitea`: the server, its migration, and the commands for its sources of sign-in.

use crate::checks::{Process, directory, readable_file, secret_file, variable, writable_directory};
use crate::http::{self, Listener, Request, Response};
use crate::ini::Ini;
use crate::postgres::{Client, Login, Row, literal};
use crate::text::{Table, json_map, json_string, json_strings, percent_decode};
use crate::{Outcome, complain, say, valkey};
use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The type of a source that is OAuth2 or OpenID Connect.
const OAUTH2: u8 = 6;

pub(crate) fn run(arguments: &[String]) -> Outcome {
    let Given { words, flags } = Given::parse(arguments)?;
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let path = flags.last("config").unwrap_or("/etc/gitea/app.ini");
    let program = |allowed: &[&str]| {
        flags.only(allowed)?;
        Program::load(Path::new(path))
    };
    let oauth: Vec<_> = OAUTH.iter().map(|setting| setting.flag).chain(["name", "id"]).collect();
    match words.as_slice() {
        ["web"] => web(&program(&[])?),
        ["migrate"] => migrate(&mut program(&[])?.client()?),
        ["admin", "auth", "list"] => list(
            &mut program(&["min-width", "tab-width", "padding", "pad-char", "vertical-bars"])?.client()?,
            &flags,
        ),
        ["admin", "auth", "add-oauth"] => add(&mut program(&oauth)?.client()?, &flags),
        ["admin", "auth", "update-oauth"] => update(&mut program(&oauth)?.client()?, &flags),
        _ => Err(format!("the command {words:?} is not known")),
    }
}

// ---- the command line

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Text,
    Switch,
    /// Can be repeated, and each time hold several, between commas.
    List,
}

/// A flag that is a member of a source's settings.
struct Setting {
    flag: &'static str,
    member: &'static str,
    kind: Kind,
}

const fn setting(flag: &'static str, member: &'static str, kind: Kind) -> Setting {
    Setting { flag, member, kind }
}

const OAUTH: [Setting; 14] = [
    setting("provider", "Provider", Kind::Text),
    setting("key", "ClientID", Kind::Text),
    setting("secret", "ClientSecret", Kind::Text),
    setting("auto-discover-url", "OpenIDConnectAutoDiscoveryURL", Kind::Text),
    setting("icon-url", "IconURL", Kind::Text),
    setting("scopes", "Scopes", Kind::List),
    setting("required-claim-name", "RequiredClaimName", Kind::Text),
    setting("required-claim-value", "RequiredClaimValue", Kind::Text),
    setting("group-claim-name", "GroupClaimName", Kind::Text),
    setting("admin-group", "AdminGroup", Kind::Text),
    setting("group-team-map", "GroupTeamMap", Kind::Text),
    setting("group-team-map-removal", "GroupTeamMapRemoval", Kind::Switch),
    setting("restricted-group", "RestrictedGroup", Kind::Text),
    setting("skip-local-2fa", "SkipLocalTwoFA", Kind::Switch),
];

/// Flags that any command takes, with their short forms.
const GLOBAL: [(&str, &str); 3] = [("config", "c"), ("work-path", "w"), ("custom-path", "C")];

/// What kind of flag this is, under its long name.
fn kind_of(flag: &str) -> Option<(&str, Kind)> {
    if let Some((long, _)) = GLOBAL.iter().find(|(long, short)| *long == flag || *short == flag) {
        return Some((long, Kind::Text));
    }
    match flag {
        "name" | "id" | "min-width" | "tab-width" | "padding" | "pad-char" => Some((flag, Kind::Text)),
        "vertical-bars" => Some((flag, Kind::Switch)),
        _ => OAUTH.iter().find(|setting| setting.flag == flag).map(|setting| (flag, setting.kind)),
    }
}

#[derive(Debug, Default, PartialEq)]
struct Flags(BTreeMap<String, Vec<String>>);

impl Flags {
    fn last(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.last().map(String::as_str)
    }

    fn required(&self, name: &str) -> Outcome<&str> {
        self.last(name).filter(|value| !value.is_empty()).ok_or_else(|| format!("--{name} flag is missing"))
    }

    fn number(&self, name: &str, default: usize) -> Outcome<usize> {
        let value = self.last(name).map(str::parse).transpose();
        // Nobody's terminal is wider, and padding is made of memory.
        let value = value.ok().filter(|value| value.unwrap_or_default() <= 1000);
        value.map(|value| value.unwrap_or(default)).ok_or_else(|| format!("--{name} is no small number"))
    }

    fn only(&self, allowed: &[&str]) -> Outcome {
        let is_allowed =
            |name: &str| allowed.contains(&name) || GLOBAL.iter().any(|(global, _)| *global == name);
        match self.0.keys().find(|name| !is_allowed(name)) {
            Some(name) => Err(format!("flag provided but not defined: --{name}")),
            None => Ok(()),
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Given {
    words: Vec<String>,
    flags: Flags,
}

impl Given {
    /// Flags may stand anywhere, as `--flag value` or `--flag=value`; a switch takes no value but after `=`.
    fn parse(arguments: &[String]) -> Outcome<Self> {
        let mut given = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let long = argument.strip_prefix("--");
            let Some(flag) = long.or_else(|| argument.strip_prefix('-').filter(|short| !short.is_empty()))
            else {
                given.words.push(argument.clone());
                continue;
            };
            let (flag, value) =
                flag.split_once('=').map_or((flag, None), |(flag, value)| (flag, Some(value)));
            let known = kind_of(flag).filter(|_| long.is_some() == (flag.len() > 1));
            let (name, kind) = known.ok_or_else(|| format!("flag provided but not defined: {argument}"))?;
            let value = match (kind, value) {
                (Kind::Switch, None) => "true",
                (Kind::Switch, Some("true" | "false")) | (Kind::Text | Kind::List, Some(_)) => {
                    value.unwrap_or_default()
                }
                (Kind::Switch, Some(_)) => return Err(format!("--{name} is either true or false")),
                (Kind::Text | Kind::List, None) => {
                    arguments.next().ok_or_else(|| format!("flag needs an argument: --{name}"))?
                }
            };
            let values = given.flags.0.entry(name.into()).or_default();
            if kind == Kind::List {
                values.extend(value.split(',').map(|part| part.trim().to_string()));
            } else {
                values.push(value.into());
            }
        }
        Ok(given)
    }
}

// ---- the settings

/// The program after its checks.
struct Program {
    process: Process,
    ini: Ini,
    login: Login,
}

impl Program {
    fn load(path: &Path) -> Outcome<Self> {
        let process = Process::not_root()?;
        let ini = Ini::parse(&readable_file("configuration", path)?)
            .map_err(|why| format!("{}: {why}", path.display()))?;
        Self::check(process, ini).map_err(|why| format!("{}: {why}", path.display()))
    }

    fn check(process: Process, ini: Ini) -> Outcome<Self> {
        check_user(ini.required("", "RUN_USER")?, process.uid)?;
        check_secrets(&ini)?;
        check_directories(&ini)?;
        if ini.required("database", "DB_TYPE")? != "postgres" {
            return Err("[database] DB_TYPE is not postgres".into());
        }
        let login = Login {
            directory: directory("[database] HOST", ini.required("database", "HOST")?)?,
            user: ini.required("database", "USER")?.into(),
            database: ini.required("database", "NAME")?.into(),
        };
        let program = Self { process, ini, login };
        program.client()?;
        Ok(program)
    }

    fn client(&self) -> Outcome<Client> {
        Client::connect(&self.login)
    }
}

/// Gitea refuses to run as anyone else than its settings say.
fn check_user(expected: &str, uid: u32) -> Outcome {
    let accounts = readable_file("accounts", Path::new("/etc/passwd"))?;
    let name = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    });
    match name {
        Some(name) if name == expected => Ok(()),
        Some(name) => Err(format!("expect user {expected:?} (RUN_USER) but current user is {name:?}")),
        None => Err(format!("/etc/passwd has no name for uid {uid}; RUN_USER is {expected:?}")),
    }
}

fn check_secrets(ini: &Ini) -> Outcome {
    if !ini.is_true("security", "INSTALL_LOCK") {
        return Err("[security] INSTALL_LOCK is not true".into());
    }
    secret(ini, "security", "SECRET_KEY")?;
    secret(ini, "security", "INTERNAL_TOKEN")?;
    jwt_secret(ini, "oauth2", "JWT_SECRET")?;
    if ini.is_true("server", "LFS_START_SERVER") {
        jwt_secret(ini, "server", "LFS_JWT_SECRET")?;
    }
    Ok(())
}

/// The secret behind `KEY_URI`, which excludes one in `KEY` itself.
fn secret(ini: &Ini, section: &str, key: &str) -> Outcome<String> {
    let address_key = format!("{key}_URI");
    let address = ini.required(section, &address_key)?;
    let what = format!("[{section}] {address_key}");
    if ini.get(section, key).is_some() {
        return Err(format!("cannot specify both {key} and {what}"));
    }
    let path = address.strip_prefix("file:").ok_or_else(|| format!("{what} must be file:/some/path"))?;
    secret_file(&what, Path::new(path.strip_prefix("//").unwrap_or(path)))
}

fn jwt_secret(ini: &Ini, section: &str, key: &str) -> Outcome {
    let secret = secret(ini, section, key)?;
    let is_digit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if secret.len() == 43 && secret.bytes().all(is_digit) {
        Ok(())
    } else {
        Err(format!("[{section}] {key}_URI: the secret is not 32 bytes as base64url without padding"))
    }
}

fn check_directories(ini: &Ini) -> Outcome {
    let work = match ini.get("", "WORK_PATH") {
        Some(path) => path.to_string(),
        None => variable("GITEA_WORK_DIR")?.ok_or("neither WORK_PATH nor GITEA_WORK_DIR is set")?,
    };
    let work = writable_directory("WORK_PATH", &work)?;
    let data = work.join(ini.get("server", "APP_DATA_PATH").unwrap_or("data"));
    if ini.get("server", "APP_DATA_PATH").is_none() {
        // Gitea makes its default one.
        fs::create_dir_all(&data).map_err(|why| format!("{}: {why}", data.display()))?;
    }
    let data = data.to_str().ok_or("[server] APP_DATA_PATH is not UTF-8")?;
    writable_directory("[server] APP_DATA_PATH", data).map(drop)
}

/// Every `redis+socket:///path?db=N` in the sections that may have one.
fn check_valkey(ini: &Ini) -> Outcome {
    let speaks = |name: &str| matches!(name, "cache" | "session" | "queue") || name.starts_with("queue.");
    for (section, keys) in ini.sections().filter(|(name, _)| speaks(name)) {
        for (key, value) in keys {
            if let Some(address) = value.strip_prefix("redis+socket://") {
                let checked = check_socket(address);
                checked.map_err(|why| format!("[{section}] {key}: {why}"))?;
            }
        }
    }
    Ok(())
}

fn check_socket(address: &str) -> Outcome {
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let path = percent_decode(path).filter(|path| path.starts_with('/')).ok_or("has no absolute path")?;
    let mut database = 0;
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        if matches!(name, "db" | "database") {
            database = value.parse().map_err(|_| format!("{value:?} is not the number of a database"))?;
        }
    }
    valkey::check(Path::new(&path), database)
}

// ---- the database

fn migrate(client: &mut Client) -> Outcome {
    client.query(
        "CREATE TABLE IF NOT EXISTS version (id bigint PRIMARY KEY, version bigint);
         INSERT INTO version VALUES (1, 1) ON CONFLICT (id) DO NOTHING;
         CREATE TABLE IF NOT EXISTS login_source (
             id bigserial PRIMARY KEY, type integer, name varchar(255) UNIQUE,
             is_active boolean NOT NULL DEFAULT false, is_sync_enabled boolean NOT NULL DEFAULT false,
             two_factor_policy text NOT NULL DEFAULT '', cfg text,
             created_unix bigint, updated_unix bigint)",
    )?;
    Ok(())
}

fn list(client: &mut Client, flags: &Flags) -> Outcome {
    let table = Table {
        min_width: flags.number("min-width", 0)?,
        tab_width: flags.number("tab-width", 8)?,
        padding: flags.number("padding", 1)?,
        pad: flags.last("pad-char").and_then(|text| text.chars().next()).unwrap_or('\t'),
        bars: flags.last("vertical-bars") == Some("true"),
    };
    let mut rows = vec![["ID", "Name", "Type", "Enabled"].map(String::from)];
    let sources = client.query(&format!(
        "SELECT id, name, CASE type WHEN {OAUTH2} THEN 'OAuth2' ELSE type::text END, is_active::text
         FROM login_source ORDER BY id"
    ))?;
    for source in sources {
        let cells = source.into_iter().map(Option::unwrap_or_default).collect::<Vec<_>>();
        rows.push(cells.try_into().map_err(|_| "a source has too few columns")?);
    }
    say(table.draw(&rows).trim_end());
    Ok(())
}

/// The members of a source's settings that flags give, or all of them.
fn members(flags: &Flags, all: bool) -> String {
    let mut members = Vec::new();
    for Setting { flag, member, kind } in OAUTH {
        let given = flags.0.get(flag);
        if !all && given.is_none() {
            continue;
        }
        let last = flags.last(flag).unwrap_or_default();
        let value = match kind {
            Kind::Text => json_string(last),
            Kind::Switch => (last == "true").to_string(),
            Kind::List => json_strings(given.into_iter().flatten().map(String::as_str)),
        };
        members.push(format!("{}:{value}", json_string(member)));
    }
    format!("{{{}}}", members.join(","))
}

/// Newer versions have this in a column of its own.
fn two_factor_policy(flags: &Flags) -> &'static str {
    if flags.last("skip-local-2fa") == Some("true") { "skip" } else { "" }
}

fn check_provider(provider: &str) -> Outcome {
    if provider == "openidConnect" { Ok(()) } else { Err(format!("the provider {provider:?} is not known")) }
}

fn check_discovery(address: &str) -> Outcome {
    if address.starts_with("http://") || address.starts_with("https://") {
        Ok(())
    } else {
        Err(format!(
            "invalid Auto Discovery URL: {address} (this must be a valid URL starting with http:// or https://)"
        ))
    }
}

fn add(client: &mut Client, flags: &Flags) -> Outcome {
    if flags.last("id").is_some() {
        return Err("flag provided but not defined: --id".into());
    }
    let name = flags.required("name")?;
    check_provider(flags.required("provider")?)?;
    check_discovery(flags.required("auto-discover-url")?)?;
    flags.required("key")?;
    flags.required("secret")?;
    refuse_duplicate(client, name, 0)?;
    client.query(&format!(
        "INSERT INTO login_source (type, name, is_active, two_factor_policy, cfg, created_unix, updated_unix)
         VALUES ({OAUTH2}, {}, true, {}, {},
                 extract(epoch FROM now())::bigint, extract(epoch FROM now())::bigint)",
        literal(name),
        literal(two_factor_policy(flags)),
        literal(&members(flags, true)),
    ))?;
    Ok(())
}

fn refuse_duplicate(client: &mut Client, name: &str, id: i64) -> Outcome {
    let found = client
        .query(&format!("SELECT id FROM login_source WHERE name = {} AND id <> {id}", literal(name)))?;
    if found.is_empty() { Ok(()) } else { Err(format!("login source already exists [name: {name}]")) }
}

/// Changes what flags name, and nothing else.
fn update(client: &mut Client, flags: &Flags) -> Outcome {
    let id: i64 = flags.required("id")?.parse().map_err(|_| "--id is no number")?;
    let mut changes = vec![
        format!("cfg = (cfg::jsonb || {}::jsonb)::text", literal(&members(flags, false))),
        "updated_unix = extract(epoch FROM now())::bigint".into(),
    ];
    if let Some(name) = flags.last("name") {
        flags.required("name")?;
        refuse_duplicate(client, name, id)?;
        changes.push(format!("name = {}", literal(name)));
    }
    if flags.last("skip-local-2fa").is_some() {
        changes.push(format!("two_factor_policy = {}", literal(two_factor_policy(flags))));
    }
    flags.last("provider").map_or(Ok(()), check_provider)?;
    flags.last("auto-discover-url").map_or(Ok(()), check_discovery)?;
    let found = client.query(&format!(
        "UPDATE login_source SET {} WHERE id = {id} AND type = {OAUTH2} RETURNING id",
        changes.join(", ")
    ))?;
    if found.is_empty() { Err(format!("login source does not exist [id: {id}]")) } else { Ok(()) }
}

// ---- the server

fn web(program: &Program) -> Outcome {
    say(&format!("gitea web: {}", program.process));
    check_valkey(&program.ini)?;
    let mut client = program.client()?;
    migrate(&mut client)?;
    let sources = sources(&mut client)?;
    drop(client);
    let listener = listen(&program.ini)?;
    let starts_ssh = program.ini.is_true("server", "START_SSH_SERVER");
    if starts_ssh && !program.ini.is_true("server", "DISABLE_SSH") {
        listen_for_ssh(&program.ini)?;
    }
    say("gitea web: ready");
    let process = program.process.json();
    let handler: Arc<http::Handler> = Arc::new(move |request: &Request| respond(request, &process, &sources));
    http::serve(&listener, &handler)
}

/// The sources of sign-in as JSON, as they are now.
fn sources(client: &mut Client) -> Outcome<String> {
    let file = "GITEA_STANDIN_SECRET_FILE";
    let expected = match variable(file)? {
        Some(path) => Some(secret_file(file, Path::new(&path))?),
        None => None,
    };
    let rows = client.query(&format!(
        "SELECT name, cfg::json->>'ClientID', cfg::json->>'ClientSecret',
                cfg::json->>'OpenIDConnectAutoDiscoveryURL', cfg::json->>'AdminGroup'
         FROM login_source WHERE type = {OAUTH2} ORDER BY id"
    ))?;
    let sources: Vec<_> = rows.iter().map(|row| source(row, expected.as_deref())).collect();
    Ok(format!("[{}]", sources.join(",")))
}

fn source(row: &Row, expected: Option<&str>) -> String {
    let column = |at: usize| row.get(at).and_then(Option::as_deref).unwrap_or_default();
    let secret = column(2);
    let matches = expected.map_or_else(|| "null".to_string(), |expected| (secret == expected).to_string());
    format!(
        r#"{{"name":{},"client_id":{},"secret_length":{},"secret_matches":{matches},"discovery":{},"admin_group":{}}}"#,
        json_string(column(0)),
        json_string(column(1)),
        secret.len(),
        json_string(column(3)),
        json_string(column(4)),
    )
}

fn listen(ini: &Ini) -> Outcome<Listener> {
    if ini.get("server", "PROTOCOL") != Some("http+unix") {
        return Err("[server] PROTOCOL is not http+unix".into());
    }
    let path = ini.required("server", "HTTP_ADDR")?;
    if !path.starts_with('/') {
        return Err(format!("[server] HTTP_ADDR is {path:?}, not an absolute path"));
    }
    let mode = u32::from_str_radix(ini.get("server", "UNIX_SOCKET_PERMISSION").unwrap_or("666"), 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or("[server] UNIX_SOCKET_PERMISSION is no mode")?;
    let failed = |why| format!("cannot listen on {path}: {why}");
    remove_stale_socket(Path::new(path))?;
    let listener = UnixListener::bind(path).map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    Ok(Listener::Unix(listener))
}

/// Removes a socket only if nobody answers on it.
fn remove_stale_socket(path: &Path) -> Outcome {
    let failed = |why: String| format!("{}: {why}", path.display());
    match fs::symlink_metadata(path) {
        Err(why) if why.kind() == ErrorKind::NotFound => Ok(()),
        Err(why) => Err(failed(why.to_string())),
        Ok(found) if !found.file_type().is_socket() => Err(failed("is there, and is no socket".into())),
        Ok(_) if UnixStream::connect(path).is_ok() => Err(failed("another server answers there".into())),
        Ok(_) => fs::remove_file(path).map_err(|why| failed(why.to_string())),
    }
}

/// Says hello to each client, and no more.
fn listen_for_ssh(ini: &Ini) -> Outcome {
    let host = ini.get("server", "SSH_LISTEN_HOST").unwrap_or("0.0.0.0");
    let port = ini.get("server", "SSH_LISTEN_PORT").or_else(|| ini.get("server", "SSH_PORT")).unwrap_or("22");
    let host: IpAddr = host.parse().map_err(|_| "[server] SSH_LISTEN_HOST is no address")?;
    let port: u16 = port.parse().map_err(|_| "[server] SSH_LISTEN_PORT is no port")?;
    let address = SocketAddr::new(host, port);
    let listener =
        TcpListener::bind(address).map_err(|why| format!("SSH: cannot listen on {address}: {why}"))?;
    let greet = move || {
        for client in listener.incoming() {
            match client.and_then(|mut client| client.write_all(b"SSH-2.0-standin\r\n")) {
                Ok(()) => {}
                Err(why) => {
                    complain(&format!("SSH: {why}"));
                    thread::sleep(Duration::from_millis(100));
                }
            }
        }
    };
    thread::Builder::new().spawn(greet).map(drop).map_err(|why| format!("SSH: cannot start a thread: {why}"))
}

fn respond(request: &Request, process: &str, sources: &str) -> Response {
    match request.path.as_str() {
        "/api/healthz" => Response::json("{\"status\":\"pass\"}\n".into()),
        "/" => Response::json(format!(
            "{{{process},\"headers\":{},\"sources\":{sources}}}\n",
            json_map(request.all_headers())
        )),
        _ => Response::not_found(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Outcome<Given> {
        Given::parse(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn flags_stand_anywhere_in_both_forms() {
        let given = parse(&[
            "--config",
            "/c",
            "admin",
            "auth",
            "add-oauth",
            "--key=a=b",
            "--secret",
            "-x",
            "--scopes",
            "a,b",
            "--scopes=c",
            "--skip-local-2fa",
            "-w",
            "/w",
        ])
        .unwrap();
        assert_eq!(given.words, ["admin", "auth", "add-oauth"]);
        let last =
            ["config", "key", "secret", "work-path", "skip-local-2fa"].map(|flag| given.flags.last(flag));
        assert_eq!(last, ["/c", "a=b", "-x", "/w", "true"].map(Some));
        assert_eq!(given.flags.0["scopes"], ["a", "b", "c"]);
        for wrong in [&["--nmae=x"][..], &["--name"], &["-name", "x"], &["--c", "x"], &["--skip-local-2fa=x"]]
        {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        assert!(given.flags.only(&["key"]).is_err());
    }

    #[test]
    fn only_given_flags_are_members_of_a_change() {
        let given = parse(&["--key", "\"", "--scopes", "a,b", "--skip-local-2fa=false"]).unwrap();
        let expected = r#"{"ClientID":"\"","Scopes":["a","b"],"SkipLocalTwoFA":false}"#;
        assert_eq!(members(&given.flags, false), expected);
        assert!(members(&Flags::default(), true).contains(r#""Provider":"","ClientID":"","#));
        assert_eq!(members(&Flags::default(), false), "{}");
    }
}
