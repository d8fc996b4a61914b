use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::compile::payload::{self, known::Known};
use crate::compile::source::{SourcePath, Span};

fn source(path: &str) -> SourcePath {
    SourcePath(path.to_owned())
}

fn tree() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("rootfs/etc/app")).unwrap();
    fs::write(root.path().join("rootfs/etc/app/conf"), "x = 1\n").unwrap();
    fs::write(root.path().join("rootfs/etc/app.conf"), "y = 2\n").unwrap();
    fs::write(root.path().join("app"), "\x7fELF…").unwrap();
    fs::set_permissions(root.path().join("app"), fs::Permissions::from_mode(0o755)).unwrap();
    root
}

fn image() -> Image {
    Image {
        layers: vec![
            ("usr".parse().unwrap(), source("rootfs")),
            ("usr/bin/app".parse().unwrap(), source("app")),
        ],
        entrypoint: vec!["/usr/bin/app".to_owned()],
        command: vec!["--listen".to_owned()],
        environment: BTreeMap::from([("B".to_owned(), "2".to_owned()), ("A".to_owned(), "1".to_owned())]),
    }
}

fn payloads(root: &TempDir) -> Payloads {
    let span = Span { file: source("x.star"), start: 0, end: 0 };
    let wanted = ["rootfs", "app"].map(|path| (source(path), span.clone()));
    let (payloads, findings) = payload::find(root.path(), wanted.into_iter(), &Known::default());
    assert!(findings.is_empty(), "{findings:?}");
    payloads
}

fn built(root: &TempDir, cache: Option<&Path>) -> Built {
    let cache = cache.map(Cache::at);
    build(&image(), &payloads(root), cache.as_ref()).unwrap()
}

fn bytes(blob: &Blob) -> Vec<u8> {
    let mut bytes = Vec::new();
    blob.copy(&mut bytes).unwrap();
    bytes
}

fn listing(layer: &Blob) -> Vec<(String, u32, String)> {
    let mut archive = tar::Archive::new(std::io::Cursor::new(unzip(layer)));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        (path, entry.header().mode().unwrap(), text)
    });
    entries.collect()
}

fn unzip(layer: &Blob) -> Vec<u8> {
    zstd::decode_all(bytes(layer).as_slice()).unwrap()
}

fn entry(path: &str, mode: u32, text: &str) -> (String, u32, String) {
    (path.to_owned(), mode, text.to_owned())
}

#[test]
fn each_piece_is_a_layer_with_its_parent_directories() {
    let built = built(&tree(), None);
    assert_eq!(
        listing(&built.layers[0]),
        [
            entry("usr/", 0o755, ""),
            entry("usr/etc/", 0o755, ""),
            entry("usr/etc/app.conf", 0o644, "y = 2\n"),
            entry("usr/etc/app/", 0o755, ""),
            entry("usr/etc/app/conf", 0o644, "x = 1\n"),
        ]
    );
    assert_eq!(
        listing(&built.layers[1]),
        [entry("usr/", 0o755, ""), entry("usr/bin/", 0o755, ""), entry("usr/bin/app", 0o755, "\x7fELF…")]
    );
}

#[test]
fn the_configuration_names_what_runs_and_no_time() {
    let built = built(&tree(), None);
    let diff_ids: Vec<String> =
        built.layers.iter().map(|layer| Digest::of(&unzip(layer)).to_string()).collect();
    let expected = format!(
        r#"{{"architecture":"amd64","config":{{"Cmd":["--listen"],"Entrypoint":["/usr/bin/app"],"Env":["A=1","B=2"]}},"os":"linux","rootfs":{{"diff_ids":["{}","{}"],"type":"layers"}}}}"#,
        diff_ids[0], diff_ids[1]
    );
    assert_eq!(String::from_utf8(bytes(&built.config)).unwrap(), expected);
    let manifest: Manifest = serde_json::from_slice(&bytes(&built.manifest)).unwrap();
    assert_eq!(manifest.config.digest, built.config.digest);
    assert_eq!(manifest.layers.len(), 2);
    assert_eq!(manifest.layers[1].digest, built.layers[1].digest);
}

#[test]
fn an_image_depends_on_content_alone() {
    let (first, second) = (tree(), tree());
    fs::set_permissions(second.path().join("rootfs/etc/app.conf"), fs::Permissions::from_mode(0o600))
        .unwrap();
    fs::set_permissions(second.path().join("app"), fs::Permissions::from_mode(0o777)).unwrap();
    let old = fs::File::options().write(true).open(second.path().join("app")).unwrap();
    old.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(built(&first, None).manifest.digest, built(&second, None).manifest.digest);
    fs::write(second.path().join("app"), "other").unwrap();
    let changed = built(&second, None);
    assert_ne!(built(&first, None).manifest.digest, changed.manifest.digest);
    assert_eq!(built(&first, None).layers[0].digest, changed.layers[0].digest);
}

#[test]
fn the_cache_changes_nothing_and_heals() {
    let (root, cache) = (tree(), tempfile::tempdir().unwrap());
    let expected = built(&root, None);
    let check = || {
        let built = built(&root, Some(cache.path()));
        assert_eq!(built.manifest.digest, expected.manifest.digest);
        assert_eq!(bytes(&built.layers[1]), bytes(&expected.layers[1]));
    };
    check();
    assert_eq!(fs::read_dir(cache.path().join("blobs")).unwrap().count(), 2);
    check();
    for folder in ["blobs", "layers"] {
        for entry in fs::read_dir(cache.path().join(folder)).unwrap() {
            fs::write(entry.unwrap().path(), "damaged").unwrap();
        }
        check();
    }
    let layer = cache.path().join("blobs").join(expected.layers[0].digest.hex());
    assert_eq!(fs::read(layer).unwrap(), bytes(&expected.layers[0]));
}

#[test]
fn a_cache_that_cannot_be_used_fails_nothing() {
    let (root, folder) = (tree(), tempfile::tempdir().unwrap());
    let file = folder.path().join("file");
    fs::write(&file, "no folder").unwrap();
    let damaged = folder.path().join("damaged");
    let expected = built(&root, Some(&damaged));
    for kept in ["blobs", "layers"] {
        for entry in fs::read_dir(damaged.join(kept)).unwrap() {
            let path = entry.unwrap().path();
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
        }
    }
    for cache in [&file, &damaged] {
        assert_eq!(built(&root, Some(cache)).manifest.digest, expected.manifest.digest);
    }
}

#[test]
fn a_cached_layer_is_not_packed_again() {
    let (root, cache) = (tree(), tempfile::tempdir().unwrap());
    let payloads = payloads(&root);
    let open = Cache::at(cache.path());
    build(&image(), &payloads, Some(&open)).unwrap();
    fs::remove_dir_all(root.path().join("rootfs")).unwrap();
    fs::remove_file(root.path().join("app")).unwrap();
    assert!(build(&image(), &payloads, Some(&open)).is_ok());
    assert!(build(&image(), &payloads, None).is_err());
}
