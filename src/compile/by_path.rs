//! What stands at paths, in the order of the paths.
//!
//! A map that is made at once. Files come by the ten thousand and mostly sorted, so that sorting a list of them costs little more than a look at
//! each, and a tree of nodes several times as much.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::bundle::names::BundlePath;

/// Things with their paths. One path may have several of them unless they were [collected](FromIterator).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::compile) struct ByPath<T, P = BundlePath>(Vec<(P, T)>);

/// A path, and what stands there.
type At<T, P = BundlePath> = (P, T);

/// Two of them that have to do with each other.
type Two<'a, T, P> = (&'a At<T, P>, &'a At<T, P>);

impl<T, P: Ord + AsRef<str>> ByPath<T, P> {
    /// All of them: those at one path in the order in which they come.
    pub(in crate::compile) fn all(mut things: Vec<At<T, P>>) -> Self {
        things.sort_by(|(one, _), (other, _)| one.cmp(other));
        Self(things)
    }

    /// What stands at a path, the last one if that is more.
    pub(in crate::compile) fn get(&self, path: &str) -> Option<&T> {
        let end = self.0.partition_point(|(other, _)| other.as_ref() <= path);
        let (last, thing) = self.0[..end].last()?;
        (last.as_ref() == path).then_some(thing)
    }

    /// In order: a directory is before what is in it.
    pub(in crate::compile) fn as_slice(&self) -> &[At<T, P>] {
        &self.0
    }

    /// Each two that stand at the same path, one after the other.
    pub(in crate::compile) fn twice(&self) -> impl Iterator<Item = Two<'_, T, P>> {
        let next = self.0.iter().skip(1);
        self.0.iter().zip(next).filter(|((one, _), (other, _))| one == other)
    }

    /// Each two of which one stands below the other, the upper one first, if `matters` says so of it.
    pub(in crate::compile) fn nested(&self, matters: impl Fn(&T) -> bool) -> Vec<Two<'_, T, P>> {
        let (mut nested, mut open) = (Vec::new(), Vec::<&At<T, P>>::new());
        for lower in &self.0 {
            let path = lower.0.as_ref();
            // All that begin with the same follow each other.
            while open.pop_if(|(upper, _)| !path.starts_with(upper.as_ref())).is_some() {}
            let below = open.iter().filter(|(upper, _)| path[upper.as_ref().len()..].starts_with('/'));
            nested.extend(below.map(|upper| (*upper, lower)));
            if matters(&lower.1) {
                open.push(lower);
            }
        }
        nested
    }
}

/// Of several at one path, the last.
impl<T, P: Ord + AsRef<str>> FromIterator<At<T, P>> for ByPath<T, P> {
    fn from_iter<I: IntoIterator<Item = At<T, P>>>(things: I) -> Self {
        let Self(mut things) = Self::all(things.into_iter().collect());
        things.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                std::mem::swap(next, kept);
            }
            same
        });
        Self(things)
    }
}

impl<'a, T, P> IntoIterator for &'a ByPath<T, P> {
    type Item = &'a At<T, P>;
    type IntoIter = std::slice::Iter<'a, At<T, P>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn at(paths: &[String]) -> Vec<At<usize>> {
        paths.iter().enumerate().map(|(number, path)| (path.parse().unwrap(), number)).collect()
    }

    proptest! {
        #[test]
        fn it_is_the_map_that_a_map_would_be(paths in prop::collection::vec("[ab-]{1,2}(/[ab-]{1,2}){0,3}", 0..40)) {
            let (map, all) = (BTreeMap::from_iter(at(&paths)), ByPath::all(at(&paths)));
            let one: ByPath<usize> = at(&paths).into_iter().collect();
            prop_assert!(one.as_slice().iter().map(|(path, number)| (path, number)).eq(&map));
            for path in paths.iter().map(String::as_str).chain(["a", "-", "zz"]) {
                prop_assert_eq!(one.get(path), map.get(path));
                prop_assert_eq!(all.get(path), map.get(path));
            }
            prop_assert_eq!(all.twice().count(), paths.len() - map.len());
            let is_below = |(upper, _): &At<usize>, (lower, _): &At<usize>| lower.parents().any(|parent| parent == upper.as_str());
            let mut nested: Vec<_> = all.nested(|number| number % 2 == 0);
            nested.sort();
            let both = || all.as_slice().iter().filter(|(_, number)| number % 2 == 0);
            let mut expected: Vec<_> = both().flat_map(|upper| all.as_slice().iter().map(move |lower| (upper, lower))).collect();
            expected.retain(|(upper, lower)| is_below(upper, lower));
            expected.sort();
            prop_assert_eq!(nested, expected);
        }
    }
}
