//! What only the network has: images of registries, files, and packages of Debian. Their texts are the keys of `rick.lock`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::item;
use crate::bundle::digest::Digest;

/// Something that only the network has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outside {
    /// An image of a registry.
    Image(Reference),
    /// A file.
    Archive(Url),
    /// Packages of Debian, and what they depend on.
    Packages(Packages),
}

impl Outside {
    /// Parses what a module states.
    ///
    /// # Errors
    /// What is wrong with it, and how to mend that.
    pub fn parse(stated: item::Outside<'_>) -> Result<Self, Wrong> {
        Ok(match stated {
            item::Outside::Image(reference) => Self::Image(reference.parse()?),
            item::Outside::Archive(url) => Self::Archive(url.parse()?),
            item::Outside::Debian { release, packages } => Self::Packages(Packages::of(release, packages)?),
        })
    }
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Image(reference) => reference.fmt(f),
            Self::Archive(url) => url.fmt(f),
            Self::Packages(packages) => packages.fmt(f),
        }
    }
}

/// What is wrong with a name, and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub help: String,
}

impl Wrong {
    fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

/// The whole name of an image, `docker.io/library/debian:13`: a registry, a repository and a tag. Or, in place of the tag, a digest, which
/// needs no entry in `rick.lock`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry and the repository, `docker.io/library/debian`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if the name has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The same repository with a digest in place of the tag.
    #[must_use]
    pub fn at(&self, digest: Digest) -> Self {
        Self { repository: self.repository.clone(), tag: None, digest: Some(digest) }
    }

    /// The digest that stands in the name itself.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

impl FromStr for Reference {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let shown = text.escape_debug();
        let wrong = |help: String| Wrong::new(format!("`{shown}` is no whole name of an image"), help);
        let whole = "write its registry, its repository and a tag, as in `docker.io/library/debian:13`";
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => {
                let digest = digest.strip_prefix("sha256:").and_then(Digest::from_hex);
                (
                    name,
                    Some(digest.ok_or_else(|| {
                        wrong("a digest is `sha256:` and 64 hexadecimal digits".to_owned())
                    })?),
                )
            }
            None => (text, None),
        };
        let slash = name.rfind('/').unwrap_or_default();
        let (repository, tag) = match name[slash..].split_once(':') {
            Some((last, tag)) => (&name[..slash + last.len()], Some(tag)),
            None => (name, None),
        };
        let (registry, path) = repository.split_once('/').unwrap_or(("", repository));
        let is_registry = registry == "localhost" || registry.contains(['.', ':']);
        if !is_registry {
            // As Docker reads it.
            let docker = if registry.is_empty() { "docker.io/library/" } else { "docker.io/" };
            let tagged = if tag.is_none() && digest.is_none() { ":TAG" } else { "" };
            return Err(wrong(format!("write its registry too, as in `{docker}{name}{tagged}`")));
        }
        let plain = |text: &str, also: &[u8]| {
            !text.is_empty()
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || also.contains(&b))
        };
        let host = registry.to_ascii_lowercase();
        let is_tag = |tag: &str| {
            tag.len() <= 128 && !tag.starts_with(['.', '-']) && plain(&tag.to_ascii_lowercase(), b"._-")
        };
        let good =
            plain(&host, b".-:") && path.split('/').all(|part| plain(part, b"._-")) && tag.is_none_or(is_tag);
        if !good {
            return Err(wrong(whole.to_owned()));
        }
        if tag.is_none() && digest.is_none() {
            return Err(wrong(format!("write a tag, as in `{text}:TAG`")));
        }
        Ok(Self { repository: repository.to_owned(), tag: tag.map(str::to_owned), digest })
    }
}

/// Where a file is, by HTTP or HTTPS.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url(String);

impl Url {
    /// The URL as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Url {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let wrong = |help: &str| Wrong::new(format!("`{}` is no URL of a file", text.escape_debug()), help);
        let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        let rest = rest.ok_or_else(|| wrong("write one that begins with `https://`"))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.contains('@') {
            return Err(wrong(
                "leave the user and password out: they would be in the source for everybody to read",
            ));
        }
        if host.is_empty()
            || path.is_empty()
            || !rest.bytes().all(|b| b.is_ascii_graphic() && !b"\"'`<>\\^{|}#".contains(&b))
        {
            return Err(wrong("write a host and a path, and special characters as `%` and two digits"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Packages of a release of Debian for amd64, and what they depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Packages {
    release: String,
    names: BTreeSet<String>,
}

impl Packages {
    /// What is asked for. The order of the names does not matter.
    ///
    /// # Errors
    /// A name that no release or package can have.
    pub fn of(release: &str, names: &[String]) -> Result<Self, Wrong> {
        let plain = |text: &str, also: &[u8]| {
            text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || also.contains(&b))
        };
        if release.is_empty() || !plain(release, b"-") {
            let message = format!("`{}` is no release of Debian", release.escape_debug());
            return Err(Wrong::new(message, "write its code name, as in `trixie`"));
        }
        if names.is_empty() {
            return Err(Wrong::new(
                "no package is named",
                "write the names of packages, as in `[\"gcc\", \"libc6-dev\"]`",
            ));
        }
        for name in names {
            // At the end of a name, apt reads a `-` as "not".
            if name.len() < 2
                || name.ends_with('-')
                || !name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                || !plain(name, b"+.-")
            {
                let message = format!("`{}` is no name of a package of Debian", name.escape_debug());
                return Err(Wrong::new(
                    message,
                    "write the name alone: the version is what `rick.lock` says",
                ));
            }
        }
        Ok(Self { release: release.to_owned(), names: names.iter().cloned().collect() })
    }

    /// The code name of the release.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// What is asked for by name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

impl FromStr for Packages {
    type Err = Wrong;

    fn from_str(text: &str) -> Result<Self, Wrong> {
        let (release, names) = text.split_once(':').ok_or_else(|| {
            let message = format!("`{}` names no packages of Debian", text.escape_debug());
            Wrong::new(message, "write a release and packages, as in `trixie: gcc libc6-dev`")
        })?;
        let names: Vec<_> = names.split_ascii_whitespace().map(str::to_owned).collect();
        Self::of(release, &names)
    }
}

impl fmt::Display for Packages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.release)?;
        self.names.iter().try_for_each(|name| write!(f, " {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(text: &str) -> String {
        text.parse::<Reference>().unwrap_err().help
    }

    #[test]
    fn references_are_whole() {
        for good in
            ["docker.io/library/debian:13", "localhost:5000/a/b-c_d.e:V1.0", "ghcr.io/x/y", "localhost/x:1"]
        {
            let pinned = format!("{good}@{}", Digest::of(b""));
            assert_eq!(pinned.parse::<Reference>().unwrap().to_string(), pinned);
            if good != "ghcr.io/x/y" {
                assert_eq!(good.parse::<Reference>().unwrap().to_string(), good);
            }
        }
        let reference: Reference = "localhost:5000/a/b:1".parse().unwrap();
        assert_eq!((reference.repository(), reference.digest()), ("localhost:5000/a/b", None));
        assert!(help("debian").contains("`docker.io/library/debian:TAG`"));
        assert!(help("gitea/gitea:1").contains("`docker.io/gitea/gitea:1`"));
        assert!(help("ghcr.io/x/y").contains("`ghcr.io/x/y:TAG`"));
        assert!(help("ghcr.io/x/y@sha256:12").contains("64 hexadecimal"));
        for bad in [
            "",
            "/",
            "ghcr.io/",
            "ghcr.io/X:1",
            "ghcr.io/x:",
            "ghcr.io/x:-a",
            "ghcr.io/x//y:1",
            "ghcr.io/x y:1",
            "docker://ghcr.io/x:1",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }

    #[test]
    fn urls_name_a_file_and_nobody() {
        let good = "https://example.com/a/b-1.0.tar.gz?x=1%20";
        assert_eq!(good.parse::<Url>().unwrap().as_str(), good);
        for bad in [
            "",
            "ftp://x/y",
            "https://",
            "https://x",
            "https://x/",
            "https://me:pw@x/y",
            "https://x/a b",
            "file:///etc/passwd",
            "https://x/y\n",
        ] {
            assert!(bad.parse::<Url>().is_err(), "{bad}");
        }
    }

    #[test]
    fn packages_are_names_and_nothing_else() {
        let of = |release, names: &[&str]| {
            Packages::of(release, &names.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let packages = of("trixie", &["libc6-dev", "g++", "libc6-dev"]).unwrap();
        assert_eq!(packages.to_string(), "trixie: g++ libc6-dev");
        assert_eq!("trixie: libc6-dev g++".parse(), Ok(packages));
        assert!("trixie".parse::<Packages>().is_err() && "trixie:".parse::<Packages>().is_err());
        assert!(of("trixie", &[]).is_err() && of("Trixie", &["gcc"]).is_err());
        for bad in ["gcc=1", "gcc:amd64", "-y", "gcc/sid", "a", "gcc-", "x y"] {
            assert!(of("trixie", &[bad]).is_err(), "{bad}");
        }
    }
}
