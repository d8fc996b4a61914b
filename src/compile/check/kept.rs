//! What services keep beside directories, where copies of it are, and where it comes from when it moves.

use std::collections::{BTreeMap, BTreeSet};

use super::super::finding::Finding;
use super::super::item;
use super::super::similar::did_you_mean;
use super::accounts::parsed;
use super::commands;
use super::probes::account;
use super::stated::{Stated, help};
use super::survey::Survey;
use crate::bundle::manifest::{Dump, Home, Repository, Ssh};
use crate::bundle::names::{HostPath, Label, SecretName};

/// Names that are sound, each once for its service, and commands that a user of the host can run.
pub(super) fn dumps(survey: &Survey<'_>, findings: &mut Vec<Finding>) -> Vec<Dump> {
    let mut dumps = Vec::new();
    let mut seen: BTreeMap<(&str, &str), Stated<'_>> = BTreeMap::new();
    for (stated, dump) in &survey.dumps {
        if let Some(first) = seen.insert((&stated.service.name, &dump.name), *stated) {
            let message = format!("two dumps of `{}` are called `{}`", stated.service.name, dump.name);
            findings.push(stated.conflict(first, &[&dump.name], message));
        }
        let name = parsed::<Label>(stated, &[&dump.name], &dump.name, findings);
        let user = account(survey, *stated, "dump", &dump.user, findings);
        let commands = [&dump.save, &dump.restore, &dump.empty, &dump.clear]
            .map(|command| commands::checked(survey, *stated, command, findings));
        let [Some(save), Some(restore), Some(empty), Some(clear)] = commands else { continue };
        if let (Some(name), Some(user), Some(service)) = (name, user, stated.label()) {
            dumps.push(Dump { service, name, user, save, restore, empty, clear });
        }
    }
    dumps
}

/// The services that are stopped while what they keep is copied.
pub(super) fn at_rest(survey: &Survey<'_>) -> BTreeSet<Label> {
    survey.states.iter().filter(|(_, state)| state.at_rest).filter_map(|(stated, _)| stated.label()).collect()
}

/// Repositories whose secrets are stated; one for each service that has one, and one at most from which anything is restored.
pub(super) fn repositories(survey: &Survey<'_>, findings: &mut Vec<Finding>) -> BTreeMap<Label, Repository> {
    let mut repositories = BTreeMap::new();
    let mut seen: BTreeMap<&str, Stated<'_>> = BTreeMap::new();
    let mut restoring: Option<Stated<'_>> = None;
    for (stated, repository) in &survey.repositories {
        if let Some(first) = seen.insert(&stated.service.name, *stated) {
            let message = format!("`{}` has two repositories", stated.service.name);
            findings.push(stated.conflict(first, &[], message).help("give each a service of its own"));
        }
        if repository.restores {
            if let Some(first) = restoring {
                let message = "what is absent would be restored from two repositories";
                let finding = stated.conflict(first, &["restores"], message);
                findings.push(finding.help("say `restores = False` for one of them"));
            }
            restoring = Some(*stated);
        }
        let checked = checked(survey, *stated, repository, findings);
        if let (Some(service), Some(repository)) = (stated.label(), checked) {
            repositories.insert(service, repository);
        }
    }
    repositories
}

fn checked(
    survey: &Survey<'_>,
    stated: Stated<'_>,
    repository: &item::Repository,
    findings: &mut Vec<Finding>,
) -> Option<Repository> {
    let before = findings.len();
    if repository.address.is_empty() || repository.address.contains(char::is_control) {
        findings.push(stated.error(&["address"], "the address of the repository is no line of text", ""));
    }
    let mut secret = |name: &str| secret(survey, stated, name, findings);
    let password = secret(&repository.password);
    let credentials = repository.credentials.as_deref().map(&mut secret);
    let key = repository.ssh.as_ref().map(|(key, _)| secret(key));
    let known = repository
        .ssh
        .as_ref()
        .map(|(_, known)| parsed::<HostPath>(&stated, &["known_hosts", known], known, findings));
    let ssh = key.flatten().zip(known.flatten()).map(|(key, known_hosts)| Ssh { key, known_hosts });
    if findings.len() > before {
        return None;
    }
    Some(Repository {
        address: repository.address.clone(),
        password: password?,
        credentials: credentials.flatten(),
        ssh,
        keep: repository.keep.clone(),
        restores: repository.restores,
    })
}

/// A secret that the host has.
fn secret(
    survey: &Survey<'_>,
    stated: Stated<'_>,
    name: &str,
    findings: &mut Vec<Finding>,
) -> Option<SecretName> {
    let known: Vec<&str> = survey.secrets.iter().map(|(_, secret)| secret.name.as_str()).collect();
    if known.contains(&name) {
        return name.parse().ok();
    }
    let message =
        format!("the repository takes the secret `{}`, and no service states it", name.escape_debug());
    let finding =
        help(stated.error(&[name], message, "unknown secret"), did_you_mean(name, known.iter().copied()));
    findings.push(finding.help(format!("state it with `secret(\"{}\")`", name.escape_debug())));
    None
}

/// Services that come from another host: they keep something, and there is a repository to bring it.
pub(super) fn moved(
    survey: &Survey<'_>,
    environment: &str,
    findings: &mut Vec<Finding>,
) -> BTreeMap<Label, Home> {
    let mut moved = BTreeMap::new();
    let keeps = |name: &str| {
        survey
            .states
            .iter()
            .map(|(stated, _)| stated)
            .chain(survey.dumps.iter().map(|(stated, _)| stated))
            .any(|stated| stated.service.name == name)
    };
    let restores = survey.repositories.iter().any(|(_, repository)| repository.restores);
    for service in &survey.host.services {
        let Some((text, place)) = &service.moved_from else { continue };
        let home = match text.parse::<Home>() {
            Ok(home) => home,
            Err(why) => {
                let finding = Finding::error(format!("`moved_from`: {why}")).at(place, "");
                findings.push(finding.help("write it as in `moved_from = \"homelab/arch-vps\"`"));
                continue;
            }
        };
        if home.environment.as_str() == environment && home.host.as_str() == survey.host.name {
            let message = format!("`{}` is to come from the host that it is on", service.name);
            findings.push(Finding::error(message).at(place, "this very host"));
        } else if !keeps(&service.name) {
            let message = format!("`{}` keeps nothing that could come from `{home}`", service.name);
            findings.push(Finding::error(message).at(place, "").help("leave `moved_from` out"));
        } else if !restores {
            let message = format!("there is no repository that could bring what `{}` keeps", service.name);
            let finding = Finding::error(message).at(place, "comes from another host");
            findings.push(finding.help("both hosts need `backups(…)` with the same `repository`"));
        } else if let Ok(name) = service.name.parse() {
            moved.insert(name, home);
        }
    }
    moved
}
