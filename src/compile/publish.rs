//! A layout → a registry, by way of a directory that is kept: what lies there is not written again, and what the registry has is not
//! sent again.
//!
//! The name moves last. Whoever ends it in the middle leaves blobs in the registry that nothing names, and the name where it was.

mod attach;
mod login;
mod referrers;
mod web;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::emit::{BUNDLE_NAME, Layout};
use super::known::Known;
use super::provenance::Provenance;
use crate::bundle::digest::Digest;
use crate::bundle::names::HostName;
use crate::registry::Origin;
use crate::registry::reference::Reference;
use crate::registry::skopeo::patiently;
pub use attach::Attached;

/// What is said on the way.
#[derive(Clone, Copy, Debug)]
pub enum News<'a> {
    /// Somebody else publishes the same; this waits.
    Waits,
    /// A part of so many, a host or an image, is at hand: `2/5`.
    Part(&'a str),
    /// It did not work, why, and is tried again after a while.
    Again(&'a str, Duration),
    /// What is known of where it comes from is attached to something.
    Attach(&'a Reference),
}

impl fmt::Display for News<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waits => f.write_str("wait       for another publication of the same environment"),
            Self::Part(part) => write!(f, "send       {part}"),
            Self::Attach(to) => write!(f, "attach     provenance to {to}"),
            Self::Again(why, pause) => write!(f, "retry      in {} s: {why}", pause.as_secs()),
        }
    }
}

/// What a registry has now.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its name, which may move on.
    pub to: Reference,
    /// The index over all of it. Versions of skopeo write it down differently, so it is no name of the build.
    pub index: Digest,
    /// The manifest of each host: *the* digest of a build.
    pub hosts: BTreeMap<HostName, Digest>,
    /// The documents that are attached to these.
    pub attached: Vec<Attached>,
}

impl Published {
    /// For people: a line for each name.
    pub fn text(&self) -> String {
        let names =
            [("published".to_owned(), self.to.clone()), ("bundle".to_owned(), self.to.at(self.index))];
        let hosts = self.hosts.iter().map(|(name, digest)| (format!("host {name}"), self.to.at(*digest)));
        // Each host has them as well.
        let attached = self.attached.iter().filter(|attached| attached.subject == self.index);
        let attached = attached.map(|attached| (attached.title.to_owned(), self.to.at(attached.digest)));
        let lines: Vec<(String, Reference)> = names.into_iter().chain(hosts).chain(attached).collect();
        let width = lines.iter().map(|(what, _)| what.len()).max().unwrap_or_default();
        let lines: Vec<String> = lines.iter().map(|(what, at)| format!("{what:width$}  {at}\n")).collect();
        lines.concat()
    }

    /// For programs: an object for the whole, one for each host, and one for each document that is attached.
    pub fn json(&self) -> String {
        let (to, index) = (self.to.to_string(), self.to.at(self.index).to_string());
        let whole = json!({"published": to, "digest": self.index, "reference": index});
        let hosts = self.hosts.iter().map(|(name, digest)| {
            json!({"host": name, "digest": digest, "reference": self.to.at(*digest).to_string()})
        });
        let attached = self.attached.iter().map(|Attached { subject, artifact_type, digest, .. }| {
            let reference = self.to.at(*digest).to_string();
            json!({"attached": artifact_type, "subject": subject, "digest": digest, "reference": reference})
        });
        let lines: Vec<String> =
            std::iter::once(whole).chain(hosts).chain(attached).map(|line| format!("{line}\n")).collect();
        lines.concat()
    }
}

/// Publishes a layout, and attaches to it what is known of where it comes from. `folder` is where it is written meanwhile, of
/// which this is known. On a `terminal`
/// skopeo tells of the parts itself.
///
/// # Errors
/// What the disk says, and what the registry does.
pub fn publish(
    layout: &Layout,
    provenance: Option<&Provenance>,
    to: &Origin,
    (folder, known): (&Path, &Known),
    terminal: bool,
    told: &mut dyn FnMut(News<'_>),
) -> Result<Published> {
    let cannot = || format!("cannot write to {}", folder.display());
    let _lock = lock(folder, told).with_context(cannot)?;
    layout.write_directory(folder, known).with_context(cannot)?;
    layout.forget_others(folder).with_context(cannot)?;
    let told = RefCell::new(told);
    let mut heard = |line: &str| {
        if let Some((_, part)) = line.strip_prefix("Copying image ").and_then(|line| line.split_once('(')) {
            told.borrow_mut()(News::Part(part.trim_end_matches(')')));
        }
    };
    let index = patiently(
        |why, pause| told.borrow_mut()(News::Again(why, pause)),
        || to.skopeo.publish(folder, BUNDLE_NAME, &to.reference, (!terminal).then_some(&mut heard)),
    )?;
    let mut attached = Vec::new();
    if let Some(provenance) = provenance {
        let subjects: Vec<Digest> = std::iter::once(index).chain(layout.hosts().values().copied()).collect();
        attached = attach::attach(provenance, index, &subjects, to, &mut **told.borrow_mut())?;
    }
    Ok(Published { to: to.reference.clone(), index, hosts: layout.hosts().clone(), attached })
}

/// One at a time: another one would remove what this one sends.
fn lock(folder: &Path, told: &mut dyn FnMut(News<'_>)) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(folder.join("lock"))?;
    if lock.try_lock().is_err() {
        told(News::Waits);
        lock.lock()?;
    }
    Ok(lock)
}
