//! What holds of every switch between hosts of all kinds, whatever happens on the way: on [`Model`]s of systemd.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use anyhow::Result;
use proptest::prelude::*;

use super::generation::Known;
use super::host::{Host, Verb};
use super::journal::Journal;
use super::marks::Marks;
use super::model::{Definition, Event, Killed, Model, Plot, Sight};
use super::receive::HostNames;
use super::report::{Ending, Outcome, Report};
use super::state::State;
use super::terms::Terms;
use super::testing::Build;
use super::{Activation, Conclusion, Failure};
use crate::bundle::manifest::{OnChange, Role};
use crate::bundle::names::UnitName;

/// What a unit of a host is by its name; the rest is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Service(OnChange),
    Job,
    Remains,
    Conditioned,
    Template,
    /// A timer, a socket or a path, with the line that says for what.
    Trigger(&'static str, &'static str),
    Plain(&'static str),
    /// A unit of the distribution, which has this text and starts at boot or not.
    Vendor(&'static str, bool),
}

const SLOTS: [(&str, Shape); 22] = [
    ("data.mount", Shape::Plain("[Mount]\nWhat=/dev/data")),
    ("lab.slice", Shape::Plain("[Slice]")),
    ("app.service", Shape::Service(OnChange::Restart)),
    ("web.service", Shape::Service(OnChange::Restart)),
    ("soft.service", Shape::Service(OnChange::Reload)),
    ("hard.service", Shape::Service(OnChange::StopStart)),
    ("kept.service", Shape::Service(OnChange::Nothing)),
    ("if.service", Shape::Conditioned),
    ("setup.service", Shape::Remains),
    ("job.service", Shape::Job),
    ("job.timer", Shape::Trigger("Timer", "OnBootSec=10h")),
    ("job.path", Shape::Trigger("Path", "PathExists=/run/never")),
    ("mail.socket", Shape::Trigger("Socket", "ListenStream=/run/mail")),
    ("mail.service", Shape::Service(OnChange::Restart)),
    ("echo.socket", Shape::Trigger("Socket", "Service=echo-server.service")),
    ("echo-server.service", Shape::Service(OnChange::Restart)),
    ("work@.service", Shape::Template),
    ("cron.service", Shape::Vendor(SLEEPS, true)),
    ("ssh.service", Shape::Vendor(SLEEPS, true)),
    ("at.service", Shape::Vendor(SLEEPS, false)),
    ("upgrade.service", Shape::Vendor(WORKS, false)),
    ("lab.target", Shape::Plain("")),
];
const SLEEPS: &str = "[Service]\nExecStart=/bin/sleep infinity\nExecReload=/bin/true\n";
const WORKS: &str = "[Service]\nType=oneshot\nExecStart=/bin/true\n";

/// What is drawn of a unit.
#[derive(Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
struct Item {
    role: Role,
    version: u8,
    /// What is in `Description=`.
    note: u8,
    config: Option<u8>,
    /// Of a unit of the distribution: only adds to it.
    borrows: bool,
    /// `Restart=on-failure`.
    returns: bool,
    optional: bool,
    barrier: bool,
    broken: bool,
}

/// A host, by slots.
#[derive(Clone)]
struct Spec(Vec<Option<Item>>);

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items = self.0.iter().zip(SLOTS).filter_map(|(item, (name, _))| Some((name, item.as_ref()?)));
        f.debug_map().entries(items).finish()
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, version, note, config, borrows, returns, optional, barrier, broken } = self;
        write!(f, "{role:?} {version} note {note} config {config:?}")?;
        let flags = [
            (borrows, "borrows"),
            (returns, "returns"),
            (optional, "optional"),
            (barrier, "barrier"),
            (broken, "broken"),
        ];
        flags.iter().filter(|(is, _)| **is).try_for_each(|(_, word)| write!(f, " {word}"))
    }
}

fn item() -> impl Strategy<Value = Item> {
    let role = prop_oneof![4 => Just(Role::Run), 3 => Just(Role::Follow), 1 => Just(Role::Mask)];
    let config = prop::option::of(0..2u8);
    (role, 0..2u8, 0..2u8, config, any::<bool>(), any::<bool>()).prop_map(
        |(role, version, note, config, borrows, returns)| Item {
            role,
            version,
            note,
            config,
            borrows,
            returns,
            optional: false,
            barrier: false,
            broken: false,
        },
    )
}

fn spec() -> impl Strategy<Value = Spec> {
    prop::collection::vec(prop::option::weighted(0.5, item()), SLOTS.len()).prop_map(Spec)
}

/// What another host has otherwise.
fn change() -> impl Strategy<Value = Vec<Option<Option<Item>>>> {
    prop::collection::vec(prop::option::weighted(0.3, prop::option::weighted(0.7, item())), SLOTS.len())
}

/// Three hosts, each much like the one before.
fn specs() -> impl Strategy<Value = [Spec; 3]> {
    (spec(), change(), change()).prop_map(|(a, to_b, to_c)| {
        let changed = |spec: &Spec, change: Vec<Option<Option<Item>>>| {
            let items = spec.0.iter().zip(change);
            Spec(items.map(|(before, change)| change.unwrap_or(*before)).collect())
        };
        let b = changed(&a, to_b);
        let c = changed(&b, to_c);
        [a, b, c]
    })
}

fn name(slot: usize) -> UnitName {
    SLOTS[slot].0.parse().unwrap()
}

/// The bundle of a host; `mark` tells it from others of the same units.
fn build(spec: &Spec, mark: &str) -> Build {
    let mut build = Build::new("h").file("etc/which", mark);
    for (slot, item) in spec.0.iter().enumerate() {
        if let Some(item) = item {
            build = unit(build, slot, item);
        }
    }
    build
        .unit("rick.target", Role::Run, "[Unit]\n", &[])
        .link("units/multi-user.target.wants/rick.target", "../rick.target")
        .file("tmpfiles.conf", "d /run/app\n")
}

fn unit(mut build: Build, slot: usize, item: &Item) -> Build {
    let (unit, shape) = SLOTS[slot];
    let (role, on_change) = (role(shape, item), on_change(slot));
    if role == Role::Run {
        build = build.link(&format!("units/rick.target.wants/{unit}"), &format!("../{unit}"));
    }
    let config = item
        .config
        .filter(|_| reads(shape) && role != Role::Mask)
        .map(|config| (format!("etc/{unit}.conf"), config));
    if let Some((path, config)) = &config {
        build = build.file(path, &config.to_string());
    }
    let reload_on: Vec<&str> = config.iter().map(|(path, _)| path.as_str()).collect();
    let text = text(slot, item);
    build = match shape {
        Shape::Vendor(..) if item.borrows && role != Role::Mask => {
            build.drop_in(unit, "10-rick", &format!("[Service]\nEnvironment=V={}\n", item.version))
        }
        _ => build.unit(unit, role, &text, &reload_on),
    };
    build.and(|entry| {
        (entry.role, entry.on_change) = (role, on_change);
        (entry.optional, entry.barrier) = (item.optional, item.barrier);
    })
}

/// It reads a configuration, again on a reload.
fn reads(shape: Shape) -> bool {
    matches!(shape, Shape::Service(_) | Shape::Template)
}

fn role(shape: Shape, item: &Item) -> Role {
    match shape {
        Shape::Template => Role::Follow,
        Shape::Plain(_) => Role::Run,
        Shape::Remains | Shape::Conditioned | Shape::Trigger(..) if item.role == Role::Follow => Role::Run,
        _ => item.role,
    }
}

/// What a unit must be on a host that is well.
enum Wanted {
    Runs,
    Stopped,
    /// Its last life did the work of its definition.
    Done,
    /// Others start it, or nobody.
    Whatever,
}

fn wanted(shape: Shape, item: Option<&Item>) -> Wanted {
    match (shape, item.map(|item| role(shape, item))) {
        (_, Some(Role::Mask)) => Wanted::Stopped,
        // What ran without rick goes on.
        (Shape::Vendor(_, true), _) => Wanted::Runs,
        (Shape::Conditioned | Shape::Vendor(WORKS, _), _) | (_, Some(Role::Follow) | None) => {
            Wanted::Whatever
        }
        (Shape::Job, Some(Role::Run)) => Wanted::Done,
        (_, Some(Role::Run)) => Wanted::Runs,
    }
}

fn on_change(slot: usize) -> OnChange {
    if let (_, Shape::Service(on_change)) = SLOTS[slot] { on_change } else { OnChange::Restart }
}

fn text(slot: usize, item: &Item) -> String {
    let (unit, shape) = SLOTS[slot];
    let version = format!("Environment=V={}\n", item.version);
    let base = match shape {
        Shape::Conditioned => format!("ConditionPathExists=/never\n{SLEEPS}{version}"),
        Shape::Service(_) | Shape::Template => format!("{SLEEPS}{version}"),
        Shape::Job => format!("{WORKS}{version}"),
        Shape::Remains => format!("{WORKS}RemainAfterExit=yes\n{version}"),
        Shape::Trigger(section, line) => format!("[{section}]\n{line}\nX-V={}\n", item.version),
        Shape::Plain(line) => format!("{line}\nX-V={}\n", item.version),
        Shape::Vendor(base, _) => format!("{base}{version}"),
    };
    let config = format!("X-Config=etc/{unit}.conf\n");
    let more = [
        (item.config.is_some() && reads(shape), config.as_str()),
        (item.returns && matches!(shape, Shape::Service(_)), "Restart=on-failure\n"),
        (item.broken, "ExecStartPre=/bin/false\n"),
    ];
    let more: String = more.iter().filter(|(is, _)| *is).map(|(_, line)| *line).collect();
    format!("[Unit]\nDescription={}\n{base}{more}", item.note)
}

/// Something to happen to one of the units of the slots, or to an instance of the template.
fn event(disturbing: bool) -> impl Strategy<Value = Event> {
    let unit = (0..=SLOTS.len()).prop_map(|slot| match SLOTS.get(slot) {
        Some(("work@.service", _)) => ("work@x.service".parse().unwrap(), false),
        Some((_, shape)) => (name(slot), matches!(shape, Shape::Vendor(..))),
        None => ("work@y.service".parse().unwrap(), false),
    });
    // What becomes of the distribution's own is not rick's to set right.
    (unit, 0..if disturbing { 8u8 } else { 6u8 }).prop_map(|((unit, vendor), what)| match what {
        6 if !vendor => Event::Break(unit),
        7 if !vendor => Event::Jinx(unit),
        4..6 => Event::GoOn(unit),
        _ => Event::Start(unit),
    })
}

fn events(disturbing: bool) -> impl Strategy<Value = Vec<(usize, Event)>> {
    prop::collection::vec((0..40usize, event(disturbing)), 0..8)
}

/// A host and what became of it.
struct Story {
    root: tempfile::TempDir,
    model: Model,
    specs: Vec<Spec>,
}

/// How a run ended.
#[derive(Debug)]
enum End {
    Well(Outcome),
    NotWell(Outcome),
    Refused(String),
    Halfway(String),
    Killed,
}

impl Story {
    fn begin(specs: &[Spec]) -> Self {
        // What lies in memory is durable at once.
        let place = [Path::new("/dev/shm"), &std::env::temp_dir()]
            .into_iter()
            .find(|place| place.is_dir())
            .map(Path::to_owned);
        let root = tempfile::tempdir_in(place.unwrap()).unwrap();
        let vendor: Vec<_> = SLOTS
            .iter()
            .filter_map(|(name, shape)| match shape {
                Shape::Vendor(text, enabled) => Some((*name, *text, *enabled)),
                _ => None,
            })
            .collect();
        let model = Model::boot(root.path(), &vendor);
        Self { root, model, specs: specs.to_vec() }
    }

    fn state(&self) -> State {
        State::new(self.root.path())
    }

    fn run(
        &self,
        go_back: bool,
        act: impl FnOnce(&mut Activation<'_>) -> Result<Conclusion, Failure>,
    ) -> End {
        let mut run = Activation {
            state: self.state(),
            known: Known::default(),
            host: &self.model,
            names: HostNames::of_host(&self.model.name().unwrap()),
            dry_run: false,
            allow_older: false,
            allow_unsigned: true,
            terms: Terms { settle_s: 1, go_back, ..Terms::default() },
            apart: None,
            report: Report::silent(),
        };
        match catch_unwind(AssertUnwindSafe(|| act(&mut run))) {
            Ok(Ok(Conclusion::Here(outcome))) => match outcome.ending {
                Ending::NotWell { .. } => End::NotWell(outcome),
                _ => End::Well(outcome),
            },
            Ok(Ok(Conclusion::Apart(code))) => panic!("somebody else did it, and said {code}"),
            Ok(Err(Failure::Refused(error))) => End::Refused(format!("{error:#}")),
            Ok(Err(Failure::Halfway(error))) => End::Halfway(format!("{error:#}")),
            Err(killed) if killed.is::<Killed>() => End::Killed,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Switches to the host `which` of the specs.
    fn go(&self, which: usize) -> End {
        self.go_or_stay(which, true)
    }

    fn go_or_stay(&self, which: usize, go_back: bool) -> End {
        let bundle = build(&self.specs[which], &which.to_string()).bundle();
        self.run(go_back, |run| run.activate(bundle.as_slice()))
    }

    fn roll_back(&self, to: Option<u32>) -> End {
        self.run(true, |run| run.roll_back(to))
    }

    fn resume(&self, overdue: bool) -> End {
        self.run(true, |run| run.resume(overdue).map(Conclusion::Here))
    }

    #[track_caller]
    fn well(&self, end: End) -> Outcome {
        match end {
            End::Well(outcome) => {
                self.is_right();
                outcome
            }
            End::Refused(why) | End::Halfway(why) => panic!("it broke off: {why}"),
            End::NotWell(_) | End::Killed => panic!("it did not go well: {end:?}"),
        }
    }

    /// The host that it has, of the specs; none without rick.
    fn has(&self) -> Option<usize> {
        let which = fs::read_to_string(self.state().current().join("etc/which")).ok()?;
        Some(which.parse().unwrap())
    }

    /// What the host has is what it is: whatever runs runs as its files say, and nothing else runs.
    #[track_caller]
    fn is_right(&self) {
        let wrong = self.wrong();
        assert!(wrong.is_empty(), "the host has {:?}, and {}", self.has(), wrong.join("; "));
    }

    fn wrong(&self) -> Vec<String> {
        let nothing = Spec(vec![None; SLOTS.len()]);
        let spec = self.has().map_or(&nothing, |which| &self.specs[which]);
        let sights = self.model.sights();
        let mut wrong = Vec::new();
        for (slot, item) in spec.0.iter().enumerate() {
            let sight = sights.get(&name(slot));
            let runs = sight.is_some_and(|sight| sight.runs);
            match wanted(SLOTS[slot].1, item.as_ref()) {
                Wanted::Runs if !runs => wrong.push(format!("{} does not run", name(slot))),
                Wanted::Stopped if runs => wrong.push(format!("{} runs", name(slot))),
                Wanted::Done => {
                    let life = sight.and_then(|sight| sight.life.as_ref());
                    if !life.is_some_and(|life| self.is_now(&name(slot), &life.definition)) {
                        wrong.push(format!("{} did not do its work as it is now", name(slot)));
                    }
                }
                _ => {}
            }
        }
        let running = sights.iter().filter(|(_, sight)| sight.runs);
        wrong.extend(running.filter_map(|(unit, sight)| self.is_wrong(unit, sight)));
        wrong
    }

    /// A definition is as the files say now, but for what nothing has to be restarted for.
    fn is_now(&self, unit: &UnitName, definition: &str) -> bool {
        let strip = |text: &str| -> Vec<String> {
            text.lines().filter(|line| !line.starts_with("Description=")).map(str::to_owned).collect()
        };
        matches!(self.model.file(unit), Definition::Text(text) if strip(&text) == strip(definition))
    }

    /// What is wrong with a unit that runs.
    fn is_wrong(&self, unit: &UnitName, sight: &Sight) -> Option<String> {
        let Some(life) = &sight.life else { return Some(format!("{unit} has no life")) };
        let slot = SLOTS.iter().position(|(name, _)| *name == unit.as_str());
        if matches!(unit.kind(), "target" | "slice") {
            let defined = matches!(self.model.file(unit), Definition::Text(_));
            return (!defined).then(|| format!("{unit} runs, and is not there"));
        }
        let on_change = slot.map_or(OnChange::Restart, on_change);
        let (definition, config) = match on_change {
            OnChange::Nothing => return None,
            OnChange::Reload => (&life.taken, &life.config),
            _ => (&life.definition, &life.config),
        };
        if sight.at_work && matches!(self.model.file(unit), Definition::Text(_)) {
            return None;
        }
        if !self.is_now(unit, definition) {
            return Some(format!(
                "{unit} was started with {definition:?}, and is {:?}",
                self.model.file(unit)
            ));
        }
        (*config != self.model.config(unit)).then(|| format!("{unit} has read {config:?}"))
    }

    /// Which life each unit is in.
    fn lives(&self) -> BTreeMap<UnitName, Option<u32>> {
        let life = |sight: &Sight| sight.life.as_ref().map(|life| life.number);
        self.model.sights().iter().map(|(unit, sight)| (unit.clone(), life(sight))).collect()
    }

    /// Every path of rick's, with what tells whether it was written.
    fn files(&self) -> Vec<(PathBuf, u64, i64)> {
        let mut found = Vec::new();
        walk(&self.state().directory(), &mut found);
        found
    }

    /// Runs the same again: nothing is done.
    #[track_caller]
    fn is_settled(&self, which: usize) {
        let (files, lives) = (self.files(), self.lives());
        self.model.deeds();
        let outcome = self.well(self.go(which));
        assert!(!outcome.changed && outcome.steps.is_empty(), "{:?}", outcome.steps);
        assert_eq!(self.model.deeds(), [""; 0]);
        assert_eq!(self.lives(), lives);
        assert_eq!(self.files(), files, "nothing is written");
    }
}

fn walk(directory: &Path, found: &mut Vec<(PathBuf, u64, i64)>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let (path, metadata) = (entry.path(), entry.path().symlink_metadata().unwrap());
        if metadata.is_dir() {
            walk(&path, found);
        } else {
            found.push((path, metadata.ino(), metadata.mtime_nsec()));
        }
    }
    found.sort();
}

impl Story {
    /// Switches to `which`, killed at moment `at` if that comes; all has its right life before.
    fn killed(&self, which: usize, events: &[(usize, Event)], at: usize) -> End {
        self.model.plot(Plot { events: events.to_vec(), killed: Some(at) });
        let end = self.go(which);
        self.model.calm();
        end
    }

    /// The units that run, but for those that are in the middle of a job.
    fn running(&self) -> BTreeSet<UnitName> {
        let sights = self.model.sights();
        sights.into_iter().filter(|(_, sight)| sight.runs && !sight.at_work).map(|(unit, _)| unit).collect()
    }

    /// Which of these do not run any more, beside those that a socket brings back.
    fn lacks(&self, before: &BTreeSet<UnitName>) -> Vec<UnitName> {
        let behind_socket = |unit: &UnitName| matches!(unit.as_str(), "mail.service" | "echo-server.service");
        let now = self.running();
        before.difference(&now).filter(|unit| !behind_socket(unit)).cloned().collect()
    }

    /// Starts what only others start, if it is there.
    fn start(&self, events: &[(usize, Event)]) {
        for (_, event) in events {
            self.model.befall(event);
        }
    }

    /// The units that run as the host `which` has them, if that is what the host has.
    fn right_ones(&self) -> BTreeMap<UnitName, Option<u32>> {
        let sights = self.model.sights();
        let right = |unit: &UnitName| {
            let defined = matches!(self.model.file(unit), Definition::Text(_));
            sights
                .get(unit)
                .is_some_and(|sight| defined && sight.runs && self.is_wrong(unit, sight).is_none())
        };
        self.lives().into_iter().filter(|(unit, _)| right(unit)).collect()
    }

    /// No unit that is the same on both hosts began another life, unless its socket changed.
    #[track_caller]
    fn only_what_changed_moved(&self, a: usize, b: usize, before: &BTreeMap<UnitName, Option<u32>>) {
        let same = |slot: usize| {
            let unnoted = |which: usize| self.specs[which].0[slot].map(|item| Item { note: 0, ..item });
            unnoted(a) == unnoted(b)
        };
        let (now, sights) = (self.lives(), self.model.sights());
        let sockets = |unit: &str| {
            SLOTS.iter().position(|(socket, shape)| {
            let service = format!("Service={unit}");
            matches!(shape, Shape::Trigger("Socket", line) if *line == service || socket.replace(".socket", ".service") == unit)
        })
        };
        for (slot, (unit, _)) in SLOTS.iter().enumerate() {
            let unit: UnitName = unit.parse().unwrap();
            let runs = sights.get(&unit).is_some_and(|sight| sight.runs) && before.contains_key(&unit);
            if runs && same(slot) && sockets(unit.as_str()).is_none_or(same) {
                assert_eq!(now.get(&unit), before.get(&unit), "{unit} moved, and did not change");
            }
        }
    }
}

/// What is done with a host.
#[derive(Clone, Debug)]
enum Act {
    Go(usize),
    Stay(usize),
    RollBack,
    Leave,
    Resume { overdue: bool },
    Boot,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0..3usize).prop_map(Act::Go),
        1 => (0..3usize).prop_map(Act::Stay),
        1 => Just(Act::RollBack),
        1 => Just(Act::Leave),
        2 => any::<bool>().prop_map(|overdue| Act::Resume { overdue }),
        1 => Just(Act::Boot),
    ]
}

fn plot(disturbing: bool) -> impl Strategy<Value = Plot> {
    (events(disturbing), prop::option::weighted(0.4, 0..60usize))
        .prop_map(|(events, killed)| Plot { events, killed })
}

impl Story {
    fn act(&self, act: &Act) -> Option<End> {
        Some(match act {
            Act::Go(which) => self.go(*which),
            Act::Stay(which) => self.go_or_stay(*which, false),
            Act::RollBack => self.roll_back(None),
            Act::Leave => self.roll_back(Some(0)),
            Act::Resume { overdue } => self.resume(*overdue),
            Act::Boot => {
                self.model.reboot();
                return None;
            }
        })
    }
}

fn cases(cases: u32) -> ProptestConfig {
    let config =
        ProptestConfig { failure_persistence: None, max_shrink_iters: 600, ..ProptestConfig::default() };
    // The variable of proptest asks for more.
    if std::env::var_os("PROPTEST_CASES").is_some() { config } else { ProptestConfig { cases, ..config } }
}

proptest! {
    #![proptest_config(cases(40))]

    /// Whatever is done, and whatever happens on the way: what is said to be well is right, and one quiet run sets all right.
    #[test]
    fn whatever_happens_the_next_quiet_run_sets_it_right(
        specs in specs(),
        acts in prop::collection::vec((act(), plot(false)), 1..5),
        last in 0..3usize,
    ) {
        let story = Story::begin(&specs);
        for (act, plot) in &acts {
            story.model.plot(plot.clone());
            let end = story.act(act);
            story.model.plot(Plot::default());
            match end {
                // Where no switch was cut short nothing is gone on with.
                Some(End::Well(Outcome { ending: Ending::NothingToDo, .. })) if matches!(act, Act::Resume { .. }) => {}
                Some(End::Well(_)) => {
                    let under_way = Journal::read(&story.state()).unwrap().is_some();
                    prop_assert!(!under_way);
                    story.is_right();
                }
                // Somebody may have started the service of a socket just before that; and what is overdue is not well.
                Some(End::NotWell(outcome)) => {
                    let excused = !plot.events.is_empty() || matches!(act, Act::Resume { .. });
                    prop_assert!(excused, "{outcome:?}");
                }
                Some(End::Halfway(why)) => prop_assert!(false, "it broke off: {why}"),
                _ => {}
            }
        }
        let outcome = story.well(story.go(last));
        prop_assert_eq!(story.has(), Some(last), "{:?}", outcome);
        story.is_settled(last);
    }

    /// The same, with units that break down and jobs that fail: nothing is promised of the runs in which that happens.
    #[test]
    fn whatever_breaks_the_next_quiet_run_sets_it_right(
        specs in specs(),
        acts in prop::collection::vec((act(), plot(true)), 1..4),
        last in 0..3usize,
    ) {
        let story = Story::begin(&specs);
        for (act, plot) in &acts {
            story.model.plot(plot.clone());
            story.act(act);
        }
        story.model.calm();
        let outcome = story.well(story.go(last));
        prop_assert_eq!(story.has(), Some(last), "{:?}", outcome);
        story.is_settled(last);
    }

    /// There and back: all that changed is restarted, twice, and nothing else; and then rick leaves without a trace.
    #[test]
    fn there_and_back_and_away(specs in specs(), started in events(false)) {
        let story = Story::begin(&specs);
        let without_rick = story.running();
        story.well(story.go(0));
        story.start(&started);
        let (before, ran) = (story.lives(), story.running());
        story.well(story.go(1));
        story.only_what_changed_moved(0, 1, &before);
        // What only others start goes on if it is still there.
        let wanted = |unit: &UnitName| {
            let slot = SLOTS.iter().position(|(name, _)| *name == unit.as_str());
            slot.is_none_or(|slot| specs[1].0[slot].is_some())
        };
        let there = |unit: &UnitName| wanted(unit) && matches!(story.model.file(unit), Definition::Text(_));
        let lacks = story.lacks(&ran).into_iter().filter(there).collect::<Vec<_>>();
        prop_assert_eq!(lacks, Vec::<UnitName>::new());
        let before = story.lives();
        story.well(story.roll_back(None));
        prop_assert_eq!(story.has(), Some(0));
        story.only_what_changed_moved(1, 0, &before);
        story.is_settled(0);
        story.model.reboot();
        story.well(story.go(2));
        story.well(story.roll_back(Some(0)));
        let now = story.running();
        prop_assert!(without_rick.is_subset(&now), "{now:?}");
        // Of the distribution's own that only others start nobody knows who did.
        for unit in now.difference(&without_rick) {
            let others_start_it = |spec: &Spec| {
                spec.0[slot(unit.as_str())].is_some_and(|item| item.role == Role::Follow && item.borrows)
            };
            prop_assert!(specs.iter().any(others_start_it), "{unit} runs");
        }
    }

    /// Killed at any moment: the next run does the rest, and nothing twice.
    #[test]
    fn a_killed_run_is_finished_by_exactly_the_rest(specs in specs(), started in events(false), at in 0..50usize) {
        let story = Story::begin(&specs);
        story.well(story.go(0));
        story.start(&started);
        let before = story.lives();
        story.killed(1, &[], at);
        let after = story.right_ones();
        story.well(story.go(1));
        prop_assert_eq!(story.has(), Some(1));
        let (now, begun) = (story.lives(), |unit: &UnitName, life| before.get(unit) != Some(life));
        for (unit, life) in after.iter().filter(|(unit, life)| begun(unit, life)) {
            prop_assert_eq!(now.get(unit), Some(life), "{} was restarted again", unit);
        }
        story.is_settled(1);
    }

    /// Killed at any moment, and found by the boot or by PID 1: the host is whole, the one or the other.
    #[test]
    fn a_killed_run_is_seen_through_by_whoever_finds_it(
        specs in specs(),
        started in events(false),
        events in events(false),
        at in 0..50usize,
        overdue in any::<bool>(),
        booted in any::<bool>(),
    ) {
        let story = Story::begin(&specs);
        story.well(story.go(0));
        story.start(&started);
        let before = story.running();
        let killed = matches!(story.killed(1, &events, at), End::Killed);
        if booted {
            story.model.reboot();
        }
        let under_way = Journal::read(&story.state()).unwrap();
        story.well(story.resume(overdue));
        prop_assert!(Journal::read(&story.state()).unwrap().is_none());
        prop_assert!(story.has() <= Some(1));
        if killed && overdue && under_way.is_some() {
            prop_assert_eq!(story.has(), Some(0));
        }
        if killed && !booted && story.has() == Some(0) {
            prop_assert_eq!(story.lacks(&before), Vec::<UnitName>::new());
        }
    }

    /// A unit that does not come up: the host goes back to what it was, and knows the other for bad.
    #[test]
    fn what_is_not_well_is_gone_back_from(
        specs in specs(),
        started in events(false),
        broken in item(),
        go_back in any::<bool>(),
        optional in any::<bool>(),
        barrier in any::<bool>(),
    ) {
        let [mut a, mut b, _] = specs;
        let run = |item: Item| Item { role: Role::Run, ..item };
        b.0[slot("app.service")] = Some(Item { broken: true, optional, ..run(broken) });
        let web = Item { barrier, returns: false, ..run(broken) };
        a.0[slot("web.service")] = Some(Item { version: 0, ..web });
        b.0[slot("web.service")] = Some(Item { version: 1, ..web });
        let story = Story::begin(&[a, b]);
        story.well(story.go(0));
        story.start(&started);
        let before = story.running();
        let end = story.go_or_stay(1, go_back);
        match (end, story.has()) {
            (End::Well(outcome), Some(1)) => {
                prop_assert!(optional && outcome.ending == Ending::Done && !outcome.warnings.is_empty());
            }
            (End::NotWell(_), Some(1)) => prop_assert!(!optional && (barrier || !go_back)),
            (End::Well(outcome), Some(0)) => {
                prop_assert!(!optional && go_back && !barrier);
                prop_assert_eq!(outcome.ending, Ending::RolledBack);
                story.is_right();
                prop_assert_eq!(story.lacks(&before), Vec::<UnitName>::new());
                prop_assert!(Marks::read(&story.state()).unwrap().is_bad(outcome.tried));
                story.is_settled(0);
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

const RUN: Item = Item {
    role: Role::Run,
    version: 0,
    note: 0,
    config: None,
    borrows: false,
    returns: false,
    optional: false,
    barrier: false,
    broken: false,
};
const FOLLOW: Item = Item { role: Role::Follow, ..RUN };

fn slot(unit: &str) -> usize {
    SLOTS.iter().position(|(name, _)| *name == unit).unwrap()
}

fn host(items: &[(&str, Item)]) -> Spec {
    let mut spec = Spec(vec![None; SLOTS.len()]);
    for (unit, item) in items {
        spec.0[slot(unit)] = Some(*item);
    }
    spec
}

/// How many moments a switch from `a` to `b` has at most.
const MOMENTS: usize = 40;

/// A host that has `a`, for each moment of the switch to `b`.
fn each_moment(a: &Spec, b: &Spec, check: impl Fn(&Story, usize)) {
    for at in 0..MOMENTS {
        let story = Story::begin(&[a.clone(), b.clone()]);
        story.well(story.go(0));
        check(&story, at);
    }
}

#[test]
fn an_instance_that_comes_up_in_the_middle_is_restarted_or_stopped() {
    let a = host(&[("work@.service", FOLLOW)]);
    let start = Event::Start("work@x.service".parse().unwrap());
    for b in [host(&[("work@.service", Item { version: 1, ..FOLLOW })]), host(&[])] {
        each_moment(&a, &b, |story, at| {
            story.model.plot(Plot { events: vec![(at, start.clone())], killed: None });
            story.well(story.go(1));
        });
    }
}

#[test]
fn a_reload_that_was_done_is_undone_on_the_way_back() {
    let app = |config| ("app.service", Item { config: Some(config), ..RUN });
    each_moment(&host(&[app(0)]), &host(&[app(1)]), |story, at| {
        story.killed(1, &[], at);
        story.well(story.resume(true));
    });
}

#[test]
fn the_distributions_own_job_is_let_go_of_in_the_middle_of_its_work() {
    let a = host(&[("upgrade.service", Item { borrows: true, ..FOLLOW })]);
    let upgrade: UnitName = "upgrade.service".parse().unwrap();
    each_moment(&a, &host(&[]), |story, at| {
        story.model.befall(&Event::Start(upgrade.clone()));
        let life = story.lives()[&upgrade];
        story.killed(1, &[], at);
        story.well(story.go(1));
        assert_eq!(story.has(), Some(1));
        assert_eq!(story.lives().get(&upgrade), Some(&life), "killed at {at}");
    });
}

#[test]
fn a_unit_that_is_given_back_is_given_back_once() {
    let replaced = host(&[("cron.service", RUN)]);
    let added_to = host(&[("cron.service", Item { borrows: true, ..FOLLOW })]);
    let cron: UnitName = "cron.service".parse().unwrap();
    for a in [replaced, added_to] {
        each_moment(&a, &host(&[]), |story, at| {
            let before = story.lives()[&cron];
            story.killed(1, &[], at);
            let killed = story.lives().get(&cron).copied().flatten();
            story.well(story.go(1));
            let after = story.lives()[&cron];
            assert!(
                after != before && (killed == before || killed.is_none() || killed == after),
                "killed at {at}"
            );
        });
    }
}

#[test]
fn what_ran_under_the_generation_before_runs_again_after_the_way_back() {
    let broken = ("app.service", Item { broken: true, ..RUN });
    let story = Story::begin(&[host(&[("work@.service", FOLLOW)]), host(&[broken])]);
    story.well(story.go(0));
    story.model.befall(&Event::Start("work@x.service".parse().unwrap()));
    assert_eq!(story.well(story.go(1)).ending, Ending::RolledBack);
    assert!(story.running().contains(&"work@x.service".parse().unwrap()));
    // And only then: what somebody stops later stays down.
    story.model.run_jobs(Verb::Stop, &["work@x.service".parse().unwrap()]).unwrap();
    story.is_settled(0);
}

#[test]
fn a_unit_of_the_distribution_that_does_not_come_back_is_tried_again() {
    let story = Story::begin(&[host(&[("cron.service", RUN)]), host(&[])]);
    story.well(story.go(0));
    let cron: UnitName = "cron.service".parse().unwrap();
    story.model.befall(&Event::Jinx(cron.clone()));
    assert!(matches!(story.go_or_stay(1, false), End::NotWell(_)));
    assert!(!story.running().contains(&cron));
    story.well(story.go(1));
    assert!(story.running().contains(&cron));
    story.is_settled(1);
}

#[test]
fn what_somebody_starts_around_the_commit_is_not_taken_for_what_it_is_not() {
    let app = |version, config| ("app.service", Item { version, config: Some(config), ..FOLLOW });
    let start = Event::Start("app.service".parse().unwrap());
    for b in [app(0, 1), app(1, 0)] {
        each_moment(&host(&[app(0, 0)]), &host(&[b]), |story, at| {
            story.model.plot(Plot { events: vec![(at, start.clone())], killed: Some(at + 1) });
            story.go(1);
            story.model.calm();
            story.well(story.resume(true));
        });
    }
}
