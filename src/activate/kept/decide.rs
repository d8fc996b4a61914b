//! Whether a service may start, and with what. Pure.

use std::collections::BTreeSet;

use super::Part;
use super::presence::Presence;
use super::record::Record;
use crate::bundle::manifest::Home;

/// What follows from what is there and what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It starts with what is there.
    Start,
    /// Nothing is there: the repository is asked, and has to answer. `lost`: something was there before.
    Ask {
        /// So nothing is no answer.
        lost: bool,
    },
    /// What is there was the service's, and some of it is gone.
    Lost(Vec<Part>),
    /// It is to come from another host, and something is there that did not.
    Foreign(Home),
}

/// Decides. `record` is `None` if this host never had the service, `from` the host that it is to come from.
pub fn decide(presence: &Presence, record: Option<&Record>, from: Option<&Home>) -> Verdict {
    let none = BTreeSet::new();
    let held = record.map_or(&none, |record| &record.held);
    let something = presence.values().any(|there| *there);
    let lost: Vec<Part> = presence
        .iter()
        .filter(|(part, there)| !**there && held.contains(*part))
        .map(|(part, _)| part.clone())
        .collect();
    let came = from.is_none_or(|home| record.and_then(|record| record.came_from.as_ref()) == Some(home));
    match (something, lost.is_empty()) {
        (true, _) if !came => from.map_or(Verdict::Start, |home| Verdict::Foreign(home.clone())),
        (false, _) if !came => Verdict::Ask { lost: false },
        (true, true) => Verdict::Start,
        (true, false) => Verdict::Lost(lost),
        // It began with nothing, and nothing has come to it.
        (false, true) if record.is_some() => Verdict::Start,
        (false, nothing_lost) => Verdict::Ask { lost: !nothing_lost },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str) -> Part {
        match name.strip_prefix('/') {
            Some(_) => Part::Directory(name.parse().unwrap()),
            None => Part::Dump(name.parse().unwrap()),
        }
    }

    fn presence(parts: &[(&str, bool)]) -> Presence {
        parts.iter().map(|(name, there)| (part(name), *there)).collect()
    }

    fn record(held: &[&str], from: Option<&str>) -> Record {
        let held = held.iter().map(|name| part(name)).collect();
        Record { held, came_from: from.map(|home| home.parse().unwrap()), ..Record::default() }
    }

    fn verdict(there: &[(&str, bool)], record: Option<&Record>) -> Verdict {
        decide(&presence(there), record, None)
    }

    const NOTHING: [(&str, bool); 2] = [("/a", false), ("db", false)];
    const ALL: [(&str, bool); 2] = [("/a", true), ("db", true)];
    const SOME: [(&str, bool); 2] = [("/a", true), ("db", false)];

    #[test]
    fn what_is_there_is_started_with_whoever_made_it() {
        for known in
            [None, Some(record(&[], None)), Some(record(&["/a"], None)), Some(record(&["/a", "db"], None))]
        {
            assert_eq!(verdict(&ALL, known.as_ref()), Verdict::Start);
        }
        assert_eq!(verdict(&SOME, None), Verdict::Start, "no part is missed that was never there");
        assert_eq!(verdict(&SOME, Some(&record(&["/a"], None))), Verdict::Start);
    }

    #[test]
    fn before_a_first_start_the_repository_is_asked() {
        assert_eq!(verdict(&NOTHING, None), Verdict::Ask { lost: false });
    }

    #[test]
    fn what_began_with_nothing_may_have_nothing() {
        assert_eq!(verdict(&NOTHING, Some(&record(&[], None))), Verdict::Start);
    }

    #[test]
    fn what_was_there_and_is_gone_is_brought_back_or_missed() {
        assert_eq!(verdict(&NOTHING, Some(&record(&["/a"], None))), Verdict::Ask { lost: true });
        assert_eq!(verdict(&SOME, Some(&record(&["/a", "db"], None))), Verdict::Lost(vec![part("db")]));
    }

    #[test]
    fn what_is_to_come_comes_once_and_over_nothing() {
        let home: Home = "lab/old".parse().unwrap();
        let decide =
            |there: &[(&str, bool)], record: Option<&Record>| decide(&presence(there), record, Some(&home));
        assert_eq!(decide(&NOTHING, None), Verdict::Ask { lost: false });
        assert_eq!(
            decide(&NOTHING, Some(&record(&[], None))),
            Verdict::Ask { lost: false },
            "it was empty here"
        );
        assert_eq!(decide(&ALL, None), Verdict::Foreign(home.clone()));
        assert_eq!(decide(&SOME, Some(&record(&["/a"], Some("lab/other")))), Verdict::Foreign(home.clone()));
        let came = record(&["/a", "db"], Some("lab/old"));
        assert_eq!(decide(&ALL, Some(&came)), Verdict::Start);
        assert_eq!(decide(&SOME, Some(&came)), Verdict::Lost(vec![part("db")]));
        assert_eq!(decide(&NOTHING, Some(&came)), Verdict::Ask { lost: true });
        assert_eq!(
            decide(&NOTHING, Some(&record(&[], Some("lab/old")))),
            Verdict::Start,
            "it was empty there"
        );
    }
}
