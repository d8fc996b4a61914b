//! Verified and realised parts → store, images, `gens/N`: all of it durable before anything refers to it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::check::object_path;
use super::generation::{self, Content, Generation, Needs};
use super::images;
use super::realise::Realised;
use super::receive::Received;
use super::state::{STATE, State};
use crate::bundle::digest::Digest;
use crate::bundle::manifest::{FileEntry, HostManifest};
use crate::bundle::names::{BundlePath, Label};
use crate::durable;

/// A generation that is written and durable in `incoming/`, and that nothing leads to yet.
#[derive(Debug)]
pub struct Staged {
    directory: PathBuf,
    objects: Vec<Digest>,
    number: u32,
}

impl Staged {
    /// Its Quadlets.
    pub fn quadlets(&self) -> PathBuf {
        self.directory.join("quadlets")
    }

    /// Where it will lie: what [`keep`] makes, and what a refusal after that takes back. Nothing of it was there before.
    pub fn places(&self, state: &State) -> Vec<PathBuf> {
        let objects = self.objects.iter().map(|digest| state.object(digest));
        objects.chain([state.generation(self.number)]).collect()
    }
}

/// What files take on most file systems: a multiple of this.
const BLOCK: u64 = 4096;

/// Writes a generation of what was received and realised, in the place of one that may be staged already.
pub fn write(state: &State, received: &Received, realised: &Realised<'_>) -> Result<Staged> {
    let number = generation::next_number(state)?;
    let directory = state.incoming().join("generation");
    durable::make_directory(&state.incoming(), 0o700)?;
    durable::remove_tree_if_there(&directory)?;
    durable::remove_tree_if_there(&staged_objects(state))?;
    let new = New::find(state, &directory, realised);
    durable::expect_room(&state.incoming().join("room"), new.size(&received.manifest, realised))?;
    make_frame(&directory)?;
    new.write(received, realised)?;
    complete(&directory, received, realised)?;
    let before = generation::current_number(state)?.unwrap_or(0);
    durable::write_new(&directory.join(generation::BEFORE), format!("{before}\n").as_bytes(), 0o644)?;
    durable::sync_filesystem(&state.incoming())?;
    let objects = new.objects.into_values().collect();
    Ok(Staged { directory, objects, number })
}

/// Gives a staged generation its number. The host does not have it yet.
pub fn keep(state: &State, received: &Received, staged: &Staged) -> Result<Generation> {
    put_in_place(state, &staged.objects)?;
    images::keep(state, &state.incoming(), &received.images, &received.blobs)?;
    ensure_empty_generation(state)?;
    let directory = state.generation(staged.number);
    durable::rename(&staged.directory, &directory)?;
    // The names of what was renamed, too, before anything leads to them.
    durable::sync_filesystem(&directory)?;
    let content = Content::new(received.digest, received.manifest.clone());
    Ok(Generation { number: staged.number, directory, content: Some(Arc::new(content)) })
}

/// What a generation adds to the host.
struct New<'a> {
    state: &'a State,
    directory: &'a Path,
    /// The configuration directories that the store does not have. Of two that hold the same, one.
    objects: BTreeMap<&'a Label, Digest>,
}

impl<'a> New<'a> {
    fn find(state: &'a State, directory: &'a Path, realised: &'a Realised<'_>) -> Self {
        let mut digests = BTreeSet::new();
        let new = realised.objects.iter().map(|(name, digest)| (name, *digest));
        let new = new.filter(|(_, digest)| !state.object(digest).is_dir() && digests.insert(*digest));
        Self { state, directory, objects: new.collect() }
    }

    /// Where a file is to be written; nowhere if the store has it.
    fn place(&self, path: &BundlePath) -> Option<PathBuf> {
        let Some((object, inside)) = object_path(path) else {
            return Some(self.directory.join(path.as_str()));
        };
        Some(staged_object(self.state, self.objects.get(&object)?).join(inside))
    }

    /// How much is to be written.
    fn size(&self, manifest: &HostManifest, realised: &Realised<'_>) -> u64 {
        let new = manifest.files.iter().filter(|(path, _)| self.place(path).is_some());
        let size = |(path, file): (&BundlePath, &FileEntry)| {
            realised.texts.get(path).map_or(file.size, |text| text.len() as u64).next_multiple_of(BLOCK)
        };
        new.map(size).sum()
    }

    fn write(&self, received: &Received, realised: &Realised<'_>) -> Result<()> {
        let manifest = &received.manifest;
        for (path, bytes) in &realised.texts {
            if let Some(place) = self.place(path) {
                make_way(&place)?;
                durable::write_new(&place, bytes, mode_of(manifest, path))?;
            }
        }
        let payload = |path: &&BundlePath| !realised.texts.contains_key(*path) && self.place(path).is_some();
        let Some(layer) =
            received.layer.as_ref().filter(|_| manifest.files.keys().any(|path| payload(&path)))
        else {
            return Ok(());
        };
        layer.write(manifest, |path| {
            let place = self.place(path);
            place.iter().try_for_each(|place| make_way(place))?;
            Ok(place)
        })
    }
}

/// What is in a generation beside files.
fn complete(staging: &Path, received: &Received, realised: &Realised<'_>) -> Result<()> {
    let manifest = &received.manifest;
    for (path, target) in &manifest.links {
        link_below(staging, path.as_str(), Path::new(target))?;
    }
    for (name, digest) in &realised.objects {
        link_below(staging, &format!("objects/{name}"), &Path::new("../../../store").join(digest.hex()))?;
    }
    let images = manifest.images.values().copied().collect();
    let needs = serde_json::to_vec(&Needs { objects: realised.objects.clone(), images })?;
    durable::write_new(&staging.join(generation::NEEDS), &needs, 0o644)?;
    write_resume(staging)?;
    if let Some((name, target, unit)) = realised.secrets.write(staging)? {
        write_wanted(staging, name, target, &unit)?;
    }
    for name in generation::FILES.iter().filter(|name| !staging.join(name).exists()) {
        durable::write_new(&staging.join(name), b"", 0o644)?;
    }
    if let Some(signer) = received.verdict.signer() {
        durable::write_new(&staging.join(generation::SIGNER), format!("{signer}\n").as_bytes(), 0o644)?;
    }
    durable::write_new(&staging.join(generation::MANIFEST), &received.config, 0o644)?;
    durable::write_new(&staging.join(generation::DIGEST), format!("{}\n", received.digest).as_bytes(), 0o644)
}

/// The unit that looks at boot for a switch that was cut short.
pub const RESUME: &str = "rick-resume.service";

/// Every generation has it, that without rick too: the way there may have been cut short.
fn write_resume(staging: &Path) -> Result<()> {
    write_wanted(staging, RESUME, "multi-user.target", &resume_unit())
}

/// A unit of rick's own that comes with a boot.
fn write_wanted(staging: &Path, name: &str, target: &str, unit: &str) -> Result<()> {
    write_below(staging, &format!("units/{name}"), unit.as_bytes(), 0o644)?;
    link_below(staging, &format!("units/{target}.wants/{name}"), &Path::new("..").join(name))
}

/// It must not hold up the boot that it waits for, hence `exec`. That it went back (3) is what it is for.
fn resume_unit() -> String {
    format!(
        "[Unit]\n\
         Description=rick: go on with a switch that was cut short\n\
         ConditionPathExists={STATE}/journal.json\n\n\
         [Service]\n\
         Type=exec\n\
         ExecStart={STATE}/bin/rick-activate resume\n\
         SuccessExitStatus=3\n\n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

/// Generation 0, and `current` leading to it where nothing is current yet: the first deploy ever can be undone.
fn ensure_empty_generation(state: &State) -> Result<()> {
    let empty = state.generation(0);
    if !empty.is_dir() {
        let staging = state.incoming().join("empty");
        make_frame(&staging)?;
        write_resume(&staging)?;
        for name in generation::FILES {
            durable::write_new(&staging.join(name), b"", 0o644)?;
        }
        durable::make_directory(&state.generations(), 0o755)?;
        durable::sync_filesystem(&staging)?;
        durable::rename(&staging, &empty)?;
    }
    match generation::current_number(state)? {
        Some(_) => Ok(()),
        None => generation::commit(state, 0),
    }
}

fn make_frame(staging: &Path) -> Result<()> {
    generation::DIRECTORIES
        .iter()
        .try_for_each(|name| durable::make_directory(&staging.join(name), 0o755).map(drop))
}

fn put_in_place(state: &State, objects: &[Digest]) -> Result<()> {
    durable::make_directory(&state.store(), 0o755)?;
    objects
        .iter()
        .try_for_each(|digest| durable::rename(&staged_object(state, digest), &state.object(digest)))
}

fn staged_object(state: &State, digest: &Digest) -> PathBuf {
    staged_objects(state).join(digest.hex())
}

fn staged_objects(state: &State) -> PathBuf {
    state.incoming().join("store")
}

fn mode_of(manifest: &HostManifest, path: &BundlePath) -> u32 {
    manifest.files.get(path).map_or(0o644, |file| file.mode)
}

fn write_below(directory: &Path, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
    durable::write_new(&place_below(directory, path)?, bytes, mode)
}

fn link_below(directory: &Path, path: &str, target: &Path) -> Result<()> {
    let place = place_below(directory, path)?;
    symlink(target, &place).with_context(|| format!("cannot create the link {}", place.display()))
}

fn place_below(directory: &Path, path: &str) -> Result<PathBuf> {
    let place = directory.join(path);
    make_way(&place)?;
    Ok(place)
}

fn make_way(place: &Path) -> Result<()> {
    match place.parent().filter(|parent| fs::metadata(parent).is_err()) {
        Some(parent) => durable::make_directory(parent, 0o755).map(drop),
        None => Ok(()),
    }
}
