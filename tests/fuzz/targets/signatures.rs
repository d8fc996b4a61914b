//! What stands beside a host's manifest before anything is believed: texts that say of themselves that somebody signed.

use rick::bundle::signature::{Signature, split, with};

/// One more is one more, whatever stood there before, and what is said of each fits on a line.
pub(super) fn run(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let all: Vec<&str> = split(text).collect();
    let read: Vec<Signature> = all.iter().filter_map(|armored| Signature::parse(armored)).collect();
    for signature in &read {
        assert!(signature.key.strip_prefix("SHA256:").is_some_and(|hash| hash.len() == 43));
    }
    let Some(last) = all.last().filter(|armored| Signature::parse(armored).is_some()) else { return false };
    let again = with(Some(text), last);
    assert_eq!(split(&again).last(), Some(*last));
    assert!(split(&again).count() <= all.len());
    assert_eq!(with(Some(&again), last), again, "to sign twice is to sign once");
    true
}
