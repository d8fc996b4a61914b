//! Images of registries, by skopeo: it knows how to sign in, which mirrors there are, and what certificates are to be believed.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::Network;
use super::failure::Failure;
use super::program::{Ended, Limits, Program};
use crate::bundle::digest::Digest;
use crate::compile::outside::Reference;
use crate::registry::skopeo::complaint;

const SKOPEO: Program = Program { name: "skopeo", package: "skopeo", purpose: "asks registries for images" };
/// Registries take no larger manifest.
const MANIFEST_BYTES: u64 = 4 << 20;
/// Far above every image.
const IMAGE_BYTES: u64 = 64 << 30;
const INSPECT_TIME: Duration = Duration::from_mins(5);
const COPY_TIME: Duration = Duration::from_hours(24);

/// The bytes that a name stands for: an index or a manifest.
pub(super) fn inspect(network: &Network<'_>, reference: &Reference) -> Result<Vec<u8>, Failure> {
    // Of a name with a tag and a digest, skopeo wants only one.
    let name = match reference.digest() {
        Some(digest) => format!("docker://{}@{digest}", reference.repository()),
        None => format!("docker://{reference}"),
    };
    let mut command = SKOPEO.command();
    command.args(["inspect", "--raw", "--retry-times", "2"]);
    tls(network, reference, "--tls-verify=false", &mut command);
    let limits = Limits { stdout: MANIFEST_BYTES, written: None, time: INSPECT_TIME };
    let ended = SKOPEO.run(command.arg(&name), &limits, network.progress)?;
    if ended.well { Ok(ended.stdout) } else { Err(refused(reference, &ended)) }
}

/// Writes the manifest, the configuration and the layers of an image into a folder, as the registry has them.
pub(super) fn copy(
    network: &Network<'_>,
    reference: &Reference,
    manifest: Digest,
    into: &Path,
) -> Result<(), Failure> {
    let mut command = SKOPEO.command();
    command.args(["copy", "--quiet", "--preserve-digests", "--retry-times", "2"]);
    tls(network, reference, "--src-tls-verify=false", &mut command);
    command.arg(format!("docker://{}@{manifest}", reference.repository()));
    let mut target = std::ffi::OsString::from("dir:");
    target.push(into);
    let limits = Limits { stdout: MANIFEST_BYTES, written: Some((into, IMAGE_BYTES)), time: COPY_TIME };
    let ended = SKOPEO.run(command.arg(target), &limits, network.progress)?;
    if ended.well { Ok(()) } else { Err(refused(reference, &ended)) }
}

fn tls(network: &Network<'_>, reference: &Reference, option: &str, command: &mut Command) {
    let registry = registry(reference);
    if network.settings.insecure_registries.iter().any(|insecure| insecure == registry) {
        command.arg(option);
    }
}

fn registry(reference: &Reference) -> &str {
    reference.repository().split('/').next().unwrap_or_default()
}

fn refused(reference: &Reference, ended: &Ended) -> Failure {
    let failure = Failure::refused(format!("`{reference}` could not be had"))
        .note(complaint(&ended.said).unwrap_or_else(|| ended.said.clone()));
    if ended.said.contains("server gave HTTP response to HTTPS client") {
        let registry = registry(reference);
        return failure.help(format!("if that registry is yours, say `--insecure-registry {registry}`"));
    }
    failure
}
