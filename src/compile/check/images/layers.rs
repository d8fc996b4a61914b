//! Layers: where they stand, and what they are made of, as far as it can be told without the source tree.

use std::str::FromStr;

use super::super::super::archive::MAX_TARGET;
use super::super::super::finding::Finding;
use super::super::super::host::{self, MAX_LAYERS, Piece};
use super::super::super::item::{self, Image, Layer};
use super::super::super::owner::Owner;
use super::super::super::selection::Selection;
use super::super::super::tree_pattern::TreePattern;
use super::super::stated::Stated;
use super::builds;
use super::settings::no_tokens;
use crate::bundle::names::{BundlePath, HostPath};

/// A layer with the image that it is of, for findings.
#[derive(Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) stated: Stated<'a>,
    pub(super) layer: &'a Layer,
}

impl Spot<'_> {
    /// An error at one of these words of the layer's constructor, or at the layer's path.
    pub(super) fn error(&self, words: &[&str], message: impl Into<String>, label: &str) -> Finding {
        let place = self.layer.place(words);
        let place = place.unwrap_or_else(|| self.stated.place(&[&self.layer.path, "layers"]));
        self.stated.locate(Finding::error(message), place, label)
    }

    fn parsed<T: FromStr<Err = String>>(
        &self,
        words: &[&str],
        text: &str,
        findings: &mut Vec<Finding>,
    ) -> Option<T> {
        text.parse().map_err(|message: String| findings.push(self.error(words, message, ""))).ok()
    }
}

/// The layers that are right, each with what was stated.
pub(super) fn checked<'a>(
    stated: Stated<'a>,
    image: &'a Image,
    findings: &mut Vec<Finding>,
) -> Vec<(&'a Layer, host::Layer)> {
    if image.layers.len() > MAX_LAYERS {
        let count = image.layers.len();
        let message = format!("image `{}` has {count} layers, and {MAX_LAYERS} are the most", image.name);
        let finding = stated.error(&["layers"], message, "");
        findings.push(finding.help("put what changes together into one tree of the source"));
    }
    let mut layers = Vec::new();
    for layer in &image.layers {
        let spot = Spot { stated, layer };
        let at = place(spot, findings);
        let piece = piece(spot, findings);
        if let (Some(at), Some(piece)) = (at, piece) {
            let place = layer.place(&[]).unwrap_or_else(|| stated.place(&[&layer.path, "layers"]));
            layers.push((layer, host::Layer { at, piece, span: place.clone() }));
        }
    }
    layers
}

/// Where a layer stands. The key of `layers` is not part of the constructor's call.
fn place(spot: Spot<'_>, findings: &mut Vec<Finding>) -> Option<BundlePath> {
    let path = &spot.layer.path;
    let inside = path.parse::<HostPath>().and_then(|_| path.trim_start_matches('/').parse());
    let wrong = |message| findings.push(spot.stated.error(&[path, "layers"], message, ""));
    inside.map_err(wrong).ok()
}

fn piece(spot: Spot<'_>, findings: &mut Vec<Finding>) -> Option<Piece> {
    match &spot.layer.piece {
        item::Piece::Copied(copied) => {
            let owner = spot.parsed::<Owner>(&["owner"], &copied.owner, findings);
            let selection = selection(spot, copied, findings);
            let place = spot
                .layer
                .place(&["source"])
                .unwrap_or_else(|| spot.stated.place(&[&spot.layer.path, "layers"]));
            let source = builds::source(spot.stated, &copied.source, place, findings);
            Some(Piece::Copied { source: source?, selection: selection?, owner: owner? })
        }
        item::Piece::Written(written) => {
            let owner = spot.parsed::<Owner>(&["owner"], &written.owner, findings);
            let mode = mode(spot, &["mode"], written.mode, findings);
            no_tokens(&written.text, |message| spot.error(&[], message, ""), findings);
            Some(Piece::Written { text: written.text.clone(), mode: mode?, owner: owner? })
        }
        item::Piece::Linked(target) => {
            let target = link_target(spot, target, findings);
            Some(Piece::Linked { target: target? })
        }
        item::Piece::EmptyDirectory(directory) => {
            let owner = spot.parsed::<Owner>(&["owner"], &directory.owner, findings);
            let mode = mode(spot, &["mode"], directory.mode, findings);
            Some(Piece::EmptyDirectory { mode: mode?, owner: owner? })
        }
    }
}

fn selection(spot: Spot<'_>, copied: &item::Copied, findings: &mut Vec<Finding>) -> Option<Selection> {
    let before = findings.len();
    let pattern = |text: &String, findings: &mut Vec<Finding>| {
        spot.parsed::<TreePattern>(&[text, "exclude", "modes"], text, findings)
    };
    let exclude = copied.exclude.iter().filter_map(|text| pattern(text, findings)).collect();
    let mut modes = Vec::new();
    for (text, bits) in &copied.modes {
        let named = pattern(text, findings);
        let bits = mode(spot, &[text, "modes"], *bits, findings);
        modes.extend(named.zip(bits));
    }
    let whole = copied.mode.and_then(|bits| mode(spot, &["mode"], bits, findings));
    (findings.len() == before).then_some(Selection { exclude, mode: whole, modes })
}

fn mode(spot: Spot<'_>, words: &[&str], mode: u32, findings: &mut Vec<Finding>) -> Option<u32> {
    if mode <= 0o7777 {
        return Some(mode);
    }
    let finding = spot.error(words, format!("{mode:#o} is no mode: the largest is 0o7777"), "");
    findings.push(finding.help("write it in octal, as in `0o755`"));
    None
}

fn link_target(spot: Spot<'_>, target: &str, findings: &mut Vec<Finding>) -> Option<String> {
    let why = if target.is_empty() || target.chars().any(char::is_control) {
        "it is empty or has a control character".to_owned()
    } else if target.len() > MAX_TARGET {
        format!("it has {} bytes, and a layer can hold {MAX_TARGET}", target.len())
    } else {
        return Some(target.to_owned());
    };
    let message = format!("`{}` can be the target of no link: {why}", target.escape_debug());
    findings.push(
        spot.error(&[target], message, "")
            .help("write a path of at most 100 bytes, absolute or from where the link stands"),
    );
    None
}
