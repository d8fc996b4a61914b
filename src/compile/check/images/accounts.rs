//! Who an image runs as: numbers, or names of the image's own accounts.

use super::super::super::finding::Finding;
use super::super::super::similar::did_you_mean;
use super::super::stated::{Stated, help};
use crate::bundle::names::AccountName;

/// `1000`, `1000:1000`, or names in place of numbers.
pub(super) fn check(stated: Stated<'_>, user: &str, findings: &mut Vec<Finding>) {
    let is_good = |part: &str| is_number(part) || part.parse::<AccountName>().is_ok();
    let (account, group) = user.split_once(':').unwrap_or((user, "0"));
    if !is_good(account) || !is_good(group) {
        let message = format!("`{}` is no user of an image", user.escape_debug());
        let finding = stated.error(&["user"], message, "");
        findings.push(finding.help(
            "write numbers, `\"1000:1000\"` or `\"1000\"`, or names that the image's own /etc/passwd and /etc/group have",
        ));
    }
}

/// A name stands in the image's own file. `file` says whether that is there, and what stands in it if that can be known: it may be a link.
pub(super) fn known(
    stated: Stated<'_>,
    user: &str,
    file: impl Fn(&str) -> Option<Option<String>>,
    findings: &mut Vec<Finding>,
) {
    let (account, group) =
        user.split_once(':').map_or((user, None), |(account, group)| (account, Some(group)));
    let names = [(account, "user", "etc/passwd"), (group.unwrap_or("0"), "group", "etc/group")];
    for (name, what, path) in names {
        if is_number(name) || name.parse::<AccountName>().is_err() {
            continue;
        }
        let message = format!("the {what} `{name}` is in no /{path} of the image");
        match file(path) {
            None => {
                let finding = stated.error(&["user"], message, "");
                findings.push(finding.help(format!(
                    "write a number, or give the image the file: `\"/{path}\": written(\"{name}:x:1000:…\\n\")`"
                )));
            }
            Some(Some(text)) => {
                let known: Vec<&str> = text.lines().filter_map(|line| line.split(':').next()).collect();
                if !known.contains(&name) {
                    let finding = stated.error(&["user"], message, "");
                    findings.push(
                        help(finding, did_you_mean(name, known)).help("write a number, or add the line"),
                    );
                }
            }
            Some(None) => {}
        }
    }
}

fn is_number(part: &str) -> bool {
    part.bytes().all(|b| b.is_ascii_digit()) && part.parse::<u32>().is_ok_and(|number| number < u32::MAX)
}
