//! Containers: images that can be told, and a user that is really the one.

use std::collections::BTreeSet;

use super::super::finding::Finding;
use super::super::host::Architecture;
use super::super::item::Image;
use super::super::outside::Wrong;
use super::super::similar::did_you_mean;
use super::images::of_platform;
use super::outside::{self, ImageName};
use super::stated::{Stated, help};
use super::survey::Survey;
use super::written::{Entry, Written};

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    for (written, _) in &survey.quadlets {
        let Some(section) = outside::section_with_image(written) else { continue };
        match written.last(section, "Image") {
            Some(entry) => findings.extend(image(survey, written, entry)),
            None if written.last(section, "Rootfs").is_none() => {
                let message = format!("`{}` has no `Image=`", written.name);
                findings.push(written.stated.error(&[section, written.name], message, ""));
            }
            None => {}
        }
        if section == "Container" {
            user(survey, written, findings);
            accounts(survey, written, findings);
        }
    }
}

/// An image of this host, or one of a registry by its whole name. Which one a tag means is the lock's to say.
fn image(survey: &Survey<'_>, written: &Written<'_>, entry: &Entry) -> Option<Finding> {
    let value = entry.value.as_str();
    match outside::ImageName::of(value) {
        ImageName::Other | ImageName::Registry(Ok(_)) => None,
        ImageName::Own(name) => {
            let names: BTreeSet<_> = survey.images.iter().map(|(_, image)| image.name.as_str()).collect();
            if let Some((_, image)) = own_image(survey, value) {
                return foreign_platform(written, entry, image);
            }
            let message = format!("`{}` runs `{value}`, which no service of the host builds", written.name);
            let finding = written.error(&entry.value_place, message, "no such image");
            let finding = help(finding, did_you_mean(name, names.iter().copied()));
            Some(finding.help(format!("build it with `image(\"{name}\", …)`, and write its `ref`")))
        }
        ImageName::Registry(Err(Wrong { message, help })) => {
            let finding = written.error(&entry.value_place, message, "");
            Some(finding.help(help))
        }
    }
}

/// The image of this host that a value of `Image=` names.
fn own_image<'a>(survey: &Survey<'a>, value: &str) -> Option<(Stated<'a>, &'a Image)> {
    let name = value.strip_prefix("localhost/")?;
    survey.images.iter().find(|(_, image)| image.name == name).copied()
}

/// A host cannot run programs for other processors.
fn foreign_platform(written: &Written<'_>, entry: &Entry, image: &Image) -> Option<Finding> {
    // One that is not known is told with the image.
    if of_platform(&image.platform).is_none_or(|architecture| architecture == Architecture::OF_HOSTS) {
        return None;
    }
    let message = format!(
        "`{}` runs `{}`, an image for {}, which this host cannot run",
        written.name, entry.value, image.platform
    );
    let finding = written.error(&entry.value_place, message, "for other processors");
    Some(finding.help("build an image for `linux/amd64`, with programs for it"))
}

/// An image whose own user is not root.
fn becomes_a_user(image: &Image) -> bool {
    let user = image.user.as_deref().unwrap_or_default();
    let account = user.split(':').next().unwrap_or_default();
    account != "root" && !account.bytes().all(|b| b == b'0')
}

/// Without a user, a container runs as its image says, which mostly means root.
fn user(survey: &Survey<'_>, written: &Written<'_>, findings: &mut Vec<Finding>) {
    let image = written.last("Container", "Image").and_then(|entry| own_image(survey, &entry.value));
    match written.last("Container", "User") {
        None if image.is_some_and(|(_, image)| becomes_a_user(image)) => {}
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
