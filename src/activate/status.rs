//! How a host is: what it should be, what was applied and what runs, side by side. It only looks, and needs neither the lock nor, but for the
//! container storage, root: so it works in the middle of a switch too.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::course::Course;
use super::desired::Wanted;
use super::generation::Generation;
use super::host::{Definition, Images, LoadState, UnitState};
use super::journal::{Journal, Phase};
use super::list::utc;
use super::marks::{Marks, Verdict};
use super::plan::Step;
use super::realise::object_digest;
use super::state::State;
use super::target::Target;
use super::{Activation, anchors};
use crate::bundle::digest::Digest;
use crate::bundle::manifest::Role;
use crate::bundle::names::{HostName, Label, UnitName};

/// How a host is.
#[derive(Debug, Serialize)]
pub struct Status {
    /// It is as its generation wants it, and nothing of it failed.
    pub well: bool,
    /// The generation that it has.
    pub generation: u32,
    /// The digest of the build that this came from; none for generation 0.
    pub digest: Option<Digest>,
    /// The environment; none for generation 0.
    pub environment: Option<Label>,
    /// The host that it was compiled for; none for generation 0.
    pub host: Option<HostName>,
    /// How it went, the last time that it was switched to.
    pub verdict: Option<Verdict>,
    /// The switch that is under way.
    pub switch: Option<UnderWay>,
    /// The units of the generation.
    pub units: Vec<UnitStatus>,
    /// What a switch to this generation would do.
    pub steps: Vec<Step>,
    /// What else is not as it should be.
    pub findings: Vec<String>,
    /// What could not be looked at.
    pub unseen: Vec<String>,
}

/// A switch that is under way.
#[derive(Debug, Serialize)]
pub struct UnderWay {
    /// The generation that it goes back to if it does not end well.
    pub from: u32,
    /// The generation that it goes to.
    pub to: u32,
    /// How far it is.
    pub phase: Phase,
    /// When PID 1 goes back if nothing more is heard, in UTC.
    pub until: Option<String>,
    /// How many seconds that is from now.
    pub left_s: Option<u64>,
}

/// One unit of the generation.
#[derive(Debug, Serialize)]
pub struct UnitStatus {
    /// The unit.
    pub unit: UnitName,
    /// What rick does with it.
    pub role: Role,
    /// The host is well without it.
    pub optional: bool,
    /// How it is.
    pub state: String,
    /// The generation that it was last started or reloaded from, if it runs and somebody knows.
    pub generation: Option<u32>,
    /// What is wrong with how it is.
    pub trouble: Option<String>,
    /// How somebody else changed what it is.
    pub drift: Vec<Drift>,
    /// Why it is left as it is although it changed.
    pub skipped: Option<String>,
}

/// How somebody else changed what a unit is.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drift {
    /// A file that is not rick's adds to it.
    DropIn(PathBuf),
    /// Another file defines it.
    Shadowed(PathBuf),
    /// It cannot be started.
    Masked,
    /// Its files changed, and systemd has yet to read them.
    Outdated,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DropIn(path) => write!(f, "changed by {}", path.display()),
            Self::Shadowed(path) => write!(f, "defined by {} instead", path.display()),
            Self::Masked => f.write_str("masked on this host"),
            Self::Outdated => {
                f.write_str("its files changed since systemd read them (daemon-reload reads them)")
            }
        }
    }
}

impl Activation<'_> {
    /// How this host is; `None` if rick never activated anything on it. `verify`: the bytes of the store as well.
    pub fn status(&self, verify: bool) -> Result<Option<Status>> {
        let Some(current) = self.known.current(&self.state)? else { return Ok(None) };
        let mut target = Target::there(current.clone())?;
        let mut unseen = Vec::new();
        if !target.images.is_empty() && self.host.is_running() && !rustix::process::geteuid().is_root() {
            target.images = Images::default();
            unseen.push("the container storage, which only root can look at".to_owned());
        }
        let course = self.course(&target)?;
        let units = self.units(&course)?;
        let mut findings = findings(&self.state, &current, &course)?;
        if verify {
            findings.extend(damaged(&self.state)?);
        }
        let manifest = current.manifest();
        let marks = Marks::read(&self.state)?;
        let well = units.iter().all(UnitStatus::is_well)
            && findings.is_empty()
            && course.plan.steps.iter().all(|step| is_optional(&course, &step.unit));
        Ok(Some(Status {
            well,
            generation: current.number,
            digest: current.digest(),
            environment: manifest.map(|manifest| manifest.environment.clone()),
            host: manifest.map(|manifest| manifest.host.clone()),
            verdict: marks.generations.get(&current.number).and_then(|mark| mark.verdict.clone()),
            switch: self.under_way()?,
            units,
            steps: course.plan.steps,
            findings,
            unseen,
        }))
    }

    fn under_way(&self) -> Result<Option<UnderWay>> {
        let Some(journal) = Journal::read(&self.state)? else { return Ok(None) };
        let until = self.host.armed()?;
        let left = until.map(|until| until.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO));
        Ok(Some(UnderWay {
            from: journal.from,
            to: journal.to,
            phase: journal.phase,
            until: until.map(utc),
            left_s: left.map(|left| left.as_secs()),
        }))
    }

    fn units(&self, course: &Course) -> Result<Vec<UnitStatus>> {
        let wanted: Vec<&Wanted> =
            course.desired.units.iter().filter(|unit| !unit.name.is_template()).collect();
        let names: Vec<UnitName> = wanted.iter().map(|unit| unit.name.clone()).collect();
        let definitions = self.host.definitions(&names)?;
        let status = |(unit, definition): (&Wanted, &Definition)| {
            let live = course.live.get(&unit.name).cloned().unwrap_or_default();
            let record = course.applied.units.get(&unit.name).filter(|_| live.runs());
            let skip = course.plan.skipped.iter().find(|skip| skip.unit == unit.name);
            UnitStatus {
                unit: unit.name.clone(),
                role: unit.role,
                optional: unit.optional,
                state: live.told(),
                generation: record.and_then(|record| record.generation),
                trouble: trouble(unit, &live),
                drift: drift(unit, &live, definition),
                skipped: skip.map(|skip| skip.reason.to_string()),
            }
        };
        Ok(wanted.into_iter().zip(&definitions).map(status).collect())
    }
}

impl UnitStatus {
    fn is_well(&self) -> bool {
        (self.trouble.is_none() || self.optional) && self.drift.is_empty()
    }

    /// What is remarkable about it.
    fn remarks(&self) -> impl Iterator<Item = String> {
        let drift = self.drift.iter().map(Drift::to_string);
        self.trouble.clone().into_iter().chain(drift).chain(self.skipped.clone())
    }
}

impl Status {
    /// For people: a verdict, and what is remarkable; `all`: every unit as well.
    pub fn text(&self, all: bool, colour: bool) -> String {
        let mut lines = vec![self.verdict_line(colour)];
        lines.extend(self.switch.as_ref().map(UnderWay::told));
        if let Some(Verdict::Bad { why }) = &self.verdict {
            lines.push(format!("generation {} was not well when it was switched to: {why}", self.generation));
        }
        lines.extend(columns(&self.remarks()));
        lines.extend(self.findings.iter().cloned());
        lines.extend(self.unseen.iter().map(|what| format!("not seen: {what}")));
        if all {
            lines.push(String::new());
            lines.extend(columns(&self.rows()));
        }
        lines.join("\n") + "\n"
    }

    fn verdict_line(&self, colour: bool) -> String {
        let (word, code) = if self.well { ("well", "1;32") } else { ("not well", "1;31") };
        let word = if colour { format!("\x1b[{code}m{word}\x1b[0m") } else { word.to_owned() };
        let of = match (&self.environment, &self.host) {
            (Some(environment), Some(host)) => format!(" of {environment} for {host}"),
            _ => " (empty)".to_owned(),
        };
        format!("{word}: generation {}{of}, {} units", self.generation, self.units.len())
    }

    fn remarks(&self) -> Vec<[String; 2]> {
        let of_unit = |unit: &UnitStatus| {
            let name = unit.unit.to_string();
            unit.remarks().map(|remark| [name.clone(), remark]).collect::<Vec<_>>()
        };
        let troubled =
            |step: &&Step| self.units.iter().any(|unit| unit.unit == step.unit && unit.trouble.is_some());
        let to_do = self.steps.iter().filter(|step| !troubled(step)).map(|step| {
            let what = step.told();
            let why = what.split_once(": ").map_or(what.as_str(), |(_, why)| why);
            [step.unit.to_string(), format!("to {}: {why}", step.verb.word())]
        });
        self.units.iter().flat_map(of_unit).chain(to_do).collect()
    }

    fn rows(&self) -> Vec<[String; 2]> {
        let row = |unit: &UnitStatus| {
            let state = match (unit.role, unit.generation) {
                (Role::Mask, _) => "is hidden".to_owned(),
                (_, Some(number)) => format!("{}, from generation {number}", unit.state),
                (_, None) => unit.state.clone(),
            };
            [unit.unit.to_string(), state]
        };
        self.units.iter().map(row).collect()
    }
}

impl UnderWay {
    fn told(&self) -> String {
        let what = match &self.phase {
            Phase::Switching => format!("on the way from generation {} to {}", self.from, self.to),
            Phase::Confirming => format!("generation {} waits for `rick-activate confirm`", self.to),
            Phase::Reverting { why } => format!("on the way back to generation {}: {why}", self.from),
        };
        match (&self.until, self.left_s) {
            (Some(until), Some(left)) => {
                format!("{what}; until {until} UTC (in {left} s), then back to generation {}", self.from)
            }
            _ => format!("{what}; `rick-activate resume` goes on if nobody else does"),
        }
    }
}

/// Two columns, the first as wide as it must be.
fn columns(rows: &[[String; 2]]) -> Vec<String> {
    let width = rows.iter().map(|[first, _]| first.len()).max().unwrap_or_default();
    rows.iter().map(|[first, second]| format!("{first:<width$}  {second}")).collect()
}

fn is_optional(course: &Course, unit: &UnitName) -> bool {
    course.desired.units.iter().any(|wanted| wanted.name == *unit && wanted.optional)
}

/// What is wrong with how a unit is.
fn trouble(unit: &Wanted, live: &UnitState) -> Option<String> {
    match (unit.role, &live.load) {
        (Role::Mask, _) => live.runs().then(|| "runs, though it is hidden".to_owned()),
        (_, LoadState::NotFound) => Some("is not known to systemd".to_owned()),
        (_, LoadState::Wrong(why)) => Some(format!("is not taken by systemd ({why})")),
        _ if live.failed() => Some(live.told()),
        (Role::Run, LoadState::Loaded) if !live.runs() && !live.is_done() => Some(live.told()),
        _ => None,
    }
}

/// How somebody else changed what a unit is.
fn drift(unit: &Wanted, live: &UnitState, definition: &Definition) -> Vec<Drift> {
    let theirs = definition.fragment.iter().filter(|path| !unit.borrowed && is_operators(path));
    let shadowed = theirs.filter(|_| live.load != LoadState::Masked).cloned().map(Drift::Shadowed);
    let drop_ins = definition.drop_ins.iter().filter(|path| is_operators(path) && is_for_one(path, unit));
    let masked = unit.role != Role::Mask && live.load == LoadState::Masked;
    let drop_ins = drop_ins.cloned().map(Drift::DropIn);
    let flags = [(masked, Drift::Masked), (definition.outdated, Drift::Outdated)];
    let flags = flags.into_iter().filter(|(is, _)| *is).map(|(_, drift)| drift);
    shadowed.chain(drop_ins).chain(flags).collect()
}

/// It lies where people put definitions, and `systemctl edit`, `set-property` and `systemd-run` do for them.
fn is_operators(path: &Path) -> bool {
    let places =
        ["/etc/systemd/", "/run/systemd/system/", "/run/systemd/system.control/", "/run/systemd/transient/"];
    places.iter().any(|place| path.starts_with(place))
}

/// It is not for all units of a type.
fn is_for_one(path: &Path, unit: &Wanted) -> bool {
    path.parent().is_none_or(|directory| !directory.ends_with(format!("{}.d", unit.name.kind())))
}

/// What is not as it should be beside units.
fn findings(state: &State, current: &Generation, course: &Course) -> Result<Vec<String>> {
    let mut findings = anchors::strays(state, current)?;
    if course.unread {
        findings.push("systemd has yet to read the units of this generation".to_owned());
    }
    if course.applied.unmade {
        findings.push("not all directories of this generation are made".to_owned());
    }
    findings.extend(course.missing_images.iter().map(|name| format!("podman lacks the image {name}")));
    match current.objects() {
        Ok(objects) => {
            let place = |name: &Label| current.directory.join("objects").join(name.as_str());
            let lost = objects.iter().filter(|(name, _)| !place(name).is_dir());
            findings.extend(
                lost.map(|(name, digest)| format!("{name} is missing: {}", state.object(digest).display())),
            );
        }
        Err(error) => findings.push(format!("{error:#}")),
    }
    Ok(findings)
}

/// The configuration directories whose bytes are not those that their name promises.
fn damaged(state: &State) -> Result<Vec<String>> {
    let store = state.store();
    let entries = fs::read_dir(&store).into_iter().flatten();
    let mut damaged = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot read {}", store.display()))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(Digest::from_hex);
        let Some(digest) = name else { continue };
        match digest_of(&path) {
            Ok(found) if found == digest => {}
            Ok(_) => damaged.push(format!("{} is not what it was: its bytes changed", path.display())),
            Err(error) => damaged.push(format!("{error:#}")),
        }
    }
    damaged.sort();
    Ok(damaged)
}

fn digest_of(object: &Path) -> Result<Digest> {
    let mut files = Vec::new();
    collect(object, "", &mut files)?;
    files.sort();
    Ok(object_digest(files.iter().map(|(path, mode, digest)| (path.as_str(), *mode, *digest))))
}

fn collect(directory: &Path, prefix: &str, files: &mut Vec<(String, u32, Digest)>) -> Result<()> {
    let context = || format!("cannot read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(context)? {
        let entry = entry.with_context(context)?;
        let inside = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let found = fs::symlink_metadata(entry.path()).with_context(context)?;
        if found.is_dir() {
            collect(&entry.path(), &format!("{inside}/"), files)?;
        } else {
            let digest = File::open(entry.path()).and_then(|mut file| Digest::of_all(&mut file));
            let digest = digest.with_context(|| format!("cannot read {}", entry.path().display()))?;
            files.push((inside, found.permissions().mode() & 0o7777, digest));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::applied::Applied;
    use crate::activate::host::Host as _;
    use crate::activate::host::Verb;
    use crate::activate::story::Story;
    use crate::activate::terms::Terms;
    use crate::activate::testing::Build;

    fn build(conf: &str) -> Build {
        Build::new("h")
            .file("objects/app/app.conf", conf)
            .unit("a.service", Role::Run, "@rick(object:app)", &[])
            .unit("b.service", Role::Follow, "b", &[])
            .unit("c.service", Role::Mask, "", &[])
            .drop_in("cron.service", "10-rick", "Nice=5")
    }

    fn status(story: &Story, verify: bool) -> Status {
        let before = story.tree();
        let status = story.on_stage(true, Terms::default(), |run| run.status(verify)).unwrap().unwrap();
        assert_eq!(story.tree(), before, "it only looks");
        status
    }

    fn text(story: &Story) -> String {
        status(story, false).text(false, false)
    }

    #[test]
    fn a_host_that_is_as_it_should_be_is_told_in_one_line() {
        let story = Story::begin();
        assert!(story.on_stage(true, Terms::default(), |run| run.status(true)).unwrap().is_none());
        story.activate(&build("1"));
        let status = status(&story, true);
        assert!(status.well);
        assert_eq!(status.text(false, false), "well: generation 1 of test for h, 4 units\n");
        assert_eq!(
            status.text(true, false),
            "well: generation 1 of test for h, 4 units\n\n\
             a.service     runs, from generation 1\n\
             b.service     does not run\n\
             c.service     is hidden\n\
             cron.service  runs, from generation 1\n"
        );
        story.roll_back(Some(0));
        assert_eq!(text(&story), "well: generation 0 (empty), 0 units\n");
    }

    #[test]
    fn what_is_not_as_it_should_be_is_told() {
        let mut story = Story::begin();
        story.activate(&build("1"));
        let a = "a.service".parse().unwrap();
        story.host.run_jobs(Verb::Stop, std::slice::from_ref(&a)).unwrap();
        assert!(text(&story).starts_with("not well: "));
        assert!(text(&story).ends_with("\na.service  does not run\n"), "{}", text(&story));
        story.host.run_jobs(Verb::Start, std::slice::from_ref(&a)).unwrap();
        assert!(status(&story, false).well, "somebody else may have started it");

        // What it was started with is not what the generation says.
        let mut applied = Applied::read(&story.state()).unwrap();
        applied.units.get_mut(&a).unwrap().restart_key = None;
        applied.units.get_mut(&a).unwrap().invocation_id = Some("2".to_owned());
        applied.write(&story.state()).unwrap();
        assert!(text(&story).ends_with("\na.service  to restart: it changed\n"), "{}", text(&story));

        story.host.unknown.insert(a);
        assert!(text(&story).contains("\na.service  is not known to systemd\n"));
        fs::remove_file(story.state().on_host("/etc/tmpfiles.d/rick.conf")).unwrap();
        assert!(text(&story).contains("\n/etc/tmpfiles.d/rick.conf is missing, and should lead to "));
    }

    #[test]
    fn what_others_changed_is_told() {
        let mut story = Story::begin();
        story.activate(&build("1"));
        let drop_ins = [
            "/usr/local/lib/systemd/system/a.service.d/10-rick.conf",
            "/etc/systemd/system/a.service.d/mine.conf",
            "/etc/systemd/system/service.d/all.conf",
            "/run/systemd/system.control/a.service.d/50-CPUWeight.conf",
        ];
        let definition = Definition {
            fragment: Some("/etc/systemd/system/a.service".into()),
            drop_ins: drop_ins.map(PathBuf::from).to_vec(),
            outdated: true,
        };
        story.host.definitions.insert("a.service".parse().unwrap(), definition.clone());
        // What the distribution defines may be defined anywhere.
        let definition = Definition { drop_ins: Vec::new(), outdated: false, ..definition };
        story.host.definitions.insert("cron.service".parse().unwrap(), definition);
        assert_eq!(
            text(&story).lines().skip(1).collect::<Vec<_>>(),
            [
                "a.service  defined by /etc/systemd/system/a.service instead",
                "a.service  changed by /etc/systemd/system/a.service.d/mine.conf",
                "a.service  changed by /run/systemd/system.control/a.service.d/50-CPUWeight.conf",
                "a.service  its files changed since systemd read them (daemon-reload reads them)",
            ]
        );
        let json = serde_json::to_value(status(&story, false)).unwrap();
        assert_eq!(json["units"][0]["drift"][0]["shadowed"], "/etc/systemd/system/a.service");
        assert_eq!((&json["well"], &json["units"][0]["drift"][3]), (&false.into(), &"outdated".into()));
    }

    #[test]
    fn bytes_that_changed_are_found_when_asked_for() {
        let story = Story::begin();
        story.activate(&build("1"));
        let object = fs::canonicalize(story.state().current().join("objects/app/app.conf")).unwrap();
        fs::write(&object, "2").unwrap();
        assert!(status(&story, false).well);
        let found = status(&story, true);
        assert!(!found.well && found.findings[0].ends_with("is not what it was: its bytes changed"));
        fs::write(&object, "1").unwrap();
        assert!(status(&story, true).well);
        fs::remove_dir_all(object.parent().unwrap()).unwrap();
        assert!(text(&story).contains("\napp is missing: "), "{}", text(&story));
    }

    #[test]
    fn a_switch_that_is_under_way_is_told() {
        let story = Story::begin();
        story.activate(&build("1"));
        let mut journal = Journal {
            from: 0,
            to: 1,
            boot_id: String::new(),
            phase: Phase::Confirming,
            terms: Terms::default(),
            crossed: Vec::new(),
            halted: std::collections::BTreeSet::new(),
        };
        journal.write(&story.state()).unwrap();
        assert!(text(&story).contains("\ngeneration 1 waits for `rick-activate confirm`; "));
        journal.phase = Phase::Reverting { why: "it smokes".to_owned() };
        journal.write(&story.state()).unwrap();
        assert!(text(&story).contains("\non the way back to generation 0: it smokes; "));
        let under_way = UnderWay {
            from: 0,
            to: 1,
            phase: Phase::Switching,
            until: Some("2025-03-01 12:30".to_owned()),
            left_s: Some(7),
        };
        assert_eq!(
            under_way.told(),
            "on the way from generation 0 to 1; until 2025-03-01 12:30 UTC (in 7 s), then back to generation 0"
        );
    }
}
