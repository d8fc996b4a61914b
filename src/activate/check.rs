//! Does what a manifest says make sense? Asked before anything is touched, so that later stages need not ask.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::layer::Texts;
use super::secrets;
use crate::bundle::digest::Digest;
use crate::bundle::manifest::{Accounts, FORMAT, HostManifest};
use crate::bundle::names::{AccountName, BundlePath, Label};
use crate::bundle::secret;
use crate::bundle::token::{self, Piece, Token};
use crate::refusal::{Refusal, refuse};

/// Refuses a manifest that could lead anywhere but into its own generation, or that contradicts itself.
pub fn check_manifest(manifest: &HostManifest) -> Result<()> {
    check_format(manifest)?;
    manifest.files.keys().try_for_each(check_place)?;
    check_digests(manifest)?;
    check_secrets(manifest)?;
    check_modes(manifest)?;
    manifest.links.iter().try_for_each(|(path, target)| check_link(path, target))?;
    check_overlaps(manifest)?;
    check_units(manifest)?;
    manifest.images.keys().try_for_each(|name| check_image_name(name))?;
    manifest.pulls.iter().try_for_each(|name| check_pull(name))
}

/// Refuses tokens that are malformed or name what the manifest does not.
pub fn check_tokens(manifest: &HostManifest, texts: &Texts) -> Result<()> {
    let objects = objects_of(manifest);
    for (path, bytes) in texts.iter().filter(|(path, _)| manifest.files[*path].tokens) {
        let in_file = |why: String| Refusal::new(format!("`{path}` of the bundle is refused: {why}"));
        let text =
            std::str::from_utf8(bytes).map_err(|_| in_file("it holds tokens and is no text".to_owned()))?;
        for piece in token::pieces(text).map_err(in_file)? {
            if let Piece::Token(token) = piece
                && !is_known(&token, manifest, &objects)
            {
                return Err(in_file(format!("the manifest knows nothing of `{token}`")).into());
            }
        }
    }
    Ok(())
}

/// The configuration directories of a manifest, with the paths of their files.
pub fn objects_of(manifest: &HostManifest) -> BTreeMap<Label, Vec<BundlePath>> {
    let mut objects: BTreeMap<Label, Vec<BundlePath>> = BTreeMap::new();
    for path in manifest.files.keys() {
        if let Some((name, _)) = object_path(path) {
            objects.entry(name).or_default().push(path.clone());
        }
    }
    objects
}

/// The object that a path lies in, and the path inside it.
pub fn object_path(path: &BundlePath) -> Option<(Label, &str)> {
    let (name, inside) = path.as_str().strip_prefix("objects/")?.split_once('/')?;
    Some((name.parse().ok()?, inside))
}

fn is_known(token: &Token, manifest: &HostManifest, objects: &BTreeMap<Label, Vec<BundlePath>>) -> bool {
    let Accounts { users, groups } = &manifest.accounts;
    let has = |accounts: &BTreeMap<AccountName, _>, name: &AccountName| {
        name.as_str() == secret::ROOT || accounts.contains_key(name)
    };
    match token {
        Token::Uid(name) => users.contains_key(name),
        Token::Gid(name) => groups.contains_key(name),
        Token::Object(name) => objects.contains_key(name),
        Token::Secret(file) => {
            has(users, &file.user)
                && has(groups, &file.group)
                && secret::encrypted(&file.name).is_ok_and(|path| manifest.files.contains_key(&path))
        }
    }
}

/// One that nobody names is in a bundle for no reason.
fn check_secrets(manifest: &HostManifest) -> Result<()> {
    for (path, file) in manifest.files.iter().filter(|(path, _)| path.as_str().starts_with("secrets/")) {
        if !secrets::name_of(path).is_some_and(|name| manifest.secrets.contains_key(&name)) {
            refuse!("`{path}` of the bundle is no secret of this host");
        }
        if file.tokens || file.size > secret::MAX_SIZE {
            refuse!("`{path}` of the bundle has more than {} bytes, or tokens", secret::MAX_SIZE);
        }
    }
    Ok(())
}

/// Generations of older formats stay as they are, but no new one is made: their bundles do not say what the files hold.
fn check_format(manifest: &HostManifest) -> Result<()> {
    match manifest.format {
        FORMAT => Ok(()),
        old => {
            refuse!("the bundle has format {old}, and this rick-activate takes {FORMAT}: compile it again")
        }
    }
}

/// Whoever decides what is to be done goes by digests, and never sees the bytes.
fn check_digests(manifest: &HostManifest) -> Result<()> {
    for (path, file) in &manifest.files {
        match (file.tokens, file.digest) {
            (false, None) => refuse!("the manifest does not say which digest `{path}` has"),
            (true, Some(_)) => refuse!("`{path}` has tokens, and the manifest says which digest it has"),
            _ => {}
        }
    }
    Ok(())
}

fn check_place(path: &BundlePath) -> Result<()> {
    let known = match path.as_str().split_once('/') {
        None => matches!(path.as_str(), "sysusers.conf" | "tmpfiles.conf"),
        Some(("objects", _)) => object_path(path).is_some(),
        Some((top, _)) => matches!(top, "units" | "quadlets" | "etc" | "secrets"),
    };
    if known { Ok(()) } else { refuse!("`{path}` has no place in a bundle") }
}

fn check_modes(manifest: &HostManifest) -> Result<()> {
    match manifest.files.iter().find(|(_, file)| !matches!(file.mode, 0o644 | 0o755)) {
        Some((path, file)) => refuse!("`{path}` has mode {:o}, and 644 and 755 are allowed", file.mode),
        None => Ok(()),
    }
}

fn check_link(path: &BundlePath, target: &str) -> Result<()> {
    if !path.as_str().starts_with("units/") {
        refuse!("the link `{path}` of the bundle is refused: only units/ may hold links");
    }
    let name = target.strip_prefix("../").unwrap_or(target);
    let plain = !name.contains('/') && name.parse::<BundlePath>().is_ok();
    if target == "/dev/null" || plain {
        return Ok(());
    }
    refuse!("the link `{path}` of the bundle is refused: `{}` leads out of units/", target.escape_debug())
}

/// No path may be below another one that is a file or link.
fn check_overlaps(manifest: &HostManifest) -> Result<()> {
    let mut all: BTreeSet<&str> = BTreeSet::new();
    for path in manifest.files.keys().chain(manifest.links.keys()) {
        if !all.insert(path.as_str()) {
            refuse!("the bundle has `{path}` as a file and as a link");
        }
    }
    for path in &all {
        let mut slashes = path.match_indices('/');
        if let Some((at, _)) = slashes.find(|(at, _)| all.contains(&path[..*at])) {
            refuse!("the bundle has `{}` as a file and as a directory", &path[..at]);
        }
    }
    Ok(())
}

fn check_units(manifest: &HostManifest) -> Result<()> {
    let mut seen = BTreeSet::new();
    for unit in &manifest.units {
        if !seen.insert(&unit.name) {
            refuse!("the bundle lists the unit `{}` twice", unit.name);
        }
        let known =
            |path: &&BundlePath| !manifest.files.contains_key(*path) && !manifest.links.contains_key(*path);
        if let Some(path) = unit.restart_on.iter().chain(&unit.reload_on).find(known) {
            refuse!("the unit `{}` depends on `{path}`, which the bundle does not have", unit.name);
        }
    }
    Ok(())
}

/// `localhost/NAME:TAG` in the characters that every container tool takes.
fn check_image_name(name: &str) -> Result<()> {
    let part = |text: &str, more: &[char]| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(&c))
    };
    let good = name.rsplit_once(':').is_some_and(|(repository, tag)| {
        let (registry, path) = repository.split_once('/').unwrap_or_default();
        is_registry(registry)
            && path.split('/').all(|app| part(app, &['.', '_', '-']))
            && part(tag, &['.', '_', '-'])
    });
    if good { Ok(()) } else { refuse!("`{}` is no image name: `localhost/NAME:TAG` is", name.escape_debug()) }
}

/// Named so that nobody takes it for the beginning of a path: `localhost`, or with a dot or a port.
fn is_registry(name: &str) -> bool {
    let (host, port) = name.split_once(':').unwrap_or((name, "0"));
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    (host == "localhost" || name.contains(['.', ':']))
        && host.starts_with(|c: char| c.is_ascii_alphanumeric())
        && host.chars().all(plain)
        && !port.is_empty()
        && port.bytes().all(|b| b.is_ascii_digit())
}

/// It becomes an argument of podman, which must take it for nothing else, nor ask any registry but the one that is named.
fn check_pull(name: &str) -> Result<()> {
    let plain = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
    };
    let good = name.split_once("@sha256:").is_some_and(|(repository, digest)| {
        let (registry, path) = repository.split_once('/').unwrap_or_default();
        is_registry(registry) && path.split('/').all(plain) && Digest::from_hex(digest).is_some()
    });
    if good { Ok(()) } else { refuse!("`{}` is no image of a registry by its digest", name.escape_debug()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::testing::Build;

    fn refused(build: &Build) -> String {
        check_manifest(&build.manifest()).unwrap_err().to_string()
    }

    #[test]
    fn a_manifest_stays_in_its_generation() {
        for (path, target) in [
            ("units/a.service", "/etc/shadow"),
            ("units/a.service", "../../x"),
            ("units/a.service", ".."),
            ("units/a.service", ""),
            ("units/a.service", "../a/b"),
            ("quadlets/a.container", "b.container"),
        ] {
            assert!(refused(&Build::new("h").link(path, target)).contains("is refused"), "{path} → {target}");
        }
        for place in ["manifest.json", "digest", "objects/a", "objects/A/b", "store/a"] {
            assert!(refused(&Build::new("h").file(place, "")).contains("has no place"), "{place}");
        }
    }

    #[test]
    fn a_link_is_no_way_out_for_a_file() {
        let build = Build::new("h").link("units/a.wants", "../b").file("units/a.wants/c", "");
        assert_eq!(refused(&build), "the bundle has `units/a.wants` as a file and as a directory");
        let build = Build::new("h").link("units/a", "b").file("units/a", "");
        assert_eq!(refused(&build), "the bundle has `units/a` as a file and as a link");
    }

    #[test]
    fn image_names_are_plain() {
        assert!(check_image_name("localhost/whoami:1.0").is_ok());
        for wrong in [
            "whoami:1",
            "localhost/whoami",
            "localhost/:1",
            "localhost/a:-x",
            "localhost/a:b:c",
            "localhost/../a:1",
        ] {
            assert!(check_image_name(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn images_to_pull_are_of_a_registry_that_is_named() {
        let digest = Digest::of(b"");
        for good in ["docker.io/library/x", "localhost:5000/x", "localhost/x", "127.0.0.1:5000/a/b-c_d.e"] {
            assert!(check_pull(&format!("{good}@{digest}")).is_ok(), "{good}");
        }
        for wrong in [
            "x",
            "library/x",
            "--all/x",
            "docker.io/-x",
            "docker.io/",
            "docker.io/x y",
            "docker.io/../x",
            "docker.io/x:1",
            "d.io:x/y",
            "",
        ] {
            assert!(check_pull(&format!("{wrong}@{digest}")).is_err(), "{wrong}");
        }
        assert!(check_pull("docker.io/library/x:1").is_err() && check_pull("docker.io/x@sha256:12").is_err());
    }

    #[test]
    fn tokens_name_what_the_manifest_has() {
        let build = Build::new("h").text("units/a.service", "User=@rick(uid:app)");
        let manifest = build.manifest();
        let why = check_tokens(&manifest, &build.texts()).unwrap_err().to_string();
        assert_eq!(
            why,
            "`units/a.service` of the bundle is refused: the manifest knows nothing of `@rick(uid:app)`"
        );
    }
}
