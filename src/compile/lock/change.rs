//! What two locks differ in, a line for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::{Lock, Package, Resolved};

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Whose entry it is.
    pub name: String,
    /// What it said; nothing if it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What it says now; nothing if it is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

impl Change {
    /// A new entry of which nobody knows yet what it will say.
    pub fn missing(name: String) -> Self {
        Self { name, old: None, new: None }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => write!(f, "~ {name}  {old} → {new}"),
            (None, Some(new)) => write!(f, "+ {name}  {new}"),
            (Some(old), None) => write!(f, "- {name}  {old}"),
            (None, None) => write!(f, "+ {name}"),
        }
    }
}

/// All that is another, new or gone.
pub(super) fn between(old: &Lock, new: &Lock) -> Vec<Change> {
    let mut changes = Vec::new();
    compare(&old.images, &new.images, ToString::to_string, &mut changes);
    compare(&old.archives, &new.archives, ToString::to_string, &mut changes);
    for key in old.debian.keys().chain(new.debian.keys()).collect::<BTreeSet<_>>() {
        let name = key.to_string();
        match (old.debian.get(key), new.debian.get(key)) {
            (Some(old), Some(new)) => compare_packages(&name, old, new, &mut changes),
            (old, new) => {
                let count = |resolved: &Resolved| format!("{} packages", resolved.packages.len());
                changes.push(Change { name, old: old.map(count), new: new.map(count) });
            }
        }
    }
    changes
}

fn compare<K: Ord + fmt::Display, V: PartialEq>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    show: impl Fn(&V) -> String,
    changes: &mut Vec<Change>,
) {
    for key in old.keys().chain(new.keys()).collect::<BTreeSet<_>>() {
        let (old, new) = (old.get(key), new.get(key));
        if old != new {
            changes.push(Change { name: key.to_string(), old: old.map(&show), new: new.map(&show) });
        }
    }
}

/// By package: its file has the version in its name.
fn compare_packages(name: &str, old: &Resolved, new: &Resolved, changes: &mut Vec<Change>) {
    let by_name = |resolved: &Resolved| -> BTreeMap<String, Package> {
        let named = |package: &Package| (format!("{name} / {}", package.path.package()), package.clone());
        resolved.packages.iter().map(named).collect()
    };
    let before = changes.len();
    compare(&by_name(old), &by_name(new), |package| package.path.version().to_owned(), changes);
    if changes.len() == before && old.snapshot != new.snapshot {
        let (old, new) = (Some(old.snapshot.to_string()), Some(new.snapshot.to_string()));
        changes.push(Change { name: format!("{name} / snapshot"), old, new });
    }
}
