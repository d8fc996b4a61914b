//! Who answers for a build: signatures as `ssh-keygen -Y sign` makes them (SSHSIG), of the bytes of a host's manifest.
//!
//! That is the blob whose digest is *the* digest of the build, and it names the config by digest, and so the host, the serial, every file
//! and every image. The signatures stand armored, one after the other, in an annotation of the manifest's descriptor: in `index.json` and in
//! the bundle index, which nobody signs, so that to sign changes no digest of a build. Anybody can verify one with
//! `ssh-keygen -Y verify -n rick-bundle -f FILE -I WHO -s SIGNATURE < MANIFEST`.
//!
//! What is read of a signature here is for words alone: what it is worth, `ssh-keygen` says.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::digest::Digest;

/// What these signatures are for: one for anything else, a file or a commit say, is worth nothing here. Changing this is a format break.
pub const NAMESPACE: &str = "rick-bundle";
/// The annotation of a host manifest's descriptor. Changing this is a format break.
pub const ANNOTATION: &str = "vnd.rick.signatures";
/// The most bytes that the signatures of one manifest may have. One has some 300, with the certificate of a large key up to 4,000.
pub const MAX_BYTES: usize = 64 << 10;
/// The most signatures of one manifest.
pub const MAX_SIGNATURES: usize = 16;

const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";
const END: &str = "-----END SSH SIGNATURE-----";
const MAGIC: &[u8] = b"SSHSIG\0\0\0\x01";

/// What a signature says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The fingerprint of the key, as ssh writes it. Of a certificate: of the certificate.
    pub key: String,
    /// What it is for.
    pub namespace: String,
}

impl Signature {
    /// Reads an armored signature; `None` if it is damaged.
    pub fn parse(armored: &str) -> Option<Self> {
        let body = armored.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
        let bytes = STANDARD.decode(body.split_whitespace().collect::<String>()).ok()?;
        let (key, rest) = text(bytes.strip_prefix(MAGIC)?)?;
        let (namespace, _) = text(rest)?;
        let namespace = String::from_utf8(namespace.to_vec()).ok()?;
        Some(Self { key: format!("SHA256:{}", STANDARD_NO_PAD.encode(Digest::of(key).bytes())), namespace })
    }
}

/// The signatures of an annotation, armored, damaged ones too.
pub fn split(annotation: &str) -> impl Iterator<Item = &str> {
    annotation.split_inclusive(END).map(str::trim).filter(|armored| !armored.is_empty())
}

/// The annotation with one more signature; an older one by the same key goes.
pub fn with(annotation: Option<&str>, armored: &str) -> String {
    let key = |armored: &str| Signature::parse(armored).map(|signature| signature.key);
    let others = split(annotation.unwrap_or_default()).filter(|other| key(other) != key(armored));
    others.chain([armored.trim()]).flat_map(|signature| [signature, "\n"]).collect()
}

/// A length and as many bytes, as ssh writes texts, and what follows.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By two keys, over the text `hello`.
    const ONE: &str = "-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgrnVYdIurPZTRQWItBKKOaZm9xv
U1N4BI9OWKWIrSMwcAAAALcmljay1idW5kbGUAAAAAAAAABnNoYTUxMgAAAFMAAAALc3No
LWVkMjU1MTkAAABAh+oDTEaaJMCMbtI8VfOtHRZsVXFor4m/cpN8crhn847azdUH7tcT1x
ybhWfwMvbE6bP213vUL94yzm6xQ/eJAA==
-----END SSH SIGNATURE-----
";
    const OTHER: &str = "-----BEGIN SSH SIGNATURE-----
U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgcdvCIKbSmP+649jp6D1tmtzc6h
Ts6bdAo7s2IVn7jKoAAAAEZmlsZQAAAAAAAAAGc2hhNTEyAAAAUwAAAAtzc2gtZWQyNTUx
OQAAAEDprIDP2baOF09cNrkouvrEqsv9C0bd4zgbUJMJTLE+VxyOVi0yJdpaBuntVNxc85
9TG2bCxMLogA23dxGlixcL
-----END SSH SIGNATURE-----
";

    #[test]
    fn a_signature_says_whose_it_is_and_what_for() {
        let signature = Signature::parse(ONE).unwrap();
        assert_eq!(signature.key, "SHA256:z5geE2+vqiql8N6G7Sw7rT6evyjm1iXZD5ZOHep0+sE");
        assert_eq!(signature.namespace, NAMESPACE);
        assert_eq!(Signature::parse(OTHER).unwrap().namespace, "file");
    }

    #[test]
    fn what_is_damaged_is_none() {
        for (from, to) in [
            ("U1NIU0lH", "U1NJU0lH"),
            ("BEGIN", "BEGINS"),
            ("AAAAAQ", "AAAAAg"),
            ("rnVYd", "rn!Yd"),
            ("AAAAQAAADM", "AAAAQA///M"),
        ] {
            let damaged = ONE.replacen(from, to, 1);
            assert_eq!(Signature::parse(&damaged), None, "{damaged}");
        }
        for end in 0..ONE.len() - 2 {
            assert_eq!(Signature::parse(&ONE[..end]), None, "{end}");
        }
    }

    #[test]
    fn each_key_signs_once_and_nobody_else_is_lost() {
        let both = with(Some(&with(None, ONE)), OTHER);
        assert_eq!(both, [ONE, OTHER].concat());
        assert_eq!(split(&both).collect::<Vec<_>>(), [ONE.trim(), OTHER.trim()]);
        assert_eq!(with(Some(&with(Some(&both), OTHER)), OTHER), both);
        assert_eq!(with(Some(&both), ONE), [OTHER, ONE].concat());
    }
}
