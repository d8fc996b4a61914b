//! What is in a bundle: a bill of materials in CycloneDX 1.6.
//!
//! Each thing is a component once, and `dependencies` say who holds it: the bundle its hosts, a host its images, an image its packages. What
//! builds needed is in none of them, and stands in the statement alone.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::material::{Kind, Material};
use super::{PROGRAM, Provenance};
use crate::bundle::digest::Digest;

/// How the bundle is referred to inside the document.
const BUNDLE: &str = "bundle";

pub(super) fn bill(provenance: &Provenance, bundle: Digest) -> Value {
    let mut bill = Bill::default();
    bill.hosts(provenance);
    bill.images(provenance);
    let mut whole = component("application", BUNDLE, &provenance.environment, bundle);
    if let Some(serial) = provenance.serial {
        whole["version"] = json!(serial.to_string());
    }
    let tool = json!({"type": "application", "name": PROGRAM, "version": env!("CARGO_PKG_VERSION")});
    json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": whole, "tools": {"components": [tool]}},
        "components": bill.components.into_values().collect::<Vec<_>>(),
        "dependencies": bill.holds.iter().map(|(who, what)| json!({"ref": who, "dependsOn": what})).collect::<Vec<_>>(),
        "compositions": bill.known.iter().map(|(how, who)| json!({"aggregate": how, "dependencies": who})).collect::<Vec<_>>(),
    })
}

/// What the document says, sorted by what things are called inside it.
#[derive(Default)]
struct Bill {
    components: BTreeMap<String, Value>,
    holds: BTreeMap<String, BTreeSet<String>>,
    /// How far it is known what something holds → of what this is so.
    known: BTreeMap<&'static str, BTreeSet<String>>,
}

impl Bill {
    fn hosts(&mut self, provenance: &Provenance) {
        for (name, host) in &provenance.hosts {
            let name = format!("host-{name}");
            let mut configuration = component("data", &name, &name, host.digest);
            configuration["data"] = json!([{"type": "configuration"}]);
            self.components.insert(name.clone(), configuration);
            self.hold(BUNDLE, name.clone());
            host.images.iter().for_each(|image| self.hold(&name, image.clone()));
            let pulled = host.pulled.iter().filter_map(|image| provenance.materials.get(image));
            pulled.flatten().for_each(|image| self.material(&name, image));
        }
    }

    fn images(&mut self, provenance: &Provenance) {
        for (reference, image) in &provenance.images {
            let name = reference.rsplit_once(':').map_or(reference.as_str(), |(name, _)| name);
            let mut container = component("container", reference, name, image.digest);
            container["version"] = json!(image.digest);
            self.components.insert(reference.clone(), container);
            // Said also if it is nothing: that is known, too.
            self.holds.entry(reference.clone()).or_default();
            let outside =
                image.contents.outside.iter().filter_map(|outside| provenance.materials.get(outside));
            outside.flatten().for_each(|material| self.material(reference, material));
            for build in &image.contents.builds {
                let inside = format!("{reference}/{build}");
                let program = json!({"type": "application", "bom-ref": inside, "name": build});
                self.components.insert(inside.clone(), program);
                self.hold(reference, inside);
            }
            let known = if image.contents.are_all() { "complete" } else { "incomplete" };
            self.known.entry(known).or_default().insert(reference.clone());
        }
    }

    /// Something from outside that somebody holds.
    fn material(&mut self, holder: &str, material: &Material) {
        let Material { kind, name, version, uri, digest } = material;
        let mut component = match kind {
            Kind::Image => component("container", uri, name, *digest),
            Kind::Archive => component("file", uri, name, *digest),
            Kind::Package => component("library", uri, name, *digest),
        };
        if *kind == Kind::Archive {
            component["externalReferences"] = json!([{"type": "distribution", "url": uri}]);
        } else {
            component["purl"] = json!(uri);
        }
        if let Some(version) = version {
            component["version"] = json!(version);
        }
        if *kind != Kind::Package {
            self.known.entry("unknown").or_default().insert(uri.clone());
        }
        self.components.insert(uri.clone(), component);
        self.hold(holder, uri.clone());
    }

    fn hold(&mut self, holder: &str, what: String) {
        self.holds.entry(holder.to_owned()).or_default().insert(what);
    }
}

fn component(kind: &str, reference: &str, name: &str, digest: Digest) -> Value {
    json!({
        "type": kind,
        "bom-ref": reference,
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": digest.hex()}],
    })
}
