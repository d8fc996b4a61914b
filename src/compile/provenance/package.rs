//! What the file of a package of Debian says of itself. Its name does not say all: an epoch is left out there, and what it was made from.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use crate::bundle::digest::Digest;
use crate::compile::store::Store;

/// What a package is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Description {
    pub(super) package: String,
    pub(super) version: String,
    pub(super) architecture: String,
    /// The source package and, after an `@`, its version; each only if it is another one than the package's own.
    pub(super) source: Option<String>,
}

/// Where these are kept in the store, by the digest of the package.
const KEPT: &str = "packages";

impl Description {
    /// That of the package with this digest; none if it is not in the store.
    pub(super) fn of(digest: Digest, store: &Store) -> Result<Option<Self>> {
        if let Some(known) = store.record(KEPT, digest) {
            return Ok(Some(known));
        }
        if store.blob(digest).is_none() {
            return Ok(None);
        }
        // Debian's own program opens it: the compressions that packages may have are its business.
        let mut command = Command::new("dpkg-deb");
        command.arg("--field").arg(store.blob_path(digest)).args([
            "Package",
            "Version",
            "Architecture",
            "Source",
        ]);
        let output = command.env("LC_ALL", "C.UTF-8").stdin(Stdio::null()).output().context(
            "cannot start dpkg-deb, which reads packages of Debian: install it (`apt install dpkg`, `pacman -S dpkg`)",
        )?;
        if !output.status.success() {
            bail!("dpkg-deb --field: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let description = Self::parse(&String::from_utf8_lossy(&output.stdout))
            .context("it has no name, version or architecture")?;
        // Without it, the next time takes longer.
        let _ = store.keep_record(KEPT, digest, &description);
        Ok(Some(description))
    }

    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))?.trim();
            (!value.is_empty()).then(|| value.to_owned())
        };
        let (package, version) = (field("Package")?, field("Version")?);
        // `gcc-14 (14.2.0-19)`
        let source = field("Source").map(|source| match source.split_once(" (") {
            Some((name, version)) => format!("{name}@{}", version.trim_end_matches(')')),
            None => source,
        });
        Some(Self { package, version, architecture: field("Architecture")?, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_package_says_of_itself_is_read() {
        let text =
            "Package: libstdc++6\nVersion: 1:14.2.0-19+b1\nArchitecture: amd64\nSource: gcc-14 (14.2.0-19)\n";
        let described = Description::parse(text).unwrap();
        assert_eq!(
            (described.package.as_str(), described.version.as_str()),
            ("libstdc++6", "1:14.2.0-19+b1")
        );
        assert_eq!(described.source.as_deref(), Some("gcc-14@14.2.0-19"));
        let described = Description::parse("Package: hello\nVersion: 2.10-3\nArchitecture: amd64\n").unwrap();
        assert_eq!((described.architecture.as_str(), described.source), ("amd64", None));
        assert_eq!(Description::parse("Package: hello\n"), None);
    }
}
