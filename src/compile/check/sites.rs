//! Sites: one claim for each host name.

use std::collections::BTreeMap;

use super::super::finding::Finding;
use super::accounts::parsed;
use super::stated::Stated;
use super::survey::Survey;
use crate::bundle::names::HostName;

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    let mut seen: BTreeMap<&str, Stated<'_>> = BTreeMap::new();
    for (stated, site) in &survey.sites {
        parsed::<HostName>(stated, &[&site.host], &site.host, findings);
        if let Some(first) = seen.insert(&site.host, *stated) {
            let message = format!("two sites have the host name `{}`", site.host);
            findings.push(
                stated.conflict(first, &[&site.host], message).help("give one of them another `subdomain`"),
            );
        }
    }
}
