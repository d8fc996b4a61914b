//! Builds evaluations as if they had been read from source files, so that findings have places.

use std::collections::BTreeMap;

use crate::compile::check::{Wanted, check};
use crate::compile::finding::Finding;
use crate::compile::host;
use crate::compile::item::*;
use crate::compile::lock::Lock;
use crate::compile::report;
use crate::compile::source::{SourcePath, Sources, Span};

/// An evaluation in the making: one host, some services, one module file each.
pub(super) struct Bench {
    os: Os,
    environment: String,
    services: Vec<Service>,
    sources: BTreeMap<SourcePath, String>,
    lock: Lock,
}

/// What came out.
pub(super) struct Outcome {
    pub(super) hosts: Vec<host::Host>,
    pub(super) wanted: Vec<Wanted>,
    pub(super) findings: Vec<Finding>,
    pub(super) text: String,
}

impl Outcome {
    pub(super) fn messages(&self) -> Vec<&str> {
        self.findings.iter().map(|finding| finding.message.as_str()).collect()
    }
}

/// Asserts that exactly these messages come, in any order.
pub(super) fn says(bench: Bench, expected: &[&str]) {
    let outcome = bench.check();
    let (mut seen, mut expected) = (outcome.messages(), expected.to_vec());
    seen.sort_unstable();
    expected.sort_unstable();
    assert_eq!(seen, expected, "\n{}", outcome.text);
}

impl Bench {
    pub(super) fn new() -> Self {
        Self {
            os: Os::Debian13,
            environment: "host(name = \"box\")\n".into(),
            services: vec![],
            sources: BTreeMap::new(),
            lock: Lock::default(),
        }
    }

    pub(super) fn os(mut self, os: Os) -> Self {
        self.os = os;
        self
    }

    pub(super) fn service(mut self, name: &str) -> Self {
        let start = self.environment.len();
        self.environment += name;
        self.environment += "()\n";
        let span = span("environments/test.star", start, self.environment.len() - 1);
        self.services.push(Service {
            name: name.into(),
            module: name.into(),
            span,
            moved_from: None,
            items: vec![],
        });
        self
    }

    /// States a noun in the last service, by a call whose text is `call`.
    pub(super) fn item(mut self, call: &str, noun: Noun) -> Self {
        let service = self.services.last_mut().expect("a service comes first");
        let file = format!("modules/{}.star", service.name);
        let text = self.sources.entry(SourcePath(file.clone())).or_default();
        let start = text.len();
        *text += call;
        text.push('\n');
        let places = places(call).map(|(word, a, b)| (word, span(&file, start + a, start + b)));
        let mut item = Item { noun, span: span(&file, start, start + call.len()), places: BTreeMap::new() };
        for (word, place) in places {
            item.places.entry(word).or_insert(place);
        }
        service.items.push(item);
        self
    }

    pub(super) fn unit(self, name: &str, entries: &[(&str, &str, &str)]) -> Self {
        let body = UnitBody::Whole(Body::Sections(sections(entries)));
        self.unit_body("unit", name, entries, body)
    }

    pub(super) fn drop_in(self, name: &str, entries: &[(&str, &str, &str)]) -> Self {
        let body = UnitBody::DropIn("rick".into(), Body::Sections(sections(entries)));
        self.unit_body("drop_in", name, entries, body)
    }

    fn unit_body(self, what: &str, name: &str, entries: &[(&str, &str, &str)], body: UnitBody) -> Self {
        self.item(&call(what, name, entries), Noun::Unit(a_unit(name, body)))
    }

    /// A unit from a file of the source tree.
    pub(super) fn unit_file(mut self, name: &str, text: &str) -> Self {
        let path = SourcePath(format!("modules/{name}"));
        self.sources.insert(path.clone(), text.into());
        let body = UnitBody::Whole(Body::Text(text.into(), Some(path)));
        self.item(&format!("unit(\"{name}\", source = \"{name}\")"), Noun::Unit(a_unit(name, body)))
    }

    /// A unit pasted into the module.
    pub(super) fn unit_text(self, name: &str, text: &str) -> Self {
        let body = UnitBody::Whole(Body::Text(text.into(), None));
        self.item(&format!("unit(\"{name}\", text = TEXT)"), Noun::Unit(a_unit(name, body)))
    }

    /// The unit or Quadlet that was stated last is handled like this.
    pub(super) fn handled(mut self, handling: Handling) -> Self {
        let item = self.services.last_mut().and_then(|service| service.items.last_mut());
        match &mut item.expect("an item comes first").noun {
            Noun::Unit(unit) => unit.handling = handling,
            Noun::Quadlet(quadlet) => quadlet.handling = handling,
            other => panic!("{other:?} is no unit"),
        }
        self
    }

    /// A service that runs.
    pub(super) fn runs(self, name: &str, more: &[(&str, &str, &str)]) -> Self {
        let entries: Vec<_> = more.iter().copied().chain([("Service", "ExecStart", "/bin/x")]).collect();
        self.unit(name, &entries)
    }

    pub(super) fn quadlet(self, name: &str, entries: &[(&str, &str, &str)]) -> Self {
        let quadlet = a_quadlet(name, Body::Sections(sections(entries)));
        self.item(&call("quadlet", name, entries), Noun::Quadlet(quadlet))
    }

    /// A container with nothing to complain of, and more.
    pub(super) fn container(self, name: &str, more: &[(&str, &str, &str)]) -> Self {
        let image = format!("docker.io/x@sha256:{}", "0".repeat(64));
        let own = [("Container", "Image", image.as_str()), ("Container", "User", "1000")];
        let set = |key: &str| more.iter().any(|(section, other, _)| *section == "Container" && *other == key);
        let entries: Vec<_> =
            own.into_iter().filter(|(_, key, _)| !set(key)).chain(more.iter().copied()).collect();
        self.quadlet(name, &entries)
    }

    pub(super) fn group(self, name: &str, members: &[&str], id: Option<u32>) -> Self {
        let members: Vec<String> = members.iter().map(|&member| member.into()).collect();
        let call = format!("group(\"{name}\", members = {members:?}, id = {id:?})");
        self.item(&call, Noun::Group(Group { name: name.into(), members, id }))
    }

    pub(super) fn user(self, name: &str, groups: &[&str], id: Option<u32>) -> Self {
        let groups: Vec<String> = groups.iter().map(|&group| group.into()).collect();
        let call = format!("user(\"{name}\", groups = {groups:?}, id = {id:?})");
        let user =
            User { name: name.into(), groups, description: String::new(), home: "/nonexistent".into(), id };
        self.item(&call, Noun::User(user))
    }

    pub(super) fn directory(self, path: &str, mode: u32, user: &str, group: &str) -> Self {
        let call = format!("directory(\"{path}\", mode = {mode:#o}, user = \"{user}\", group = \"{group}\")");
        let (path, user, group) = (path.into(), user.into(), group.into());
        self.item(&call, Noun::Directory(Directory { path, mode, user, group }))
    }

    pub(super) fn state(self, path: &str, user: &str, group: &str) -> Self {
        let call = format!("state(\"{path}\", user = \"{user}\", group = \"{group}\")");
        let directory = Directory { path: path.into(), mode: 0o750, user: user.into(), group: group.into() };
        self.item(&call, Noun::State(State { directory, at_rest: false }))
    }

    /// The service that was stated last comes from another host.
    pub(super) fn moved_from(mut self, home: &str) -> Self {
        let service = self.services.last_mut().expect("a service comes first");
        service.moved_from = Some((home.into(), service.span.clone()));
        self
    }

    pub(super) fn repository(self, address: &str, restores: bool) -> Self {
        let repository = Repository {
            address: address.into(),
            password: "restic-password".into(),
            credentials: None,
            ssh: None,
            keep: BTreeMap::new(),
            restores,
        };
        self.item(&format!("repository(\"{address}\")"), Noun::Repository(repository))
    }

    pub(super) fn file(self, name: &str, text: &str, stable: bool) -> Self {
        let content = Content::Text(text.into());
        let object = self.services.last().expect("a service comes first").name.clone();
        let file = File { name: name.into(), content, object, stable, executable: false };
        self.item(&format!("file(\"{name}\", content = TEXT)"), Noun::File(file))
    }

    pub(super) fn port(self, number: u16, address: &str) -> Self {
        let port = Port { number, protocol: "tcp".into(), address: address.into() };
        self.item(&format!("port({number})"), Noun::Port(port))
    }

    pub(super) fn site(self, host: &str) -> Self {
        let backend = Backend::Files("/srv/x".into());
        let site = Site { host: host.into(), auth: Auth::Public, backend, exceptions: Vec::new() };
        self.item(&format!("site(\"{host}\")"), Noun::Site(site))
    }

    pub(super) fn image(self, name: &str) -> Self {
        self.item(&format!("image(\"{name}\")"), Noun::Image(Box::new(an_image(name))))
    }

    pub(super) fn evaluation(mut self) -> Evaluation {
        self.sources.insert(SourcePath("environments/test.star".into()), self.environment);
        let host = Host {
            name: "box".into(),
            domain: "example.org".into(),
            os: self.os,
            ssh_key: None,
            span: span("environments/test.star", 0, 18),
            services: self.services,
        };
        Evaluation {
            environment: "test".into(),
            hosts: vec![host],
            sources: Sources(self.sources),
            ..Evaluation::default()
        }
    }

    /// With what `rick.lock` says.
    pub(super) fn lock(mut self, text: &str) -> Self {
        self.lock = Lock::parse(text).0;
        self
    }

    pub(super) fn check(self) -> Outcome {
        let lock = self.lock.clone();
        let evaluation = self.evaluation();
        let checked = check(&evaluation, &lock);
        let text = report::render(&checked.findings, &evaluation.sources, false);
        Outcome { hosts: checked.hosts, wanted: checked.wanted, findings: checked.findings, text }
    }
}

/// An image of which nothing further is said.
pub(super) fn an_image(name: &str) -> Image {
    Image {
        name: name.into(),
        platform: "linux/amd64".into(),
        compression: "zstd".into(),
        base: None,
        layers: vec![a_layer("/x", Piece::Copied(copied("x")))],
        entrypoint: vec!["/x".into()],
        command: vec![],
        environment: BTreeMap::new(),
        user: None,
        working_directory: None,
        ports: vec![],
        volumes: vec![],
        labels: BTreeMap::new(),
        stop_signal: None,
        annotations: BTreeMap::new(),
    }
}

/// A layer whose constructor stands nowhere.
pub(super) fn a_layer(path: &str, piece: Piece) -> Layer {
    Layer { path: path.into(), piece, span: None, places: BTreeMap::new() }
}

/// A source of which all is taken as it is.
pub(super) fn copied(source: &str) -> Copied {
    let source = SourcePath(source.into());
    Copied { source: Source::Tree(source), owner: "0:0".into(), mode: None, modes: vec![], exclude: vec![] }
}

/// A unit of which nothing further is said.
pub(super) fn a_unit(name: &str, body: UnitBody) -> Unit {
    let (name, handling) = (name.into(), Handling::default());
    Unit { name, body, reload_on: vec![], replaces: false, follows: false, handling }
}

/// A Quadlet of which nothing further is said.
pub(super) fn a_quadlet(name: &str, body: Body) -> Quadlet {
    Quadlet { name: name.into(), body, replaces: false, handling: Handling::default() }
}

fn span(file: &str, start: usize, end: usize) -> Span {
    Span { file: SourcePath(file.into()), start, end }
}

fn sections(entries: &[(&str, &str, &str)]) -> Sections {
    let mut sections: Sections = Vec::new();
    for (section, key, value) in entries {
        let pair = ((*key).to_owned(), (*value).to_owned());
        match sections.iter_mut().find(|(name, _)| name == section) {
            Some((_, pairs)) => pairs.push(pair),
            None => sections.push(((*section).to_owned(), vec![pair])),
        }
    }
    sections
}

fn call(what: &str, name: &str, entries: &[(&str, &str, &str)]) -> String {
    let mut text = format!("{what}(\"{name}\", {{\n");
    for (section, pairs) in sections(entries) {
        let pairs: Vec<_> = pairs.iter().map(|(key, value)| format!("\"{key}\": \"{value}\"")).collect();
        let pairs = pairs.join(", ");
        text += &["    \"", &section, "\": {", &pairs, "},\n"].concat();
    }
    text + "})"
}

/// The string literals of a call, and the values of named arguments.
fn places(call: &str) -> impl Iterator<Item = (String, usize, usize)> + use<> {
    let mut places = Vec::new();
    let quotes: Vec<_> = call.match_indices('"').map(|(at, _)| at).collect();
    for pair in quotes.chunks_exact(2) {
        places.push((call[pair[0] + 1..pair[1]].to_owned(), pair[0], pair[1] + 1));
    }
    for (at, _) in call.match_indices(" = ") {
        let name = call[..at].rsplit([' ', '(']).next().unwrap_or_default().to_owned();
        let end = call[at + 3..].find([',', ')']).map_or(call.len(), |length| at + 3 + length);
        places.push((name, at + 3, end));
    }
    places.into_iter()
}
