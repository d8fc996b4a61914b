//! What stands in, in the images that the tests build, for authentik, Nextcloud and Gitea.
//!
//! The real images come from a registry, and the tests have none. So this one program takes their place. It
//! does nothing useful, and it is strict: it checks everything that a module has to give the real program
//! (accounts, groups, secrets, sockets, directories, variables, settings), refuses to start with a reason if
//! anything is wrong, and answers like the real one where the tests look.
//!
//! The file name of the first argument decides what it is:
//!
//! | name | image | see |
//! |---|---|---|
//! | `ak` | authentik | `authentik.rs` |
//! | `entrypoint.sh`, `php` | Nextcloud | `nextcloud.rs` |
//! | `gitea` | Gitea | `gitea.rs` |
//!
//! # Stopping
//!
//! As the first process of a container it does not hear SIGTERM (see `modules/whoami/program/whoami.rs`). Its
//! tests stop it with SIGKILL.

#![forbid(unsafe_code)]
// PostgreSQL is a name, not code.
#![allow(clippy::doc_markdown)]

mod authentik;
mod checks;
mod gitea;
mod http;
mod ini;
mod nextcloud;
mod postgres;
mod text;
mod valkey;

use std::path::Path;
use std::process::ExitCode;
use std::{env, io};

/// What everything here ends with: a value, or the reason why not, in words for a person.
pub(crate) type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let (role, result) = match words() {
        Ok((role, arguments)) => {
            let result = play(&role, &arguments);
            (role, result)
        }
        Err(why) => ("standin".into(), Err(why)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&format!("{role}: {why}"));
            ExitCode::FAILURE
        }
    }
}

/// The role, and the arguments that follow it.
fn words() -> Outcome<(String, Vec<String>)> {
    let mut words = Vec::new();
    for word in env::args_os() {
        words.push(
            word.into_string().map_err(|word| format!("the argument {} is not UTF-8", word.display()))?,
        );
    }
    if words.is_empty() {
        return Err("there is no argument that tells the role".into());
    }
    let called = words.remove(0);
    let role = Path::new(&called).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    Ok((role.to_string(), words))
}

fn play(role: &str, arguments: &[String]) -> Outcome {
    match role {
        "ak" => authentik::run(arguments),
        "entrypoint.sh" => nextcloud::entrypoint(arguments),
        "php" => nextcloud::php(arguments),
        "curl" => nextcloud::curl(arguments),
        "gitea" => gitea::run(arguments),
        _ => Err("call it `ak`, `entrypoint.sh`, `php`, `curl` or `gitea`".into()),
    }
}

/// A line on standard output. Nobody may listen, and that is no reason to stop.
pub(crate) fn say(message: &str) {
    let _ = io::Write::write_all(&mut io::stdout(), format!("{message}\n").as_bytes());
}

/// A line on standard error, likewise.
pub(crate) fn complain(message: &str) {
    let _ = io::Write::write_all(&mut io::stderr(), format!("{message}\n").as_bytes());
}
