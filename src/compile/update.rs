//! `rickbuild lock`: what environments want from outside → `rick.lock`, and the bytes that builds read.
//!
//! 1. Every environment is evaluated and checked; with errors, nothing is asked for.
//! 2. [`Plan`]: what has no entry, what is to be asked for again, what nobody wants any more.
//! 3. [`Network::resolve`] asks which one everything is.
//! 4. [`Network::fetch`] takes into the cache what builds need and what is not there.
//! 5. [`Edit`] changes the text, which is written whole or not at all: an entry never stands there that could not be fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::check::Wanted;
use super::fetch::{Failure, Network, Progress, Settings};
use super::finding::{Finding, Severity};
use super::host::Architecture;
use super::lock::{Anew, Change, Edit, FILE, Lock, Pin, Plan};
use super::lock_file::LockFile;
use super::outside::Outside;
use super::source::{SourcePath, Sources};

/// What is to be done.
pub struct Request<'a> {
    /// The source root.
    pub root: &'a Path,
    /// The environments to look at.
    pub environments: &'a [String],
    /// These are all of them, so what they do not want, nobody wants.
    pub whole: bool,
    /// What is asked for although it has an entry.
    pub anew: Anew<'a>,
    /// Only says what would change.
    pub only_check: bool,
    /// Where bytes are kept.
    pub cache: Option<&'a Path>,
    /// How the network is asked.
    pub settings: &'a Settings,
}

/// What has come of it.
pub struct Updated {
    /// What is wrong, with the texts that it points into.
    pub findings: Vec<Finding>,
    /// Those.
    pub sources: Sources,
    /// How it ended.
    pub end: End,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// All is locked and here.
    Done,
    /// The sources, or the lock, have errors.
    Wrong,
    /// The lock would change.
    WouldChange,
    /// Nothing has these names.
    Unknown(Vec<String>),
    /// Something could not be had.
    Refused,
}

/// Does what is asked for, and says each change.
///
/// # Errors
/// What the machine says, or a bug of ours.
pub fn update(request: &Request<'_>, progress: &Progress) -> anyhow::Result<Updated> {
    let file = LockFile::read(request.root)?;
    let mut survey = Survey::of(request, &file)?;
    let end = if survey.findings.is_empty() { survey.go(request, &file, progress)? } else { End::Wrong };
    Ok(Updated { findings: survey.findings, sources: survey.sources, end })
}

/// What the environments want, together.
struct Survey {
    wanted: BTreeMap<Outside, Vec<Architecture>>,
    /// Where each thing is asked for.
    places: BTreeMap<Outside, Finding>,
    findings: Vec<Finding>,
    sources: Sources,
}

impl Survey {
    fn of(request: &Request<'_>, file: &LockFile) -> anyhow::Result<Self> {
        let (findings, mut sources) = (file.findings.clone(), Sources::default());
        sources.0.insert(SourcePath(FILE.to_owned()), file.text.clone());
        let mut survey = Self { wanted: BTreeMap::new(), places: BTreeMap::new(), findings, sources };
        for environment in request.environments {
            let checked = super::look(request.root, environment, request.cache, file)?;
            let errors = checked.findings.into_iter().filter(|finding| finding.severity == Severity::Error);
            survey.findings.extend(errors);
            survey.sources.0.extend(checked.sources.0);
            checked.wanted.into_iter().for_each(|wanted| survey.want(wanted));
        }
        Ok(survey)
    }

    fn want(&mut self, wanted: Wanted) {
        let built_for = self.wanted.entry(wanted.outside.clone()).or_default();
        for architecture in wanted.built_for {
            if !built_for.contains(&architecture) {
                built_for.push(architecture);
            }
        }
        self.places.entry(wanted.outside).or_insert(wanted.missing);
    }

    fn go(&mut self, request: &Request<'_>, file: &LockFile, progress: &Progress) -> anyhow::Result<End> {
        let wanted: BTreeSet<_> = self.wanted.keys().cloned().collect();
        let plan = Plan::of(&file.lock, &wanted, request.whole, request.anew);
        if !plan.unknown.is_empty() {
            return Ok(End::Unknown(plan.unknown));
        }
        if request.only_check && plan.anew.is_empty() {
            return Self::only_say(file, &plan, &[], progress);
        }
        let cache = request.cache.context("no folder for a cache is known: set HOME or XDG_CACHE_HOME")?;
        let network = Network::new(cache, request.settings, progress)?;
        let asked =
            if request.only_check { plan.anew.clone() } else { [&*plan.missing, &*plan.anew].concat() };
        let answers = asked.iter().zip(network.resolve(&asked));
        let Some(pins) = self.pins(answers)? else { return Ok(End::Refused) };
        if request.only_check {
            return Self::only_say(file, &plan, &pins, progress);
        }
        let text = edited(file, &plan, &pins)?;
        let lock = sound(&text)?;
        self.wanted.retain(|_, built_for| !built_for.is_empty());
        for (outside, failure) in network.fetch(&lock, &self.wanted) {
            self.failed(&outside, failure)?;
        }
        if !self.findings.is_empty() {
            return Ok(End::Refused);
        }
        if text != file.text {
            write(request.root, file, &text)?;
        }
        say(&file.lock.changes_to(&lock), progress);
        Ok(End::Done)
    }

    /// What the network says everything is, unless something could not be had.
    fn pins<'a>(
        &mut self,
        answers: impl Iterator<Item = (&'a Outside, Result<Pin, Failure>)>,
    ) -> anyhow::Result<Option<Vec<Pin>>> {
        let mut pins = Vec::new();
        for (outside, answer) in answers {
            match answer {
                Ok(pin) => pins.push(pin),
                Err(failure) => self.failed(outside, failure)?,
            }
        }
        Ok(self.findings.is_empty().then_some(pins))
    }

    /// Notes what could not be had, at the place that asks for it.
    fn failed(&mut self, outside: &Outside, failure: Failure) -> anyhow::Result<()> {
        let Finding { message, notes, help, .. } = match failure {
            Failure::Refused(finding) => *finding,
            Failure::Machine(error) => return Err(error),
        };
        let finding = match self.places.get(outside) {
            Some(place) => Finding { message, notes, help, ..place.clone() },
            None => Finding { message, notes, help, ..Finding::error("") },
        };
        self.findings.push(finding);
        Ok(())
    }

    fn only_say(file: &LockFile, plan: &Plan, pins: &[Pin], progress: &Progress) -> anyhow::Result<End> {
        let mut changes = file.lock.changes_to(&sound(&edited(file, plan, pins)?)?);
        // Which one these are, only the network knows.
        let missing = plan.missing.iter().map(|outside| Change::missing(outside.to_string()));
        changes.extend(missing);
        say(&changes, progress);
        Ok(if changes.is_empty() { End::Done } else { End::WouldChange })
    }
}

fn say(changes: &[Change], progress: &Progress) {
    for change in changes {
        progress.change(change);
    }
}

/// The text with what was found, and without what nobody wants.
fn edited(file: &LockFile, plan: &Plan, pins: &[Pin]) -> anyhow::Result<String> {
    if pins.is_empty() && plan.unwanted.is_empty() {
        return Ok(file.text.clone());
    }
    let mut edit = Edit::of(&file.text)?;
    plan.unwanted.iter().for_each(|outside| edit.remove(outside));
    // Packages that are the same files were the same at an earlier moment, too.
    let is_another = |pin: &&Pin| match pin {
        Pin::Packages(packages, resolved) => {
            let known = file.lock.packages(packages).unwrap_or_default();
            known.iter().collect::<BTreeSet<_>>() != resolved.packages.iter().collect()
        }
        Pin::Image(..) | Pin::Archive(..) => true,
    };
    pins.iter().filter(is_another).for_each(|pin| edit.set(pin));
    Ok(edit.text())
}

/// The lock that a text of ours is.
fn sound(text: &str) -> anyhow::Result<Lock> {
    let (lock, findings) = Lock::parse(text);
    match findings.first() {
        None => Ok(lock),
        Some(finding) => {
            bail!("{FILE} would not be one any more, which is a bug of rick: {}", finding.message)
        }
    }
}

/// Writes the file whole or not at all.
fn write(root: &Path, file: &LockFile, text: &str) -> anyhow::Result<()> {
    let path = root.join(FILE);
    let cannot = || format!("cannot write {}", path.display());
    if LockFile::read(root)?.text != file.text {
        bail!("{} was changed meanwhile by somebody else: run it again", path.display());
    }
    // With the permissions that it has, or those of any new file, which the umask narrows.
    let there = fs::metadata(&path).ok();
    let mode = there.as_ref().map_or(0o666, |there| there.permissions().mode() & 0o777);
    let mut new = tempfile::Builder::new();
    let mut new = new.permissions(Permissions::from_mode(mode)).tempfile_in(root).with_context(cannot)?;
    new.write_all(text.as_bytes()).with_context(cannot)?;
    new.as_file().sync_all().with_context(cannot)?;
    new.persist(&path).map_err(|error| error.error).with_context(cannot)?;
    Ok(())
}
