//! `rickbuild`: from a source tree to a bundle. [`check()`] and [`compile`] are the stages in order.
//!
//! 1. [`evaluate`]: loads the environment and its modules, runs them, wires facts to consumers → an [`item::Evaluation`].
//! 2. [`check`](mod@check): items → findings, all of them, and [`host::Host`]s.
//! 3. [`payload`]: finds the files of the source tree that hosts get. They are read when they are packed.
//! 4. [`image`]: image definitions → OCI layers, configs and manifests.
//! 5. [`lower`]: a host → typed files and a manifest; every choice ends here. It calls [`render`], typed → bytes, the only place
//!    that quotes and escapes.
//! 6. [`emit`]: everything → an OCI image layout, as a tar stream or a directory; [`publish`](mod@publish): such a directory → a registry.
//!
//! `check`, `lower` and `render` are pure, by lint: they read no file, no clock and no environment.

pub mod archive;
pub mod blob;
pub mod check;
pub mod emit;
pub mod evaluate;
pub mod finding;
pub mod host;
pub mod image;
mod ini;
pub mod item;
pub mod keys;
pub mod lower;
pub mod options;
pub mod owner;
pub mod path_pattern;
pub mod payload;
pub mod publish;
pub mod render;
pub mod report;
pub mod selection;
pub mod show;
pub mod similar;
pub mod source;
pub mod tree_pattern;

use std::collections::BTreeSet;
use std::path::Path;

use rayon::prelude::*;

use crate::bundle::digest::Digest;
use finding::Finding;
use image::Images;
use item::{Content, Evaluation};
use lower::Lowered;
use payload::known::Known;
use payload::{PayloadFile, Payloads};
use source::{Sources, Span};

/// An environment of which everything is known that can be known without building.
pub struct Checked {
    /// Its hosts; they mean something only if no finding is an error.
    pub hosts: Vec<host::Host>,
    /// The files of the source tree that they get.
    pub payloads: Payloads,
    known: Known,
    /// What is wrong, and what a person should look at.
    pub findings: Vec<Finding>,
    /// The texts that the findings point into.
    pub sources: Sources,
}

/// Evaluates an environment of the source tree at `root`, and checks all of it. Builds nothing, writes nothing. `cache` is where earlier
/// builds kept what they know.
///
/// # Errors
/// What the machine says, or a bug of ours. What is wrong with the source is a finding.
pub fn check(root: &Path, environment: &str, cache: Option<&Path>) -> anyhow::Result<Checked> {
    let evaluate::Outcome { evaluation, mut findings, complete } =
        evaluate::fence::evaluate(root, environment)?;
    let mut hosts = Vec::new();
    let mut payloads = Payloads::default();
    let known = cache.map(|cache| known_of(cache, root, environment)).unwrap_or_default();
    // Where a service could not be built, all that hangs on it would look wrong too.
    if complete {
        let (checked, found) = check::check(&evaluation);
        findings.extend(found);
        hosts = checked;
        let (files, found) = find_payloads(root, &evaluation, &known);
        findings.extend(found);
        findings.extend(check::placed(&evaluation, &files, &PayloadFile::text));
        payloads = files;
    }
    Ok(Checked { hosts, payloads, known, findings, sources: evaluation.sources })
}

/// A compiled environment.
pub struct Compiled {
    /// What each host gets, with the images that it runs.
    pub hosts: Vec<(Lowered, Images)>,
}

/// Builds the images of a checked environment and lowers its hosts. Built layers are kept in `cache`, if there is one. `serial` counts
/// builds, if somebody does.
///
/// # Errors
/// What the machine says: a full disk, a file that changed meanwhile. Findings of lowering are bugs of `check`.
pub fn compile(checked: &Checked, cache: Option<&Path>, serial: Option<u64>) -> anyhow::Result<Compiled> {
    let built = build(checked, cache, serial);
    match built {
        Ok(_) => checked.known.keep(&checked.payloads),
        Err(_) => checked.known.forget(),
    }
    built
}

fn build(checked: &Checked, cache: Option<&Path>, serial: Option<u64>) -> anyhow::Result<Compiled> {
    let mut hosts = Vec::new();
    read_files(checked)?;
    for host in &checked.hosts {
        let images = image::build_all(host, &checked.payloads, cache)?;
        let lowered = lower::lower(host, &checked.payloads, &image::digests(&images));
        let mut lowered = lowered.map_err(|findings| {
            let said: Vec<String> = findings.into_iter().map(|finding| finding.message).collect();
            anyhow::anyhow!("what was checked cannot be lowered, which is a bug of rick: {}", said.join("; "))
        })?;
        lowered.manifest.serial = serial;
        hosts.push((lowered, images));
    }
    Ok(Compiled { hosts })
}

impl Compiled {
    /// Everything that a bundle holds, ready to be written.
    ///
    /// # Errors
    /// A path that no archive can hold, or an image of one name with two contents.
    pub fn assemble(&self) -> anyhow::Result<emit::Layout> {
        emit::assemble(&self.hosts)
    }
}

/// What an earlier build of this environment knew. Each has a file of its own, which holds what that build saw.
fn known_of(cache: &Path, root: &Path, environment: &str) -> Known {
    Known::at(&cache.join("known").join(cache_key(root, environment)))
}

/// What is kept of one environment of one source tree has this name in the cache.
pub fn cache_key(root: &Path, environment: &str) -> String {
    let root = root.canonicalize().unwrap_or_else(|_| root.to_owned());
    Digest::of(format!("{}\0{environment}", root.display()).as_bytes()).hex()
}

/// Reads what hosts get as files, as far as its digests are not known: the manifest of a host says them. Images are read when they are
/// packed.
fn read_files(checked: &Checked) -> anyhow::Result<()> {
    let files = checked.hosts.iter().flat_map(|host| host.files.values());
    let source = |file| match file {
        &host::File { content: Content::Payload(ref source), .. } => Some(source),
        _ => None,
    };
    let sources: BTreeSet<_> = files.filter_map(source).collect();
    let members: Vec<_> =
        sources.into_iter().filter_map(|source| checked.payloads.0.get(source)).flatten().collect();
    let hashed: Vec<_> = members.par_iter().map(|member| member.hash()).collect();
    hashed.into_iter().try_for_each(|hashed| hashed.map(drop))?;
    Ok(())
}

/// Finds every payload; what is wrong with one is said with the service that wants it.
fn find_payloads(root: &Path, evaluation: &Evaluation, known: &Known) -> (Payloads, Vec<Finding>) {
    let wanted: Vec<_> = evaluation.payloads().collect();
    let (payloads, mut findings) =
        payload::find(root, wanted.iter().map(|(path, place, _)| (path.clone(), (*place).clone())), known);
    let service_of =
        |span: &Span| wanted.iter().find(|(_, place, _)| *place == span).map(|(_, _, service)| *service);
    for finding in &mut findings {
        let primary = finding.primary.as_ref().map(|label| &label.span);
        if let Some(service) = primary.and_then(service_of) {
            *finding = finding.clone().and_at(&service.span, format!("asked for by `{}`", service.name));
        }
    }
    (payloads, findings)
}
