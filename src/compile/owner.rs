//! Who owns a file of an image: numbers, for an image knows no accounts of a host.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::fmt;
use std::str::FromStr;

/// A user and a group, both of which fit the fields of a USTAR archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    uid: u32,
    gid: u32,
}

impl Owner {
    /// The owner of all that names none.
    pub const ROOT: Self = Self { uid: 0, gid: 0 };
    /// What seven octal digits hold.
    const MAX: u32 = 0o7_777_777;

    /// The owner with these numbers, if a layer can hold them.
    pub fn of(uid: u32, gid: u32) -> Option<Self> {
        (uid.max(gid) <= Self::MAX).then_some(Self { uid, gid })
    }

    /// The number of the user.
    pub fn uid(self) -> u32 {
        self.uid
    }

    /// The number of the group.
    pub fn gid(self) -> u32 {
        self.gid
    }
}

impl FromStr for Owner {
    type Err = String;

    /// `UID:GID`, or `UID` for a user and the group of the same number.
    fn from_str(text: &str) -> Result<Self, String> {
        let (uid, gid) = text.split_once(':').unwrap_or((text, text));
        let number = |part: &str| {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return Err(format!(
                    "`{}` is no owner: write numbers, `UID:GID` or `UID`, for an image does not know the accounts of a host",
                    text.escape_debug()
                ));
            }
            let fits = part.parse().ok().filter(|number| *number <= Self::MAX);
            fits.ok_or_else(|| {
                format!("`{text}` is no owner: the largest number that a layer can hold is {}", Self::MAX)
            })
        };
        Ok(Self { uid: number(uid)?, gid: number(gid)? })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.uid, self.gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_numbers_that_a_layer_can_hold() {
        for (text, shown) in [("0", "0:0"), ("1000", "1000:1000"), ("2097151:7", "2097151:7")] {
            assert_eq!(text.parse::<Owner>().unwrap().to_string(), shown);
        }
        for wrong in ["", ":", "1:", ":1", "-1", "+1", "1:2:3", "app", "1:app", "2097152", "99999999999999"] {
            assert!(wrong.parse::<Owner>().is_err(), "{wrong}");
        }
    }
}
