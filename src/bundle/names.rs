//! Names that are parsed once, where text comes in, and are right ever after.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Declares a text type that can only hold what `$check` accepts; `$check` says what is wrong otherwise.
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                $check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type!(
    /// A user or group name that systemd-sysusers takes without a complaint.
    AccountName, check_account);
name_type!(
    /// A host's name: one DNS label or several, lower case.
    HostName, check_host);
name_type!(
    /// A complete unit name with its type, `valkey-server.service`.
    UnitName, check_unit);
name_type!(
    /// The name of a service instance, an environment, a module or a configuration object: `[a-z0-9]`, then also `-` and `_`.
    Label, check_label);
name_type!(
    /// A relative path of plain components inside a bundle: no `.`, no `..`, nothing empty, nothing that USTAR cannot hold.
    BundlePath, check_bundle_path);
name_type!(
    /// A normalised absolute path on a host.
    HostPath, check_host_path);
name_type!(
    /// The name of a secret: a plain file name of lower-case letters, digits, `-`, `_` and `.`.
    SecretName, check_secret);

/// The unit types of systemd that can stand in a unit file.
pub const UNIT_TYPES: [&str; 9] =
    ["service", "socket", "timer", "path", "mount", "automount", "swap", "target", "slice"];

impl UnitName {
    /// The unit's type: what stands after the last dot.
    pub fn kind(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, kind)| kind)
    }

    /// It is a template, `x@.service`: nothing that can run.
    pub fn is_template(&self) -> bool {
        self.stem().ends_with('@')
    }

    /// The template of an instance: `x@.service` of `x@y.service`.
    pub fn template(&self) -> Option<Self> {
        let (prefix, instance) = self.stem().split_once('@')?;
        (!instance.is_empty()).then(|| Self(format!("{prefix}@.{}", self.kind())))
    }

    /// The unit's name without its type.
    pub fn stem(&self) -> &str {
        self.0.rsplit_once('.').map_or(&self.0, |(stem, _)| stem)
    }
}

impl BundlePath {
    /// The path below `self`; an error if `rest` is no plain relative path.
    pub fn join(&self, rest: &str) -> Result<Self, String> {
        format!("{self}/{rest}").parse()
    }

    /// The same of a path that is known to be one: only together they may be too long.
    pub fn join_path(&self, rest: &Self) -> Result<Self, String> {
        let text = [self.as_str(), "/", rest.as_str()].concat();
        check_fits_ustar(&text).map_err(|why| not_inside(&text, why))?;
        Ok(Self(text))
    }

    /// The directories that lead to it, outermost first: `a` and `a/b` of `a/b/c`.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.parents_beyond("")
    }

    /// Those of them that do not lead to `other` too. Going through paths in their order, each is met once if the one before is the other.
    pub fn parents_beyond(&self, other: &str) -> impl Iterator<Item = &str> {
        let shared = self.0.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
        self.0
            .match_indices('/')
            .map(|(slash, _)| slash)
            .filter(move |slash| *slash >= shared)
            .map(|slash| &self.0[..slash])
    }

    /// One of the [directories that lead to it](Self::parents). It fits where the whole path does.
    #[must_use]
    pub fn parent(&self, parent: &str) -> Self {
        debug_assert!(self.parents().any(|one| one == parent));
        Self(parent.to_owned())
    }
}

impl Borrow<str> for BundlePath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for BundlePath {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

fn quoted(text: &str) -> String {
    let shown: String = text.chars().take(80).collect();
    let rest = if shown.len() < text.len() { "…" } else { "" };
    format!("`{}{rest}`", shown.escape_debug())
}

fn check_secret(text: &str) -> Result<(), String> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if first && text.len() <= 100 && text.bytes().all(good) {
        return Ok(());
    }
    Err(format!(
        "{} is no name of a secret: at most 100 of a-z, 0-9, `-`, `_` and `.`, the first a letter or digit",
        quoted(text)
    ))
}

fn check_account(text: &str) -> Result<(), String> {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    if first
        && text.len() <= 31
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
    {
        return Ok(());
    }
    Err(format!(
        "{} is not a user or group name: at most 31 of a-z, 0-9, `_` and `-`, the first a letter or `_`",
        quoted(text)
    ))
}

fn check_host(text: &str) -> Result<(), String> {
    let label = |part: &str| {
        !part.is_empty()
            && part.len() <= 63
            && !part.starts_with('-')
            && !part.ends_with('-')
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        return Ok(());
    }
    Err(format!("{} is not a host name: labels of a-z, 0-9 and inner `-`, joined by dots", quoted(text)))
}

fn check_label(text: &str) -> Result<(), String> {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut bytes = text.bytes();
    if bytes.next().is_some_and(good)
        && text.len() <= 64
        && bytes.all(|b| good(b) || matches!(b, b'-' | b'_'))
    {
        return Ok(());
    }
    Err(format!(
        "{} is not a name: at most 64 of a-z, 0-9, `-` and `_`, the first a letter or digit",
        quoted(text)
    ))
}

fn check_unit(text: &str) -> Result<(), String> {
    let Some((stem, kind)) = text.rsplit_once('.') else {
        return Err(format!(
            "{} is not a unit name: the type is missing, as in `valkey.service`",
            quoted(text)
        ));
    };
    if !UNIT_TYPES.contains(&kind) {
        return Err(format!(
            "{} is not a unit name: `{}` is no unit type",
            quoted(text),
            kind.escape_debug()
        ));
    }
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'.' | b'\\' | b'-' | b'@');
    if text.len() > 255 {
        return Err(format!("{} is not a unit name: it has more than 255 bytes", quoted(text)));
    }
    if stem.is_empty() || stem.starts_with(['.', '@']) || !stem.bytes().all(good) {
        return Err(format!("{} is not a unit name: letters, digits and `:_.\\-@` only", quoted(text)));
    }
    Ok(())
}

fn check_component(part: &str) -> Result<(), &'static str> {
    match part {
        "" => Err("it has an empty component"),
        "." => Err("it contains `.`"),
        ".." => Err("it contains `..`"),
        _ if part.chars().any(char::is_control) => Err("it contains a control character"),
        _ if part.len() > 100 => Err("it has a component of more than 100 bytes"),
        _ => Ok(()),
    }
}

fn not_inside(text: &str, why: &str) -> String {
    format!("{} is not a path inside a bundle: {why}", quoted(text))
}

fn check_bundle_path(text: &str) -> Result<(), String> {
    let wrong = |why: &str| not_inside(text, why);
    if text.starts_with('/') {
        return Err(wrong("it is absolute"));
    }
    text.split('/').try_for_each(check_component).map_err(wrong)?;
    check_fits_ustar(text).map_err(wrong)
}

/// USTAR splits a path at a slash into a prefix of 155 bytes and a name of 100.
fn check_fits_ustar(text: &str) -> Result<(), &'static str> {
    let fits = text.len() <= 100
        || text.match_indices('/').any(|(slash, _)| slash <= 155 && text.len() - slash - 1 <= 100);
    if fits { Ok(()) } else { Err("it is too long for a USTAR archive") }
}

fn check_host_path(text: &str) -> Result<(), String> {
    let wrong = |why: &str| format!("{} is not a path on a host: {why}", quoted(text));
    let Some(rest) = text.strip_prefix('/') else {
        return Err(wrong("it is not absolute"));
    };
    if rest.is_empty() || text.len() > 4095 {
        return Err(wrong("it names no file"));
    }
    rest.split('/').try_for_each(check_component).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_refuse_what_leads_elsewhere() {
        for path in
            ["", "/etc", "a//b", "a/../b", "./a", "a/.", "a\nb", "a\0b", &"x".repeat(101), &"ab/".repeat(99)]
        {
            assert!(path.parse::<BundlePath>().is_err(), "{path:?}");
        }
        for path in ["", "/", "etc", "/a/../b", "/a/", "//a", "/a\nb"] {
            assert!(path.parse::<HostPath>().is_err(), "{path:?}");
        }
        assert!(format!("{}/{}", "a".repeat(90), "b".repeat(100)).parse::<BundlePath>().is_ok());
    }

    #[test]
    fn paths_know_what_leads_to_them() {
        let path: BundlePath = "a/bc/d".parse().unwrap();
        let beyond = |other: &str| path.parents_beyond(other).collect::<Vec<_>>();
        assert_eq!(path.parents().collect::<Vec<_>>(), ["a", "a/bc"]);
        assert_eq!(beyond("a/bc/c"), [""; 0]);
        assert_eq!(beyond("a/b/d"), ["a/bc"]);
        assert_eq!(beyond("a/bc"), ["a/bc"], "it leads to something else there");
        assert_eq!(beyond("a-b"), ["a", "a/bc"]);
        assert_eq!(path.parent("a/bc").as_str(), "a/bc");
        assert_eq!(path.join_path(&path).unwrap().as_str(), "a/bc/d/a/bc/d");
        let long: BundlePath = format!("{}/b", "a".repeat(100)).parse().unwrap();
        assert!(long.join_path(&long).is_err());
    }

    proptest! {
        #[test]
        fn where_a_path_fits_what_leads_to_it_does(lengths in prop::collection::vec(1..=100_usize, 1..6)) {
            let components: Vec<String> = lengths.iter().map(|length| "x".repeat(*length)).collect();
            if let Ok(path) = components.join("/").parse::<BundlePath>() {
                prop_assert!(path.parents().all(|parent| parent.parse::<BundlePath>().is_ok()));
            }
        }
    }

    #[test]
    fn unit_names_know_their_type() {
        let unit: UnitName = "postgresql@17-main.service".parse().unwrap();
        assert_eq!((unit.stem(), unit.kind()), ("postgresql@17-main", "service"));
        assert_eq!(unit.template(), "postgresql@.service".parse().ok());
        assert!(!unit.is_template() && unit.template().unwrap().is_template());
        assert_eq!(unit.template().unwrap().template(), None);
        for wrong in ["valkey", "a.container", "a/b.service", ".service", "@x.service", "a b.service"] {
            assert!(wrong.parse::<UnitName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn account_names_are_those_of_sysusers() {
        assert!("postgres-clients".parse::<AccountName>().is_ok());
        for wrong in ["", "9lives", "a.b", "Äpfel", "UPPER", &"a".repeat(32)] {
            assert!(wrong.parse::<AccountName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn host_names_are_dns_labels() {
        assert!("arch-vps.jnss.me".parse::<HostName>().is_ok());
        for wrong in ["", "-a", "a-", "a..b", "A", "a_b"] {
            assert!(wrong.parse::<HostName>().is_err(), "{wrong}");
        }
    }
}
