//! What is named: `REGISTRY/REPOSITORY`, and a tag or a digest.

use std::fmt;
use std::str::FromStr;

use crate::bundle::digest::Digest;

/// What a reference to a registry begins with, so that nobody takes it for a file.
pub const SCHEME: &str = "oci://";
/// The tag where none is said, as with every other tool.
const TAG: &str = "latest";

/// Something in a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    registry: String,
    repository: String,
    version: Version,
}

/// Which of the things in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// That which has this name now.
    Tag(String),
    /// That which has this digest, for ever.
    Digest(Digest),
}

impl Reference {
    /// The registry, with its port if it has one of its own.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Which of the things in the repository.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Something else in the same repository.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { version: Version::Digest(digest), ..self.clone() }
    }

    /// How skopeo calls it.
    pub fn for_skopeo(&self) -> String {
        self.to_string().replacen(SCHEME, "docker://", 1)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { registry, repository, version } = self;
        match version {
            Version::Tag(tag) => write!(f, "{SCHEME}{registry}/{repository}:{tag}"),
            Version::Digest(digest) => write!(f, "{SCHEME}{registry}/{repository}@{digest}"),
        }
    }
}

impl FromStr for Reference {
    type Err = String;

    /// Takes it with and without `oci://`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            format!(
                "`{}` names nothing in a registry: {why} (expected REGISTRY/REPOSITORY:TAG or REGISTRY/REPOSITORY@sha256:…)",
                text.escape_debug()
            )
        };
        let rest = text.strip_prefix(SCHEME).unwrap_or(text);
        let Some((registry, rest)) = rest.split_once('/') else {
            return Err(wrong("the registry or the repository is missing"));
        };
        if !is_registry(registry) {
            return Err(wrong("the registry is no host name, perhaps with a port"));
        }
        let (repository, version) = match (rest.split_once('@'), rest.split_once(':')) {
            (Some((repository, _)), _) if repository.contains(':') => {
                return Err(wrong("it has a tag and a digest, and only one can be meant"));
            }
            (Some((repository, digest)), _) => (repository, Version::Digest(digest.parse()?)),
            (None, Some((repository, tag))) => (repository, Version::Tag(tag.to_owned())),
            (None, None) => (rest, Version::Tag(TAG.to_owned())),
        };
        if !is_repository(repository) {
            return Err(wrong("a repository is words of a-z, 0-9 and inner `.`, `_` and `-`, joined by `/`"));
        }
        match &version {
            Version::Tag(tag) if !is_tag(tag) => Err(wrong(
                "a tag is at most 128 letters, digits, `_`, `.` and `-`, and begins with none of the last two",
            )),
            _ => Ok(Self { registry: registry.to_owned(), repository: repository.to_owned(), version }),
        }
    }
}

/// A name without a dot or a port is not taken for a registry by other tools, but for a user of Docker Hub.
fn is_registry(text: &str) -> bool {
    let (host, port) = text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port)));
    let good_label = |label: &str| {
        label.starts_with(|c: char| c.is_ascii_alphanumeric())
            && label.ends_with(|c: char| c.is_ascii_alphanumeric())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let known = host == "localhost" || host.contains('.') || port.is_some();
    known && host.split('.').all(good_label) && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_repository(text: &str) -> bool {
    let alone = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let word = |word: &str| {
        word.starts_with(alone)
            && word.ends_with(alone)
            && word.chars().all(|c| alone(c) || matches!(c, '.' | '_' | '-'))
    };
    text.len() <= 255 && text.split('/').all(word)
}

fn is_tag(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.len() <= 128 && text.chars().all(good) && !text.is_empty() && !text.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_says_all_that_it_means() {
        let of = |text: &str| text.parse::<Reference>().map(|reference| reference.to_string());
        let digest = Digest::of(b"");
        for (said, meant) in [
            ("registry.test/fleet:stable", "oci://registry.test/fleet:stable".to_owned()),
            ("oci://registry.test/a/b-c", "oci://registry.test/a/b-c:latest".to_owned()),
            ("127.0.0.1:5000/fleet", "oci://127.0.0.1:5000/fleet:latest".to_owned()),
            (&format!("localhost/fleet@{digest}"), format!("oci://localhost/fleet@{digest}")),
        ] {
            assert_eq!(of(said), Ok(meant), "{said}");
        }
        let reference: Reference = "r.test:5000/fleet:x".parse().unwrap();
        assert_eq!(reference.for_skopeo(), "docker://r.test:5000/fleet:x");
        assert_eq!(reference.at(digest).for_skopeo(), format!("docker://r.test:5000/fleet@{digest}"));
    }

    #[test]
    fn what_could_mean_something_else_is_no_reference() {
        for wrong in [
            "",
            "fleet",
            "fleet:x",
            "user/fleet",
            "registry.test/",
            "registry.test/Fleet",
            "registry.test/a//b",
            "registry.test/../b",
            "registry.test/-a",
            "registry.test/a:",
            "registry.test/a:-x",
            "registry.test/a:b:c",
            "registry.test/a@sha256:00",
            "registry.test:port/a",
            "-registry.test/a",
            "registry.test/a b",
            &format!("registry.test/a:x@{}", Digest::of(b"")),
        ] {
            assert!(wrong.parse::<Reference>().is_err(), "{wrong}");
        }
    }
}
