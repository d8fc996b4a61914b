//! Keys that secrets are encrypted to: those of operators, and one of each host.

use super::super::finding::Finding;
use super::super::item::{Evaluation, Host, PublicKey};
use super::super::secret::recipient::{Recipient, Refused};
use super::super::source::Sources;
use super::stated::and_once;

/// Those who can read every secret of the environment; one who is named twice is one.
pub(super) fn operators(evaluation: &Evaluation, findings: &mut Vec<Finding>) -> Vec<Recipient> {
    let mut operators: Vec<Recipient> = Vec::new();
    for stated in &evaluation.operators {
        let key = parsed(stated, "the key of an operator", &evaluation.sources, findings);
        operators.extend(key.filter(|key| operators.iter().all(|other| other.key() != key.key())));
    }
    operators
}

/// What the secrets of a host are encrypted to, if it says so.
pub(super) fn of_host(host: &Host, sources: &Sources, findings: &mut Vec<Finding>) -> Option<Recipient> {
    let stated = host.ssh_key.as_ref()?;
    let what = format!("the SSH key of `{}`", host.name);
    let key = parsed(stated, &what, sources, findings)?;
    if !key.is_ssh() {
        let finding =
            Finding::error(format!("{what} is a key of age")).at(&stated.span, "this is no key of SSH");
        let finding = and_once(finding, &host.span, format!("the key of `{}`", host.name));
        findings.push(finding.help(WHERE));
        return None;
    }
    Some(key)
}

const WHERE: &str = "write the line of the host's /etc/ssh/ssh_host_ed25519_key.pub: `ssh-ed25519 AAAA…`";

fn parsed(
    stated: &PublicKey,
    what: &str,
    sources: &Sources,
    findings: &mut Vec<Finding>,
) -> Option<Recipient> {
    let finding = match stated.text.parse() {
        Ok(recipient) => return Some(recipient),
        // Without an excerpt, which would show it once more.
        Err(Refused::Private) => {
            let file = &stated.span.file;
            let (line, column) = sources.position(file, stated.span.start);
            Finding::error(format!("{what} is a private key: {file}:{line}:{column}"))
                .note("everybody who has the source tree can read it")
                .help("make a new pair of keys, since this one is known, and write its public key here")
        }
        Err(Refused::Other(why, help)) => {
            Finding::error(format!("{what} is none that secrets can be encrypted to"))
                .at(&stated.span, why)
                .help(help)
        }
    };
    findings.push(finding);
    None
}
