//! Secrets: names that a credential can have, and units that load only what is stated.

use std::collections::{BTreeMap, BTreeSet};

use super::super::finding::Finding;
use super::super::host::Secret;
use super::super::secret;
use super::super::similar::did_you_mean;
use super::accounts::parsed;
use super::fields::field;
use super::stated::help;
use super::survey::Survey;
use crate::bundle::names::SecretName;

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
