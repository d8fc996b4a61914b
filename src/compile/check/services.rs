//! What systemd refuses in a `[Service]`: found here rather than at start.

use super::super::finding::Finding;
use super::super::item::UnitBody;
use super::survey::Survey;
use super::written::{Entry, Written};

const COMMANDS: [&str; 8] = [
    "ExecCondition",
    "ExecStartPre",
    "ExecStart",
    "ExecStartPost",
    "ExecReload",
    "ExecReloadPost",
    "ExecStop",
    "ExecStopPost",
];

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    for (written, unit) in &survey.units {
        for entry in COMMANDS.iter().flat_map(|key| written.all("Service", key)) {
            findings.extend(command(written, entry));
        }
        if matches!(unit.body, UnitBody::Whole(_)) && written.kind() == "service" {
            start(written, findings);
        }
    }
}

/// A command starts with a path. A bare name is looked for by systemd, in a list of directories of its own.
fn command(written: &Written<'_>, entry: &Entry) -> Option<Finding> {
    let program = program(&entry.value);
    if program.starts_with(['/', '%']) || program.starts_with("@rick(object:") {
        return None;
    }
    let word = program.split([' ', '\t', '"', '\'']).next().unwrap_or_default();
    let finding = if word.is_empty() || word.contains('/') {
        let message = format!("`{}=` of `{}` does not start with an absolute path", entry.key, written.name);
        written.error(&entry.value_place, message, "")
    } else {
        let message =
            format!("`{}=` of `{}` leaves it to the host where `{word}` is", entry.key, written.name);
        written.warning(&entry.value_place, message, "")
    };
    let name = word.rsplit('/').next().unwrap_or_default();
    Some(finding.help(format!("write the whole path, such as `/usr/bin/{name}`")))
}

/// The command without quotes and the prefixes that change how it is run.
fn program(command: &str) -> &str {
    let mut rest = command;
    while !rest.starts_with("@rick(") {
        match rest.strip_prefix(['@', '-', ':', '+', '!', '|']) {
            Some(shorter) => rest = shorter,
            None => break,
        }
    }
    rest.trim_start_matches(['"', '\''])
}

/// The rules about `ExecStart=` and `Type=`, as systemd has them.
fn start(written: &Written<'_>, findings: &mut Vec<Finding>) {
    let commands = written.all("Service", "ExecStart");
    let oneshot = written.value("Service", "Type") == "oneshot";
    if let [_, second, ..] = commands.as_slice()
        && !oneshot
    {
        let message =
            format!("`{}` has {} `ExecStart=`, which needs `Type=oneshot`", written.name, commands.len());
        let finding = written.error(&second.value_place, message, "one too many");
        findings.push(finding.help("say `Type=oneshot`, or make the first ones `ExecStartPre=`"));
    }
    if commands.is_empty() {
        findings.extend(no_start(written, oneshot));
    }
    let restart = written.last("Service", "Restart");
    if let Some(restart) =
        restart.filter(|restart| oneshot && matches!(restart.value.as_str(), "always" | "on-success"))
    {
        let message =
            format!("`{}` is a oneshot, and `Restart={}` would run it for ever", written.name, restart.value);
        findings.push(
            written.error(&restart.value_place, message, "").help("say `Restart=on-failure`, or nothing"),
        );
    }
    if written.value("Service", "Type") == "dbus" && written.value("Service", "BusName").is_empty() {
        let message = format!("`{}` has `Type=dbus` without a `BusName=`", written.name);
        findings.extend(
            written.last("Service", "Type").map(|entry| written.error(&entry.value_place, message, "")),
        );
    }
}

/// A service without `ExecStart=` must be a oneshot that stays, and do something when it stops.
fn no_start(written: &Written<'_>, oneshot: bool) -> Option<Finding> {
    let stays = matches!(written.value("Service", "RemainAfterExit"), "yes" | "true" | "1" | "on");
    let stops = !written.all("Service", "ExecStop").is_empty();
    let succeeds = !written.value("Unit", "SuccessAction").is_empty();
    if succeeds || (oneshot && stays && stops) {
        return None;
    }
    let message = format!("`{}` has no `ExecStart=`", written.name);
    let section = written.parts.iter().find(|part| part.name == "Service");
    let finding = match section {
        Some(part) => written.error(&part.place, message, ""),
        None => written.stated.error(&[written.name], message, ""),
    };
    Some(finding.help("only a oneshot with `RemainAfterExit=yes` and an `ExecStop=` can do without"))
}
