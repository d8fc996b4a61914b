//! Ports: one claim for each number, protocol and address. Published ports and listening sockets claim theirs too.

use super::super::finding::Finding;
use super::stated::Stated;
use super::survey::Survey;
use super::written::Written;

/// A claim, and whether it was made by `port()` itself.
struct Claim<'a> {
    stated: Stated<'a>,
    number: u16,
    protocol: String,
    address: String,
    explicit: bool,
}

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    let mut claims: Vec<Claim<'_>> = Vec::new();
    for claim in all(survey) {
        if claim.explicit && !matches!(claim.protocol.as_str(), "tcp" | "udp") {
            let message = format!("`{}` is not a protocol: `tcp` and `udp` are", claim.protocol);
            findings.push(claim.stated.error(&["protocol"], message, ""));
        }
        match claims.iter().find(|first| first.clashes(&claim)) {
            Some(first) => findings.push(conflict(first, &claim)),
            None => claims.push(claim),
        }
    }
}

fn all<'a>(survey: &Survey<'a>) -> Vec<Claim<'a>> {
    let stated = survey.ports.iter().map(|(stated, port)| Claim {
        stated: *stated,
        number: port.number,
        protocol: port.protocol.clone(),
        address: port.address.clone(),
        explicit: true,
    });
    stated.chain(survey.written().flat_map(implied)).collect()
}

/// What a unit or Quadlet listens on by itself.
fn implied<'a>(written: &Written<'a>) -> Vec<Claim<'a>> {
    let claim = |(address, number, protocol): (String, u16, String)| Claim {
        stated: written.stated,
        number,
        protocol,
        address,
        explicit: false,
    };
    let published = ["Container", "Pod", "Kube"]
        .into_iter()
        .flat_map(|section| written.all(section, "PublishPort"))
        .filter_map(|entry| published(&entry.value));
    let listening =
        [("ListenStream", "tcp"), ("ListenDatagram", "udp")].into_iter().flat_map(|(key, protocol)| {
            let entries = written.all("Socket", key);
            entries
                .into_iter()
                .filter_map(|entry| listening(&entry.value))
                .map(|(address, port)| (address, port, protocol.to_owned()))
        });
    published.chain(listening).map(claim).collect()
}

/// `[[ADDRESS:]HOST-PORT:]CONTAINER-PORT[/PROTOCOL]`. Ranges and random ports claim nothing.
fn published(value: &str) -> Option<(String, u16, String)> {
    let (ports, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
    let (host, _) = ports.rsplit_once(':')?;
    let (address, number) = host.rsplit_once(':').unwrap_or(("0.0.0.0", host));
    Some((address.trim_matches(['[', ']']).to_owned(), number.parse().ok()?, protocol.to_owned()))
}

/// `PORT` or `ADDRESS:PORT`; paths claim nothing.
fn listening(value: &str) -> Option<(String, u16)> {
    let (address, number) = value.rsplit_once(':').unwrap_or(("::", value));
    Some((address.trim_matches(['[', ']']).to_owned(), number.parse().ok()?))
}

impl Claim<'_> {
    fn clashes(&self, other: &Self) -> bool {
        let anywhere = |address: &str| matches!(address, "" | "0.0.0.0" | "::" | "*");
        let overlap = self.address == other.address || anywhere(&self.address) || anywhere(&other.address);
        let same_service = self.stated.service.name == other.stated.service.name;
        // A service that claims a port and then publishes it says one thing twice.
        let said_twice = same_service && self.explicit != other.explicit;
        self.number == other.number && self.protocol == other.protocol && overlap && !said_twice
    }
}

fn conflict(first: &Claim<'_>, later: &Claim<'_>) -> Finding {
    let message = format!("two claims on port {}/{}", later.number, later.protocol);
    let finding =
        later.stated.conflict(first.stated, &["PublishPort", "ListenStream", "ListenDatagram"], message);
    let finding = if first.address == later.address {
        finding
    } else {
        finding.note(format!("`{}` and `{}` overlap", first.address, later.address))
    };
    finding.help("give one of them another port, or put both behind one web server")
}
