//! Services that move between two hosts, as far as both are known: the environment of one says nothing of the other.

use std::collections::BTreeMap;

use super::super::finding::Finding;
use super::super::item::{Host, Noun, Repository, Service};
use super::super::similar::did_you_mean;
use super::super::source::Span;
use super::stated::{and_once, help};
use crate::bundle::manifest::Home;

/// An environment of which every service could be built.
#[derive(Clone, Copy)]
pub struct Described<'a> {
    /// Its name.
    pub environment: &'a str,
    /// Its hosts.
    pub hosts: &'a [Host],
}

/// A service that comes from another host.
pub struct Move<'a> {
    /// Where it comes from.
    pub from: Home,
    /// Where that is said.
    pub place: &'a Span,
    environment: &'a str,
    host: &'a Host,
    service: &'a Service,
}

/// All that move. What is said of them that makes no sense is told elsewhere.
pub fn of(described: Described<'_>) -> impl Iterator<Item = Move<'_>> {
    let Described { environment, hosts } = described;
    let services = hosts.iter().flat_map(|host| host.services.iter().map(move |service| (host, service)));
    services.filter_map(move |(host, service)| {
        let (text, place) = service.moved_from.as_ref()?;
        let from: Home = text.parse().ok()?;
        let here = from.environment.as_str() == environment && from.host.as_str() == host.name;
        (!here).then_some(Move { from, place, environment, host, service })
    })
}

/// What hinders moves from hosts of these environments, and of them alone.
pub fn check(environments: &[Described<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut first: BTreeMap<(Home, &str), &Span> = BTreeMap::new();
    for moving in environments.iter().flat_map(|described| of(*described)) {
        let Move { from, place, service, .. } = &moving;
        if let Some(first) = first.insert((from.clone(), &service.name), place) {
            let message = format!("two hosts are to have `{}` from `{from}`", service.name);
            let finding = Finding::error(message).at(place, "the second").and_at(first, "the first");
            findings.push(finding.help("it can move to one: let the other begin with nothing"));
        }
        let there = environments.iter().find(|described| described.environment == from.environment.as_str());
        if let Some(there) = there {
            match there.hosts.iter().find(|host| host.name == from.host.as_str()) {
                Some(old) => findings.extend(moving.hindered_by(old)),
                None => findings.push(moving.lacks_host(there.hosts)),
            }
        }
    }
    findings
}

impl Move<'_> {
    /// It moves to this host.
    pub fn is_to(&self, host: &Host) -> bool {
        std::ptr::eq(self.host, host)
    }

    /// The environment that it comes from is no file of this source tree; `known` are some that are.
    pub fn lacks_environment<'a>(&self, known: impl IntoIterator<Item = &'a str>) -> Finding {
        let Self { from, place, service, .. } = self;
        let message =
            format!("there is no environment `{}`, from which `{}` comes", from.environment, service.name);
        let finding = Finding::warning(message).at(place, "of another source tree?");
        help(finding, did_you_mean(from.environment.as_str(), known))
            .help(format!(
                "if it is of another one, see there that `{}` is taken out, and that both hosts have the same `repository`",
                service.name
            ))
            .help("if it has moved already, take `moved_from` out")
    }

    fn lacks_host(&self, hosts: &[Host]) -> Finding {
        let Self { from, place, service, .. } = self;
        let message = format!(
            "`{}` has no host `{}`, from which `{}` comes",
            from.environment, from.host, service.name
        );
        let known = hosts.iter().map(|host| host.name.as_str());
        let finding = Finding::error(message).at(place, "");
        help(finding, did_you_mean(from.host.as_str(), known))
            .help("the old host lets it go when it is activated without it, so that host stays until then")
            .help("if it has moved already, take `moved_from` out")
    }

    /// What is wrong with a move from this host.
    fn hindered_by(&self, old: &Host) -> Vec<Finding> {
        let Self { from, place, service, .. } = self;
        let still = old.services.iter().find(|other| other.name == service.name).map(|still| {
            Finding::error(format!("`{}` would be on two hosts", service.name))
                .at(place, "it comes from there")
                .and_at(&still.span, "and is still there")
                .help(format!("take it out of `{from}`"))
        });
        still.into_iter().chain(self.without_a_way(old)).collect()
    }

    /// The two hosts have no repository in common. That the new one has none is told elsewhere.
    fn without_a_way(&self, old: &Host) -> Option<Finding> {
        let Self { from, place, service, host, environment } = self;
        let (by, new) = restoring(host)?;
        let message = format!(
            "`{}` cannot come from `{from}`: the two hosts have no repository in common",
            service.name
        );
        let finding = Finding::error(message).at(place, "");
        let way = "give both hosts the same `repository`, one that both reach: `sftp:…`, `rest:…` or `s3:…`";
        let Some((old_by, old_repository)) = restoring(old) else {
            let finding = finding.and_at(&old.span, "has none that it restores from");
            return Some(finding.help(way));
        };
        let local = |address: &str| address.starts_with('/');
        let (address, old_address) = (&new.address, &old_repository.address);
        if address == old_address && !local(address) {
            return None;
        }
        let finding =
            and_once(finding, &by.span, format!("that of `{environment}/{}` is `{address}`", host.name));
        let finding = and_once(finding, &old_by.span, format!("that of `{from}` is `{old_address}`"));
        Some(if local(address) && local(old_address) {
            finding.note("a directory is each host's own").help(way)
        } else {
            finding.help(way)
        })
    }
}

/// The repository from which a host restores, which is also where it lets services go, and the service that states it.
fn restoring(host: &Host) -> Option<(&Service, &Repository)> {
    let items =
        host.services.iter().flat_map(|service| service.items.iter().map(move |item| (service, item)));
    items.into_iter().find_map(|(service, item)| match &item.noun {
        Noun::Repository(repository) if repository.restores => Some((service, repository)),
        _ => None,
    })
}
