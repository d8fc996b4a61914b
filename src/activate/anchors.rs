//! The few fixed places through which a host reads the current generation. Planted once; from then on one rename switches all of them.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::generation::Generation;
use super::state::{STATE, State};
use crate::durable;
use crate::refusal::Refusal;

/// One fixed place: where it is on the host, and what of the current generation it leads to.
struct Anchor {
    place: &'static str,
    part: &'static str,
}

const UNITS: Anchor = Anchor { place: "/usr/local/lib/systemd/system", part: "units" };
const QUADLETS: Anchor = Anchor { place: "/etc/containers/systemd/rick", part: "quadlets" };
const SYSUSERS: Anchor = Anchor { place: "/etc/sysusers.d/rick.conf", part: "sysusers.conf" };
const TMPFILES: Anchor = Anchor { place: "/etc/tmpfiles.d/rick.conf", part: "tmpfiles.conf" };

const ALL: [Anchor; 4] = [UNITS, QUADLETS, SYSUSERS, TMPFILES];

/// What stands in an anchor's place.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Ours,
    Nothing,
    EmptyDirectory,
    Other(String),
}

/// Refuses if something that is not rick's stands where an anchor goes.
pub fn check(state: &State) -> Result<()> {
    for anchor in ALL {
        if let Found::Other(what) = anchor.found(state)? {
            return Err(anchor.in_the_way(&what).into());
        }
    }
    Ok(())
}

/// All anchors that `generation` needs are planted.
pub fn planted(state: &State, generation: &Generation) -> Result<bool> {
    for anchor in needed(generation) {
        if anchor.found(state)? != Found::Ours {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What is wrong with the anchors that `generation` needs.
pub fn strays(state: &State, generation: &Generation) -> Result<Vec<String>> {
    let mut strays = Vec::new();
    for anchor in needed(generation) {
        let what = match anchor.found(state)? {
            Found::Ours => continue,
            Found::Nothing => "is missing".to_owned(),
            Found::EmptyDirectory => "is an empty directory".to_owned(),
            Found::Other(what) => what,
        };
        strays.push(format!("{} {what}, and should lead to {}", anchor.place, anchor.target().display()));
    }
    Ok(strays)
}

/// Plants the anchors that `generation` needs. What they lead to must be there: an anchor never dangles.
pub fn plant(state: &State, generation: &Generation) -> Result<()> {
    needed(generation).iter().try_for_each(|anchor| anchor.plant(state))
}

/// Removes the anchors that are planted, and the directory for one that hosts do not have by themselves.
pub fn uproot(state: &State) -> Result<()> {
    for anchor in ALL {
        if anchor.found(state)? == Found::Ours {
            let place = state.on_host(anchor.place);
            durable::remove_file(&place)?;
            if anchor.place == UNITS.place {
                // Nobody else makes that. One that is not empty stays, which is what it should do.
                let _ = place.parent().map(fs::remove_dir);
            }
        }
    }
    Ok(())
}

/// That for Quadlets only where there are some: a host without podman gets no /etc/containers.
fn needed(generation: &Generation) -> Vec<Anchor> {
    let quadlets = generation
        .manifest()
        .is_some_and(|manifest| manifest.files.keys().any(|path| path.as_str().starts_with("quadlets/")));
    let mut anchors = vec![UNITS, SYSUSERS, TMPFILES];
    anchors.extend(quadlets.then_some(QUADLETS));
    anchors
}

impl Anchor {
    fn target(&self) -> PathBuf {
        PathBuf::from(format!("{STATE}/current/{}", self.part))
    }

    fn found(&self, state: &State) -> Result<Found> {
        let place = state.on_host(self.place);
        let kind = match fs::symlink_metadata(&place) {
            Ok(found) => found.file_type(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", place.display())),
        };
        if kind.is_symlink() {
            let target = fs::read_link(&place).with_context(|| format!("cannot read {}", place.display()))?;
            let ours = target == self.target();
            return Ok(if ours {
                Found::Ours
            } else {
                Found::Other(format!("is a link to {}", target.display()))
            });
        }
        if !kind.is_dir() {
            return Ok(Found::Other("is a file".to_owned()));
        }
        let mut entries = fs::read_dir(&place).with_context(|| format!("cannot read {}", place.display()))?;
        let replaceable = self.place == UNITS.place && entries.next().is_none();
        Ok(if replaceable { Found::EmptyDirectory } else { Found::Other("is a directory".to_owned()) })
    }

    fn plant(&self, state: &State) -> Result<()> {
        let place = state.on_host(self.place);
        match self.found(state)? {
            Found::Ours => return Ok(()),
            Found::Other(what) => return Err(self.in_the_way(&what).into()),
            Found::EmptyDirectory => {
                fs::remove_dir(&place).with_context(|| format!("cannot remove {}", place.display()))?;
            }
            Found::Nothing => {}
        }
        if let Some(parent) = place.parent() {
            durable::make_directory(parent, 0o755)?.iter().try_for_each(|new| durable::sync_name(new))?;
        }
        durable::replace_link(&place, &self.target())
    }

    fn in_the_way(&self, what: &str) -> Refusal {
        Refusal::new(format!("{} is in the way: it {what}, and rick needs a link there", self.place)).help(
            format!("look what it is for, and move it away: it would lead to {}", self.target().display()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::new(dir.path());
        let units = state.on_host(UNITS.place);
        fs::create_dir_all(&units).unwrap();
        assert_eq!(UNITS.found(&state).unwrap(), Found::EmptyDirectory);
        assert!(check(&state).is_ok());
        fs::write(units.join("mine.service"), "").unwrap();
        let refused = check(&state).unwrap_err().to_string();
        assert_eq!(
            refused,
            "/usr/local/lib/systemd/system is in the way: it is a directory, and rick needs a link there"
        );
        assert!(UNITS.plant(&state).is_err());
        assert!(units.join("mine.service").exists());
    }

    #[test]
    fn a_host_without_quadlets_gets_no_etc_containers() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::new(dir.path());
        let empty = Generation { number: 0, directory: state.generation(0), content: None };
        plant(&state, &empty).unwrap();
        assert!(planted(&state, &empty).unwrap());
        assert!(!state.on_host("/etc/containers").exists());
        assert_eq!(
            fs::read_link(state.on_host("/etc/sysusers.d/rick.conf")).unwrap(),
            PathBuf::from("/var/lib/rick/current/sysusers.conf")
        );
    }
}
