//! Users and groups: names, numbers, members.

use std::collections::BTreeMap;

use super::super::finding::Finding;
use super::super::host;
use super::super::render::accounts::fits_passwd;
use super::super::similar::did_you_mean;
use super::stated::{Stated, help};
use super::survey::Survey;
use crate::bundle::names::{AccountName, HostPath};

type Groups = BTreeMap<AccountName, host::Group>;
type Users = BTreeMap<AccountName, host::User>;

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) -> (Groups, Users) {
    twice(&survey.groups, |group| &group.name, "group", findings);
    twice(&survey.users, |user| &user.name, "user", findings);
    numbers(survey, findings);
    members(survey, findings);
    let users = users(survey, findings);
    (groups(survey, findings), users)
}

/// The same name may be stated twice in the same words only.
fn twice<'a, T: PartialEq>(
    stated: &[(Stated<'a>, &'a T)],
    name: impl Fn(&T) -> &String,
    what: &str,
    findings: &mut Vec<Finding>,
) {
    let mut seen: BTreeMap<&str, (Stated<'a>, &T)> = BTreeMap::new();
    for (later, noun) in stated {
        let (first, other) = *seen.entry(name(noun)).or_insert((*later, noun));
        if other != *noun {
            let name = name(noun);
            let message = format!("{what} `{name}` is stated twice, with different details");
            let finding = later.conflict(first, &[name], message);
            findings.push(
                finding.help(format!("state it in one module, and let the other one use the {what}'s name")),
            );
        }
    }
}

/// A pinned number belongs to one name. A user's number is its own group's too, unless that group is stated by itself.
fn numbers(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    let users = survey.users.iter().map(|(stated, user)| (*stated, user.name.clone(), user.id));
    let users: Vec<_> = users.collect();
    let stated_alone = |name: &String| survey.groups.iter().any(|(_, group)| group.name == *name);
    let own = users.iter().filter(|(_, name, _)| !stated_alone(name)).cloned();
    let groups = survey.groups.iter().map(|(stated, group)| (*stated, group.name.clone(), group.id));
    claim_numbers("gid", groups.chain(own), findings);
    claim_numbers("uid", users.into_iter(), findings);
}

fn claim_numbers<'a>(
    kind: &str,
    pins: impl Iterator<Item = (Stated<'a>, String, Option<u32>)>,
    findings: &mut Vec<Finding>,
) {
    let mut seen: BTreeMap<u32, (Stated<'a>, String)> = BTreeMap::new();
    for (stated, name, id) in pins {
        let Some(id) = id else { continue };
        if id == 0 || id == 65535 || id == u32::MAX {
            let message = format!("{kind} {id} cannot be given to `{name}`: the system uses it");
            findings.push(stated.error(&["id", &name], message, ""));
        }
        let (first, other) = seen.entry(id).or_insert((stated, name.clone())).clone();
        if other != name {
            let message = format!("{kind} {id} is pinned for both `{other}` and `{name}`");
            findings.push(
                stated
                    .conflict(first, &["id", &name], message)
                    .help("leave `id` out, and the host gives numbers itself"),
            );
        }
    }
}

/// Members are declared users, and what a user joins are declared groups.
fn members(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    let (users, groups) = (survey.user_names(), survey.group_names());
    for (stated, group) in &survey.groups {
        for member in group.members.iter().filter(|member| !users.contains(member.as_str())) {
            let message =
                format!("group `{}` has a member `{member}`, and no service declares that user", group.name);
            findings.push(unknown(
                stated.error(&[member, "members"], message, "unknown user"),
                "user",
                member,
                &users,
            ));
        }
    }
    for (stated, user) in &survey.users {
        for group in user.groups.iter().filter(|group| !groups.contains(group.as_str())) {
            let message =
                format!("user `{}` joins the group `{group}`, and no service declares it", user.name);
            findings.push(unknown(
                stated.error(&[group, "groups"], message, "unknown group"),
                "group",
                group,
                &groups,
            ));
        }
    }
}

/// Help for a name that nobody declares.
pub(super) fn unknown(
    finding: Finding,
    what: &str,
    name: &str,
    known: &std::collections::BTreeSet<&str>,
) -> Finding {
    let near = did_you_mean(name, known.iter().copied());
    let declare = if near.is_some() { "or declare" } else { "declare" };
    help(finding, near).help(format!(
        "{declare} it with `{what}(\"{name}\")`; one that the host already has is kept as it is"
    ))
}

fn users(survey: &Survey<'_>, findings: &mut Vec<Finding>) -> Users {
    let mut users = Users::new();
    for (stated, user) in &survey.users {
        let name = parsed::<AccountName>(stated, &[&user.name], &user.name, findings);
        let home = parsed::<HostPath>(stated, &["home", &user.home], &user.home, findings);
        for (what, text) in [("description", &user.description), ("home", &user.home)] {
            if !fits_passwd(text) {
                let message = format!(
                    "the {what} of user `{}` holds a `:` or a control character, which /etc/passwd cannot hold",
                    user.name
                );
                findings.push(stated.error(&[what], message, ""));
            }
        }
        if let (Some(name), Some(home)) = (name, home) {
            users.insert(name, host::User { id: user.id, description: user.description.clone(), home });
        }
    }
    users
}

fn groups(survey: &Survey<'_>, findings: &mut Vec<Finding>) -> Groups {
    let mut groups = Groups::new();
    for (stated, group) in &survey.groups {
        if let Some(name) = parsed::<AccountName>(stated, &[&group.name], &group.name, findings) {
            let members = group.members.iter().filter_map(|member| member.parse().ok()).collect();
            groups.insert(name, host::Group { id: group.id, members });
        }
    }
    for (_, user) in &survey.users {
        for group in user.groups.iter().filter(|group| **group != user.name) {
            if let (Ok(group), Ok(user)) = (group.parse(), user.name.parse()) {
                groups.entry(group).or_default().members.insert(user);
            }
        }
    }
    groups
}

/// Parses a name; what is wrong with it becomes an error.
pub(super) fn parsed<T: std::str::FromStr<Err = String>>(
    stated: &Stated<'_>,
    words: &[&str],
    text: &str,
    findings: &mut Vec<Finding>,
) -> Option<T> {
    text.parse().map_err(|message| findings.push(stated.error(words, message, ""))).ok()
}
