//! What the services of a host keep, as those see it who observe `"state"`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use starlark::values::structs::AllocStruct;
use starlark::values::{Heap, Value};

use super::super::super::item::{Body, Item, Noun, UnitBody};
use super::super::service::Instance;

/// What Quadlet makes services of, with what it adds to the stem and the section that may name another one.
const SERVICES: [(&str, &str, &str); 3] =
    [("container", "", "Container"), ("pod", "-pod", "Pod"), ("kube", "", "Kube")];

/// A struct for each service that keeps something: `service`, `paths` of directories, names of `dumps`, the units `after` which they can be
/// had, the `units` of the service, and the host that it was `moved_from`.
pub(super) fn by_service<'v>(
    heap: Heap<'v>,
    services: &[Instance<'v>],
    items: &[Vec<Item>],
) -> Vec<Value<'v>> {
    let mut kept: Vec<(&Instance<'v>, &Vec<Item>)> = services.iter().zip(items).collect();
    kept.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
    kept.retain(|(_, items)| items.iter().any(|item| matches!(item.noun, Noun::State(_) | Noun::Dump(_))));
    let told = |(service, items): (&Instance<'v>, &Vec<Item>)| {
        let (mut paths, mut dumps, mut after, mut units) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for item in items {
            match &item.noun {
                Noun::State(state) => paths.push(state.directory.path.clone()),
                Noun::Dump(dump) => {
                    dumps.push(dump.name.clone());
                    after.extend(dump.after.iter().cloned());
                }
                noun => units.extend(service_of(noun)),
            }
        }
        let lists = [("paths", paths), ("dumps", dumps), ("after", after), ("units", units)];
        let lists = lists.map(|(name, mut list)| {
            list.sort();
            list.dedup();
            (name, heap.alloc(list))
        });
        let moved_from = service.moved_from.as_ref().map(|(home, _)| heap.alloc(home.as_str()));
        let alone = [
            ("service", heap.alloc(service.name.as_str())),
            ("moved_from", moved_from.unwrap_or_else(Value::new_none)),
        ];
        heap.alloc(AllocStruct(alone.into_iter().chain(lists).collect::<Vec<_>>()))
    };
    kept.into_iter().map(told).collect()
}

/// The service of systemd that a noun makes, if it makes one that can be started.
fn service_of(noun: &Noun) -> Option<String> {
    let name = match noun {
        Noun::Unit(unit) if matches!(unit.body, UnitBody::Whole(_)) => unit.name.clone(),
        Noun::Quadlet(quadlet) => {
            let (stem, kind) = quadlet.name.rsplit_once('.')?;
            let (_, suffix, section) = SERVICES.iter().find(|(known, ..)| *known == kind)?;
            let named = named(&quadlet.body, section);
            named.map_or_else(|| format!("{stem}{suffix}.service"), |name| format!("{name}.service"))
        }
        _ => return None,
    };
    (name.ends_with(".service") && !name.contains('@')).then_some(name)
}

/// Its `ServiceName=`. One that stands in a pasted text is not seen.
fn named<'a>(body: &'a Body, section: &str) -> Option<&'a str> {
    let Body::Sections(sections) = body else { return None };
    let entries = sections.iter().filter(|(name, _)| name == section).flat_map(|(_, entries)| entries);
    entries.filter(|(key, _)| key == "ServiceName").map(|(_, value)| value.as_str()).next_back()
}
