//! What only the network has, asked for by the programs that speak with it: skopeo with registries, curl with web servers, apt-get with
//! archives of Debian. Only `rickbuild lock` comes here; a build takes what lies in the cache.
//!
//! Nothing that comes from there is believed: sizes have limits, names are parsed, and bytes get their name in the cache once their
//! digest is known to be the right one.

mod apt;
mod archive;
mod blobs;
mod curl;
mod debian;
mod failure;
mod image;
mod program;
mod progress;
mod skopeo;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use super::host::Architecture;
use super::lock::{Lock, Pin};
use super::outside::Outside;
use apt::Releases;
use blobs::Blobs;
pub use failure::Failure;
pub use progress::Progress;

/// How many things are asked for at once: the network waits, not the processor.
const AT_ONCE: usize = 6;

/// How the network is to be asked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The mirror that has `debian` and `debian-security` side by side.
    pub debian_mirror: String,
    /// Registries that are spoken with without verifying who they are.
    pub insecure_registries: Vec<String>,
}

/// The mirror that is asked unless another one is named.
pub const DEBIAN_MIRROR: &str = "http://deb.debian.org";

/// The network, and the cache that its bytes go to.
pub struct Network<'a> {
    settings: &'a Settings,
    blobs: Blobs,
    releases: Releases,
    progress: &'a Progress,
}

impl<'a> Network<'a> {
    /// Ready to ask; waits while another process fetches into the same cache.
    ///
    /// # Errors
    /// What the machine says of the cache.
    pub fn new(cache: &Path, settings: &'a Settings, progress: &'a Progress) -> anyhow::Result<Self> {
        Ok(Self { settings, blobs: Blobs::at(cache, progress)?, releases: Releases::default(), progress })
    }

    /// Asks which one each of these is, whatever the lock says.
    pub fn resolve(&self, all: &[Outside]) -> Vec<Result<Pin, Failure>> {
        side_by_side(all, |outside| {
            self.progress.begin(&format!("ask for {outside}"));
            match outside {
                Outside::Image(reference) => image::resolve(self, reference),
                Outside::Archive(url) => archive::resolve(self, url),
                Outside::Packages(packages) => debian::resolve(self, packages),
            }
        })
    }

    /// Fetches the bytes that a build needs of each of these and that are not in the cache. What they are, the lock says.
    pub fn fetch(&self, lock: &Lock, all: &BTreeMap<Outside, Vec<Architecture>>) -> Vec<(Outside, Failure)> {
        let mut failures = Vec::new();
        for (outside, built_for) in all {
            let fetched = match outside {
                Outside::Image(reference) => {
                    lock.image(reference).map(|digest| image::fetch(self, reference, digest, built_for))
                }
                Outside::Archive(url) => lock.archive(url).map(|digest| archive::fetch(self, url, digest)),
                Outside::Packages(packages) => {
                    lock.resolved(packages).map(|resolved| debian::fetch(self, packages, resolved))
                }
            };
            if let Some(Err(failure)) = fetched {
                failures.push((outside.clone(), failure));
            }
        }
        failures
    }
}

/// Does something with all of them, a few at once; what comes out is in the order of what went in.
fn side_by_side<T: Sync, R: Send>(all: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = Mutex::new(all.iter().enumerate());
    let done = Mutex::new(BTreeMap::new());
    let take = || next.lock().ok().and_then(|mut next| next.next());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(all.len()) {
            scope.spawn(|| {
                while let Some((number, one)) = take() {
                    let result = work(one);
                    if let Ok(mut done) = done.lock() {
                        done.insert(number, result);
                    }
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).into_values().collect()
}
