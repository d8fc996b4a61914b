//! Networks of containers: no two of a host overlap, for Podman starts the second one only to fail.

use std::net::Ipv4Addr;

use super::super::finding::Finding;
use super::survey::Survey;
use super::written::{Entry, Written};

/// The first and the last address of a subnet.
type Range = (u32, u32);

pub(super) fn check(survey: &Survey<'_>, findings: &mut Vec<Finding>) {
    let mut seen: Vec<(&Written<'_>, &Entry, Range)> = Vec::new();
    for written in
        survey.quadlets.iter().map(|(written, _)| written).filter(|written| written.kind() == "network")
    {
        for entry in written.all("Network", "Subnet") {
            // Addresses of version 6, and what is none at all, are for Podman to judge.
            let Some(range) = range(&entry.value) else { continue };
            let shared = seen.iter().find(|(other, _, taken)| {
                !std::ptr::eq(*other, written) && range.0 <= taken.1 && taken.0 <= range.1
            });
            if let Some((other, first, _)) = shared {
                let message = format!(
                    "the network `{}` of `{}` overlaps `{}` of `{}`",
                    entry.value, written.name, first.value, other.name
                );
                let finding = written.stated.conflict(other.stated, &[&entry.value, written.name], message);
                findings.push(finding.help("give one of the services another network"));
            }
            seen.push((written, entry, range));
        }
    }
}

/// The range of `10.213.1.0/24`.
fn range(subnet: &str) -> Option<Range> {
    let (address, length) = subnet.trim().split_once('/')?;
    let (address, length) = (address.parse::<Ipv4Addr>().ok()?.to_bits(), length.parse::<u32>().ok()?);
    let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
    (length <= 32).then_some((address & !hosts, address | hosts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_what_the_length_says() {
        let range = |text: &str| range(text).map(|(first, last)| [first, last].map(Ipv4Addr::from_bits));
        let of = |first: &str, last: &str| Some([first, last].map(|text| text.parse().unwrap()));
        assert_eq!(range("10.213.1.0/24"), of("10.213.1.0", "10.213.1.255"));
        assert_eq!(range("10.213.1.77/25"), of("10.213.1.0", "10.213.1.127"));
        assert_eq!(range("0.0.0.0/0"), of("0.0.0.0", "255.255.255.255"));
        assert_eq!(range("10.0.0.1/32"), of("10.0.0.1", "10.0.0.1"));
        for none in ["10.0.0.0", "10.0.0.0/33", "fd00::/64", "x/8"] {
            assert_eq!(range(none), None, "{none}");
        }
    }
}
