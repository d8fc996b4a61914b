//! `Secret=` of a container that names a secret of the bundle: a file in memory, mounted where Podman would put one.
//!
//! Podman itself is not asked. Whatever driver it has a value from, it writes one that it mounts below `/var/lib/containers`, and one that
//! becomes environment into the container's configuration there; `tests/plaintext.rs` shows it.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::outside::Wrong;
use crate::bundle::names::{AccountName, SecretName};
use crate::bundle::secret::{ROOT, SecretFile, SecretMode};
use crate::bundle::token::{Piece, Token, pieces};

/// Where Podman puts a secret that says no other place.
const PLACE: &str = "/run/secrets";

/// A secret inside a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// The file on the host.
    pub file: SecretFile,
    /// Its path inside.
    pub target: String,
}

impl Mounted {
    /// Reads a value of `Secret=`, in a container with this `User=`.
    ///
    /// # Errors
    /// What Podman would do with it and a file in memory cannot, and what to write instead.
    pub fn parse(value: &str, user: &str) -> Result<Self, Wrong> {
        let (mut target, mut owner, mut group, mut mode) = (None, None, None, SecretMode::Owner);
        for option in value.split(',').skip(1) {
            match option.split_once('=').unwrap_or((option, "")) {
                ("type", "mount") => {}
                ("type", "env") => return Err(environment()),
                ("target", path) => target = Some(path),
                ("uid", number) => owner = Some(user_of(number)?),
                ("gid", number) => group = Some(group_of(number)?),
                ("mode", digits) => {
                    let bits = u32::from_str_radix(digits, 8).ok();
                    mode = bits.and_then(SecretMode::of).ok_or_else(|| wrong_mode(digits))?;
                }
                (other, _) => return Err(unknown(other)),
            }
        }
        let name: SecretName =
            name(value).parse().map_err(|message| Wrong { message, help: "name it".to_owned() })?;
        let owner = match owner {
            Some(owner) => owner,
            // Who shall read it is who runs there.
            None => user_of(user)?,
        };
        let target = match target {
            None => format!("{PLACE}/{name}"),
            Some(path) if path.starts_with('/') => path.to_owned(),
            Some(path) => format!("{PLACE}/{path}"),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
        if !target.bytes().all(is_plain) || target.split('/').any(|part| part == "..") {
            return Err(Wrong {
                message: format!("`{target}` is no place for a secret"),
                help: "write a path of letters, digits, `.`, `_` and `-`".to_owned(),
            });
        }
        let group = group.or_else(|| ROOT.parse().ok());
        let group = group.ok_or_else(|| unknown("gid"))?;
        Ok(Self { file: SecretFile { name, user: owner, group, mode }, target })
    }

    /// The same as a value of `Volume=`.
    pub fn volume(&self) -> String {
        format!("{}:{}:ro", Token::Secret(self.file.clone()), self.target)
    }
}

/// The secret that a value of `Secret=` names.
pub fn name(value: &str) -> &str {
    value.split(',').next().unwrap_or_default()
}

fn user_of(number: &str) -> Result<AccountName, Wrong> {
    match token(number) {
        Some(Token::Uid(name)) => Ok(name),
        None if matches!(number, "" | "0" | ROOT) => ROOT.parse().map_err(|_| unknown("uid")),
        _ => Err(Wrong {
            message: format!("`{number}` is no user that rick knows the name of"),
            help: "say `\"uid=\" + uid(\"NAME\")`: the file is that user's".to_owned(),
        }),
    }
}

fn group_of(number: &str) -> Result<AccountName, Wrong> {
    match token(number) {
        Some(Token::Gid(name)) => Ok(name),
        None if matches!(number, "" | "0" | ROOT) => ROOT.parse().map_err(|_| unknown("gid")),
        _ => Err(Wrong {
            message: format!("`gid={number}` is no group that rick knows the name of"),
            help: "say `\"gid=\" + gid(\"NAME\")`".to_owned(),
        }),
    }
}

/// The token that is all of a text.
fn token(text: &str) -> Option<Token> {
    match pieces(text).ok()?.as_slice() {
        [Piece::Token(token)] => Some(token.clone()),
        _ => None,
    }
}

fn environment() -> Wrong {
    Wrong {
        message: "Podman writes the environment of a container to disk, in clear".to_owned(),
        help: "leave out `type=env`, and have the program read the file; many take its path as `NAME_FILE`"
            .to_owned(),
    }
}

fn wrong_mode(digits: &str) -> Wrong {
    Wrong {
        message: format!("`mode={digits}` is none for a secret"),
        help: "say `mode=0400`, for its owner alone, or `mode=0440`, for its group as well".to_owned(),
    }
}

fn unknown(option: &str) -> Wrong {
    Wrong {
        message: format!("`{option}` says nothing of a secret"),
        help: "`type=mount`, `target=`, `uid=`, `gid=` and `mode=` do".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(value: &str, user: &str) -> Result<String, String> {
        Mounted::parse(value, user).map(|mounted| mounted.volume()).map_err(|wrong| wrong.message)
    }

    #[test]
    fn it_is_a_file_in_memory_at_the_place_where_podman_puts_one() {
        for (value, user, expected) in [
            ("key", "", "@rick(secret:key:root:root:400):/run/secrets/key:ro"),
            ("key", "@rick(uid:app)", "@rick(secret:key:app:root:400):/run/secrets/key:ro"),
            ("key,type=mount,target=other", "0", "@rick(secret:key:root:root:400):/run/secrets/other:ro"),
            (
                "key,target=/etc/key,uid=@rick(uid:db),gid=@rick(gid:app),mode=0440",
                "33",
                "@rick(secret:key:db:app:440):/etc/key:ro",
            ),
        ] {
            assert_eq!(volume(value, user).as_deref(), Ok(expected), "{value}");
        }
    }

    #[test]
    fn what_a_file_in_memory_cannot_be_is_told() {
        for (value, user) in [
            ("key", "33"),
            ("key,uid=33", "0"),
            ("key,gid=33", "0"),
            ("key,gid=@rick(uid:app)", "0"),
            ("key,mode=0444", "0"),
            ("key,mode=", "0"),
            ("key,type=env", "0"),
            ("key,target=../../etc/passwd", "0"),
            ("key,target=/a:/b", "0"),
            ("key,target=/a b", "0"),
            ("key,rights=all", "0"),
            ("a key", "0"),
        ] {
            assert!(volume(value, user).is_err(), "{value}");
        }
    }
}
