//! Quadlet files: images by digest, and the order that Quadlet adds by itself.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use crate::bundle::digest::Digest;
use crate::bundle::names::UnitName;
use crate::compile::host::Quadlet;
use crate::compile::item::Sections;
use crate::compile::outside::Reference;

/// The keys that may name another Quadlet file.
const REFERENCES: [&str; 5] = ["Pod", "Network", "Volume", "Image", "Mount"];

/// The sections with images by their digests. One that comes in the bundle is nowhere else for Podman to look.
pub(super) fn pin_images(quadlet: &Quadlet, images: &BTreeMap<String, Digest>) -> Sections {
    let mut sections = quadlet.sections.clone();
    for (_, entries) in sections.iter_mut().filter(|(name, _)| name == "Container" || name == "Image") {
        let mut comes = false;
        // The last one is what counts.
        if let Some((_, value)) = entries.iter_mut().rfind(|(key, _)| key == "Image") {
            if let Some(digest) = images.get(value) {
                comes = true;
                *value = format!("{}@{digest}", repository(value));
            } else if let Some(digest) = quadlet.pinned {
                *value = format!("{value}@{digest}");
            }
        }
        if comes && !entries.iter().any(|(key, _)| key == "Pull") {
            entries.push(("Pull".to_owned(), "never".to_owned()));
        }
    }
    sections
}

/// The name of an image without its tag or digest.
pub(super) fn repository(name: &str) -> String {
    name.parse().map_or_else(|_| name.to_owned(), |reference: Reference| reference.repository().to_owned())
}

/// The images of registries that Podman is to have before anything starts, by their digests. What has none is of this host, or another file;
/// and who says that Podman never pulls has a way of their own.
pub(super) fn pulled(quadlet: &Quadlet, images: &BTreeMap<String, Digest>) -> Vec<String> {
    let sections = pin_images(quadlet, images);
    let named = sections.iter().filter(|(name, _)| name == "Container" || name == "Image");
    let pulled = named.filter_map(|(_, entries)| {
        let last =
            |wanted: &str| entries.iter().rfind(|(key, _)| key == wanted).map(|(_, value)| value.as_str());
        let value = last("Image").filter(|value| !value.starts_with("localhost/"))?;
        let reference: Reference = value.parse().ok()?;
        let name = format!("{}@{}", reference.repository(), reference.digest()?);
        (last("Pull") != Some("never")).then_some(name)
    });
    pulled.collect()
}

/// The units of other Quadlets that this one is started after, whether it says so or not.
pub(super) fn implicit_after(quadlet: &Quadlet, all: &[Quadlet]) -> Vec<UnitName> {
    let entries = quadlet.sections.iter().flat_map(|(_, entries)| entries);
    let values = entries.filter(|(key, _)| REFERENCES.contains(&key.as_str())).map(|(_, value)| value);
    let words = values.flat_map(|value| value.split([':', ',', '=', ' ']));
    words.filter_map(|word| unit_of(word, all)).cloned().collect()
}

/// The unit that Quadlet makes of a file.
pub(super) fn unit_of<'a>(file: &str, all: &'a [Quadlet]) -> Option<&'a UnitName> {
    all.iter().find(|quadlet| quadlet.name.as_str() == file).map(|quadlet| &quadlet.unit)
}
