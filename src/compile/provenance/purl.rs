//! Package URLs: names of packages that every tool understands (<https://github.com/package-url/purl-spec>).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt::Write as _;

/// `pkg:deb/debian/hello@2.10-3?arch=amd64`: the type and the name with what stands before it, the version, and qualifiers, which must come
/// sorted.
pub(super) fn purl(name: &[&str], version: &str, qualifiers: &[(&str, &str)]) -> String {
    let name: Vec<String> = name.iter().map(|part| encoded(part, "")).collect();
    let mut purl = format!("pkg:{}@{}", name.join("/"), encoded(version, ""));
    for (number, (key, value)) in qualifiers.iter().enumerate() {
        let mark = if number == 0 { '?' } else { '&' };
        // A text takes everything.
        let _ = write!(purl, "{mark}{key}={}", encoded(value, "/"));
    }
    purl
}

/// `also` are characters that mean nothing where the text stands.
fn encoded(text: &str, also: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) || also.as_bytes().contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelt_in_one_way() {
        assert_eq!(
            purl(
                &["deb", "debian", "libstdc++6"],
                "1:14~rc1+b1",
                &[("arch", "amd64"), ("upstream", "gcc@14")]
            ),
            "pkg:deb/debian/libstdc%2B%2B6@1:14~rc1%2Bb1?arch=amd64&upstream=gcc%4014"
        );
        assert_eq!(
            purl(&["oci", "x"], "sha256:00", &[("repository_url", "r.test:5000/a/x")]),
            "pkg:oci/x@sha256:00?repository_url=r.test:5000/a/x"
        );
    }
}
