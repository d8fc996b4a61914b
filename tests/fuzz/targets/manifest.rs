//! What a bundle says about a host.

use rick::activate::check;
use rick::bundle::manifest::{FORMAT, HostManifest, OLDEST_FORMAT};
use rick::bundle::names::BundlePath;
use rick::bundle::oci::canonical_json;

use super::{assert_stays_inside, script};

pub(super) fn run(input: &[u8]) -> bool {
    let Ok(manifest) = HostManifest::parse(&script::with_format(input)) else { return false };
    let written = canonical_json(&manifest).expect("a manifest can be written");
    assert_eq!(HostManifest::parse(&written).as_ref(), Ok(&manifest), "it is another one once it is written");
    judge(&manifest)
}

/// What is accepted leads nowhere but into its own generation.
pub(super) fn judge(manifest: &HostManifest) -> bool {
    assert!((OLDEST_FORMAT..=FORMAT).contains(&manifest.format));
    manifest.files.keys().chain(manifest.links.keys()).for_each(assert_stays_inside);
    if check::check_manifest(manifest).is_err() {
        return false;
    }
    let places = ["units/", "quadlets/", "etc/", "objects/", "secrets/"];
    for path in manifest.files.keys().map(BundlePath::as_str) {
        let known = path.split_once('/').map_or(["sysusers.conf", "tmpfiles.conf"].contains(&path), |_| {
            places.iter().any(|place| path.starts_with(place))
        });
        assert!(known, "{path:?}");
        assert!(!manifest.links.keys().any(|link| path == link.as_str()), "{path:?} is a link too");
    }
    for (path, target) in &manifest.links {
        let up = usize::from(target.starts_with("../"));
        let name = target.strip_prefix("../").unwrap_or(target);
        let depth = path.as_str().matches('/').count();
        assert!(path.as_str().starts_with("units/"), "{path}");
        let plain = !name.contains('/') && !matches!(name, "" | "." | "..");
        assert!(target == "/dev/null" || plain && up <= depth, "{path} → {target:?}");
    }
    true
}
