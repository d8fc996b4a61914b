//! Attaches documents to what is in a registry.
//!
//! skopeo sends them; the list of what is attached to something is an index of artifacts, of which skopeo makes others, so that goes by
//! [`super::web`].

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::News;
use super::referrers::{self, Document, List, Referrer, Subject};
use super::web::Web;
use crate::bundle::digest::Digest;
use crate::bundle::oci;
use crate::compile::provenance::{PREDICATE, Provenance};
use crate::refusal::Refusal;
use crate::registry::Origin;
use crate::registry::skopeo::{Trouble, patiently};

/// A document that is attached to something.
#[derive(Clone, Debug)]
pub struct Attached {
    /// To what.
    pub subject: Digest,
    /// Which document it is, for programs.
    pub artifact_type: &'static str,
    /// The same for people.
    pub title: &'static str,
    /// The digest of the manifest that attaches it.
    pub digest: Digest,
}

/// The name in a layout that holds nothing else.
const IT: &str = "it";

/// Attaches what is known of a bundle, whose index a registry has under this digest, to several of its manifests.
pub(super) fn attach(
    provenance: &Provenance,
    index: Digest,
    subjects: &[Digest],
    to: &Origin,
    told: &mut dyn FnMut(News<'_>),
) -> Result<Vec<Attached>> {
    let mut work = || -> Result<Vec<Attached>> {
        let documents = documents(provenance, index)?;
        let mut attached = Vec::new();
        for subject in subjects {
            attached.extend(attach_to(*subject, &documents, to, told)?);
        }
        Ok(attached)
    };
    work().map_err(|error| match error.downcast::<Refusal>() {
        Ok(refusal) => refusal
            .so("the bundle is published, and its provenance is not attached")
            .help("to publish without it: `rickbuild publish --no-provenance`")
            .into(),
        Err(error) => error,
    })
}

fn documents(provenance: &Provenance, index: Digest) -> Result<[Document; 2]> {
    Ok([
        Document {
            kind: "application/vnd.in-toto+json",
            title: "provenance",
            file: "provenance.slsa.json",
            annotations: &[("in-toto.io/predicate-type", PREDICATE)],
            bytes: provenance.statement(index)?,
        },
        Document {
            kind: "application/vnd.cyclonedx+json",
            title: "sbom",
            file: "sbom.cdx.json",
            annotations: &[],
            bytes: provenance.bill(index)?,
        },
    ])
}

fn attach_to(
    digest: Digest,
    documents: &[Document],
    to: &Origin,
    told: &mut dyn FnMut(News<'_>),
) -> Result<Vec<Attached>> {
    // Anew for each: a pass may be good for a minute.
    let web = patiently(|why, pause| told(News::Again(why, pause)), || Web::open(to))?;
    let mut again = |work: &mut dyn FnMut() -> Result<Option<Vec<u8>>, Trouble>| {
        patiently(|why, pause: Duration| told(News::Again(why, pause)), work)
    };
    let place = to.reference.at(digest);
    let bytes = again(&mut || web.manifest(&digest.to_string()))?;
    let bytes = bytes.filter(|bytes| Digest::of(bytes) == digest);
    let bytes = bytes.ok_or_else(|| Refusal::new(format!("the registry does not give {place} back")))?;
    let subject = Subject { media_type: media_type(&bytes), digest, size: bytes.len() as u64 };
    let referrers = documents.iter().map(|document| document.about(&subject));
    let referrers: Vec<Referrer> = referrers.collect::<Result<_, _>>()?;
    // It may have a list of its own; else everybody who attaches something keeps one under a tag.
    let tag = referrers::tag(digest);
    let own = again(&mut || web.referrers(digest))?.and_then(|bytes| List::parse(&bytes));
    let kept = match own {
        Some(_) => None,
        None => Some(match again(&mut || web.manifest(&tag))? {
            Some(bytes) => List::parse(&bytes).ok_or_else(|| {
                Refusal::new(format!("the registry has something else under the tag `{tag}`, where the list of what is attached to {digest} belongs"))
            })?,
            None => List::empty(),
        }),
    };
    let list = own.as_ref().or(kept.as_ref());
    let missing: Vec<&Referrer> =
        referrers.iter().filter(|referrer| list.is_none_or(|list| !list.has(referrer))).collect();
    if !missing.is_empty() {
        told(News::Attach(&place));
        for referrer in &missing {
            let layout = tempfile::tempdir().context("cannot make a temporary folder")?;
            write(referrer, layout.path()).context("cannot write to a temporary folder")?;
            let there = to.reference.at(referrer.digest());
            patiently(
                |why, pause| told(News::Again(why, pause)),
                || to.skopeo.push(layout.path(), IT, &there),
            )?;
        }
        if let Some(mut list) = kept {
            for referrer in &missing {
                list.add(referrer);
            }
            let bytes = list.bytes()?;
            patiently(|why, pause| told(News::Again(why, pause)), || web.put_index(&tag, &bytes))?;
        }
    }
    let attached = documents.iter().zip(&referrers).map(|(document, referrer)| Attached {
        subject: digest,
        artifact_type: document.kind,
        title: document.title,
        digest: referrer.digest(),
    });
    Ok(attached.collect())
}

/// What a manifest says that it is. Ours all say it; skopeo's index may not.
fn media_type(manifest: &[u8]) -> String {
    let manifest: Value = serde_json::from_slice(manifest).unwrap_or_default();
    let otherwise = if manifest["manifests"].is_array() { oci::INDEX } else { oci::MANIFEST };
    manifest["mediaType"].as_str().unwrap_or(otherwise).to_owned()
}

fn write(referrer: &Referrer, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder.join("blobs/sha256"))?;
    for (path, bytes) in referrers::layout(referrer, IT)? {
        fs::write(folder.join(path), bytes)?;
    }
    Ok(())
}
