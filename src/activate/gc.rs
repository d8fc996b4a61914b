//! Old generations, and all that nothing needs any more. What is garbage is decided first, from what is kept, and then removed: what
//! refers before what is referred to, so that a run that is killed leaves rests that nothing leads to, and the next run removes those.
//!
//! A generation and a configuration directory leave their place whole, by a rename into `incoming/`: nobody ever finds half of one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::Activation;
use super::applied::Applied;
use super::generation::{self, Needs};
use super::host::Host;
use super::images;
use super::journal::Journal;
use super::marks::Marks;
use super::report;
use super::state::State;
use crate::bundle::digest::Digest;
use crate::bundle::manifest::Versioned;
use crate::durable;
use crate::refusal::Refusal;

/// How many of the latest generations are kept unless somebody says otherwise.
pub const KEEP: usize = 10;

/// What nothing needs any more.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Garbage {
    /// Generations.
    pub generations: Vec<u32>,
    /// Configuration directories in the store.
    pub objects: Vec<Digest>,
    /// Tags in the container storage, all of them rick's own.
    pub tags: Vec<String>,
    /// Files of the image layout.
    pub blobs: Vec<Digest>,
    /// What all that takes, in bytes, but for the container storage.
    pub bytes: u64,
    /// The generations that are kept.
    pub kept: Vec<u32>,
    /// The images that those need.
    #[serde(skip)]
    images: BTreeSet<Digest>,
}

impl Activation<'_> {
    /// Removes what nothing needs; `keep` of the latest generations stay whatever they are.
    pub fn collect(&mut self, keep: usize) -> Result<Garbage> {
        let _claim = self.claim()?;
        let garbage = find(&self.state, self.host, keep)?;
        let verb = if self.dry_run { "would remove" } else { "remove" };
        for number in &garbage.generations {
            self.report.line(verb, &format!("generation {number}"));
        }
        for tag in &garbage.tags {
            self.report.line(verb, &format!("image {tag}"));
        }
        if !self.dry_run {
            self.sweep(&garbage)?;
        }
        if garbage.is_empty() {
            let what = format!("all of it is needed, by {} generations", garbage.kept.len());
            self.report.line("nothing to do:", &what);
        } else {
            self.report.line(if self.dry_run { "would free" } else { "done:" }, &garbage.told());
        }
        Ok(garbage)
    }

    /// The same after a switch that went well. It did, whatever becomes of this.
    pub(super) fn tidy(&mut self) {
        let swept = find(&self.state, self.host, KEEP).and_then(|garbage| {
            self.sweep(&garbage)?;
            Ok(garbage)
        });
        match swept {
            Ok(garbage) if garbage.generations.is_empty() => {}
            Ok(garbage) => self.report.line("collect", &garbage.told()),
            Err(error) => self.report.line("left", &format!("all old generations: {error:#}")),
        }
    }

    /// Removes it, first what refers, then what is referred to.
    pub(super) fn sweep(&mut self, garbage: &Garbage) -> Result<()> {
        if garbage.is_empty() {
            return Ok(());
        }
        let state = self.state.clone();
        remove_generations(&state, &garbage.generations)?;
        let mut images = garbage.images.clone();
        for tag in &garbage.tags {
            if let Err(error) = self.host.remove_image_tag(tag) {
                self.report.line("leave", &format!("image {tag}, which something uses: {error:#}"));
                images.extend(digest_of_tag(tag));
            }
        }
        images::forget_all_but(&state, &images)?;
        let needed = images::blobs(&state, &images)?;
        for blob in garbage.blobs.iter().filter(|blob| !needed.contains(blob)) {
            durable::remove_file_if_there(&state.image_blob(blob))?;
        }
        garbage.objects.iter().try_for_each(|object| remove_whole(&state, &state.object(object)))
    }
}

impl Garbage {
    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.generations.is_empty()
            && self.objects.is_empty()
            && self.tags.is_empty()
            && self.blobs.is_empty()
    }

    fn told(&self) -> String {
        let size = report::size(self.bytes);
        let (gone, kept) = (self.generations.len(), self.kept.len());
        let generations = if gone == 1 { "generation" } else { "generations" };
        format!("{gone} old {generations} and what nothing needs, {size}; {kept} are kept")
    }
}

/// What nothing needs. An error if anything that may be needed cannot be read: then nobody can tell.
pub fn find(state: &State, host: &dyn Host, keep: usize) -> Result<Garbage> {
    let Some(current) = generation::current_number(state)? else { return Ok(Garbage::default()) };
    let all = read_all(state)?;
    let mut kept = roots(state, current, keep)?;
    kept.retain(|number| all.contains_key(number));
    kept.extend(in_use(state, host, &all, &kept)?);
    let (held, gone): (Vec<_>, Vec<_>) = all.into_iter().partition(|(number, _)| kept.contains(number));
    let objects: BTreeSet<Digest> =
        held.iter().flat_map(|(_, needs)| needs.objects.values()).copied().collect();
    let images: BTreeSet<Digest> = held.iter().flat_map(|(_, needs)| &needs.images).copied().collect();
    let mut unneeded = images::listed(state)?;
    unneeded.extend(gone.iter().flat_map(|(_, needs)| &needs.images));
    unneeded.retain(|image| !images.contains(image));
    let blobs = images::blobs(state, &images)?;
    let mut garbage = Garbage {
        generations: gone.iter().map(|(number, _)| *number).collect(),
        objects: digests_in(&state.store(), &objects)?,
        tags: tags(host, &unneeded)?,
        blobs: digests_in(&state.image_blobs(), &blobs)?,
        bytes: 0,
        kept: kept.into_iter().collect(),
        images,
    };
    garbage.bytes = size(&garbage, state);
    Ok(garbage)
}

/// The generations that are kept for what is known of them.
fn roots(state: &State, current: u32, keep: usize) -> Result<BTreeSet<u32>> {
    let mut roots = BTreeSet::from([0, current]);
    // Those on the way as well: without them, it would lead elsewhere.
    roots.extend(generation::way_back(state, current)?);
    roots.extend(generation::numbers(state)?.into_iter().rev().take(keep));
    roots.extend(Journal::read(state)?.into_iter().flat_map(|journal| [journal.from, journal.to]));
    roots.extend(Marks::read(state)?.pinned());
    let applied = Applied::read(state)?;
    roots.extend(applied.units.values().filter_map(|unit| unit.generation).chain([applied.generation]));
    Ok(roots)
}

/// For each image that a running container has and that no generation in `kept` needs, the latest that does: somebody may have started
/// it by hand.
fn in_use(
    state: &State,
    host: &dyn Host,
    all: &BTreeMap<u32, Needs>,
    kept: &BTreeSet<u32>,
) -> Result<BTreeSet<u32>> {
    let is_kept = |image: &Digest| kept.iter().any(|number| all[number].images.contains(image));
    let held = all.values().flat_map(|needs| &needs.images);
    let doubtful: BTreeSet<Digest> = held.filter(|image| !is_kept(image)).copied().collect();
    if doubtful.is_empty() || !has_podman(host) {
        return Ok(BTreeSet::new());
    }
    let used = host.images_in_use()?;
    let mut numbers = BTreeSet::new();
    for image in doubtful {
        // podman knows an image by the digest of its configuration.
        let config = images::manifest(state, &image)?.map(|manifest| manifest.config.digest);
        if config.is_some_and(|config| used.contains(&config)) {
            numbers
                .extend(all.iter().rfind(|(_, held)| held.images.contains(&image)).map(|(number, _)| number));
        }
    }
    Ok(numbers)
}

/// The tags of images that no generation has any more.
fn tags(host: &dyn Host, unneeded: &BTreeSet<Digest>) -> Result<Vec<String>> {
    if unneeded.is_empty() || !has_podman(host) {
        return Ok(Vec::new());
    }
    let is_unneeded = |tag: &String| digest_of_tag(tag).is_some_and(|digest| unneeded.contains(&digest));
    Ok(host.image_tags()?.into_iter().filter(is_unneeded).collect())
}

fn has_podman(host: &dyn Host) -> bool {
    host.version(Versioned::Podman).is_some()
}

/// The image that a tag of rick's own is for: `localhost/NAME:HEX`, or `REGISTRY/REPOSITORY:HEX` of one that came in a bundle. Nobody else tags so.
fn digest_of_tag(tag: &str) -> Option<Digest> {
    let (_, hex) = tag.rsplit_once(':')?;
    Digest::from_hex(hex)
}

fn read_all(state: &State) -> Result<BTreeMap<u32, Needs>> {
    let numbers = generation::numbers(state)?;
    let read = |number| Needs::read(state, number).map(|needs| (number, needs));
    numbers.into_iter().map(read).collect::<Result<_>>().map_err(|error| {
        Refusal::new(format!("nothing is removed, for it cannot be told what is needed: {error:#}"))
            .help("look what became of that generation; if nobody needs it, remove its directory")
            .into()
    })
}

/// Those entries of a directory that are named by a digest, and not needed. What is named otherwise is not rick's.
fn digests_in(directory: &Path, needed: &BTreeSet<Digest>) -> Result<Vec<Digest>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", directory.display())),
    };
    let mut found = BTreeSet::new();
    for entry in entries {
        let name = entry.with_context(|| format!("cannot read {}", directory.display()))?.file_name();
        found.extend(name.to_str().and_then(Digest::from_hex));
    }
    Ok(found.difference(needed).copied().collect())
}

/// The numbers of those that go are never used again, and it is written down before they go.
fn remove_generations(state: &State, numbers: &[u32]) -> Result<()> {
    if numbers.is_empty() {
        return Ok(());
    }
    let before = Marks::read(state)?;
    let highest = generation::numbers(state)?.last().copied();
    let mut marks = Marks { highest: before.highest.max(highest), ..before.clone() };
    if marks != before {
        marks.write(state)?;
    }
    numbers.iter().try_for_each(|number| remove_whole(state, &state.generation(*number)))?;
    // They are gone for good before anything that they led to goes.
    durable::sync_filesystem(&state.generations())?;
    let known = marks.generations.len();
    marks.generations.retain(|number, _| !numbers.contains(number));
    if marks.generations.len() == known { Ok(()) } else { marks.write(state) }
}

/// Removes a tree that is found whole or not at all.
fn remove_whole(state: &State, tree: &Path) -> Result<()> {
    durable::make_directory(&state.incoming(), 0o700)?;
    let aside = state.incoming().join("garbage");
    durable::remove_tree_if_there(&aside)?;
    fs::rename(tree, &aside).with_context(|| format!("cannot remove {}", tree.display()))?;
    durable::remove_tree_if_there(&aside)
}

/// For the report only, so what cannot be read counts nothing.
fn size(garbage: &Garbage, state: &State) -> u64 {
    let generations = garbage.generations.iter().map(|number| state.generation(*number));
    let objects = garbage.objects.iter().map(|object| state.object(object));
    let blobs = garbage.blobs.iter().map(|blob| state.image_blob(blob));
    generations.chain(objects).chain(blobs).map(|path| size_of(&path)).sum()
}

fn size_of(path: &Path) -> u64 {
    let Ok(found) = fs::symlink_metadata(path) else { return 0 };
    let inside = || {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<PathBuf>>()
    };
    if found.is_dir() { inside().iter().map(|path| size_of(path)).sum() } else { found.len() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::activate::generation::Generation;
    use crate::activate::marks::Verdict;
    use crate::activate::story::Story;
    use crate::activate::terms::Terms;
    use crate::activate::testing::Build;
    use crate::bundle::manifest::Role;

    /// A service with its configuration, and an image, each of the given kind.
    fn build(configuration: u8, image: u8) -> Build {
        Build::new("h")
            .file("objects/app/app.conf", &format!("configuration {configuration}"))
            .unit("app.service", Role::Run, "Conf=@rick(object:app)", &[])
            .image("localhost/app:1", &format!("image {image}"))
    }

    fn collect(story: &Story, keep: usize) -> Garbage {
        story.on_stage(false, Terms::default(), |run| run.collect(keep)).unwrap()
    }

    fn pin(story: &Story, number: Option<u32>, pinned: bool) {
        story.on_stage(false, Terms::default(), |run| run.pin(number, pinned)).unwrap();
    }

    fn with_podman() -> Story {
        let mut story = Story::begin();
        story.host.versions.insert(Versioned::Podman, (5, 4));
        story
    }

    /// Every generation has all that it leads to, and nothing else is there.
    #[track_caller]
    fn all_is_there_and_no_more(state: &State) {
        let (mut objects, mut images) = (BTreeSet::new(), BTreeSet::new());
        for number in generation::numbers(state).unwrap() {
            let generation = Generation::read(state, number).unwrap();
            generation.desired().unwrap();
            for path in generation.manifest().iter().flat_map(|manifest| manifest.files.keys()) {
                assert!(generation.directory.join(path.as_str()).is_file(), "{number}: {path}");
            }
            objects.extend(generation.objects().unwrap().into_values());
            images.extend(generation.manifest().iter().flat_map(|manifest| manifest.images.values()));
        }
        let all_in = |directory: &Path| digests_in(directory, &BTreeSet::new()).unwrap();
        assert_eq!(all_in(&state.store()), objects.into_iter().collect::<Vec<_>>());
        assert_eq!(images::listed(state).unwrap(), images);
        let blobs = images::blobs(state, &images).unwrap();
        assert_eq!(all_in(&state.image_blobs()), blobs.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn every_kept_generation_can_be_gone_back_to() {
        let story = with_podman();
        for kind in 1..=14 {
            story.activate(&build(kind, kind / 2));
        }
        // Each switch collects.
        assert_eq!(
            generation::numbers(&story.state()).unwrap(),
            [[0].as_slice(), &(5..=14).collect::<Vec<_>>()].concat()
        );
        all_is_there_and_no_more(&story.state());
        pin(&story, Some(6), true);
        let garbage = collect(&story, 3);
        assert_eq!((garbage.generations, garbage.kept), (vec![5, 7, 8, 9, 10, 11], vec![0, 6, 12, 13, 14]));
        all_is_there_and_no_more(&story.state());
        assert_eq!(story.host.loaded.lock().unwrap().len(), 3, "those of 6, of 12 and 13, and of 14");
        for number in [6, 12, 13, 14, 0, 6] {
            assert_eq!(story.roll_back(Some(number)).generation, number);
            if number != 0 {
                assert_eq!(story.current("objects/app/app.conf"), format!("configuration {number}"));
            }
        }
        assert!(collect(&story, 3).is_empty(), "a second time there is nothing to do");
        pin(&story, None, false);
        story.roll_back(Some(14));
        assert_eq!(collect(&story, 0).kept, [0, 13, 14]);
        all_is_there_and_no_more(&story.state());
    }

    #[test]
    fn a_number_is_not_used_again_though_its_generation_is_gone() {
        let story = Story::begin();
        for kind in 1..=3 {
            story.activate(&build(kind, 1));
        }
        story.roll_back(Some(1));
        assert_eq!(collect(&story, 0).generations, [2, 3]);
        assert_eq!(story.activate(&build(4, 1)).generation, 4);
        assert!(Marks::read(&story.state()).unwrap().generations.into_keys().eq([1, 4]));
    }

    #[test]
    fn the_way_back_leads_where_it_led() {
        let story = Story::begin();
        for kind in 1..=4 {
            story.activate(&build(kind, 1));
        }
        // 4 was made after 3, which was not well, and 3 after 1: the host had left 2.
        for number in [2, 3] {
            Marks::judge(&story.state(), number, Verdict::Bad { why: String::new() }, None).unwrap();
        }
        fs::write(story.state().generation(3).join(generation::BEFORE), "1").unwrap();
        assert_eq!(collect(&story, 0).kept, [0, 1, 3, 4]);
        assert_eq!(story.roll_back(None).generation, 1);
    }

    #[test]
    fn nothing_is_removed_if_anything_cannot_be_read() {
        let story = with_podman();
        for kind in 1..=4 {
            story.activate(&build(kind, kind));
        }
        let (state, refuse) = (story.state(), |story: &Story| {
            let before = story.tree();
            let error = story.on_stage(false, Terms::default(), |run| run.collect(0)).unwrap_err();
            assert!(error.to_string().starts_with("nothing is removed, for it cannot be told"), "{error:#}");
            assert_eq!(story.tree(), before);
        });
        let needs = state.generation(1).join(generation::NEEDS);
        let whole = fs::read(&needs).unwrap();
        for damaged in ["{", "{}", r#"{"objects":{"app":"sha256:0"},"images":[]}"#] {
            fs::write(&needs, damaged).unwrap();
            refuse(&story);
        }
        fs::write(&needs, whole).unwrap();
        // An older activator wrote no list: then the links say it.
        fs::remove_file(state.generation(2).join(generation::NEEDS)).unwrap();
        let known = find(&state, &story.host, 0).unwrap();
        fs::remove_file(state.generation(2).join("objects/app")).unwrap();
        refuse(&story);
        assert_eq!(known.generations, [1, 2]);
        // A switch is a switch, though nothing is collected after it.
        assert_eq!(story.activate(&build(5, 5)).generation, 5);
    }

    #[test]
    fn what_a_running_container_has_stays_with_a_generation_that_has_it() {
        let mut story = with_podman();
        for kind in 1..=5 {
            story.activate(&build(kind, kind.min(3)));
        }
        let image =
            *Generation::read(&story.state(), 2).unwrap().manifest().unwrap().images.values().next().unwrap();
        story
            .host
            .containers
            .insert(images::manifest(&story.state(), &image).unwrap().unwrap().config.digest);
        assert_eq!(collect(&story, 0).kept, [0, 2, 4, 5]);
        story.host.containers.clear();
        assert_eq!(collect(&story, 0).kept, [0, 4, 5]);
    }

    #[test]
    fn an_image_that_something_uses_stays_until_nothing_does() {
        let mut story = with_podman();
        for kind in 1..=3 {
            story.activate(&build(kind, kind));
        }
        story.host.held = story.host.loaded.lock().unwrap().clone();
        assert_eq!(collect(&story, 0).tags.len(), 1);
        assert_eq!(images::listed(&story.state()).unwrap().len(), 3);
        story.host.held.clear();
        assert_eq!(collect(&story, 0).tags.len(), 1);
        assert_eq!(story.host.loaded.lock().unwrap().len(), 2);
        all_is_there_and_no_more(&story.state());
    }

    #[test]
    fn a_dry_run_removes_nothing() {
        let story = with_podman();
        for kind in 1..=4 {
            story.activate(&build(kind, kind));
        }
        let before = story.tree();
        let garbage = story.on_stage(true, Terms::default(), |run| run.collect(0)).unwrap();
        assert_eq!(
            (garbage.generations.as_slice(), garbage.objects.len(), garbage.tags.len()),
            (&[1, 2][..], 2, 2)
        );
        assert!(garbage.bytes > 1000);
        assert_eq!(story.tree(), before);
    }

    #[test]
    fn only_tags_of_ricks_own_are_for_an_image() {
        let digest = Digest::of(b"image");
        for registry in ["localhost", "localhost:5000", "docker.io/library"] {
            assert_eq!(digest_of_tag(&format!("{registry}/a:{}", digest.hex())), Some(digest));
        }
        for other in ["localhost/a:1", "docker.io/a:latest", "<none>:<none>"] {
            assert_eq!(digest_of_tag(other), None, "{other}");
        }
    }

    #[derive(Clone, Debug)]
    enum Deed {
        Activate(u8, u8),
        RollBack(prop::sample::Index),
        Pin(prop::sample::Index, bool),
        Collect(usize),
    }

    fn deed() -> impl Strategy<Value = Deed> {
        prop_oneof![
            4 => (0..6u8, 0..3u8).prop_map(|(configuration, image)| Deed::Activate(configuration, image)),
            2 => any::<prop::sample::Index>().prop_map(Deed::RollBack),
            1 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(at, pinned)| Deed::Pin(at, pinned)),
            2 => (0..4usize).prop_map(Deed::Collect),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn whatever_happens_all_that_is_kept_is_whole(deeds in prop::collection::vec(deed(), 1..14)) {
            let story = with_podman();
            story.activate(&build(0, 0));
            let mut highest = 1;
            for deed in deeds {
                let state = story.state();
                let numbers = generation::numbers(&state).unwrap();
                match deed {
                    Deed::Activate(configuration, image) => {
                        let outcome = story.activate(&build(configuration, image));
                        prop_assert!(outcome.generation > highest || !outcome.changed);
                        highest = highest.max(outcome.generation);
                        prop_assert_eq!(
                            story.current("objects/app/app.conf"),
                            format!("configuration {configuration}")
                        );
                    }
                    Deed::RollBack(at) => {
                        let number = numbers[at.index(numbers.len())];
                        prop_assert_eq!(story.roll_back(Some(number)).generation, number);
                    }
                    Deed::Pin(at, pinned) => pin(&story, Some(numbers[at.index(numbers.len())]), pinned),
                    Deed::Collect(keep) => {
                        let back = generation::to_go_back_to(&state, None).map(|back| back.number).ok();
                        let pinned: Vec<u32> = Marks::read(&state).unwrap().pinned().collect();
                        let garbage = collect(&story, keep);
                        prop_assert_eq!(generation::numbers(&state).unwrap(), garbage.kept.clone());
                        all_is_there_and_no_more(&state);
                        prop_assert!(pinned.iter().all(|number| garbage.kept.contains(number)));
                        prop_assert_eq!(generation::to_go_back_to(&state, None).map(|back| back.number).ok(), back);
                    }
                }
            }
        }
    }
}
