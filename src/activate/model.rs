//! For tests: systemd in memory, as far as an activation can tell it from the real one. What it takes for granted stands in
//! `tests/support/facts.rs`, to which both it and a real systemd are held.
//!
//! It reads the real files of the current generation when it reads units, and the configuration of a service whenever that starts or
//! reloads. Between any two calls something may happen that nobody asked rick about, and rick may be killed: [`Plot`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};

use super::host::{self, ActiveState, Host, Images, LoadState, Log, Oneshot, UnitState, Verb};
use crate::bundle::digest::Digest;
use crate::bundle::manifest::{Check, Versioned};
use crate::bundle::names::UnitName;

/// Stands for all that the distribution starts at boot; it is always there.
const ALWAYS: &str = "multi-user.target";

/// A host that runs.
pub(crate) struct Model {
    world: Mutex<World>,
}

/// What happens while rick works, by the number of the moment, counted from 0.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plot {
    pub(crate) events: Vec<(usize, Event)>,
    /// rick is killed.
    pub(crate) killed: Option<usize>,
}

/// Something that rick did not ask for.
#[derive(Clone)]
pub(crate) enum Event {
    /// A timer, a socket, a dependency or a person starts a unit, and does not wait for it.
    Start(UnitName),
    /// A unit breaks down.
    Break(UnitName),
    /// systemd starts a unit again that broke down, and a job comes to its end.
    GoOn(UnitName),
    /// Whoever starts the unit next will fail.
    Jinx(UnitName),
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, unit) = match self {
            Self::Start(unit) => ("start", unit),
            Self::Break(unit) => ("break", unit),
            Self::GoOn(unit) => ("go on", unit),
            Self::Jinx(unit) => ("jinx", unit),
        };
        write!(f, "{what} {unit}")
    }
}

/// What rick's process ends with when it is killed.
pub(crate) struct Killed;

/// All that there is.
pub(crate) struct World {
    root: PathBuf,
    /// The units of the distribution.
    pub(crate) vendor: BTreeMap<UnitName, String>,
    /// Those of them that start at boot.
    pub(crate) enabled: BTreeSet<UnitName>,
    /// The units that systemd has in memory.
    memory: BTreeMap<UnitName, Unit>,
    births: u32,
    /// What each unit was last started with.
    started: BTreeMap<UnitName, String>,
    boots: u32,
    jinxed: BTreeSet<UnitName>,
    moment: usize,
    plot: Plot,
    /// What rick did to the host.
    deeds: Vec<String>,
}

/// A unit that systemd has in memory.
#[derive(Clone, Debug, Default)]
pub(crate) struct Unit {
    file: Loaded,
    active: ActiveState,
    auto_restart: bool,
    life: Option<Life>,
    result: &'static str,
    condition_failed: bool,
}

/// What systemd read of a unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) definition: Definition,
    wants: Vec<UnitName>,
}

/// The definition of a unit, with its drop-ins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Definition {
    #[default]
    Missing,
    Masked,
    Text(String),
}

/// One life of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) number: u32,
    /// What it was started with.
    pub(crate) definition: String,
    /// What it was last reloaded with, or else started with.
    pub(crate) taken: String,
    /// The configuration that it last read.
    pub(crate) config: String,
}

/// A unit, for those who check.
#[derive(Clone, Debug)]
pub(crate) struct Sight {
    pub(crate) runs: bool,
    pub(crate) at_work: bool,
    pub(crate) life: Option<Life>,
}

impl Definition {
    fn text(&self) -> &str {
        if let Self::Text(text) = self { text } else { "" }
    }

    fn says(&self, line: &str) -> bool {
        self.text().lines().any(|other| other == line)
    }

    fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.text().lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix('='))
    }
}

impl Loaded {
    /// The units that this one starts.
    fn triggers(&self, name: &UnitName) -> Vec<UnitName> {
        let key = match name.kind() {
            "socket" => "Service",
            "timer" | "path" => "Unit",
            _ => return Vec::new(),
        };
        if self.definition.text().is_empty() {
            return Vec::new();
        }
        let same_name = format!("{}.service", name.stem());
        self.definition.values(key).last().unwrap_or(&same_name).parse().into_iter().collect()
    }

    /// The units that this one keeps in memory.
    fn names(&self, name: &UnitName) -> Vec<UnitName> {
        [self.wants.clone(), self.triggers(name)].concat()
    }
}

impl Unit {
    fn runs(&self) -> bool {
        matches!(self.active, ActiveState::Active | ActiveState::Activating) && !self.auto_restart
    }

    fn at_work(&self) -> bool {
        self.active == ActiveState::Activating && !self.auto_restart
    }

    fn fail(&mut self) {
        self.result = "exit-code";
        self.auto_restart = self.file.definition.says("Restart=on-failure");
        self.active = if self.auto_restart { ActiveState::Activating } else { ActiveState::Failed };
    }

    fn finish(&mut self) {
        self.result = "success";
        let stays = self.file.definition.says("RemainAfterExit=yes");
        self.active = if stays { ActiveState::Active } else { ActiveState::Inactive };
    }

    fn stop(&mut self) {
        match (self.runs(), self.at_work()) {
            // A job that is ended did not do its work.
            (true, true) => (self.active, self.result) = (ActiveState::Failed, "signal"),
            (true, false) => (self.active, self.result) = (ActiveState::Inactive, "success"),
            _ if self.auto_restart => self.active = ActiveState::Inactive,
            _ => {}
        }
        self.auto_restart = false;
    }
}

impl World {
    fn units_directory(&self) -> Option<PathBuf> {
        let anchor = self.root.join("usr/local/lib/systemd/system");
        fs::symlink_metadata(anchor).ok().map(|_| self.root.join("var/lib/rick/current/units"))
    }

    /// What the files say of a unit now.
    fn read(&self, name: &UnitName) -> Loaded {
        let names = [Some(name.clone()), name.template()];
        let names = || names.iter().flatten();
        let own = self.units_directory();
        let file = |name: &UnitName| {
            let path = own.as_ref()?.join(name.as_str());
            let is_link = fs::symlink_metadata(&path).ok()?.is_symlink();
            if is_link {
                Some(Definition::Masked)
            } else {
                fs::read_to_string(path).ok().map(Definition::Text)
            }
        };
        let vendor = |name: &UnitName| self.vendor.get(name).cloned().map(Definition::Text);
        let mut definition = names().find_map(|name| file(name).or_else(|| vendor(name))).unwrap_or_default();
        let mut wants: Vec<UnitName> =
            definition.values("Wants").filter_map(|unit| unit.parse().ok()).collect();
        if name.as_str() == ALWAYS {
            definition = Definition::Text(String::new());
            wants.extend(self.enabled.iter().cloned());
        }
        for name in names() {
            let entries = |end: &str| {
                own.as_ref().map(|own| entries(&own.join(format!("{name}.{end}")))).unwrap_or_default()
            };
            if let Definition::Text(text) = &mut definition {
                text.extend(entries("d").iter().filter_map(|path| fs::read_to_string(path).ok()));
            }
            let last = |path: &PathBuf| path.file_name()?.to_str()?.parse().ok();
            wants.extend(entries("wants").iter().filter_map(last));
        }
        Loaded { definition, wants }
    }

    fn config(&self, definition: &Definition) -> String {
        let current = self.root.join("var/lib/rick/current");
        let read = |path| fs::read_to_string(current.join(path)).unwrap_or_default();
        definition.values("X-Config").map(read).collect()
    }

    /// Has a unit in memory. One that was not found is looked for again.
    fn load(&mut self, name: &UnitName) -> &mut Unit {
        let known = self.memory.get(name).is_some_and(|unit| unit.file.definition != Definition::Missing);
        let file = (!known).then(|| self.read(name));
        let unit = self.memory.entry(name.clone()).or_default();
        if let Some(file) = file {
            unit.file = file;
        }
        unit
    }

    /// Forgets what does not run and nobody refers to, and knows what is referred to.
    fn sweep(&mut self) {
        let mut kept = BTreeSet::new();
        let is_up = |(_, unit): &(&UnitName, &Unit)| unit.active != ActiveState::Inactive;
        let mut next: Vec<UnitName> =
            self.memory.iter().filter(is_up).map(|(name, _)| name.clone()).collect();
        while let Some(name) = next.pop() {
            if kept.insert(name.clone()) {
                if !self.memory.contains_key(&name) {
                    self.load(&name);
                }
                next.extend(self.memory[&name].file.names(&name));
            }
        }
        self.memory.retain(|name, _| kept.contains(name));
    }

    fn daemon_reload(&mut self) {
        for name in self.memory.keys().cloned().collect::<Vec<_>>() {
            let file = self.read(&name);
            self.memory.entry(name).or_default().file = file;
        }
        self.sweep();
    }

    /// One job: with what the unit wants, unless it is refused.
    fn start(&mut self, name: &UnitName, waits: bool) -> Result<()> {
        let begun = self.begin(name, waits);
        let mut others = self.load(name).file.wants.clone();
        // A socket comes before its service.
        others.sort_by_key(|unit| unit.kind() != "socket");
        for wanted in others.iter().filter(|_| name.kind() == "target") {
            let _ = self.start(wanted, waits);
        }
        begun
    }

    fn begin(&mut self, name: &UnitName, waits: bool) -> Result<()> {
        let file = self.load(name).file.clone();
        let Definition::Text(text) = &file.definition else { bail!("{name} has no definition") };
        let services = if name.kind() == "socket" { file.triggers(name) } else { Vec::new() };
        let taken = services.iter().any(|service| self.memory.get(service).is_some_and(Unit::runs));
        let config = self.config(&file.definition);
        let number = self.births + 1;
        let fails = self.jinxed.contains(name) || file.definition.says("ExecStartPre=/bin/false");
        let unit = self.load(name);
        if unit.runs() {
            if unit.at_work() && waits {
                unit.finish();
            }
            return Ok(());
        }
        unit.auto_restart = false;
        unit.active = ActiveState::Inactive;
        if taken {
            bail!("the service of {name} runs already");
        }
        unit.condition_failed = file.definition.values("ConditionPathExists").next().is_some();
        if unit.condition_failed {
            return Ok(());
        }
        let (definition, taken) = (text.clone(), text.clone());
        unit.life = Some(Life { number, definition, taken, config });
        if fails {
            unit.fail();
        } else if !file.definition.says("Type=oneshot") {
            (unit.active, unit.result) = (ActiveState::Active, "success");
        } else if waits && !file.definition.says("ExecStart=/bin/sleep infinity") {
            unit.finish();
        } else {
            unit.active = ActiveState::Activating;
        }
        self.births = number;
        self.started.insert(name.clone(), text.clone());
        self.jinxed.remove(name);
        if fails {
            bail!("{name} failed");
        }
        Ok(())
    }

    fn job(&mut self, verb: Verb, name: &UnitName) -> Result<()> {
        let idle = self.memory.get(name).is_none_or(|unit| unit.active == ActiveState::Inactive);
        let unit = self.load(name);
        let defined = matches!(unit.file.definition, Definition::Text(_));
        match verb {
            Verb::Stop if idle && unit.file.definition == Definition::Missing => {
                bail!("{name} is not loaded")
            }
            Verb::Stop => {
                unit.stop();
                Ok(())
            }
            _ if !defined => bail!("{name} has no definition"),
            Verb::Start => self.start(name, true),
            Verb::Restart => {
                unit.stop();
                self.start(name, true)
            }
            Verb::Reload => {
                let file = unit.file.definition.clone();
                if !unit.runs() || file.values("ExecReload").next().is_none() {
                    bail!("{name} cannot reload");
                }
                let config = self.config(&file);
                if let Some(life) = &mut self.load(name).life {
                    (life.taken, life.config) = (file.text().to_owned(), config);
                }
                Ok(())
            }
        }
    }

    fn befall(&mut self, event: &Event) {
        match event {
            Event::Start(name) => drop(self.start(name, false)),
            Event::Break(name) if name.kind() == "service" => {
                if let Some(unit) = self.memory.get_mut(name).filter(|unit| unit.runs()) {
                    unit.fail();
                }
            }
            Event::Break(_) => {}
            Event::GoOn(name) => {
                let Some(unit) = self.memory.get_mut(name) else { return };
                if unit.at_work() {
                    unit.finish();
                } else if unit.auto_restart && self.start(name, false).is_err() {
                    let unit = self.load(name);
                    if !matches!(unit.file.definition, Definition::Text(_)) {
                        (unit.active, unit.auto_restart) = (ActiveState::Failed, false);
                    }
                }
            }
            Event::Jinx(name) => drop(self.jinxed.insert(name.clone())),
        }
        self.sweep();
    }

    fn state(&mut self, name: &UnitName) -> UnitState {
        let known = self.memory.contains_key(name);
        let unit = self.load(name).clone();
        if !known {
            self.memory.remove(name);
        }
        let is_service = name.kind() == "service";
        UnitState {
            load: match unit.file.definition {
                Definition::Missing => LoadState::NotFound,
                Definition::Masked => LoadState::Masked,
                Definition::Text(_) => LoadState::Loaded,
            },
            active: unit.active,
            auto_restart: unit.auto_restart,
            invocation_id: unit.life.as_ref().map(|life| life.number.to_string()),
            result: if unit.result.is_empty() { "success" } else { unit.result }.to_owned(),
            reload_result: if is_service { "success" } else { "" }.to_owned(),
            oneshot: match unit.file.definition.says("Type=oneshot") {
                true if unit.file.definition.says("RemainAfterExit=yes") => Oneshot::Remains,
                true => Oneshot::Ends,
                false => Oneshot::No,
            },
            condition_failed: unit.condition_failed,
            triggers: unit.file.triggers(name),
        }
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

impl Model {
    /// The host whose root is `root`, with units of the distribution: name, text, and whether it starts at boot.
    pub(crate) fn boot(root: &Path, vendor: &[(&str, &str, bool)]) -> Self {
        let named = |(name, text, _): &(&str, &str, bool)| (name.parse().unwrap(), (*text).to_owned());
        let enabled =
            vendor.iter().filter(|(_, _, enabled)| *enabled).map(|(name, ..)| name.parse().unwrap());
        let mut world = World {
            root: root.to_owned(),
            vendor: vendor.iter().map(named).collect(),
            enabled: enabled.collect(),
            memory: BTreeMap::new(),
            births: 0,
            started: BTreeMap::new(),
            boots: 0,
            jinxed: BTreeSet::new(),
            moment: 0,
            plot: Plot::default(),
            deeds: Vec::new(),
        };
        world.reboot();
        Self { world: Mutex::new(world) }
    }

    pub(crate) fn befall(&self, event: &Event) {
        self.world().befall(event);
    }

    pub(crate) fn reboot(&self) {
        self.world().reboot();
    }

    pub(crate) fn plot(&self, plot: Plot) {
        let mut world = self.world();
        (world.moment, world.plot) = (0, plot);
    }

    /// How many moments there were since the plot began.
    pub(crate) fn moments(&self) -> usize {
        self.world().moment
    }

    /// Nothing happens any more, and nothing is about to.
    pub(crate) fn calm(&self) {
        self.plot(Plot::default());
        self.world().jinxed.clear();
    }

    /// What rick did to the host since the last time.
    pub(crate) fn deeds(&self) -> Vec<String> {
        std::mem::take(&mut self.world().deeds)
    }

    /// What the files say of a unit.
    pub(crate) fn file(&self, name: &UnitName) -> Definition {
        self.world().read(name).definition
    }

    /// The configuration that a unit would read now.
    pub(crate) fn config(&self, name: &UnitName) -> String {
        let world = self.world();
        world.config(&world.read(name).definition)
    }

    /// The units that systemd has in memory.
    pub(crate) fn sights(&self) -> BTreeMap<UnitName, Sight> {
        let sight =
            |unit: &Unit| Sight { runs: unit.runs(), at_work: unit.at_work(), life: unit.life.clone() };
        self.world().memory.iter().map(|(name, unit)| (name.clone(), sight(unit))).collect()
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets happen what happens now. May not come back.
    fn moment(&self) {
        let mut world = self.world();
        let now = world.moment;
        world.moment += 1;
        let events: Vec<Event> =
            world.plot.events.iter().filter(|(at, _)| *at == now).map(|(_, event)| event.clone()).collect();
        for event in &events {
            world.befall(event);
        }
        let killed = world.plot.killed == Some(now);
        drop(world);
        if killed {
            // Not a panic to be told of.
            std::panic::resume_unwind(Box::new(Killed));
        }
    }

    /// Something that rick does to the host, with a moment before and after it.
    fn deed<T>(&self, what: impl fmt::Display, act: impl FnOnce(&mut World) -> T) -> T {
        self.moment();
        let mut world = self.world();
        world.deeds.push(what.to_string());
        let done = act(&mut world);
        world.sweep();
        drop(world);
        self.moment();
        done
    }
}

impl World {
    fn reboot(&mut self) {
        self.boots += 1;
        self.memory.clear();
        self.jinxed.clear();
        let always = ALWAYS.parse().unwrap();
        let _ = self.start(&always, true);
        self.sweep();
    }
}

impl Host for Model {
    fn is_running(&self) -> bool {
        true
    }

    fn name(&self) -> Result<String> {
        Ok("h".to_owned())
    }

    fn boot_id(&self) -> Result<String> {
        Ok(self.world().boots.to_string())
    }

    fn unit_states(&self, units: &[UnitName]) -> Result<Vec<UnitState>> {
        self.moment();
        let mut world = self.world();
        Ok(units.iter().map(|unit| world.state(unit)).collect())
    }

    fn instances(&self, templates: &[UnitName]) -> Result<Vec<UnitName>> {
        self.moment();
        let world = self.world();
        let is_one = |(name, unit): &(&UnitName, &Unit)| {
            let template = name.template();
            unit.active != ActiveState::Inactive
                && template.is_some_and(|template| templates.contains(&template))
        };
        Ok(world.memory.iter().filter(is_one).map(|(name, _)| name.clone()).collect())
    }

    fn run_jobs(&self, verb: Verb, units: &[UnitName]) -> Result<()> {
        let job =
            |unit: &UnitName| self.deed(format!("{} {unit}", verb.word()), |world| world.job(verb, unit));
        let failed: Vec<String> =
            units.iter().filter_map(|unit| job(unit).err()).map(|error| error.to_string()).collect();
        if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
    }

    fn reset_failed(&self, units: &[UnitName]) -> Result<()> {
        self.deed("reset-failed", |world| {
            for unit in units {
                if let Some(unit) =
                    world.memory.get_mut(unit).filter(|unit| unit.active == ActiveState::Failed)
                {
                    (unit.active, unit.result) = (ActiveState::Inactive, "success");
                }
            }
        });
        Ok(())
    }

    fn daemon_reload(&self) -> Result<()> {
        self.deed("daemon-reload", World::daemon_reload);
        Ok(())
    }

    fn pause(&self, _time: Duration) {
        self.moment();
    }

    fn arm(&self, _program: &Path, _seconds: u32) -> Result<()> {
        self.moment();
        Ok(())
    }

    fn disarm(&self) -> Result<()> {
        self.moment();
        Ok(())
    }

    fn end_switch(&self) -> Result<()> {
        Ok(())
    }

    fn run_apart(&self, _program: &Path, _arguments: &[String], _lock: File) -> Result<Option<u8>> {
        bail!("there is nobody else")
    }

    fn keep_program(&self, _path: &Path) -> Result<()> {
        Ok(())
    }

    fn definitions(&self, units: &[UnitName]) -> Result<Vec<host::Definition>> {
        Ok(vec![host::Definition::default(); units.len()])
    }

    fn armed(&self) -> Result<Option<SystemTime>> {
        Ok(None)
    }

    fn images_in_use(&self) -> Result<BTreeSet<Digest>> {
        Ok(BTreeSet::new())
    }

    fn image_tags(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn remove_image_tag(&self, _tag: &str) -> Result<()> {
        Ok(())
    }

    fn version(&self, _program: Versioned) -> Option<(u32, u32)> {
        None
    }

    fn check_units(&self, _units: &Path, _files: &[PathBuf]) -> Result<()> {
        Ok(())
    }

    fn validate(&self, _command: &[String]) -> Result<()> {
        Ok(())
    }

    fn check_quadlets(&self, _directory: &Path) -> Result<()> {
        Ok(())
    }

    fn sysusers(&self, _file: &Path) -> Result<()> {
        Ok(())
    }

    fn is_in_memory(&self, _directory: &Path) -> Result<bool> {
        Ok(true)
    }

    fn decrypt(&self, file: &Path) -> Result<Vec<u8>> {
        Ok(std::fs::read(file)?)
    }

    fn tmpfiles(&self, _file: &Path) -> Result<()> {
        self.deed("tmpfiles", |_| ());
        Ok(())
    }

    /// Asked beside other questions: no moment, for nobody could say which.
    fn missing_images(&self, _images: &Images) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn pull_image(&self, _name: &str) -> Result<()> {
        Ok(())
    }

    fn load_image(&self, _layout: &Path, _name: &str, _digest: &Digest) -> Result<()> {
        Ok(())
    }

    fn journal(&self, _log: Log<'_>) -> Vec<String> {
        Vec::new()
    }

    fn answers(&self, _check: &Check) -> Result<()> {
        Ok(())
    }
}

#[path = "../../tests/support/facts.rs"]
mod facts;

/// The model, in the place of the real systemd.
struct Modelled {
    root: tempfile::TempDir,
    model: Model,
}

impl Modelled {
    fn boot() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("var/lib/rick/current/units")).unwrap();
        fs::create_dir_all(root.path().join("usr/local/lib/systemd/system")).unwrap();
        let model = Model::boot(root.path(), &[]);
        Self { root, model }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join("var/lib/rick/current/units").join(path)
    }
}

impl facts::Machine for Modelled {
    fn write(&mut self, path: &str, text: Option<&str>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = fs::remove_file(&path);
        match text {
            Some(text) => fs::write(path, text).unwrap(),
            None => std::os::unix::fs::symlink("/dev/null", path).unwrap(),
        }
    }

    fn remove(&mut self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }

    fn systemctl(&mut self, words: &[&str]) -> bool {
        let units = |words: &[&str]| words.iter().map(|unit| unit.parse().unwrap()).collect::<Vec<_>>();
        let jobs = |verb, words| self.model.run_jobs(verb, &units(words)).is_ok();
        match words {
            ["daemon-reload"] => self.model.daemon_reload().is_ok(),
            ["start", "--no-block", unit] => {
                self.model.world().befall(&Event::Start(unit.parse().unwrap()));
                true
            }
            ["start", words @ ..] => jobs(Verb::Start, words),
            ["stop", words @ ..] => jobs(Verb::Stop, words),
            ["restart", words @ ..] => jobs(Verb::Restart, words),
            ["reload", words @ ..] => jobs(Verb::Reload, words),
            ["reset-failed", words @ ..] => self.model.reset_failed(&units(words)).is_ok(),
            words => panic!("{words:?}"),
        }
    }

    fn kill(&mut self, unit: &str) {
        self.model.world().befall(&Event::Break(unit.parse().unwrap()));
    }

    fn wait(&mut self, unit: &str, active: &str) {
        self.model.world().befall(&Event::GoOn(unit.parse().unwrap()));
        assert_eq!(facts::Machine::shows(self, unit)[0], active);
    }

    fn shows(&mut self, unit: &str) -> [String; 3] {
        let state = self.model.world().state(&unit.parse().unwrap());
        let active = match state.active {
            ActiveState::Active => "active",
            ActiveState::Activating => "activating",
            ActiveState::Deactivating => "deactivating",
            ActiveState::Inactive => "inactive",
            ActiveState::Failed => "failed",
        };
        let load = match state.load {
            LoadState::Loaded => "loaded",
            LoadState::NotFound => "not-found",
            LoadState::Masked => "masked",
            LoadState::Wrong(_) => "wrong",
        };
        [active.to_owned(), load.to_owned(), state.invocation_id.unwrap_or_default()]
    }

    fn version(&mut self, unit: &str) -> String {
        let life = self.model.world().started.get(&unit.parse().unwrap()).cloned().unwrap();
        life.lines().filter_map(|line| line.strip_prefix("Environment=V=")).next_back().unwrap().to_owned()
    }

    fn instances(&mut self, template: &str) -> Vec<String> {
        let found = self.model.instances(&[template.parse().unwrap()]).unwrap();
        found.iter().map(UnitName::to_string).collect()
    }
}

#[test]
fn the_model_is_as_systemd_is() {
    for fact in facts::FACTS {
        facts::check(&mut Modelled::boot(), fact);
    }
}
