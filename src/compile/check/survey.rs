//! Everything that the services of one host state, sorted by noun.

use std::collections::BTreeSet;

use super::super::finding::Finding;
use super::super::item::{
    Directory, Dump, File, Group, Host, Image, Item, Noun, Port, Probe, Program, Quadlet, Repository, Secret,
    Service, Site, State, TypeDropIn, Unit, UnitBody, User, Validation,
};
use super::super::keys::Versions;
use super::super::source::Sources;
use super::stated::Stated;
use super::written::Written;

/// Nouns with who stated them, in the order of the source.
pub(super) struct Survey<'a> {
    pub(super) host: &'a Host,
    pub(super) versions: Versions,
    pub(super) groups: Vec<(Stated<'a>, &'a Group)>,
    pub(super) users: Vec<(Stated<'a>, &'a User)>,
    pub(super) directories: Vec<(Stated<'a>, &'a Directory)>,
    pub(super) files: Vec<(Stated<'a>, &'a File)>,
    pub(super) units: Vec<(Written<'a>, &'a Unit)>,
    pub(super) type_drop_ins: Vec<(Written<'a>, &'a TypeDropIn)>,
    pub(super) quadlets: Vec<(Written<'a>, &'a Quadlet)>,
    pub(super) sites: Vec<(Stated<'a>, &'a Site)>,
    pub(super) images: Vec<(Stated<'a>, &'a Image)>,
    pub(super) ports: Vec<(Stated<'a>, &'a Port)>,
    pub(super) probes: Vec<(Stated<'a>, &'a Probe)>,
    pub(super) validations: Vec<(Stated<'a>, &'a Validation)>,
    pub(super) programs: Vec<(Stated<'a>, &'a Program)>,
    pub(super) secrets: Vec<(Stated<'a>, &'a Secret)>,
    /// What must outlive generations. The directories are among `directories` too.
    pub(super) states: Vec<(Stated<'a>, &'a State)>,
    pub(super) dumps: Vec<(Stated<'a>, &'a Dump)>,
    pub(super) repositories: Vec<(Stated<'a>, &'a Repository)>,
}

impl<'a> Survey<'a> {
    /// Reads the bodies, and sorts.
    pub(super) fn of(host: &'a Host, sources: &Sources, findings: &mut Vec<Finding>) -> Self {
        let mut survey = Self::empty(host);
        for service in &host.services {
            for item in &service.items {
                survey.add(service, item, sources, findings);
            }
        }
        survey
    }

    fn empty(host: &'a Host) -> Self {
        Self {
            host,
            versions: Versions::of(host.os),
            groups: Vec::new(),
            users: Vec::new(),
            directories: Vec::new(),
            files: Vec::new(),
            units: Vec::new(),
            type_drop_ins: Vec::new(),
            quadlets: Vec::new(),
            sites: Vec::new(),
            images: Vec::new(),
            ports: Vec::new(),
            probes: Vec::new(),
            validations: Vec::new(),
            programs: Vec::new(),
            secrets: Vec::new(),
            states: Vec::new(),
            dumps: Vec::new(),
            repositories: Vec::new(),
        }
    }

    fn add(&mut self, service: &'a Service, item: &'a Item, sources: &Sources, findings: &mut Vec<Finding>) {
        let stated = Stated { service, item };
        match &item.noun {
            Noun::Group(group) => self.groups.push((stated, group)),
            Noun::User(user) => self.users.push((stated, user)),
            Noun::Directory(directory) => self.directories.push((stated, directory)),
            Noun::State(state) => {
                self.directories.push((stated, &state.directory));
                self.states.push((stated, state));
            }
            Noun::Dump(dump) => self.dumps.push((stated, dump)),
            Noun::Repository(repository) => self.repositories.push((stated, repository)),
            Noun::Secret(secret) => self.secrets.push((stated, secret)),
            Noun::File(file) => self.files.push((stated, file)),
            Noun::Site(site) => self.sites.push((stated, site)),
            Noun::Image(image) => self.images.push((stated, image)),
            Noun::Port(port) => self.ports.push((stated, port)),
            Noun::Probe(probe) => self.probes.push((stated, probe)),
            Noun::Validation(validation) => self.validations.push((stated, validation)),
            Noun::Program(program) => self.programs.push((stated, program)),
            Noun::Unit(unit) => {
                let written = match &unit.body {
                    UnitBody::Whole(body) | UnitBody::DropIn(_, body) => {
                        Written::read(stated, &unit.name, body, sources, findings)
                    }
                    UnitBody::Mask => Written { stated, name: &unit.name, parts: Vec::new() },
                };
                self.units.push((written, unit));
            }
            Noun::TypeDropIn(drop_in) => {
                let written = Written::read(stated, &drop_in.kind, &drop_in.body, sources, findings);
                self.type_drop_ins.push((written, drop_in));
            }
            Noun::Quadlet(quadlet) => {
                let written = Written::read(stated, &quadlet.name, &quadlet.body, sources, findings);
                self.quadlets.push((written, quadlet));
            }
        }
    }

    /// All units and Quadlets, and what is added to types of units.
    pub(super) fn written(&self) -> impl Iterator<Item = &Written<'a>> {
        let units = self.units.iter().map(|(written, _)| written);
        units
            .chain(self.type_drop_ins.iter().map(|(written, _)| written))
            .chain(self.quadlets.iter().map(|(written, _)| written))
    }

    /// The users that can be named: those that are declared, and root.
    pub(super) fn user_names(&self) -> BTreeSet<&'a str> {
        self.users.iter().map(|(_, user)| user.name.as_str()).chain(["root"]).collect()
    }

    /// The groups that can be named: those that are declared, each user's own, and root.
    pub(super) fn group_names(&self) -> BTreeSet<&'a str> {
        self.groups.iter().map(|(_, group)| group.name.as_str()).chain(self.user_names()).collect()
    }
}
