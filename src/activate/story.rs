//! One host through several generations, in a directory: what each promise looks like from outside.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Result;

use super::applied::Applied;
use super::generation::{self, Known};
use super::host::{Host, Verb};
use super::journal::{self, Journal, Phase};
use super::marks::Marks;
use super::receive::HostNames;
use super::report::{Ending, Outcome, Report};
use super::state::State;
use super::terms::Terms;
use super::testing::{Build, Recording};
use super::{Activation, Conclusion, Failure, list};
use crate::bundle::digest::Digest;
use crate::bundle::manifest::{Role, Versioned};
use crate::bundle::names::UnitName;
use crate::bundle::oci;
use crate::refusal::help_for;

pub(super) struct Story {
    pub(super) root: tempfile::TempDir,
    pub(super) host: Recording,
}

impl Story {
    pub(super) fn begin() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let host = Recording { passwd: Some(root.path().join("etc")), ..Recording::default() };
        Self { root, host }
    }

    pub(super) fn state(&self) -> State {
        State::new(self.root.path())
    }

    fn run(
        &self,
        dry_run: bool,
        act: impl FnOnce(&mut Activation<'_>) -> Result<Conclusion, Failure>,
    ) -> Result<Outcome, Failure> {
        self.run_on(dry_run, Terms::default(), act)
    }

    fn run_on(
        &self,
        dry_run: bool,
        terms: Terms,
        act: impl FnOnce(&mut Activation<'_>) -> Result<Conclusion, Failure>,
    ) -> Result<Outcome, Failure> {
        match self.on_stage(dry_run, terms, act)? {
            Conclusion::Here(outcome) => Ok(outcome),
            Conclusion::Apart(code) => panic!("somebody else did it, and said {code}"),
        }
    }

    pub(super) fn on_stage<T>(
        &self,
        dry_run: bool,
        terms: Terms,
        act: impl FnOnce(&mut Activation<'_>) -> T,
    ) -> T {
        let names = HostNames::of_host(&self.host.name().unwrap());
        act(&mut Activation {
            state: self.state(),
            known: Known::default(),
            host: &self.host,
            names,
            dry_run,
            allow_older: false,
            allow_unsigned: true,
            terms,
            apart: None,
            report: Report::silent(),
        })
    }

    pub(super) fn activate(&self, build: &Build) -> Outcome {
        self.run(false, |run| run.activate(build.bundle().as_slice())).unwrap()
    }

    /// The same, and the host keeps it though it may not be well.
    fn stay(&self, build: &Build) -> Outcome {
        let terms = Terms { go_back: false, ..Terms::default() };
        self.run_on(false, terms, |run| run.activate(build.bundle().as_slice())).unwrap()
    }

    fn refused(&self, bundle: &[u8]) -> anyhow::Error {
        let before = self.tree();
        let Err(Failure::Refused(error)) = self.run(false, |run| run.activate(bundle)) else {
            panic!("it was not refused");
        };
        assert_eq!(self.tree(), before, "the host is as it was");
        error
    }

    pub(super) fn roll_back(&self, to: Option<u32>) -> Outcome {
        self.run(false, |run| run.roll_back(to)).unwrap()
    }

    /// Every path of the host, with what it holds.
    pub(super) fn tree(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(self.root.path(), &mut found);
        found.sort();
        found
    }

    pub(super) fn current(&self, path: &str) -> String {
        fs::read_to_string(self.state().current().join(path)).unwrap()
    }
}

fn walk(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.push(path.display().to_string());
            walk(&path, found);
        } else if kind.is_symlink() {
            found.push(format!("{} -> {}", path.display(), fs::read_link(&path).unwrap().display()));
        } else {
            found.push(format!("{} {}", path.display(), Digest::of(&fs::read(&path).unwrap())));
        }
    }
}

fn first() -> Build {
    Build::new("h")
        .file("sysusers.conf", "u app\n")
        .file("tmpfiles.conf", "d /run/app\n")
        .user("app", None)
        .text("objects/app/app.conf", "user @rick(uid:app)")
        .file("etc/caddy/Caddyfile", "one")
        .unit("app.service", Role::Run, "User=@rick(uid:app) Conf=@rick(object:app)", &[])
        .unit("caddy.service", Role::Run, "caddy", &["etc/caddy/Caddyfile"])
        .unit("rick.target", Role::Run, "", &[])
        .link("units/rick.target.wants/app.service", "../app.service")
}

#[test]
fn a_host_goes_through_its_generations_and_back() {
    let story = Story::begin();

    let outcome = story.activate(&first());
    assert_eq!((outcome.previous, outcome.generation, outcome.problems.len()), (0, 1, 0));
    assert_eq!(
        story.host.take(),
        ["sysusers", "daemon-reload", "tmpfiles", "start app.service caddy.service rick.target"]
    );
    let unit = story.current("units/app.service");
    assert!(unit.starts_with("User=900 Conf=/var/lib/rick/store/"), "{unit}");
    assert_eq!(story.current("objects/app/app.conf"), "user 900");
    assert_eq!(
        fs::read_link(story.root.path().join("usr/local/lib/systemd/system")).unwrap(),
        Path::new("/var/lib/rick/current/units")
    );

    let before = story.tree();
    let outcome = story.activate(&first());
    assert!(!outcome.changed && story.host.take().is_empty());
    assert_eq!(story.tree(), before, "the same bundle twice writes nothing");

    let outcome = story.activate(&first().file("etc/caddy/Caddyfile", "two"));
    assert_eq!(outcome.generation, 2);
    assert_eq!(story.host.take(), ["sysusers", "daemon-reload", "tmpfiles", "reload caddy.service"]);

    story.activate(&first().text("objects/app/app.conf", "changed"));
    assert_eq!(
        story.host.take(),
        [
            "sysusers",
            "daemon-reload",
            "tmpfiles",
            "reset-failed",
            "reload caddy.service",
            "restart app.service"
        ]
    );

    assert_eq!(story.roll_back(None).generation, 2);
    assert_eq!(
        story.host.take(),
        ["daemon-reload", "tmpfiles", "reset-failed", "reload caddy.service", "restart app.service"]
    );
    assert_eq!(story.current("objects/app/app.conf"), "user 900");

    assert_eq!(story.roll_back(Some(0)).generation, 0);
    assert_eq!(
        story.host.take(),
        ["stop rick.target caddy.service app.service", "reset-failed", "daemon-reload"]
    );
    assert!(story.state().current().join("units").is_dir(), "no anchor ever dangles");

    assert_eq!(story.activate(&first()).generation, 4, "numbers are never used again");
    let rows = list::list(&story.state()).unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.number, row.current)).collect::<Vec<_>>(),
        [(0, false), (1, false), (2, false), (3, false), (4, true)]
    );
}

#[test]
fn a_dry_run_tells_and_writes_nothing() {
    let story = Story::begin();
    let before = story.tree();
    let build = first();
    let outcome = story.run(true, |run| run.activate(build.bundle().as_slice())).unwrap();
    assert_eq!(outcome.generation, 1);
    assert_eq!(outcome.steps.len(), 3);
    assert_eq!(story.tree(), before);
    assert!(story.host.take().is_empty());
}

#[test]
fn a_unit_that_fails_is_reported_and_done_again() {
    let mut story = Story::begin();
    story.host.broken.insert("app.service".parse().unwrap());
    let outcome = story.stay(&first());
    assert!(matches!(outcome.ending, Ending::NotWell { .. }));
    assert_eq!(outcome.problems.len(), 1);
    assert_eq!(outcome.problems[0].message, "app.service failed ()");
    assert_eq!(outcome.problems[0].log, ["it broke"]);
    story.host.take();

    story.host.broken.clear();
    let outcome = story.activate(&first());
    assert!(outcome.changed && outcome.problems.is_empty());
    assert_eq!(story.host.take(), ["tmpfiles", "reset-failed", "start app.service"]);
}

/// Puts back the record that rick wrote when systemd had just read the new units: the last before anything is restarted.
fn killed_before_it_recorded(story: &Story, before: &Applied, generation: u32) {
    let mut applied = before.clone();
    applied.generation = generation;
    applied.write(&story.state()).unwrap();
}

fn two() -> Build {
    Build::new("h").unit("a.service", Role::Run, "a", &[]).unit("b.service", Role::Run, "b", &[])
}

#[test]
fn a_switch_killed_between_two_restarts_does_the_other_one() {
    let story = Story::begin();
    story.activate(&two());
    let before = Applied::read(&story.state()).unwrap();
    let changed = two().unit("a.service", Role::Run, "new", &[]).unit("b.service", Role::Run, "new", &[]);
    story.activate(&changed);
    // As if only `a` had been restarted.
    killed_before_it_recorded(&story, &before, 2);
    story.host.lives.lock().unwrap().insert("b.service".parse().unwrap(), 1);
    story.host.take();
    story.activate(&changed);
    assert_eq!(story.host.take(), ["reset-failed", "restart b.service"]);
    assert!(!story.activate(&changed).changed);

    // The same, and then back: now it is `a` that has to move.
    killed_before_it_recorded(&story, &before, 2);
    story.host.lives.lock().unwrap().insert("b.service".parse().unwrap(), 1);
    story.host.take();
    story.roll_back(Some(1));
    assert_eq!(story.host.take(), ["daemon-reload", "reset-failed", "restart a.service"]);
}

#[test]
fn what_systemd_brought_up_itself_after_a_failure_runs_what_was_loaded() {
    let mut story = Story::begin();
    story.activate(&two());
    story.host.broken.insert("a.service".parse().unwrap());
    let changed = two().unit("a.service", Role::Run, "new", &[]);
    assert_eq!(story.stay(&changed).problems.len(), 1);
    // Restart=on-failure, and this time it works.
    story.host.broken.clear();
    story.host.run_jobs(Verb::Start, &["a.service".parse().unwrap()]).unwrap();
    story.host.take();
    assert!(!story.activate(&changed).changed);
    story.roll_back(None);
    assert_eq!(story.host.take(), ["daemon-reload", "reset-failed", "restart a.service"]);
}

#[test]
fn instances_of_a_template_follow_it() {
    let story = Story::begin();
    let with = |text: &str| Build::new("h").unit("job@.service", Role::Follow, text, &[]);
    story.activate(&with("1"));
    story.host.run_jobs(Verb::Start, &["job@x.service".parse().unwrap()]).unwrap();
    story.host.take();
    assert!(!story.activate(&with("1")).changed);
    story.activate(&with("2"));
    assert_eq!(story.host.take(), ["daemon-reload", "reset-failed", "restart job@x.service"]);
    story.activate(&Build::new("h"));
    assert_eq!(story.host.take()[0], "stop job@x.service");
    assert!(!story.activate(&Build::new("h")).changed);
}

#[test]
fn a_vendor_unit_is_restarted_when_what_was_added_to_it_leaves() {
    let story = Story::begin();
    story.host.run_jobs(Verb::Start, &["cron.service".parse().unwrap()]).unwrap();
    story.host.take();
    story.activate(&Build::new("h").drop_in("cron.service", "10-rick", "Nice=5"));
    assert_eq!(story.host.take(), ["daemon-reload", "reset-failed", "restart cron.service"]);
    story.activate(&Build::new("h"));
    assert_eq!(story.host.take(), ["daemon-reload", "reset-failed", "restart cron.service"]);
    assert!(!story.activate(&Build::new("h")).changed, "and is nobody's business any more");
}

#[test]
fn a_unit_that_does_not_go_is_reported_until_it_goes() {
    let mut story = Story::begin();
    story.activate(&two());
    story.host.immortal.insert("b.service".parse().unwrap());
    let one = Build::new("h").unit("a.service", Role::Run, "a", &[]);
    let still = "b.service still runs, though it is gone from the environment";
    assert_eq!(story.stay(&one).problems[0].message, still);
    assert_eq!(story.stay(&one).problems[0].message, still);
    story.host.immortal.clear();
    assert!(story.activate(&one).problems.is_empty());
    assert!(!story.activate(&one).changed);
}

#[test]
fn rollback_leads_to_what_the_host_had_before() {
    let story = Story::begin();
    let with = |text: &str| Build::new("h").unit("a.service", Role::Run, text, &[]);
    story.activate(&with("good"));
    story.activate(&with("bad"));
    assert_eq!(story.roll_back(None).generation, 1);
    assert_eq!(story.activate(&with("bad as well")).generation, 3);
    assert_eq!(story.roll_back(None).generation, 1, "not 2, which was left for good reason");
}

#[test]
fn a_probe_that_nothing_answers_is_no_success_the_second_time_either() {
    let mut story = Story::begin();
    story.host.silent = true;
    let build = two().probe("app", "/run/a.sock");
    assert_eq!(story.stay(&build).problems.len(), 1);
    let outcome = story.stay(&build);
    assert!(!outcome.changed && outcome.problems.len() == 1);

    // Of a service that is known to be down nobody waits for an answer.
    story.host.broken.insert("a.service".parse().unwrap());
    let outcome = story.stay(&build.unit("a.service", Role::Run, "new", &[]));
    assert_eq!(outcome.problems.len(), 1);
    assert_eq!(outcome.problems[0].message, "a.service failed ()");
}

#[test]
fn a_unit_that_systemd_does_not_take_is_reported_and_not_acted_on() {
    let mut story = Story::begin();
    story.host.unknown.insert("app.service".parse().unwrap());
    let outcome = story.stay(&first());
    assert_eq!(outcome.problems[0].message, "app.service is not known to systemd");
    assert!(story.host.take().contains(&"start caddy.service rick.target".to_owned()));
}

#[test]
fn a_switch_cut_short_after_the_commit_is_finished() {
    let story = Story::begin();
    story.activate(&first());
    let applied = fs::read(story.state().applied()).unwrap();
    let changed = first().unit("app.service", Role::Run, "changed", &[]);
    story.activate(&changed);
    story.host.take();
    // As if it had been killed right after the rename.
    fs::write(story.state().applied(), applied).unwrap();
    let outcome = story.activate(&changed);
    assert_eq!(outcome.generation, 2);
    assert_eq!(story.host.take(), ["daemon-reload", "tmpfiles", "reset-failed", "restart app.service"]);
}

#[test]
fn after_a_boot_all_runs_what_is_current() {
    let story = Story::begin();
    story.activate(&first());
    let applied = fs::read(story.state().applied()).unwrap();
    let changed = first().file("etc/caddy/Caddyfile", "two");
    story.activate(&changed);
    // As if it had been killed right after the rename, and the machine rebooted.
    fs::write(story.state().applied(), applied).unwrap();
    "the next boot".clone_into(&mut story.host.boot.lock().unwrap());
    story.host.take();
    assert!(!story.activate(&changed).changed);
    assert!(story.host.take().is_empty());
}

#[test]
fn images_are_kept_and_loaded_once() {
    let story = Story::begin();
    let with = |content: &str| first().image("localhost/whoami:1", content);
    story.activate(&with("one"));
    assert!(story.host.take().contains(&"load localhost/whoami:1".to_owned()));
    let before = story.tree();
    assert!(!story.activate(&with("one")).changed);
    assert_eq!(story.tree(), before);
    story.host.loaded.lock().unwrap().clear();
    story.activate(&with("two"));
    let index = fs::read(story.state().images().join("index.json")).unwrap();
    let index: oci::Index = serde_json::from_slice(&index).unwrap();
    assert_eq!(index.manifests.len(), 2, "the image before stays, to go back to");
    assert!(index.manifests.iter().all(|image| story.state().image_blob(&image.digest).is_file()));
}

#[test]
fn an_image_that_cannot_be_loaded_ends_it_before_the_switch() {
    let mut story = Story::begin();
    story.activate(&first());
    story.host.take();
    story.host.no_podman = true;
    let bundle = first().image("localhost/whoami:1", "one").bundle();
    let refused = story.run(false, |run| run.activate(bundle.as_slice()));
    assert!(matches!(refused, Err(Failure::Refused(_))));
    assert_eq!(story.host.take(), ["sysusers"]);
    assert_eq!(list::list(&story.state()).unwrap().len(), 2, "no generation is left that never was current");
}

#[test]
fn a_missing_program_is_refused_with_its_package() {
    let story = Story::begin();
    let error = story.refused(&first().needs("/usr/bin/caddy", "caddy", "web").bundle());
    assert_eq!(error.to_string(), "this host lacks `/usr/bin/caddy` (package caddy, needed by web)");
    assert_eq!(help_for(&error), ["install caddy"]);
}

#[test]
fn a_taken_number_is_refused_before_sysusers() {
    let story = Story::begin();
    fs::write(story.root.path().join("etc/passwd"), "other:x:961:961::/:\n").unwrap();
    let error = story.refused(&first().user("app", Some(961)).bundle());
    assert!(error.to_string().contains("belongs to `other`"), "{error}");
    assert!(story.host.take().is_empty());
}

#[test]
fn what_is_missing_is_refused_all_at_once_with_the_way_to_get_it() {
    let story = Story::begin();
    let build =
        first().needs("/usr/bin/caddy", "caddy", "web").secret("app-key", "app").secret("db-key", "db");
    let error = story.refused(&build.bundle());
    assert_eq!(
        error.to_string(),
        "this host lacks `/usr/bin/caddy` (package caddy, needed by web); and \
         this host lacks the secrets `app-key`, needed by app, and `db-key`, needed by db"
    );
    let help = help_for(&error);
    assert_eq!(help[0], "install caddy");
    assert!(help[1].contains("for name in app-key db-key; do\n"), "{}", help[1]);
    // One that is there is not asked for again, and all of them are enough.
    let kept = story.root.path().join("etc/credstore.encrypted");
    fs::create_dir(&kept).unwrap();
    fs::write(kept.join("app-key"), "x").unwrap();
    fs::write(kept.join("db-key"), "").unwrap();
    let secrets = first().secret("app-key", "app").secret("db-key", "db");
    let error = story.refused(&secrets.bundle());
    assert_eq!(error.to_string(), "this host lacks the secret `db-key`, needed by db");
    fs::write(kept.join("db-key"), "x").unwrap();
    assert!(story.activate(&secrets).changed);
}

#[test]
fn a_host_with_a_generation_of_the_format_before_goes_on_from_it() {
    let story = Story::begin();
    story.activate(&first());
    let manifest = story.state().directory().join("gens/1/manifest.json");
    let mut old: serde_json::Value = serde_json::from_slice(&fs::read(&manifest).unwrap()).unwrap();
    old["format"] = 1.into();
    old.as_object_mut().unwrap().retain(|key, _| key != "secrets" && key != "states");
    fs::write(&manifest, old.to_string()).unwrap();
    assert!(story.activate(&first().file("etc/caddy/Caddyfile", "two")).changed);
    story.run(false, |run| run.roll_back(Some(1))).unwrap();
}

#[test]
fn what_is_not_well_is_left_for_the_generation_before() {
    let mut story = Story::begin();
    story.activate(&two());
    let changed = two().unit("a.service", Role::Run, "new", &[]).unit("c.service", Role::Run, "c", &[]);
    story.host.broken.insert("c.service".parse().unwrap());
    story.host.take();
    story.host.timers.lock().unwrap().clear();
    let outcome = story.activate(&changed);
    assert_eq!(outcome.ending, Ending::RolledBack);
    assert_eq!((outcome.generation, outcome.tried), (1, 2));
    assert_eq!(outcome.problems[0].message, "c.service failed ()");
    assert_eq!(
        story.host.take(),
        [
            "daemon-reload",
            "reset-failed",
            "restart a.service",
            "start c.service",
            "stop c.service",
            "reset-failed",
            "daemon-reload",
            "reset-failed",
            "restart a.service",
        ]
    );
    // PID 1 was told to see to the way there, and then to the way back, and at last to forget it.
    assert_eq!(*story.host.timers.lock().unwrap(), [Some(900), Some(900), None]);
    assert!(Journal::read(&story.state()).unwrap().is_none());
    assert!(Marks::read(&story.state()).unwrap().is_bad(2));
    assert!(!story.activate(&two()).changed);
}

#[test]
fn past_a_barrier_the_host_stays() {
    let mut story = Story::begin();
    let with = |text: &str| {
        two().unit("app.service", Role::Run, text, &[]).said("app.service", |app| app.barrier = true)
    };
    story.host.broken.insert("app.service".parse().unwrap());
    assert_eq!(
        story.activate(&with("1")).ending,
        Ending::RolledBack,
        "nothing was there before that could not go on"
    );
    story.host.broken.clear();
    story.activate(&with("1"));
    story.host.broken.insert("app.service".parse().unwrap());
    let outcome = story.activate(&with("2"));
    let reason = "what app.service did when it was started cannot be undone by going back";
    assert_eq!(outcome.ending, Ending::NotWell { reason: reason.to_owned() });
    assert_eq!(outcome.generation, outcome.tried);
    // What else changes beside it can be undone.
    story.host.broken.clear();
    story.activate(&with("2"));
    story.host.broken.insert("c.service".parse().unwrap());
    assert_eq!(story.activate(&with("2").unit("c.service", Role::Run, "c", &[])).ending, Ending::RolledBack);
}

#[test]
fn a_barrier_that_a_killed_run_or_the_boot_crossed_is_crossed() {
    let with = |text: &str| {
        two().unit("app.service", Role::Run, text, &[]).said("app.service", |app| app.barrier = true)
    };
    for reboots in [false, true] {
        let mut story = Story::begin();
        story.activate(&with("1"));
        story.activate(&with("2"));
        // As if that had been killed: before it wrote down what it crossed, if the host was off afterwards.
        let crossed = if reboots { Vec::new() } else { vec!["app.service".parse().unwrap()] };
        let journal = Journal {
            from: 1,
            to: 2,
            boot_id: String::new(),
            phase: Phase::Switching,
            terms: Terms::default(),
            crossed,
            halted: BTreeSet::new(),
        };
        journal.write(&story.state()).unwrap();
        if reboots {
            "the next boot".clone_into(&mut story.host.boot.lock().unwrap());
        }
        story.host.broken.insert("b.service".parse().unwrap());
        story.host.running.lock().unwrap().remove(&"b.service".parse().unwrap());
        let outcome = if reboots {
            story.run(false, |run| run.resume(false).map(Conclusion::Here)).unwrap()
        } else {
            story.activate(&with("2"))
        };
        assert!(
            matches!(&outcome.ending, Ending::NotWell { reason } if reason.contains("app.service")),
            "{outcome:?}"
        );
        assert_eq!(outcome.generation, 2);
    }
}

#[test]
fn only_what_is_there_is_kept_to_look_around() {
    let story = Story::begin();
    story.activate(&two());
    story.activate(&two().unit("a.service", Role::Run, "new", &[]));
    story.activate(&two().unit("a.service", Role::Run, "newer", &[]));
    story.roll_back(Some(1));
    let a: UnitName = "a.service".parse().unwrap();
    let stays = Terms { go_back: false, ..Terms::default() };
    // As if the time of a switch had been up after it stopped a unit: before the commit, and after it; and the same of one that came after
    // another that had been cut short.
    for (to, current, terms, crossed, expected) in [
        (2, 1, &stays, vec![], 1),
        (2, 2, &stays, vec![], 2),
        (3, 2, &stays, vec![], 2),
        (3, 2, &Terms::default(), vec![a.clone()], 2),
        (3, 2, &Terms::default(), vec![], 1),
        (1, 2, &Terms::default(), vec![a.clone()], 2),
    ] {
        generation::commit(&story.state(), current).unwrap();
        let journal = Journal {
            from: 1,
            to,
            boot_id: story.host.boot_id().unwrap(),
            phase: Phase::Switching,
            terms: terms.clone(),
            crossed,
            halted: BTreeSet::from([a.clone()]),
        };
        journal.write(&story.state()).unwrap();
        story.host.running.lock().unwrap().remove(&a);
        let outcome = story.run(false, |run| run.resume(true).map(Conclusion::Here)).unwrap();
        assert_eq!(outcome.generation, expected);
        let runs = story.host.running.lock().unwrap().contains(&a);
        if to == current {
            assert!(matches!(outcome.ending, Ending::NotWell { .. }) && !runs, "{outcome:?}");
        } else {
            assert!(outcome.ending == Ending::RolledBack && runs, "{outcome:?}");
        }
    }
}

#[test]
fn what_the_host_is_well_without_is_a_warning() {
    let mut story = Story::begin();
    story.host.broken.insert("b.service".parse().unwrap());
    let outcome = story.activate(&two().said("b.service", |unit| unit.optional = true));
    assert_eq!(outcome.ending, Ending::Done);
    assert!(outcome.problems.is_empty());
    assert_eq!(outcome.warnings[0].message, "b.service failed ()");
}

#[test]
fn a_serial_does_not_go_back_unless_that_is_wanted() {
    let story = Story::begin();
    story.activate(&two().serial(7));
    let why = |build: &Build| story.refused(&build.bundle()).to_string();
    assert_eq!(why(&first().serial(6)), "the bundle has serial 6, and this host had 7 already");
    assert_eq!(why(&first()), "the bundle has no serial, and this host had 7 already");
    let bundle = first().serial(6).bundle();
    let allowed = story.run(false, |run| {
        run.allow_older = true;
        run.activate(bundle.as_slice())
    });
    assert_eq!(allowed.unwrap().ending, Ending::Done);
    assert!(why(&two().serial(6)).contains("had 7 already"), "the highest is remembered");
    story.activate(&two().serial(8));
}

#[test]
fn what_the_hosts_own_programs_do_not_take_is_refused() {
    let mut story = Story::begin();
    let build =
        first().validated("/usr/bin/check /var/lib/rick/current/etc/caddy/Caddyfile", "etc/caddy/Caddyfile");
    // Accounts are made before.
    story.activate(&two().file("sysusers.conf", "u app\n").user("app", None));
    story.host.picky = true;
    assert_eq!(story.refused(&build.bundle()).to_string(), "it says no");
    story.host.picky = false;
    story.host.judged.lock().unwrap().clear();
    story.activate(&build);
    let judged = std::mem::take(&mut *story.host.judged.lock().unwrap());
    let units = story.state().generation(2).join("units");
    let unit = |name: &str| units.join(name).display().to_string();
    assert_eq!(
        judged,
        [
            unit("app.service"),
            unit("caddy.service"),
            unit("rick.target"),
            "/usr/bin/check /var/lib/rick/gens/2/etc/caddy/Caddyfile".to_owned()
        ]
    );
    // What did not change was judged then.
    story.activate(&build.clone().unit("app.service", Role::Run, "changed", &[]));
    assert_eq!(story.host.judged.lock().unwrap().len(), 1);
}

#[test]
fn a_program_that_is_too_old_is_refused() {
    let mut story = Story::begin();
    // That systemd is newer than that does not matter.
    story.host.versions = [(Versioned::Podman, (4, 3)), (Versioned::Systemd, (257, 0))].into();
    let build = two().needs_podman((5, 0), "`Notify=healthy` of `a.container`");
    let refused = story.refused(&build.bundle()).to_string();
    assert_eq!(refused, "this host has Podman 4.3, and needs 5.0 for `Notify=healthy` of `a.container`");
    story.host.versions.insert(Versioned::Podman, (5, 0));
    story.activate(&build);
}

#[test]
fn a_generation_that_nobody_confirms_is_left() {
    let story = Story::begin();
    story.activate(&two());
    let terms = || Terms { confirm_within_s: Some(2), ..Terms::default() };
    let changed = two().unit("a.service", Role::Run, "new", &[]);
    let ending =
        |build: &Build| story.run_on(false, terms(), |run| run.activate(build.bundle().as_slice())).unwrap();
    let outcome = ending(&changed);
    assert_eq!((outcome.ending, outcome.generation), (Ending::RolledBack, 1));
    assert_eq!(outcome.problems[0].message, "nobody confirmed it within 2 s");
    // Said before it was asked for, it is no confirmation of this one.
    journal::say_confirmed(&story.state(), 2).unwrap();
    assert_eq!(ending(&changed).ending, Ending::RolledBack);
    assert!(story.run(false, |run| run.confirm().map(Conclusion::Here)).is_err());
}
