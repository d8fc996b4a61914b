//! Contributions find the service that collects their kind.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use starlark::values::Value;

use super::super::builtins::place_of;
use super::super::session::Session;
use super::super::wire::Wires;
use super::{Building, is_of};
use crate::compile::finding::Finding;

impl<'v> Building<'v, '_> {
    /// Gives a contribution to the service that collects its kind: one that this service takes facts from, else the only one there is.
    pub(super) fn contribute(
        &mut self,
        session: &mut Session,
        number: usize,
        value: Value<'v>,
        noun: &'static str,
    ) {
        self.seen.push((noun, value));
        self.undeclared(session, number, value, noun);
        let takers = self.takers(value, noun);
        let wired: Vec<usize> =
            self.wires[number].iter().flat_map(Wires::values).flatten().copied().collect();
        let preferred: Vec<&(usize, String)> =
            takers.iter().filter(|(taker, _)| wired.contains(taker)).collect();
        let chosen = match (preferred.as_slice(), takers.as_slice()) {
            ([one], _) => Some((*one).clone()),
            ([], [one]) => Some(one.clone()),
            _ => None,
        };
        if let Some((taker, collection)) = chosen {
            self.collected[taker].entry(collection).or_default().push(value);
            return;
        }
        let what = if noun.is_empty() { kind_name(value) } else { noun.to_owned() };
        let finding = if takers.is_empty() {
            let finding = Finding::error(format!("no service of `{}` collects `{what}`", self.host.name));
            if noun == "site" { finding.help("add `caddy()` to the services of the host") } else { finding }
        } else {
            let names: Vec<&str> =
                takers.iter().map(|(taker, _)| self.services[*taker].name.as_str()).collect();
            Finding::error(format!("several services collect `{what}`: {}", names.join(", ")))
                .help("choose one with `uses = {…}`")
        };
        let service = &self.services[number];
        session.report(match place_of(value) {
            Some(place) => finding.at(&place, "contributed here").and_at(&service.span, "for this service"),
            // A record does not know where it was made.
            None => finding.at(&service.span, format!("contributed by `{}`", service.name)),
        });
    }

    /// A module says what it leaves to others; what it does not say is reported.
    fn undeclared(&self, session: &mut Session, number: usize, value: Value<'v>, noun: &str) {
        let service = &self.services[number];
        let definition = &service.definition;
        if definition.contributes.iter().any(|kind| is_of(self.heap, *kind, noun, value)) {
            return;
        }
        let (what, written) = match noun {
            "" => (kind_name(value), kind_name(value)),
            noun => (noun.to_owned(), format!("\"{noun}\"")),
        };
        session.report(
            Finding::error(format!(
                "`{}` returned a `{what}`, and does not say that it does",
                definition.name
            ))
            .at(&definition.span, "")
            .and_at(&service.span, format!("while building `{}`", service.name))
            .help(format!("add `contributes = [{written}]` to its `module(…)`")),
        );
    }

    /// The services and collections that take a value of this kind.
    fn takers(&self, value: Value<'v>, noun: &str) -> Vec<(usize, String)> {
        let takes = |kind: Value<'v>| is_of(self.heap, kind, noun, value);
        let each = self.services.iter().enumerate();
        let pairs = each.flat_map(|(number, service)| {
            service.definition.collects.iter().map(move |entry| (number, entry))
        });
        pairs
            .filter(|(_, (_, kind))| takes(*kind))
            .map(|(number, (name, _))| (number, name.clone()))
            .collect()
    }
}

/// The name of a record's type.
fn kind_name(value: Value<'_>) -> String {
    let shown = value.to_string();
    let name = shown.strip_prefix("record[").and_then(|rest| rest.split_once(']'));
    name.map_or_else(|| value.get_type().to_owned(), |(name, _)| name.to_owned())
}
