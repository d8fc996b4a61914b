//! `entrypoint.sh` and `php`: Nextcloud's image.

use crate::checks::{Process, directory, readable_file, required, secret_file, variable, writable_directory};
use crate::http::{self, Listener, Request, Response};
use crate::postgres::{Client, Login};
use crate::text::{json_map, json_strings};
use crate::{Outcome, say, valkey};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;
use std::{env, io};

const HTML: &str = "/var/www/html";
const CONFIG: &str = "/var/www/html/config/config.php";
const VERSION: &str = "/var/www/html/version.php";
const OCC_LOG: &str = "/var/www/html/data/occ.log";
const CRON_LOG: &str = "/var/www/html/data/cron.log";

// ---- the image's entry point

pub(crate) fn entrypoint(arguments: &[String]) -> Outcome {
    if arguments != ["apache2-foreground"] {
        return Err(format!("the arguments are {arguments:?}, not `apache2-foreground`"));
    }
    let process = Process::not_root()?;
    say(&format!("entrypoint.sh: {process}"));
    required("NEXTCLOUD_ADMIN_USER")?;
    let password_file = required("NEXTCLOUD_ADMIN_PASSWORD_FILE")?;
    let password = secret_file("NEXTCLOUD_ADMIN_PASSWORD_FILE", Path::new(&password_file))?;
    if variable("NEXTCLOUD_ADMIN_PASSWORD")?.is_some() {
        return Err("NEXTCLOUD_ADMIN_PASSWORD and NEXTCLOUD_ADMIN_PASSWORD_FILE exclude each other".into());
    }
    writable_directory("Nextcloud's files", HTML)?;
    connect()?;
    if !Path::new(VERSION).exists() {
        install(&password)?;
    }
    run_hooks("before-starting", None)?;
    let configurations = check_configurations()?;
    note_in_config()?;
    let listener = Listener::tcp("0.0.0.0:80")?;
    say("entrypoint.sh: ready");
    let handler: Arc<http::Handler> =
        Arc::new(move |request: &Request| respond(request, &process, &configurations));
    http::serve(&listener, &handler)
}

fn connect() -> Outcome {
    required("POSTGRES_PASSWORD")?;
    let login = Login {
        directory: directory("POSTGRES_HOST", &required("POSTGRES_HOST")?)?,
        user: required("POSTGRES_USER")?,
        database: required("POSTGRES_DB")?,
    };
    Client::connect(&login).map(drop)
}

/// What happens in an empty volume, once.
fn install(password: &str) -> Outcome {
    for name in ["config", "data", "custom_apps"] {
        let path = format!("{HTML}/{name}");
        fs::create_dir_all(&path).map_err(|why| format!("{path}: {why}"))?;
        writable_directory("Nextcloud's files", &path)?;
    }
    run_hooks("pre-installation", Some(password))?;
    write(CONFIG, "<?php\n$CONFIG = array('installed' => true);\n")?;
    write(VERSION, "<?php\n$OC_Version = array(32,0,0,0);\n")?;
    say("entrypoint.sh: installed");
    run_hooks("post-installation", Some(password))
}

fn write(path: &str, text: &str) -> Outcome {
    fs::write(path, text).map_err(|why| format!("cannot write {path}: {why}"))
}

/// Runs the scripts for a moment, in order. Those of the installation get the password in a variable, and no
/// longer the name of its file.
fn run_hooks(moment: &str, password: Option<&str>) -> Outcome {
    for script in hooks(&format!("/docker-entrypoint-hooks.d/{moment}"))? {
        say(&format!("entrypoint.sh: running {}", script.display()));
        let mut command = Command::new(&script);
        command.current_dir(HTML);
        if let Some(password) = password {
            command.env_remove("NEXTCLOUD_ADMIN_PASSWORD_FILE").env("NEXTCLOUD_ADMIN_PASSWORD", password);
        }
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(status) => return Err(format!("the hook {} failed: {status}", script.display())),
            Err(why) => return Err(format!("the hook {} cannot run: {why}", script.display())),
        }
    }
    Ok(())
}

/// The executable scripts of a folder, sorted. It need not exist.
fn hooks(folder: &str) -> Outcome<Vec<PathBuf>> {
    let mut scripts = Vec::new();
    for path in files_of(folder)? {
        let is_script = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("sh"));
        let found = fs::metadata(&path).map_err(|why| format!("{}: {why}", path.display()))?;
        if !is_script || !found.is_file() {
            continue;
        }
        if found.permissions().mode() & 0o111 == 0 {
            say(&format!("entrypoint.sh: {} is not executable, and is skipped", path.display()));
        } else {
            scripts.push(path);
        }
    }
    Ok(scripts)
}

/// The paths in a folder, sorted; none if it does not exist.
fn files_of(folder: &str) -> Outcome<Vec<PathBuf>> {
    let list = |folder: &str| -> io::Result<Vec<PathBuf>> {
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect()
    };
    match list(folder) {
        Ok(mut paths) => {
            paths.sort();
            Ok(paths)
        }
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(why) => Err(format!("{folder}: {why}")),
    }
}

/// Reads every `config/*.config.php`, checks what it refers to, and gives their names.
fn check_configurations() -> Outcome<Vec<String>> {
    let mut names = Vec::new();
    for path in files_of(&format!("{HTML}/config"))? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if !name.ends_with(".config.php") {
            continue;
        }
        let text = readable_file("configuration", &path)?;
        if !text.starts_with("<?php") {
            return Err(format!("{} does not start with <?php", path.display()));
        }
        let php = without_comments(&text);
        for secret in after_each(&php, "file_get_contents(") {
            secret_file(name, Path::new(&secret))?;
        }
        if let Some((socket, database)) = redis(&php)? {
            valkey::check(Path::new(&socket), database)?;
        }
        names.push(name.to_string());
    }
    Ok(names)
}

/// Without the lines that are comments.
fn without_comments(php: &str) -> String {
    let is_code =
        |line: &&str| !["//", "#", "*", "/*"].iter().any(|start| line.trim_start().starts_with(start));
    php.lines().filter(is_code).fold(String::new(), |text, line| text + line + "\n")
}

/// The string constants that follow a mark. What follows it and is no constant does not count.
fn after_each(php: &str, mark: &str) -> Vec<String> {
    php.split(mark).skip(1).filter_map(|rest| php_string(rest.trim_start())).collect()
}

/// A PHP string in either quotes, at the start of a text.
fn php_string(text: &str) -> Option<String> {
    let quote = text.chars().next().filter(|char| matches!(char, '\'' | '"'))?;
    let mut value = String::new();
    let mut chars = text.chars().skip(1);
    loop {
        match chars.next()? {
            char if char == quote => return Some(value),
            '\\' => value.push(chars.next()?),
            char => value.push(char),
        }
    }
}

/// The socket and the number of the database, if there is a `'redis'` key.
fn redis(php: &str) -> Outcome<Option<(String, u32)>> {
    let Some(settings) = value_of(php, "redis") else {
        return Ok(None);
    };
    let socket = value_of(settings, "host")
        .and_then(php_string)
        .filter(|socket| socket.starts_with('/'))
        .ok_or("'redis' has no 'host' that is the path of a socket")?;
    let database = match value_of(settings, "dbindex") {
        Some(text) => {
            let number = text.split(|char: char| !char.is_ascii_digit()).next().unwrap_or_default();
            number.parse().map_err(|_| "'dbindex' is no number")?
        }
        None => 0,
    };
    Ok(Some((socket, database)))
}

/// What follows `'KEY' =>`, up to the next mention of the key.
fn value_of<'a>(php: &'a str, key: &str) -> Option<&'a str> {
    ['\'', '"'].iter().find_map(|quote| {
        let value = |rest: &'a str| Some(rest.trim_start().strip_prefix("=>")?.trim_start());
        php.split(format!("{quote}{key}{quote}").as_str()).skip(1).find_map(value)
    })
}

/// Nextcloud writes its own settings now and then, so it must be able to.
fn note_in_config() -> Outcome {
    let text = readable_file("configuration", Path::new(CONFIG))?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    write(CONFIG, &format!("{text}// started at {now}\n"))
}

fn respond(request: &Request, process: &Process, configurations: &[String]) -> Response {
    match request.path.as_str() {
        "/status.php" => Response::json(format!("{{\"installed\":true,{}}}\n", process.json())),
        "/occ-log" => Response::text(200, &fs::read_to_string(OCC_LOG).unwrap_or_default()),
        "/" => Response::json(format!(
            "{{\"headers\":{},\"configurations\":{}}}\n",
            json_map(request.all_headers()),
            json_strings(configurations.iter().map(String::as_str)),
        )),
        _ => Response::not_found(),
    }
}

// ---- the interpreter

pub(crate) fn php(arguments: &[String]) -> Outcome {
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["occ", rest @ ..] if env::current_dir().is_ok_and(|now| now == Path::new(HTML)) => occ(rest),
        [script, rest @ ..] if script.starts_with('/') && script.ends_with("/occ") => occ(rest),
        ["-f", "/var/www/html/cron.php"] | ["/var/www/html/cron.php"] => cron(),
        [script, ..] => Err(format!("Could not open input file: {script}")),
        [] => Err("there is no script to run".into()),
    }
}

/// Only the owner of the configuration may run Nextcloud's scripts.
fn owner() -> Outcome<Process> {
    let process = Process::not_root()?;
    let owner = fs::metadata(CONFIG).map_err(|why| format!("{CONFIG}: {why}"))?.uid();
    if owner == process.uid {
        Ok(process)
    } else {
        Err(format!("runs as uid {}, but {CONFIG} is owned by {owner}", process.uid))
    }
}

fn append(path: &str, line: &str) -> Outcome {
    let line = format!("{}\n", line.replace('\n', " "));
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut log| log.write_all(line.as_bytes()))
        .map_err(|why| format!("cannot append to {path}: {why}"))
}

fn occ(arguments: &[&str]) -> Outcome {
    owner()?;
    append(OCC_LOG, &arguments.join(" "))?;
    let words: Vec<_> = arguments.iter().copied().filter(|word| !word.starts_with('-')).collect();
    match words.as_slice() {
        [] => Err("there is no command".into()),
        ["status", ..] => {
            say("  - installed: true");
            Ok(())
        }
        ["app:install", name] => install_app(name),
        ["app:install" | "app:enable"] => Err("Not enough arguments (missing: \"app-id\").".into()),
        _ => Ok(()),
    }
}

fn install_app(name: &str) -> Outcome {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
        return Err(format!("{name:?} is not the name of an app"));
    }
    let marker = format!("{HTML}/custom_apps/{name}");
    match OpenOptions::new().create_new(true).write(true).open(&marker) {
        Ok(_) => {
            say(&format!("{name} installed"));
            Ok(())
        }
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {
            // Where the real one says it, and scripts may look.
            say(&format!("{name} already installed"));
            Err(format!("{name} already installed"))
        }
        Err(why) => Err(format!("{marker}: {why}")),
    }
}

fn cron() -> Outcome {
    let process = owner()?;
    connect()?;
    if process.groups.iter().all(|group| *group == process.gid) {
        return Err(format!("the supplementary groups are lost: {process}"));
    }
    append(CRON_LOG, &format!("cron groups={:?}", process.groups))
}

/// `curl --fail … --resolve NAME:80:127.0.0.1 http://NAME/PATH`, as far as a check of Nextcloud's health takes it.
pub(crate) fn curl(arguments: &[String]) -> Outcome {
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    if !arguments.iter().any(|argument| argument == "--fail") {
        return Err("without --fail every answer would do".into());
    }
    let resolved = after("--resolve").ok_or("--resolve is missing")?;
    let url = arguments.last().and_then(|url| url.strip_prefix("http://")).ok_or("the address is missing")?;
    let (name, path) = url.split_once('/').ok_or("the address has no path")?;
    let address = resolved.strip_prefix(&format!("{name}:80:")).ok_or("--resolve is for another name")?;
    match crate::http::get_status(&format!("{address}:80"), &format!("/{path}"))? {
        status if status < 400 => Ok(()),
        status => Err(format!("{url}: {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_found_in_php() {
        let php = without_comments(
            "<?php\n$CONFIG = array(\n  'memcache.locking' => '\\OC\\Memcache\\Redis',\n  // 'redis' => x\n\
             'redis' => ['host' => '/run/v.sock', 'port' => 0, 'dbindex' => 3],\n\
             'secret' => trim(file_get_contents( '/run/a\\'b')), \"x\" => file_get_contents($y),\n\
             # file_get_contents('/no')\n);\n",
        );
        assert_eq!(redis(&php), Ok(Some(("/run/v.sock".into(), 3))));
        assert_eq!(after_each(&php, "file_get_contents("), ["/run/a'b"]);
        assert_eq!(redis("'memcache' => 'redis'"), Ok(None));
        assert_eq!(redis("\"redis\" => [\"host\" => \"/a\"]"), Ok(Some(("/a".into(), 0))));
        assert!(redis("'redis' => ['host' => 'localhost']").is_err());
        assert!(redis("'redis' => ['host' => '/a', 'dbindex' => 'x']").is_err());
    }
}
