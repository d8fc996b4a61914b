//! A public key that age encrypts to, and by what a file's header shows that it did.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use bech32::Bech32;
use bech32::primitives::decode::CheckedHrpstring;
use sha2::{Digest as _, Sha256};

/// age refuses shorter keys of RSA.
const MIN_RSA_BITS: usize = 2048;

/// A public key that age can encrypt to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recipient {
    /// As age takes it.
    key: String,
    /// What stands behind a key of SSH: often a person and a machine.
    comment: String,
    mark: Mark,
}

/// What can be seen of a recipient in the header of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// A key of SSH: its type and four bytes of its digest, `ssh-ed25519 TAG`.
    Ssh(String),
    /// A key of age's own. Which one, only its owner can tell.
    X25519,
    /// One that a plugin knows.
    Plugin,
}

impl Mark {
    /// Of a key of SSH, its type and tag.
    pub fn of_ssh(&self) -> Option<&str> {
        match self {
            Self::Ssh(mark) => Some(mark),
            Self::X25519 | Self::Plugin => None,
        }
    }

    /// So many of them, in words.
    pub fn counted(&self, number: usize) -> String {
        let (one, many) = match self {
            Self::Ssh(_) => ("a key of SSH", "keys of SSH"),
            Self::X25519 => ("a key of age", "keys of age"),
            Self::Plugin => ("a key of a plugin", "keys of plugins"),
        };
        if number == 1 { one.to_owned() } else { format!("{number} {many}") }
    }
}

impl Recipient {
    /// The key as age takes it.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What a header shows of it.
    pub fn mark(&self) -> &Mark {
        &self.mark
    }

    /// It is a key of SSH, as hosts have one.
    pub fn is_ssh(&self) -> bool {
        self.mark.of_ssh().is_some()
    }
}

/// For people: the comment of a key of SSH, or how the key begins.
impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.mark, self.comment.as_str()) {
            (Mark::Ssh(mark), "") => f.write_str(mark),
            (_, "") => write!(f, "{}…", self.key.get(..16).unwrap_or(&self.key)),
            (_, comment) => f.write_str(comment),
        }
    }
}

/// Why a text is no recipient. Never holds the text: it may be a private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It is the half of a key that nobody may see.
    Private,
    /// It is something else: why, and what to do.
    Other(String, String),
}

fn refused<T>(why: impl Into<String>, help: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Other(why.into(), help.into()))
}

const LINE: &str = "copy the whole line of the file that ends in `.pub`";

impl FromStr for Recipient {
    type Err = Refused;

    fn from_str(text: &str) -> Result<Self, Refused> {
        let text = text.trim();
        if text.contains("PRIVATE KEY")
            || text.to_uppercase().contains("AGE-SECRET-KEY-")
            || text.to_uppercase().starts_with("AGE-PLUGIN-")
        {
            return Err(Refused::Private);
        }
        if text.chars().any(char::is_control) {
            return refused("it is more than one line", LINE);
        }
        let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
        match kind {
            "ssh-ed25519" | "ssh-rsa" => ssh(kind, rest.trim_start()),
            _ if kind.starts_with("sk-") => refused(
                "age cannot encrypt to keys of SSH that a hardware key holds (`sk-…`)",
                "use a key of another type, or an age plugin for the hardware key",
            ),
            _ if kind.starts_with("ecdsa-") => refused(
                "age cannot encrypt to keys of SSH of the type ECDSA",
                "use the key of the type Ed25519",
            ),
            _ if kind.starts_with("ssh-") => refused(
                format!("age cannot encrypt to keys of the type `{}`", kind.escape_debug()),
                "use the key of the type Ed25519",
            ),
            _ if kind.starts_with("age1") => age(text),
            _ => refused("it begins neither with `ssh-ed25519` or `ssh-rsa` nor with `age1`", LINE),
        }
    }
}

/// `TYPE BLOB COMMENT`, with the type already read.
fn ssh(kind: &str, rest: &str) -> Result<Recipient, Refused> {
    let (text, comment) = rest.split_once(' ').unwrap_or((rest, ""));
    let Ok(blob) = STANDARD.decode(text) else {
        return refused("what follows the type is no whole key", LINE);
    };
    let fields = fields(&blob).unwrap_or_default();
    match (kind, fields.as_slice()) {
        ("ssh-ed25519", [stated, key]) if *stated == kind.as_bytes() && key.len() == 32 => {}
        ("ssh-rsa", [stated, _exponent, modulus]) if *stated == kind.as_bytes() => {
            let bits = bits(modulus);
            if bits < MIN_RSA_BITS {
                return refused(
                    format!(
                        "it is a key of RSA with {bits} bits, and age takes none with fewer than {MIN_RSA_BITS}"
                    ),
                    "use the key of the type Ed25519",
                );
            }
        }
        _ => return refused(format!("what follows `{kind}` is no key of that type"), LINE),
    }
    let tag = STANDARD_NO_PAD.encode(&Sha256::digest(&blob)[..4]);
    Ok(Recipient {
        key: format!("{kind} {text}"),
        comment: comment.trim().to_owned(),
        mark: Mark::Ssh(format!("{kind} {tag}")),
    })
}

/// The fields of a key of SSH, each with its length before it; nothing may follow the last.
fn fields(mut blob: &[u8]) -> Option<Vec<&[u8]>> {
    let mut fields = Vec::new();
    while !blob.is_empty() {
        let (length, rest) = blob.split_first_chunk::<4>()?;
        let (field, rest) = rest.split_at_checked(u32::from_be_bytes(*length).try_into().ok()?)?;
        fields.push(field);
        blob = rest;
    }
    Some(fields)
}

/// How many bits a number has that is written with the highest byte first.
fn bits(number: &[u8]) -> usize {
    let first = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
    let number = &number[first..];
    number.len() * 8 - number.first().map_or(0, |byte| byte.leading_zeros() as usize)
}

fn age(text: &str) -> Result<Recipient, Refused> {
    // age writes no capitals, and takes none.
    let whole = CheckedHrpstring::new::<Bech32>(text).ok().filter(|_| text == text.to_ascii_lowercase());
    let mark = match whole.map(|whole| (whole.hrp(), whole.byte_iter().count())) {
        Some((prefix, 32)) if prefix.as_str() == "age" => Mark::X25519,
        Some((prefix, _)) if prefix.as_str().starts_with("age1") => Mark::Plugin,
        _ => {
            return refused(
                "it is mistyped, or not whole: its checksum is wrong",
                "copy it again, all of it",
            );
        }
    };
    Ok(Recipient { key: text.to_owned(), comment: String::new(), mark })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by ssh-keygen; the mark is what age 1.1.1 writes for it.
    const ED25519: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINfk6H8TmCHl7se1/8cLwXC+bM7WQukBivDj6yGI6G+r operator@laptop";
    const AGE: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    fn why(text: &str) -> String {
        match text.parse::<Recipient>().unwrap_err() {
            Refused::Private => "private".to_owned(),
            Refused::Other(why, _) => why,
        }
    }

    #[test]
    fn keys_of_ssh_and_of_age_are_recipients() {
        let key: Recipient = format!(" {ED25519}\n").parse().unwrap();
        assert_eq!(key.key(), ED25519.rsplit_once(' ').unwrap().0);
        assert_eq!(key.to_string(), "operator@laptop");
        assert_eq!(key.mark(), &Mark::Ssh("ssh-ed25519 ea2yxA".to_owned()));
        let bare: Recipient = key.key().parse().unwrap();
        assert_eq!(bare.to_string(), "ssh-ed25519 ea2yxA");
        let key: Recipient = AGE.parse().unwrap();
        assert_eq!((key.mark(), key.is_ssh()), (&Mark::X25519, false));
        assert_eq!(key.to_string(), "age1ql3z7hjy54pw…");
    }

    #[test]
    fn what_age_cannot_encrypt_to_is_refused_with_the_reason() {
        assert!(why("ecdsa-sha2-nistp256 AAAA x").contains("ECDSA"));
        assert!(why("sk-ssh-ed25519@openssh.com AAAA x").contains("hardware key"));
        assert!(why("ssh-dss AAAA x").contains("`ssh-dss`"));
        assert!(why("box ssh-ed25519 AAAA").contains("begins neither"));
        assert!(why("").contains("begins neither"));
        assert!(why("ssh-ed25519").contains("no key of that type"));
        assert!(why(&ED25519.replacen("INfk", "Ifk", 1)).contains("no whole key"));
        assert!(why(&ED25519.replacen("ssh-ed25519", "ssh-rsa", 1)).contains("no key of that type"));
        assert!(why(&format!("{ED25519}\nssh-ed25519 AAAA")).contains("one line"));
        assert!(why(&AGE.replace("z7", "zz")).contains("checksum"));
        assert!(why(&AGE[..40]).contains("checksum"));
    }

    #[test]
    fn a_private_key_is_known_as_one() {
        for private in [
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3",
            "AGE-SECRET-KEY-1QQ",
            "age-secret-key-1qq",
            "AGE-PLUGIN-YUBIKEY-1QQ",
        ] {
            assert_eq!(private.parse::<Recipient>(), Err(Refused::Private));
        }
    }

    #[test]
    fn a_number_has_as_many_bits_as_it_needs() {
        for (number, expected) in [(&[0_u8, 0x80, 0][..], 16), (&[1, 0], 9), (&[0], 0), (&[], 0)] {
            assert_eq!(bits(number), expected, "{number:?}");
        }
    }
}
