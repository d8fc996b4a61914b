//! Bases: which layers they are made of, and what a container of them is like.

use std::rc::Rc;

use anyhow::{Context as _, Result, anyhow, ensure};
use oci_spec::image::{Config, ImageConfiguration};

use super::strata::{Form, Stratum};
use super::{Maker, not_fetched, strata, told_at};
use crate::bundle::digest::Digest;
use crate::compile::archive::Codec;
use crate::compile::blob::Blob;
use crate::compile::finding::{Finding, Refused};
use crate::compile::host::{Architecture, Base, BaseKind};
use crate::compile::image;
use crate::compile::outside::{Packages, Reference};
use crate::compile::source::Span;
use crate::compile::tree::Tree;
use crate::compile::upstream::{self, Named};

/// Far above all manifests and configurations that there are.
const MAX_JSON: u64 = 4 << 20;

/// An image of a registry, as far as one stands on it.
pub struct Upstream {
    /// Its layers, lowest first, each with its diff id.
    pub layers: Vec<(Stored, Digest)>,
    /// What a container of it is like.
    pub config: Config,
    /// The blob that says so.
    pub config_digest: Digest,
}

/// A layer as a registry has it.
pub struct Stored {
    /// The digest of its bytes.
    pub digest: Digest,
    /// How it is compressed, if it is.
    pub codec: Option<Codec>,
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
                if image.architecture != architecture {
                    return Err(other_processors(base));
                }
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
        let whole = self.tree(&base, Architecture::Amd64)?;
        let strata = self.package_strata(packages)?;
        let each = strata.chunks(1).map(|one| told_at(&base, span, strata::tree(one, self.store)));
        Ok((whole, each.collect::<Result<_>>()?))
    }

    /// An image of a registry, by what was fetched of it.
    ///
    /// # Errors
    /// [`Refused`] if it was not fetched, is for other processors, or is nothing that can be read; what the machine says.
    pub fn upstream(
        &self,
        reference: &Reference,
        span: &Span,
        architecture: Architecture,
    ) -> Result<Upstream> {
        told_at(reference, span, self.read_upstream(reference, span, architecture))
    }

    fn read_upstream(
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
        let no_image = |why: String| anyhow!("what the registry has as `{reference}` is no image: {why}");
        let damaged = || format!("what the registry has as `{reference}` is no image");
        let parsed = |digest| Named::parse(&read(digest)?).map_err(no_image);
        let manifest = match parsed(digest)? {
            Named::Manifest(manifest) => manifest,
            Named::Index(index) => {
                let wanted = index.manifest(architecture);
                match parsed(wanted.ok_or_else(|| for_others(reference, span, architecture))?)? {
                    Named::Manifest(manifest) => manifest,
                    Named::Index(_) => return Err(no_image("it is an index in an index".to_owned())),
                }
            }
        };
        let config_digest = manifest.config;
        let config = read(config_digest)?;
        if !upstream::is_for(&config, architecture) {
            return Err(for_others(reference, span, architecture));
        }
        let config: ImageConfiguration = serde_json::from_slice(&config).with_context(damaged)?;
        let diff_ids = config.rootfs().diff_ids();
        ensure!(diff_ids.len() == manifest.layers.len(), "{}: it has other layers than it says", damaged());
        let mut layers = Vec::new();
        for ((media_type, digest), diff_id) in manifest.layers.iter().zip(diff_ids) {
            let diff_id = diff_id.strip_prefix("sha256:").and_then(Digest::from_hex).with_context(damaged)?;
            layers.push((Stored { digest: *digest, codec: codec_of(media_type)? }, diff_id));
        }
        Ok(Upstream { layers, config: config.config().clone().unwrap_or_default(), config_digest })
    }

    /// The bytes of a layer that was fetched.
    ///
    /// # Errors
    /// [`Refused`] if it was not.
    pub fn fetched(&self, digest: Digest, reference: &Reference, span: &Span) -> Result<Blob> {
        self.store.blob(digest).ok_or_else(|| not_fetched(&reference.to_string(), span))
    }
}

/// An image of a module is used where its programs cannot run.
pub fn other_processors(base: &Base) -> anyhow::Error {
    let message = format!("`{base}` is for other processors than what is made of it");
    Refused::because(
        Finding::error(message)
            .at(&base.span, "")
            .help("give both the same `platform`; builds run on linux/amd64"),
    )
}

fn for_others(reference: &Reference, span: &Span, wanted: Architecture) -> anyhow::Error {
    let message = format!("`{reference}` has no image for linux/{}", wanted.name());
    Refused::because(Finding::error(message).at(span, ""))
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
