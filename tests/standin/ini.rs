//! The format of Gitea's `app.ini`, as its reader (`go-ini`) takes it.

use crate::Outcome;
use std::collections::BTreeMap;

/// Sections by name; what comes before the first one is in the section without a name.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Ini(BTreeMap<String, BTreeMap<String, String>>);

impl Ini {
    pub(crate) fn parse(text: &str) -> Outcome<Self> {
        let mut sections = BTreeMap::new();
        let mut section = String::new();
        for (number, line) in text.lines().enumerate() {
            let failed = |why: &str| format!("line {}: {why}", number + 1);
            let line = line.trim();
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            if let Some(rest) = line.strip_prefix('[') {
                let name = rest.split_once(']').ok_or_else(|| failed("a section's name has no end"))?.0;
                section = if name == "DEFAULT" { String::new() } else { name.into() };
                continue;
            }
            let (key, value) =
                line.split_once(['=', ':']).ok_or_else(|| failed("neither section nor key"))?;
            let key = key.trim();
            if key.is_empty() {
                return Err(failed("a key has no name"));
            }
            let value = value_of(value.trim()).ok_or_else(|| failed("a quotation has no end"))?;
            let keys: &mut BTreeMap<_, _> = sections.entry(section.clone()).or_default();
            keys.insert(key.into(), value.into());
        }
        Ok(Self(sections))
    }

    /// The value of a key, if it has one.
    pub(crate) fn get(&self, section: &str, key: &str) -> Option<&str> {
        self.0.get(section)?.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// As `get`, but it must be there.
    pub(crate) fn required(&self, section: &str, key: &str) -> Outcome<&str> {
        self.get(section, key).ok_or_else(|| format!("[{section}] {key} is not set"))
    }

    pub(crate) fn is_true(&self, section: &str, key: &str) -> bool {
        let value = self.get(section, key).unwrap_or_default().to_ascii_lowercase();
        matches!(value.as_str(), "1" | "t" | "true" | "y" | "yes" | "on")
    }

    /// The name of each section, with its keys and values.
    pub(crate) fn sections(&self) -> impl Iterator<Item = (&str, &BTreeMap<String, String>)> {
        self.0.iter().map(|(name, keys)| (name.as_str(), keys))
    }
}

/// Between backquotes everything counts; outside of them the rest of the line may be a comment, even without
/// a space before it.
fn value_of(text: &str) -> Option<&str> {
    if let Some(quoted) = text.strip_prefix('`') {
        return Some(quoted.split_once('`')?.0);
    }
    let text = text.split(['#', ';']).next().unwrap_or_default().trim();
    let quoted = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    Some(quoted('"').or_else(|| quoted('\'')).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_keys_and_comments() {
        let ini = Ini::parse(
            "; first\nRUN_USER = git\n\n[server]\n# c\nA=b=c\nB : `x # y`\nC = \"q r\" ; c\nD = on\nE=\n\
             [queue.x]\nA=1\r\n[server]\nF = a#b\n",
        )
        .unwrap();
        assert_eq!(ini.get("", "RUN_USER"), Some("git"));
        let found = ["A", "B", "C", "E", "F", "G"].map(|key| ini.get("server", key));
        assert_eq!(found, [Some("b=c"), Some("x # y"), Some("q r"), None, Some("a"), None]);
        assert!(ini.is_true("server", "D") && !ini.is_true("server", "A"));
        assert_eq!(ini.get("queue.x", "A"), Some("1"));
        assert_eq!(ini.sections().map(|(name, _)| name).collect::<Vec<_>>(), ["", "queue.x", "server"]);
        assert_eq!(ini.required("server", "E"), Err("[server] E is not set".into()));
    }

    #[test]
    fn what_is_neither_is_refused_with_its_line() {
        for (text, why) in [
            ("a=b\nx", "line 2: neither section nor key"),
            ("[a", "line 1: a section's name has no end"),
            ("=a", "line 1: a key has no name"),
            ("a = `b", "line 1: a quotation has no end"),
        ] {
            assert_eq!(Ini::parse(text), Err(why.into()));
        }
    }
}
