//! Changes of the text. What is not changed keeps its bytes, with comments, order and the way it is written.

use toml_edit::{DocumentMut, Item, Table, value};

use super::{Package, Pin, Resolved, VERSION};
use crate::bundle::digest::Digest;
use crate::compile::outside::Outside;

/// What a new file begins with.
const HEADER: &str =
    "# What rick takes from outside this tree, and which one it is. `rickbuild lock` writes it; commit it.\n";

/// The text of a lock, to be changed.
pub struct Edit {
    document: DocumentMut,
    /// The file has the line ends of Windows.
    carriage_returns: bool,
}

impl Edit {
    /// Of a text without findings.
    ///
    /// # Errors
    /// If it has some.
    pub fn of(text: &str) -> Result<Self, toml_edit::TomlError> {
        let text =
            if text.trim().is_empty() { format!("{HEADER}version = {VERSION}\n") } else { text.to_owned() };
        Ok(Self { document: text.parse()?, carriage_returns: text.contains("\r\n") })
    }

    /// The text as it is now.
    pub fn text(&self) -> String {
        let text = self.document.to_string();
        if self.carriage_returns { text.replace("\r\n", "\n").replace('\n', "\r\n") } else { text }
    }

    /// Says which one something is: in the line that says so already, or in a new one where it sorts.
    pub fn set(&mut self, pin: &Pin) {
        match pin {
            Pin::Image(reference, digest) => self.set_digest("images", &reference.to_string(), *digest),
            Pin::Archive(url, digest) => self.set_digest("archives", url.as_str(), *digest),
            Pin::Packages(packages, resolved) => {
                let Some(debian) = self.table("debian") else { return };
                if debian.is_empty() {
                    debian.set_implicit(true);
                }
                if let Some(table) = table_in(debian, &packages.to_string(), by_name) {
                    set_packages(table, resolved);
                }
            }
        }
    }

    /// Removes an entry, with the comment above it, and a table that has no other.
    pub fn remove(&mut self, outside: &Outside) {
        let (name, key) = match outside {
            Outside::Image(reference) => ("images", reference.to_string()),
            Outside::Archive(url) => ("archives", url.to_string()),
            Outside::Packages(packages) => ("debian", packages.to_string()),
        };
        let Some(table) = self.document.get_mut(name).and_then(Item::as_table_mut) else { return };
        if table.remove(&key).is_some() && table.is_empty() {
            self.document.remove(name);
        }
    }

    fn set_digest(&mut self, table: &str, key: &str, digest: Digest) {
        if let Some(table) = self.table(table) {
            set_text(table, key, &digest.to_string(), by_name);
        }
    }

    /// The table of this name; none only where something else has it, which is a finding.
    fn table(&mut self, name: &str) -> Option<&mut Table> {
        let order = ["version", "images", "archives", "debian"];
        let rank = |name: &str| order.iter().position(|known| *known == name);
        table_in(self.document.as_table_mut(), name, rank)
    }
}

/// The order of most tables.
fn by_name(name: &str) -> String {
    name.to_owned()
}

/// When the archive was like this, then the files.
fn snapshot_first(name: &str) -> (bool, String) {
    (name != "snapshot", name.to_owned())
}

fn set_packages(table: &mut Table, resolved: &Resolved) {
    let wanted = |path: &str| resolved.packages.iter().any(|package| package.path.as_str() == path);
    let gone: Vec<_> = table
        .iter()
        .map(|(key, _)| key)
        .filter(|key| *key != "snapshot" && !wanted(key))
        .map(str::to_owned)
        .collect();
    for key in gone {
        table.remove(&key);
    }
    set_text(table, "snapshot", &resolved.snapshot.to_string(), snapshot_first);
    for Package { path, digest } in &resolved.packages {
        set_text(table, path.as_str(), &digest.to_string(), snapshot_first);
    }
}

fn set_text<K: Ord>(table: &mut Table, key: &str, text: &str, rank: impl Fn(&str) -> K) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(there) if there.as_str() == Some(text) => {}
        Some(there) => {
            let decor = there.decor().clone();
            *there = text.into();
            *there.decor_mut() = decor;
        }
        None => insert(table, key, value(text), rank),
    }
}

fn table_in<'a, K: Ord>(table: &'a mut Table, name: &str, rank: impl Fn(&str) -> K) -> Option<&'a mut Table> {
    if !table.contains_key(name) {
        let mut new = Table::new();
        new.decor_mut().set_prefix("\n");
        insert(table, name, Item::Table(new), rank);
    }
    table.get_mut(name).and_then(Item::as_table_mut)
}

/// Puts an entry before the first that comes after it.
fn insert<K: Ord>(table: &mut Table, key: &str, item: Item, rank: impl Fn(&str) -> K) {
    let place = rank(key);
    let later: Vec<_> =
        table.iter().map(|(key, _)| key).skip_while(|key| rank(key) <= place).map(str::to_owned).collect();
    let later: Vec<_> = later.iter().filter_map(|key| table.remove_entry(key)).collect();
    table.insert(key, item);
    for (key, item) in later {
        table.insert_formatted(&key, item);
    }
}
