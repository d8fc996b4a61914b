//! Labels and annotations: words about an image, none of which is a time.

use std::collections::BTreeMap;

use super::super::super::finding::Finding;
use super::super::super::similar::did_you_mean;
use super::super::stated::{Stated, help};
use super::settings::no_tokens;

/// The prefix that the OCI keeps for itself.
const RESERVED: &str = "org.opencontainers.";
/// What it has defined for images, but for the time of a build, and the name, which is rick's to give.
const DEFINED: [&str; 12] = [
    "org.opencontainers.image.authors",
    "org.opencontainers.image.url",
    "org.opencontainers.image.documentation",
    "org.opencontainers.image.source",
    "org.opencontainers.image.version",
    "org.opencontainers.image.revision",
    "org.opencontainers.image.vendor",
    "org.opencontainers.image.licenses",
    "org.opencontainers.image.title",
    "org.opencontainers.image.description",
    "org.opencontainers.image.base.digest",
    "org.opencontainers.image.base.name",
];
const CREATED: &str = "org.opencontainers.image.created";

/// `what` is `label` or `annotation`, and the argument is the same with an `s`.
pub(super) fn check(
    stated: Stated<'_>,
    what: &str,
    words: &BTreeMap<String, String>,
    findings: &mut Vec<Finding>,
) {
    let argument = format!("{what}s");
    for (key, value) in words {
        let place: &[&str] = &[key, &argument];
        let shown = key.escape_debug();
        no_tokens(value, |message| stated.error(place, message, ""), findings);
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) || value.contains('\0') {
            let finding = stated.error(place, format!("`{shown}` can be no {what} of an image"), "");
            findings.push(finding.help(format!(
                "write the name of a domain backwards and a word, as in `com.example.{what}`"
            )));
        } else if key == CREATED || says_a_time(value) {
            let message =
                format!("the {what} `{shown}` says a time, and the same source would be another image later");
            let finding = stated.error(place, message, "");
            findings.push(finding.help("leave it out; say a version or a revision where one is known"));
        } else if key.starts_with(RESERVED) && !DEFINED.contains(&key.as_str()) {
            let message = format!(
                "`{shown}` is no {what} that the OCI has defined for images, and `{RESERVED}` is its own"
            );
            findings.push(help(stated.error(place, message, ""), did_you_mean(key, DEFINED)));
        }
    }
}

/// A date and a time of day stand in it, as in `2026-01-31T12:00`.
fn says_a_time(value: &str) -> bool {
    const SHAPE: &[u8] = b"0000-00-00T00:00";
    let alike = |(byte, shape): (&u8, &u8)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' ' | b'_'),
        other => byte == other,
    };
    value.as_bytes().windows(SHAPE.len()).any(|window| window.iter().zip(SHAPE).all(alike))
}
