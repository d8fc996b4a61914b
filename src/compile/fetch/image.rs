//! What builds need of images: the index if there is one, the manifest for the right processors, its configuration and layers.

use std::fs;

use super::Network;
use super::failure::Failure;
use super::skopeo::{copy, inspect};
use crate::bundle::digest::Digest;
use crate::compile::host::Architecture;
use crate::compile::lock::Pin;
use crate::compile::outside::Reference;
use crate::compile::upstream::{Index, Manifest, Named, is_for};

/// What the tag names now.
pub(super) fn resolve(network: &Network<'_>, reference: &Reference) -> Result<Pin, Failure> {
    let bytes = inspect(network, reference)?;
    let _ = named(reference, &bytes)?;
    Ok(Pin::Image(reference.clone(), Digest::of(&bytes)))
}

/// Fetches what is not here of an image, for these processors. It is enough that there is one for some of them: what a build then lacks,
/// it says itself.
pub(super) fn fetch(
    network: &Network<'_>,
    reference: &Reference,
    digest: Digest,
    built_for: &[Architecture],
) -> Result<(), Failure> {
    let named = match stored(network, reference, digest) {
        Some(named) => named?,
        None => ask(network, reference, digest)?,
    };
    match named {
        Named::Manifest(manifest) => fetch_manifest(network, reference, digest, Some(manifest), built_for),
        Named::Index(index) => fetch_index(network, reference, &index, built_for),
    }
}

fn fetch_index(
    network: &Network<'_>,
    reference: &Reference,
    index: &Index,
    built_for: &[Architecture],
) -> Result<(), Failure> {
    let manifests: Vec<_> = built_for.iter().filter_map(|wanted| index.manifest(*wanted)).collect();
    if manifests.is_empty() {
        return Err(foreign(reference, built_for));
    }
    for digest in manifests {
        let manifest = match stored(network, reference, digest) {
            Some(Ok(Named::Manifest(manifest))) => Some(manifest),
            _ => None,
        };
        fetch_manifest(network, reference, digest, manifest, built_for)?;
    }
    Ok(())
}

/// An index or manifest that is here.
fn stored(network: &Network<'_>, reference: &Reference, digest: Digest) -> Option<Result<Named, Failure>> {
    let there = network.blobs.has(digest);
    let bytes = there.then(|| fs::read(network.blobs.path(digest)).ok()).flatten()?;
    Some(named(reference, &bytes))
}

fn ask(network: &Network<'_>, reference: &Reference, digest: Digest) -> Result<Named, Failure> {
    let bytes = inspect(network, &reference.at(digest))?;
    let found = Digest::of(&bytes);
    if found != digest {
        return Err(other_bytes(reference, digest, found));
    }
    let named = named(reference, &bytes)?;
    network.blobs.keep(&bytes)?;
    Ok(named)
}

fn fetch_manifest(
    network: &Network<'_>,
    reference: &Reference,
    digest: Digest,
    known: Option<Manifest>,
    built_for: &[Architecture],
) -> Result<(), Failure> {
    let all_here =
        known.is_some_and(|manifest| manifest.blobs().all(|(digest, _)| network.blobs.has(digest)));
    if all_here {
        return Ok(());
    }
    network.progress.begin(&format!("fetch {}", reference.at(digest)));
    let scratch = network.blobs.scratch()?;
    copy(network, reference, digest, scratch.path())?;
    let bytes = fs::read(scratch.path().join("manifest.json"))?;
    let found = Digest::of(&bytes);
    if found != digest {
        return Err(other_bytes(reference, digest, found));
    }
    let Named::Manifest(manifest) = named(reference, &bytes)? else {
        return Err(no_image(reference, "an index of it names another index"));
    };
    for (digest, _) in manifest.blobs() {
        let file = scratch.path().join(digest.hex());
        // Two layers may be the same one.
        if !file.exists() && network.blobs.has(digest) {
            continue;
        }
        if let Err(found) = network.blobs.adopt_as(&file, digest)? {
            return Err(other_bytes(reference, digest, found));
        }
    }
    let config = fs::read(network.blobs.path(manifest.config))?;
    if !built_for.iter().any(|wanted| is_for(&config, *wanted)) {
        return Err(foreign(reference, built_for));
    }
    // Last: what has its manifest here is whole.
    network.blobs.keep(&bytes)?;
    Ok(())
}

fn named(reference: &Reference, bytes: &[u8]) -> Result<Named, Failure> {
    Named::parse(bytes).map_err(|why| no_image(reference, &why))
}

fn no_image(reference: &Reference, why: &str) -> Failure {
    Failure::refused(format!("`{reference}` is no image that rick can read")).note(why)
}

fn foreign(reference: &Reference, built_for: &[Architecture]) -> Failure {
    let platforms = Architecture::PLATFORMS.into_iter();
    let wanted: Vec<_> = platforms.filter(|(_, one)| built_for.contains(one)).map(|(name, _)| name).collect();
    Failure::refused(format!("`{reference}` has no image for {}", wanted.join(" or ")))
}

fn other_bytes(reference: &Reference, wanted: Digest, found: Digest) -> Failure {
    Failure::refused(format!("the registry gave other bytes for `{reference}` than were asked for"))
        .note(format!("asked for {wanted}"))
        .note(format!("what came is {found}"))
}
