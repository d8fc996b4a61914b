//! For tests: bundles put together by hand, and a host that is scripted and records.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use flate2::{Compression, GzBuilder};

use super::host::{ActiveState, Definition, Host, Images, LoadState, Log, UnitState, Verb};
use super::layer::{self, Texts};
use crate::bundle::digest::Digest;
use crate::bundle::manifest::{
    Accounts, Check, FORMAT, FileEntry, HostManifest, Needed, Probe, Program, Role, UnitEntry, Validation,
    Versioned,
};
use crate::bundle::names::{BundlePath, UnitName};
use crate::bundle::oci::{self, Descriptor, Index, Manifest};
use crate::bundle::ustar;

/// A bundle for one host, to be.
#[derive(Clone)]
pub(crate) struct Build {
    manifest: HostManifest,
    files: BTreeMap<BundlePath, Vec<u8>>,
    images: Vec<(String, Vec<u8>)>,
}

impl Build {
    pub(crate) fn new(host: &str) -> Self {
        let manifest = HostManifest {
            format: FORMAT,
            environment: "test".parse().unwrap(),
            host: host.parse().unwrap(),
            serial: None,
            accounts: Accounts::default(),
            files: BTreeMap::new(),
            links: BTreeMap::new(),
            units: Vec::new(),
            pulls: BTreeSet::new(),
            images: BTreeMap::new(),
            programs: BTreeMap::new(),
            versions: BTreeMap::new(),
            validations: Vec::new(),
            probes: Vec::new(),
            secrets: BTreeMap::new(),
            states: BTreeMap::new(),
            dumps: Vec::new(),
            at_rest: BTreeSet::new(),
            repositories: BTreeMap::new(),
            moved: BTreeMap::new(),
        };
        Self { manifest, files: BTreeMap::new(), images: Vec::new() }
    }

    fn with(mut self, path: &str, text: &str, mode: u32, tokens: bool) -> Self {
        let entry = if tokens {
            FileEntry::with_tokens(mode)
        } else {
            FileEntry::as_it_is(mode, Digest::of(text.as_bytes()), text.len() as u64)
        };
        self.manifest.files.insert(path.parse().unwrap(), entry);
        self.files.insert(path.parse().unwrap(), text.as_bytes().to_vec());
        self
    }

    /// A payload file.
    pub(crate) fn file(self, path: &str, text: &str) -> Self {
        self.with(path, text, 0o644, false)
    }

    /// An executable payload file.
    pub(crate) fn program(self, path: &str, text: &str) -> Self {
        self.with(path, text, 0o755, false)
    }

    /// A file with tokens.
    pub(crate) fn text(self, path: &str, text: &str) -> Self {
        self.with(path, text, 0o644, true)
    }

    pub(crate) fn link(mut self, path: &str, target: &str) -> Self {
        self.manifest.links.insert(path.parse().unwrap(), target.to_owned());
        self
    }

    /// A unit with a file of its own; `reload_on` may be empty.
    pub(crate) fn unit(mut self, name: &str, role: Role, text: &str, reload_on: &[&str]) -> Self {
        let path = format!("units/{name}");
        self = if role == Role::Mask { self.link(&path, "/dev/null") } else { self.text(&path, text) };
        let entry = UnitEntry::new(
            name.parse().unwrap(),
            "app".parse().unwrap(),
            role,
            vec![path.parse().unwrap()],
            reload_on.iter().map(|path| path.parse().unwrap()).collect(),
        );
        match self.manifest.units.iter_mut().find(|unit| unit.name == entry.name) {
            Some(before) => *before = entry,
            None => self.manifest.units.push(entry),
        }
        self
    }

    /// Says more of the unit that came last.
    pub(crate) fn and(mut self, say: impl FnOnce(&mut UnitEntry)) -> Self {
        say(self.manifest.units.last_mut().unwrap());
        self
    }

    /// A drop-in for a unit of the distribution.
    pub(crate) fn drop_in(self, name: &str, stem: &str, text: &str) -> Self {
        let path = format!("units/{name}.d/{stem}.conf");
        let mut build = self.text(&path, text);
        build.manifest.units.push(UnitEntry::new(
            name.parse().unwrap(),
            "app".parse().unwrap(),
            Role::Run,
            vec![path.parse().unwrap()],
            Vec::new(),
        ));
        build
    }

    /// A probe of a Unix socket, that is asked once.
    pub(crate) fn probe(mut self, service: &str, path: &str) -> Self {
        let check = Check::Unix { path: path.parse().unwrap() };
        self.manifest.probes.push(Probe { service: service.parse().unwrap(), check, timeout_s: 0 });
        self
    }

    pub(crate) fn user(mut self, name: &str, pinned: Option<u32>) -> Self {
        self.manifest.accounts.users.insert(name.parse().unwrap(), pinned);
        self.manifest.accounts.groups.insert(name.parse().unwrap(), pinned);
        self
    }

    pub(crate) fn needs(mut self, path: &str, package: &str, service: &str) -> Self {
        let program = Program { package: package.to_owned(), needed_by: vec![service.parse().unwrap()] };
        self.manifest.programs.insert(path.parse().unwrap(), program);
        self
    }

    pub(crate) fn serial(mut self, serial: u64) -> Self {
        self.manifest.serial = Some(serial);
        self
    }

    /// Changes what is said of a unit that it has.
    pub(crate) fn said(mut self, name: &str, change: impl FnOnce(&mut UnitEntry)) -> Self {
        let entry = self.manifest.units.iter_mut().find(|unit| unit.name.as_str() == name);
        change(entry.expect("the build has it"));
        self
    }

    /// A program of the host judges a file.
    pub(crate) fn validated(mut self, command: &str, file: &str) -> Self {
        self.manifest.validations.push(Validation {
            service: "app".parse().unwrap(),
            command: command.split(' ').map(str::to_owned).collect(),
            files: vec![file.parse().unwrap()],
        });
        self
    }

    pub(crate) fn needs_podman(mut self, at_least: (u32, u32), because: &str) -> Self {
        let needed = Needed { at_least, because: because.to_owned() };
        self.manifest.versions.insert(Versioned::Podman, needed);
        self
    }

    pub(crate) fn secret(mut self, name: &str, service: &str) -> Self {
        self.manifest.secrets.insert(name.parse().unwrap(), vec![service.parse().unwrap()]);
        self
    }

    /// An image of one layer that holds `content`.
    pub(crate) fn image(mut self, name: &str, content: &str) -> Self {
        self.images.push((name.to_owned(), content.as_bytes().to_vec()));
        let (manifest, _, _) = image(content.as_bytes());
        self.manifest.images.insert(name.to_owned(), Digest::of(&manifest));
        self
    }

    pub(crate) fn manifest(&self) -> HostManifest {
        self.manifest.clone()
    }

    /// The texts that the activator would hold.
    pub(crate) fn texts(&self) -> Texts {
        let mut texts = self.files.clone();
        texts.retain(|path, _| layer::is_text(path, &self.manifest.files[path]));
        texts
    }

    pub(crate) fn layer(&self) -> Vec<u8> {
        let mut tar = Vec::new();
        for (path, bytes) in &self.files {
            tar.extend(entry(path.as_str(), bytes, self.manifest.files[path].mode));
        }
        tar.extend([0; 1024]);
        let mut gzip = GzBuilder::new().mtime(0).write(Vec::new(), Compression::fast());
        gzip.write_all(&tar).unwrap();
        gzip.finish().unwrap()
    }

    /// `index.json`, and the blobs in their order.
    fn parts(&self) -> (Index, Vec<Vec<u8>>) {
        let config = oci::canonical_json(&self.manifest).unwrap();
        let layer = self.layer();
        let manifest = Manifest {
            schema_version: 2,
            media_type: oci::MANIFEST.to_owned(),
            artifact_type: Some(oci::HOST_ARTIFACT.to_owned()),
            config: descriptor(oci::HOST_CONFIG, &config),
            layers: vec![descriptor(oci::LAYER_GZIP, &layer)],
            annotations: BTreeMap::new(),
        };
        let manifest = oci::canonical_json(&manifest).unwrap();
        let mut entries = vec![Descriptor {
            artifact_type: Some(oci::HOST_ARTIFACT.to_owned()),
            annotations: [(oci::REF_NAME.to_owned(), format!("host-{}", self.manifest.host))].into(),
            ..descriptor(oci::MANIFEST, &manifest)
        }];
        let mut blobs = vec![manifest, config];
        let mut layers = vec![layer];
        for (name, content) in &self.images {
            let (manifest, config, layer) = image(content);
            entries.push(Descriptor {
                annotations: [(oci::REF_NAME.to_owned(), name.clone())].into(),
                ..descriptor(oci::MANIFEST, &manifest)
            });
            blobs.extend([manifest, config]);
            layers.push(layer);
        }
        blobs.extend(layers);
        let index = Index {
            schema_version: 2,
            media_type: oci::INDEX.to_owned(),
            artifact_type: None,
            manifests: entries,
        };
        (index, blobs)
    }

    pub(crate) fn bundle(&self) -> Vec<u8> {
        let (index, blobs) = self.parts();
        bundle_of(&index, &blobs)
    }
}

/// The archive of an index and its blobs.
fn bundle_of(index: &Index, blobs: &[Vec<u8>]) -> Vec<u8> {
    let mut tar = entry("oci-layout", oci::LAYOUT.as_bytes(), 0o644);
    tar.extend(entry("index.json", &oci::canonical_json(index).unwrap(), 0o644));
    for blob in blobs {
        tar.extend(entry(&format!("blobs/sha256/{}", Digest::of(blob).hex()), blob, 0o644));
    }
    tar.extend([0; 1024]);
    tar
}

/// One entry of a USTAR archive.
fn entry(path: &str, bytes: &[u8], mode: u32) -> Vec<u8> {
    let header = ustar::header(path, mode, bytes.len() as u64).unwrap();
    let mut all = header.to_vec();
    all.extend(bytes);
    all.resize(all.len().next_multiple_of(512), 0);
    all
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        artifact_type: None,
        annotations: BTreeMap::new(),
    }
}

/// Manifest, config and layer of an image.
fn image(layer: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let config =
        format!(r#"{{"rootfs":{{"diff_ids":["{}"],"type":"layers"}}}}"#, Digest::of(layer)).into_bytes();
    let manifest = Manifest {
        schema_version: 2,
        media_type: oci::MANIFEST.to_owned(),
        artifact_type: None,
        config: descriptor(oci::IMAGE_CONFIG, &config),
        layers: vec![descriptor(oci::LAYER_GZIP, layer)],
        annotations: BTreeMap::new(),
    };
    (oci::canonical_json(&manifest).unwrap(), config, layer.to_vec())
}

/// The tag that an image gets.
fn tag(name: &str, digest: &Digest) -> String {
    format!("{}:{}", name.split(':').next().unwrap(), digest.hex())
}

/// A host that does what it is told, in memory, and writes down what that was.
#[derive(Default)]
pub(crate) struct Recording {
    pub(crate) log: Mutex<Vec<String>>,
    pub(crate) running: Mutex<BTreeSet<UnitName>>,
    /// How often each unit was started.
    pub(crate) lives: Mutex<BTreeMap<UnitName, u32>>,
    /// Units that do not come up.
    pub(crate) broken: BTreeSet<UnitName>,
    /// Units that do not stop.
    pub(crate) immortal: BTreeSet<UnitName>,
    /// No probe is answered.
    pub(crate) silent: bool,
    /// Units that systemd does not find.
    pub(crate) unknown: BTreeSet<UnitName>,
    /// Where units have their definition from, unless that is as it should be.
    pub(crate) definitions: BTreeMap<UnitName, Definition>,
    pub(crate) boot: Mutex<String>,
    /// The tags in the container storage.
    pub(crate) loaded: Mutex<BTreeSet<String>>,
    /// Those of them that something uses.
    pub(crate) held: BTreeSet<String>,
    /// The images that running containers have, by their configuration.
    pub(crate) containers: BTreeSet<Digest>,
    /// Images cannot be loaded.
    pub(crate) no_podman: bool,
    pub(crate) passwd: Option<PathBuf>,
    /// The timer of PID 1: armed with so many seconds, or disarmed.
    pub(crate) timers: Mutex<Vec<Option<u32>>>,
    /// The programs that have versions.
    pub(crate) versions: BTreeMap<Versioned, (u32, u32)>,
    /// The files and commands that were judged.
    pub(crate) judged: Mutex<Vec<String>>,
    /// No file is taken.
    pub(crate) picky: bool,
}

impl Recording {
    /// What was done since the last time.
    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    fn note(&self, text: String) {
        self.log.lock().unwrap().push(text);
    }
}

impl Host for Recording {
    fn is_running(&self) -> bool {
        true
    }

    fn name(&self) -> Result<String> {
        Ok("h".to_owned())
    }

    fn boot_id(&self) -> Result<String> {
        Ok(self.boot.lock().unwrap().clone())
    }

    fn unit_states(&self, units: &[UnitName]) -> Result<Vec<UnitState>> {
        let state = |unit: &UnitName| {
            let active = match (self.running.lock().unwrap().contains(unit), self.broken.contains(unit)) {
                (true, _) => ActiveState::Active,
                (false, true) => ActiveState::Failed,
                (false, false) => ActiveState::Inactive,
            };
            let load = if self.unknown.contains(unit) { LoadState::NotFound } else { LoadState::Loaded };
            let invocation_id = self.lives.lock().unwrap().get(unit).map(u32::to_string);
            UnitState { load, active, invocation_id, ..UnitState::default() }
        };
        Ok(units.iter().map(state).collect())
    }

    fn definitions(&self, units: &[UnitName]) -> Result<Vec<Definition>> {
        Ok(units.iter().map(|unit| self.definitions.get(unit).cloned().unwrap_or_default()).collect())
    }

    fn armed(&self) -> Result<Option<SystemTime>> {
        Ok(None)
    }

    fn instances(&self, templates: &[UnitName]) -> Result<Vec<UnitName>> {
        let running = self.running.lock().unwrap();
        let is_one = |unit: &&UnitName| unit.template().is_some_and(|template| templates.contains(&template));
        Ok(running.iter().filter(is_one).cloned().collect())
    }

    fn run_jobs(&self, verb: Verb, units: &[UnitName]) -> Result<()> {
        let names: Vec<&str> = units.iter().map(UnitName::as_str).collect();
        self.note(format!("{} {}", verb.word(), names.join(" ")));
        let mut running = self.running.lock().unwrap();
        for unit in units {
            if matches!(verb, Verb::Restart | Verb::Start) {
                *self.lives.lock().unwrap().entry(unit.clone()).or_default() += 1;
            }
            match verb {
                Verb::Stop => !self.immortal.contains(unit) && running.remove(unit),
                Verb::Reload => false,
                Verb::Restart | Verb::Start if self.broken.contains(unit) => running.remove(unit),
                Verb::Restart | Verb::Start => running.insert(unit.clone()),
            };
        }
        if verb != Verb::Stop && units.iter().any(|unit| self.broken.contains(unit)) {
            bail!("systemctl failed");
        }
        Ok(())
    }

    fn reset_failed(&self, _units: &[UnitName]) -> Result<()> {
        self.note("reset-failed".to_owned());
        Ok(())
    }

    fn daemon_reload(&self) -> Result<()> {
        self.note("daemon-reload".to_owned());
        Ok(())
    }

    fn pause(&self, _time: Duration) {}

    fn keep_program(&self, _path: &Path) -> Result<()> {
        Ok(())
    }

    fn arm(&self, _program: &Path, seconds: u32) -> Result<()> {
        self.timers.lock().unwrap().push(Some(seconds));
        Ok(())
    }

    fn disarm(&self) -> Result<()> {
        self.timers.lock().unwrap().push(None);
        Ok(())
    }

    fn end_switch(&self) -> Result<()> {
        self.note("end the switch".to_owned());
        Ok(())
    }

    fn run_apart(&self, _program: &Path, _arguments: &[String], _lock: File) -> Result<Option<u8>> {
        bail!("there is nobody else")
    }

    fn version(&self, program: Versioned) -> Option<(u32, u32)> {
        self.versions.get(&program).copied()
    }

    fn check_units(&self, _units: &Path, files: &[PathBuf]) -> Result<()> {
        self.judged.lock().unwrap().extend(files.iter().map(|file| file.display().to_string()));
        Ok(())
    }

    fn validate(&self, command: &[String]) -> Result<()> {
        self.judged.lock().unwrap().push(command.join(" "));
        if self.picky {
            bail!("it says no");
        }
        Ok(())
    }

    fn check_quadlets(&self, _directory: &Path) -> Result<()> {
        Ok(())
    }

    fn is_in_memory(&self, _directory: &Path) -> Result<bool> {
        Ok(true)
    }

    /// What is encrypted for this host begins so.
    fn decrypt(&self, file: &Path) -> Result<Vec<u8>> {
        self.note("decrypt".to_owned());
        let bytes = std::fs::read(file)?;
        bytes
            .strip_prefix(b"for h: ")
            .map(<[u8]>::to_vec)
            .context("no identity matched any of the recipients")
    }

    fn sysusers(&self, file: &Path) -> Result<()> {
        self.note("sysusers".to_owned());
        // `u NAME` lines become users with numbers from 900 on.
        let Some(passwd) = &self.passwd else { return Ok(()) };
        let text = std::fs::read_to_string(file)?;
        let names = text.lines().filter_map(|line| line.strip_prefix("u "));
        let line = |(name, id)| format!("{name}:x:{id}:{id}::/:");
        let lines = names.zip(900..).map(line).collect::<Vec<_>>().join("\n");
        std::fs::write(passwd.join("passwd"), &lines)?;
        std::fs::write(passwd.join("group"), lines)?;
        Ok(())
    }

    fn tmpfiles(&self, _file: &Path) -> Result<()> {
        self.note("tmpfiles".to_owned());
        Ok(())
    }

    fn missing_images(&self, images: &Images) -> Result<Vec<String>> {
        let loaded = self.loaded.lock().unwrap();
        let missing = images.own.iter().filter(|(name, digest)| !loaded.contains(&tag(name, digest)));
        let pulled = images.pulled.iter().filter(|name| !loaded.contains(*name));
        Ok(missing.map(|(name, _)| name).chain(pulled).cloned().collect())
    }

    fn pull_image(&self, name: &str) -> Result<()> {
        if self.no_podman {
            bail!("podman is broken");
        }
        self.note(format!("pull {name}"));
        self.loaded.lock().unwrap().insert(name.to_owned());
        Ok(())
    }

    fn load_image(&self, _layout: &Path, name: &str, digest: &Digest) -> Result<()> {
        if self.no_podman {
            bail!("podman is broken");
        }
        self.note(format!("load {name}"));
        self.loaded.lock().unwrap().insert(tag(name, digest));
        Ok(())
    }

    fn images_in_use(&self) -> Result<BTreeSet<Digest>> {
        Ok(self.containers.clone())
    }

    fn image_tags(&self) -> Result<Vec<String>> {
        Ok(self.loaded.lock().unwrap().iter().cloned().collect())
    }

    fn remove_image_tag(&self, tag: &str) -> Result<()> {
        if self.held.contains(tag) {
            bail!("it is in use");
        }
        self.note(format!("untag {tag}"));
        self.loaded.lock().unwrap().remove(tag);
        Ok(())
    }

    fn journal(&self, _log: Log<'_>) -> Vec<String> {
        vec!["it broke".to_owned()]
    }

    fn answers(&self, _check: &Check) -> Result<()> {
        if self.silent {
            bail!("nobody answers");
        }
        Ok(())
    }
}
