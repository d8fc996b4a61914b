//! Probes: what can be asked, and is there to be asked.

use super::super::finding::Finding;
use super::super::item::ProbeTarget;
use super::accounts::{parsed, unknown};
use super::commands;
use super::provided::Provided;
use super::stated::{Stated, help};
use super::survey::Survey;
use crate::bundle::manifest::{Check, Probe};
use crate::bundle::names::{AccountName, HostPath, UnitName};

pub(super) fn check(survey: &Survey<'_>, provided: &Provided<'_>, findings: &mut Vec<Finding>) -> Vec<Probe> {
    let mut probes = Vec::new();
    for (stated, probe) in &survey.probes {
        if probe.timeout_s == 0 {
            let finding = stated.error(&["timeout"], "a probe with a timeout of 0 can only fail", "");
            findings.push(finding.help("give it some seconds"));
        }
        let check = match &probe.target {
            ProbeTarget::Unix(path) => {
                parsed(stated, &["unix", path], path, findings).map(|path| Check::Unix { path })
            }
            ProbeTarget::Tcp(address) => tcp(*stated, address, findings),
            ProbeTarget::Http { to, path, host, status } => http(*stated, to, path, host, *status, findings),
            ProbeTarget::Command { command, user } => {
                let command = commands::checked(survey, *stated, command, findings);
                let user = match user {
                    Some(user) => account(survey, *stated, "probe", user, findings).map(Some),
                    None => Some(None),
                };
                command.zip(user).map(|(command, user)| Check::Command { command, user })
            }
            ProbeTarget::Unit(name) => unit(survey, provided, *stated, name, findings),
        };
        if let (Some(check), Some(service)) = (check, stated.label()) {
            probes.push(Probe { service, check, timeout_s: probe.timeout_s });
        }
    }
    probes
}

fn tcp(stated: Stated<'_>, address: &str, findings: &mut Vec<Finding>) -> Option<Check> {
    if is_address(address) {
        return Some(Check::Tcp { address: address.to_owned() });
    }
    let message =
        format!("`{}` is not an address and a port, as in `127.0.0.1:8080`", address.escape_debug());
    findings.push(stated.error(&["tcp", address], message, ""));
    None
}

fn is_address(text: &str) -> bool {
    let parts = text.rsplit_once(':').filter(|(host, _)| is_visible(host) && !host.contains('/'));
    parts.and_then(|(_, port)| port.parse::<u16>().ok()).is_some_and(|port| port > 0)
}

/// It can stand in a line of HTTP as one word.
fn is_visible(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())
}

fn http(
    stated: Stated<'_>,
    to: &str,
    path: &str,
    host: &str,
    status: Option<i32>,
    findings: &mut Vec<Finding>,
) -> Option<Check> {
    let before = findings.len();
    if to.starts_with('/') {
        parsed::<HostPath>(&stated, &["http", to], to, findings);
    } else if !is_address(to) {
        let message = format!(
            "`{}` is neither an address and a port, as in `127.0.0.1:8080`, nor the absolute path of a socket",
            to.escape_debug()
        );
        let finding = stated.error(&["http", to], message, "");
        let apart = to.contains('/');
        findings.push(help(
            finding,
            apart.then(|| "say what is asked for apart, with `path = \"/…\"`".to_owned()),
        ));
    }
    if !path.starts_with('/') || !is_visible(path) {
        let message = format!("`{}` is nothing that a web server can be asked for", path.escape_debug());
        let finding = stated.error(&["path", path], message, "");
        findings.push(finding.help("begin it with `/`, and write `%20` for a space"));
    }
    if !is_visible(host) || host.contains('/') {
        let message = format!("`{}` cannot stand in `Host:`", host.escape_debug());
        findings.push(
            stated.error(&["host", host], message, "").help("write a host name, with a port if need be"),
        );
    }
    let number = status.map(|status| u16::try_from(status).ok().filter(|status| (100..600).contains(status)));
    if number == Some(None) {
        let message = format!("{} is no status of HTTP: 100 to 599 are", status.unwrap_or_default());
        findings.push(stated.error(&["status"], message, ""));
    }
    let (to, path, host) = (to.to_owned(), path.to_owned(), host.to_owned());
    (findings.len() == before).then_some(Check::Http { to, path, host, status: number.flatten() })
}

/// Whose rights a command has.
/// The account as which a command runs, of a probe or whatever `what` is.
pub(super) fn account(
    survey: &Survey<'_>,
    stated: Stated<'_>,
    what: &str,
    user: &str,
    findings: &mut Vec<Finding>,
) -> Option<AccountName> {
    let known = survey.user_names();
    if !known.contains(user) {
        let message =
            format!("the {what} runs as the user `{}`, and no service declares it", user.escape_debug());
        findings.push(unknown(stated.error(&["user", user], message, "unknown user"), "user", user, &known));
        return None;
    }
    user.parse().ok()
}

/// A unit that the host has; a Quadlet file stands for the unit that is made of it.
fn unit(
    survey: &Survey<'_>,
    provided: &Provided<'_>,
    stated: Stated<'_>,
    name: &str,
    findings: &mut Vec<Finding>,
) -> Option<Check> {
    let words = &["unit", name];
    let name = provided.quadlets.get(name).map_or(name, String::as_str);
    let unit = parsed::<UnitName>(&stated, words, name, findings)?;
    if unit.is_template() {
        let finding = stated.error(words, format!("`{unit}` is a template, and never runs itself"), "");
        findings.push(finding.help("name one of its instances"));
        return None;
    }
    if !provided.has(name) {
        let message =
            format!("the probe asks for `{unit}`, which no service of `{}` brings", survey.host.name);
        let finding = help(stated.error(words, message, "no such unit"), provided.near(name));
        findings.push(finding.help("if the distribution brings it, say so with a drop-in for it"));
        return None;
    }
    Some(Check::Unit { unit })
}
