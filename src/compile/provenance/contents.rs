//! What an image is made of, as far as its definition tells.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use super::material::Material;
use crate::bundle::names::Label;
use crate::compile::host::{Base, BaseKind, Host, Image, Piece, Source};
use crate::compile::outside::{Outside, Reference};

/// The parts of an image that have a name.
#[derive(Default)]
pub(super) struct Contents {
    /// What it stands on, and archives that lie in it. What a build needed, and what a path was taken out of, is not in it.
    pub(super) outside: BTreeSet<Outside>,
    /// The builds whose outputs it has.
    pub(super) builds: BTreeSet<Label>,
    /// There are files in it of which no more is known than what they hold.
    pub(super) files: bool,
}

impl Contents {
    pub(super) fn of(image: &Image) -> Self {
        let mut contents = Self::default();
        contents.add(image);
        contents
    }

    /// Those of an image of a registry that comes in the bundle: it, and nothing else.
    pub(super) fn embedded(reference: &Reference) -> Self {
        Self { outside: BTreeSet::from([Outside::Image(reference.clone())]), ..Self::default() }
    }

    /// Nothing else is in it, as far as any name tells.
    pub(super) fn are_all(&self) -> bool {
        !self.files && self.builds.is_empty()
    }

    fn add(&mut self, image: &Image) {
        match &image.base {
            Some(Base { kind: BaseKind::Image(below), .. }) => self.add(below),
            Some(Base { kind: BaseKind::Upstream(reference), .. }) => {
                self.outside.insert(Outside::Image(reference.clone()));
            }
            Some(Base { kind: BaseKind::Debian(packages), .. }) => {
                self.outside.insert(Outside::Packages(packages.clone()));
            }
            None => {}
        }
        for layer in &image.layers {
            let Piece::Copied { source, .. } = &layer.piece else { continue };
            match source {
                Source::Tree(_) | Source::Within(..) => self.files = true,
                Source::Archive(url, _) => drop(self.outside.insert(Outside::Archive(url.clone()))),
                Source::Output(build, _) => drop(self.builds.insert(build.name.clone())),
            }
        }
    }
}

/// The images of registries that a host pulls: those that its Quadlets name and that do not come in the bundle.
pub(super) fn pulled(host: &Host, materials: &BTreeMap<Outside, Vec<Material>>) -> BTreeSet<Outside> {
    let sections = host.quadlets.iter().flat_map(|quadlet| &quadlet.sections);
    let sections = sections.filter(|(name, _)| name == "Container" || name == "Image");
    // The last one is what counts.
    let named = sections.filter_map(|(_, entries)| entries.iter().rfind(|(key, _)| key == "Image"));
    let named = named.filter(|(_, value)| !host.embedded.contains_key(value));
    let images = named.filter_map(|(_, value)| value.parse::<Reference>().ok()).map(Outside::Image);
    images.filter(|image| materials.contains_key(image)).collect()
}
