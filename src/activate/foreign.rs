//! Definitions of others that would hide a unit of ours, or be hidden by one. They are never overwritten: those that say the same can be
//! adopted, and everything else is refused.
//!
//! systemd takes the first definition of a name that it finds: /etc, /run, what generators made, then /usr/local/lib, where rick's are, then
//! /usr/lib, where the distribution's are. Of two Quadlets that make the same unit, podman's generator writes one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::state::State;
use crate::bundle::manifest::{HostManifest, Role, UnitEntry};
use crate::bundle::names::{BundlePath, UnitName};
use crate::durable;
use crate::refusal::Refusal;

/// Where systemd finds a definition before it finds rick's.
const BEFORE_OURS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/etc/systemd/system.attached", "/run/systemd/transient"];
/// Where it finds one after rick's.
const AFTER_OURS: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// Where podman finds Quadlets.
const QUADLETS: [&str; 3] =
    ["/etc/containers/systemd", "/run/containers/systemd", "/usr/share/containers/systemd"];
/// The first version of manifests that says which units replace one of the distribution.
const SAYS_REPLACES: u32 = 3;

/// A definition of somebody else that cannot stand beside one of a generation.
#[derive(Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Where it lies on the host.
    pub place: String,
    /// The unit.
    pub unit: UnitName,
    /// What is wrong with that.
    pub conflict: Conflict,
}

/// What is wrong with two definitions of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conflict {
    /// It says the same as ours, and hides it: it can be adopted.
    Same,
    /// It hides ours.
    Hides,
    /// It hides ours on purpose: a link to /dev/null.
    Masks,
    /// It is a Quadlet that makes the same unit.
    Twin,
    /// Ours hides it, and nobody said that it should.
    Hidden,
}

impl Foreign {
    fn refusal(&self) -> Refusal {
        let Self { place, unit, .. } = self;
        match self.conflict {
            Conflict::Same => {
                Refusal::new(format!("`{place}` is in the way: it would hide `{unit}` of this generation"))
                    .help("it says the same: `--adopt` takes it over, and puts it back when the unit leaves")
            }
            Conflict::Hides => {
                Refusal::new(format!("`{place}` is in the way: it would hide `{unit}` of this generation"))
                    .help(
                        "look what it is for, and move it away: rick does not overwrite what is not its own",
                    )
            }
            Conflict::Masks => Refusal::new(format!("`{unit}` is masked on this host, by `{place}`"))
                .help(format!("`systemctl unmask {unit}`, or leave it out of the environment")),
            Conflict::Twin => Refusal::new(format!(
                "`{place}` makes `{unit}` as well, which this generation has"
            ))
            .help("look what it is for, and move it away: rick does not overwrite what is not its own"),
            Conflict::Hidden => Refusal::new(format!(
                "`{unit}` of this generation would hide that of the distribution, `{place}`"
            ))
            .help("give it another name, or say `replaces = True` in its module if that is meant"),
        }
    }
}

/// What of others can be adopted.
pub fn adoptable(
    state: &State,
    manifest: &HostManifest,
    read: impl Fn(&BundlePath) -> Option<Vec<u8>>,
) -> Result<Vec<Foreign>> {
    let mut found = find(state, manifest, read)?;
    found.retain(|foreign| foreign.conflict == Conflict::Same);
    Ok(found)
}

/// Refuses if something of others is in the way, but for what can be adopted if `adopt`.
pub fn check(
    state: &State,
    manifest: &HostManifest,
    read: impl Fn(&BundlePath) -> Option<Vec<u8>>,
    adopt: bool,
) -> Result<()> {
    let found = find(state, manifest, read)?;
    let refused = found.iter().filter(|foreign| !adopt || foreign.conflict != Conflict::Same);
    Refusal::all(refused.map(Foreign::refusal).collect()).map_err(anyhow::Error::new)
}

/// All that is in the way.
fn find(
    state: &State,
    manifest: &HostManifest,
    read: impl Fn(&BundlePath) -> Option<Vec<u8>>,
) -> Result<Vec<Foreign>> {
    let twins = quadlets_of_others(state)?;
    let (before, after) = (Listed::of(state, &BEFORE_OURS)?, Listed::of(state, &AFTER_OURS)?);
    let mut found = Vec::new();
    for unit in manifest.units.iter().filter(|unit| unit.role != Role::Mask) {
        let Some(definition) = definition_of(unit) else { continue };
        let foreign = |place: String, conflict| Foreign { place, unit: unit.name.clone(), conflict };
        for place in before.places(&unit.name) {
            match hides(&state.on_host(&place), read(definition).as_deref())? {
                // What is in /run is gone with the next boot anyway.
                Some(Conflict::Same) if !place.starts_with("/etc/") => {
                    found.push(foreign(place, Conflict::Hides));
                }
                Some(conflict) => found.push(foreign(place, conflict)),
                None => {}
            }
        }
        let twins = twins.get(unit.name.as_str()).into_iter().flatten();
        for twin in twins {
            let same =
                twin.starts_with("/etc/") && state_says_same(state, twin, read(definition).as_deref())?;
            found.push(foreign(twin.clone(), if same { Conflict::Same } else { Conflict::Twin }));
        }
        let hidden = after.places(&unit.name).find(|place| state.on_host(place).exists());
        if manifest.format >= SAYS_REPLACES && !unit.replaces {
            found.extend(hidden.map(|place| foreign(place, Conflict::Hidden)));
        }
    }
    Ok(found)
}

/// What some directories hold. Each is listed once: to ask for each unit in each of them takes longer than all the rest here.
struct Listed(Vec<(&'static str, BTreeSet<OsString>)>);

impl Listed {
    fn of(state: &State, directories: &[&'static str]) -> Result<Self> {
        let list = |directory: &&'static str| {
            let names = match fs::read_dir(state.on_host(directory)) {
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
                {
                    Ok(BTreeSet::new())
                }
                entries => entries.and_then(|all| all.map(|entry| Ok(entry?.file_name())).collect()),
            };
            Ok((*directory, names.with_context(|| format!("cannot read {directory}"))?))
        };
        directories.iter().map(list).collect::<Result<_>>().map(Self)
    }

    /// Where in them something has the name of a unit.
    fn places(&self, unit: &UnitName) -> impl Iterator<Item = String> {
        let there = self.0.iter().filter(|(_, names)| names.contains(OsStr::new(unit.as_str())));
        there.map(move |(directory, _)| format!("{directory}/{unit}"))
    }
}

/// The file that defines a unit: not that of a drop-in for a unit of the distribution, which defines nothing.
fn definition_of(unit: &UnitEntry) -> Option<&BundlePath> {
    unit.restart_on.iter().find(|path| {
        let path = path.as_str();
        path.strip_prefix("units/").or(path.strip_prefix("quadlets/")).is_some_and(|name| !name.contains('/'))
    })
}

/// What a file that stands before `ours` does to it.
fn hides(place: &Path, ours: Option<&[u8]>) -> Result<Option<Conflict>> {
    let Ok(found) = fs::symlink_metadata(place) else { return Ok(None) };
    if found.is_symlink() {
        let to = fs::read_link(place).with_context(|| format!("cannot read {}", place.display()))?;
        return Ok(Some(if to == Path::new("/dev/null") { Conflict::Masks } else { Conflict::Hides }));
    }
    let theirs = fs::read(place).with_context(|| format!("cannot read {}", place.display()))?;
    Ok(Some(if says_the_same(&theirs, ours) { Conflict::Same } else { Conflict::Hides }))
}

fn state_says_same(state: &State, place: &str, ours: Option<&[u8]>) -> Result<bool> {
    let path = state.on_host(place);
    let theirs = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(says_the_same(&theirs, ours))
}

/// Comments, empty lines and spaces around do not count.
fn says_the_same(theirs: &[u8], ours: Option<&[u8]>) -> bool {
    fn lines(text: &[u8]) -> Vec<(&[u8], &[u8])> {
        let lines = text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii);
        let counts = |line: &&[u8]| !line.is_empty() && !line.starts_with(b"#") && !line.starts_with(b";");
        let halves = |line: &'_ [u8]| line.iter().position(|&byte| byte == b'=');
        lines
            .filter(counts)
            .map(|line| match halves(line) {
                Some(at) => (line[..at].trim_ascii_end(), line[at + 1..].trim_ascii_start()),
                None => (line, b"".as_slice()),
            })
            .collect()
    }
    ours.is_some_and(|ours| lines(ours) == lines(theirs))
}

/// The units that Quadlets of others make → where those lie.
fn quadlets_of_others(state: &State) -> Result<BTreeMap<String, Vec<String>>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for directory in QUADLETS {
        let mut files = Vec::new();
        list_files(&state.on_host(directory), &mut files)?;
        for file in files {
            let text = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            let place = Path::new("/").join(file.strip_prefix(state.root()).unwrap_or(&file));
            if let Some(unit) = unit_of_quadlet(&file, &String::from_utf8_lossy(&text)) {
                found.entry(unit).or_default().push(place.display().to_string());
            }
        }
    }
    Ok(found)
}

/// All files below a directory, sorted. Links are left alone: rick's own directory is one.
fn list_files(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(entries) = fs::read_dir(directory) else { return Ok(()) };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.with_context(|| format!("cannot read {}", directory.display()))?.path());
    }
    paths.sort();
    for path in paths {
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => list_files(&path, files)?,
            Ok(found) if found.is_file() => files.push(path),
            _ => {}
        }
    }
    Ok(())
}

/// The unit that podman makes of a Quadlet.
fn unit_of_quadlet(file: &Path, text: &str) -> Option<String> {
    let (stem, kind) = (file.file_stem()?.to_str()?, file.extension()?.to_str()?);
    let suffix = match kind {
        "container" | "kube" => "",
        "network" | "volume" | "pod" | "image" | "build" => kind,
        _ => return None,
    };
    let named = text.lines().filter_map(|line| line.trim().split_once('='));
    let named = named
        .filter(|(key, _)| key.trim() == "ServiceName")
        .map(|(_, name)| name.trim().to_owned())
        .next_back();
    let usual = || if suffix.is_empty() { stem.to_owned() } else { format!("{stem}-{suffix}") };
    Some(named.filter(|name| !name.is_empty()).unwrap_or_else(usual) + ".service")
}

/// Brings what was adopted in line with a generation: what `take` names goes from its place into rick's keeping, and what is kept of units
/// that the generation does not have goes back to its place. Called right after the commit, before systemd reads anything: until then what
/// was adopted says what ours says.
pub fn keep(state: &State, take: &[Foreign], manifest: Option<&HostManifest>) -> Result<()> {
    for foreign in take {
        let (from, to) = (state.on_host(&foreign.place), adopted(state, &foreign.place));
        if let Some(above) = to.parent().filter(|_| from.is_file()) {
            durable::make_directory(above, 0o755)?.iter().try_for_each(|new| durable::sync_name(new))?;
            durable::rename(&from, &to)?;
            durable::sync_name(&from)?;
        }
    }
    let mut kept = Vec::new();
    list_files(&state.adopted(), &mut kept)?;
    for file in kept {
        let place = state.root().join(file.strip_prefix(state.adopted()).unwrap_or(&file));
        let unit = match place.extension().and_then(|kind| kind.to_str()) {
            Some(kind) if crate::bundle::names::UNIT_TYPES.contains(&kind) => {
                place.file_name().map(|name| name.to_string_lossy().into_owned())
            }
            _ => unit_of_quadlet(&place, &String::from_utf8_lossy(&fs::read(&file).unwrap_or_default())),
        };
        let has = |unit: &str| {
            manifest.is_some_and(|manifest| manifest.units.iter().any(|entry| entry.name.as_str() == unit))
        };
        if unit.is_some_and(|unit| !has(&unit)) && !place.exists() {
            durable::rename(&file, &place)?;
            durable::sync_name(&file)?;
        }
    }
    Ok(())
}

/// Where rick keeps what it took from a place.
fn adopted(state: &State, place: &str) -> PathBuf {
    state.adopted().join(place.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::testing::Build;

    const UNIT: &str = "[Unit]\nDescription=A\n[Service]\nExecStart=/bin/a\n";

    struct Scene {
        dir: tempfile::TempDir,
    }

    fn build() -> Build {
        Build::new("h").unit("a.service", Role::Run, UNIT, &[]).drop_in("b.service", "x", "")
    }

    impl Scene {
        fn with(files: &[(&str, &str)]) -> Self {
            let scene = Self { dir: tempfile::tempdir().unwrap() };
            for (path, text) in files {
                let path = scene.state().on_host(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            scene
        }

        fn state(&self) -> State {
            State::new(self.dir.path())
        }

        fn check(&self, adopt: bool) -> Result<(), String> {
            let (manifest, files) = (build().manifest(), build().texts());
            let checked = check(&self.state(), &manifest, |path| files.get(path).cloned(), adopt);
            checked.map_err(|error| error.to_string())
        }
    }

    #[test]
    fn what_would_hide_a_unit_or_be_hidden_is_refused() {
        for (place, said) in [
            (
                "/etc/systemd/system/a.service",
                "`/etc/systemd/system/a.service` is in the way: it would hide `a.service` of this generation",
            ),
            (
                "/run/systemd/system/a.service",
                "`/run/systemd/system/a.service` is in the way: it would hide `a.service` of this generation",
            ),
            (
                "/etc/containers/systemd/sub/a.container",
                "`/etc/containers/systemd/sub/a.container` makes `a.service` as well, which this generation has",
            ),
            (
                "/usr/lib/systemd/system/a.service",
                "`a.service` of this generation would hide that of the distribution, `/usr/lib/systemd/system/a.service`",
            ),
        ] {
            assert_eq!(Scene::with(&[(place, "[Service]\n")]).check(true).unwrap_err(), said);
        }
        let masked = Scene::with(&[("/etc/systemd/system/x", "")]);
        std::os::unix::fs::symlink("/dev/null", masked.state().on_host("/etc/systemd/system/a.service"))
            .unwrap();
        assert!(masked.check(true).unwrap_err().starts_with("`a.service` is masked on this host"));
        let others = [
            ("/etc/systemd/system/a.service.d/mine.conf", ""),
            ("/etc/systemd/system/b.service", ""),
            ("/usr/lib/systemd/system/b.service", ""),
            ("/etc/containers/systemd/a.volume", ""),
            ("/etc/containers/systemd/b.container", "[Service]\nServiceName=c\n"),
        ];
        assert_eq!(Scene::with(&others).check(false), Ok(()));
    }

    #[test]
    fn what_says_the_same_is_adopted_and_given_back() {
        let place = "/etc/systemd/system/a.service";
        let theirs = "# mine\n\n[Unit]\nDescription = A\n\n[Service]\n  ExecStart=/bin/a\n";
        let scene = Scene::with(&[(place, theirs)]);
        assert!(scene.check(false).unwrap_err().contains("is in the way"));
        assert_eq!(scene.check(true), Ok(()));

        let state = scene.state();
        let (manifest, files) = (build().manifest(), build().texts());
        let adopted = adoptable(&state, &manifest, |path| files.get(path).cloned()).unwrap();
        assert_eq!(adopted.len(), 1);
        for _ in 0..2 {
            keep(&state, &adopted, Some(&manifest)).unwrap();
            assert!(!state.on_host(place).exists());
        }
        keep(&state, &[], None).unwrap();
        assert_eq!(fs::read_to_string(state.on_host(place)).unwrap(), theirs);
    }
}
