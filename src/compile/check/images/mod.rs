//! Images: names, layers, settings and annotations.

mod accounts;
mod layers;
mod placed;
mod settings;
mod words;

use std::collections::BTreeMap;

use super::super::finding::Finding;
use super::super::host::{self, Architecture};
use super::super::item::Image;
use super::super::similar::did_you_mean;
use super::accounts::parsed;
use super::stated::{Stated, help};
use super::survey::Survey;
use crate::bundle::names::Label;
pub(super) use placed::check as check_placed;

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) -> BTreeMap<Label, host::Image> {
    let mut seen: BTreeMap<&str, Stated<'_>> = BTreeMap::new();
    let mut images = BTreeMap::new();
    for (stated, image) in &survey.images {
        if let Some(first) = seen.insert(&image.name, *stated) {
            let message = format!("two images have the name `{}`", image.name);
            findings.push(stated.conflict(first, &[&image.name], message));
        }
        let name = parsed::<Label>(stated, &[&image.name], &image.name, findings);
        let architecture = architecture(*stated, image, findings);
        let layers = layers::checked(*stated, image, findings).into_iter().map(|(_, layer)| layer).collect();
        let settings = settings::checked(*stated, image, findings);
        words::check(*stated, "annotation", &image.annotations, findings);
        if let (Some(name), Some(architecture)) = (name, architecture) {
            let annotations = image.annotations.clone();
            images.insert(name, host::Image { architecture, layers, settings, annotations });
        }
    }
    images
}

fn architecture(stated: Stated<'_>, image: &Image, findings: &mut Vec<Finding>) -> Option<Architecture> {
    let known = of_platform(&image.platform);
    if known.is_none() {
        let names = Architecture::PLATFORMS.map(|(name, _)| name);
        let message = format!("`{}` is no platform that rick knows", image.platform.escape_debug());
        let finding = stated.error(&["platform"], message, "");
        let near = did_you_mean(&image.platform, names);
        findings.push(help(finding, near.or_else(|| Some(format!("choose one of: {}", names.join(", "))))));
    }
    known
}

/// The processors that a platform means.
pub(super) fn of_platform(platform: &str) -> Option<Architecture> {
    let mut known = Architecture::PLATFORMS.into_iter();
    known.find(|(name, _)| *name == platform).map(|(_, architecture)| architecture)
}
