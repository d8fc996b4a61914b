//! Versions of systemd and Podman, and which of them an operating system has.

use std::fmt;
use std::str::FromStr;

use super::super::item::Os;

/// Who reads a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// systemd.
    Systemd,
    /// Podman's Quadlet.
    Podman,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Systemd => "systemd",
            Self::Podman => "Podman",
        })
    }
}

/// `257` or `5.4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u16, Option<u16>);

/// Since when Quadlet takes `UpheldBy=`.
pub const QUADLETS_UPHELD_BY: Version = Version(5, Some(5));
/// Since when Quadlet translates the names of Quadlet files in `[Unit]`.
pub const QUADLETS_NAME_QUADLETS: Version = Version(5, Some(5));

impl Version {
    /// Major and minor version; 0 where there is no minor one.
    pub fn numbers(self) -> (u32, u32) {
        (self.0.into(), self.1.unwrap_or_default().into())
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(minor) => write!(f, "{}.{minor}", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

impl FromStr for Version {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('.') {
            Some((major, minor)) => Ok(Self(major.parse()?, Some(minor.parse()?))),
            None => Ok(Self(text.parse()?, None)),
        }
    }
}

/// What an operating system has.
#[derive(Clone, Copy, Debug)]
pub struct Versions {
    /// As environments write it.
    pub os: &'static str,
    systemd: Version,
    podman: Version,
}

impl Versions {
    /// Those of an operating system.
    pub fn of(os: Os) -> Self {
        let newer = |os| Self { os, systemd: Version(262, None), podman: Version(5, Some(8)) };
        match os {
            Os::Debian13 => {
                Self { os: "debian-13", systemd: Version(257, None), podman: Version(5, Some(4)) }
            }
            Os::Debian14 => newer("debian-14"),
            Os::Arch => newer("arch"),
        }
    }

    /// A program is at least of this version.
    pub fn at_least(&self, program: Program, version: Version) -> bool {
        self.get(program) >= version
    }

    /// The version of one program.
    pub fn get(&self, program: Program) -> Version {
        match program {
            Program::Systemd => self.systemd,
            Program::Podman => self.podman,
        }
    }
}
