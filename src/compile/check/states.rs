//! State: each piece of data has one service that it belongs to.

use std::collections::BTreeMap;

use super::super::finding::Finding;
use super::directories::inside;
use super::stated::Stated;
use super::survey::Survey;
use crate::bundle::names::{HostPath, Label};

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) -> BTreeMap<HostPath, Label> {
    let mut seen: Vec<(&str, Stated<'_>)> = Vec::new();
    let mut states = BTreeMap::new();
    for (stated, state) in &survey.states {
        let path = state.directory.path.as_str();
        if inside(path, "/run") {
            let message = format!("the state in `{path}` would be gone at the next boot");
            let finding = stated.error(&[path], message, "");
            findings.push(finding.help("keep it below `/var/lib` or `/srv`, or make it with `directory(…)`"));
        }
        let apart = |other: &str| !inside(path, other) && !inside(other, path);
        let shared =
            seen.iter().find(|(other, first)| first.service.name != stated.service.name && !apart(other));
        if let Some((other, first)) = shared {
            let message = if *other == path {
                format!("two services keep their state in `{path}`")
            } else {
                format!("the state in `{path}` and the state in `{other}` are not apart")
            };
            findings.push(
                stated.conflict(*first, &[path], message).help("give each service a directory of its own"),
            );
        }
        seen.push((path, *stated));
        if let (Ok(path), Some(service)) = (path.parse::<HostPath>(), stated.label()) {
            states.insert(path, service);
        }
    }
    states
}
