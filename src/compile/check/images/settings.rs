//! What a container of an image is like unless it is told otherwise.

use super::super::super::finding::Finding;
use super::super::super::host::Settings;
use super::super::super::item::Image;
use super::super::super::similar::did_you_mean;
use super::super::accounts::parsed;
use super::super::stated::{Stated, help};
use super::{accounts, words};
use crate::bundle::names::HostPath;
use crate::bundle::token::{Piece, pieces};

/// The signals of Linux that have a number of their own everywhere, but for those of real time.
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

pub(super) fn checked(
    stated: Stated<'_>,
    image: &Image,
    runs: bool,
    findings: &mut Vec<Finding>,
) -> Settings {
    variables(stated, image, findings);
    words::check(stated, "label", &image.labels, findings);
    // An image below may say it.
    if runs && image.base.is_none() && image.entrypoint.is_empty() && image.command.is_empty() {
        let message = format!("image `{}` says nothing to run", image.name);
        findings.push(stated.error(&[], message, "").help("give it an `entrypoint`"));
    }
    for (name, texts) in [("entrypoint", &image.entrypoint), ("command", &image.command)] {
        for text in texts {
            no_tokens(text, |message| stated.error(&[text, name], message, ""), findings);
        }
    }
    if let Some(user) = &image.user {
        accounts::check(stated, user, findings);
    }
    let directory = image.working_directory.as_deref().filter(|path| *path != "/");
    Settings {
        entrypoint: image.entrypoint.clone(),
        command: image.command.clone(),
        environment: image.environment.clone(),
        user: image.user.clone(),
        working_directory: directory
            .and_then(|path| parsed::<HostPath>(&stated, &["working_directory"], path, findings)),
        ports: image.ports.iter().filter_map(|port| checked_port(stated, port, findings)).collect(),
        volumes: image
            .volumes
            .iter()
            .filter_map(|path| parsed::<HostPath>(&stated, &[path, "volumes"], path, findings))
            .collect(),
        labels: image.labels.clone(),
        stop_signal: image.stop_signal.as_ref().and_then(|signal| checked_signal(stated, signal, findings)),
    }
}

fn variables(stated: Stated<'_>, image: &Image, findings: &mut Vec<Finding>) {
    for (name, value) in &image.environment {
        if name.is_empty() || name.contains(['=', '\0', '\n']) || value.contains('\0') {
            let message = format!("`{}` cannot be a variable of image `{}`", name.escape_debug(), image.name);
            findings.push(stated.error(&[name, "environment"], message, ""));
        }
        no_tokens(value, |message| stated.error(&[name, "environment"], message, ""), findings);
    }
}

/// The digest of an image is the same on every host, so it can hold nothing that only a host knows.
pub(super) fn no_tokens(text: &str, begin: impl FnOnce(String) -> Finding, findings: &mut Vec<Finding>) {
    let Ok(pieces) = pieces(text) else { return };
    let token = pieces.into_iter().find_map(|piece| match piece {
        Piece::Token(token) => Some(token),
        Piece::Text(_) => None,
    });
    if let Some(token) = token {
        let finding = begin(format!("an image cannot hold `{token}`, which only a host knows"));
        findings.push(finding.help("hand it over where the container is defined, in its Quadlet"));
    }
}

fn checked_port(stated: Stated<'_>, port: &str, findings: &mut Vec<Finding>) -> Option<String> {
    let number =
        |text: &str| text.parse::<u16>().is_ok_and(|number| number > 0 && text == number.to_string());
    let (digits, protocol) = port.split_once('/').unwrap_or((port, ""));
    if number(digits) && ["tcp", "udp", "sctp"].contains(&protocol) {
        return Some(port.to_owned());
    }
    let message = format!("`{}` is no port of an image", port.escape_debug());
    let finding = stated.error(&[port, "ports"], message, "");
    let meant = if number(digits) { digits } else { "8080" };
    findings.push(finding.help(format!("write a number and its protocol, as in `\"{meant}/tcp\"`")));
    None
}

fn checked_signal(stated: Stated<'_>, signal: &str, findings: &mut Vec<Finding>) -> Option<String> {
    let below = |text: &str, limit: u32| text.parse().is_ok_and(|number: u32| (1..=limit).contains(&number));
    let real_time = |text: &str| {
        text.is_empty()
            || text.strip_prefix('+').or_else(|| text.strip_prefix('-')).is_some_and(|n| below(n, 15))
    };
    let is_known = SIGNALS.contains(&signal)
        || below(signal, 64)
        || signal.strip_prefix("SIGRTMIN").is_some_and(|rest| !rest.starts_with('-') && real_time(rest))
        || signal.strip_prefix("SIGRTMAX").is_some_and(|rest| !rest.starts_with('+') && real_time(rest));
    if is_known {
        return Some(signal.to_owned());
    }
    let message = format!("`{}` is no signal", signal.escape_debug());
    let finding = stated.error(&["stop_signal"], message, "");
    let near = did_you_mean(signal, SIGNALS).or_else(|| did_you_mean(&format!("SIG{signal}"), SIGNALS));
    let whole = format!("SIG{}", signal.to_uppercase());
    let near =
        if SIGNALS.contains(&whole.as_str()) { Some(format!("did you mean `{whole}`?")) } else { near };
    findings.push(
        help(finding, near)
            .help("write a name, as in `SIGTERM` or `SIGRTMIN+3`, or a number from 1 to 64 as text"),
    );
    None
}
