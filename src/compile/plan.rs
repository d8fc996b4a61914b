//! What hosts keep, where copies of it go, and what to do in which order where a service moves: for people (`rickbuild plan`) and for
//! programs (`rickbuild plan --json`).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Serialize;

use super::check::moves::{self, Described};
use super::host::Host;
use super::item::{self, Noun};
use super::report::printable;
use super::show;
use super::source::SourcePath;
use crate::bundle::manifest::{Home, Repository};
use crate::bundle::names::{AccountName, HostName, HostPath, Label, SecretName};

/// An environment without a mistake.
#[derive(Clone, Copy)]
pub struct Environment<'a> {
    /// As its modules state it.
    pub described: Described<'a>,
    /// Its hosts.
    pub hosts: &'a [Host],
}

/// Hosts, and what moves to them.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    hosts: Vec<Keeping>,
    moves: Vec<Moving>,
}

/// What a host keeps.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Keeping {
    environment: Label,
    host: HostName,
    /// The services that keep something.
    services: Vec<Kept>,
    /// Those that keep nothing.
    nothing: Vec<String>,
    repositories: BTreeMap<Label, Repository>,
}

/// What a service keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Kept {
    service: Label,
    directories: Vec<HostPath>,
    dumps: Vec<Dump>,
    /// It is stopped while all that is copied.
    stopped: bool,
    /// Where it comes from.
    from: Option<Home>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Dump {
    name: Label,
    user: AccountName,
}

/// Services that move from one host to another.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Moving {
    from: Home,
    to: Home,
    services: Vec<Label>,
    /// The repository by way of which they move.
    by: String,
    /// Secrets of two names, or of two environments, that must have one value.
    same: Option<[OfHost; 2]>,
    steps: Vec<Step>,
}

/// A secret of a host.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct OfHost {
    host: Home,
    secret: SecretName,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Step {
    what: String,
    commands: Vec<Command>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Command {
    /// The host on which it is given; none: where environments are compiled.
    on: Option<HostName>,
    command: String,
}

impl Plan {
    /// Plans for some of these environments; the others are those that services come from.
    pub fn of(names: &[String], environments: &[Environment<'_>]) -> Self {
        let mut plan = Self { hosts: Vec::new(), moves: Vec::new() };
        let mut seen = BTreeSet::new();
        let find =
            |name: &str| environments.iter().find(|environment| environment.described.environment == name);
        for environment in names.iter().filter(|name| seen.insert(*name)).filter_map(|name| find(name)) {
            for host in environment.hosts {
                let stated =
                    environment.described.hosts.iter().find(|stated| stated.name == host.name.as_str());
                let Some(stated) = stated else { continue };
                let keeping = Keeping::of(host, stated);
                let froms: BTreeSet<&Home> = host.moved.values().collect();
                for from in froms {
                    let old = find(from.environment.as_str())
                        .and_then(|there| there.hosts.iter().find(|old| old.name == from.host));
                    plan.moves.extend(Moving::of(from, old, host, &keeping, environment.described));
                }
                plan.hosts.push(keeping);
            }
        }
        plan
    }

    /// As text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (index, host) in self.hosts.iter().enumerate() {
            text.push_str(if index > 0 { "\n" } else { "" });
            host.tell(&mut text);
        }
        for moving in &self.moves {
            text.push('\n');
            moving.tell(&mut text);
        }
        printable(&text)
    }
}

impl Keeping {
    fn of(host: &Host, stated: &item::Host) -> Self {
        let kept = |service: &item::Service| {
            let name: Label = service.name.parse().ok()?;
            let directories = host.states.iter().filter(|(_, of)| **of == name).map(|(path, _)| path.clone());
            let dumps = host.dumps.iter().filter(|dump| dump.service == name);
            let kept = Kept {
                directories: directories.collect(),
                dumps: dumps.map(|dump| Dump { name: dump.name.clone(), user: dump.user.clone() }).collect(),
                stopped: host.at_rest.contains(&name),
                from: host.moved.get(&name).cloned(),
                service: name,
            };
            (!kept.directories.is_empty() || !kept.dumps.is_empty()).then_some(kept)
        };
        let services: Vec<Kept> = stated.services.iter().filter_map(kept).collect();
        let keeps = |name: &str| services.iter().any(|kept| kept.service.as_str() == name);
        let nothing = stated.services.iter().map(|service| &service.name).filter(|name| !keeps(name));
        Self {
            environment: host.environment.clone(),
            host: host.name.clone(),
            nothing: nothing.cloned().collect(),
            services,
            repositories: host.repositories.clone(),
        }
    }

    fn tell(&self, text: &mut String) {
        let _ = writeln!(text, "host {} of environment {}", self.host, self.environment);
        for kept in &self.services {
            let from = kept.from.as_ref().map_or(String::new(), |from| format!(", comes from {from}"));
            let stopped = if kept.stopped { ", is stopped while it is copied" } else { "" };
            let _ = writeln!(text, "  {} keeps{from}{stopped}:", kept.service);
            for directory in &kept.directories {
                let _ = writeln!(text, "    {directory}");
            }
            for dump in &kept.dumps {
                let _ = writeln!(text, "    dump {} by {}", dump.name, dump.user);
            }
        }
        if !self.nothing.is_empty() {
            let _ = writeln!(text, "  nothing is kept of {}", listed(&self.nothing));
        }
        for repository in &self.repositories {
            let _ = writeln!(text, "  copies go to {}", show::repository(repository));
        }
        if self.repositories.is_empty() && !self.services.is_empty() {
            text.push_str("  copies go nowhere\n");
        }
    }
}

impl Moving {
    /// All that move between these two; `old` is the first if it is known.
    fn of(
        from: &Home,
        old: Option<&Host>,
        host: &Host,
        keeping: &Keeping,
        described: Described<'_>,
    ) -> Option<Self> {
        let services: Vec<Label> =
            host.moved.iter().filter(|(_, home)| *home == from).map(|(service, _)| service.clone()).collect();
        let (by, here) = restoring(host)?;
        let to = Home { environment: host.environment.clone(), host: host.name.clone() };
        let same = old.and_then(|old| {
            let (_, there) = restoring(old)?;
            let file = |host: &Host, secret| host.secrets.get(secret).and_then(|secret| secret.file.clone());
            let one = file(old, there).is_some_and(|there| file(host, here).as_ref() == Some(&there));
            let secrets = [(from, there), (&to, here)]
                .map(|(host, secret)| OfHost { host: host.clone(), secret: secret.clone() });
            (!one).then_some(secrets)
        });
        let stated = described.hosts.iter().find(|stated| stated.name == host.name.as_str())?;
        let move_of = |service: &&item::Service| services.iter().any(|name| name.as_str() == service.name);
        let sites: Vec<String> = stated.services.iter().filter(move_of).flat_map(sites).collect();
        let files: BTreeSet<&SourcePath> = moves::of(described)
            .filter(|moving| moving.from == *from && moving.is_to(stated))
            .map(|moving| &moving.place.file)
            .collect();
        let kept: Vec<&Kept> =
            keeping.services.iter().filter(|kept| services.contains(&kept.service)).collect();
        let steps = steps(from, &to, &kept, &sites, &files);
        Some(Self { from: from.clone(), to, services, by: by.to_owned(), same, steps })
    }

    fn tell(&self, text: &mut String) {
        let Self { from, to, by, .. } = self;
        let _ = writeln!(text, "{} from {from} to {to}, by way of {by}", listed(&self.services));
        if let Some([there, here]) = &self.same {
            let [there, here] = [there, here].map(|of| format!("`{}` of {}", of.secret, of.host));
            let _ = writeln!(text, "  {there} and {here} must have one value: both open it");
        }
        for (index, step) in self.steps.iter().enumerate() {
            let _ = writeln!(text, "  {}. {}", index + 1, step.what);
            for Command { on, command } in &step.commands {
                let prompt = on.as_ref().map_or_else(|| "$".to_owned(), |host| format!("{host}#"));
                let _ = writeln!(text, "       {prompt} {command}");
            }
        }
    }
}

/// The order that is never wrong: nothing is served from a host that does not have it, and nothing is removed before all is well.
fn steps(
    from: &Home,
    to: &Home,
    kept: &[&Kept],
    sites: &[String],
    files: &BTreeSet<&SourcePath>,
) -> Vec<Step> {
    let names: Vec<&Label> = kept.iter().map(|kept| &kept.service).collect();
    let names = listed(&names);
    let (it, them, keeps, waits) =
        if kept.len() == 1 { ("it", "it", "keeps", "waits") } else { ("they", "them", "keep", "wait") };
    let all: Vec<String> = kept.iter().flat_map(|kept| kept.parts()).collect();
    let (from_host, to_host) = (&from.host, &to.host);
    let mut steps = vec![
        Step {
            what: format!(
                "activate the build of {} on {from_host}: stops {names}, copies what {it} {keeps} ({}), and releases {them}",
                from.environment,
                all.join(", ")
            ),
            commands: activate(from),
        },
        Step {
            what: format!(
                "activate the build of {} on {to_host}: restores {names}, and starts {them}; if this is first, {it} {waits} for 1 and {} every minute",
                to.environment,
                if kept.len() == 1 { "asks" } else { "ask" }
            ),
            commands: activate(to),
        },
    ];
    if !sites.is_empty() {
        let what = format!("point {} to {to_host}", listed(sites));
        steps.push(Step { what, commands: Vec::new() });
    }
    let forget = kept.iter().map(|kept| Command {
        on: Some(from_host.clone()),
        command: format!("rick-activate forget {} --yes", kept.service),
    });
    let files: Vec<String> = files.iter().map(ToString::to_string).collect();
    steps.push(Step {
        what: format!(
            "when all is well, remove what {from_host} still has, and take `moved_from` out of {}",
            listed(&files)
        ),
        commands: forget.collect(),
    });
    steps
}

impl Kept {
    fn parts(&self) -> impl Iterator<Item = String> {
        let directories = self.directories.iter().map(ToString::to_string);
        directories.chain(self.dumps.iter().map(|dump| format!("dump {}", dump.name)))
    }
}

fn activate(home: &Home) -> Vec<Command> {
    let Home { environment, host } = home;
    vec![
        Command { on: None, command: format!("rickbuild {environment} --sign-key KEY > {environment}.tar") },
        Command { on: Some(host.clone()), command: format!("rick-activate {environment}.tar") },
    ]
}

/// The address of the repository that a host restores from, and the secret that opens it.
fn restoring(host: &Host) -> Option<(&str, &SecretName)> {
    let repository = host.repositories.values().find(|repository| repository.restores)?;
    Some((&repository.address, &repository.password))
}

/// The names that a service answers to.
fn sites(service: &item::Service) -> impl Iterator<Item = String> {
    service.items.iter().filter_map(|item| match &item.noun {
        Noun::Site(site) => Some(site.host.clone()),
        _ => None,
    })
}

/// `a`, `a and b`, `a, b and c`.
fn listed(names: &[impl ToString]) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    match names.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} and {last}", before.join(", ")),
        _ => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(service: &str) -> Kept {
        Kept {
            service: service.parse().unwrap(),
            directories: vec![format!("/var/lib/{service}").parse().unwrap()],
            dumps: vec![Dump { name: "base".parse().unwrap(), user: service.parse().unwrap() }],
            stopped: false,
            from: None,
        }
    }

    fn steps_of(kept: &[&Kept], sites: &[String]) -> Vec<Step> {
        let file = SourcePath("environments/new.star".to_owned());
        steps(&"old/attic".parse().unwrap(), &"new/cellar".parse().unwrap(), kept, sites, &[&file].into())
    }

    #[test]
    fn names_are_pointed_to_the_new_host_once_the_service_is_there_and_nothing_is_removed_before() {
        let steps = steps_of(&[&kept("a")], &["a.example.net".to_owned(), "b.example.net".to_owned()]);
        let what: Vec<&str> = steps.iter().map(|step| step.what.as_str()).collect();
        assert_eq!(
            what,
            [
                "activate the build of old on attic: stops a, copies what it keeps (/var/lib/a, dump base), and releases it",
                "activate the build of new on cellar: restores a, and starts it; if this is first, it waits for 1 and asks every minute",
                "point a.example.net and b.example.net to cellar",
                "when all is well, remove what attic still has, and take `moved_from` out of environments/new.star",
            ]
        );
        let last = &steps[3].commands[0];
        assert_eq!(last.on.as_ref().unwrap().as_str(), "attic");
        assert_eq!(last.command, "rick-activate forget a --yes");
    }

    #[test]
    fn what_has_no_names_is_pointed_nowhere() {
        let (a, b, c) = (kept("a"), kept("b"), kept("c"));
        let steps = steps_of(&[&a, &b, &c], &[]);
        assert_eq!(steps.len(), 3);
        assert!(steps[1].what.contains("restores a, b and c, and starts them"), "{}", steps[1].what);
    }

    #[test]
    fn a_host_without_copies_is_told_so() {
        let keeping = |services: Vec<Kept>| Keeping {
            environment: "new".parse().unwrap(),
            host: "cellar".parse().unwrap(),
            services,
            nothing: vec!["web".to_owned()],
            repositories: BTreeMap::new(),
        };
        let plan = Plan { hosts: vec![keeping(vec![kept("a")]), keeping(vec![])], moves: vec![] };
        let expected = "\
host cellar of environment new
  a keeps:
    /var/lib/a
    dump base by a
  nothing is kept of web
  copies go nowhere

host cellar of environment new
  nothing is kept of web
";
        assert_eq!(plan.text(), expected);
    }
}
