//! The names of the environment, its hosts and their services.

use std::collections::BTreeMap;

use super::super::finding::Finding;
use super::super::item::{Evaluation, Host};
use super::super::source::Span;
use crate::bundle::names::{HostName, Label};

pub(super) fn check(evaluation: &Evaluation, findings: &mut Vec<Finding>) {
    if let Err(message) = evaluation.environment.parse::<Label>() {
        let finding = Finding::error(format!("the environment's name: {message}"));
        findings.push(match evaluation.hosts.first() {
            Some(host) => finding.at(&host.span, "an environment with this host"),
            None => finding,
        });
    }
    let mut seen = BTreeMap::new();
    for host in &evaluation.hosts {
        once(&mut seen, "host", &host.name, &host.span, findings);
        check_host(host, findings);
    }
}

fn check_host(host: &Host, findings: &mut Vec<Finding>) {
    for (name, what) in [(&host.name, "name"), (&host.domain, "domain")] {
        if let Err(message) = name.parse::<HostName>() {
            findings.push(Finding::error(format!("the host's {what}: {message}")).at(&host.span, ""));
        }
    }
    let mut seen = BTreeMap::new();
    for service in &host.services {
        if let Err(message) = service.name.parse::<Label>() {
            findings.push(Finding::error(format!("the service's name: {message}")).at(&service.span, ""));
        }
        once(&mut seen, "service", &service.name, &service.span, findings);
    }
}

/// Tells a name that was seen before.
fn once<'a>(
    seen: &mut BTreeMap<&'a str, &'a Span>,
    what: &str,
    name: &'a str,
    span: &'a Span,
    findings: &mut Vec<Finding>,
) {
    if let Some(first) = seen.insert(name, span) {
        findings.push(
            Finding::error(format!("two {what}s have the name `{name}`"))
                .at(span, "the second")
                .and_at(first, "the first")
                .help("give one of them another `name`"),
        );
    }
}
