//! Images: names, layers, settings and annotations.

mod accounts;
mod builds;
mod layers;
mod placed;
mod settings;
mod words;

use std::collections::BTreeMap;

use super::super::archive::Codec;
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
        if let (Some(name), Some(image)) = (name, self::image(*stated, image, true, findings)) {
            images.insert(name, image);
        }
    }
    images
}

/// The image, if what hangs together in it is right; `runs` if a container of it is meant.
fn image(stated: Stated<'_>, image: &Image, runs: bool, findings: &mut Vec<Finding>) -> Option<host::Image> {
    let architecture = architecture(stated, image, findings);
    let base = image.base.as_ref().map(|base| builds::base(stated, base, findings));
    let layers = layers::checked(stated, image, findings).into_iter().map(|(_, layer)| layer).collect();
    let settings = settings::checked(stated, image, runs, findings);
    words::check(stated, "annotation", &image.annotations, findings);
    let codec = codec(stated, image, findings);
    Some(host::Image {
        architecture: architecture?,
        codec: codec?,
        base: base.map_or(Some(None), |base| base.map(Some))?,
        layers,
        settings,
        annotations: image.annotations.clone(),
    })
}

fn architecture(stated: Stated<'_>, image: &Image, findings: &mut Vec<Finding>) -> Option<Architecture> {
    let known = of_platform(&image.platform);
    if known.is_none() {
        let names = Architecture::PLATFORMS.map(|(name, _)| name);
        findings.push(unknown(stated, "platform", &image.platform, &names));
    }
    known
}

fn codec(stated: Stated<'_>, image: &Image, findings: &mut Vec<Finding>) -> Option<Codec> {
    let known = Codec::ALL.into_iter().find(|(name, _)| *name == image.compression);
    if known.is_none() {
        findings.push(unknown(stated, "compression", &image.compression, &Codec::ALL.map(|(name, _)| name)));
    }
    known.map(|(_, codec)| codec)
}

/// A word that is none of those that an argument takes.
fn unknown(stated: Stated<'_>, argument: &str, word: &str, known: &[&str]) -> Finding {
    let message = format!("`{}` is no {argument} that rick knows", word.escape_debug());
    let near = did_you_mean(word, known.iter().copied());
    let near = near.or_else(|| Some(format!("choose one of: {}", known.join(", "))));
    help(stated.error(&[argument], message, ""), near)
}

/// The processors that a platform means.
pub(super) fn of_platform(platform: &str) -> Option<Architecture> {
    let mut known = Architecture::PLATFORMS.into_iter();
    known.find(|(name, _)| *name == platform).map(|(_, architecture)| architecture)
}
