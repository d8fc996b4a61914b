//! Brings what a service keeps out of a copy.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::copy::{self, Occasion, dump_in};
use super::presence;
use super::record::{Record, Restoring};
use super::restic::{Restic, Snapshot};
use super::words::Words;
use super::{Kept, Scene, dumps, folder, folder_in_copy, lock, owners};
use crate::activate::host::Verb;
use crate::bundle::manifest::{Role, UnitEntry};
use crate::bundle::names::{Label, UnitName};
use crate::durable;
use crate::refusal::{Refusal, refuse};

/// How a restore is asked for.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Which copy, by the first digits of its name; the last one of this host, unless given.
    pub snapshot: Option<String>,
    /// Into this directory, and nothing of the service is touched.
    pub to: Option<PathBuf>,
    /// Over what is there.
    pub replace: bool,
    /// And no copy is taken of that before.
    pub without_copy: bool,
}

impl Scene<'_> {
    /// Restores what a service keeps, as somebody wishes.
    pub fn restore(&mut self, service: &Label, wish: &Wish) -> Result<()> {
        let kept = self.kept(service)?;
        let repository = self.repository()?;
        let mut restic = Restic::open(self.state, &self.generation, &repository)?;
        if let Some(to) = &wish.to {
            let record = Record::read(self.state, service)?.unwrap_or_default();
            let snapshot = self.wished(&restic, service, wish.snapshot.as_deref(), &record)?;
            self.report.line("restore", &format!("{service}: {} into {}", snapshot.id, to.display()));
            return apart(&restic, &snapshot, service, to);
        }
        let lock = lock(self.state, service)?;
        restic.hold(&lock)?;
        let mut record = Record::read(self.state, service)?.unwrap_or_default();
        record.expect_mounted(self.state, &kept)?;
        if record.may_be_elsewhere() {
            self.take_back(service, &restic)?;
        }
        let interrupted = record.restoring.as_ref().filter(|_| wish.snapshot.is_none());
        let (snapshot, going_on) = match interrupted {
            Some(restoring) => (restic.snapshot(&restoring.snapshot)?, true),
            None => (self.wished(&restic, service, wish.snapshot.as_deref(), &record)?, false),
        };
        let presence = presence::look(self.state, &kept)?;
        let something = presence.values().any(|there| *there);
        if something && !wish.replace && !going_on {
            let there: Vec<String> =
                presence.iter().filter(|(_, there)| **there).map(|(part, _)| part.to_string()).collect();
            return Err(Refusal::new(format!(
                "{} of `{service}` is there, and is not touched",
                there.join(", ")
            ))
            .help("`--replace` puts the copy in its place, after a copy of what is there")
            .help("`--to DIR` restores beside it")
            .into());
        }
        self.run(Verb::Stop, &kept.units)?;
        if something && !going_on && !wish.without_copy {
            if let Err(error) = self.copied(&kept, &repository, Occasion::BeforeRestore, &lock) {
                restic.let_go();
                drop(lock);
                self.start(service)?;
                return Err(error.context(
                    Refusal::new("what is there could not be copied before")
                        .help("`--without-copy` does without"),
                ));
            }
            record = Record::read(self.state, service)?.unwrap_or_default();
        }
        if !going_on {
            let (snapshot, replace) = (snapshot.id.clone(), something);
            record.restoring =
                Some(Restoring { snapshot, replace, generation: None, begun: true, from: None });
            record.write(self.state, service)?;
        }
        self.carry_out(&kept, &restic, &mut record, snapshot, &lock)?;
        // What starts asks for the lock.
        restic.let_go();
        drop(lock);
        self.start(service)
    }

    /// Starts what rick runs of a service.
    pub fn start(&mut self, service: &Label) -> Result<()> {
        let wanted = |unit: &&UnitEntry| {
            unit.service == *service && unit.role == Role::Run && !unit.name.is_template()
        };
        let units: Vec<_> =
            self.manifest()?.units.iter().filter(wanted).map(|unit| unit.name.clone()).collect();
        self.run(Verb::Start, &units)
    }

    /// A service may have no unit: it may keep what another one runs.
    fn run(&mut self, verb: Verb, units: &[UnitName]) -> Result<()> {
        if units.is_empty() {
            return Ok(());
        }
        self.report.line(verb.word(), &units.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        match verb {
            Verb::Start => copy::start(self.host, units),
            _ => self.host.run_jobs(verb, units),
        }
    }

    /// The copy that somebody names, or the last one that this host took.
    fn wished(
        &self,
        restic: &Restic,
        service: &Label,
        wish: Option<&str>,
        record: &Record,
    ) -> Result<Snapshot> {
        let Some(wish) = wish else {
            let words = Words::read(restic, service)?;
            return match self.last(restic, words, service, record)? {
                Some(snapshot) => Ok(snapshot),
                None => refuse!("there is no copy of `{service}` of this host"),
            };
        };
        // Of another host as well: its name says which it is.
        let mut found = restic.snapshots(None, &[service.as_str()])?;
        found.retain(|snapshot| snapshot.is_copy() && snapshot.id.as_str().starts_with(wish));
        match found.pop() {
            Some(_) if !found.is_empty() => refuse!("several copies of `{service}` begin with `{wish}`"),
            Some(snapshot) => Ok(snapshot),
            None => Err(Refusal::new(format!("there is no copy `{wish}` of `{service}`"))
                .help("`rick-activate snapshots` shows those that there are")
                .into()),
        }
    }

    /// Does what the record says is to be restored; what a killed run left of it is done again. The lock is held.
    pub(super) fn carry_out(
        &mut self,
        kept: &Kept,
        restic: &Restic,
        record: &mut Record,
        snapshot: Snapshot,
        lock: &File,
    ) -> Result<()> {
        let service = &kept.service;
        self.bring_back(kept, restic, record, snapshot, lock).map_err(|error| {
            error.context(
                Refusal::new(format!("`{service}` is not restored, and does not start")).help(format!(
                    "once that is mended, `rick-activate restore {service}` goes on, and so does the next start"
                )),
            )
        })
    }

    fn bring_back(
        &mut self,
        kept: &Kept,
        restic: &Restic,
        record: &mut Record,
        snapshot: Snapshot,
        lock: &File,
    ) -> Result<()> {
        let Some(restoring) = record.restoring.clone() else { return Ok(()) };
        let service = &kept.service;
        self.report.line(
            "restore",
            &format!("{service}: {} of {} on {}", snapshot.id, snapshot.time, snapshot.hostname),
        );
        let folder = folder(self.state, service);
        durable::remove_tree_if_there(&folder)?;
        let mut targets = Vec::new();
        // Each path more is one call of restic more.
        let same_numbers = snapshot.tags.contains(&owners::mark(self.state)?);
        let needed = !kept.dumps.is_empty() || !same_numbers;
        if needed && snapshot.paths.contains(&folder_in_copy(service)) {
            durable::make_directory(&folder, 0o700)?;
            targets.push((folder_in_copy(service), folder.clone(), false));
        }
        let mut directories = Vec::new();
        for path in kept.directories().filter(|path| snapshot.paths.iter().any(|had| had == path.as_str())) {
            let place = self.state.on_host(path.as_str());
            if !place.is_dir() {
                durable::make_directory(&place, 0o700)?;
            }
            record.mounts.insert(path.clone(), presence::begins(&place)?);
            targets.push((path.to_string(), place.clone(), restoring.replace));
            directories.push(place);
        }
        // From here on it is known which file systems have to be there.
        record.write(self.state, service)?;
        restic.restore_all(&snapshot.id, &targets)?;
        let places: Vec<&Path> = directories.iter().map(PathBuf::as_path).collect();
        owners::translate(self.state, &folder, &places)?;
        for dump in &kept.dumps {
            let file = dump_in(&folder, &dump.name);
            if !file.is_file() {
                continue;
            }
            // Whatever is there is what a run loaded that was killed, or is to be replaced.
            if !dumps::is_empty(kept, &dump.name)? {
                dumps::clear(dump, lock)?;
            }
            let file = File::open(&file).with_context(|| format!("cannot read {}", file.display()))?;
            dumps::restore(dump, file, lock)?;
        }
        self.own(kept)?;
        for place in &places {
            durable::sync_filesystem(place)?;
        }
        durable::remove_tree_if_there(&folder)?;
        record.restoring = None;
        record.number = record.number.max(snapshot.number());
        record.restored = Some(snapshot.id.clone());
        record.copied = Some(snapshot.id);
        if let Some((home, word)) = restoring.from {
            (record.came_from, record.came) = (Some(home), Some(word));
        }
        record.starts();
        record.held.clear();
        record.sees(self.state, &presence::look(self.state, kept)?)?;
        record.write(self.state, service)?;
        self.report.line("restored", service.as_str());
        Ok(())
    }

    /// Gives the directories the owners and modes that are declared.
    fn own(&self, kept: &Kept) -> Result<()> {
        let mut command = Command::new("systemd-tmpfiles");
        command.arg("--create").args(kept.directories().map(|path| format!("--prefix={path}")));
        let status = command.arg(self.generation.directory.join("tmpfiles.conf")).status();
        let status = status.context("cannot start systemd-tmpfiles")?;
        if status.success() { Ok(()) } else { Err(anyhow::anyhow!("systemd-tmpfiles failed ({status})")) }
    }
}

/// Everything of a copy below a directory, with dumps in `dumps/`.
fn apart(restic: &Restic, snapshot: &Snapshot, service: &Label, to: &Path) -> Result<()> {
    if presence::holds_something(to)? {
        return Err(Refusal::new(format!("{} is not empty, and nothing in it is touched", to.display()))
            .help("give a directory that is empty, or not there")
            .into());
    }
    for path in &snapshot.paths {
        let place = if *path == folder_in_copy(service) {
            to.to_owned()
        } else {
            to.join(path.trim_start_matches('/'))
        };
        if !place.is_dir() {
            durable::make_directory(&place, 0o700)?;
        }
        restic.restore(&snapshot.id, path, &place, false)?;
    }
    Ok(())
}
