//! The committed tables, parsed once.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::version::Version;

/// The versions between which a key is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// The version that brought it; none if that is longer ago than anybody remembers.
    pub since: Option<Version>,
    /// A version that lacks it again.
    pub gone: Option<Version>,
}

/// Key → life.
pub(super) type Keys = BTreeMap<&'static str, Life>;

/// Section → its keys.
type Table = BTreeMap<&'static str, Keys>;

/// The sections of unit files.
pub(super) fn systemd() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| parse(include_str!("systemd.txt")))
}

/// The sections that only Quadlet files have.
pub(super) fn quadlet() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| parse(include_str!("quadlet.txt")))
}

fn parse(text: &'static str) -> Table {
    let mut table = Table::new();
    let mut sections = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(names) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            sections = names.split(' ').collect();
        } else {
            let mut words = line.split(' ');
            let key = words.next().unwrap_or_default();
            let mut version = || words.next().and_then(|word| word.parse().ok());
            let life = Life { since: version(), gone: version() };
            for section in &sections {
                table.entry(section).or_default().insert(key, life);
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_tables_are_whole() {
        assert_eq!(systemd().len(), 10);
        assert_eq!(quadlet().len(), 9);
        assert!(systemd()["Service"].len() > 250);
        assert!(quadlet()["Container"].len() > 80);
        for text in [include_str!("systemd.txt"), include_str!("quadlet.txt")] {
            for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '['])) {
                let words: Vec<_> = line.split(' ').collect();
                assert!((2..=3).contains(&words.len()), "{line}");
                let versions = words[1..].iter().filter(|word| **word != "-");
                assert!(versions.clone().all(|word| word.parse::<Version>().is_ok()), "{line}");
            }
        }
    }
}
