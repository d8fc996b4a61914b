//! The versions of a host's programs, and what of a bundle is too new for them.

use std::collections::BTreeMap;

use super::host::{Host, side_by_side};
use crate::bundle::manifest::{HostManifest, Versioned};
use crate::refusal::Refusal;

/// The programs that the host has, and which version of each: major and minor.
#[derive(Debug, Default)]
pub struct Versions(BTreeMap<Versioned, (u32, u32)>);

impl Versions {
    /// Asks them all at once.
    pub fn of(host: &dyn Host) -> Self {
        let ask = |program| host.version(program).map(|version| (program, version));
        let (podman, systemd) = side_by_side(|| ask(Versioned::Podman), || ask(Versioned::Systemd));
        Self([podman, systemd].into_iter().flatten().collect())
    }

    /// The programs that are too old for keys in use. That one is not there at all is another refusal.
    pub fn lacks(&self, manifest: &HostManifest) -> Option<Refusal> {
        let mut refusals = Vec::new();
        for (program, needed) in &manifest.versions {
            let Some(version) = self.0.get(program).copied() else { continue };
            if version < needed.at_least {
                let name = match program {
                    Versioned::Systemd => "systemd",
                    Versioned::Podman => "Podman",
                };
                let (has, needs) = (shown(*program, version), shown(*program, needed.at_least));
                let what = format!("this host has {name} {has}, and needs {needs} for {}", needed.because);
                refusals.push(
                    Refusal::new(what).help("say in the environment which system the host has: `os = …`"),
                );
            }
        }
        Refusal::all(refusals).err()
    }
}

fn shown(program: Versioned, (major, minor): (u32, u32)) -> String {
    match program {
        Versioned::Systemd => major.to_string(),
        Versioned::Podman => format!("{major}.{minor}"),
    }
}
