//! Programs that the host must have.

use std::collections::BTreeMap;

use super::super::finding::Finding;
use super::accounts::parsed;
use super::stated::Stated;
use super::survey::Survey;
use crate::bundle::names::{HostPath, Label};

pub(super) fn check(
    survey: &Survey<'_>,
    findings: &mut Vec<Finding>,
) -> BTreeMap<HostPath, (String, Vec<Label>)> {
    let mut seen: BTreeMap<&str, (Stated<'_>, &str)> = BTreeMap::new();
    let mut programs: BTreeMap<HostPath, (String, Vec<Label>)> = BTreeMap::new();
    for (stated, program) in &survey.programs {
        let (first, package) = *seen.entry(&program.path).or_insert((*stated, &program.package));
        if package != program.package {
            let message =
                format!("`{}` is said to come from `{package}` and from `{}`", program.path, program.package);
            findings.push(stated.conflict(first, &["package"], message));
        }
        let path = parsed::<HostPath>(stated, &[&program.path], &program.path, findings);
        if let (Some(path), Some(service)) = (path, stated.label()) {
            let (_, needed_by) = programs.entry(path).or_insert((program.package.clone(), Vec::new()));
            if !needed_by.contains(&service) {
                needed_by.push(service);
            }
        }
    }
    programs
}
