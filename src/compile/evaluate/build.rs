//! Modules run: providers before consumers, then collectors with all that was contributed to them.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod contribute;
mod kept;

use std::collections::BTreeMap;

use starlark::eval::Evaluator;
use starlark::values::list::ListRef;
use starlark::values::record::Record;
use starlark::values::structs::AllocStruct;
use starlark::values::typing::TypeCompiled;
use starlark::values::{Heap, Value};

use super::super::finding::Finding;
use super::super::item::{Body, Host, Item, Noun, Os, PublicKey, Service, UnitBody};
use super::super::similar::closest;
use super::super::source::Span;
use super::builtins::{CURRENT, field, finding_of, noun_of, place_of};
use super::load::unreadable;
use super::service::Instance;
use super::session::Session;
use super::wire::{self, Wires, type_name};

/// What `environment()` said beside its hosts.
pub(super) struct Environment<'v> {
    pub(super) name: String,
    /// The call.
    pub(super) span: Span,
    /// Services that every host has.
    pub(super) services: Vec<Value<'v>>,
}

/// One host being built.
struct Building<'v, 'h> {
    heap: Heap<'v>,
    host: &'h Host,
    environment: &'h str,
    services: Vec<Instance<'v>>,
    wires: Vec<Option<Wires>>,
    /// For each service, what it provides: the record type and the record.
    facts: Vec<Vec<(Value<'v>, Value<'v>)>>,
    /// For each service and collection, what was contributed.
    collected: Vec<BTreeMap<String, Vec<Value<'v>>>>,
    /// All that can be observed: the noun's name, or nothing for a record, and the value.
    seen: Vec<(&'static str, Value<'v>)>,
    items: Vec<Vec<Item>>,
    /// No service failed.
    whole: bool,
}

/// Builds the host that `value`, which stands at `place`, describes. The flag says whether all its services were built.
pub(super) fn host<'v>(
    session: &mut Session,
    eval: &mut Evaluator<'v, '_, '_>,
    environment: &Environment<'v>,
    value: Value<'v>,
    place: &Span,
) -> (Option<Host>, bool) {
    let Some((mut host, services)) = open(session, eval, environment, value, place) else {
        return (None, false);
    };
    let heap = eval.heap();
    let wires = wire::wire(session, heap, &host.name, &services);
    let order = wire::order(session, &services, &wires);
    let count = services.len();
    let mut building = Building {
        heap,
        host: &host,
        environment: &environment.name,
        whole: order.len() == count,
        services,
        wires,
        facts: vec![Vec::new(); count],
        collected: vec![BTreeMap::new(); count],
        seen: Vec::new(),
        items: vec![Vec::new(); count],
    };
    for &number in &order {
        building.build(session, eval, number);
    }
    for &number in &order {
        building.finish(session, eval, number);
    }
    let whole = building.whole;
    let mut done = Vec::new();
    for &number in &order {
        let instance = &building.services[number];
        done.push(Service {
            name: instance.name.clone(),
            module: instance.definition.name.clone(),
            span: instance.span.clone(),
            moved_from: instance.moved_from.clone(),
            items: std::mem::take(&mut building.items[number]),
        });
    }
    host.services = done;
    (Some(host), whole)
}

/// Reads what `host()` gave.
fn open<'v>(
    session: &mut Session,
    eval: &Evaluator<'v, '_, '_>,
    environment: &Environment<'v>,
    value: Value<'v>,
    place: &Span,
) -> Option<(Host, Vec<Instance<'v>>)> {
    let (Some(_), Some(span)) = (field(value, "_host"), place_of(value)) else {
        session.report(
            Finding::error(format!("an environment's `hosts` must be hosts, not {}", value.get_type()))
                .at(place, "")
                .help("write `hosts = [host(name = …, domain = …, services = […])]`"),
        );
        return None;
    };
    let text = |name: &str| field(value, name).and_then(Value::unpack_str).unwrap_or_default().to_owned();
    let os = os(session, &span, &text("os"))?;
    let mut services: Vec<Instance<'v>> = Vec::new();
    let everywhere = environment.services.iter().map(|service| (&environment.span, *service));
    let own = field(value, "services").and_then(ListRef::from_value)?;
    let own = own.content().iter().map(|service| (&span, *service));
    let numbered = everywhere.enumerate().chain(own.enumerate());
    for (number, (call, service)) in numbered {
        let place = session.element(call, "services", number);
        let Some(instance) = Instance::of(session, eval.heap(), &place, service) else { continue };
        match services.iter().find(|other| other.name == instance.name) {
            Some(other) => {
                let finding = Finding::error(format!("two services are called `{}`", instance.name))
                    .at(&instance.span, "the second")
                    .and_at(&other.span, "the first")
                    .help("give one of them another name: `name = \"…\"`");
                session.report(finding);
            }
            None => services.push(instance),
        }
    }
    let ssh_key = field(value, "ssh_key")
        .and_then(Value::unpack_str)
        .map(|text| PublicKey { text: text.to_owned(), span: session.argument_value(&span, "ssh_key") });
    let (name, domain) = (text("name"), text("domain"));
    Some((Host { name, domain, os, ssh_key, span, services: Vec::new() }, services))
}

fn os(session: &mut Session, span: &Span, written: &str) -> Option<Os> {
    const KNOWN: [&str; 3] = ["arch", "debian-13", "debian-14"];
    if let Ok(os) = serde_json::from_value(written.into()) {
        return Some(os);
    }
    let place = session.argument_value(span, "os");
    let mut finding =
        Finding::error(format!("`{written}` is no operating system that rick knows")).at(&place, "");
    finding = match closest(written, KNOWN) {
        Some(close) => finding.help(format!("did you mean `{close}`?")),
        None => finding.help(format!("choose one of: {}", KNOWN.join(", "))),
    };
    session.report(finding);
    None
}

impl<'v> Building<'v, '_> {
    /// Runs a service's `build` and sorts what it returns.
    fn build(&mut self, session: &mut Session, eval: &mut Evaluator<'v, '_, '_>, number: usize) {
        let Some(arguments) = self.arguments(number) else {
            // A provider failed; that is reported already.
            self.whole = false;
            return;
        };
        let Some(values) = self.call(session, eval, number, "build", &arguments) else { return };
        for value in values {
            self.sort(session, number, value);
        }
        self.missing_facts(session, number);
    }

    /// Runs a service's `finish`, if it has one, with its facts and all that was contributed to it.
    fn finish(&mut self, session: &mut Session, eval: &mut Evaluator<'v, '_, '_>, number: usize) {
        if self.services[number].definition.finish.is_none() {
            return;
        }
        let Some(mut arguments) = self.arguments(number) else { return };
        for (collection, _) in &self.services[number].definition.collects {
            let values = self.collected[number].remove(collection).unwrap_or_default();
            arguments.push((collection.clone(), self.heap.alloc(values)));
        }
        for (parameter, kind) in &self.services[number].definition.observes {
            let values: Vec<Value<'v>> = if kind.unpack_str() == Some("state") {
                kept::by_service(self.heap, &self.services, &self.items)
            } else {
                let seen = self.seen.iter().filter(|(noun, value)| is_of(self.heap, *kind, noun, *value));
                seen.map(|(_, value)| *value).collect()
            };
            arguments.push((parameter.clone(), self.heap.alloc(values)));
        }
        let Some(values) = self.call(session, eval, number, "finish", &arguments) else { return };
        for value in values {
            if let Some(finding) = finding_of(value) {
                self.relay(session, number, finding);
                continue;
            }
            match noun_of(value) {
                Some(Noun::Site(_) | Noun::State(_) | Noun::Dump(_)) => {
                    let definition = &self.services[number].definition;
                    let place = place_of(value).unwrap_or_else(|| definition.span.clone());
                    session.report(
                        Finding::error(format!("`finish` of `{}` returned a site or state", definition.name))
                            .at(&place, "comes too late for those who are to see it")
                            .and_at(
                                &self.services[number].span,
                                format!("while building `{}`", self.services[number].name),
                            )
                            .help("return it in `build`"),
                    );
                }
                None => self.refuse(session, number, value, "`finish` returns nouns of the host only"),
                Some(noun) => self.keep(session, number, noun, value),
            }
        }
    }

    /// The facts of a service, by parameter; `None` if a provider has none to give.
    fn arguments(&self, number: usize) -> Option<Vec<(String, Value<'v>)>> {
        let definition = &self.services[number].definition;
        let mut arguments = Vec::new();
        for (parameter, fact) in definition.requires.iter().chain(&definition.wants) {
            let value = match self.wires[number].as_ref()?.get(parameter)? {
                None => Value::new_none(),
                Some(provider) => self.facts[*provider].iter().find(|(kind, _)| kind.ptr_eq(*fact))?.1,
            };
            arguments.push((parameter.clone(), value));
        }
        Some(arguments)
    }

    /// What `build` or `finish` of a module returns, as a list.
    fn call(
        &mut self,
        session: &mut Session,
        eval: &mut Evaluator<'v, '_, '_>,
        number: usize,
        what: &str,
        arguments: &[(String, Value<'v>)],
    ) -> Option<Vec<Value<'v>>> {
        (session.trail)(&format!("building `{}`", self.services[number].name));
        let context = self.context(number);
        let definition = &self.services[number].definition;
        let function = if what == "build" { definition.build } else { definition.finish };
        let named: Vec<(&str, Value<'v>)> =
            arguments.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        eval.module().set(CURRENT, self.heap.alloc(self.services[number].name.as_str()));
        let result = eval.eval_function(function, &[context], &named);
        eval.module().set(CURRENT, self.heap.alloc(""));
        let (name, span) = (&self.services[number].name, &self.services[number].span);
        match result {
            Ok(value) => {
                if let Some(list) = ListRef::from_value(value) {
                    return Some(list.content().to_vec());
                }
                session.report(
                    Finding::error(format!(
                        "`{what}` of `{}` must return a list, not {}",
                        definition.name,
                        shown_type(value)
                    ))
                    .at(&definition.span, "")
                    .and_at(span, format!("while building `{name}`")),
                );
            }
            Err(error) => session.report_error(&error, Some((span, format!("while building `{name}`")))),
        }
        self.whole = false;
        None
    }

    /// The first parameter of `build` and `finish`.
    fn context(&self, number: usize) -> Value<'v> {
        let heap = self.heap;
        let os = serde_json::to_value(self.host.os).ok();
        let os = os.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default();
        let host = heap.alloc(AllocStruct([
            ("name", heap.alloc(self.host.name.as_str())),
            ("domain", heap.alloc(self.host.domain.as_str())),
            ("os", heap.alloc(os)),
        ]));
        heap.alloc(AllocStruct([
            ("name", heap.alloc(self.services[number].name.as_str())),
            ("environment", heap.alloc(self.environment)),
            ("host", host),
            ("options", self.services[number].options),
        ]))
    }

    /// Puts one value that `build` returned where it belongs: a noun, a fact or a contribution.
    fn sort(&mut self, session: &mut Session, number: usize, value: Value<'v>) {
        if let Some(finding) = finding_of(value) {
            self.relay(session, number, finding);
            return;
        }
        match noun_of(value) {
            Some(noun @ Noun::Site(_)) => {
                self.contribute(session, number, value, "site");
                self.keep(session, number, noun, value);
            }
            Some(noun) => self.keep(session, number, noun, value),
            None if Record::from_value(value).is_some() => self.record(session, number, value),
            None => self.refuse(
                session,
                number,
                value,
                "`build` returns nouns of the host, facts and contributions",
            ),
        }
    }

    /// Reports what a module found, with the service that it found it for.
    fn relay(&self, session: &mut Session, number: usize, finding: Finding) {
        let service = &self.services[number];
        let found = format!("found by `{}`", service.name);
        session.report(match finding.primary {
            Some(_) => finding.and_at(&service.span, found),
            None => finding.at(&service.span, found),
        });
    }

    fn record(&mut self, session: &mut Session, number: usize, value: Value<'v>) {
        let provided = self.services[number]
            .definition
            .provides
            .iter()
            .copied()
            .find(|kind| is_a(self.heap, value, *kind));
        match provided {
            Some(kind) if self.facts[number].iter().any(|(given, _)| given.ptr_eq(kind)) => {
                let (service, name) = (&self.services[number], type_name(self.heap, kind));
                session.report(
                    Finding::error(format!("`{}` returned two of `{name}`", service.definition.name))
                        .at(&service.definition.span, "a module gives each of its facts once")
                        .and_at(&service.span, format!("while building `{}`", service.name)),
                );
            }
            Some(kind) => self.facts[number].push((kind, value)),
            None => self.contribute(session, number, value, ""),
        }
    }

    fn keep(&mut self, session: &mut Session, number: usize, noun: Noun, value: Value<'v>) {
        let span = place_of(value).unwrap_or_else(|| self.services[number].span.clone());
        let mut item = session.place(noun, span);
        read_body(session, &mut item);
        place_layers(session, &mut item);
        self.items[number].push(item);
    }

    fn missing_facts(&mut self, session: &mut Session, number: usize) {
        let service = &self.services[number];
        for kind in &service.definition.provides {
            if !self.facts[number].iter().any(|(given, _)| given.ptr_eq(*kind)) {
                let name = type_name(self.heap, *kind);
                session.report(
                    Finding::error(format!(
                        "`{}` says that it provides `{name}`, and its `build` returned none",
                        service.definition.name
                    ))
                    .at(&service.definition.span, ""),
                );
                self.whole = false;
            }
        }
    }

    fn refuse(&self, session: &mut Session, number: usize, value: Value<'v>, rule: &str) {
        let service = &self.services[number];
        session.report(
            Finding::error(format!(
                "`{}` returned a list that holds {}, which is nothing that rick knows",
                service.definition.name,
                shown_type(value)
            ))
            .at(&service.definition.span, rule)
            .and_at(&service.span, format!("while building `{}`", service.name)),
        );
    }
}

/// The name of a value's type, as a module's author knows it.
fn shown_type(value: Value<'_>) -> &'static str {
    if value.is_none() { "None" } else { value.get_type() }
}

/// Whether a value is what somebody collects or observes: a record of the type `kind`, or a noun of that name.
fn is_of<'v>(heap: Heap<'v>, kind: Value<'v>, noun: &str, value: Value<'v>) -> bool {
    match kind.unpack_str() {
        Some(name) => name == noun,
        None => noun.is_empty() && is_a(heap, value, kind),
    }
}

fn is_a<'v>(heap: Heap<'v>, value: Value<'v>, kind: Value<'v>) -> bool {
    TypeCompiled::new(kind, heap).is_ok_and(|compiled| compiled.matches(value))
}

/// Names the places inside the calls that made the layers of an image, and builds: they may stand apart from the image's own.
fn place_layers(session: &Session, item: &mut Item) {
    let Noun::Image(image) = &mut item.noun else { return };
    for layer in &mut image.layers {
        layer.places = layer.span.as_ref().map(|span| session.places(span)).unwrap_or_default();
    }
    image.builds_mut(&mut |build| build.places = session.places(&build.span));
}

/// Reads the source file of a unit or Quadlet that names one.
fn read_body(session: &mut Session, item: &mut Item) {
    let body = match &mut item.noun {
        Noun::Unit(unit) => match &mut unit.body {
            UnitBody::Whole(body) | UnitBody::DropIn(_, body) => body,
            UnitBody::Mask => return,
        },
        Noun::Quadlet(quadlet) => &mut quadlet.body,
        _ => return,
    };
    let Body::Text(text, Some(path)) = body else { return };
    match session.read(path) {
        Ok(read) => {
            session.sources.0.insert(path.clone(), read.clone());
            *text = read;
        }
        Err(refusal) => {
            let place = item.places.get("source").unwrap_or(&item.span).clone();
            let finding = unreadable("cannot read", path, Some(&place), refusal);
            session.report(finding);
        }
    }
}
