//! The OCI names that rick uses, and the little of the OCI formats that the activator reads.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::names::HostName;

/// The text of `oci-layout`.
pub const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// The artifact type of a host manifest.
pub const HOST_ARTIFACT: &str = "application/vnd.rick.host.v1";
/// The media type of a host manifest's config: a [`super::manifest::HostManifest`].
pub const HOST_CONFIG: &str = "application/vnd.rick.host.config.v1+json";
/// The artifact type of the index over the whole bundle.
pub const BUNDLE_ARTIFACT: &str = "application/vnd.rick.bundle.v1";
/// An OCI image manifest. Host manifests use it as well: other media types break skopeo and podman.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The configuration of a container image.
pub const IMAGE_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A gzipped tar layer: of an image, or of a host's files.
pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// A layer of an image, compressed with zstd.
pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// What the name of a file begins with, in a layer, which says that something below is gone.
pub const WHITEOUT: &str = ".wh.";
/// The annotation that names an entry of `index.json`.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// What the name of a host's manifest begins with.
pub const HOST_PREFIX: &str = "host-";
/// The annotation that names a file of an artifact.
pub const TITLE: &str = "org.opencontainers.image.title";

/// Whether a layer cannot hold this path, as a name in it would say that something is removed.
pub fn hides(path: &str) -> bool {
    path.split('/').any(|name| name.starts_with(WHITEOUT))
}

/// Names a blob, its type and its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// For manifests of artifacts: which artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Names and titles.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// The host whose manifest this is, if its name says that it is one.
    pub fn host(&self) -> Option<HostName> {
        self.annotations.get(REF_NAME)?.strip_prefix(HOST_PREFIX)?.parse().ok()
    }
}

/// `index.json`, or the bundle index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u8,
    /// Always [`INDEX`].
    pub media_type: String,
    /// Set on the bundle index only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// What it lists.
    pub manifests: Vec<Descriptor>,
}

/// A manifest of an image or of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u8,
    /// Always [`MANIFEST`].
    pub media_type: String,
    /// [`HOST_ARTIFACT`] on a host manifest, absent on an image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The configuration blob.
    pub config: Descriptor,
    /// The layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// What an image says of itself; empty on a host manifest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// `value` as canonical JSON: keys sorted, no white space.
///
/// # Errors
/// If the value cannot be written as JSON (a map with keys that are no text).
pub fn canonical_json<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    // serde_json's maps are sorted as long as no dependency turns on its `preserve_order`; a test holds that down.
    serde_json::to_vec(&serde_json::to_value(value)?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn canonical_json_sorts_keys() {
        #[derive(serde::Serialize)]
        struct Unsorted {
            b: u8,
            a: u8,
        }
        assert_eq!(super::canonical_json(&Unsorted { b: 1, a: 2 }).unwrap(), br#"{"a":2,"b":1}"#);
    }
}
