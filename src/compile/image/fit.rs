//! Whether what layers hold fits together, and on the image below: known only when all of it is there.
//!
//! For files of the source tree that an image of a host takes, `check` has said the same before, with nearer places.

use super::place::{Content, Entries};
use crate::bundle::names::BundlePath;
use crate::bundle::oci;
use crate::compile::archive::MAX_TARGET;
use crate::compile::by_path::ByPath;
use crate::compile::finding::{Finding, Refused};
use crate::compile::host::{Image, Layer, Piece};
use crate::compile::members::Members;
use crate::compile::selection::Selection;
use crate::compile::tree::{Kind, Tree};

/// Looks at what each layer holds by itself, `own`.
///
/// # Errors
/// [`Refused`], with all that is wrong.
pub(super) fn check(
    image: &Image,
    members: &[Members<'_>],
    own: &[Entries<'_>],
    below: Option<&Tree>,
) -> anyhow::Result<()> {
    let mut findings = Vec::new();
    for (layer, members) in image.layers.iter().zip(members) {
        if let Piece::Copied { selection, .. } = &layer.piece {
            taken(layer, selection, members, &mut findings);
        }
    }
    let mut all = Vec::new();
    for (layer, entries) in image.layers.iter().zip(own) {
        for (path, entry) in entries {
            if oci::hides(path.as_str()) {
                findings.push(error(layer, format!("`/{path}` cannot be in a layer: names that begin with `{}` say there that something is removed", oci::WHITEOUT)));
            }
            if let Content::Link(target) = entry.content
                && target.len() > MAX_TARGET
            {
                let long = format!(
                    "`/{path}` leads to a path of {} bytes, and a layer can hold {MAX_TARGET}",
                    target.len()
                );
                findings.push(error(layer, long));
            }
            if let Some(below) = below {
                findings.extend(on_base(layer, path.as_str(), entry.content, below));
            }
            all.push((path.as_str(), (layer, entry.content)));
        }
    }
    let all = ByPath::all(all);
    for ((path, (first, _)), (_, (layer, _))) in all.twice() {
        let finding = error(layer, format!("two layers put something at `/{path}`"));
        findings.push(finding.and_at(&first.span, "the other one"));
    }
    for ((upper, (first, _)), (path, (layer, _))) in
        all.nested(|(_, content)| !matches!(content, Content::Directory))
    {
        let message = format!("`/{path}` stands below `/{upper}`, which is no directory");
        findings.push(error(layer, message).and_at(&first.span, "the other one"));
    }
    if findings.is_empty() { Ok(()) } else { Err(first_of_each(findings)) }
}

fn error(layer: &Layer, message: String) -> Finding {
    Finding::error(message).at(&layer.span, "this layer")
}

/// The first of what is wrong with each layer: a whole tree can be wrong in the same way.
fn first_of_each(findings: Vec<Finding>) -> anyhow::Error {
    let mut seen = Vec::new();
    let mut first = Vec::new();
    for finding in findings {
        if !seen.contains(&finding.primary) {
            seen.push(finding.primary.clone());
            first.push(finding);
        }
    }
    Refused(first).into()
}

/// The patterns fit the source, and something is left of it.
fn taken(layer: &Layer, selection: &Selection, members: &Members<'_>, findings: &mut Vec<Finding>) {
    let paths: Vec<&BundlePath> = members
        .files
        .iter()
        .filter_map(|file| file.relative.as_ref())
        .chain(members.links.iter().map(|link| &link.relative))
        .collect();
    let named = selection.modes.iter().map(|(pattern, _)| pattern);
    for pattern in selection.exclude.iter().chain(named) {
        if !paths.iter().any(|path| pattern.matches(path)) {
            findings.push(error(layer, format!("`{pattern}` matches no file of what the layer takes")));
        }
    }
    if selection.of(&members.files).next().is_none() && selection.links(&members.links).next().is_none() {
        findings.push(error(layer, "nothing is there that the layer could take".to_owned()));
    }
}

/// Directories and links of the image below stay what they are: what stands in them would be gone.
fn on_base(layer: &Layer, path: &str, content: Content<'_>, below: &Tree) -> Option<Finding> {
    for (slash, _) in path.match_indices('/') {
        let parent = &path[..slash];
        match below.get(parent).map(|node| &node.kind) {
            Some(Kind::Directory) | None => {}
            Some(Kind::File { .. }) => {
                return Some(error(
                    layer,
                    format!("`/{path}` stands below `/{parent}`, which is a file of the base"),
                ));
            }
            Some(Kind::Link(target)) => {
                let message =
                    format!("`/{path}` stands below `/{parent}`, which is a link of the base to `{target}`");
                let real = below.resolve(path).ok().filter(|real| real != path);
                let finding = error(layer, message);
                return Some(match real {
                    Some(real) => finding.help(format!("write `/{real}`, where that leads")),
                    None => finding,
                });
            }
        }
    }
    let is_directory = below.get(path).is_some_and(|node| node.kind == Kind::Directory);
    (is_directory && !matches!(content, Content::Directory)).then(|| {
        error(layer, format!("`/{path}` is a directory of the base, and what stands in it would be gone"))
    })
}
