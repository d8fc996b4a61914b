//! The header of an age file: what it shows of those who can read the rest. Hostile text, so nothing in it is guessed.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::armour;
use super::recipient::Mark;

/// The first line, which is the format's version.
const VERSION: &str = "age-encryption.org/v1";
const COLUMNS: usize = 64;
/// What follows a header at the least: a nonce, and the seal of an empty text.
const MIN_PAYLOAD: usize = 32;

/// A whole age file, as far as it can be read without a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// One for each recipient, sorted.
    pub marks: Vec<Mark>,
}

/// Why a file holds no secret that a host could read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It is no age file: whoever has it can read it.
    Clear,
    /// It is one that is no text, which a diff and a merge cannot show.
    Binary,
    /// A passphrase opens it, which no host can type.
    Passphrase,
    /// It begins as one, and is not whole or not as age writes it.
    Damaged,
    /// It is no regular file.
    Special,
    /// It is larger than a secret can be.
    Large,
}

/// What is wrong, in a few words.
impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Clear => "NOT ENCRYPTED",
            Self::Binary => "not armoured",
            Self::Passphrase => "encrypted with a passphrase",
            Self::Damaged => "damaged",
            Self::Special => "no regular file",
            Self::Large => "too large",
        })
    }
}

impl Header {
    /// Reads what a file of the source tree holds.
    ///
    /// # Errors
    /// Why it is not what age writes.
    pub fn of(file: &[u8]) -> Result<Self, Wrong> {
        if file.starts_with(VERSION.as_bytes()) {
            return Self::parse(file).and(Err(Wrong::Binary));
        }
        if !armour::is_armour(file) {
            return Err(Wrong::Clear);
        }
        Self::parse(&armour::decode(file).ok_or(Wrong::Damaged)?)
    }

    fn parse(file: &[u8]) -> Result<Self, Wrong> {
        let mut lines = Lines(file);
        let stanzas = lines.header().ok_or(Wrong::Damaged)?;
        if lines.0.len() < MIN_PAYLOAD || stanzas.is_empty() {
            return Err(Wrong::Damaged);
        }
        if stanzas.contains(&Stanza::Passphrase) {
            return Err(Wrong::Passphrase);
        }
        let mark = |stanza| match stanza {
            Stanza::Recipient(mark) => Some(mark),
            Stanza::Passphrase | Stanza::Grease => None,
        };
        let mut marks: Vec<Mark> = stanzas.into_iter().filter_map(mark).collect();
        marks.sort();
        Ok(Self { marks })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Stanza {
    Recipient(Mark),
    Passphrase,
    /// Of nobody: rage adds it so that readers do not forget to expect what they do not know.
    Grease,
}

/// What is not read yet.
struct Lines<'a>(&'a [u8]);

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let end = self.0.iter().position(|byte| *byte == b'\n')?;
        let (line, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        std::str::from_utf8(line).ok()
    }

    /// All stanzas; what is left is what they are the key to.
    fn header(&mut self) -> Option<Vec<Stanza>> {
        if self.next()? != VERSION {
            return None;
        }
        let mut stanzas = Vec::new();
        loop {
            let line = self.next()?;
            if let Some(seal) = line.strip_prefix("--- ") {
                return (STANDARD_NO_PAD.decode(seal).ok()?.len() == 32).then_some(stanzas);
            }
            stanzas.push(stanza(line.strip_prefix("-> ")?)?);
            while self
                .next()
                .filter(|line| line.len() <= COLUMNS && STANDARD_NO_PAD.decode(line).is_ok())?
                .len()
                == COLUMNS
            {}
        }
    }
}

/// The first line of a stanza, without its arrow.
fn stanza(line: &str) -> Option<Stanza> {
    let words: Vec<&str> = line.split(' ').collect();
    if !words.iter().all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_graphic())) {
        return None;
    }
    let tag = |tag: &str| STANDARD_NO_PAD.decode(tag).is_ok_and(|tag| tag.len() == 4);
    Some(match words.as_slice() {
        [kind @ "ssh-ed25519", of, _] | [kind @ "ssh-rsa", of] if tag(of) => {
            Stanza::Recipient(Mark::Ssh(format!("{kind} {of}")))
        }
        ["X25519", _] => Stanza::Recipient(Mark::X25519),
        ["ssh-ed25519" | "ssh-rsa" | "X25519", ..] => return None,
        ["scrypt", ..] => Stanza::Passphrase,
        [kind, ..] if kind.ends_with("-grease") => Stanza::Grease,
        _ => Stanza::Recipient(Mark::Plugin),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHARE: &str = "zKJGtLTePannewlp1kZUhlQgAlptP9tECYjgl/9X5G0";
    const BODY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn file(stanzas: &str) -> Vec<u8> {
        let mut file = format!("{VERSION}\n{stanzas}--- {BODY}\n").into_bytes();
        file.extend([0xff; MIN_PAYLOAD]);
        file
    }

    #[test]
    fn each_stanza_is_a_recipient_but_for_what_is_nobodys() {
        let long = "A".repeat(64);
        let stanzas = format!(
            "-> ssh-ed25519 ea2yxA {SHARE}\n{BODY}\n-> ssh-rsa ea2yxA\n{long}\n{long}\n{BODY}\n-> X25519 {SHARE}\n{BODY}\n\
             -> piv-p256 a b c\n{long}\n\n-> x!-grease a\n\n"
        );
        let marks = Header::parse(&file(&stanzas)).unwrap().marks;
        let ssh = |text: &str| Mark::Ssh(text.to_owned());
        assert_eq!(marks, [ssh("ssh-ed25519 ea2yxA"), ssh("ssh-rsa ea2yxA"), Mark::X25519, Mark::Plugin]);
    }

    #[test]
    fn what_age_would_not_write_is_damaged() {
        let good = format!("-> ssh-ed25519 ea2yxA {SHARE}\n{BODY}\n");
        assert!(Header::parse(&file(&good)).is_ok());
        let long = "A".repeat(64);
        for wrong in [
            String::new(),
            good.replace("-> ", "->"),
            good.replace("ea2yxA", "ea2yx"),
            good.replace("ea2yxA", "ea2yxA= "),
            good.replace("ea2yxA ", "ea2yxA  "),
            good.replace("ea2yxA ", "ea2yxA\u{e4} "),
            good.replace("ea2yxA", "ea2yx\t"),
            good.replace(BODY, &long),
            good.replace(BODY, &format!("{long}A")),
            good.replace(BODY, "AAAA="),
            good.replace('\n', "\r\n"),
            format!("{good}{BODY}\n"),
            format!("-> X25519\n{BODY}\n"),
            format!("-> ssh-rsa ea2yxA {SHARE}\n{BODY}\n"),
        ] {
            assert_eq!(Header::parse(&file(&wrong)), Err(Wrong::Damaged), "{wrong}");
        }
        let whole = file(&good);
        for end in 0..whole.len() {
            assert_eq!(Header::parse(&whole[..end]), Err(Wrong::Damaged), "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_file_is_too_strange_to_be_read(place in 0_usize..300, with in proptest::collection::vec(any::<u8>(), 0..4)) {
            let mut strange = file(&format!("-> ssh-ed25519 ea2yxA {SHARE}\n{BODY}\n-> X25519 {SHARE}\n{BODY}\n"));
            let place = place.min(strange.len());
            let end = strange.len().min(place + with.len());
            strange.splice(place..end, with.clone());
            // What is a header still has as many recipients at most.
            prop_assert!(Header::parse(&strange).map_or(0, |header| header.marks.len()) <= 2);
            let _ = Header::of(&with);
            let _ = Header::of(&[b"-----BEGIN AGE ENCRYPTED FILE-----\n", with.as_slice()].concat());
        }
    }

    #[test]
    fn what_is_no_armoured_file_is_told_by_its_kind() {
        let good = format!("-> X25519 {SHARE}\n{BODY}\n");
        let passphrase = format!("-> scrypt AAAA 18\n{BODY}\n");
        assert_eq!(Header::of(b"hunter2\n"), Err(Wrong::Clear));
        assert_eq!(Header::of(b""), Err(Wrong::Clear));
        assert_eq!(Header::of(&file(&good)), Err(Wrong::Binary));
        assert_eq!(Header::of(&file("")), Err(Wrong::Damaged));
        assert_eq!(Header::parse(&file(&passphrase)), Err(Wrong::Passphrase));
        assert_eq!(Header::of(b"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n"), Err(Wrong::Damaged));
    }
}
