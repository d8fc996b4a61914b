//! Names → numbers. systemd-sysusers gives them, this reads them back and holds them to what was declared and remembered.
//!
//! systemd-sysusers fails open: a declared number that is taken is silently replaced by another one, and an existing account keeps its own,
//! both with exit status 0. So what it did is never assumed. The files are parsed here and not asked for through
//! libc: a static program must not call getpwnam.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::state::State;
use crate::bundle::manifest::Accounts;
use crate::bundle::names::AccountName;
use crate::bundle::oci;
use crate::durable;
use crate::refusal::Refusal;

/// The accounts that a host has: what passwd and group say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostAccounts {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

/// `ids.json`: the number of every account that a generation ever named. A number stays with its name for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    users: BTreeMap<AccountName, u32>,
    groups: BTreeMap<AccountName, u32>,
}

/// The numbers of a manifest's accounts. `None`: the host has yet to give one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// User name → uid.
    pub users: BTreeMap<AccountName, Option<u32>>,
    /// Group name → gid.
    pub groups: BTreeMap<AccountName, Option<u32>>,
}

impl HostAccounts {
    /// Reads etc/passwd and etc/group; a file that is not there holds nobody.
    pub fn read(state: &State) -> Result<Self> {
        let read = |path: &str| -> Result<BTreeMap<String, u32>> {
            let bytes = durable::read_if_there(&state.on_host(path))?.unwrap_or_default();
            Ok(parse(&String::from_utf8_lossy(&bytes)))
        };
        Ok(Self { users: read("/etc/passwd")?, groups: read("/etc/group")? })
    }
}

impl Remembered {
    /// Reads `ids.json`.
    pub fn read(state: &State) -> Result<Self> {
        let path = state.ids();
        match durable::read_if_there(&path)? {
            Some(bytes) => {
                serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
            }
            None => Ok(Self::default()),
        }
    }

    /// What became of the numbers on another host: of users, and of groups. Only those that are others there.
    pub fn renumbered(&self, there: &Self) -> [BTreeMap<u32, u32>; 2] {
        [(&self.users, &there.users), (&self.groups, &there.groups)].map(|(here, there)| {
            let pairs = here.iter().filter_map(|(name, id)| Some((*id, *there.get(name)?)));
            pairs.filter(|(here, there)| here != there).collect()
        })
    }

    /// Adds numbers, and writes the file if there is something new.
    pub fn remember(mut self, state: &State, ids: &Ids) -> Result<()> {
        let before = self.clone();
        let known = |ids: &BTreeMap<AccountName, Option<u32>>| -> Vec<(AccountName, u32)> {
            ids.iter().filter_map(|(name, id)| Some((name.clone(), (*id)?))).collect()
        };
        self.users.extend(known(&ids.users));
        self.groups.extend(known(&ids.groups));
        if self == before {
            return Ok(());
        }
        durable::replace_file(&state.ids(), &oci::canonical_json(&self)?, 0o644)
    }
}

impl Ids {
    /// The numbers of `accounts` on the host, held to what is pinned and remembered.
    pub fn resolve(
        accounts: &Accounts,
        host: &HostAccounts,
        remembered: &Remembered,
    ) -> Result<Self, Refusal> {
        let users = Table { what: Kind::User, host: &host.users, remembered: &remembered.users };
        let groups = Table { what: Kind::Group, host: &host.groups, remembered: &remembered.groups };
        Ok(Self { users: users.resolve(&accounts.users)?, groups: groups.resolve(&accounts.groups)? })
    }

    /// Every account exists.
    pub fn complete(&self) -> bool {
        self.users.values().chain(self.groups.values()).all(Option::is_some)
    }

    /// Refuses if an account does not exist.
    pub fn expect_complete(self) -> Result<Self, Refusal> {
        let missing = |ids: &BTreeMap<AccountName, Option<u32>>| {
            ids.iter().find(|(_, id)| id.is_none()).map(|(name, _)| name.clone())
        };
        let (kind, name) = match (missing(&self.users), missing(&self.groups)) {
            (Some(user), _) => (Kind::User, user),
            (None, Some(group)) => (Kind::Group, group),
            (None, None) => return Ok(self),
        };
        Err(Refusal::new(format!(
            "{kind} `{name}` does not exist on this host, and systemd-sysusers did not make it"
        )))
    }
}

#[derive(Clone, Copy)]
enum Kind {
    User,
    Group,
}

impl Kind {
    fn number(self) -> &'static str {
        match self {
            Self::User => "uid",
            Self::Group => "gid",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Group => "group",
        })
    }
}

/// Users or groups: the same rules for both.
struct Table<'a> {
    what: Kind,
    host: &'a BTreeMap<String, u32>,
    remembered: &'a BTreeMap<AccountName, u32>,
}

impl Table<'_> {
    fn resolve(
        &self,
        declared: &BTreeMap<AccountName, Option<u32>>,
    ) -> Result<BTreeMap<AccountName, Option<u32>>, Refusal> {
        declared.iter().map(|(name, pinned)| Ok((name.clone(), self.number_of(name, *pinned)?))).collect()
    }

    fn number_of(&self, name: &AccountName, pinned: Option<u32>) -> Result<Option<u32>, Refusal> {
        let Some(&number) = self.host.get(name.as_str()) else {
            pinned.map_or(Ok(()), |pinned| self.expect_free(name, pinned))?;
            return Ok(None);
        };
        self.expect_pinned(name, number, pinned)?;
        self.expect_remembered(name, number)?;
        self.expect_not_reused(name, number)?;
        Ok(Some(number))
    }

    fn expect_free(&self, name: &AccountName, pinned: u32) -> Result<(), Refusal> {
        let (what, kind) = (self.what, self.what.number());
        match self.host.iter().find(|(_, number)| **number == pinned) {
            None => Ok(()),
            Some((other, _)) => Err(Refusal::new(format!(
                "{kind} {pinned} is pinned for the {what} `{name}`, and on this host it belongs to `{other}`"
            ))
            .help(format!("pin another {kind}, or none, in the environment"))),
        }
    }

    fn expect_pinned(&self, name: &AccountName, number: u32, pinned: Option<u32>) -> Result<(), Refusal> {
        let (what, kind) = (self.what, self.what.number());
        match pinned {
            Some(pinned) if pinned != number => Err(Refusal::new(format!(
                "{what} `{name}` is pinned to {kind} {pinned}, and on this host it has {number}"
            ))
            .help(format!(
                "pin {number} in the environment, or change the {what} and the owner of its files by hand"
            ))),
            _ => Ok(()),
        }
    }

    fn expect_remembered(&self, name: &AccountName, number: u32) -> Result<(), Refusal> {
        let (what, kind) = (self.what, self.what.number());
        match self.remembered.get(name) {
            Some(&was) if was != number => Err(Refusal::new(format!(
                "{what} `{name}` had {kind} {was} and now has {number}: it would no longer own its files"
            ))
            .help(format!("give it {kind} {was} again"))),
            _ => Ok(()),
        }
    }

    fn expect_not_reused(&self, name: &AccountName, number: u32) -> Result<(), Refusal> {
        let (what, kind) = (self.what, self.what.number());
        let gone = |other: &AccountName| other != name && !self.host.contains_key(other.as_str());
        match self.remembered.iter().find(|(other, was)| **was == number && gone(other)) {
            None => Ok(()),
            Some((other, _)) => Err(Refusal::new(format!(
                "{what} `{name}` has {kind} {number}, which belonged to `{other}`: it would own the files of that {what}"
            ))
            .help(format!("give `{name}` another number, and `{other}` its own again"))),
        }
    }
}

/// The names and numbers of passwd or group: first and third field. Other lines (comments, NIS) are nobody.
fn parse(text: &str) -> BTreeMap<String, u32> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((name, fields.nth(1)?.parse().ok()?))
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts(pinned: Option<u32>) -> Accounts {
        Accounts { users: [("app".parse().unwrap(), pinned)].into(), groups: BTreeMap::new() }
    }

    fn host(passwd: &str) -> HostAccounts {
        HostAccounts { users: parse(passwd), groups: BTreeMap::new() }
    }

    fn remembered(name: &str, uid: u32) -> Remembered {
        Remembered { users: [(name.parse().unwrap(), uid)].into(), groups: BTreeMap::new() }
    }

    fn refused(pinned: Option<u32>, passwd: &str, remembered: &Remembered) -> String {
        Ids::resolve(&accounts(pinned), &host(passwd), remembered).unwrap_err().to_string()
    }

    #[test]
    fn numbers_are_the_hosts() {
        let none = Remembered::default();
        let ids = Ids::resolve(&accounts(None), &host("root:x:0:0::/root:/bin/sh\napp:x:961:961::/:"), &none);
        assert_eq!(ids.unwrap().users["app".parse::<AccountName>().as_ref().unwrap()], Some(961));
        let ids = Ids::resolve(&accounts(Some(961)), &host("root:x:0:0::/root:/bin/sh"), &none).unwrap();
        assert!(!ids.complete());
        assert!(ids.expect_complete().unwrap_err().to_string().starts_with("user `app` does not exist"));
    }

    #[test]
    fn a_number_that_is_not_as_declared_is_refused() {
        let none = Remembered::default();
        assert!(
            refused(Some(961), "app:x:962:0:", &none)
                .contains("is pinned to uid 961, and on this host it has 962")
        );
        assert!(refused(Some(33), "www-data:x:33:33:", &none).contains("belongs to `www-data`"));
    }

    #[test]
    fn a_number_stays_with_its_name() {
        assert!(
            refused(None, "app:x:962:0:", &remembered("app", 961)).contains("had uid 961 and now has 962")
        );
        assert!(refused(None, "app:x:961:0:", &remembered("gone", 961)).contains("belonged to `gone`"));
    }
}
