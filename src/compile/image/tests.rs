use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::{Blob, Built, Digest, Image, Manifest, Piece};
use crate::compile::archive::Codec;
use crate::compile::host::{Architecture, Layer, Settings, Source};
use crate::compile::known::Known;
use crate::compile::make;
use crate::compile::payload::{self, Payloads};
use crate::compile::selection::Selection;
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

fn layer(path: &str, piece: Piece) -> Layer {
    Layer { at: path.parse().unwrap(), piece, span: Span { file: source("x.star"), start: 0, end: 0 } }
}

fn copied(path: &str, owner: &str, selection: Selection) -> Piece {
    Piece::Copied { source: Source::Tree(source(path)), selection, owner: owner.parse().unwrap() }
}

fn whole(path: &str) -> Piece {
    copied(path, "0", Selection::default())
}

fn empty_directory(owner: &str, mode: u32) -> Piece {
    Piece::EmptyDirectory { mode, owner: owner.parse().unwrap() }
}

fn written(text: &str) -> Piece {
    Piece::Written { text: text.to_owned(), mode: 0o600, owner: "7:8".parse().unwrap() }
}

fn of_layers(layers: Vec<Layer>) -> Image {
    let settings = Settings { entrypoint: vec!["/usr/bin/app".to_owned()], ..Settings::default() };
    Image {
        architecture: Architecture::Amd64,
        codec: Codec::Zstd,
        base: None,
        layers,
        settings,
        annotations: BTreeMap::new(),
    }
}

fn image() -> Image {
    let mut image = of_layers(vec![layer("usr", whole("rootfs")), layer("usr/bin/app", whole("app"))]);
    image.settings.command = vec!["--listen".to_owned()];
    image.settings.environment =
        BTreeMap::from([("B".to_owned(), "2".to_owned()), ("A".to_owned(), "1".to_owned())]);
    image
}

fn payloads(root: &TempDir) -> Payloads {
    let span = Span { file: source("x.star"), start: 0, end: 0 };
    let wanted = ["rootfs", "app"].map(|path| (source(path), span.clone()));
    let (payloads, findings) = payload::find(root.path(), wanted.into_iter(), &Known::default());
    assert!(findings.is_empty(), "{findings:?}");
    payloads
}

fn build(image: &Image, payloads: &Payloads, cache: Option<&Path>) -> anyhow::Result<Built> {
    make::testing(payloads, cache, |maker| super::build(image, maker))
}

fn built(root: &TempDir, cache: Option<&Path>) -> Built {
    build(&image(), &payloads(root), cache).unwrap()
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
        listing(&built.layers[0].blob),
        [
            entry("usr/", 0o755, ""),
            entry("usr/etc/", 0o755, ""),
            entry("usr/etc/app/", 0o755, ""),
            entry("usr/etc/app.conf", 0o644, "y = 2\n"),
            entry("usr/etc/app/conf", 0o644, "x = 1\n"),
        ]
    );
    assert_eq!(
        listing(&built.layers[1].blob),
        [entry("usr/", 0o755, ""), entry("usr/bin/", 0o755, ""), entry("usr/bin/app", 0o755, "\x7fELF…")]
    );
}

#[test]
fn the_configuration_names_what_runs_and_no_time() {
    let built = built(&tree(), None);
    let diff_ids: Vec<String> =
        built.layers.iter().map(|layer| Digest::of(&unzip(&layer.blob)).to_string()).collect();
    let expected = format!(
        r#"{{"architecture":"amd64","config":{{"Cmd":["--listen"],"Entrypoint":["/usr/bin/app"],"Env":["A=1","B=2"]}},"os":"linux","rootfs":{{"diff_ids":["{}","{}"],"type":"layers"}}}}"#,
        diff_ids[0], diff_ids[1]
    );
    assert_eq!(String::from_utf8(bytes(&built.config)).unwrap(), expected);
    let manifest: Manifest = serde_json::from_slice(&bytes(&built.manifest)).unwrap();
    assert_eq!(manifest.config.digest, built.config.digest);
    assert_eq!(manifest.layers.len(), 2);
    assert_eq!(manifest.layers[1].digest, built.layers[1].blob.digest);
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
    assert_eq!(built(&first, None).layers[0].blob.digest, changed.layers[0].blob.digest);
}

#[test]
fn the_cache_changes_nothing_and_heals() {
    let (root, cache) = (tree(), tempfile::tempdir().unwrap());
    let expected = built(&root, None);
    let check = || {
        let built = built(&root, Some(cache.path()));
        assert_eq!(built.manifest.digest, expected.manifest.digest);
        assert_eq!(bytes(&built.layers[1].blob), bytes(&expected.layers[1].blob));
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
    let layer = cache.path().join("blobs").join(expected.layers[0].blob.digest.hex());
    assert_eq!(fs::read(layer).unwrap(), bytes(&expected.layers[0].blob));
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
    build(&image(), &payloads, Some(cache.path())).unwrap();
    fs::remove_dir_all(root.path().join("rootfs")).unwrap();
    fs::remove_file(root.path().join("app")).unwrap();
    assert!(build(&image(), &payloads, Some(cache.path())).is_ok());
    assert!(build(&image(), &payloads, None).is_err());
}

/// What an image of these layers holds, layer by layer: `PATH MODE UID:GID`, and where a link leads.
fn held(root: &TempDir, layers: Vec<Layer>) -> Vec<Vec<String>> {
    let built = build(&of_layers(layers), &payloads(root), None).unwrap();
    let list = |layer: &Blob| {
        let mut archive = tar::Archive::new(std::io::Cursor::new(unzip(layer)));
        let entries = archive.entries().unwrap().map(|entry| {
            let entry = entry.unwrap();
            let (header, path) =
                (entry.header(), String::from_utf8(entry.path_bytes().into_owned()).unwrap());
            let link = entry.link_name().unwrap().map(|to| format!(" -> {}", to.display()));
            let (mode, uid, gid) = (header.mode().unwrap(), header.uid().unwrap(), header.gid().unwrap());
            format!("{path} {mode:o} {uid}:{gid}{}", link.unwrap_or_default())
        });
        entries.collect()
    };
    built.layers.iter().map(|layer| list(&layer.blob)).collect()
}

#[test]
fn files_have_the_owner_and_mode_that_are_declared() {
    let pattern = |text: &str| text.parse().unwrap();
    let selection = Selection {
        exclude: vec![pattern("app/")],
        mode: Some(0o640),
        modes: vec![(pattern("*.conf"), 0o600), (pattern("/etc/app.conf"), 0o4711)],
    };
    let layers = vec![
        layer("srv/app", copied("rootfs", "1000:100", selection)),
        layer("etc/passwd", written("app:x:1000:100::/:/bin/false\n")),
        layer("bin", Piece::Linked { target: "usr/bin".to_owned() }),
        layer("tmp", empty_directory("0", 0o1777)),
    ];
    assert_eq!(
        held(&tree(), layers),
        [
            vec![
                "srv/ 755 0:0",
                "srv/app/ 755 1000:100",
                "srv/app/etc/ 755 1000:100",
                "srv/app/etc/app.conf 4711 1000:100"
            ],
            vec!["etc/ 755 0:0", "etc/passwd 600 7:8"],
            vec!["bin 777 0:0 -> usr/bin"],
            vec!["tmp/ 1777 0:0"],
        ]
    );
}

#[test]
fn a_directory_is_what_is_declared_of_it_in_every_layer() {
    let layers = vec![
        layer("data/deep/a", written("a")),
        layer("data", empty_directory("1000", 0o2750)),
        layer("data/tree", copied("rootfs", "5", Selection::default())),
        layer("data/tree/etc/inner/app", whole("app")),
    ];
    let held = held(&tree(), layers);
    assert_eq!(held[0], ["data/ 2750 1000:1000", "data/deep/ 755 0:0", "data/deep/a 600 7:8"]);
    assert_eq!(held[1], ["data/ 2750 1000:1000"]);
    assert_eq!(held[2][..3], ["data/ 2750 1000:1000", "data/tree/ 755 5:5", "data/tree/etc/ 755 5:5"]);
    assert_eq!(
        held[3],
        [
            "data/ 2750 1000:1000",
            "data/tree/ 755 5:5",
            "data/tree/etc/ 755 5:5",
            "data/tree/etc/inner/ 755 0:0",
            "data/tree/etc/inner/app 755 0:0",
        ]
    );
}

#[test]
fn where_trees_stand_in_each_other_the_inner_one_says_whose_its_directories_are() {
    for reverse in [false, true] {
        let mut layers = vec![
            layer("srv", copied("rootfs", "1", Selection::default())),
            layer("srv/etc/app/more", copied("rootfs", "2", Selection::default())),
        ];
        if reverse {
            layers.reverse();
        }
        let held = held(&tree(), layers).concat();
        let of = |path: &str| held.iter().filter(|line| line.starts_with(path)).collect::<BTreeSet<_>>();
        assert_eq!(of("srv/etc/app/ ").into_iter().collect::<Vec<_>>(), ["srv/etc/app/ 755 1:1"]);
        assert_eq!(of("srv/etc/app/more/ ").into_iter().collect::<Vec<_>>(), ["srv/etc/app/more/ 755 2:2"]);
    }
}

/// If this fails, images that nobody changed get other layers: containers restart for it, and `LAYER_FORMAT` must change too.
#[test]
fn the_bytes_of_layers_stay() {
    let layers = vec![
        layer("usr", whole("rootfs")),
        layer("srv/app", copied("app", "1000:100", Selection { mode: Some(0o4755), ..Selection::default() })),
        layer("etc/passwd", written("root:x:0:0::/:/\n")),
        layer("bin", Piece::Linked { target: "usr/bin".to_owned() }),
        layer("tmp", empty_directory("0", 0o1777)),
    ];
    let built = build(&of_layers(layers), &payloads(&tree()), None).unwrap();
    let diff_ids: Vec<String> =
        built.layers.iter().map(|layer| Digest::of(&unzip(&layer.blob)).short()).collect();
    assert_eq!(diff_ids, ["174b68db3ade", "d5598af201a1", "a5a4722055b0", "ac0d31daf670", "9d305675743d"]);
}

#[test]
fn all_that_an_image_says_is_in_its_configuration_and_manifest() {
    let mut image = image();
    let pair = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
    image.architecture = Architecture::Arm64;
    image.layers.truncate(1);
    image.annotations = pair("org.opencontainers.image.title", "App");
    image.settings = Settings {
        user: Some("1000:app".to_owned()),
        working_directory: Some("/data".parse().unwrap()),
        ports: ["53/udp", "8080/tcp"].map(str::to_owned).into(),
        volumes: [("/data".parse().unwrap())].into(),
        labels: pair("com.example.kind", "app"),
        stop_signal: Some("SIGRTMIN+3".to_owned()),
        ..Settings::default()
    };
    let built = build(&image, &payloads(&tree()), None).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&bytes(&built.config)).unwrap();
    assert_eq!(
        config["config"].to_string(),
        r#"{"ExposedPorts":{"53/udp":{},"8080/tcp":{}},"Labels":{"com.example.kind":"app"},"StopSignal":"SIGRTMIN+3","User":"1000:app","Volumes":{"/data":{}},"WorkingDir":"/data"}"#
    );
    assert_eq!(config["architecture"], "arm64");
    let manifest: Manifest = serde_json::from_slice(&bytes(&built.manifest)).unwrap();
    assert_eq!(manifest.annotations, image.annotations);
}
