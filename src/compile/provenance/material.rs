//! What a build takes from outside the source tree, thing by thing, under the names by which others know it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use rayon::prelude::*;

use super::package::Description;
use super::purl::purl;
use crate::bundle::digest::Digest;
use crate::compile::check::Wanted;
use crate::compile::finding::{Finding, Refused};
use crate::compile::lock::{Lock, Package};
use crate::compile::outside::{Outside, Packages, Reference, Url};
use crate::compile::store::Store;

/// One thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Material {
    /// What it is.
    pub(super) kind: Kind,
    /// Its name, for people.
    pub(super) name: String,
    /// Its version, if that can be told.
    pub(super) version: Option<String>,
    /// What names it everywhere: a package URL, or where it is.
    pub(super) uri: String,
    /// Its digest.
    pub(super) digest: Digest,
}

/// The kinds of things from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Image,
    Archive,
    Package,
}

/// All that an environment wants, as the lock has it.
pub(super) fn all(wanted: &[Wanted], lock: &Lock, store: &Store) -> Result<BTreeMap<Outside, Vec<Material>>> {
    let mut all = BTreeMap::new();
    for Wanted { outside, missing, .. } in wanted {
        if all.contains_key(outside) {
            continue;
        }
        let unlocked = || format!("`{outside}` is not locked");
        let materials = match outside {
            Outside::Image(reference) => {
                vec![image(reference, lock.image(reference).with_context(unlocked)?)]
            }
            Outside::Archive(url) => vec![archive(url, lock.archive(url).with_context(unlocked)?)],
            Outside::Packages(packages) => {
                let locked = lock.packages(packages).with_context(unlocked)?;
                let each = locked.par_iter().map(|locked| package(packages, locked, store));
                let each: Vec<Option<Material>> = each.collect::<Result<_>>()?;
                let each: Option<Vec<_>> = each.into_iter().collect();
                each.ok_or_else(|| not_here(outside, missing))?
            }
        };
        all.insert(outside.clone(), materials);
    }
    Ok(all)
}

fn image(reference: &Reference, digest: Digest) -> Material {
    let repository = reference.repository();
    let name = repository.rsplit('/').next().unwrap_or(repository);
    let version = digest.to_string();
    let mut more = vec![("repository_url", repository)];
    more.extend(reference.tag().map(|tag| ("tag", tag)));
    let uri = purl(&["oci", name], &version, &more);
    Material { kind: Kind::Image, name: repository.to_owned(), version: Some(version), uri, digest }
}

fn archive(url: &Url, digest: Digest) -> Material {
    let path = url.as_str().split('?').next().unwrap_or_default();
    let name = path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path).to_owned();
    Material { kind: Kind::Archive, name, version: None, uri: url.to_string(), digest }
}

/// A package, if its file is on this machine.
fn package(packages: &Packages, locked: &Package, store: &Store) -> Result<Option<Material>> {
    let Some(Description { package, version, architecture, source }) = Description::of(locked.digest, store)
        .with_context(|| format!("cannot read what `{}` says of itself", locked.path))?
    else {
        return Ok(None);
    };
    let mut more = vec![("arch", architecture.as_str()), ("distro", packages.release())];
    // What Debian says of flaws it says of source packages.
    more.extend(source.as_deref().map(|source| ("upstream", source)));
    let uri = purl(&["deb", "debian", &package], &version, &more);
    Ok(Some(Material {
        kind: Kind::Package,
        name: package,
        version: Some(version),
        uri,
        digest: locked.digest,
    }))
}

fn not_here(outside: &Outside, missing: &Finding) -> anyhow::Error {
    let message = format!(
        "`{outside}` is locked, and not on this machine: what its packages are called and which versions they have stands in them"
    );
    let finding = Finding { message, help: Vec::new(), ..missing.clone() };
    Refused::because(finding.help("run `rickbuild lock`: it fetches what builds need"))
}
