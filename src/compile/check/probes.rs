//! Probes: paths and addresses that can be asked.

use super::super::finding::Finding;
use super::super::item::ProbeTarget;
use super::accounts::parsed;
use super::stated::Stated;
use super::survey::Survey;
use crate::bundle::manifest::{Check, Probe};

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) -> Vec<Probe> {
    let mut probes = Vec::new();
    for (stated, probe) in &survey.probes {
        if probe.timeout_s == 0 {
            let finding = stated.error(&["timeout"], "a probe with a timeout of 0 can only fail", "");
            findings.push(finding.help("give it some seconds"));
        }
        let check = match &probe.target {
            ProbeTarget::Unix(path) => {
                parsed(stated, &["unix", path], path, findings).map(|path| Check::Unix { path })
            }
            ProbeTarget::Tcp(address) => tcp(*stated, address, findings),
        };
        if let (Some(check), Some(service)) = (check, stated.label()) {
            probes.push(Probe { service, check, timeout_s: probe.timeout_s });
        }
    }
    probes
}

fn tcp(stated: Stated<'_>, address: &str, findings: &mut Vec<Finding>) -> Option<Check> {
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port);
    if port.and_then(|port| port.parse::<u16>().ok()).is_some_and(|port| port > 0) {
        return Some(Check::Tcp { address: address.to_owned() });
    }
    let message =
        format!("`{}` is not an address and a port, as in `127.0.0.1:8080`", address.escape_debug());
    findings.push(stated.error(&["tcp", address], message, ""));
    None
}
