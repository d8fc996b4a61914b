//! Patterns for the files of a tree, as `.gitignore` has them, but for its exceptions (`!`).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::str::FromStr;

use glob::{MatchOptions, Pattern};

use crate::bundle::names::BundlePath;

/// `*.md` at any depth, `/docs/*.md` or `docs/*.md` from the root of the tree, `drafts/` a directory. `*` and `?` are never a `/`,
/// `**` is any number of directories, and what matches a directory matches all below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreePattern {
    written: String,
    pattern: Pattern,
    /// It has no `/`, so it is compared with names, not with paths.
    by_name: bool,
    /// It ends in a `/`, so a file does not match by itself.
    directories: bool,
}

/// A leading dot is a letter like another, as git has it.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

impl TreePattern {
    /// Whether a file of the tree is meant: its own path, or a directory that leads to it.
    pub fn matches(&self, path: &BundlePath) -> bool {
        let path = path.as_str();
        let own = (!self.directories).then_some(path);
        above(path).chain(own).any(|path| self.matches_one(path))
    }

    fn matches_one(&self, path: &str) -> bool {
        self.pattern.matches_with(if self.by_name { name(path) } else { path }, OPTIONS)
    }

    /// The pattern that would have matched and is most like this one: a path or name of the tree, or all names with an ending.
    pub fn nearest(&self, paths: &[&BundlePath]) -> Option<String> {
        let paths: Vec<&str> = paths.iter().map(|path| path.as_str()).collect();
        let all = paths.iter().flat_map(|path| above(path)).chain(paths.iter().copied());
        let words: Vec<String> = if self.by_name {
            let endings = paths.iter().filter_map(|path| name(path).rsplit_once('.'));
            let endings = endings.map(|(_, ending)| format!("*.{ending}"));
            all.map(|path| name(path).to_owned()).chain(endings).collect()
        } else {
            all.map(str::to_owned).collect()
        };
        let wanted = self.written.trim_matches('/');
        super::similar::closest(wanted, words.iter().map(String::as_str)).map(str::to_owned)
    }
}

/// What stands after the last `/`.
fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// `a` and `a/b` of `a/b/c`.
fn above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(slash, _)| &path[..slash])
}

impl FromStr for TreePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| Err(format!("`{}` is no pattern: {why}", text.escape_debug()));
        if text.starts_with('!') {
            return wrong("there are no exceptions, so write patterns for what is meant");
        }
        if text.contains('\\') {
            return wrong("write `[*]` for a `*` that stands for itself, not `\\*`");
        }
        let (directories, path) = match text.strip_suffix('/') {
            Some(path) => (true, path),
            None => (false, text),
        };
        let by_name = !path.contains('/');
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return wrong("it has an empty component, `.` or `..`");
        }
        match Pattern::new(path) {
            Ok(pattern) => Ok(Self { written: text.to_owned(), pattern, by_name, directories }),
            Err(error) => wrong(error.msg),
        }
    }
}

impl fmt::Display for TreePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matched(pattern: &str) -> Vec<&'static str> {
        let all = [
            "README.md",
            "bin/app",
            "bin/lib/x.so",
            "docs/.hidden",
            "docs/a.md",
            "docs/drafts/b.md",
            "drafts",
        ];
        let pattern: TreePattern = pattern.parse().unwrap();
        all.into_iter().filter(|path| pattern.matches(&path.parse().unwrap())).collect()
    }

    #[test]
    fn patterns_mean_what_they_mean_to_git() {
        assert_eq!(matched("*.md"), ["README.md", "docs/a.md", "docs/drafts/b.md"]);
        assert_eq!(matched("/*.md"), ["README.md"]);
        assert_eq!(matched("docs/*.md"), ["docs/a.md"]);
        assert_eq!(matched("docs/**/*.md"), ["docs/a.md", "docs/drafts/b.md"]);
        assert_eq!(matched("**/drafts"), ["docs/drafts/b.md", "drafts"]);
        assert_eq!(matched("drafts"), ["docs/drafts/b.md", "drafts"]);
        assert_eq!(matched("drafts/"), ["docs/drafts/b.md"]);
        assert_eq!(matched("/drafts/"), [""; 0]);
        assert_eq!(matched("bin"), ["bin/app", "bin/lib/x.so"]);
        assert_eq!(matched("bin/*"), ["bin/app", "bin/lib/x.so"]);
        assert_eq!(matched("bin/**"), ["bin/app", "bin/lib/x.so"]);
        assert_eq!(matched("?.md"), ["docs/a.md", "docs/drafts/b.md"]);
        assert_eq!(matched("[ab].md"), ["docs/a.md", "docs/drafts/b.md"]);
        assert_eq!(matched("*hidden"), ["docs/.hidden"]);
        assert_eq!(matched("readme.md"), [""; 0]);
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for wrong in ["", "/", "//", "!a", "a\\*", "a//b", "../a", "./a", "a/..", "a**", "[a", "***"] {
            assert!(wrong.parse::<TreePattern>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_nearest_word_is_one_that_would_match() {
        let paths: [BundlePath; 2] = ["docs/drafts/b.md".parse().unwrap(), "README.md".parse().unwrap()];
        let paths: Vec<&BundlePath> = paths.iter().collect();
        let nearest = |text: &str| text.parse::<TreePattern>().unwrap().nearest(&paths);
        assert_eq!(nearest("draft/").as_deref(), Some("drafts"));
        assert_eq!(nearest("docs/draft/b.md").as_deref(), Some("docs/drafts/b.md"));
        assert_eq!(nearest("REDME.md").as_deref(), Some("README.md"));
        assert_eq!(nearest("*.mdd").as_deref(), Some("*.md"));
        assert_eq!(nearest("quite-another"), None);
    }
}
