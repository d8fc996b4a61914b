//! Who is to read a secret, and how that compares with who can.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use super::header::Header;
use super::recipient::{Mark, Recipient};
use crate::bundle::names::{HostName, SecretName};
use crate::compile::host::Host;

/// Who is to read a secret of the source tree.
#[derive(Clone, Debug, Default)]
pub struct Audience<'a> {
    /// The hosts that need it.
    pub hosts: BTreeMap<&'a HostName, &'a Recipient>,
    /// Who keeps it.
    pub operators: &'a [Recipient],
}

/// What is not as it should be with a file's recipients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Hosts that cannot read it.
    pub hosts: Vec<HostName>,
    /// Operators that cannot, in words.
    pub operators: Vec<String>,
    /// Others that can, in words.
    pub others: Vec<String>,
}

impl Difference {
    /// All is as it should be.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The audience of each secret that hosts take from the source tree.
pub fn audiences<'a>(
    hosts: &'a [Host],
    operators: &'a [Recipient],
) -> BTreeMap<&'a SecretName, Audience<'a>> {
    let mut audiences: BTreeMap<_, Audience<'a>> = BTreeMap::new();
    for host in hosts {
        let from_tree = host.secrets.iter().filter(|(_, secret)| secret.file.is_some());
        for (name, _) in from_tree {
            let audience = audiences.entry(name).or_default();
            audience.operators = operators;
            audience.hosts.extend(host.ssh_key.as_ref().map(|key| (&host.name, key)));
        }
    }
    audiences
}

impl Audience<'_> {
    /// What age encrypts to: each key once.
    pub fn keys(&self) -> BTreeSet<&str> {
        self.recipients().map(Recipient::key).collect()
    }

    /// How a file compares. A key of age itself can be told from no other: of these, only the number is known.
    pub fn compare(&self, header: &Header) -> Difference {
        let has = |key: &Recipient| !matches!(key.mark(), Mark::Ssh(_)) || header.marks.contains(key.mark());
        let hosts = self.hosts.iter().filter(|(_, key)| !has(key)).map(|(name, _)| (*name).clone());
        let operators = self.operators.iter().filter(|key| !has(key)).map(|key| format!("`{key}`"));
        let declared: BTreeSet<&Mark> = self.recipients().map(Recipient::mark).collect();
        let known = |mark: &&Mark| declared.contains(mark) || !matches!(mark, Mark::Ssh(_));
        let others: BTreeSet<&Mark> = header.marks.iter().filter(|mark| !known(mark)).collect();
        let mut difference = Difference {
            hosts: hosts.collect(),
            operators: operators.collect(),
            others: others.into_iter().filter_map(|mark| Some(format!("`{}`", mark.of_ssh()?))).collect(),
        };
        for (mark, one, many) in [
            (Mark::X25519, "a key of age", "keys of age"),
            (Mark::Plugin, "a key of a plugin", "keys of plugins"),
        ] {
            let is = header.marks.iter().filter(|other| **other == mark).count();
            let should = self.keys_of(&mark);
            let words = |number: usize| if number == 1 { one.to_owned() } else { format!("{number} {many}") };
            if is < should {
                difference.operators.push(words(should - is));
            } else if is > should {
                difference.others.push(words(is - should));
            }
        }
        difference
    }

    fn recipients(&self) -> impl Iterator<Item = &Recipient> {
        self.hosts.values().copied().chain(self.operators)
    }

    fn keys_of(&self, mark: &Mark) -> usize {
        let keys: BTreeSet<&str> =
            self.recipients().filter(|key| key.mark() == mark).map(Recipient::key).collect();
        keys.len()
    }
}
