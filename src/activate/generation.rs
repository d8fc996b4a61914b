//! Numbered generations, and the one link that says which of them the host has.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::check::objects_of;
use super::desired::Desired;
use super::marks::Marks;
use super::state::State;
use crate::bundle::digest::Digest;
use crate::bundle::manifest::{HostManifest, Probe};
use crate::bundle::names::{BundlePath, Label};
use crate::durable;
use crate::refusal::{Refusal, refuse};

/// The manifest of a generation, inside it.
pub const MANIFEST: &str = "manifest.json";
/// The digest of the build that a generation came from, inside it.
pub const DIGEST: &str = "digest";
/// What it needs beside itself, inside it: [`Needs`]. To remove what nothing needs takes no more than this of each generation.
pub const NEEDS: &str = "needs.json";
/// The number of the generation that the host had when this one was made, inside it.
pub const BEFORE: &str = "before";
/// Who signed it, inside it. Not there if nobody did whom the host trusts.
pub const SIGNER: &str = "signer";
/// The directories that every generation has, so that no anchor ever leads nowhere.
pub const DIRECTORIES: [&str; 4] = ["units", "quadlets", "etc", "objects"];
/// The files that every generation has, for the same reason.
pub const FILES: [&str; 2] = ["sysusers.conf", "tmpfiles.conf"];

/// A generation that lies on this host. Clones share what was read.
#[derive(Clone, Debug)]
pub struct Generation {
    /// Its number.
    pub number: u32,
    /// Where it lies.
    pub directory: PathBuf,
    /// What it came from; nothing for generation 0.
    pub content: Option<Arc<Content>>,
}

/// What a generation came from.
#[derive(Debug)]
pub struct Content {
    /// The digest of the build.
    pub digest: Digest,
    /// What the build said about this host.
    pub manifest: Arc<HostManifest>,
    desired: OnceLock<Desired>,
    needs: OnceLock<Needs>,
}

/// What a generation needs beside itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// Its configuration directories by name: where in the store each lies.
    pub objects: BTreeMap<Label, Digest>,
    /// The manifests of its images.
    pub images: BTreeSet<Digest>,
}

impl Needs {
    /// Those of generation `number`.
    pub fn read(state: &State, number: u32) -> Result<Self> {
        if number == 0 { Ok(Self::default()) } else { Self::of(&state.generation(number), number) }
    }

    fn of(directory: &Path, number: u32) -> Result<Self> {
        match durable::read_if_there(&directory.join(NEEDS))? {
            Some(bytes) => serde_json::from_slice(&bytes)
                .map_err(|why| damaged(number, &format!("{NEEDS}: {why}")).into()),
            None => Self::gathered(directory, number),
        }
    }

    /// Those of a generation that is older than the list.
    fn gathered(directory: &Path, number: u32) -> Result<Self> {
        let manifest = read_content(directory, number)?.manifest;
        let digest = |name: Label| {
            let link = directory.join("objects").join(name.as_str());
            let target = durable::read_link_if_there(&link)?;
            let hex = target.as_deref().and_then(Path::file_name).and_then(OsStr::to_str);
            let astray = || damaged(number, &format!("{} does not lead into the store", link.display()));
            Ok((name, hex.and_then(Digest::from_hex).ok_or_else(astray)?))
        };
        let objects = objects_of(&manifest).into_keys().map(digest).collect::<Result<_>>()?;
        Ok(Self { objects, images: manifest.images.values().copied().collect() })
    }
}

impl Content {
    /// The build `digest`, which said `manifest`.
    pub fn new(digest: Digest, manifest: HostManifest) -> Self {
        let manifest = Arc::new(manifest);
        Self { digest, manifest, desired: OnceLock::new(), needs: OnceLock::new() }
    }
}

/// The generations that a run looked at. None ever changes, so that each is read once.
#[derive(Debug, Default)]
pub struct Known(RefCell<BTreeMap<u32, Generation>>);

impl Known {
    /// Generation `number`.
    pub fn get(&self, state: &State, number: u32) -> Result<Generation> {
        if let Some(known) = self.0.borrow().get(&number) {
            return Ok(known.clone());
        }
        let generation = Generation::read(state, number)?;
        self.0.borrow_mut().insert(number, generation.clone());
        Ok(generation)
    }

    /// The generation that the host has; `None` on a host that rick never touched.
    pub fn current(&self, state: &State) -> Result<Option<Generation>> {
        current_number(state)?.map(|number| self.get(state, number)).transpose()
    }
}

impl Generation {
    /// Reads generation `number`.
    pub fn read(state: &State, number: u32) -> Result<Self> {
        let directory = state.generation(number);
        if !directory.is_dir() {
            return Err(Refusal::new(format!("there is no generation {number} on this host"))
                .help("`rick-activate list` shows those that there are")
                .into());
        }
        let content = if number == 0 { None } else { Some(Arc::new(read_content(&directory, number)?)) };
        Ok(Self { number, directory, content })
    }

    /// The generation that the host has; `None` on a host that rick never touched.
    pub fn current(state: &State) -> Result<Option<Self>> {
        current_number(state)?.map(|number| Self::read(state, number)).transpose()
    }

    /// What the host manifest says; nothing for generation 0.
    pub fn manifest(&self) -> Option<&HostManifest> {
        self.content.as_ref().map(|content| content.manifest.as_ref())
    }

    /// The digest of the build; nothing for generation 0.
    pub fn digest(&self) -> Option<Digest> {
        self.content.as_ref().map(|content| content.digest)
    }

    /// Who signed it, if somebody did whom the host trusted when it came.
    pub fn signer(&self) -> Option<String> {
        fs::read_to_string(self.directory.join(SIGNER)).ok().map(|signer| signer.trim_end().to_owned())
    }

    /// The units that it wants, with the keys of what they read.
    pub fn desired(&self) -> Result<Desired> {
        let Some(content) = &self.content else { return Ok(Desired::default()) };
        if let Some(known) = content.desired.get() {
            return Ok(known.clone());
        }
        let desired = Desired::of(&content.manifest, |path| self.file(path))?;
        Ok(content.desired.get_or_init(|| desired).clone())
    }

    /// What must answer when it is well.
    pub fn probes(&self) -> &[Probe] {
        self.manifest().map_or(&[], |manifest| &manifest.probes)
    }

    /// When it came to be.
    pub fn made(&self) -> Option<SystemTime> {
        fs::metadata(&self.directory).and_then(|found| found.modified()).ok()
    }

    /// Its configuration directories by name: where in the store each lies.
    pub fn objects(&self) -> Result<BTreeMap<Label, Digest>> {
        let Some(content) = &self.content else { return Ok(BTreeMap::new()) };
        if let Some(known) = content.needs.get() {
            return Ok(known.objects.clone());
        }
        let needs = Needs::of(&self.directory, self.number)?;
        Ok(content.needs.get_or_init(|| needs).objects.clone())
    }

    /// The digest of a file of it: what the build says, or what lies there.
    pub fn digest_of(&self, path: &BundlePath) -> Result<Digest> {
        let said = self.manifest().and_then(|manifest| manifest.files.get(path)).and_then(|file| file.digest);
        if let Some(digest) = said {
            return Ok(digest);
        }
        let place = self.directory.join(path.as_str());
        let digest = File::open(&place).and_then(|mut file| Digest::of_all(&mut file));
        digest.with_context(|| self.cannot_read(&place))
    }

    /// The bytes of a file of it.
    pub fn file(&self, path: &BundlePath) -> Result<Vec<u8>> {
        let path = self.directory.join(path.as_str());
        fs::read(&path).with_context(|| self.cannot_read(&path))
    }

    fn cannot_read(&self, path: &Path) -> String {
        format!("generation {} is damaged: cannot read {}", self.number, path.display())
    }
}

/// The numbers of all generations, ascending.
pub fn numbers(state: &State) -> Result<Vec<u32>> {
    let path = state.generations();
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("cannot read {}", path.display()))?.file_name();
        numbers.extend(name.to_str().and_then(|name| name.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The number that a new generation gets: higher than any there is or was.
pub fn next_number(state: &State) -> Result<u32> {
    let there = numbers(state)?.last().copied();
    Ok(there.max(Marks::read(state)?.highest).map_or(1, |highest| highest + 1))
}

/// The number of the generation that the host has.
pub fn current_number(state: &State) -> Result<Option<u32>> {
    let Some(target) = durable::read_link_if_there(&state.current())? else { return Ok(None) };
    match target.strip_prefix("gens").ok().and_then(Path::to_str).and_then(|number| number.parse().ok()) {
        Some(number) => Ok(Some(number)),
        None => {
            refuse!("{} leads to {}, which is no generation", state.current().display(), target.display())
        }
    }
}

/// The build that generation `number` came from, as far as that can be read.
pub fn build_of(state: &State, number: u32) -> Option<Digest> {
    let text = fs::read_to_string(state.generation(number).join(DIGEST)).ok()?;
    text.trim().parse().ok()
}

/// The generation to go back to: the one asked for, or the one that the host had before the current one was made. That is not always
/// the next lower number: the host may have gone back from that one, or never have had it.
pub fn to_go_back_to(state: &State, asked: Option<u32>) -> Result<Generation> {
    let Some(current) = current_number(state)? else {
        refuse!("there is nothing to go back to: rick never activated anything on this host");
    };
    match asked.map_or_else(|| before(state, current), |asked| Ok(Some(asked)))? {
        Some(number) => Generation::read(state, number),
        None => refuse!("there is nothing before generation {current} to go back to"),
    }
}

/// The generation to go back to from generation `number`.
fn before(state: &State, number: u32) -> Result<Option<u32>> {
    let marks = Marks::read(state)?;
    Ok(way_back(state, number)?.pop().filter(|before| !marks.is_bad(*before)))
}

/// What the host had before generation `number`, and what it had before that as long as it was not well with it.
pub fn way_back(state: &State, number: u32) -> Result<Vec<u32>> {
    let marks = Marks::read(state)?;
    let all = numbers(state)?;
    let mut way = Vec::new();
    let mut number = number;
    loop {
        // Always a lower number, so that this ends.
        let said = made_after(state, number)?.filter(|before| *before < number && all.contains(before));
        let nearest = || all.iter().copied().rfind(|other| *other < number);
        let Some(before) = said.or_else(nearest) else { return Ok(way) };
        way.push(before);
        if !marks.is_bad(before) {
            return Ok(way);
        }
        number = before;
    }
}

/// The generation that the host had when generation `number` was made, which may be gone.
pub fn made_after(state: &State, number: u32) -> Result<Option<u32>> {
    let text = durable::read_if_there(&state.generation(number).join(BEFORE))?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&text).trim().parse().ok())
}

/// **The commit**: from this rename on the host has generation `number`, and before it the old one.
pub fn commit(state: &State, number: u32) -> Result<()> {
    durable::replace_link(&state.current(), &Path::new("gens").join(number.to_string()))
}

fn read_content(directory: &Path, number: u32) -> Result<Content> {
    let read = |name| read_file(directory, number, name);
    let damaged = |why: String| damaged(number, &why);
    let manifest = HostManifest::parse(&read(MANIFEST)?).map_err(damaged)?;
    let digest = String::from_utf8_lossy(&read(DIGEST)?).trim().parse().map_err(damaged)?;
    Ok(Content::new(digest, manifest))
}

fn read_file(directory: &Path, number: u32, name: &str) -> Result<Vec<u8>> {
    let path = directory.join(name);
    fs::read(&path).with_context(|| format!("generation {number} is damaged: cannot read {}", path.display()))
}

fn damaged(number: u32, why: &str) -> Refusal {
    Refusal::new(format!("generation {number} is damaged: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn going_back_leads_to_what_the_host_had_before() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::new(dir.path());
        assert!(to_go_back_to(&state, None).unwrap_err().to_string().contains("never activated"));
        fs::create_dir_all(state.generation(0)).unwrap();
        commit(&state, 0).unwrap();
        assert!(to_go_back_to(&state, None).unwrap_err().to_string().contains("nothing before generation 0"));
        // Going to where one is brings back what stopped running.
        assert_eq!(to_go_back_to(&state, Some(0)).unwrap().number, 0);
        fs::create_dir_all(state.generation(7)).unwrap();
        commit(&state, 7).unwrap();
        assert_eq!(to_go_back_to(&state, None).unwrap().number, 0);
        fs::create_dir_all(state.generation(4)).unwrap();
        fs::write(state.generation(7).join(BEFORE), "0\n").unwrap();
        assert_eq!(to_go_back_to(&state, None).unwrap().number, 0, "the host never had 4, or left it");
        assert!(to_go_back_to(&state, Some(3)).unwrap_err().to_string().contains("no generation 3"));
    }
}
