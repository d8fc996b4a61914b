//! Lines for systemd-sysusers and systemd-tmpfiles.
//!
//! Neither takes a comment behind a line, and an `m` line would create a misspelt user: names come from a checked host only.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::bundle::names::{AccountName, HostPath};
use crate::compile::host::{Directory, Group, User};

/// `sysusers.conf`: groups, then users, then who is in which group, each sorted.
///
/// # Errors
/// A text that passwd cannot hold.
pub fn sysusers(
    header: &str,
    groups: &BTreeMap<AccountName, Group>,
    users: &BTreeMap<AccountName, User>,
) -> Result<String, String> {
    let mut text = format!("# {header}\n");
    for (name, group) in groups {
        let _ = writeln!(text, "g {name} {}", number(group.id));
    }
    for (name, user) in users {
        let description = description(name, &user.description)?;
        let home = quote(user.home.as_str());
        let _ = writeln!(text, "u {name} {} {description} {home} /usr/sbin/nologin", number(user.id));
    }
    let members = |(user, group): &(&AccountName, &AccountName)| format!("m {user} {group}\n");
    let mut memberships: Vec<(&AccountName, &AccountName)> = groups
        .iter()
        .flat_map(|(name, group)| group.members.iter().map(move |member| (member, name)))
        .collect();
    memberships.sort();
    text.extend(memberships.iter().map(members));
    Ok(text)
}

/// `tmpfiles.conf`: directories, a parent before what is in it.
pub fn tmpfiles(header: &str, directories: &BTreeMap<HostPath, Directory>) -> String {
    let mut text = format!("# {header}\n");
    for (path, directory) in directories {
        let Directory { mode, user, group } = directory;
        let _ = writeln!(text, "d {} {mode:04o} {user} {group} -", quote(path.as_str()));
    }
    text
}

fn number(id: Option<u32>) -> String {
    id.map_or_else(|| "-".to_owned(), |id| id.to_string())
}

/// A field of /etc/passwd can hold this text.
pub fn fits_passwd(text: &str) -> bool {
    !text.contains(|c: char| c == ':' || c.is_control())
}

fn description(user: &AccountName, text: &str) -> Result<String, String> {
    if !fits_passwd(text) {
        return Err(format!(
            "the description of user `{user}` holds a colon or a control character, which /etc/passwd cannot hold"
        ));
    }
    Ok(if text.is_empty() { "-".to_owned() } else { format!("\"{}\"", escape(text)) })
}

/// A field, in quotes if it needs them.
fn quote(field: &str) -> String {
    let special = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '\\');
    if field.contains(special) { format!("\"{}\"", escape(field)) } else { field.replace('%', "%%") }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> AccountName {
        name.parse().unwrap()
    }

    #[test]
    fn accounts_are_sorted_groups_before_users_before_memberships() {
        let member = |names: &[&str]| names.iter().map(|member| name(member)).collect();
        let groups = BTreeMap::from([
            (name("web"), Group { id: None, members: member(&["caddy", "app"]) }),
            (name("db"), Group { id: Some(962), members: member(&["app"]) }),
        ]);
        let user = |id, description: &str, home: &str| User {
            id,
            description: description.to_owned(),
            home: home.parse().unwrap(),
        };
        let users = BTreeMap::from([
            (name("other"), user(None, "", "/nonexistent")),
            (name("app"), user(Some(966), r#"An "app" at 100%"#, "/var/lib/an app")),
        ]);
        assert_eq!(
            sysusers("made by rick", &groups, &users).unwrap(),
            "# made by rick\ng db 962\ng web -\n\
             u app 966 \"An \\\"app\\\" at 100%%\" \"/var/lib/an app\" /usr/sbin/nologin\n\
             u other - - /nonexistent /usr/sbin/nologin\n\
             m app db\nm app web\nm caddy web\n"
        );
        let wrong = BTreeMap::from([(name("app"), user(None, "a:b", "/x"))]);
        assert!(sysusers("", &groups, &wrong).is_err());
    }

    #[test]
    fn directories_are_written_with_four_octal_digits() {
        let directory = |mode| Directory { mode, user: name("valkey"), group: name("valkey-clients") };
        let directories = BTreeMap::from([
            ("/run/valkey".parse().unwrap(), directory(0o2750)),
            ("/run/a b%".parse().unwrap(), directory(0o755)),
        ]);
        assert_eq!(
            tmpfiles("x", &directories),
            "# x\nd \"/run/a b%%\" 0755 valkey valkey-clients -\nd /run/valkey 2750 valkey valkey-clients -\n"
        );
    }
}
