//! Units, drop-ins, masks, Quadlets, and the target that holds them together.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use super::order::Order;
use super::output::Output;
use super::{install, quadlet};
use crate::bundle::digest::Digest;
use crate::bundle::manifest::{Role, UnitEntry};
use crate::bundle::names::{AccountName, BundlePath, Label, SecretName, UnitName};
use crate::bundle::secret::SecretFile;
use crate::bundle::token::Token;
use crate::compile::host::{Host, Quadlet, Unit, UnitBody};
use crate::compile::item::{Handling, Sections};
use crate::compile::mounted::{self, Mounted};
use crate::compile::render::ini;

/// The target that wants everything that rick runs.
const TARGET: &str = "rick.target";

/// All that is said about one unit.
#[derive(Default)]
struct Stated<'a> {
    whole: Option<(&'a Unit, &'a Sections)>,
    quadlet: Option<&'a Quadlet>,
    drop_ins: BTreeMap<&'a Label, (&'a Unit, &'a Sections)>,
    mask: Option<&'a Unit>,
}

type AllStated<'a> = BTreeMap<UnitName, Stated<'a>>;

/// Writes the files and links of all units, and gives their entries in order.
pub(super) fn lower(out: &mut Output, host: &Host, images: &BTreeMap<String, Digest>) -> Vec<UnitEntry> {
    let stated = collect(out, host);
    for (name, unit) in &stated {
        write(out, host, images, name, unit);
    }
    // No unit's key: what is added to all of them is read by systemd, and restarts none.
    for drop_in in &host.type_drop_ins {
        let path = format!("units/{}.d/{}.conf", drop_in.kind, drop_in.stem);
        write_text(out, host, &drop_in.service, &path, &drop_in.sections);
    }
    let mut entries = entries(out, &stated);
    let order = order(host, &stated);
    let names = order.sort(entries.keys().cloned().collect());
    let target = target(out, host, entries.values());
    names.iter().filter_map(|name| entries.remove(name)).chain(target).collect()
}

fn collect<'a>(out: &mut Output, host: &'a Host) -> AllStated<'a> {
    let mut all = AllStated::new();
    for quadlet in &host.quadlets {
        let stated = all.entry(quadlet.unit.clone()).or_default();
        if stated.quadlet.replace(quadlet).is_some() {
            out.problem(format!("two Quadlet files make the unit `{}`", quadlet.unit));
        }
    }
    for unit in &host.units {
        let stated = all.entry(unit.name.clone()).or_default();
        let twice = match &unit.body {
            UnitBody::Whole(sections) => stated.whole.replace((unit, sections)).is_some(),
            UnitBody::DropIn(stem, sections) => stated.drop_ins.insert(stem, (unit, sections)).is_some(),
            // Two services may hide the same unit.
            UnitBody::Mask => {
                stated.mask.get_or_insert(unit);
                false
            }
        };
        if twice {
            out.problem(format!("the unit `{}`, or a drop-in for it, is stated twice", unit.name));
        }
    }
    all
}

fn write(
    out: &mut Output,
    host: &Host,
    images: &BTreeMap<String, Digest>,
    name: &UnitName,
    stated: &Stated<'_>,
) {
    if stated.mask.is_some() {
        out.link(&format!("units/{name}"), "/dev/null");
    }
    if let Some((unit, sections)) = stated.whole {
        write_text(out, host, &unit.service, &unit_path(name), &for_host(host, sections));
        match install::links(name, sections) {
            Ok(links) => links.iter().for_each(|(path, target)| out.link(&format!("units/{path}"), target)),
            Err(why) => out.problem(why),
        }
    }
    if let Some(quadlet) = stated.quadlet {
        let sections = with_secrets(host, quadlet::pin_images(quadlet, images));
        write_text(out, host, &quadlet.service, &quadlet_path(quadlet), &sections);
    }
    for (stem, (unit, sections)) in &stated.drop_ins {
        write_text(out, host, &unit.service, &drop_in_path(name, stem), &for_host(host, sections));
    }
}

fn for_host(host: &Host, sections: &Sections) -> Sections {
    with_secrets(host, with_groups(host, sections))
}

/// A secret that came with the bundle is where rick puts it: what systemd would look for in the host's own store of credentials, and what
/// Podman would in its own.
fn with_secrets(host: &Host, mut sections: Sections) -> Sections {
    let came = |name: &str| {
        let name = name.parse::<SecretName>().ok();
        name.filter(|name| host.secrets.get(name).is_some_and(|secret| secret.file.is_some()))
    };
    let user = install::values(&sections, "Container", "User").last().unwrap_or_default().to_owned();
    for (section, entries) in &mut sections {
        for (key, value) in entries {
            match (section.as_str(), key.as_str()) {
                ("Service", "LoadCredentialEncrypted") => {
                    if let Some(file) = came(value).and_then(SecretFile::of_root) {
                        *value = format!("{}:{}", file.name, Token::Secret(file.clone()));
                        "LoadCredential".clone_into(key);
                    }
                }
                ("Container", "Secret") if came(mounted::name(value)).is_some() => {
                    if let Ok(mounted) = Mounted::parse(value, &user) {
                        *value = mounted.volume();
                        "Volume".clone_into(key);
                    }
                }
                _ => {}
            }
        }
    }
    sections
}

fn write_text(out: &mut Output, host: &Host, service: &Label, path: &str, sections: &Sections) {
    let header = format!("rick: service {service} of environment {}", host.environment);
    out.text(path, ini::render(&header, sections), false);
}

fn unit_path(name: &UnitName) -> String {
    format!("units/{name}")
}

fn drop_in_path(name: &UnitName, stem: &Label) -> String {
    format!("units/{name}.d/{stem}.conf")
}

fn quadlet_path(quadlet: &Quadlet) -> String {
    format!("quadlets/{}", quadlet.name)
}

/// The sections with the groups of the user that the unit runs as: a process keeps those that it started with, so a changed
/// membership has to change the unit. systemd ignores keys that begin with `X-`.
fn with_groups(host: &Host, sections: &Sections) -> Sections {
    let mut sections = sections.clone();
    let user = install::values(&sections, "Service", "User").last().and_then(|user| user.parse().ok());
    let Some(groups) = user.and_then(|user| groups_of(host, &user)) else { return sections };
    let entry = ("X-Rick-Groups".to_owned(), groups);
    match sections.iter_mut().find(|(name, _)| name == "Unit") {
        Some((_, entries)) => entries.push(entry),
        None => sections.insert(0, ("Unit".to_owned(), vec![entry])),
    }
    sections
}

fn groups_of(host: &Host, user: &AccountName) -> Option<String> {
    let groups = host.groups.iter().filter(|(_, group)| group.members.contains(user));
    let names: Vec<&str> = groups.map(|(name, _)| name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(" "))
}

/// The entries of all units. A template's is followed: it says what becomes of the instances that others start. If it names a default
/// instance, that has an entry of its own.
fn entries(out: &mut Output, all: &AllStated<'_>) -> BTreeMap<UnitName, UnitEntry> {
    let mut entries = BTreeMap::new();
    for (name, stated) in all {
        let installed = stated.whole.and_then(|(_, sections)| install::installed_name(name, sections));
        for running in [Some(name.clone()), installed].into_iter().flatten() {
            if let Some(entry) = entry(out, all, &running) {
                entries.insert(running, entry);
            }
        }
    }
    entries
}

/// What is said under the unit's own name, then what is said about its template.
fn layers<'a, 'b>(all: &'b AllStated<'a>, name: &UnitName) -> Vec<(UnitName, &'b Stated<'a>)> {
    let names = std::iter::once(name.clone()).chain(name.template());
    names.filter_map(|name| all.get(&name).map(|stated| (name, stated))).collect()
}

fn entry(out: &mut Output, all: &AllStated<'_>, name: &UnitName) -> Option<UnitEntry> {
    let layers = layers(all, name);
    let service = layers.iter().find_map(|(_, stated)| service(stated))?.clone();
    let role = role(name, &layers);
    let (mut restart_on, mut reload_on) = (BTreeSet::new(), BTreeSet::new());
    if role != Role::Mask {
        for (layer, stated) in &layers {
            restart_on.extend(files(layer, stated).iter().filter_map(|path| out.path(path)));
            reload_on.extend(reloads(stated).flat_map(|path| out.below(path)));
        }
    }
    let (restart_on, reload_on) = (restart_on.into_iter().collect(), reload_on.into_iter().collect());
    let Handling { on_change, optional, barrier } = handling(&layers);
    Some(UnitEntry {
        on_change: on_change.unwrap_or_default(),
        optional,
        barrier,
        replaces: replaces(&layers),
        ..UnitEntry::new(name.clone(), service, role, restart_on, reload_on)
    })
}

/// Who defines the unit has the first word, then who adds to it.
fn handling(layers: &[(UnitName, &Stated<'_>)]) -> Handling {
    let said = layers.iter().flat_map(|(_, stated)| {
        let whole = stated.whole.iter().map(|(unit, _)| unit.handling);
        let quadlet = stated.quadlet.iter().map(|quadlet| quadlet.handling);
        whole.chain(quadlet).chain(stated.drop_ins.values().map(|(unit, _)| unit.handling))
    });
    said.fold(Handling::default(), Handling::or)
}

/// What only adds to a unit, or hides it, is meant for one that is there.
fn replaces(layers: &[(UnitName, &Stated<'_>)]) -> bool {
    layers.iter().all(|(_, stated)| {
        stated.whole.is_none_or(|(unit, _)| unit.replaces)
            && stated.quadlet.is_none_or(|quadlet| quadlet.replaces)
    })
}

fn service<'a>(stated: &Stated<'a>) -> Option<&'a Label> {
    let whole = stated.whole.map(|(unit, _)| unit).or(stated.mask);
    let drop_in = || stated.drop_ins.values().next().map(|(unit, _)| *unit);
    whole
        .map(|unit| &unit.service)
        .or_else(|| stated.quadlet.map(|quadlet| &quadlet.service))
        .or_else(|| drop_in().map(|unit| &unit.service))
}

fn role(name: &UnitName, layers: &[(UnitName, &Stated<'_>)]) -> Role {
    if layers.iter().any(|(layer, stated)| layer == name && stated.mask.is_some()) {
        return Role::Mask;
    }
    if name.is_template() {
        return Role::Follow;
    }
    let defined = layers.iter().find_map(|(layer, stated)| {
        let sections = stated.whole.map(|(_, sections)| sections);
        sections.or(stated.quadlet.map(|quadlet| &quadlet.sections)).map(|sections| (layer, sections))
    });
    let mut drop_ins = layers.iter().flat_map(|(_, stated)| stated.drop_ins.values()).map(|(unit, _)| *unit);
    match defined {
        // Only drop-ins: the distribution defines it, and somebody wants it changed, hence wants it, unless all say otherwise.
        None if drop_ins.all(|unit| unit.follows) => Role::Follow,
        None => Role::Run,
        Some((layer, sections)) => {
            let installed = install::installed_name(layer, sections).as_ref() == Some(name);
            if installed && install::is_wanted(sections) { Role::Run } else { Role::Follow }
        }
    }
}

fn files(name: &UnitName, stated: &Stated<'_>) -> Vec<String> {
    let mut files: Vec<String> = stated.drop_ins.keys().map(|stem| drop_in_path(name, stem)).collect();
    files.extend(stated.whole.map(|_| unit_path(name)));
    files.extend(stated.quadlet.map(quadlet_path));
    files
}

fn reloads<'a>(stated: &Stated<'a>) -> impl Iterator<Item = &'a BundlePath> {
    let units = stated.whole.iter().chain(stated.drop_ins.values());
    units.flat_map(|(unit, _)| &unit.reload_on).collect::<Vec<_>>().into_iter()
}

/// What all units say about their order, aliases and names of Quadlet files resolved.
fn order(host: &Host, all: &AllStated<'_>) -> Order {
    let mut aliases = BTreeMap::new();
    for (name, stated) in all {
        let names = stated.whole.iter().flat_map(|(_, sections)| install::aliases(sections));
        aliases.extend(names.map(|alias| (alias, name)));
    }
    let resolve = |word: &str| {
        let known = aliases.get(word).copied().or_else(|| quadlet::unit_of(word, &host.quadlets));
        known.cloned().or_else(|| word.parse().ok())
    };
    let mut order = Order::default();
    for name in all.keys() {
        let sections: Vec<&Sections> =
            layers(all, name).into_iter().flat_map(|(_, stated)| sections(stated)).collect();
        for sections in &sections {
            order.add_sections(name, sections, resolve);
        }
        order.add_trigger(name, &sections);
    }
    for quadlet in &host.quadlets {
        for earlier in quadlet::implicit_after(quadlet, &host.quadlets) {
            order.add(&quadlet.unit, &earlier);
        }
    }
    order
}

fn sections<'a>(stated: &Stated<'a>) -> Vec<&'a Sections> {
    let whole = stated.whole.map(|(_, sections)| sections);
    let quadlet = stated.quadlet.map(|quadlet| &quadlet.sections);
    let drop_ins = stated.drop_ins.values().map(|(_, sections)| *sections);
    whole.into_iter().chain(quadlet).chain(drop_ins).collect()
}

/// Writes `rick.target`.
fn target<'a>(
    out: &mut Output,
    host: &Host,
    entries: impl Iterator<Item = &'a UnitEntry>,
) -> Option<UnitEntry> {
    let described = format!("rick: environment {} on {}", host.environment, host.name);
    let mut unit = vec![("Description".to_owned(), described)];
    let run = entries.filter(|entry| entry.role == Role::Run);
    unit.extend(run.map(|entry| ("Wants".to_owned(), entry.name.to_string())));
    let path = format!("units/{TARGET}");
    out.text(&path, ini::render(&super::header(host), &vec![("Unit".to_owned(), unit)]), false);
    out.link(&format!("units/multi-user.target.wants/{TARGET}"), &format!("../{TARGET}"));
    let (name, service, path) = (TARGET.parse().ok()?, "rick".parse().ok()?, out.path(&path)?);
    Some(UnitEntry::new(name, service, Role::Run, vec![path], Vec::new()))
}
