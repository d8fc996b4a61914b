//! Packages of Debian: which files they are, and the files.

use super::curl::download;
use super::failure::Failure;
use super::{Network, apt, side_by_side};
use crate::compile::lock::{Package, Pin, PoolPath, Resolved, Snapshot};
use crate::compile::outside::Packages;

/// Has every file that the archive ever had.
const SNAPSHOTS: &str = "http://snapshot.debian.org/archive";
/// Above the largest package of Debian.
const LIMIT: u64 = 4 << 30;

/// The files as they are now.
pub(super) fn resolve(network: &Network<'_>, packages: &Packages) -> Result<Pin, Failure> {
    Ok(Pin::Packages(packages.clone(), apt::resolve(network, packages)?))
}

/// Fetches the files that are not here.
pub(super) fn fetch(network: &Network<'_>, packages: &Packages, resolved: &Resolved) -> Result<(), Failure> {
    let fetched =
        side_by_side(&resolved.packages, |package| fetch_one(network, packages, resolved.snapshot, package));
    fetched.into_iter().collect()
}

fn fetch_one(
    network: &Network<'_>,
    packages: &Packages,
    snapshot: Snapshot,
    package: &Package,
) -> Result<(), Failure> {
    if network.blobs.has(package.digest) {
        return Ok(());
    }
    network.progress.begin(&format!("fetch {}", package.path.file()));
    let scratch = network.blobs.scratch()?;
    let file = scratch.path().join("file");
    let mut said = Vec::new();
    for url in places(&network.settings.debian_mirror, snapshot, &package.path) {
        match download(network, &url, &file, LIMIT) {
            Err(Failure::Refused(finding)) => said.push(format!("{url}: {}", finding.notes.join(", "))),
            Err(failure) => return Err(failure),
            Ok(()) => match network.blobs.adopt_as(&file, package.digest)? {
                Ok(()) => return Ok(()),
                Err(found) => said.push(format!("{url}: what came is {found}")),
            },
        }
    }
    let failure = Failure::refused(format!("`{}` could not be had", package.path.file()))
        .help(format!("if it is gone, take what is there now: `rickbuild lock --update '{packages}'`"));
    Err(said.into_iter().fold(failure, Failure::note))
}

/// Where a file may be: in the archive, until a later version takes its place; and in its history. That is written down some time after the
/// archive has changed, so what was new in the snapshot may be there only a while later.
fn places(mirror: &str, snapshot: Snapshot, path: &PoolPath) -> [String; 3] {
    let (archive, in_archive) = path.split();
    let in_archive = in_archive.replace('+', "%2B");
    let at = |snapshot: Snapshot| format!("{SNAPSHOTS}/{archive}/{snapshot}/{in_archive}");
    [format!("{mirror}/{archive}/{in_archive}"), at(snapshot), at(snapshot.next_day())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_left_the_archive_is_in_its_history() {
        let path = "debian-security/pool/updates/main/o/openssl/openssl_3.5.1-1+deb13u1_amd64.deb";
        let urls = places("http://m/d", "20261130T210336Z".parse().unwrap(), &path.parse().unwrap());
        let file = "pool/updates/main/o/openssl/openssl_3.5.1-1%2Bdeb13u1_amd64.deb";
        assert_eq!(
            urls,
            [
                format!("http://m/d/debian-security/{file}"),
                format!("http://snapshot.debian.org/archive/debian-security/20261130T210336Z/{file}"),
                format!("http://snapshot.debian.org/archive/debian-security/20261201T210336Z/{file}"),
            ]
        );
    }
}
