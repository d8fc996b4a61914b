//! Containers: pinned images, and a user that is really the one.

use std::collections::BTreeSet;

use super::super::finding::Finding;
use super::super::similar::did_you_mean;
use super::stated::help;
use super::survey::Survey;
use super::written::{Entry, Written};

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    for (written, _) in &survey.quadlets {
        let section = match written.kind() {
            "container" => "Container",
            "image" => "Image",
            _ => continue,
        };
        match written.last(section, "Image") {
            Some(entry) => findings.extend(image(survey, written, entry)),
            None if written.last(section, "Rootfs").is_none() => {
                let message = format!("`{}` has no `Image=`", written.name);
                findings.push(written.stated.error(&[section, written.name], message, ""));
            }
            None => {}
        }
        if section == "Container" {
            user(written, findings);
            accounts(survey, written, findings);
        }
    }
}

/// An image of this host, or one whose digest is written down.
fn image(survey: &Survey<'_>, written: &Written<'_>, entry: &Entry) -> Option<Finding> {
    let value = entry.value.as_str();
    let is_file = [".image", ".build"].iter().any(|kind| value.ends_with(kind)) && !value.contains('/');
    let hexadecimal =
        |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let digest = value.rsplit_once("sha256:").map_or(value, |(_, digest)| digest);
    if is_file || hexadecimal(digest) {
        return None;
    }
    if let Some(name) = value.strip_prefix("localhost/") {
        let names: BTreeSet<_> = survey.images.iter().map(|(_, image)| image.name.as_str()).collect();
        if names.contains(name) {
            return None;
        }
        let message = format!("`{}` runs `{value}`, which no service of the host builds", written.name);
        let finding = written.error(&entry.value_place, message, "no such image");
        let finding = help(finding, did_you_mean(name, names.iter().copied()));
        return Some(finding.help(format!("build it with `image(\"{name}\", …)`, and write its `ref`")));
    }
    let message = format!("image `{value}` of `{}` is not pinned", written.name);
    let finding = written.error(&entry.value_place, message, "may be another one tomorrow");
    Some(
        finding.help(format!("write `{value}@sha256:…`; `skopeo inspect docker://{value}` tells the digest")),
    )
}

/// Without a user, a container runs as root.
fn user(written: &Written<'_>, findings: &mut Vec<Finding>) {
    match written.last("Container", "User") {
        None => {
            let message = format!("`{}` runs as root inside the container", written.name);
            let finding = written.stated.warning(&["Container", written.name], message, "no `User=`");
            findings.push(finding.help("give it a user of its own, `\"User\": uid(\"NAME\")`; say `\"User\": \"0\"` if root is meant"));
        }
        Some(entry) if entry.value.trim().is_empty() => {
            let message =
                format!("`User=` of `{}` is empty, and the container would run as root", written.name);
            findings.push(written.error(&entry.key_place, message, ""));
        }
        Some(_) => {}
    }
}

/// Numbers that are literal, and names that are looked up where people think they are.
fn accounts(survey: &Survey<'_>, written: &Written<'_>, findings: &mut Vec<Finding>) {
    let (users, groups) = (survey.user_names(), survey.group_names());
    for (key, token, known) in
        [("User", "uid", &users), ("Group", "gid", &groups), ("GroupAdd", "gid", &groups)]
    {
        for entry in written.all("Container", key) {
            let value = entry.value.as_str();
            if value.contains('$') {
                let message =
                    format!("`{key}=` of `{}` is a variable, and an unset one means root", written.name);
                let finding = written.error(&entry.value_place, message, "");
                findings.push(
                    finding.help(format!("write `{token}(\"NAME\")`, which becomes a number on the host")),
                );
            } else if value != "root" && known.contains(value) {
                let message = format!(
                    "`{key}={value}` of `{}` is looked up inside the image, not on the host",
                    written.name
                );
                let finding = written.error(&entry.value_place, message, "");
                findings.push(
                    finding.help(format!("write `{token}(\"{value}\")`, which becomes a number on the host")),
                );
            }
        }
    }
}
