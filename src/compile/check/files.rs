//! Files: one claim for each path.

use std::collections::BTreeMap;

use super::super::finding::Finding;
use super::super::host;
use super::accounts::parsed;
use super::stated::Stated;
use super::survey::Survey;
use crate::bundle::names::BundlePath;

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) -> BTreeMap<BundlePath, host::File> {
    let mut seen: BTreeMap<BundlePath, Stated<'_>> = BTreeMap::new();
    let mut files = BTreeMap::new();
    for (stated, file) in &survey.files {
        if parsed::<BundlePath>(stated, &[&file.name], &file.name, findings).is_none() {
            continue;
        }
        let text = file.place();
        let Some(path) = parsed::<BundlePath>(stated, &[&file.name], &text, findings) else { continue };
        if let Some(first) = seen.insert(path.clone(), *stated) {
            let message = format!("file `{}` is stated twice", file.name);
            findings.push(stated.conflict(first, &[&file.name], message));
        }
        let content = file.content.clone();
        files.insert(path, host::File { content, executable: file.executable });
    }
    inside_files(&seen, findings);
    files
}

/// A path cannot be a file and a directory.
fn inside_files(seen: &BTreeMap<BundlePath, Stated<'_>>, findings: &mut Vec<Finding>) {
    for (path, stated) in seen {
        let parents = path.as_str().match_indices('/').map(|(slash, _)| &path.as_str()[..slash]);
        for parent in parents.filter_map(|parent| parent.parse::<BundlePath>().ok()) {
            let payload = |first: &Stated<'_>| matches!(&first.item.noun, super::super::item::Noun::File(file) if matches!(file.content, super::super::item::Content::Payload(_)));
            if let Some(first) = seen.get(&parent).filter(|first| !payload(first)) {
                let message = format!("`{path}` stands below `{parent}`, which is a file");
                findings.push(stated.conflict(*first, &[], message));
            }
        }
    }
}
