//! What registries say of images, in the words of OCI or of Docker: an index of manifests, or a manifest.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use serde::Deserialize;

use super::host::Architecture;
use crate::bundle::digest::Digest;
use crate::bundle::oci;

const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// Images for several kinds of machines.
    Index(Index),
    /// One image.
    Manifest(Manifest),
}

/// An index: the manifest of an image for each platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index(Vec<(Platform, Digest)>);

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The configuration.
    pub config: Digest,
    /// The media type and digest of each layer, lowest first.
    pub layers: Vec<(String, Digest)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stated {
    schema_version: u64,
    #[serde(default)]
    media_type: String,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    platform: Option<Platform>,
}

impl Named {
    /// Reads what a registry gave.
    ///
    /// # Errors
    /// Why it is neither.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let stated: Stated = serde_json::from_slice(bytes)
            .map_err(|why| format!("it has neither an index nor a manifest of today: {why}"))?;
        if stated.schema_version != 2 {
            return Err(format!(
                "its manifest has version {}, which nobody writes any more",
                stated.schema_version
            ));
        }
        // A manifest of OCI need not say what it is; one that says it is something else must not be taken for one.
        let kind = stated.media_type.as_str();
        match (stated.manifests, stated.config, stated.layers) {
            (Some(manifests), None, None) if ["", oci::INDEX, DOCKER_INDEX].contains(&kind) => {
                let platform = |one: Descriptor| Some((one.platform?, one.digest));
                Ok(Self::Index(Index(manifests.into_iter().filter_map(platform).collect())))
            }
            (None, Some(config), Some(layers)) if ["", oci::MANIFEST, DOCKER_MANIFEST].contains(&kind) => {
                let layers = layers.into_iter().map(|layer| (layer.media_type, layer.digest)).collect();
                Ok(Self::Manifest(Manifest { config: config.digest, layers }))
            }
            _ => Err(format!("it is `{kind}`")),
        }
    }
}

impl Index {
    /// The manifest of the image for these processors: the plainest, if there are several.
    pub fn manifest(&self, wanted: Architecture) -> Option<Digest> {
        let good = self.0.iter().filter(|(platform, _)| platform.is_for(wanted));
        good.min_by_key(|(platform, _)| platform.variant.len()).map(|(_, digest)| *digest)
    }
}

impl Manifest {
    /// All that it names: configuration and layers, each with its media type; that of the configuration is left empty.
    pub fn blobs(&self) -> impl Iterator<Item = (Digest, &str)> {
        let layers = self.layers.iter().map(|(kind, digest)| (*digest, kind.as_str()));
        std::iter::once((self.config, "")).chain(layers)
    }
}

/// Whether the configuration of an image is one for these processors.
pub fn is_for(config: &[u8], wanted: Architecture) -> bool {
    serde_json::from_slice::<Platform>(config).is_ok_and(|platform| platform.is_for(wanted))
}

impl Platform {
    fn is_for(&self, wanted: Architecture) -> bool {
        // Variants are additions to what every such processor can, but for the first of ARM's.
        let (name, variants) = match wanted {
            Architecture::Amd64 => ("amd64", ["", "v1"]),
            Architecture::Arm64 => ("arm64", ["", "v8"]),
        };
        self.os == "linux" && self.architecture == name && variants.contains(&self.variant.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn index(kind: &str, platforms: &[(&str, &str, &str)]) -> String {
        let one = |(os, architecture, variant): &(&str, &str, &str)| {
            format!(
                r#"{{"mediaType":"{}","digest":"{}","size":1,"platform":{{"os":"{os}","architecture":"{architecture}","variant":"{variant}"}}}}"#,
                oci::MANIFEST,
                digest(&format!("{os}/{architecture}/{variant}")),
            )
        };
        let manifests: Vec<_> = platforms.iter().map(one).collect();
        format!(r#"{{"schemaVersion":2,"mediaType":"{kind}","manifests":[{}]}}"#, manifests.join(","))
    }

    #[test]
    fn an_index_gives_the_image_that_every_such_machine_can_run() {
        let platforms = [
            ("windows", "amd64", ""),
            ("linux", "amd64", "v3"),
            ("linux", "arm", "v7"),
            ("linux", "arm64", "v8"),
            ("unknown", "unknown", ""),
            ("linux", "amd64", ""),
        ];
        for kind in [oci::INDEX, DOCKER_INDEX, ""] {
            let Ok(Named::Index(index)) = Named::parse(index(kind, &platforms).as_bytes()) else {
                panic!("{kind}")
            };
            assert_eq!(index.manifest(Architecture::Amd64), Some(digest("linux/amd64/")));
            assert_eq!(index.manifest(Architecture::Arm64), Some(digest("linux/arm64/v8")));
        }
        let Ok(Named::Index(index)) = Named::parse(index("", &platforms[..3]).as_bytes()) else { panic!() };
        assert_eq!(index.manifest(Architecture::Amd64), None);
    }

    #[test]
    fn a_manifest_names_its_blobs() {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{}"}},"layers":[{{"mediaType":"x","digest":"{}"}}]}}"#,
            digest("config"),
            digest("layer"),
        );
        let Ok(Named::Manifest(manifest)) = Named::parse(text.as_bytes()) else { panic!() };
        let blobs: Vec<_> = manifest.blobs().collect();
        assert_eq!(blobs, [(digest("config"), ""), (digest("layer"), "x")]);
    }

    #[test]
    fn what_is_neither_is_refused() {
        let both = format!(
            r#"{{"schemaVersion":2,"manifests":[],"config":{{"digest":"{0}"}},"layers":[]}}"#,
            digest("")
        );
        for text in ["", "[]", "{}", r#"{"schemaVersion":1}"#, r#"{"schemaVersion":2}"#, &both] {
            assert!(Named::parse(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Named::parse(index(oci::MANIFEST, &[]).as_bytes()).is_err());
        let bad = r#"{"schemaVersion":2,"config":{"digest":"sha256:../../x"},"layers":[]}"#;
        assert!(Named::parse(bad.as_bytes()).is_err());
    }

    #[test]
    fn a_configuration_says_what_it_is_for() {
        let config = br#"{"os":"linux","architecture":"amd64","config":{}}"#;
        assert!(is_for(config, Architecture::Amd64) && !is_for(config, Architecture::Arm64));
        assert!(!is_for(b"{}", Architecture::Amd64) && !is_for(b"", Architecture::Amd64));
    }
}
