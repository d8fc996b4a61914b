//! What layers take of the source, and where it comes to stand: known only when folders of the source were listed.

use std::collections::BTreeSet;

use rayon::prelude::*;

use super::super::super::by_path::ByPath;
use super::super::super::finding::Finding;
use super::super::super::host;
use super::super::super::item::{Image, Layer, Piece};
use super::super::super::payload::{PayloadFile, Payloads};
use super::super::super::selection::{Selection, is_meant};
use super::super::super::source::SourcePath;
use super::super::super::tree_pattern::TreePattern;
use super::super::ReadText;
use super::super::stated::{Stated, and_once, help};
use super::accounts;
use super::layers::{Spot, checked};
use crate::bundle::names::BundlePath;
use crate::bundle::oci;

/// What stands at one path.
struct Placed<'a> {
    layer: &'a Layer,
    /// The file of the source that it is, if it is one.
    file: Option<&'a PayloadFile>,
}

impl Placed<'_> {
    /// Other layers may put something below it.
    fn is_directory(&self) -> bool {
        matches!(self.layer.piece, Piece::EmptyDirectory(_))
    }

    /// What stands in it, if that is a text that can be known.
    fn text(&self, read: ReadText<'_>) -> Option<String> {
        match &self.layer.piece {
            Piece::Written(written) => Some(written.text.clone()),
            Piece::Copied(_) => self.file.and_then(read),
            Piece::Linked(_) | Piece::EmptyDirectory(_) => None,
        }
    }
}

pub(in super::super) fn check(
    stated: Stated<'_>,
    image: &Image,
    payloads: &Payloads,
    read: ReadText<'_>,
    findings: &mut Vec<Finding>,
) {
    let mut all = Vec::new();
    // What is wrong with a layer itself is told already.
    let layers = checked(stated, image, &mut Vec::new());
    let mut whole = layers.len() == image.layers.len();
    for (layer, checked) in layers {
        let spot = Spot { stated, layer };
        let placed: Vec<_> = match &checked.piece {
            host::Piece::Copied { source, selection, .. } => {
                // What a build or an image gives is known when that is there.
                let host::Source::Tree(source) = source else {
                    whole = false;
                    continue;
                };
                let Some(members) = payloads.0.get(source) else {
                    whole = false;
                    continue;
                };
                taken(spot, source, selection, members, findings);
                let files = members.par_iter().filter(|file| selection.takes(file));
                files.map(|file| (path_of(&checked.at, file), Some(file))).collect()
            }
            _ => vec![(Ok(checked.at.clone()), None)],
        };
        findings.extend(unfit(spot, placed.iter().map(|(path, _)| path)));
        let placed = placed.into_iter().filter_map(|(path, file)| Some((path.ok()?, Placed { layer, file })));
        all.extend(placed);
    }
    let all = ByPath::all(all);
    clashes(stated, image, &all, findings);
    if let Some(user) = image.user.as_ref().filter(|_| whole && image.base.is_none()) {
        accounts::known(stated, user, |path| all.get(path).map(|placed| placed.text(read)), findings);
    }
}

/// The patterns fit the source, and something is left of it.
fn taken(
    spot: Spot<'_>,
    source: &SourcePath,
    selection: &Selection,
    members: &[PayloadFile],
    findings: &mut Vec<Finding>,
) {
    let named = selection.modes.iter().map(|(pattern, _)| pattern);
    if members.iter().all(|file| file.relative.is_none()) {
        if let Some(pattern) = selection.exclude.iter().chain(named).next() {
            let message = format!("`{source}` is one file, and `{pattern}` is for the files of a tree");
            let finding = spot.error(&[&pattern.to_string(), "exclude", "modes"], message, "");
            findings.push(finding.help("give a single file its mode by `mode = …`"));
        }
        return;
    }
    let left: Vec<&PayloadFile> = selection.of(members).collect();
    let all: Vec<&PayloadFile> = members.iter().collect();
    for pattern in &selection.exclude {
        findings.extend(matches_nothing(spot, source, pattern, &all));
    }
    if left.is_empty() {
        let message = format!("nothing is left of the tree `{source}`");
        let finding = spot.error(&["exclude"], message, "");
        findings.push(finding.help("exclude less, or leave the layer out"));
        return;
    }
    for pattern in named {
        let finding = matches_nothing(spot, source, pattern, &left);
        let excluded = all.iter().any(|file| is_meant(pattern, file));
        findings.extend(finding.map(|finding| {
            help(
                finding,
                excluded.then(|| "what it matches is excluded: leave one of the two out".to_owned()),
            )
        }));
    }
}

fn matches_nothing(
    spot: Spot<'_>,
    source: &SourcePath,
    pattern: &TreePattern,
    files: &[&PayloadFile],
) -> Option<Finding> {
    if files.iter().any(|file| is_meant(pattern, file)) {
        return None;
    }
    let message = format!("`{pattern}` matches no file of the tree `{source}`");
    let finding = spot.error(&[&pattern.to_string()], message, "");
    let paths: Vec<&BundlePath> = files.iter().filter_map(|file| file.relative.as_ref()).collect();
    let near = pattern.nearest(&paths).map(|near| format!("did you mean `{near}`?"));
    let near = near.unwrap_or_else(|| {
        "leave it out, or correct it: it is for paths in the tree, or for names".to_owned()
    });
    Some(finding.help(near))
}

/// Where a file of a source comes to stand; the text of that, if it is too long.
fn path_of(at: &BundlePath, file: &PayloadFile) -> Result<BundlePath, String> {
    match &file.relative {
        Some(relative) => at.join_path(relative).map_err(|_| format!("{at}/{relative}")),
        None => Ok(at.clone()),
    }
}

/// A name may fit where it stands in the source, and not where it goes; or mean something else there. The first one tells it for all.
fn unfit<'a>(
    spot: Spot<'_>,
    mut paths: impl Iterator<Item = &'a Result<BundlePath, String>> + Clone,
) -> Option<Finding> {
    if let Some(path) = paths.clone().find_map(|path| path.as_ref().err()) {
        let finding = spot.error(&[], format!("`/{path}` is too long for a layer"), "");
        return Some(finding.help(
            "put it at a shorter path: a layer can hold names of 100 bytes below directories of 155 in all",
        ));
    }
    let hides = |path: &&BundlePath| oci::hides(path.as_str());
    let path = paths.find_map(|path| path.as_ref().ok().filter(hides))?;
    let message = format!(
        "`/{path}` cannot be in a layer: names that begin with `{}` say there that something is removed",
        oci::WHITEOUT
    );
    Some(spot.error(&[], message, "").help("give it another name, or exclude it"))
}

/// Each path has one layer that says what stands there, and what other things stand below is a directory. Each two layers are told once.
fn clashes(stated: Stated<'_>, image: &Image, all: &ByPath<Placed<'_>>, findings: &mut Vec<Finding>) {
    let mut told = BTreeSet::new();
    for ((path, first), (_, second)) in all.twice() {
        if told.insert((&first.layer.path, &second.layer.path)) {
            let message = format!("two layers of image `{}` put something at `/{path}`", image.name);
            findings.push(conflict(Spot { stated, layer: second.layer }, first.layer, message));
        }
    }
    let mut told = BTreeSet::new();
    for ((upper, first), (path, placed)) in all.nested(|placed| !placed.is_directory()) {
        if told.insert((&first.layer.path, &placed.layer.path)) {
            let message = format!("`/{path}` stands below `/{upper}`, which is no directory");
            let finding = conflict(Spot { stated, layer: placed.layer }, first.layer, message);
            let is_link = matches!(first.layer.piece, Piece::Linked(_));
            findings.push(help(finding, is_link.then(|| "put it where the link leads".to_owned())));
        }
    }
}

/// An error about two layers that cannot both be.
fn conflict(spot: Spot<'_>, first: &Layer, message: String) -> Finding {
    let finding = spot.stated.error(&[&spot.layer.path, "layers"], message, "this layer");
    and_once(finding, spot.stated.place(&[&first.path, "layers"]), "the other one".to_owned())
}
