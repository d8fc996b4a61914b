//! Facts find their consumers: who provides what each service requires, and in which order services are built.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;

use starlark::values::list::ListRef;
use starlark::values::typing::TypeCompiled;
use starlark::values::{Heap, Value};

use super::super::finding::Finding;
use super::builtins::DEFINITIONS;
use super::service::{Definition, Instance};
use super::session::Session;

/// A service's facts: parameter → the number of the service that provides it; `None` for a wish that nobody fulfils.
pub(super) type Wires = BTreeMap<String, Option<usize>>;

/// Wires all services of a host. `None` stands for a service whose facts cannot be had.
pub(super) fn wire<'v>(
    session: &mut Session,
    heap: Heap<'v>,
    host: &str,
    services: &[Instance<'v>],
) -> Vec<Option<Wires>> {
    (0..services.len()).map(|number| wire_one(session, heap, host, services, number)).collect()
}

fn wire_one<'v>(
    session: &mut Session,
    heap: Heap<'v>,
    host: &str,
    services: &[Instance<'v>],
    number: usize,
) -> Option<Wires> {
    let service = &services[number];
    unknown_uses(session, service);
    let mut wires = Wires::new();
    let mut whole = true;
    let required = service.definition.requires.iter().map(|fact| (fact, true));
    let wanted = service.definition.wants.iter().map(|fact| (fact, false));
    for ((parameter, fact), required) in required.chain(wanted) {
        let providers = providers(services, number, *fact);
        match choose(session, service, services, parameter, &type_name(heap, *fact), &providers) {
            Ok(Some(provider)) => drop(wires.insert(parameter.clone(), Some(provider))),
            Ok(None) if required => {
                missing(session, heap, host, service, *fact);
                whole = false;
            }
            Ok(None) => drop(wires.insert(parameter.clone(), None)),
            Err(()) => whole = false,
        }
    }
    whole.then_some(wires)
}

/// The services, other than `consumer`, whose module provides `fact`.
fn providers<'v>(services: &[Instance<'v>], consumer: usize, fact: Value<'v>) -> Vec<usize> {
    let provides =
        |service: &Instance<'v>| service.definition.provides.iter().any(|provided| provided.ptr_eq(fact));
    (0..services.len()).filter(|&number| number != consumer && provides(&services[number])).collect()
}

/// The one provider to take, if there is one; `Err` if the choice is wrong or open, which is then reported.
fn choose(
    session: &mut Session,
    service: &Instance<'_>,
    services: &[Instance<'_>],
    parameter: &str,
    fact: &str,
    providers: &[usize],
) -> Result<Option<usize>, ()> {
    let names: Vec<&str> = providers.iter().map(|&number| services[number].name.as_str()).collect();
    if let Some(chosen) = service.uses.get(parameter) {
        let found = providers.iter().copied().find(|&number| services[number].name == *chosen);
        if found.is_none() {
            let place = session.argument_value(&service.span, "uses");
            session.report(
                Finding::error(format!("`{}` cannot take `{parameter}` from `{chosen}`", service.name))
                    .at(&place, format!("no service of this name provides `{fact}`"))
                    .note(format!(
                        "services that do: {}",
                        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
                    )),
            );
            return Err(());
        }
        return Ok(found);
    }
    if providers.len() > 1 {
        session.report(
            Finding::error(format!("`{}` could take `{fact}` from several services", service.name))
                .at(&service.span, format!("{} provide it", names.join(" and ")))
                .help(format!("choose one: `uses = {{\"{parameter}\": \"{}\"}}`", names[0])),
        );
        return Err(());
    }
    Ok(providers.first().copied())
}

fn unknown_uses(session: &mut Session, service: &Instance<'_>) {
    let known: Vec<&str> = service
        .definition
        .requires
        .iter()
        .chain(&service.definition.wants)
        .map(|(name, _)| name.as_str())
        .collect();
    for name in service.uses.keys().filter(|name| !known.contains(&name.as_str())) {
        let place = session.argument_value(&service.span, "uses");
        let takes =
            if known.is_empty() { "no facts".to_owned() } else { format!("the facts {}", known.join(", ")) };
        session.report(
            Finding::error(format!("`{}` takes no fact `{name}`", service.definition.name))
                .at(&place, "")
                .note(format!("it takes {takes}")),
        );
    }
}

fn missing<'v>(session: &mut Session, heap: Heap<'v>, host: &str, service: &Instance<'v>, fact: Value<'v>) {
    let modules = modules_that_provide(session, fact);
    let mut finding = Finding::error(format!(
        "`{}` needs `{}`, and no service of `{host}` provides it",
        service.name,
        type_name(heap, fact)
    ))
    .at(&service.span, "needs it");
    for (name, path) in modules {
        finding = finding
            .help(format!("add `{name}()` to the services of `{host}`, from `load(\"{path}\", \"{name}\")`"));
    }
    session.report(finding);
}

/// All loaded modules that provide `fact`: name, and the path to load it from.
fn modules_that_provide(session: &Session, fact: Value<'_>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for module in session.modules.values().flatten() {
        let Ok(definitions) = module.get_any_visibility(DEFINITIONS) else { continue };
        let Some(list) = ListRef::from_value(definitions.0.value()) else { continue };
        for definition in list.iter().filter_map(|definition| Definition::of(session, definition)) {
            if definition.provides.iter().any(|provided| provided.ptr_eq(fact)) {
                let file = definition.span.file.0.trim_end_matches(".star");
                let path = file.rsplit_once('/').map_or(file, |(folder, _)| folder);
                found.push((definition.name, format!("//{path}")));
            }
        }
    }
    found
}

/// The name under which a record type was assigned.
pub(super) fn type_name<'v>(heap: Heap<'v>, fact: Value<'v>) -> String {
    TypeCompiled::new(fact, heap).map_or_else(|_| fact.to_string(), |compiled| compiled.as_ty().to_string())
}

/// An order in which every provider stands before its consumers; services in a circle are reported and left out.
pub(super) fn order(session: &mut Session, services: &[Instance<'_>], wires: &[Option<Wires>]) -> Vec<usize> {
    let mut order = Vec::new();
    let mut open: Vec<usize> = (0..services.len()).filter(|&number| wires[number].is_some()).collect();
    loop {
        let ready = open.iter().position(|&number| {
            let needs = wires[number].iter().flat_map(Wires::values).flatten();
            needs.clone().all(|provider| !open.contains(provider))
        });
        let Some(ready) = ready else { break };
        order.push(open.remove(ready));
    }
    if !open.is_empty() {
        session.report(circle(services, wires, &open));
    }
    order
}

/// The circle that the first of these services hangs on.
fn circle(services: &[Instance<'_>], wires: &[Option<Wires>], open: &[usize]) -> Finding {
    let next = |number: usize| {
        let needs = wires[number].iter().flatten();
        needs
            .filter_map(|(fact, provider)| Some((fact, (*provider)?)))
            .find(|(_, other)| open.contains(other))
    };
    let mut way: Vec<(usize, &String, usize)> = Vec::new();
    let mut number = open[0];
    while let Some((fact, provider)) = next(number) {
        if let Some(start) = way.iter().position(|(known, ..)| *known == number) {
            way.drain(..start);
            break;
        }
        way.push((number, fact, provider));
        number = provider;
    }
    let names: Vec<String> = way.iter().map(|(number, ..)| format!("`{}`", services[*number].name)).collect();
    let mut finding =
        Finding::error(format!("these services need facts of each other: {}", names.join(", ")));
    for (step, (number, fact, provider)) in way.iter().enumerate() {
        let words = format!("takes `{fact}` from `{}`", services[*provider].name);
        let span = &services[*number].span;
        finding = if step == 0 { finding.at(span, words) } else { finding.and_at(span, words) };
    }
    finding.help("break the circle: one of these modules must do without the other's fact")
}
