//! What comes from outside the source tree, for `rick.lock` to say which one it is: what images are made of, and the images of registries
//! that containers run.

use std::collections::BTreeMap;

use super::super::finding::Finding;
use super::super::host::Architecture;
use super::super::item::Image;
use super::super::lock::{FILE, Lock};
use super::super::outside::{Outside, Reference, Wrong};
use super::super::source::Span;
use super::images::of_platform;
use super::stated::Stated;
use super::survey::Survey;
use super::written::{Entry, Written};
use crate::bundle::digest::Digest;

/// Something from outside that an environment wants.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// What.
    pub outside: Outside,
    /// The processors for which a build needs its bytes; none if only hosts need it, which fetch it themselves.
    pub built_for: Vec<Architecture>,
    /// What is said where the lock does not know it.
    pub missing: Finding,
}

/// All that the services of a host want. What is no whole name is told elsewhere.
/// If the bundle is to have the images that containers run, their bytes are needed too: `embeds`.
pub(super) fn wanted(survey: &Survey<'_>, embeds: bool) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (stated, image) in &survey.images {
        of_image(*stated, image, &mut wanted);
    }
    for (written, _) in &survey.quadlets {
        let Some((entry, reference)) = reference(written) else { continue };
        let outside = Outside::Image(reference);
        let missing = written.error(&entry.value_place, missing_message(&outside), "");
        let built_for = if embeds { vec![Architecture::OF_HOSTS] } else { Vec::new() };
        wanted.push(Wanted { outside, built_for, missing: missing.help(HELP) });
    }
    wanted
}

/// The images of registries that containers run: as Quadlet files name them, and where.
pub(super) fn run(survey: &Survey<'_>) -> BTreeMap<String, (Reference, Span)> {
    let named = survey.quadlets.iter().filter_map(|(written, _)| {
        let (entry, reference) = reference(written)?;
        Some((entry.value.clone(), (reference, entry.value_place.span().clone())))
    });
    named.collect()
}

const HELP: &str = "run `rickbuild lock`";

fn missing_message(outside: &Outside) -> String {
    format!("`{outside}` is not in {FILE}")
}

fn of_image<'a>(stated: Stated<'a>, image: &'a Image, wanted: &mut Vec<Wanted>) {
    // Builds run where rick runs, whatever the image is for.
    let mut built_for = vec![Architecture::OF_HOSTS];
    built_for.extend(of_platform(&image.platform).filter(|other| *other != Architecture::OF_HOSTS));
    image.outside(&mut |what, place: &Span| {
        if let Ok(outside) = Outside::parse(what) {
            let missing = stated.locate(Finding::error(missing_message(&outside)), place, "").help(HELP);
            wanted.push(Wanted { outside, built_for: built_for.clone(), missing });
        }
    });
}

/// The image of a registry that a Quadlet file names.
fn reference<'a>(written: &'a Written<'_>) -> Option<(&'a Entry, Reference)> {
    let entry = written.last(section_with_image(written)?, "Image")?;
    match ImageName::of(&entry.value) {
        ImageName::Registry(Ok(reference)) => Some((entry, reference)),
        _ => None,
    }
}

/// What the lock says of the image of a Quadlet file, if its name does not say it.
pub(super) fn pinned(written: &Written<'_>, lock: &Lock) -> Option<Digest> {
    let (_, reference) = reference(written)?;
    if reference.digest().is_some() { None } else { lock.image(&reference) }
}

/// The section of a Quadlet file that names an image.
pub(super) fn section_with_image(written: &Written<'_>) -> Option<&'static str> {
    match written.kind() {
        "container" => Some("Container"),
        "image" => Some("Image"),
        _ => None,
    }
}

/// What a value of `Image=` is.
pub(super) enum ImageName<'a> {
    /// An image of the host, `localhost/NAME`.
    Own(&'a str),
    /// One of a registry, or what is wrong with its name.
    Registry(Result<Reference, Wrong>),
    /// Another Quadlet file, or the number of an image.
    Other,
}

impl<'a> ImageName<'a> {
    pub(super) fn of(value: &'a str) -> Self {
        let is_file = [".image", ".build"].iter().any(|kind| value.ends_with(kind)) && !value.contains('/');
        let number = value.strip_prefix("sha256:").unwrap_or(value);
        if is_file || Digest::from_hex(number).is_some() {
            return Self::Other;
        }
        match value.strip_prefix("localhost/") {
            Some(name) if !value.contains("@sha256:") => Self::Own(name),
            _ => Self::Registry(value.parse()),
        }
    }
}
