//! How a bundle was built, and from what: an in-toto Statement v1 whose predicate is SLSA Provenance v1.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Map, Value, json};

use super::{PROGRAM, Provenance};
use crate::bundle::digest::Digest;

/// The type of the statement's predicate.
pub(super) const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// What our external parameters mean: `docs/provenance.md` says it.
const BUILD_TYPE: &str = "urn:rick:build:v1";
/// Who says all this: the program, wherever it ran. Who ran it, a signature says.
const BUILDER: &str = "urn:rick:rickbuild";

pub(super) fn statement(provenance: &Provenance, bundle: Digest) -> Value {
    let mut parameters = Map::from_iter([("environment".to_owned(), json!(provenance.environment))]);
    parameters.extend(provenance.serial.map(|serial| ("serial".to_owned(), json!(serial))));
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects(provenance, bundle),
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": parameters,
                "resolvedDependencies": dependencies(provenance),
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {PROGRAM: env!("CARGO_PKG_VERSION")}},
            },
        },
    })
}

fn subjects(provenance: &Provenance, bundle: Digest) -> Vec<Value> {
    let hosts = provenance.hosts.iter().map(|(name, host)| (format!("host-{name}"), host.digest));
    let images = provenance.images.iter().map(|(reference, image)| (reference.clone(), image.digest));
    let all = std::iter::once(("bundle".to_owned(), bundle)).chain(hosts).chain(images);
    all.map(|(name, digest)| json!({"name": name, "digest": sha256(digest)})).collect()
}

/// The files of the source tree, then what is from outside of it. A thing that is wanted twice is there once.
fn dependencies(provenance: &Provenance) -> Vec<Value> {
    let files =
        provenance.files.iter().map(|(path, digest)| json!({"name": path, "digest": sha256(*digest)}));
    let mut outside: Vec<_> = provenance.materials.values().flatten().collect();
    outside.sort();
    outside.dedup();
    let outside =
        outside.into_iter().map(|material| json!({"uri": material.uri, "digest": sha256(material.digest)}));
    files.chain(outside).collect()
}

fn sha256(digest: Digest) -> Value {
    json!({"sha256": digest.hex()})
}
