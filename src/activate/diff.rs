//! What differs between two generations: units, accounts, images, and files line by line. Store paths are looked through: a file that names
//! a configuration directory is not another one because that is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;
use similar::TextDiff;

use super::contents::Contents;
use super::explain::{self, Change, How, Read};
use super::generation::{self, Generation};
use super::state::State;
use crate::bundle::digest::Digest;
use crate::bundle::manifest::HostManifest;
use crate::bundle::names::{BundlePath, Label, UnitName};
use crate::refusal::refuse;

/// What differs between two generations.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// The generation that is compared.
    pub from: u32,
    /// The one that it is compared with.
    pub to: u32,
    /// Units.
    pub units: Vec<UnitDifference>,
    /// Users and groups, as `user NAME` and `group NAME`.
    pub accounts: Vec<Entry<Option<u32>>>,
    /// Images by name.
    pub images: Vec<Entry<Digest>>,
    /// Files and links.
    pub files: Vec<FileDifference>,
    /// What else the builds say differently, by its name in the manifest.
    pub others: Vec<&'static str>,
}

/// A unit that differs.
#[derive(Debug, Serialize)]
pub struct UnitDifference {
    /// The unit.
    pub unit: UnitName,
    /// What became of it.
    pub how: How,
    /// What of it changed; nothing if that is only what rick does with it.
    pub changed: Vec<Change>,
}

/// Something that has a name and a value, and differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Entry<T> {
    /// Its name.
    pub name: String,
    /// What it was; none if it was not there.
    pub was: Option<T>,
    /// What it is; none if it is not there.
    pub is: Option<T>,
}

/// A file that differs.
#[derive(Debug, Serialize)]
pub struct FileDifference {
    /// Its path in the generation.
    pub path: BundlePath,
    /// What became of it.
    pub how: How,
    /// How many lines are new.
    pub added: usize,
    /// How many lines are gone.
    pub removed: usize,
    /// The configuration directories whose place in the store is all that differs.
    pub only_places_of: BTreeSet<Label>,
    /// What it was, if its lines cannot be shown: it is no text, or a large one.
    pub was: Option<Whole>,
    /// What it is, if its lines cannot be shown.
    pub is: Option<Whole>,
    /// The unified diff; none if its lines cannot be shown, or if there is nothing to show.
    pub diff: Option<String>,
}

/// A file as all that is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Whole {
    /// Its size in bytes.
    pub size: u64,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// What differs between generation `from` (the one to go back to, unless asked for) and generation `to` (the current one).
pub fn diff(state: &State, from: Option<u32>, to: Option<u32>) -> Result<Difference> {
    let Some(current) = generation::current_number(state)? else {
        refuse!("there is nothing to compare: rick never activated anything on this host");
    };
    let from = match from {
        Some(number) => Generation::read(state, number)?,
        None => generation::to_go_back_to(state, None)?,
    };
    let to = Generation::read(state, to.unwrap_or(current))?;
    Ok(between((from.number, &Contents::of(&from)), (to.number, &Contents::of(&to))))
}

/// What differs between two generations with these contents.
pub fn between((from, before): (u32, &Contents), (to, after): (u32, &Contents)) -> Difference {
    let images = |contents: &Contents| {
        contents.manifest.as_ref().map(|manifest| manifest.images.clone()).unwrap_or_default()
    };
    let paths: BTreeSet<&BundlePath> = before.paths().union(&after.paths()).copied().collect();
    let labels = (format!("generation {from}"), format!("generation {to}"));
    let file = |path: &&BundlePath| file(path, before, after, &labels);
    Difference {
        from,
        to,
        units: units(before, after),
        accounts: entries(&accounts(before), &accounts(after)),
        images: entries(&images(before), &images(after)),
        files: paths.iter().filter_map(file).collect(),
        others: others(before.manifest.as_deref(), after.manifest.as_deref()),
    }
}

/// The unified diff of a file between two contents; none if nothing of it can be shown.
pub fn unified(
    path: &BundlePath,
    before: &Contents,
    after: &Contents,
    labels: &(String, String),
) -> Option<String> {
    file(path, before, after, labels)?.diff
}

fn units(before: &Contents, after: &Contents) -> Vec<UnitDifference> {
    let names = |contents: &Contents| -> BTreeSet<UnitName> {
        let manifest = contents.manifest.iter();
        manifest.flat_map(|manifest| &manifest.units).map(|unit| unit.name.clone()).collect()
    };
    let unit = |unit: &UnitName| {
        let how = match (before.unit(unit), after.unit(unit)) {
            (None, _) => How::New,
            (_, None) => How::Gone,
            (Some(was), Some(is)) => {
                let changed = explain::changes_of(unit, Read::Ever, before, after);
                let differs = was != is || !changed.is_empty();
                return differs.then(|| UnitDifference { unit: unit.clone(), how: How::Changed, changed });
            }
        };
        Some(UnitDifference { unit: unit.clone(), how, changed: Vec::new() })
    };
    names(before).union(&names(after)).filter_map(unit).collect()
}

fn accounts(contents: &Contents) -> BTreeMap<String, Option<u32>> {
    let Some(manifest) = &contents.manifest else { return BTreeMap::new() };
    let users = manifest.accounts.users.iter().map(|(name, id)| (format!("user {name}"), *id));
    let groups = manifest.accounts.groups.iter().map(|(name, id)| (format!("group {name}"), *id));
    users.chain(groups).collect()
}

fn entries<T: Clone + PartialEq>(before: &BTreeMap<String, T>, after: &BTreeMap<String, T>) -> Vec<Entry<T>> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let entry = |name: &String| Entry {
        name: name.clone(),
        was: before.get(name).cloned(),
        is: after.get(name).cloned(),
    };
    names.into_iter().map(entry).filter(|entry| entry.was != entry.is).collect()
}

/// Parts of the manifest that nothing else here tells of.
fn others(before: Option<&HostManifest>, after: Option<&HostManifest>) -> Vec<&'static str> {
    let parts = [
        "programs",
        "versions",
        "validations",
        "probes",
        "secrets",
        "states",
        "dumps",
        "at_rest",
        "repositories",
        "moved",
    ];
    let value = |manifest: Option<&HostManifest>| serde_json::to_value(manifest).unwrap_or_default();
    let (before, after) = (value(before), value(after));
    let is_empty = |value: &serde_json::Value| match value {
        serde_json::Value::Array(values) => values.is_empty(),
        serde_json::Value::Object(values) => values.is_empty(),
        value => value.is_null(),
    };
    let part =
        |value: &serde_json::Value, name: &str| value.get(name).cloned().filter(|value| !is_empty(value));
    parts.into_iter().filter(|name| part(&before, name) != part(&after, name)).collect()
}

fn file(
    path: &BundlePath,
    before: &Contents,
    after: &Contents,
    labels: &(String, String),
) -> Option<FileDifference> {
    let (was, is) = (before.digest(path), after.digest(path));
    if was == is && before.mode(path) == after.mode(path) {
        return None;
    }
    let how = match (was, is) {
        (None, _) => How::New,
        (_, None) => How::Gone,
        (was, is) if was == is => How::Mode,
        _ => How::Changed,
    };
    let mut found = FileDifference {
        path: path.clone(),
        how,
        added: 0,
        removed: 0,
        only_places_of: BTreeSet::new(),
        was: None,
        is: None,
        diff: None,
    };
    if how == How::Mode {
        return Some(found);
    }
    // What is not there has no lines; what is there may be too large for them to be shown.
    let lines = |contents: &Contents, there: bool| match contents.read(path) {
        Some(bytes) => Some(contents.named(&bytes)),
        None => (!there).then(Default::default),
    };
    let (old, new) = (lines(before, was.is_some()), lines(after, is.is_some()));
    if let (Some((old, named_before)), Some((new, named_after))) = (&old, &new)
        && old == new
    {
        let named = named_before.union(named_after);
        found.only_places_of =
            named.filter(|name| before.object(name) != after.object(name)).cloned().collect();
    } else if let (Some((old, _)), Some((new, _))) = (&old, &new)
        && let (Some(old), Some(new)) = (text(old), text(new))
    {
        let side = |there: bool, label: &str| {
            if there { format!("{path} ({label})") } else { "/dev/null".to_owned() }
        };
        let (from, to) = (side(was.is_some(), &labels.0), side(is.is_some(), &labels.1));
        let lines = TextDiff::from_lines(old, new).unified_diff().header(&from, &to).to_string();
        let begin_with = |sign: char| lines.lines().skip(2).filter(|line| line.starts_with(sign)).count();
        (found.added, found.removed) = (begin_with('+'), begin_with('-'));
        found.diff = Some(lines);
    } else {
        let whole = |contents: &Contents, digest: Option<Digest>| {
            Some(Whole { size: contents.size(path)?, digest: digest? })
        };
        (found.was, found.is) = (whole(before, was), whole(after, is));
    }
    Some(found)
}

/// The bytes as text, if they are that.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

impl Difference {
    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
            && self.accounts.is_empty()
            && self.images.is_empty()
            && self.files.is_empty()
            && self.others.is_empty()
    }

    /// The same without the lines of the files.
    #[must_use]
    pub fn without_lines(mut self) -> Self {
        self.files.iter_mut().for_each(|file| file.diff = None);
        self
    }

    /// For people: what differs in a line each, then the lines of the files.
    pub fn text(&self, colour: bool) -> String {
        let Self { from, to, .. } = self;
        if self.is_empty() {
            return format!("generations {from} and {to} do not differ\n");
        }
        let mut text = format!("generation {from} → {to}\n");
        section(&mut text, "units", self.units.iter().map(UnitDifference::told));
        section(&mut text, "accounts", self.accounts.iter().map(|entry| entry.told(|id| pinned(*id))));
        section(&mut text, "images", self.images.iter().map(|entry| entry.told(Digest::short)));
        section(&mut text, "files", self.files.iter().map(FileDifference::told));
        section(&mut text, "also", self.others.iter().map(|part| ("changed", (*part).to_owned())));
        for diff in self.files.iter().filter_map(|file| file.diff.as_ref()) {
            text.push('\n');
            text.push_str(&painted(diff, colour));
        }
        text
    }
}

fn section(text: &mut String, title: &str, lines: impl Iterator<Item = (&'static str, String)>) {
    for (at, (how, what)) in lines.enumerate() {
        let title = if at == 0 { [title, "\n"].concat() } else { String::new() };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{title}  {how:<7}  {what}");
    }
}

fn word(how: How) -> &'static str {
    match how {
        How::New => "new",
        How::Gone => "gone",
        How::Changed | How::Mode => "changed",
    }
}

fn pinned(id: Option<u32>) -> String {
    id.map_or("any number".to_owned(), |id| id.to_string())
}

impl UnitDifference {
    fn told(&self) -> (&'static str, String) {
        let what = match (self.how, explain::told(&self.changed).as_str()) {
            (How::Changed, "") => format!("{} (what rick does with it)", self.unit),
            (_, "") => self.unit.to_string(),
            (_, changed) => format!("{} ({changed})", self.unit),
        };
        (word(self.how), what)
    }
}

impl<T> Entry<T> {
    fn told(&self, value: impl Fn(&T) -> String) -> (&'static str, String) {
        match (&self.was, &self.is) {
            (None, _) => ("new", self.name.clone()),
            (_, None) => ("gone", self.name.clone()),
            (Some(was), Some(is)) => ("changed", format!("{} ({} → {})", self.name, value(was), value(is))),
        }
    }
}

impl Whole {
    fn told(&self) -> String {
        format!("{} bytes ({})", self.size, self.digest.short())
    }
}

impl FileDifference {
    fn told(&self) -> (&'static str, String) {
        let places: Vec<String> = self.only_places_of.iter().map(|name| format!("objects/{name}")).collect();
        let what = match (self.how, &self.diff) {
            (How::Mode, _) => "only its mode".to_owned(),
            (How::Changed, None) if !places.is_empty() => {
                format!("only the place in the store of {}", places.join(", "))
            }
            _ if self.added + self.removed > 0 => format!("+{} -{}", self.added, self.removed),
            _ => self.was.iter().chain(&self.is).map(Whole::told).collect::<Vec<_>>().join(" → "),
        };
        let what = if what.is_empty() { self.path.to_string() } else { format!("{}  {what}", self.path) };
        (word(self.how), what)
    }
}

/// A unified diff in colour.
pub fn painted(diff: &str, colour: bool) -> String {
    if !colour {
        return diff.to_owned();
    }
    let paint = |line: &str| {
        let code = match line.as_bytes() {
            [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => "1",
            [b'@', ..] => "36",
            [b'+', ..] => "32",
            [b'-', ..] => "31",
            _ => return format!("{line}\n"),
        };
        format!("\x1b[{code}m{line}\x1b[0m\n")
    };
    diff.lines().map(paint).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::story::Story;
    use crate::activate::testing::Build;
    use crate::bundle::manifest::Role;

    fn build(setting: &str, configuration: &str) -> Build {
        Build::new("h")
            .file("objects/app/app.conf", configuration)
            .unit("a.service", Role::Run, &format!("[Service]\n{setting}\n"), &[])
            .unit("b.service", Role::Run, "[Service]\nConf=@rick(object:app)\n", &[])
            .image("localhost/app:1", configuration)
    }

    fn between_two(before: &Build, after: &Build) -> Difference {
        let story = Story::begin();
        story.activate(before);
        story.activate(after);
        diff(&story.state(), None, None).unwrap()
    }

    #[test]
    fn what_differs_is_told_once_and_where_it_is() {
        let before = build("Nice=1", "one\ntwo\nthree\n").unit("old.service", Role::Run, "", &[]);
        let after = build("Nice=2", "one\n2\nthree\n").file("etc/new", "x").probe("app", "/run/app");
        let (old, new) =
            [&before, &after].map(|build| build.manifest().images["localhost/app:1"].short()).into();
        let found = between_two(&before, &after);
        assert_eq!(
            found.text(false),
            format!(
                "generation 1 → 2\n\
                 units\n  changed  a.service (units/a.service: Nice)\n  changed  b.service (objects/app/app.conf)\n  \
                 gone     old.service\n\
                 images\n  changed  localhost/app:1 ({old} → {new})\n\
                 files\n  new      etc/new  +1 -0\n  changed  objects/app/app.conf  +1 -1\n  \
                 changed  units/a.service  +1 -1\n  changed  units/b.service  only the place in the store of objects/app\n  \
                 gone     units/old.service\n\
                 also\n  changed  probes\n\
                 \n--- /dev/null\n+++ etc/new (generation 2)\n@@ -0,0 +1 @@\n+x\n\\ No newline at end of file\n\
                 \n--- objects/app/app.conf (generation 1)\n+++ objects/app/app.conf (generation 2)\n\
                 @@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n\
                 \n--- units/a.service (generation 1)\n+++ units/a.service (generation 2)\n\
                 @@ -1,2 +1,2 @@\n [Service]\n-Nice=1\n+Nice=2\n"
            )
        );
        let json = serde_json::to_value(found.without_lines()).unwrap();
        assert_eq!(json["units"][0]["changed"][0]["settings"][0], "Nice");
        assert_eq!(json["files"][3]["only_places_of"][0], "app");
        assert_eq!(json["files"][1]["diff"], serde_json::Value::Null);
    }

    #[test]
    fn all_of_a_host_is_new_after_nothing() {
        let story = Story::begin();
        let error = diff(&story.state(), None, None).unwrap_err();
        assert!(error.to_string().starts_with("there is nothing to compare"), "{error}");
        story.activate(&build("", "").file("sysusers.conf", "u app\n").user("app", None));
        let text = diff(&story.state(), None, None).unwrap().without_lines().text(false);
        assert!(text.starts_with("generation 0 → 1\nunits\n  new      a.service\n"), "{text}");
        assert!(
            text.contains("\naccounts\n  new      group app\n  new      user app\nimages\n  new "),
            "{text}"
        );
        let same = diff(&story.state(), Some(1), Some(1)).unwrap();
        assert_eq!(same.text(false), "generations 1 and 1 do not differ\n");
    }

    #[test]
    fn bytes_that_are_no_text_are_not_shown() {
        let found = between_two(&build("", "a\0b"), &build("", "a\0c").program("objects/app/run", "x"));
        let told: Vec<_> = found.files.iter().map(|file| file.told().1).collect();
        let [was, is] = ["a\0b", "a\0c"].map(|text| Digest::of(text.as_bytes()).short());
        assert_eq!(
            told,
            [
                &format!("objects/app/app.conf  3 bytes ({was}) → 3 bytes ({is})"),
                "objects/app/run  +1 -0",
                "units/b.service  only the place in the store of objects/app"
            ]
        );
        assert_eq!(
            painted("--- a\n@@\n-x\n y\n", true),
            "\x1b[1m--- a\x1b[0m\n\x1b[36m@@\x1b[0m\n\x1b[31m-x\x1b[0m\n y\n"
        );
    }
}
