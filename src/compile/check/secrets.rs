//! Secrets: names that a credential can have, units that load only what is stated, and containers of which Podman writes none to disk.

use std::collections::{BTreeMap, BTreeSet};

use super::super::finding::Finding;
use super::super::host::Secret;
use super::super::mounted::{self, Mounted};
use super::super::outside::Wrong;
use super::super::secret;
use super::super::similar::did_you_mean;
use super::accounts::parsed;
use super::fields::field;
use super::stated::{and_once, help};
use super::survey::Survey;
use super::written::{Entry, Written};
use crate::bundle::names::SecretName;
use crate::bundle::secret::MEMORY;
use crate::bundle::token::{Piece, Token, pieces};

pub(super) fn check(
    survey: &Survey<'_>,
    environment: &str,
    findings: &mut Vec<Finding>,
) -> BTreeMap<SecretName, Secret> {
    let mut secrets: BTreeMap<SecretName, Secret> = BTreeMap::new();
    for (stated, secret) in &survey.secrets {
        let name = parsed::<SecretName>(stated, &[&secret.name], &secret.name, findings);
        if let (Some(name), Some(service)) = (name, stated.label()) {
            let needed_by = &mut secrets.entry(name).or_default().needed_by;
            if !needed_by.contains(&service) {
                needed_by.push(service);
            }
        }
    }
    if survey.host.ssh_key.is_some() {
        for (name, secret) in &mut secrets {
            secret.file = Some(secret::file_of(environment, name));
        }
    }
    loaded(survey, findings);
    for (written, _) in survey.quadlets.iter().filter(|(written, _)| written.kind() == "container") {
        mounted(survey, written, findings);
        in_environment(written, findings);
    }
    secrets
}

/// What a unit takes from the host's store of credentials is stated, so that its absence is told before anything is touched.
fn loaded(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    let known: BTreeSet<&str> = survey.secrets.iter().map(|(_, secret)| secret.name.as_str()).collect();
    for written in survey.written() {
        for entry in written.all("Service", "LoadCredentialEncrypted") {
            let (name, path) = (field(&entry.value, 0), field(&entry.value, 1));
            // With a path it is a file of the unit's own.
            if !path.is_empty() || known.contains(name) {
                continue;
            }
            let message = format!("`{}` loads the secret `{name}`, and no service states it", written.name);
            let finding = written.error(&entry.value_place, message, "unknown secret");
            let finding = help(finding, did_you_mean(name, known.iter().copied()));
            findings.push(finding.help(format!("state it with `secret(\"{name}\")`")));
        }
    }
}

/// A container's secret is a file in memory. Podman's own, that nobody states, lies on the disk.
fn mounted(survey: &Survey<'_>, written: &Written<'_>, findings: &mut Vec<Finding>) {
    let known: BTreeSet<&str> = survey.secrets.iter().map(|(_, secret)| secret.name.as_str()).collect();
    for entry in written.all("Container", "Secret") {
        let name = mounted::name(&entry.value);
        if !known.contains(name) {
            let message =
                format!("`{}` takes the secret `{name}` of Podman, which no bundle brings", written.name);
            let finding = written.warning(&entry.value_place, message, "no service states it");
            let finding = finding.note("Podman keeps its secrets on the disk, in clear");
            let finding = help(finding, did_you_mean(name, known.iter().copied()));
            findings.push(finding.help(format!("state it with `secret(\"{name}\")`")));
        } else if survey.host.ssh_key.is_none() {
            let message = format!(
                "`{}` takes the secret `{name}` from Podman, which would keep it on the disk, in clear",
                written.name
            );
            let finding = written.error(&entry.value_place, message, "this host keeps its secrets itself");
            findings.push(
                finding
                    .help("say the host's `ssh_key`, so that it comes with the bundle and is mounted from memory")
                    .help("or mount the `directory` of `secrets(ctx, …)`, of `//modules/secrets`"),
            );
        } else if let Some(apart) = users_of_its_own(written) {
            let message = format!(
                "`{}` cannot have its secret `{name}` so: with `{}=` its users are others than those of the host",
                written.name, apart.key
            );
            let finding = written.error(&entry.value_place, message, "the file is one of the host's");
            let finding = and_once(finding, apart.key_place.span(), "said here".to_owned());
            findings.push(
                finding.help("leave that out, and give it a user of the host: `\"User\": uid(\"NAME\")`"),
            );
        } else if let Err(Wrong { message, help }) =
            Mounted::parse(&entry.value, written.value("Container", "User"))
        {
            let message = format!("`{}` cannot have its secret `{name}` so: {message}", written.name);
            findings.push(written.error(&entry.value_place, message, "").help(help));
        }
    }
}

/// What says that numbers of users inside a container are not those of the host.
fn users_of_its_own<'a>(written: &'a Written<'_>) -> Option<&'a Entry> {
    let keys = ["UserNS", "UIDMap", "GIDMap", "SubUIDMap", "SubGIDMap", "RemapUsers"];
    let said = keys.iter().filter_map(|key| written.last("Container", key));
    said.into_iter().find(|entry| !matches!(entry.value.as_str(), "" | "host"))
}

/// Podman writes a container's environment into its configuration, and that to disk.
fn in_environment(written: &Written<'_>, findings: &mut Vec<Finding>) {
    for entry in written.all("Container", "EnvironmentFile") {
        let is_one = |piece: &Piece<'_>| matches!(piece, Piece::Token(Token::Secret(_)));
        let is_secret =
            entry.value.starts_with(MEMORY) || pieces(&entry.value).is_ok_and(|all| all.iter().any(is_one));
        if is_secret {
            let message = format!(
                "`{}` takes a secret as environment, which Podman would write to disk, in clear",
                written.name
            );
            let finding = written.error(&entry.value_place, message, "");
            findings.push(finding.help("mount it, `\"Secret\": \"NAME\"`, and have the program read the file; many take its path as `NAME_FILE`"));
        }
    }
}
