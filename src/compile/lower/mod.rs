//! From a checked host to the files and the manifest of its bundle. Pure; every choice ends here.
//!
//! - A unit that says in `[Install]` who wants it is run; what a timer, a socket or another unit starts is followed. The
//!   section's links are made here, since nobody calls `systemctl enable`.
//! - A drop-in alone stands for a unit of the distribution: that is run, and restarted when the drop-in changes.
//! - `rick.target` wants everything that is run, and `multi-user.target` wants it.
//! - Images are named by their digest, and tagged by its first digits: those of two generations stand beside each other.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod install;
mod order;
mod output;
mod quadlet;
mod unit;
mod versions;

use std::collections::BTreeMap;

use super::finding::Finding;
use super::host::{self, Host};
use super::item::Content as Source;
use super::payload::{PayloadFile, Payloads};
use super::render::accounts;
use crate::bundle::digest::Digest;
use crate::bundle::manifest::{Accounts, FORMAT, HostManifest, Program, Validation};
use crate::bundle::names::{BundlePath, Label, SecretName};
use crate::bundle::secret;
use crate::bundle::token::Token;
use output::Output;

/// What one host gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lowered {
    /// What the activator is told.
    pub manifest: HostManifest,
    /// The content of every file in [`HostManifest::files`].
    pub files: BTreeMap<BundlePath, Content>,
}

/// What a file of the bundle holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Generated text.
    Text(String),
    /// A file of the source tree.
    Payload(PayloadFile),
}

/// Lowers a host whose images have been built: their names and the digests of their manifests.
///
/// # Errors
/// What `check` cannot see because only here paths and payload trees come together; and, as findings too, what it let slip.
pub fn lower(
    host: &Host,
    payloads: &Payloads,
    images: &BTreeMap<String, Digest>,
) -> Result<Lowered, Vec<Finding>> {
    let mut out = Output::default();
    for (path, file) in &host.files {
        lower_file(&mut out, path, file, payloads);
    }
    for (name, secret) in &host.secrets {
        lower_secret(&mut out, name, secret, payloads);
    }
    let units = unit::lower(&mut out, host, images);
    lower_accounts(&mut out, host);
    out.finish_paths();
    if !out.findings.is_empty() {
        return Err(out.findings);
    }
    let validations = host.validations.iter().map(|validation| validation_of(&out, validation)).collect();
    let manifest = HostManifest {
        format: FORMAT,
        environment: host.environment.clone(),
        host: host.name.clone(),
        serial: None,
        accounts: manifest_accounts(host, &out),
        files: out.entries,
        links: out.links,
        units,
        images: images.iter().map(|(name, digest)| (image_reference(name, *digest), *digest)).collect(),
        pulls: host.quadlets.iter().flat_map(|quadlet| quadlet::pulled(quadlet, images)).collect(),
        programs: host.programs.iter().map(|(path, wanted)| (path.clone(), program(wanted))).collect(),
        versions: versions::needed(host),
        validations,
        probes: host.probes.clone(),
        secrets: host.secrets.iter().map(|(name, secret)| (name.clone(), secret.needed_by.clone())).collect(),
        states: host.states.clone(),
        dumps: host.dumps.clone(),
        at_rest: host.at_rest.clone(),
        repositories: host.repositories.clone(),
        moved: host.moved.clone(),
    };
    Ok(Lowered { manifest, files: out.contents })
}

/// The name under which an image is stored that Quadlet files call `name`: tagged by its own digest.
pub fn image_reference(name: &str, manifest: Digest) -> String {
    format!("{}:{}", quadlet::repository(name), manifest.short())
}

fn program((package, needed_by): &(String, Vec<Label>)) -> Program {
    Program { package: package.clone(), needed_by: needed_by.clone() }
}

/// A validation with each file of the trees that it judges.
fn validation_of(out: &Output, validation: &Validation) -> Validation {
    let files = validation.files.iter().flat_map(|path| out.below(path)).collect();
    Validation { files, ..validation.clone() }
}

fn lower_file(out: &mut Output, path: &BundlePath, file: &host::File, payloads: &Payloads) {
    let source = match &file.content {
        Source::Text(text) => return out.text(path.as_str(), text.clone(), file.executable),
        Source::Payload(source) => source,
    };
    let Some(members) = payloads.0.get(source) else {
        return out.problem(format!("the payload `{source}` of `{path}` was not read"));
    };
    for member in members {
        match &member.relative {
            Some(relative) => out.payload(&format!("{path}/{relative}"), member.clone(), false),
            None => out.payload(path.as_str(), member.clone(), file.executable),
        }
    }
}

/// It comes with the bundle as it is in the source tree, encrypted.
fn lower_secret(out: &mut Output, name: &SecretName, secret: &host::Secret, payloads: &Payloads) {
    let Some(source) = &secret.file else { return };
    match (secret::encrypted(name), payloads.0.get(source).map(Vec::as_slice)) {
        (Ok(path), Some([file])) => out.payload(path.as_str(), file.clone(), false),
        (Err(why), _) => out.problem(format!("{why:#}")),
        (Ok(_), _) => out.problem(format!("the secret `{source}` was not read")),
    }
}

fn lower_accounts(out: &mut Output, host: &Host) {
    let header = header(host);
    match accounts::sysusers(&header, &host.groups, &host.users) {
        Ok(text) => out.text("sysusers.conf", text, false),
        Err(why) => out.problem(why),
    }
    out.text("tmpfiles.conf", accounts::tmpfiles(&header, &host.directories), false);
}

/// The comment at the top of generated files that belong to no service.
fn header(host: &Host) -> String {
    format!("rick: environment {}, host {}", host.environment, host.name)
}

/// Declared names, the group of each user, and whatever else memberships and tokens name.
fn manifest_accounts(host: &Host, out: &Output) -> Accounts {
    let mut accounts = Accounts {
        users: host.users.iter().map(|(name, user)| (name.clone(), user.id)).collect(),
        groups: host.groups.iter().map(|(name, group)| (name.clone(), group.id)).collect(),
    };
    for name in host.users.keys() {
        accounts.groups.entry(name.clone()).or_default();
    }
    for member in host.groups.values().flat_map(|group| &group.members) {
        accounts.users.entry(member.clone()).or_default();
    }
    for token in &out.tokens {
        match token {
            Token::Uid(name) => drop(accounts.users.entry(name.clone()).or_default()),
            Token::Gid(name) => drop(accounts.groups.entry(name.clone()).or_default()),
            Token::Secret(file) => {
                for (name, known) in [(&file.user, &mut accounts.users), (&file.group, &mut accounts.groups)]
                {
                    if name.as_str() != secret::ROOT {
                        known.entry(name.clone()).or_default();
                    }
                }
            }
            Token::Object(_) => {}
        }
    }
    accounts
}

#[cfg(test)]
mod tests;
