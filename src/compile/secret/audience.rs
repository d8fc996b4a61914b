//! Who is to read a secret, and how that compares with who can.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use super::header::Header;
use super::recipient::{Mark, Recipient};
use crate::bundle::names::{HostName, SecretName};
use crate::compile::host::Host;

/// Keys of which a header shows only how many they are.
const OPAQUE: [Mark; 2] = [Mark::X25519, Mark::Plugin];

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
        for mark in OPAQUE {
            let is = header.marks.iter().filter(|other| **other == mark).count();
            let should = self.keys_of(&mark);
            if is < should {
                difference.operators.push(mark.counted(should - is));
            } else if is > should {
                difference.others.push(mark.counted(is - should));
            }
        }
        difference
    }

    /// The hosts' names.
    pub fn hosts(&self) -> Vec<String> {
        self.hosts.keys().map(ToString::to_string).collect()
    }

    /// All of it, in words.
    pub fn readers(&self) -> Vec<String> {
        self.hosts().into_iter().chain(self.operators.iter().map(ToString::to_string)).collect()
    }

    /// Who can read a file, in words, if this is everybody who is known.
    pub fn can_read(&self, header: &Header) -> Vec<String> {
        let has = |key: &Recipient| key.is_ssh() && header.marks.contains(key.mark());
        let hosts = self.hosts.iter().filter(|(_, key)| has(key)).map(|(name, _)| name.to_string());
        let operators = self.operators.iter().filter(|key| has(key)).map(ToString::to_string);
        let known: BTreeSet<&Mark> = self.recipients().map(Recipient::mark).collect();
        let others = header.marks.iter().filter(|mark| !known.contains(mark)).filter_map(Mark::of_ssh);
        let mut readers: Vec<String> = hosts.chain(operators).chain(others.map(str::to_owned)).collect();
        for mark in OPAQUE {
            let count = header.marks.iter().filter(|other| **other == mark).count();
            readers.extend((count > 0).then(|| mark.counted(count)));
        }
        readers
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
