//! Images: names and layers.

use std::collections::BTreeMap;

use super::super::finding::Finding;
use super::super::host;
use super::super::item::Image;
use super::super::source::SourcePath;
use super::accounts::parsed;
use super::stated::Stated;
use super::survey::Survey;
use crate::bundle::names::{BundlePath, HostPath, Label};

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) -> BTreeMap<Label, host::Image> {
    let mut seen: BTreeMap<&str, Stated<'_>> = BTreeMap::new();
    let mut images = BTreeMap::new();
    for (stated, image) in &survey.images {
        if let Some(first) = seen.insert(&image.name, *stated) {
            let message = format!("two images have the name `{}`", image.name);
            findings.push(stated.conflict(first, &[&image.name], message));
        }
        let name = parsed::<Label>(stated, &[&image.name], &image.name, findings);
        let checked = host::Image {
            layers: layers(*stated, image, findings),
            entrypoint: image.entrypoint.clone(),
            command: image.command.clone(),
            environment: image.environment.clone(),
        };
        variables(*stated, image, findings);
        if image.entrypoint.is_empty() && image.command.is_empty() {
            let message = format!("image `{}` says nothing to run", image.name);
            findings.push(stated.error(&[], message, "").help("give it an `entrypoint`"));
        }
        if let Some(name) = name {
            images.insert(name, checked);
        }
    }
    images
}

fn layers(stated: Stated<'_>, image: &Image, findings: &mut Vec<Finding>) -> Vec<(BundlePath, SourcePath)> {
    let mut layers = Vec::new();
    for (path, source) in &image.layers {
        let place: &[&str] = &[path, "layers"];
        if parsed::<HostPath>(&stated, place, path, findings).is_some()
            && let Some(inside) = parsed(&stated, place, path.trim_start_matches('/'), findings)
        {
            layers.push((inside, source.clone()));
        }
    }
    layers
}

fn variables(stated: Stated<'_>, image: &Image, findings: &mut Vec<Finding>) {
    for (name, value) in &image.environment {
        if name.is_empty() || name.contains(['=', '\0', '\n']) || value.contains('\0') {
            let message = format!("`{}` cannot be a variable of image `{}`", name.escape_debug(), image.name);
            findings.push(stated.error(&[name, "environment"], message, ""));
        }
    }
}
