//! Referrers: manifests of OCI 1.1 that say which other manifest they speak of.
//!
//! A registry that does not list them by itself has an index for each thing that is spoken of, under a tag made of its digest. Whoever attaches something
//! keeps that index, with all that others put there (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#referrers-tag-schema>).
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Value, json};

use crate::bundle::digest::Digest;
use crate::bundle::oci;

/// The config of an artifact that has none.
const EMPTY: &[u8] = b"{}";
/// Its type.
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";

/// A document that is attached to things.
pub(super) struct Document {
    /// Its media type, and that of the artifact.
    pub(super) kind: &'static str,
    /// What it is called, for people.
    pub(super) title: &'static str,
    /// The name of a file that holds it.
    pub(super) file: &'static str,
    /// What else is said of it: the key of an annotation, and its value.
    pub(super) annotations: &'static [(&'static str, &'static str)],
    pub(super) bytes: Vec<u8>,
}

/// What a document is attached to.
pub(super) struct Subject {
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// A document attached to something, as blobs.
pub(super) struct Referrer {
    pub(super) manifest: Vec<u8>,
    /// The other blobs that the manifest names.
    pub(super) blobs: [Vec<u8>; 2],
    /// What an index says of it.
    pub(super) descriptor: Value,
}

impl Document {
    pub(super) fn about(&self, subject: &Subject) -> serde_json::Result<Referrer> {
        let annotations: Value =
            self.annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let manifest = oci::canonical_json(&json!({
            "schemaVersion": 2,
            "mediaType": oci::MANIFEST,
            "artifactType": self.kind,
            "config": descriptor(EMPTY_TYPE, EMPTY),
            "layers": [with(descriptor(self.kind, &self.bytes), "annotations", json!({oci::TITLE: self.file}))],
            "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.size},
            "annotations": annotations,
        }))?;
        let own = with(descriptor(oci::MANIFEST, &manifest), "artifactType", json!(self.kind));
        let descriptor = with(own, "annotations", annotations);
        Ok(Referrer { manifest, blobs: [EMPTY.to_vec(), self.bytes.clone()], descriptor })
    }
}

impl Referrer {
    pub(super) fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

fn with(mut object: Value, key: &str, value: Value) -> Value {
    object[key] = value;
    object
}

/// The tag under which a registry without a list of its own has that of a digest.
pub(super) fn tag(subject: Digest) -> String {
    subject.to_string().replace(':', "-")
}

/// A list of referrers, as a registry has it. What others say in it stays as it is.
#[derive(Clone, Debug)]
pub(super) struct List(Value);

impl List {
    pub(super) fn empty() -> Self {
        Self(json!({"schemaVersion": 2, "mediaType": oci::INDEX, "manifests": []}))
    }

    /// None if it is something else.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let list: Value = serde_json::from_slice(bytes).ok()?;
        let is_list = list["schemaVersion"] == 2 && list["manifests"].is_array();
        is_list.then_some(Self(list))
    }

    pub(super) fn has(&self, referrer: &Referrer) -> bool {
        let all = self.0["manifests"].as_array();
        all.is_some_and(|all| all.iter().any(|one| one["digest"] == referrer.descriptor["digest"]))
    }

    /// Adds one after all others.
    pub(super) fn add(&mut self, referrer: &Referrer) {
        if let (false, Some(all)) = (self.has(referrer), self.0["manifests"].as_array_mut()) {
            all.push(referrer.descriptor.clone());
        }
    }

    pub(super) fn bytes(&self) -> serde_json::Result<Vec<u8>> {
        oci::canonical_json(&self.0)
    }
}

/// An OCI layout in which a referrer has a name: what it consists of, by path.
pub(super) fn layout(referrer: &Referrer, name: &str) -> serde_json::Result<Vec<(String, Vec<u8>)>> {
    let named = with(referrer.descriptor.clone(), "annotations", json!({oci::REF_NAME: name}));
    let index = json!({"schemaVersion": 2, "mediaType": oci::INDEX, "manifests": [named]});
    let blobs = referrer.blobs.iter().chain([&referrer.manifest]);
    let blobs = blobs.map(|bytes| (format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes.clone()));
    let mut files: Vec<_> = blobs.collect();
    files.push(("oci-layout".to_owned(), oci::LAYOUT.into()));
    files.push(("index.json".to_owned(), oci::canonical_json(&index)?));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn referrer(text: &str) -> Referrer {
        let subject = Subject { media_type: oci::INDEX.to_owned(), digest: Digest::of(b"it"), size: 2 };
        let document = Document {
            kind: "application/x",
            title: "x",
            file: "x.json",
            annotations: &[("k", "v")],
            bytes: text.into(),
        };
        document.about(&subject).unwrap()
    }

    #[test]
    fn a_list_keeps_what_others_put_there_and_has_nothing_twice() {
        let others = br#"{"annotations":{"a":"b"},"manifests":[{"digest":"sha256:x","platform":{"os":"y"},"size":1}],"schemaVersion":2}"#;
        let mut list = List::parse(others).unwrap();
        let (one, two) = (referrer("1"), referrer("2"));
        list.add(&one);
        list.add(&two);
        list.add(&one);
        assert!(list.has(&one) && list.has(&two));
        let said: Value = serde_json::from_slice(&list.bytes().unwrap()).unwrap();
        assert_eq!(said["manifests"].as_array().unwrap().len(), 3);
        assert_eq!(
            (&said["manifests"][0]["platform"]["os"], &said["annotations"]["a"]),
            (&json!("y"), &json!("b"))
        );
        assert_eq!(said["manifests"][1]["artifactType"], "application/x");
        for other in ["", "<html>", "{}", r#"{"schemaVersion":2,"layers":[]}"#] {
            assert!(List::parse(other.as_bytes()).is_none(), "{other}");
        }
        assert!(!List::empty().has(&one));
    }

    #[test]
    fn a_tag_is_a_digest_in_other_words() {
        let tag = tag(Digest::of(b""));
        assert_eq!(tag, "sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
