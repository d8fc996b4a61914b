//! Words between hosts about who has a service. They stand in the repository that both know, as snapshots that hold nothing but what they are tagged
//! with, so that no server is needed beside it, and none is ever removed but by who said it.
//!
//! ```text
//! released   the host has stopped it for good, and copied it: `copy=ID`, or `copy=none`; `number=N` orders them, `came=ID` names the word by which it came
//! taken      another host has it by that word: `word=ID`, `by=ENVIRONMENT/HOST`
//! reclaimed  the host has it again after all: `word=ID`
//! ```
//!
//! Who takes says so and then looks whether it was reclaimed; who reclaims says so and then looks whether it was taken. Of two that do so at the same
//! moment, one at least sees the other.

use anyhow::Result;

use super::restic::{RECLAIMED, RELEASED, Restic, Snapshot, SnapshotId, TAKEN};
use crate::bundle::manifest::Home;
use crate::bundle::names::Label;

/// All that the repository has of a service: copies and words, of all hosts.
pub(super) struct Words(Vec<Snapshot>);

impl Words {
    /// Reads them. `None`: there is no repository.
    pub(super) fn read(restic: &Restic, service: &Label) -> Result<Option<Self>> {
        Ok(restic.snapshots_if_there(None, &[service.as_str()])?.map(Self))
    }

    /// The last word by which a host let the service go.
    pub(super) fn released(&self, by: &Home) -> Option<&Snapshot> {
        self.of(RELEASED).filter(|word| is_of(word, by)).max_by_key(|word| word.number())
    }

    /// The word by which another host has it.
    pub(super) fn taken(&self, word: &SnapshotId) -> Option<&Snapshot> {
        self.of(TAKEN).find(|taken| taken.tagged("word") == Some(word.as_str()))
    }

    /// The host that let it go has it again.
    pub(super) fn reclaimed(&self, word: &SnapshotId) -> bool {
        self.of(RECLAIMED).any(|reclaimed| reclaimed.tagged("word") == Some(word.as_str()))
    }

    /// Nobody has answered it yet.
    pub(super) fn is_open(&self, word: &SnapshotId) -> bool {
        self.taken(word).is_none() && !self.reclaimed(word)
    }

    /// The word by which a host let the service go, unless it has copied it since: then it had it again.
    pub(super) fn let_go(&self, by: &Home) -> Option<&Snapshot> {
        let word = self.released(by)?;
        let again = self.copies(by, None).any(|copy| copy.number() > word.number());
        (!again).then_some(word)
    }

    /// The word by which another host has what this one let go.
    pub(super) fn taken_from(&self, home: &Home) -> Option<&Snapshot> {
        self.taken(&self.let_go(home)?.id)
    }

    /// A host that had it by that word has let it go.
    pub(super) fn passed_on(&self, word: &SnapshotId, by: &Home) -> bool {
        let since = |released: &&Snapshot| {
            is_of(released, by)
                && released.tagged("came") == Some(word.as_str())
                && !self.reclaimed(&released.id)
        };
        self.of(RELEASED).any(|released| since(&released))
    }

    /// The copies that a host took, of what came by that word if one is given.
    pub(super) fn copies(&self, of: &Home, came: Option<&SnapshotId>) -> impl Iterator<Item = &Snapshot> {
        let came = came.map(|word| word.as_str().to_owned());
        let copies = self.0.iter().filter(|snapshot| snapshot.is_copy());
        let of = of.clone();
        copies.filter(move |copy| {
            is_of(copy, &of) && came.as_deref().is_none_or(|word| copy.tagged("came") == Some(word))
        })
    }

    /// A copy of whichever host.
    pub(super) fn copy(&self, id: &SnapshotId) -> Option<&Snapshot> {
        self.0.iter().find(|snapshot| snapshot.id == *id)
    }

    fn of(&self, kind: &str) -> impl Iterator<Item = &Snapshot> {
        self.0.iter().filter(move |snapshot| snapshot.tags.iter().any(|tag| tag == kind))
    }
}

fn is_of(snapshot: &Snapshot, home: &Home) -> bool {
    snapshot.hostname == home.host.as_str()
        && snapshot.tags.iter().any(|tag| tag == home.environment.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> SnapshotId {
        digit.to_string().repeat(64).try_into().unwrap()
    }

    fn snapshot(digit: char, host: &str, tags: &[&str]) -> Snapshot {
        let tags = ["lab", "app"].iter().chain(tags).map(|tag| (*tag).to_owned()).collect();
        Snapshot { id: id(digit), time: String::new(), paths: Vec::new(), hostname: host.to_owned(), tags }
    }

    #[test]
    fn words_are_ordered_by_number_and_a_word_is_good_once() {
        let tag = |key: &str, digit: char| format!("{key}={}", id(digit).as_str());
        let there = vec![
            snapshot('b', "old", &[RELEASED, "number=9", &tag("copy", '9')]),
            snapshot('a', "old", &[RELEASED, "number=3", &tag("copy", '3')]),
            snapshot('c', "new", &[TAKEN, &tag("word", 'a'), "by=lab/new"]),
            snapshot('d', "new", &[&tag("came", 'a'), "number=4"]),
            snapshot('e', "new", &[RELEASED, "number=5", &tag("came", 'a'), &tag("copy", 'd')]),
            snapshot('f', "old", &[RECLAIMED, &tag("word", 'b')]),
        ];
        let words = Words(there);
        let (old, new): (Home, Home) = ("lab/old".parse().unwrap(), "lab/new".parse().unwrap());
        assert_eq!(words.released(&old).unwrap().id, id('b'), "the later word, wherever it stands");
        assert!(words.taken(&id('a')).is_some() && words.taken(&id('b')).is_none());
        assert!(words.reclaimed(&id('b')) && !words.reclaimed(&id('a')));
        assert!(words.passed_on(&id('a'), &new) && !words.passed_on(&id('b'), &new));
        assert_eq!(
            words.copies(&new, Some(&id('a'))).map(|copy| copy.id.clone()).collect::<Vec<_>>(),
            [id('d')]
        );
        assert_eq!(words.copies(&old, None).count(), 0, "words are no copies");
    }

    #[test]
    fn what_a_host_let_go_it_has_again_once_it_copies_it() {
        let tag = |key: &str, digit: char| format!("{key}={}", id(digit).as_str());
        let mut there = vec![
            snapshot('1', "old", &["number=1"]),
            snapshot('a', "old", &[RELEASED, "number=2", &tag("copy", '1')]),
        ];
        let home: Home = "lab/old".parse().unwrap();
        let words = Words(there.clone());
        assert_eq!(words.let_go(&home).unwrap().id, id('a'));
        assert!(words.is_open(&id('a')) && words.taken_from(&home).is_none());

        there.push(snapshot('b', "new", &[TAKEN, &tag("word", 'a'), "by=lab/new"]));
        let words = Words(there.clone());
        assert!(!words.is_open(&id('a')));
        assert_eq!(words.taken_from(&home).unwrap().id, id('b'));

        there.push(snapshot('3', "old", &["number=3"]));
        let words = Words(there);
        assert!(words.let_go(&home).is_none() && words.taken_from(&home).is_none());
    }
}
