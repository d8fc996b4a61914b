//! Bases: which layers they are made of, and what a container of them is like.

use std::rc::Rc;

use anyhow::{Context as _, Result, ensure};
use oci_spec::image::{Config, ImageConfiguration};
use serde::Deserialize;

use super::strata::{Form, Stratum};
use super::{Maker, missing_is_told, not_fetched, strata};
use crate::bundle::digest::Digest;
use crate::compile::archive::Codec;
use crate::compile::blob::Blob;
use crate::compile::finding::{Finding, Refused};
use crate::compile::host::{Architecture, Base, BaseKind};
use crate::compile::image;
use crate::compile::outside::{Packages, Reference};
use crate::compile::source::Span;
use crate::compile::tree::Tree;

/// Far above all manifests and configurations that there are.
const MAX_JSON: u64 = 4 << 20;

/// An image of a registry, as far as one stands on it.
pub struct Upstream {
    /// The digest of what the reference names.
    pub digest: Digest,
    /// Its layers, lowest first, each with its diff id.
    pub layers: Vec<(Stored, Digest)>,
    /// What a container of it is like.
    pub config: Config,
}

/// A layer as a registry has it.
pub struct Stored {
    /// The digest of its bytes.
    pub digest: Digest,
    /// How it is compressed, if it is.
    pub codec: Option<Codec>,
}

/// An index or a manifest; both Docker's and the OCI's.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    manifests: Vec<Entry>,
    config: Option<Entry>,
    #[serde(default)]
    layers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

impl Maker<'_> {
    /// The layers of a base.
    pub(super) fn strata(&self, base: &Base, architecture: Architecture) -> Result<Vec<Stratum>> {
        match &base.kind {
            BaseKind::Upstream(reference) => {
                let upstream = self.upstream(reference, &base.span, architecture)?;
                let stratum = |(stored, _): (Stored, Digest)| {
                    let form = stored.codec.map_or(Form::Plain, Form::Packed);
                    Stratum { digest: stored.digest, form, made: None }
                };
                Ok(upstream.layers.into_iter().map(stratum).collect())
            }
            BaseKind::Debian(packages) => self.package_strata(packages),
            BaseKind::Image(image) => {
                let built = image::build(image, self)?;
                let stratum = |packed: crate::compile::archive::Packed| Stratum {
                    digest: packed.blob.digest,
                    form: Form::Packed(packed.codec),
                    made: Some(packed.blob),
                };
                Ok(built.layers.into_iter().map(stratum).collect())
            }
        }
    }

    fn package_strata(&self, packages: &Packages) -> Result<Vec<Stratum>> {
        let locked = self.lock.packages(packages).with_context(|| format!("`{packages}` is not locked"))?;
        let stratum = |digest| Stratum { digest, form: Form::Package, made: None };
        Ok(locked.iter().map(|package| stratum(package.digest)).collect())
    }

    /// The file system of packages together, and each by itself, in the order of the lock.
    ///
    /// # Errors
    /// [`Refused`] if one was not fetched; what the machine says.
    pub fn packages(&self, packages: &Packages, span: &Span) -> Result<(Rc<Tree>, Vec<Tree>)> {
        let base = Base { kind: BaseKind::Debian(packages.clone()), span: span.clone() };
        let (_, whole) = self.tree(&base, Architecture::Amd64)?;
        let strata = self.package_strata(packages)?;
        let each = strata.chunks(1).map(|one| missing_is_told(&base, strata::tree(one, self.store)));
        Ok((whole, each.collect::<Result<_>>()?))
    }

    /// An image of a registry, by what was fetched of it.
    ///
    /// # Errors
    /// [`Refused`] if it was not fetched or is for other processors; damage.
    pub fn upstream(
        &self,
        reference: &Reference,
        span: &Span,
        architecture: Architecture,
    ) -> Result<Upstream> {
        let digest = self.lock.image(reference).with_context(|| format!("`{reference}` is not locked"))?;
        let read = |digest| -> Result<Vec<u8>> {
            let blob = self.store.blob(digest).ok_or_else(|| not_fetched(&reference.to_string(), span))?;
            json_of(&blob)
        };
        let damaged = || format!("what the registry has as `{reference}` is no image");
        let mut document: Document = serde_json::from_slice(&read(digest)?).with_context(damaged)?;
        if document.config.is_none() {
            let wanted = architecture.name();
            let fits = |entry: &&Entry| {
                entry.platform.as_ref().is_some_and(|p| p.os == "linux" && p.architecture == wanted)
            };
            let Some(entry) = document.manifests.iter().find(fits) else {
                let message = format!("`{reference}` has no image for linux/{wanted}");
                return Err(Refused::because(Finding::error(message).at(span, "")));
            };
            document = serde_json::from_slice(&read(entry.digest)?).with_context(damaged)?;
        }
        let config = document.config.with_context(damaged)?.digest;
        let config: ImageConfiguration = serde_json::from_slice(&read(config)?).with_context(damaged)?;
        if config.architecture().to_string() != architecture.name() {
            let message = format!(
                "`{reference}` is an image for linux/{}, not linux/{}",
                config.architecture(),
                architecture.name()
            );
            return Err(Refused::because(Finding::error(message).at(span, "")));
        }
        let diff_ids = config.rootfs().diff_ids();
        ensure!(diff_ids.len() == document.layers.len(), "{}: it has other layers than it says", damaged());
        let mut layers = Vec::new();
        for (entry, diff_id) in document.layers.iter().zip(diff_ids) {
            let diff_id = diff_id.strip_prefix("sha256:").and_then(Digest::from_hex).with_context(damaged)?;
            layers.push((Stored { digest: entry.digest, codec: codec_of(&entry.media_type)? }, diff_id));
        }
        Ok(Upstream { digest, layers, config: config.config().clone().unwrap_or_default() })
    }

    /// The bytes of a layer that was fetched.
    ///
    /// # Errors
    /// [`Refused`] if it was not.
    pub fn fetched(&self, digest: Digest, reference: &Reference, span: &Span) -> Result<Blob> {
        self.store.blob(digest).ok_or_else(|| not_fetched(&reference.to_string(), span))
    }
}

fn json_of(blob: &Blob) -> Result<Vec<u8>> {
    ensure!(blob.size <= MAX_JSON, "{} is larger than any manifest", blob.digest);
    let mut bytes = Vec::new();
    blob.copy(&mut bytes)?;
    Ok(bytes)
}

/// How a layer of this type is compressed.
fn codec_of(media_type: &str) -> Result<Option<Codec>> {
    Ok(match media_type.rsplit(['.', '+']).next().unwrap_or_default() {
        "gzip" => Some(Codec::Gzip),
        "zstd" => Some(Codec::Zstd),
        "tar" => None,
        _ => anyhow::bail!("a layer is of the type `{media_type}`, which is not known"),
    })
}
