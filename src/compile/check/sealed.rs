//! Secrets of the source tree: each is there, and exactly those can read it who should.

use std::collections::{BTreeMap, BTreeSet};

use super::super::finding::Finding;
use super::super::item::{Evaluation, PublicKey};
use super::super::secret::audience::{Audience, Difference, audiences};
use super::super::secret::folder::Folder;
use super::super::secret::header::Wrong;
use super::super::secret::recipient::Recipient;
use super::super::secret::{self, file_of, folder_of, name_of};
use super::super::similar::did_you_mean;
use super::super::source::{SourcePath, Span};
use super::Outcome;
use super::stated::help;
use crate::bundle::names::SecretName;

pub(super) fn check(evaluation: &Evaluation, checked: &Outcome, folder: &Folder) -> Vec<Finding> {
    let environment = evaluation.environment.as_str();
    let mut findings = Vec::new();
    let audiences = audiences(&checked.hosts, &checked.operators);
    for (file, wrong) in folder.files.iter().filter_map(|(file, read)| Some((file, read.as_ref().err()?))) {
        findings.push(no_secret(environment, file, *wrong));
    }
    missing(evaluation, checked, folder, &mut findings);
    let needed: BTreeSet<SourcePath> = audiences.keys().map(|name| file_of(environment, name)).collect();
    let files: Vec<&SourcePath> = folder.files.keys().filter(|file| folder.holds(file)).collect();
    for file in files.iter().filter(|file| !needed.contains(file)) {
        findings.push(not_needed(evaluation, checked, file, &audiences));
    }
    // Where one key is not known, its owner would look like somebody else.
    if keys(evaluation).all(|key| key.text.parse::<Recipient>().is_ok()) {
        no_operator(evaluation, checked, &audiences, &mut findings);
        recipients(evaluation, &audiences, folder, &mut findings);
    }
    findings
}

fn keys(evaluation: &Evaluation) -> impl Iterator<Item = &PublicKey> {
    let hosts = evaluation.hosts.iter().filter_map(|host| host.ssh_key.as_ref());
    evaluation.operators.iter().chain(hosts)
}

/// What lies where secrets are, and is none.
fn no_secret(environment: &str, file: &SourcePath, wrong: Wrong) -> Finding {
    let name = name_of(environment, file).map_or("NAME".to_owned(), |name| name.to_string());
    let finding = |message: &str| Finding::error(format!("`{file}` {message}")).at(&Span::start_of(file), "");
    let set = format!("write it anew: `rickbuild secrets set {environment} {name}`");
    match wrong {
        Wrong::Clear => finding("is NOT ENCRYPTED: it is no age file")
            .note("whoever has the source tree, its history or a copy can read what stands there")
            .help("take the value for known: make a new one where it is used, and remove it from the history")
            .help(format!("write the new one with `rickbuild secrets set {environment} {name}`")),
        Wrong::Binary => finding("is an age file that is no text")
            .note("what is armoured can be compared, merged and sent as text")
            .help(format!("write it anew: `rickbuild secrets rekey {environment} {name}`")),
        Wrong::Passphrase => finding("is encrypted with a passphrase").note("no host can type one").help(set),
        Wrong::Damaged => finding("is damaged: it is no whole age file")
            .note("a merge, an editor or a converted line break does that")
            .help(format!("take it from the history again, or {set}")),
        Wrong::Special => finding("is no regular file")
            .note("a folder or a link holds no secret: it could lead out of the source tree")
            .help("put files there, one for each secret"),
        Wrong::Large => finding("is larger than a secret can be")
            .note(format!("the limit is {} KiB", secret::folder::MAX_FILE >> 10))
            .help("encrypt a key to it, and ship what is large as a file"),
    }
}

/// All that a host lacks is one finding.
fn missing(evaluation: &Evaluation, checked: &Outcome, folder: &Folder, findings: &mut Vec<Finding>) {
    let environment = &evaluation.environment;
    for host in &checked.hosts {
        let absent = |file: &SourcePath| !folder.files.contains_key(file);
        let missing: Vec<_> =
            host.secrets.iter().filter(|(_, secret)| secret.file.as_ref().is_some_and(absent)).collect();
        let stated = evaluation.hosts.iter().find(|stated| stated.name == host.name.as_str());
        let (Some((first, _)), Some(stated)) = (missing.first(), stated) else { continue };
        let message = match missing.len() {
            1 => format!("`{}` needs the secret `{first}`, which is not there", host.name),
            count => format!("`{}` needs {count} secrets that are not there", host.name),
        };
        let mut finding = Finding::error(message).at(&stated.span, "");
        for (name, secret) in &missing {
            let services: Vec<String> =
                secret.needed_by.iter().map(|service| format!("`{service}`")).collect();
            let file = file_of(environment, name);
            finding = finding.note(format!("`{file}` is missing, for {}", services.join(", ")));
        }
        let (what, example) = match missing.len() {
            1 => (first.as_str(), first.as_str()),
            _ => ("--missing", "NAME"),
        };
        findings.push(
            finding
                .help(format!("for random values, `rickbuild secrets generate {environment} {what}`"))
                .help(format!(
                    "for a value that others give, `rickbuild secrets set {environment} {example}`"
                )),
        );
    }
}

fn not_needed(
    evaluation: &Evaluation,
    checked: &Outcome,
    file: &SourcePath,
    audiences: &BTreeMap<&SecretName, Audience<'_>>,
) -> Finding {
    let finding = Finding::warning(format!("no host needs `{file}`")).at(&Span::start_of(file), "");
    let Some(name) = name_of(&evaluation.environment, file) else {
        let place = folder_of(&evaluation.environment);
        return finding
            .note(format!("secrets of this environment are `{place}/NAME.age`"))
            .help("remove or rename it");
    };
    // One that has its own.
    if let Some(host) = checked.hosts.iter().find(|host| host.secrets.contains_key(&name)) {
        return finding
            .note(format!(
                "`{}` needs `{name}`, and says no `ssh_key`, so it keeps its secrets itself",
                host.name
            ))
            .help(
                "say the host's key: `ssh_key = \"…\"`, the line of its /etc/ssh/ssh_host_ed25519_key.pub",
            );
    }
    let finding = help(finding, did_you_mean(name.as_str(), audiences.keys().map(|name| name.as_str())));
    finding.help("remove it")
}

/// A host alone loses its secrets with its key.
fn no_operator(
    evaluation: &Evaluation,
    checked: &Outcome,
    audiences: &BTreeMap<&SecretName, Audience<'_>>,
    findings: &mut Vec<Finding>,
) {
    let key = evaluation.hosts.iter().find_map(|host| host.ssh_key.as_ref());
    if let (true, false, Some(key)) = (checked.operators.is_empty(), audiences.is_empty(), key) {
        findings.push(
            Finding::warning("no person can read the secrets of this environment")
                .at(&key.span, "only hosts can")
                .note("with the key of a host, its secrets are lost; and nobody can edit or rekey them")
                .help("name who keeps them: `environment(…, operators = [\"age1…\", \"ssh-ed25519 …\"])`"),
        );
    }
}

/// Who can read what, compared with what is declared: for each host one error, for the rest one warning.
fn recipients(
    evaluation: &Evaluation,
    audiences: &BTreeMap<&SecretName, Audience<'_>>,
    folder: &Folder,
    findings: &mut Vec<Finding>,
) {
    let environment = &evaluation.environment;
    let rekey = format!("encrypt anew: `rickbuild secrets rekey {environment}`");
    let differences: BTreeMap<&SecretName, Difference> = audiences
        .iter()
        .filter_map(|(name, audience)| {
            let header = folder.files.get(&file_of(environment, name))?.as_ref().ok()?;
            Some((*name, audience.compare(header)))
        })
        .collect();
    for host in &evaluation.hosts {
        let no = |difference: &Difference| difference.hosts.iter().any(|name| name.as_str() == host.name);
        let unread: Vec<_> = differences.iter().filter(|(_, difference)| no(difference)).collect();
        let (Some(((first, _), key)), count) = (unread.first().zip(host.ssh_key.as_ref()), unread.len())
        else {
            continue;
        };
        let finding = Finding::error(match count {
            1 => format!("`{}` cannot read its secret `{first}`", host.name),
            _ => format!("`{}` cannot read {count} of its secrets", host.name),
        });
        let mut finding = finding.at(&key.span, "not encrypted to this key");
        for (name, _) in unread {
            finding = finding.note(format!("`{}` is encrypted to others only", file_of(environment, name)));
        }
        findings.push(finding.help(rekey.clone()));
    }
    let mut notes = Vec::new();
    for (name, difference) in differences {
        let file = file_of(environment, name);
        let mut tell = |who: &[String], what: &str| {
            if !who.is_empty() {
                notes.push(format!("`{file}` {what}: {}", who.join(", ")));
            }
        };
        tell(&difference.operators, "cannot be read by operators that are declared");
        tell(&difference.others, "can be read by others than are declared");
    }
    let place = keys(evaluation).next();
    if let (false, Some(place)) = (notes.is_empty(), place) {
        let finding =
            Finding::warning("not exactly those can read the secrets of this environment who are declared");
        let finding = notes.into_iter().fold(finding.at(&place.span, "declared here"), Finding::note);
        findings.push(
            finding.help(rekey).help("who could read a value knows it: make a new one if somebody has left"),
        );
    }
}
