//! Did you mean: the word that a person probably wanted.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

/// The candidate nearest to `word`: the same but for case, or a few edits away; the first of several.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).clamp(1, 4);
    let lower = word.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&lower, &candidate.to_lowercase());
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *candidate != word)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The same as a sentence for `help`, or nothing.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    closest(word, candidates).map(|candidate| format!("did you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["After", "Before", "ExecStart", "IPv6"];
        assert_eq!(closest("Aftr", known), Some("After"));
        assert_eq!(closest("execstart", known), Some("ExecStart"));
        assert_eq!(closest("Ipv6", known), Some("IPv6"));
        assert_eq!(closest("Colour", known), None);
        assert_eq!(closest("", known), None);
    }
}
