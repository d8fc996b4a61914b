//! What is to be asked of the network, and what nobody wants any more.

use std::collections::BTreeSet;

use super::Lock;
use crate::compile::outside::Outside;

/// What `rickbuild lock` was told to take anew.
#[derive(Clone, Copy, Debug)]
pub enum Anew<'a> {
    /// What has these names: an image or all of a repository, a URL, packages or all of a release.
    Named(&'a [String]),
    /// Everything.
    All,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Has no entry yet.
    pub missing: Vec<Outside>,
    /// Has one, and is asked for again.
    pub anew: Vec<Outside>,
    /// Has one, and nobody wants it.
    pub unwanted: Vec<Outside>,
    /// Names that nothing has.
    pub unknown: Vec<String>,
}

impl Plan {
    /// `whole` says that nobody else can want something.
    pub fn of(lock: &Lock, wanted: &BTreeSet<Outside>, whole: bool, anew: Anew<'_>) -> Self {
        // What says its digest itself has no entry.
        let with_entry = |outside: &&Outside| match outside {
            Outside::Image(reference) => reference.digest().is_none(),
            Outside::Archive(_) | Outside::Packages(_) => true,
        };
        let wanted: Vec<_> = wanted.iter().filter(with_entry).collect();
        let mut plan = Self::default();
        for outside in &wanted {
            let again = match anew {
                Anew::Named(names) => names.iter().any(|name| has_name(outside, name)),
                Anew::All => true,
            };
            if !lock.knows(outside) {
                plan.missing.push((*outside).clone());
            } else if again {
                plan.anew.push((*outside).clone());
            }
        }
        if whole {
            plan.unwanted = lock.entries().filter(|entry| !wanted.contains(&entry)).collect();
        }
        if let Anew::Named(names) = anew {
            let nobodys = |name: &&String| !wanted.iter().any(|outside| has_name(outside, name));
            plan.unknown = names.iter().filter(nobodys).cloned().collect();
        }
        plan
    }
}

fn has_name(outside: &Outside, name: &str) -> bool {
    let larger = match outside {
        Outside::Image(reference) => reference.repository() == name,
        Outside::Archive(_) => false,
        Outside::Packages(packages) => packages.release() == name,
    };
    larger || outside.to_string() == name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> Outside {
        Outside::Image(text.parse().unwrap())
    }

    #[test]
    fn what_has_an_entry_is_not_asked_for_unless_it_is_named() {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let text = format!(
            "version = 1\n[images]\n\"a.io/a:1\" = \"{digest}\"\n\"a.io/a:2\" = \"{digest}\"\n\"a.io/old:1\" = \"{digest}\"\n[debian.\"trixie: gcc\"]\nsnapshot = \"20261128T000000Z\"\n"
        );
        let lock = Lock::parse(&text).0;
        let packages = Outside::Packages("trixie: gcc".parse().unwrap());
        let placed = image(&format!("a.io/a@{digest}"));
        let (one, two, new) = (image("a.io/a:1"), image("a.io/a:2"), image("a.io/new:1"));
        let wanted = BTreeSet::from([one.clone(), two.clone(), new.clone(), placed, packages.clone()]);
        let of = |whole, names: &[&str]| {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            Plan::of(&lock, &wanted, whole, Anew::Named(&names))
        };
        let usual = Plan { missing: vec![new], ..Plan::default() };
        assert_eq!(of(false, &[]), usual);
        assert_eq!(of(true, &[]), Plan { unwanted: vec![image("a.io/old:1")], ..usual.clone() });
        assert_eq!(of(false, &["a.io/a:1"]), Plan { anew: vec![one.clone()], ..usual.clone() });
        assert_eq!(of(false, &["a.io/a"]), Plan { anew: vec![one.clone(), two.clone()], ..usual.clone() });
        for name in ["trixie", "trixie: gcc"] {
            assert_eq!(of(false, &[name]), Plan { anew: vec![packages.clone()], ..usual.clone() });
        }
        assert_eq!(of(false, &["a.io"]), Plan { unknown: vec!["a.io".to_owned()], ..usual.clone() });
        let all = Plan::of(&lock, &wanted, false, Anew::All);
        assert_eq!(all, Plan { anew: vec![one, two, packages], ..usual });
    }
}
