//! Where the files of payloads come to stand: known only when folders of the source were listed.

use std::collections::BTreeMap;

use super::super::finding::Finding;
use super::super::item::{Content, Evaluation, Host, Item, Noun};
use super::super::payload::Payloads;
use super::super::source::SourcePath;
use super::ReadText;
use super::images::check_placed;
use super::stated::Stated;
use crate::bundle::names::BundlePath;

pub(super) fn check(evaluation: &Evaluation, payloads: &Payloads, read: ReadText<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for host in &evaluation.hosts {
        check_host(host, payloads, read, &mut findings);
    }
    findings
}

fn check_host(host: &Host, payloads: &Payloads, read: ReadText<'_>, findings: &mut Vec<Finding>) {
    let mut seen: BTreeMap<String, Stated<'_>> = BTreeMap::new();
    let stated = host
        .services
        .iter()
        .flat_map(|service| service.items.iter().map(move |item| Stated { service, item }));
    for stated in stated {
        match &stated.item.noun {
            Noun::File(file) => {
                let base = file.place();
                let paths = match &file.content {
                    Content::Text(_) => vec![base.clone()],
                    Content::Payload(source) => paths(&base, source, payloads),
                };
                too_long(stated, &["source"], &base, &paths, findings);
                for path in paths {
                    claim(&mut seen, stated, path, findings);
                }
            }
            Noun::Image(image) => check_placed(stated, image, payloads, read, findings),
            _ => {}
        }
    }
    for (path, stated) in &seen {
        let parents = path.match_indices('/').map(|(slash, _)| &path[..slash]);
        let mut taken = parents.filter_map(|parent| Some((parent, seen.get(parent)?)));
        if let Some((parent, first)) = taken.find(|(_, first)| !both_known(first.item, stated.item)) {
            let message = format!("`{path}` stands below `{parent}`, which is a file");
            findings.push(stated.conflict(*first, &["source"], message));
        }
    }
}

/// The paths of a payload's files; none if it could not be read, which is told already.
fn paths(base: &str, source: &SourcePath, payloads: &Payloads) -> Vec<String> {
    let members = payloads.0.get(source).into_iter().flatten();
    let path = |relative: &Option<BundlePath>| match relative {
        Some(relative) => format!("{base}/{relative}"),
        None => base.to_owned(),
    };
    members.map(|member| path(&member.relative)).collect()
}

/// A name may fit where it stands in the source, and not where it goes. The first one tells it for all.
fn too_long(stated: Stated<'_>, words: &[&str], base: &str, paths: &[String], findings: &mut Vec<Finding>) {
    if base.parse::<BundlePath>().is_err() {
        // Told already.
        return;
    }
    if let Some(message) = paths.iter().find_map(|path| path.parse::<BundlePath>().err()) {
        findings.push(stated.error(words, message, ""));
    }
}

fn claim<'a>(
    seen: &mut BTreeMap<String, Stated<'a>>,
    stated: Stated<'a>,
    path: String,
    findings: &mut Vec<Finding>,
) {
    let message = format!("two files are to stand at `{path}`");
    if let Some(first) = seen.insert(path, stated)
        && !both_known(first.item, stated.item)
    {
        findings.push(stated.conflict(first, &["source"], message));
    }
}

/// `files` has compared these two already: both are texts, or both have the same path.
fn both_known(one: &Item, other: &Item) -> bool {
    let (Noun::File(one), Noun::File(other)) = (&one.noun, &other.noun) else { return true };
    let text = |content: &Content| matches!(content, Content::Text(_));
    (text(&one.content) && text(&other.content)) || one.place() == other.place()
}
