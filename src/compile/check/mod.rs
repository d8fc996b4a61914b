//! Items → findings, all of them, or hosts in which names are parsed, bodies are sections and references resolve.
//!
//! Every check runs whatever the others found; each file holds one concern.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod accounts;
mod commands;
mod containers;
mod dependencies;
mod directories;
mod fields;
mod files;
mod handling;
mod images;
mod installs;
mod kept;
mod known;
mod mounts;
pub mod moves;
mod names;
mod networks;
mod order;
mod outside;
mod placed;
mod ports;
mod probes;
mod programs;
mod provided;
mod quadlets;
mod recipients;
mod runs_as;
mod sealed;
mod secrets;
mod services;
mod sites;
mod stated;
mod states;
mod survey;
mod taken;
#[cfg(test)]
mod tests;
mod tokens;
mod units;
mod validations;
mod well_known;
mod written;

use std::collections::BTreeMap;

use super::finding::Finding;
use super::host::Host;
use super::item::{self, Evaluation};
use super::lock::Lock;
use super::payload::{PayloadFile, Payloads};
use super::secret::folder::Folder;
use super::secret::recipient::Recipient;
use moves::Described;
pub use outside::Wanted;
use provided::Provided;
use survey::Survey;

/// What the items of an environment come to.
pub struct Outcome {
    /// Its hosts; they are complete only if no finding is an error.
    pub hosts: Vec<Host>,
    /// Who can read all its secrets beside the hosts.
    pub operators: Vec<Recipient>,
    /// What it wants from outside the source tree, in the lock or not.
    pub wanted: Vec<Wanted>,
    /// What is wrong, but for what the lock lacks.
    pub findings: Vec<Finding>,
}

/// Checks everything.
pub fn check(evaluation: &Evaluation, lock: &Lock) -> Outcome {
    let (mut wanted, mut findings) = (Vec::new(), Vec::new());
    names::check(evaluation, &mut findings);
    let operators = recipients::operators(evaluation, &mut findings);
    let check = |host| check_host(evaluation, host, lock, &mut wanted, &mut findings);
    let hosts = evaluation.hosts.iter().filter_map(check).collect();
    findings.extend(moves::check(&[Described {
        environment: &evaluation.environment,
        hosts: &evaluation.hosts,
    }]));
    Outcome { hosts, operators, wanted, findings }
}

/// Reads a payload as text, if it is one: the stage itself touches no disk.
pub type ReadText<'a> = &'a dyn Fn(&PayloadFile) -> Option<String>;

/// Checks what is known only when the payloads were read.
pub fn placed(evaluation: &Evaluation, payloads: &Payloads, read: ReadText<'_>) -> Vec<Finding> {
    placed::check(evaluation, payloads, read)
}

/// Checks the files of secrets, once they were read.
pub fn sealed(evaluation: &Evaluation, checked: &Outcome, folder: &Folder) -> Vec<Finding> {
    sealed::check(evaluation, checked, folder)
}

fn check_host(
    evaluation: &Evaluation,
    host: &item::Host,
    lock: &Lock,
    wanted: &mut Vec<Wanted>,
    findings: &mut Vec<Finding>,
) -> Option<Host> {
    let survey = Survey::of(host, &evaluation.sources, findings);
    let provided = Provided::by(&survey);
    let (groups, users) = accounts::check(&survey, findings);
    let directories = directories::check(&survey, findings);
    let files = files::check(&survey, findings);
    let images = images::check(&survey, findings);
    let units = units::check(&survey, findings);
    let type_drop_ins = units::check_types(&survey, findings);
    let quadlets = quadlets::check(&survey, &provided, lock, findings);
    let probes = probes::check(&survey, &provided, findings);
    let validations = validations::check(&survey, findings);
    let programs = programs::check(&survey, findings);
    let ssh_key = recipients::of_host(host, &evaluation.sources, findings);
    let secrets = secrets::check(&survey, &evaluation.environment, findings);
    let states = states::check(&survey, findings);
    let dumps = kept::dumps(&survey, findings);
    let repositories = kept::repositories(&survey, findings);
    let moved = kept::moved(&survey, &evaluation.environment, findings);
    taken::check(&survey, findings);
    handling::check(&survey, findings);
    ports::check(&survey, findings);
    sites::check(&survey, findings);
    tokens::check(&survey, findings);
    services::check(&survey, findings);
    runs_as::check(&survey, findings);
    wanted.extend(outside::wanted(&survey, evaluation.embeds));
    let embedded = if evaluation.embeds { outside::run(&survey) } else { BTreeMap::new() };
    containers::check(&survey, findings);
    mounts::check(&survey, findings);
    networks::check(&survey, findings);
    dependencies::check(&survey, &provided, findings);
    installs::check(&survey, findings);
    order::check(&survey, &provided, findings);
    Some(Host {
        environment: evaluation.environment.parse().ok()?,
        name: host.name.parse().ok()?,
        os: host.os,
        ssh_key,
        groups,
        users,
        directories,
        files,
        units,
        type_drop_ins,
        quadlets,
        images,
        embedded,
        probes,
        validations,
        programs,
        secrets,
        states,
        dumps,
        at_rest: kept::at_rest(&survey),
        repositories,
        moved,
    })
}
