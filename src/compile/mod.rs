//! `rickbuild`: from a source tree to a bundle. [`check()`] and [`compile`] are the stages in order.
//!
//! 1. [`evaluate`]: loads the environment and its modules, runs them, wires facts to consumers → an [`item::Evaluation`].
//! 2. [`check`](mod@check): items → findings, all of them, and [`host::Host`]s.
//! 3. [`payload`]: finds the files of the source tree that hosts get. They are read when they are packed.
//! 4. [`image`]: image definitions → OCI layers, configs and manifests. What they are made of beside the source tree, [`make`] makes on
//!    demand: file systems of bases, as [`tree`]s, and what builds leave in their sandbox, kept in a [`store`].
//! 5. [`lower`]: a host → typed files and a manifest; every choice ends here. It calls [`render`], typed → bytes, the only place
//!    that quotes and escapes.
//! 6. [`emit`]: everything → an OCI image layout, as a tar stream or a directory, which [`sign`](mod@sign) signs; [`publish`](mod@publish): such a directory → a registry.
//!
//! `check`, `lower` and `render` are pure, by lint: they read no file, no clock and no environment.

pub mod archive;
pub mod blob;
mod by_path;
pub mod check;
pub mod emit;
pub mod evaluate;
pub mod fetch;
pub mod finding;
pub mod host;
pub mod identity;
pub mod image;
mod ini;
pub mod item;
pub mod keys;
pub mod known;
pub mod lock;
pub mod lock_file;
pub mod lower;
pub mod make;
pub mod members;
pub mod mounted;
pub mod options;
pub mod outside;
pub mod owner;
pub mod path_pattern;
pub mod payload;
pub mod plan;
pub mod provenance;
pub mod publish;
pub mod render;
pub mod report;
pub mod secret;
pub mod selection;
pub mod show;
pub mod sign;
pub mod similar;
pub mod source;
pub mod store;
pub mod tree;
pub mod tree_pattern;
pub mod update;
pub mod upstream;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::bundle::digest::Digest;
use anyhow::Context as _;
use check::Wanted;
use check::moves::{self, Described};
use finding::{Finding, Severity};
use image::Images;
use item::{Content, Evaluation};
use known::Known;
use lock::Lock;
use lock_file::LockFile;
use lower::Lowered;
use make::Maker;
use payload::{PayloadFile, Payloads};
use plan::Plan;
use secret::folder::Folder;
use secret::recipient::Recipient;
use sign::Signer;
use source::{SourcePath, Sources, Span};
use store::Store;
use tempfile::TempDir;

/// An environment of which everything is known that can be known without building.
pub struct Checked {
    /// Its hosts; they mean something only if no finding is an error.
    pub hosts: Vec<host::Host>,
    /// The same as its modules state them.
    pub stated: Vec<item::Host>,
    /// Who can read all its secrets beside the hosts.
    pub operators: Vec<Recipient>,
    /// The files of its secrets.
    pub secrets: Folder,
    /// What is wrong with these.
    pub sealed: Vec<Finding>,
    /// The files of the source tree that they get.
    pub payloads: Payloads,
    known: Arc<Known>,
    /// Which one everything from outside the source tree is.
    pub lock: Lock,
    /// What it wants from there.
    pub wanted: Vec<Wanted>,
    /// What is wrong, and what a person should look at.
    pub findings: Vec<Finding>,
    /// The texts that the findings point into.
    pub sources: Sources,
    /// The digest of each file of the source tree that was read so far: those in Starlark, those whose text modules take, and those of secrets.
    pub read: BTreeMap<SourcePath, Digest>,
}

/// Evaluates an environment of the source tree at `root`, and checks all of it. Builds nothing, writes nothing, asks no network. `cache`
/// is where earlier builds kept what they know.
///
/// # Errors
/// What the machine says, or a bug of ours. What is wrong with the source is a finding.
pub fn check(root: &Path, environment: &str, cache: Option<&Path>) -> anyhow::Result<Checked> {
    let lock_file = LockFile::read(root)?;
    let mut checked = look(root, environment, cache, &lock_file)?;
    // In a file that cannot be read, everything would be missing.
    if lock_file.findings.is_empty() {
        let missing = checked.wanted.iter().filter(|wanted| !checked.lock.knows(&wanted.outside));
        checked.findings.extend(missing.map(|wanted| wanted.missing.clone()));
    }
    checked.findings.extend(lock_file.findings);
    checked.findings.extend(checked.sealed.clone());
    Ok(checked)
}

/// The same for who writes secrets. What is wrong with their files is apart, and nobody asks what the lock lacks.
///
/// # Errors
/// As of [`check()`].
pub fn check_for_secrets(root: &Path, environment: &str, cache: Option<&Path>) -> anyhow::Result<Checked> {
    look(root, environment, cache, &LockFile::read(root)?)
}

/// The same but for what is wrong with the lock or with secrets, or missing there.
fn look(root: &Path, environment: &str, cache: Option<&Path>, lock: &LockFile) -> anyhow::Result<Checked> {
    let known_of = |cache| known_of(cache, root, environment);
    // The evaluation is another process, which this one would wait for. Files are looked at from then on, also while others are listed.
    let (outcome, known) = rayon::join(
        || evaluate::fence::evaluate(root, environment),
        || {
            let known = Arc::new(cache.map(known_of).unwrap_or_default());
            let ahead = Arc::clone(&known);
            rayon::spawn(move || ahead.look());
            known
        },
    );
    let evaluate::Outcome { mut evaluation, mut findings, complete } = outcome?;
    evaluation.sources.0.insert(SourcePath(lock::FILE.to_owned()), lock.text.clone());
    let (mut hosts, mut operators, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    let (mut payloads, mut secrets, mut sealed) = (Payloads::default(), Folder::default(), Vec::new());
    // Where a service could not be built, all that hangs on it would look wrong too.
    if complete {
        let checked = check::check(&evaluation, &lock.lock);
        let folder = evaluation.environment.parse().map(|name| Folder::read(root, &name));
        secrets = folder.unwrap_or_else(|_| Ok(Folder::default()))?;
        sealed = check::sealed(&evaluation, &checked, &secrets);
        findings.extend(checked.findings);
        (hosts, operators, wanted) = (checked.hosts, checked.operators, checked.wanted);
        let (files, found) = find_payloads(root, &evaluation, &secrets, &known);
        findings.extend(found);
        findings.extend(check::placed(&evaluation, &files, &PayloadFile::text));
        payloads = files;
    }
    let lock = lock.lock.clone();
    let Evaluation { hosts: stated, sources, mut read, .. } = evaluation;
    read.extend(std::mem::take(&mut secrets.read));
    Ok(Checked {
        hosts,
        stated,
        operators,
        secrets,
        sealed,
        payloads,
        known,
        lock,
        wanted,
        findings,
        sources,
        read,
    })
}

/// Checks environments and those that their services come from, and plans what there is to do. Does no more than [`check()`].
///
/// # Errors
/// As of [`check()`].
pub fn plan(root: &Path, names: &[String], cache: Option<&Path>) -> anyhow::Result<Planned> {
    let mut environments: BTreeMap<String, Checked> = BTreeMap::new();
    for name in names {
        environments.insert(name.clone(), check(root, name, cache)?);
    }
    let (mut findings, mut others) = (Vec::new(), BTreeSet::new());
    for moving in environments.iter().flat_map(|(name, checked)| moves::of(checked.described(name))) {
        let other = moving.from.environment.as_str();
        if environments.contains_key(other) {
            continue;
        }
        if root.join(evaluate::path_of(other).0).exists() {
            others.insert(other.to_owned());
        } else {
            findings.push(moving.lacks_environment(environments.keys().map(String::as_str)));
        }
    }
    for other in others {
        let checked = check(root, &other, cache)?;
        environments.insert(other, checked);
    }
    // Of one that is wrong in itself, it is not known what it would be.
    let good = environments.iter().filter(|(_, checked)| !is_wrong(&checked.findings));
    let described: Vec<_> = good.map(|(name, checked)| checked.described(name)).collect();
    findings.extend(moves::check(&described));
    let mut sources = Sources::default();
    for checked in environments.values() {
        findings.extend(checked.findings.clone());
        sources.0.extend(checked.sources.0.clone());
    }
    let whole = environments.iter().map(|(name, checked)| plan::Environment {
        described: checked.described(name),
        hosts: &checked.hosts,
    });
    let plan = (!is_wrong(&findings)).then(|| Plan::of(names, &whole.collect::<Vec<_>>()));
    Ok(Planned { plan, findings, sources })
}

/// What came of planning.
pub struct Planned {
    /// What there is to do, if no finding is an error.
    pub plan: Option<Plan>,
    /// What is wrong, and what a person should look at.
    pub findings: Vec<Finding>,
    /// The texts that the findings point into.
    pub sources: Sources,
}

fn is_wrong(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.severity == Severity::Error)
}

impl Checked {
    /// What moves are told from, under the name that it was asked for by.
    fn described<'a>(&'a self, environment: &'a str) -> Described<'a> {
        Described { environment, hosts: &self.stated }
    }
}

/// A compiled environment.
pub struct Compiled {
    /// What each host gets, with the images that it runs.
    pub hosts: Vec<(Lowered, Images)>,
    cache: Option<PathBuf>,
}

/// How an environment is compiled, apart from what it says.
#[derive(Clone, Copy)]
pub struct How<'a> {
    /// Where earlier builds kept what they made.
    pub cache: Option<&'a Path>,
    /// What counts builds, if something does.
    pub serial: Option<u64>,
    /// Runs each build twice, and refuses what is not the same both times.
    pub rebuild: bool,
    /// Is told of each build that runs.
    pub tell: &'a dyn Fn(&str),
}

/// Builds the images of a checked environment and lowers its hosts.
///
/// # Errors
/// [`Refused`](finding::Refused) if something cannot be built as the source says; what the machine says: a full disk, a file that changed
/// meanwhile. Findings of lowering are bugs of `check`.
pub fn compile(checked: &Checked, how: How<'_>) -> anyhow::Result<Compiled> {
    let built = build(checked, how);
    match built {
        Ok(_) => checked.known.keep(checked.payloads.found()),
        Err(_) => checked.known.forget(),
    }
    built
}

fn build(checked: &Checked, how: How<'_>) -> anyhow::Result<Compiled> {
    let mut hosts = Vec::new();
    read_files(checked)?;
    // What builds make has to lie somewhere.
    let nowhere = how.cache.is_none().then(tempfile::tempdir).transpose()?;
    let folder =
        how.cache.or(nowhere.as_ref().map(TempDir::path)).context("there is no folder for builds")?;
    let store = Store::at(folder);
    let maker = Maker::new(&checked.payloads, &checked.lock, &store, how);
    for host in &checked.hosts {
        let images = image::build_all(host, &maker)?;
        let lowered = lower::lower(host, &checked.payloads, &image::digests(&images));
        let mut lowered = lowered.map_err(|findings| {
            let said: Vec<String> = findings.into_iter().map(|finding| finding.message).collect();
            anyhow::anyhow!("what was checked cannot be lowered, which is a bug of rick: {}", said.join("; "))
        })?;
        lowered.manifest.serial = how.serial;
        hosts.push((lowered, images));
    }
    Ok(Compiled { hosts, cache: how.cache.map(Path::to_owned) })
}

impl Compiled {
    /// Everything that a bundle holds, ready to be written; signed if there is a key for it.
    ///
    /// # Errors
    /// A path that no archive can hold, or an image of one name with two contents; what the key says.
    pub fn assemble(&self, signer: Option<&Signer>) -> anyhow::Result<emit::Layout> {
        emit::assemble(&self.hosts, self.cache.as_deref(), signer)
    }
}

/// What an earlier build of this environment knew. Each has a file of its own, which holds what that build saw.
fn known_of(cache: &Path, root: &Path, environment: &str) -> Known {
    Known::at(&cache.join("known").join(cache_key(root, environment)))
}

/// What is known of the files of a layout that was written to this folder.
pub fn known_in(cache: Option<&Path>, folder: &Path) -> Known {
    cache.map(|cache| known_of(cache, folder, "")).unwrap_or_default()
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
    let secrets = checked.hosts.iter().flat_map(|host| host.secrets.values());
    let secrets = secrets.filter_map(|secret| secret.file.as_ref());
    let sources: BTreeSet<_> = files.filter_map(source).chain(secrets).collect();
    let members: Vec<_> =
        sources.into_iter().filter_map(|source| checked.payloads.0.get(source)).flatten().collect();
    let hashed: Vec<_> = members.par_iter().map(|member| member.hash()).collect();
    hashed.into_iter().try_for_each(|hashed| hashed.map(drop))?;
    Ok(())
}

/// Finds every payload; what is wrong with one is said with the service that wants it.
fn find_payloads(
    root: &Path,
    evaluation: &Evaluation,
    secrets: &Folder,
    known: &Known,
) -> (Payloads, Vec<Finding>) {
    let wanted = evaluation.payloads(secrets);
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
