//! Paths of a site that are treated apart from the rest.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A path of a site, `/health`, or all below one, `/public/*`. Nothing that a web server and the application behind it could read
/// in two ways: no `.` or `..`, no empty component, no escapes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct PathPattern(String);

impl PathPattern {
    /// The pattern as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The pattern, and what most applications take for the same: `/admin` beside `/admin/*`, `/admin/` beside `/admin`.
    pub fn with_what_is_alike(&self) -> [String; 2] {
        let alike = match self.0.strip_suffix("/*") {
            Some(parent) => parent.to_owned(),
            None => format!("{}/", self.0.trim_end_matches('/')),
        };
        [alike, self.0.clone()]
    }
}

impl FromStr for PathPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("`{}` is no path of a site: {why}", text.escape_debug()));
        let Some(path) = text.strip_prefix('/') else { return wrong("it must start with `/`") };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '-');
        let path = path.strip_suffix("/*").unwrap_or(path);
        if path == "*" {
            return wrong("it is the whole site: choose another `auth` for that");
        }
        if !path.is_empty() && path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return wrong("it has an empty component, `.` or `..`");
        }
        if !path.chars().all(|c| c == '/' || plain(c)) {
            return wrong("write letters, digits and `.`, `_`, `~`, `-`; `*` only as `/*` at the end");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for PathPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_read_in_one_way_is_a_pattern() {
        for right in ["/", "/health", "/public/*", "/a/b.c/*", "/.well-known/x"] {
            assert_eq!(right.parse::<PathPattern>().unwrap().as_str(), right);
        }
        for wrong in [
            "", "health", "/*", "*", "/a*", "/a/*/b", "/a/../b", "//a", "/a//*", "/a/", "/a b", "/%61",
            "/a;b", "/{x}",
        ] {
            assert!(wrong.parse::<PathPattern>().is_err(), "{wrong}");
        }
        let alike = |text: &str| text.parse::<PathPattern>().unwrap().with_what_is_alike();
        assert_eq!(alike("/admin/*"), ["/admin", "/admin/*"]);
        assert_eq!(alike("/admin"), ["/admin/", "/admin"]);
        assert_eq!(alike("/"), ["/", "/"]);
    }
}
