//! What of a unit changed, between the generation that it was started from and another: the files, and in definitions the settings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::applied::Applied;
use super::contents::Contents;
use super::desired::{is_definition, what_counts};
use super::plan::{Plan, Reason};
use crate::bundle::names::{BundlePath, Label, UnitName};

/// How many changes a line tells of.
const SHOWN: usize = 4;

/// A file that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its path in the generation.
    pub path: BundlePath,
    /// What became of it.
    pub how: How,
    /// The settings that changed, if it defines a unit.
    pub settings: Vec<String>,
}

/// What became of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It was not there before.
    New,
    /// It is not there any more.
    Gone,
    /// It says something else.
    Changed,
    /// It has other permission bits.
    Mode,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.how {
            How::New => write!(f, "{} is new", self.path),
            How::Gone => write!(f, "{} is gone", self.path),
            How::Mode => write!(f, "the mode of {}", self.path),
            How::Changed if self.settings.is_empty() => write!(f, "{}", self.path),
            How::Changed => write!(f, "{}: {}", self.path, self.settings.join(", ")),
        }
    }
}

/// Changes in a line; nothing if there are none.
pub fn told(changes: &[Change]) -> String {
    let mut told: Vec<String> = changes.iter().take(SHOWN).map(Change::to_string).collect();
    if let Some(more) = changes.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        told.push(format!("and {more} more"));
    }
    told.join("; ")
}

/// Adds to each step of a plan that is taken because something changed, and to what is left although it changed, what that was. `before`
/// gives the contents of a generation; a unit of which nobody knows what it was started from, or whose generation is gone, is left without.
pub fn explain(
    plan: &mut Plan,
    applied: &Applied,
    after: &Contents,
    before: impl Fn(u32) -> Option<Contents>,
) {
    let mut known: BTreeMap<u32, Option<Contents>> = BTreeMap::new();
    let mut changed = |unit: &UnitName, read: Read| {
        let number = applied.units.get(unit)?.generation?;
        let before = known.entry(number).or_insert_with(|| before(number)).as_ref()?;
        Some(changes_of(unit, read, before, after))
    };
    for step in plan.steps.iter_mut().filter(|step| step.changed.is_empty()) {
        let read = match step.reason {
            Reason::UnitChanged => Read::AtStart,
            Reason::ConfigChanged => Read::OnReload,
            _ => continue,
        };
        step.changed = changed(&step.unit, read).unwrap_or_default();
    }
    for skip in &mut plan.skipped {
        skip.changed = changed(&skip.unit, Read::AtStart).unwrap_or_default();
    }
}

/// Which of the files of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Those that it is restarted for.
    AtStart,
    /// Those that it is reloaded for.
    OnReload,
    /// Both.
    Ever,
}

/// What changed of a unit that both have.
pub fn changes_of(unit: &UnitName, read: Read, before: &Contents, after: &Contents) -> Vec<Change> {
    let (Some(was), Some(is)) = (before.unit(unit), after.unit(unit)) else { return Vec::new() };
    let at_start = was.restart_on.iter().chain(&is.restart_on).filter(|_| read != Read::OnReload);
    let on_reload = was.reload_on.iter().chain(&is.reload_on).filter(|_| read != Read::AtStart);
    changes(at_start.chain(on_reload).cloned().collect(), before, after)
}

/// What changed of some files, and of the configuration directories that those name.
fn changes(paths: BTreeSet<BundlePath>, before: &Contents, after: &Contents) -> Vec<Change> {
    let mut open: Vec<BundlePath> = paths.into_iter().rev().collect();
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    while let Some(path) = open.pop() {
        if !seen.insert(path.clone()) {
            continue;
        }
        let how = match (before.digest(&path), after.digest(&path)) {
            (None, None) => None,
            (None, Some(_)) => Some((How::New, Vec::new())),
            (Some(_), None) => Some((How::Gone, Vec::new())),
            (Some(was), Some(is)) => {
                let mut settings = (was != is).then(Vec::new);
                if let Some((was, old)) = text(&path, before)
                    && let Some((is, new)) = text(&path, after)
                {
                    let objects = old.union(&new).filter(|name| before.object(name) != after.object(name));
                    let inside = objects.flat_map(|name| files_of(name, before, after));
                    open.extend(inside.collect::<BTreeSet<_>>().into_iter().rev());
                    settings = difference(&path, &was, &is);
                }
                if before.mode(&path) == after.mode(&path) {
                    settings.map(|settings| (How::Changed, settings))
                } else {
                    Some((How::Mode, Vec::new()))
                }
            }
        };
        found.extend(how.map(|(how, settings)| Change { path, how, settings }));
    }
    found
}

/// What a file says, and the configuration directories that it names; none of payload, which names nothing.
fn text(path: &BundlePath, contents: &Contents) -> Option<(Vec<u8>, BTreeSet<Label>)> {
    let bytes = if contents.is_payload(path) { None } else { contents.read(path) };
    bytes.map(|bytes| contents.named(&bytes))
}

fn files_of(object: &Label, before: &Contents, after: &Contents) -> BTreeSet<BundlePath> {
    before.files_of(object).union(&after.files_of(object)).copied().cloned().collect()
}

/// The settings that differ, none if the file is no definition; `None` if nothing that counts differs.
fn difference(path: &BundlePath, was: &[u8], is: &[u8]) -> Option<Vec<String>> {
    if !is_definition(path) {
        return (was != is).then(Vec::new);
    }
    let (was, is) = (what_counts(was), what_counts(is));
    let (old, new) = (settings(&was), settings(&is));
    let differs = |name: &&(String, String)| old.get(*name) != new.get(*name);
    let names: BTreeSet<&(String, String)> = old.keys().chain(new.keys()).filter(differs).collect();
    let mut keys: Vec<String> = names.into_iter().map(|(_, key)| key.clone()).collect();
    keys.dedup();
    (was != is).then_some(keys)
}

/// The values of each setting by section and key, in their order: `[Section]Key=Value` is a line of what counts.
fn settings(definition: &[u8]) -> BTreeMap<(String, String), Vec<String>> {
    let text = String::from_utf8_lossy(definition).replace("\\\n", " ");
    let mut settings = BTreeMap::<_, Vec<String>>::new();
    for line in text.lines() {
        if let Some((name, value)) = line.split_once('=')
            && let Some((section, key)) = name.split_once(']')
        {
            let name = (section.to_owned(), key.trim().to_owned());
            settings.entry(name).or_default().push(value.trim().to_owned());
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::Conclusion;
    use crate::activate::accounts::Ids;
    use crate::activate::plan::Step;
    use crate::activate::realise::realise;
    use crate::activate::report::Outcome;
    use crate::activate::story::Story;
    use crate::activate::terms::Terms;
    use crate::activate::testing::Build;
    use crate::bundle::manifest::Role;

    fn contents(build: &Build) -> Contents {
        let (texts, manifest) = (build.texts(), build.manifest());
        let ids = Ids { users: [("app".parse().unwrap(), Some(961))].into(), groups: BTreeMap::new() };
        Contents::imagined(&manifest, &realise(&texts, &manifest, &ids).unwrap(), None)
    }

    fn app(unit: &str, configuration: &str) -> Build {
        Build::new("h")
            .file("objects/app/app.conf", configuration)
            .file("objects/app/other.conf", "other")
            .file("etc/page", configuration)
            .unit("app@.service", Role::Follow, unit, &["etc/page"])
    }

    fn said(before: &Build, after: &Build, read: Read) -> String {
        let unit = "app@x.service".parse().unwrap();
        told(&changes_of(&unit, read, &contents(before), &contents(after)))
    }

    const UNIT: &str = "[Unit]\nAfter=x.service\n[Service]\nExecStart=/bin/app @rick(object:app)/app.conf\n";

    #[test]
    fn a_changed_definition_is_told_by_its_settings() {
        let restart = |before: &str, after: &str| said(&app(before, "1"), &app(after, "1"), Read::AtStart);
        let changed = UNIT.replace("/bin/app", "/bin/app --verbose \\\n  ") + "Environment=A=1\n";
        assert_eq!(restart(UNIT, &changed), "units/app@.service: Environment, ExecStart");
        let order = "[Service]\nA=1\nB=1\n";
        assert_eq!(restart(order, "[Service]\nB=1\nA=1\n"), "units/app@.service");
        assert_eq!(restart(UNIT, &UNIT.replace("After=x", "After=y")), "", "nothing that counts");
        assert_eq!(restart("[A]\nX=1\n[B]\nX=1\n", "[A]\nX=2\n[B]\nX=2\n"), "units/app@.service: X");
    }

    #[test]
    fn a_changed_file_is_told_though_only_its_place_in_the_store_stands_in_the_unit() {
        let (before, after) = (app(UNIT, "1"), app(UNIT, "2"));
        assert_eq!(said(&before, &after, Read::AtStart), "objects/app/app.conf");
        assert_eq!(said(&before, &after, Read::OnReload), "etc/page");
        assert_eq!(said(&before, &after, Read::Ever), "etc/page; objects/app/app.conf");
        let with_more = before.clone().program("objects/app/other.conf", "other").file("objects/app/new", "");
        assert_eq!(
            said(&before, &with_more, Read::AtStart),
            "objects/app/new is new; the mode of objects/app/other.conf"
        );
    }

    #[test]
    fn what_is_behind_a_directory_in_a_directory_is_found() {
        let build = |text: &str| {
            app(UNIT, "1").file("objects/inner/x", text).text("objects/app/link", "@rick(object:inner)")
        };
        assert_eq!(said(&build("1"), &build("2"), Read::AtStart), "objects/inner/x");
    }

    #[test]
    fn many_changes_are_not_all_told() {
        let many = |text: &str| {
            let files = (0..7).map(|n| format!("objects/app/{n}"));
            files.fold(app(UNIT, "1"), |build, path| build.file(&path, text))
        };
        let said = said(&many("1"), &many("2"), Read::AtStart);
        assert_eq!(said, "objects/app/0; objects/app/1; objects/app/2; objects/app/3; and 3 more");
    }

    #[test]
    fn a_plan_and_what_is_done_say_what_changed_since_the_unit_was_started() {
        let story = Story::begin();
        let build = |configuration: &str, page: &str| {
            Build::new("h")
                .file("objects/app/app.conf", configuration)
                .file("etc/page", page)
                .unit("app.service", Role::Run, "[Service]\nConf=@rick(object:app)\n", &[])
                .unit("web.service", Role::Run, "[Service]\nType=notify\n", &["etc/page"])
        };
        let told = |outcome: &Outcome| outcome.steps.iter().map(Step::told).collect::<Vec<_>>();
        story.activate(&build("1", "1"));
        story.activate(&build("1", "2"));
        let expected = [
            "web.service: its configuration changed (etc/page)",
            "app.service: it changed (objects/app/app.conf)",
        ];
        let next = build("2", "3");
        let plan = story.on_stage(true, Terms::default(), |run| run.activate(next.bundle().as_slice()));
        let Ok(Conclusion::Here(plan)) = plan else { panic!("{plan:?}") };
        assert_eq!(told(&plan), expected);
        let done = story.activate(&next);
        assert_eq!(told(&done), expected);
        assert_eq!(
            serde_json::to_value(&done.steps[0].changed).unwrap(),
            serde_json::json!([{"path": "etc/page", "how": "changed", "settings": []}])
        );
        // The generation that `web` was reloaded from is 3 now. Gone, it tells nothing.
        let mut applied = Applied::read(&story.state()).unwrap();
        for unit in applied.units.values_mut() {
            unit.generation = Some(7);
        }
        applied.write(&story.state()).unwrap();
        assert_eq!(told(&story.activate(&build("2", "4"))), ["web.service: its configuration changed"]);
    }
}
