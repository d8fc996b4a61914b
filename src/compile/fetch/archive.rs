//! Files of web servers, as `archive()` names them.

use super::Network;
use super::curl::download;
use super::failure::Failure;
use crate::bundle::digest::Digest;
use crate::compile::lock::Pin;
use crate::compile::outside::Url;

/// Far above every file of sources, and below what fills a disk in one go.
const LIMIT: u64 = 16 << 30;

/// What the file holds now; it is kept, since it is here.
pub(super) fn resolve(network: &Network<'_>, url: &Url) -> Result<Pin, Failure> {
    let scratch = network.blobs.scratch()?;
    let file = scratch.path().join("file");
    download(network, url.as_str(), &file, LIMIT)?;
    Ok(Pin::Archive(url.clone(), network.blobs.adopt(&file)?))
}

/// Fetches the file if it is not here, and refuses other bytes.
pub(super) fn fetch(network: &Network<'_>, url: &Url, digest: Digest) -> Result<(), Failure> {
    if network.blobs.has(digest) {
        return Ok(());
    }
    network.progress.begin(&format!("fetch {url}"));
    let scratch = network.blobs.scratch()?;
    let file = scratch.path().join("file");
    download(network, url.as_str(), &file, LIMIT)?;
    network.blobs.adopt_as(&file, digest)?.map_err(|found| {
        Failure::refused(format!("`{url}` holds other bytes than rick.lock says"))
            .note(format!("rick.lock says {digest}"))
            .note(format!("what came is  {found}"))
            .help(format!("if that is right, run `rickbuild lock --update {url}`"))
    })
}
