//! A hub: a registry (Debian's `docker-registry`) with images of others, which skopeo pushes there.

use std::fs;
use std::path::Path;
use std::process::Command;

use rick::bundle::digest::Digest;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::registry::{Network, Registry};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A registry that lives as long as the test.
pub(crate) struct Hub {
    folder: TempDir,
    registry: Registry,
}

/// An image for several kinds of processors, by digests.
#[derive(Clone, Debug)]
pub(crate) struct Pushed {
    pub(crate) index: Digest,
    /// Manifest, configuration and layer for `linux/amd64`.
    pub(crate) amd64: [Digest; 3],
    /// The same for `linux/arm64`.
    pub(crate) arm64: [Digest; 3],
}

impl Hub {
    pub(crate) fn start() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), registry: Registry::start(Network::MACHINE, "", "") }
    }

    /// Its name in references.
    pub(crate) fn host(&self) -> String {
        format!("localhost:{}", self.registry.port)
    }

    /// Pushes an image whose layer holds `content`, for amd64 and arm64.
    pub(crate) fn push(&self, name: &str, content: &str) -> Pushed {
        let layout = self.folder.path().join("layout");
        drop(fs::remove_dir_all(&layout));
        fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
        let [amd64, arm64] = ["amd64", "arm64"].map(|architecture| image(&layout, architecture, content));
        let entry = |architecture: &str, digests: &[Digest; 3]| {
            let mut entry = descriptor(&layout, MANIFEST, digests[0]);
            entry["platform"] = json!({"os": "linux", "architecture": architecture});
            entry
        };
        let index_type = "application/vnd.oci.image.index.v1+json";
        let index = json!({
            "schemaVersion": 2,
            "mediaType": index_type,
            "manifests": [entry("amd64", &amd64), entry("arm64", &arm64)],
        });
        let index = blob(&layout, index.to_string().as_bytes());
        let mut named = descriptor(&layout, index_type, index);
        named["annotations"] = json!({"org.opencontainers.image.ref.name": "it"});
        let top = json!({"schemaVersion": 2, "manifests": [named]});
        fs::write(layout.join("index.json"), top.to_string()).unwrap();
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let output = Command::new("skopeo")
            .args(["copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false"])
            .arg(format!("oci:{}:it", layout.display()))
            .arg(format!("docker://{}/{name}", self.host()))
            .output()
            .expect("skopeo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Pushed { index, amd64, arm64 }
    }

    /// Ends it: whoever asks now hears nothing.
    pub(crate) fn stop(&mut self) {
        self.registry.stop();
    }
}

/// Manifest, configuration and layer. Nobody unpacks the layer, so it need not be one.
fn image(layout: &Path, architecture: &str, content: &str) -> [Digest; 3] {
    let layer = blob(layout, format!("{content} for {architecture}").as_bytes());
    let config = json!({
        "os": "linux",
        "architecture": architecture,
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [layer.to_string()]},
    });
    let config = blob(layout, config.to_string().as_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(layout, "application/vnd.oci.image.config.v1+json", config),
        "layers": [descriptor(layout, "application/vnd.oci.image.layer.v1.tar", layer)],
    });
    [blob(layout, manifest.to_string().as_bytes()), config, layer]
}

fn blob(layout: &Path, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).unwrap();
    digest
}

fn descriptor(layout: &Path, media_type: &str, digest: Digest) -> Value {
    let size = fs::metadata(layout.join("blobs/sha256").join(digest.hex())).unwrap().len();
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": size})
}
