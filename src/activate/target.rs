//! Which generation the host is to have: one made of a bundle, or one that is there already.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::accounts::{HostAccounts, Ids, Remembered};
use super::contents::Contents;
use super::desired::Desired;
use super::generation::{self, Generation};
use super::host::{Images, side_by_side};
use super::journal::Journal;
use super::layer::{Layer, Texts};
use super::marks::Marks;
use super::realise::{self, Realised};
use super::receive::{self, Received};
use super::stage::{self, Staged};
use super::state::State;
use super::versions::Versions;
use super::{Activation, anchors, check, foreign, images, preflight, validate};
use crate::bundle::digest::Digest;
use crate::bundle::manifest::{Accounts, HostManifest};
use crate::bundle::names::BundlePath;
use crate::bundle::oci::Descriptor;
use crate::durable;
use crate::refusal::{Refusal, refuse};
use crate::registry::Origin;

/// What the records of a switch and of the way back take, and then some, in bytes.
const ROOM: u64 = 256 << 10;

/// The generation that the host is to have: one that is there, or in a dry run one that is not.
pub(super) struct Target {
    pub(super) number: u32,
    pub(super) digest: Option<Digest>,
    pub(super) desired: Desired,
    pub(super) images: Images,
    pub(super) contents: Contents,
    /// None in a dry run that would make it.
    pub(super) generation: Option<Generation>,
    /// What this run made for it.
    made: Vec<PathBuf>,
}

impl Activation<'_> {
    /// What a bundle wants.
    pub(super) fn target_of(&mut self, bundle: impl Read) -> Result<Target> {
        let had = self.current_digest()?;
        let (received, versions) = self.receive(bundle, had, false)?;
        self.target_received(&received, &versions, None)
    }

    /// What a build wants that a registry has, as far as this host is concerned. `host` is the manifest.
    pub(super) fn target_at(&mut self, origin: &Origin, host: &Descriptor) -> Result<Target> {
        let had = self.current_digest()?;
        let bundle = self.fetch(origin, host, had)?;
        let (received, versions) = self.receive(bundle, had, true)?;
        self.target_received(&received, &versions, Some(origin))
    }

    /// Verifies a bundle, and meanwhile has the programs of the host say which they are. `had` is the build that the host has; `partial`:
    /// what this host does not want need not come.
    fn receive(&self, bundle: impl Read, had: Option<Digest>, partial: bool) -> Result<(Received, Versions)> {
        let (host, trust) = (self.host, self.trust());
        let (versions, received) = side_by_side(
            || Versions::of(host),
            || receive::receive(bundle, &self.state, &self.names, &trust, !self.dry_run, had, partial),
        );
        Ok((received?, versions))
    }

    /// The build that the host has.
    pub(super) fn current_digest(&self) -> Result<Option<Digest>> {
        Ok(self.known.current(&self.state)?.as_ref().and_then(Generation::digest))
    }

    /// `origin` has the images, if they did not come along.
    fn target_received(
        &mut self,
        received: &Received,
        versions: &Versions,
        origin: Option<&Origin>,
    ) -> Result<Target> {
        let manifest = &received.manifest;
        let what = format!("{} for {} ({})", manifest.environment, manifest.host, received.digest.short());
        self.report.line("bundle", &what);
        received.verdict.tell(&mut self.report);
        check::check_manifest(manifest)?;
        self.check_serial(manifest)?;
        self.preflight(versions, Some(manifest))?;
        let current = self.known.current(&self.state)?;
        match current.filter(|current| current.digest() == Some(received.digest)) {
            Some(current) => self.keep_current(received, origin, current),
            None => self.make_new(received, origin),
        }
    }

    /// Refuses a build that is older than one that the host had: somebody may play an old one back.
    fn check_serial(&self, manifest: &HostManifest) -> Result<()> {
        let Some(had) = Marks::read(&self.state)?.serial.filter(|_| !self.allow_older) else { return Ok(()) };
        let what = match manifest.serial {
            Some(serial) if serial >= had => return Ok(()),
            Some(serial) => format!("the bundle has serial {serial}, and this host had {had} already"),
            None => format!("the bundle has no serial, and this host had {had} already"),
        };
        Err(Refusal::new(what)
            .help("compile it with `--serial N`, a higher number for each build")
            .help("or go back knowingly: `--allow-older`, or `rick-activate rollback`")
            .into())
    }

    /// Refuses a host that lacks programs or secrets, or on which something is in rick's way. In a directory nothing runs, so that what is
    /// missing is only told.
    fn preflight(&mut self, versions: &Versions, manifest: Option<&HostManifest>) -> Result<()> {
        let lacks = match manifest {
            Some(manifest) => preflight::lacks(&self.state, versions, manifest),
            None => Vec::new(),
        };
        if self.host.is_running() {
            Refusal::all(lacks).map_err(anyhow::Error::new)?;
        } else {
            for refusal in &lacks {
                self.report.line("note", &refusal.to_string());
            }
        }
        anchors::check(&self.state)
    }

    /// The same build as the current generation's, and numbers never change: the same bytes, so no new generation.
    fn keep_current(
        &mut self,
        received: &Received,
        origin: Option<&Origin>,
        current: Generation,
    ) -> Result<Target> {
        foreign::check(&self.state, &received.manifest, |path| current.file(path).ok(), true)?;
        self.accounts(&received.manifest.accounts, &current.directory.join("sysusers.conf"))?;
        self.fetch_images_of(received, origin)?;
        if !self.dry_run {
            images::keep(&self.state, &self.state.incoming(), &received.images, &received.blobs)?;
        }
        Target::there(current)
    }

    /// Written with the numbers that are known before any account is made: a full disk or a Quadlet that podman does not take
    /// ends it while the host is as it was.
    fn make_new(&mut self, received: &Received, origin: Option<&Origin>) -> Result<Target> {
        let manifest = &received.manifest;
        let Some(layer) = &received.layer else {
            refuse!("the layer of host `{}` is missing in the bundle", manifest.host);
        };
        let texts = layer.texts(manifest)?;
        check::check_tokens(manifest, &texts)?;
        let known = self.resolve(&manifest.accounts)?;
        let realised = realise::realise(&texts, manifest, &known)?;
        let read = |path: &BundlePath| realised.texts.get(path).map(|bytes| bytes.to_vec());
        foreign::check(&self.state, manifest, read, self.terms.adopt)?;
        if self.dry_run {
            self.fetch_images_of(received, origin)?;
            return self.imagined(received, layer, &realised);
        }
        let mut staged = self.stage(received, &realised)?;
        // All that is small is good: what is large is worth its way.
        self.fetch_images_of(received, origin)?;
        self.expect_room()?;
        let ids = self.new_accounts(manifest, &texts, &known)?;
        if ids != known {
            drop(realised);
            staged = self.stage(received, &realise::realise(&texts, manifest, &ids)?)?;
        }
        let made = staged.places(&self.state);
        match self.keep(received, &staged, &ids) {
            Ok(target) => Ok(Target { made, ..target }),
            Err(error) => discard(&made).and(Err(error)),
        }
    }

    fn fetch_images_of(&mut self, received: &Received, origin: Option<&Origin>) -> Result<()> {
        origin.map_or(Ok(()), |origin| self.fetch_images(origin, &received.manifest.images))
    }

    fn keep(&mut self, received: &Received, staged: &Staged, ids: &Ids) -> Result<Target> {
        let generation = stage::keep(&self.state, received, staged)?;
        let before = self.known.current(&self.state)?;
        validate::validate(self.host, &generation, before.as_ref(), &mut self.report)?;
        Remembered::read(&self.state)?.remember(&self.state, ids)?;
        Target::there(generation)
    }

    fn stage(&self, received: &Received, realised: &Realised<'_>) -> Result<Staged> {
        let staged = stage::write(&self.state, received, realised)?;
        if received.manifest.files.keys().any(|path| path.as_str().starts_with("quadlets/")) {
            self.host.check_quadlets(&staged.quadlets())?;
        }
        Ok(staged)
    }

    /// Once units are stopped, a full disk comes at the worst time.
    fn expect_room(&self) -> Result<()> {
        if self.dry_run {
            return Ok(());
        }
        // Where the next run removes it if this one is killed.
        durable::make_directory(&self.state.incoming(), 0o700)?;
        durable::expect_room(&self.state.incoming().join("room"), ROOM)
    }

    /// A generation to go back to.
    pub(super) fn target_back(&mut self, asked: Option<u32>) -> Result<Target> {
        let target = generation::to_go_back_to(&self.state, asked)?;
        let versioned = target.manifest().is_some_and(|manifest| !manifest.versions.is_empty());
        let versions = if versioned { Versions::of(self.host) } else { Versions::default() };
        self.preflight(&versions, target.manifest())?;
        self.expect_room()?;
        if let Some(manifest) = target.manifest() {
            foreign::check(&self.state, manifest, |path| target.file(path).ok(), self.terms.adopt)?;
            self.accounts(&manifest.accounts, &target.directory.join("sysusers.conf"))?;
        }
        Target::there(target)
    }

    /// What a dry run would make.
    fn imagined(&self, received: &Received, layer: &Layer, realised: &Realised<'_>) -> Result<Target> {
        let read = |path: &_| Ok(realised.texts.get(path).map(|bytes| bytes.to_vec()).unwrap_or_default());
        let shown = self.report.diffs.then(|| layer.shown(&received.manifest)).transpose()?;
        Ok(Target {
            number: generation::next_number(&self.state)?,
            digest: Some(received.digest),
            desired: Desired::of(&received.manifest, read)?,
            images: Images::of(&received.manifest),
            contents: Contents::imagined(&received.manifest, realised, shown),
            generation: None,
            made: Vec::new(),
        })
    }

    /// The numbers for a generation that is to be made. systemd-sysusers runs though all may be known: it makes memberships as well.
    fn new_accounts(&self, manifest: &HostManifest, texts: &Texts, known: &Ids) -> Result<Ids> {
        let Some((_, sysusers)) = texts.iter().find(|(path, _)| path.as_str() == "sysusers.conf") else {
            return Ok(known.clone().expect_complete()?);
        };
        let file = self.state.incoming().join("sysusers.conf");
        durable::write_new(&file, sysusers, 0o644)?;
        self.make_accounts(&manifest.accounts, &file)
    }

    /// The numbers for a generation that is there; accounts that somebody removed are made again.
    fn accounts(&self, accounts: &Accounts, sysusers: &Path) -> Result<Ids> {
        let ids = self.resolve(accounts)?;
        if ids.complete() || self.dry_run { Ok(ids) } else { self.make_accounts(accounts, sysusers) }
    }

    /// Additive, so it may come before the commit. The accounts were looked at before, because systemd-sysusers silently takes another
    /// number for one that is taken, and are looked at again after.
    fn make_accounts(&self, accounts: &Accounts, sysusers: &Path) -> Result<Ids> {
        self.host.sysusers(sysusers)?;
        Ok(self.resolve(accounts)?.expect_complete()?)
    }

    fn resolve(&self, accounts: &Accounts) -> Result<Ids> {
        Ok(Ids::resolve(accounts, &HostAccounts::read(&self.state)?, &Remembered::read(&self.state)?)?)
    }
}

impl Target {
    /// A generation that is there.
    pub(super) fn there(generation: Generation) -> Result<Self> {
        let desired = generation.desired()?;
        let digest = generation.content.as_ref().map(|content| content.digest);
        let images = generation.manifest().map(Images::of).unwrap_or_default();
        Ok(Self {
            number: generation.number,
            digest,
            desired,
            images,
            contents: Contents::of(&generation),
            generation: Some(generation),
            made: Vec::new(),
        })
    }

    /// Takes back what this run made, after a refusal. Whatever is said, not what the host has, or is on the way to.
    pub(super) fn discard(&self, state: &State) -> Result<()> {
        let current = generation::current_number(state)? == Some(self.number);
        let journal = Journal::read(state)?;
        let under_way = journal.is_some_and(|journal| [journal.from, journal.to].contains(&self.number));
        if current || under_way { Ok(()) } else { discard(&self.made) }
    }
}

/// Removes trees that nothing leads to yet.
fn discard(made: &[PathBuf]) -> Result<()> {
    made.iter().try_for_each(|path| durable::remove_tree_if_there(path))
}
