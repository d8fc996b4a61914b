//! Registry → a bundle with this host's part alone, as an archive that [`super::receive`] verifies like every other. [`super::pull`] brings
//! its images, once all else is known to be good.
//!
//! Of the build that is current not even the files are asked for. The order in which a registry is asked is that of trust: each digest
//! comes from bytes whose own digest held, and the first one from what the reference names.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::Activation;
use super::receive::{HostNames, MAX_HOST_LAYER, is_host, not_for_this_host};
use super::registry::{Place, Registry};
use super::report::size;
use super::trust::Trust;
use crate::bundle::digest::Digest;
use crate::bundle::manifest::HostManifest;
use crate::bundle::names::HostName;
use crate::bundle::oci::{self, Descriptor, Index};
use crate::bundle::signature::ANNOTATION;
use crate::bundle::ustar;
use crate::refusal::{Refusal, refuse};
use crate::registry::Origin;

/// The most things that an index may list if it does not say which of them are hosts.
const MAX_UNNAMED: usize = 200;

impl Activation<'_> {
    /// Asks a registry which manifest is this host's.
    pub(super) fn find(&mut self, origin: &Origin) -> Result<Descriptor> {
        let trust = self.trust();
        Registry { origin, report: &mut self.report }.find(&self.names, &trust)
    }

    /// A bundle with this host's part of the build whose manifest is `host`, without images. `had` is the build that the host has: of that, it is
    /// without files as well.
    pub(super) fn fetch(
        &mut self,
        origin: &Origin,
        host: &Descriptor,
        had: Option<Digest>,
    ) -> Result<Box<dyn Read>> {
        let (manifest, bytes) = Registry { origin, report: &mut self.report }.manifest(host.digest)?;
        let [layer] = manifest.layers.as_slice() else { return Err(no_bundle(origin)) };
        if !is_host(&manifest) {
            return Err(no_bundle(origin));
        }
        // What nobody signed is not worth its way. It is judged again where all bundles are.
        self.trust().judge(&bytes, host.annotations.get(ANNOTATION).map(String::as_str))?;
        let mut registry = Registry { origin, report: &mut self.report };
        let config = registry.config(host.digest, &manifest)?;
        let mut archive = Vec::new();
        let index = Index {
            schema_version: 2,
            media_type: oci::INDEX.to_owned(),
            artifact_type: None,
            manifests: vec![host.clone()],
        };
        put(&mut archive, "oci-layout", oci::LAYOUT.as_bytes())?;
        put(&mut archive, "index.json", &oci::canonical_json(&index)?)?;
        put(&mut archive, &path_of(&host.digest), &bytes)?;
        put(&mut archive, &path_of(&manifest.config.digest), &config)?;
        let (mut end, mut file) = (vec![0; 2 * ustar::BLOCK], None);
        if had != Some(host.digest) {
            registry.report.line("fetch", &format!("the files of this host, {}", size(layer.size)));
            let place = Place::new((!self.dry_run).then_some(&self.state))?;
            registry.copy(host.digest, &[layer], MAX_HOST_LAYER, place.path())?;
            archive.extend(header(&path_of(&layer.digest), layer.size)?);
            end.splice(..0, vec![0; ustar::padding(layer.size)]);
            // It stays readable when the place is gone.
            file = Some(place.open(layer)?.take(layer.size));
        }
        let (begin, end) = (Cursor::new(archive), Cursor::new(end));
        Ok(match file {
            Some(file) => Box::new(begin.chain(file).chain(end)),
            None => Box::new(begin.chain(end)),
        })
    }
}

impl Registry<'_> {
    fn find(&mut self, names: &HostNames, trust: &Trust) -> Result<Descriptor> {
        #[derive(Deserialize)]
        struct Document {
            manifests: Option<Vec<Descriptor>>,
        }
        let bytes = self.named()?;
        let document: Document = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is not readable", self.origin.reference))?;
        let Some(manifests) = document.manifests else {
            // The digest of a host's build names it as well.
            return Ok(described(&bytes));
        };
        let hosts = match named_hosts(&manifests) {
            hosts if hosts.is_empty() => {
                // What names them would stand beside the signatures.
                trust.judge(&bytes, None)?;
                self.unnamed_hosts(&manifests)?
            }
            hosts => hosts,
        };
        let (ours, others): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|(name, _)| names.matches(name));
        match ours.as_slice() {
            [(_, host)] => Ok(host.clone()),
            [] => {
                let others: Vec<HostName> = others.into_iter().map(|(name, _)| name).collect();
                Err(not_for_this_host(names.first(), &others).into())
            }
            [(one, _), (other, _), ..] => {
                refuse!("the bundle has two manifests for this host (`{one}` and `{other}`)")
            }
        }
    }

    /// The hosts of an index that somebody copied without what names them: each manifest is looked at.
    fn unnamed_hosts(&mut self, manifests: &[Descriptor]) -> Result<Vec<(HostName, Descriptor)>> {
        if manifests.len() > MAX_UNNAMED {
            refuse!(
                "{} does not say which of its {} parts are hosts",
                self.origin.reference,
                manifests.len()
            );
        }
        let mut hosts = Vec::new();
        for entry in manifests {
            let (manifest, _) = self.manifest(entry.digest)?;
            if is_host(&manifest) {
                let config = self.config(entry.digest, &manifest)?;
                hosts.push((HostManifest::parse(&config).map_err(Refusal::new)?.host, entry.clone()));
            }
        }
        Ok(hosts)
    }
}

/// The hosts that an index names.
fn named_hosts(manifests: &[Descriptor]) -> Vec<(HostName, Descriptor)> {
    manifests.iter().filter_map(|entry| Some((entry.host()?, entry.clone()))).collect()
}

/// The descriptor of a manifest.
pub(super) fn described(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: oci::MANIFEST.to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        artifact_type: None,
        annotations: BTreeMap::new(),
    }
}

fn no_bundle(origin: &Origin) -> anyhow::Error {
    Refusal::new(format!("{} is no bundle of rick's", origin.reference)).into()
}

fn path_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn header(path: &str, size: u64) -> Result<[u8; ustar::BLOCK]> {
    ustar::header(path, 0o644, size).with_context(|| format!("`{path}` is too large for an archive"))
}

/// Adds a file to an archive.
fn put(archive: &mut Vec<u8>, path: &str, bytes: &[u8]) -> Result<()> {
    archive.extend(header(path, bytes.len() as u64)?);
    archive.extend(bytes);
    archive.resize(archive.len() + ustar::padding(bytes.len() as u64), 0);
    Ok(())
}
