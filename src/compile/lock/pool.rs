//! Where a mirror of Debian has the file of a package.

use std::fmt;
use std::str::FromStr;

/// The archives of Debian that every mirror of `deb.debian.org` has side by side, and snapshot.debian.org too.
const ARCHIVES: [&str; 2] = ["debian", "debian-security"];

/// An archive and a path in it, `debian/pool/main/b/busybox/busybox-static_1.37.0-6+b3_amd64.deb`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolPath(String);

impl PoolPath {
    /// The whole of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The archive, and the path in it.
    pub fn split(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or((&self.0, ""))
    }

    /// The file's name, which is of the package, its version and its processors.
    pub fn file(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.0.as_str(), |(_, file)| file)
    }

    /// The name of the package.
    pub fn package(&self) -> &str {
        self.file().split('_').next().unwrap_or_default()
    }

    /// Its version, but for the epoch, which no file's name has.
    pub fn version(&self) -> &str {
        self.file().split('_').nth(1).unwrap_or_default()
    }
}

impl fmt::Display for PoolPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PoolPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (archive, path) = text.split_once('/').unwrap_or((text, ""));
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"+-._~".contains(&b);
        let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.bytes().all(plain);
        let good = ARCHIVES.contains(&archive)
            && path.starts_with("pool/")
            && path.rsplit_once('.').is_some_and(|(_, kind)| kind == "deb")
            && path.split('/').all(part);
        if good {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "`{}` is no file of a package of Debian, as `debian/pool/main/b/busybox/busybox_1.37.0-6_amd64.deb` is one",
            text.escape_debug()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_in_the_pools_of_debian() {
        let good = "debian-security/pool/updates/main/o/openssl/libssl3t64_3.5.1-1+deb13u1_amd64.deb";
        let path: PoolPath = good.parse().unwrap();
        assert_eq!(
            path.split(),
            ("debian-security", "pool/updates/main/o/openssl/libssl3t64_3.5.1-1+deb13u1_amd64.deb")
        );
        assert_eq!((path.as_str(), path.package()), (good, "libssl3t64"));
        assert_eq!(path.version(), "3.5.1-1+deb13u1");
        for bad in [
            "",
            "debian",
            "debian/pool/main/x",
            "pool/main/x_1_amd64.deb",
            "ubuntu/pool/main/x_1_amd64.deb",
            "debian/dists/x_1_amd64.deb",
            "debian/pool/../x_1_amd64.deb",
            "debian/pool//x_1_amd64.deb",
            "debian/pool/main/x 1_amd64.deb",
            "debian/pool/main/x?_1_amd64.deb",
            "debian/pool/main/x\n_1_amd64.deb",
        ] {
            assert!(bad.parse::<PoolPath>().is_err(), "{bad}");
        }
    }
}
