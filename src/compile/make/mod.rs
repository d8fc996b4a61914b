//! What is made on demand: file systems of bases, and what builds leave. Each has a key, the digest of all that went in, and is made once.
//!
//! [`Maker::members`] answers what a source holds; everything else follows from that. A build asks for the file system of its root and the
//! members of its inputs, and these perhaps for further builds.

mod base;
mod build;
mod lay_out;
mod outputs;
mod sandbox;
mod seccomp;
mod strata;
mod unpack;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Display};
use std::fs::File;
use std::io;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::How;
use super::finding::{Finding, Refused};
use super::host::{Architecture, Base, Build, Image, Source};
use super::image::Built;
use super::lock::Lock;
use super::members::{Link, Members};
use super::payload::{PayloadFile, Payloads};
use super::source::Span;
use super::store::{Store, is_executable};
use super::tree::{Change, Kind, Node, Tree};
use crate::bundle::digest::Digest;
use crate::bundle::names::BundlePath;
pub use base::{Stored, Upstream, other_processors};
use build::{ONE_FILE, Task};
use strata::Missing;

/// Makes what is asked for, once.
pub struct Maker<'a> {
    payloads: &'a Payloads,
    lock: &'a Lock,
    store: &'a Store,
    how: How<'a>,
    /// By digests of their definitions.
    images: RefCell<BTreeMap<Digest, Built>>,
    /// The same.
    outputs: RefCell<BTreeMap<Digest, Rc<Tree>>>,
    /// By what names them.
    trees: RefCell<BTreeMap<Digest, Rc<Tree>>>,
}

impl<'a> Maker<'a> {
    /// A maker that has made nothing yet.
    pub fn new(payloads: &'a Payloads, lock: &'a Lock, store: &'a Store, how: How<'a>) -> Self {
        Self {
            payloads,
            lock,
            store,
            how,
            images: RefCell::default(),
            outputs: RefCell::default(),
            trees: RefCell::default(),
        }
    }

    /// Where packed layers are kept.
    pub fn cache(&self) -> Option<&'a Path> {
        self.how.cache
    }

    /// An image that was built before, or else by `make`.
    pub(super) fn once(&self, image: &Image, make: impl FnOnce() -> Result<Built>) -> Result<Built> {
        let key = definition(image);
        if let Some(built) = self.images.borrow().get(&key) {
            return Ok(built.clone());
        }
        let built = make()?;
        self.images.borrow_mut().insert(key, built.clone());
        Ok(built)
    }

    /// What a source holds, for an image or a build of this architecture.
    ///
    /// # Errors
    /// [`Refused`] if something that it needs is not there or cannot be built; what the machine says.
    pub fn members(&self, source: &Source, architecture: Architecture) -> Result<Members<'a>> {
        match source {
            Source::Tree(path) => {
                let files = self
                    .payloads
                    .0
                    .get(path)
                    .with_context(|| format!("the payload `{path}` was not read"))?;
                Ok(Members { files: files.into(), links: Vec::new() })
            }
            Source::Archive(url, span) => {
                let digest = self.lock.archive(url).with_context(|| format!("{url} is not locked"))?;
                let blob = self.store.blob(digest).ok_or_else(|| not_fetched(&url.to_string(), span))?;
                let file = PayloadFile::stored(None, false, self.store.blob_path(digest), digest, blob.size);
                Ok(Members { files: vec![file].into(), links: Vec::new() })
            }
            Source::Output(build, output) => {
                let made = self.output(build)?;
                self.below(&made, output.as_str(), &build.span)
            }
            Source::Within(base, path) => {
                let tree = self.tree(base, architecture)?;
                let refused = |why| Refused::because(Finding::error(why).at(&base.span, "this image"));
                let place = tree.resolve(path.as_str()).map_err(refused)?;
                if tree.get(&place).is_none() {
                    let finding =
                        Finding::error(format!("the image has no `/{path}`")).at(&base.span, "this image");
                    return Err(Refused::because(finding));
                }
                self.below(&tree, &place, &base.span)
            }
        }
    }

    /// What stands at a path of a tree, and below it; `span` is where that is stated.
    fn below(&self, tree: &Tree, path: &str, span: &Span) -> Result<Members<'a>> {
        if let Some(node) = tree.get(path)
            && let Some(file) = self.stored(None, node)
        {
            return Ok(Members { files: vec![file].into(), links: Vec::new() });
        }
        let (mut files, mut links) = (Vec::new(), Vec::new());
        for (below, node) in tree.below(path) {
            let relative = below.strip_prefix(path).unwrap_or(below).trim_start_matches('/');
            let refused =
                |why: String| Refused::because(Finding::error(format!("`/{below}`: {why}")).at(span, ""));
            let named = || relative.parse::<BundlePath>().map_err(refused);
            match &node.kind {
                Kind::Directory => {}
                Kind::File { .. } => files.extend(self.stored(Some(named()?), node)),
                Kind::Link(target) => links.push(Link { relative: named()?, target: target.clone() }),
            }
        }
        Ok(Members { files: files.into(), links })
    }

    /// A file of a tree, if it is one.
    pub fn stored(&self, relative: Option<BundlePath>, node: &Node) -> Option<PayloadFile> {
        let Kind::File { digest, size } = node.kind else { return None };
        let executable = is_executable(node.mode);
        Some(PayloadFile::stored(relative, executable, self.store.file(digest, executable), digest, size))
    }

    /// What a build makes, from the store if it ran before.
    fn output(&self, build: &Build) -> Result<Rc<Tree>> {
        let definition = definition(build);
        if let Some(made) = self.outputs.borrow().get(&definition) {
            return Ok(Rc::clone(made));
        }
        // It runs on this machine, whatever its outputs are for.
        let architecture = Architecture::OF_HOSTS;
        let (root_key, root) = self.named_tree(&build.root, architecture)?;
        let mut inputs = BTreeMap::new();
        for (path, input) in &build.inputs {
            inputs.insert(path, self.input(&self.members(input, architecture)?)?);
        }
        let task = Task { build, root_key, root: &root, inputs };
        let made = Rc::new(self.run(&task, task.key()?)?);
        self.outputs.borrow_mut().insert(definition, Rc::clone(&made));
        Ok(made)
    }

    fn run(&self, task: &Task<'_>, key: Digest) -> Result<Tree> {
        let name = &task.build.name;
        let known = self.store.record("builds", key).filter(|made: &Tree| self.store.holds(made));
        if let (Some(known), false) = (&known, self.how.rebuild) {
            return Ok(known.clone());
        }
        (self.how.tell)(&format!("build {name}"));
        let made = task.run(self.store)?;
        if self.how.rebuild {
            (self.how.tell)(&format!("build {name} again"));
            build::next_second();
            let again = task.run(self.store)?;
            for other in [Some(again), known].into_iter().flatten() {
                self.same(task.build, &made, &other)?;
            }
        }
        self.store.keep_record("builds", key, &made)?;
        Ok(made)
    }

    /// Two runs of a build made the same.
    fn same(&self, build: &Build, one: &Tree, other: &Tree) -> Result<()> {
        let paths: BTreeSet<&str> = one.entries().chain(other.entries()).map(|(path, _)| path).collect();
        let differ: Vec<&str> = paths.into_iter().filter(|path| one.get(path) != other.get(path)).collect();
        if differ.is_empty() {
            return Ok(());
        }
        let message = format!("the build `{}` does not make the same each time", build.name);
        let mut finding = Finding::error(message).at(&build.span, "");
        for path in differ {
            finding = finding.note(self.difference(path, one.get(path), other.get(path)));
        }
        Err(Refused::because(finding.help(
            "look for a time, a random number, the name of a temporary file or an order of a directory that comes to stand in what it makes",
        )))
    }

    fn difference(&self, path: &str, one: Option<&Node>, other: Option<&Node>) -> String {
        let file = |node: &Node| match node.kind {
            Kind::File { digest, .. } => Some(self.store.file(digest, is_executable(node.mode))),
            Kind::Directory | Kind::Link(_) => None,
        };
        match (one, other) {
            (Some(one), Some(other)) => match (file(one), file(other)) {
                (Some(one), Some(other)) => {
                    format!("`/out/{path}` differs; compare {} with {}", one.display(), other.display())
                }
                _ => format!("`/out/{path}` differs"),
            },
            _ => format!("`/out/{path}` is there only once"),
        }
    }

    /// An input as a tree, with what its files hold in the store.
    fn input(&self, members: &Members<'_>) -> Result<Tree> {
        let mut changes = Vec::new();
        for file in members.files.iter() {
            let digest = file.hash()?;
            let kept = self.store.keep(&mut File::open(&file.location)?, file.executable)?;
            ensure!(kept == (digest, file.size), "{} changed while it was read", file.location.display());
            let kind = Kind::File { digest, size: file.size };
            let path = file.relative.as_ref().map_or(ONE_FILE, BundlePath::as_str);
            changes.push((path.to_owned(), Change::Put(Node { uid: 0, gid: 0, mode: file.mode(), kind })));
        }
        for link in &members.links {
            let kind = Kind::Link(link.target.clone());
            let node = Node { uid: 0, gid: 0, mode: 0o777, kind };
            changes.push((link.relative.to_string(), Change::Put(node)));
        }
        let mut tree = Tree::default();
        tree.apply(changes).map_err(|why| anyhow!(why))?;
        Ok(tree)
    }

    /// The file system of a base.
    ///
    /// # Errors
    /// As of [`Self::members`].
    pub fn tree(&self, base: &Base, architecture: Architecture) -> Result<Rc<Tree>> {
        Ok(self.named_tree(base, architecture)?.1)
    }

    /// The same, after what names it.
    fn named_tree(&self, base: &Base, architecture: Architecture) -> Result<(Digest, Rc<Tree>)> {
        let strata = self.strata(base, architecture)?;
        let key = strata::key(&strata);
        if let Some(tree) = self.trees.borrow().get(&key) {
            return Ok((key, Rc::clone(tree)));
        }
        let tree = Rc::new(told_at(base, &base.span, strata::tree(&strata, self.store))?);
        self.trees.borrow_mut().insert(key, Rc::clone(&tree));
        Ok((key, tree))
    }
}

/// A digest of all that a definition says. Its text says it all.
fn definition(of: &impl Debug) -> Digest {
    Digest::of(format!("{of:?}").as_bytes())
}

/// Says where an image is asked for that could not be read, unless it is the machine that failed.
fn told_at<T>(what: &impl Display, span: &Span, made: Result<T>) -> Result<T> {
    let told = |error: anyhow::Error| {
        if error.is::<Missing>() {
            return not_fetched(&what.to_string(), span);
        }
        let machine = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
        if error.is::<Refused>() || machine.into_iter().any(|cause| cause.raw_os_error().is_some()) {
            return error;
        }
        Refused::because(Finding::error(format!("{error:#}")).at(span, "this image"))
    };
    made.map_err(told)
}

/// What a build would need the network for.
fn not_fetched(what: &str, span: &Span) -> anyhow::Error {
    let finding = Finding::error(format!("`{what}` is locked, and not on this machine")).at(span, "");
    Refused::because(
        finding.help("run `rickbuild lock`: it fetches what builds need, and is the only command that does"),
    )
}

/// Lets a test make things, with nothing locked.
#[cfg(test)]
pub(super) fn testing<T>(payloads: &Payloads, cache: Option<&Path>, run: impl FnOnce(&Maker<'_>) -> T) -> T {
    let nowhere = tempfile::tempdir().unwrap();
    let store = Store::at(cache.unwrap_or(nowhere.path()));
    let how = How { cache, serial: None, rebuild: false, tell: &|_| {} };
    run(&Maker::new(payloads, &Lock::default(), &store, how))
}
