use std::fs;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tempfile::TempDir;

use super::*;
use crate::bundle::manifest::HostManifest;
use crate::bundle::ustar::Reader;
use crate::compile::host::{self, Architecture, File, Host, Image, Layer, Piece, Quadlet, Settings};
use crate::compile::image;
use crate::compile::ini;
use crate::compile::item::{Content as Source, Handling, Os};
use crate::compile::known::Known;
use crate::compile::lower::lower;
use crate::compile::make;
use crate::compile::owner::Owner;
use crate::compile::payload;
use crate::compile::selection::Selection;
use crate::compile::source::{SourcePath, Span};

fn source(path: &str) -> SourcePath {
    SourcePath(path.to_owned())
}

fn tree() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("site")).unwrap();
    fs::write(root.path().join("site/index.html"), "hello, @rick(uid:nobody)").unwrap();
    fs::write(root.path().join("whoami"), "program").unwrap();
    root
}

fn host(name: &str, with_image: bool) -> Host {
    let mut host = Host {
        environment: "homelab".parse().unwrap(),
        name: name.parse().unwrap(),
        os: Os::Debian13,
        ssh_key: None,
        groups: BTreeMap::new(),
        users: BTreeMap::new(),
        directories: BTreeMap::new(),
        files: BTreeMap::new(),
        units: vec![],
        type_drop_ins: vec![],
        quadlets: vec![],
        images: BTreeMap::new(),
        embedded: BTreeMap::new(),
        probes: vec![],
        validations: vec![],
        programs: BTreeMap::new(),
        secrets: BTreeMap::new(),
        states: BTreeMap::new(),
        dumps: Vec::new(),
        at_rest: BTreeSet::new(),
        repositories: BTreeMap::new(),
        moved: BTreeMap::new(),
    };
    let site = File { content: Source::Payload(source("site")), executable: false };
    host.files.insert("objects/docs/site".parse().unwrap(), site);
    if with_image {
        let piece = Piece::Copied {
            source: host::Source::Tree(source("whoami")),
            selection: Selection::default(),
            owner: Owner::ROOT,
        };
        let whoami = Image {
            base: None,
            architecture: Architecture::Amd64,
            codec: Codec::Zstd,
            layers: vec![Layer {
                at: "whoami".parse().unwrap(),
                piece,
                span: Span { file: source("x.star"), start: 0, end: 0 },
            }],
            settings: Settings { entrypoint: vec!["/whoami".to_owned()], ..Settings::default() },
            annotations: BTreeMap::new(),
        };
        host.images.insert("whoami".parse().unwrap(), whoami);
        host.quadlets.push(Quadlet {
            service: "whoami".parse().unwrap(),
            name: "whoami.container".parse().unwrap(),
            unit: "whoami.service".parse().unwrap(),
            sections: ini::sections(
                "[Container]\nImage=localhost/whoami\n[Install]\nWantedBy=multi-user.target\n",
            ),
            pinned: None,
            replaces: false,
            handling: Handling::default(),
        });
    }
    host
}

fn compiled(root: &Path, hosts: &[Host]) -> Layout {
    let span = Span { file: source("x.star"), start: 0, end: 0 };
    let wanted = ["site", "whoami"].map(|path| (source(path), span.clone()));
    let (payloads, findings) = payload::find(root, wanted.into_iter(), &Known::default());
    assert!(findings.is_empty(), "{findings:?}");
    payloads.0.values().flatten().for_each(|file| {
        file.hash().unwrap();
    });
    let hosts: Vec<(Lowered, Images)> = hosts
        .iter()
        .map(|host| {
            let images = make::testing(&payloads, None, |maker| image::build_all(host, maker)).unwrap();
            (lower(host, &payloads, &image::digests(&images)).unwrap(), images)
        })
        .collect();
    assemble(&hosts, None, None).unwrap()
}

fn written(layout: &Layout) -> Vec<u8> {
    let mut bytes = Vec::new();
    layout.write(&mut bytes).unwrap();
    bytes
}

/// The files of a bundle in their order, read by the activator's reader; each blob is what its name says.
fn unpacked(bundle: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut reader = Reader::new(bundle);
    let mut files = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        assert_eq!(entry.mode, 0o644);
        let bytes = reader.body(1 << 20).unwrap();
        if let Some(hex) = entry.path.as_str().strip_prefix("blobs/sha256/") {
            assert_eq!(Digest::of(&bytes).hex(), hex);
        }
        files.push((entry.path.to_string(), bytes));
    }
    files
}

fn blob(files: &[(String, Vec<u8>)], digest: Digest) -> &[u8] {
    let path = format!("blobs/sha256/{}", digest.hex());
    &files.iter().find(|(known, _)| *known == path).unwrap().1
}

#[test]
fn a_bundle_can_be_verified_in_one_pass_from_its_index_on() {
    let root = tree();
    let layout = compiled(root.path(), &[host("arch-vps", true)]);
    let files = unpacked(&written(&layout));
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[..3], ["oci-layout", "index.json", "manifest.json"]);
    assert_eq!(files[0].1, oci::LAYOUT.as_bytes());

    let index: Index = serde_json::from_slice(&files[1].1).unwrap();
    let refs: Vec<&str> =
        index.manifests.iter().map(|entry| entry.annotations[oci::REF_NAME].as_str()).collect();
    assert_eq!((refs[0], refs[2]), ("host-arch-vps", "bundle"));
    assert_eq!(index.manifests[0].digest, layout.hosts()[&"arch-vps".parse().unwrap()]);
    assert_eq!(index.manifests[0].artifact_type.as_deref(), Some(oci::HOST_ARTIFACT));

    let host: Manifest = serde_json::from_slice(blob(&files, index.manifests[0].digest)).unwrap();
    assert_eq!(host.layers[0].annotations[oci::TITLE], LAYER_TITLE);
    let manifest = HostManifest::parse(blob(&files, host.config.digest)).unwrap();
    let (reference, digest) = manifest.images.first_key_value().unwrap();
    assert_eq!((refs[1], index.manifests[1].digest), (reference.as_str(), *digest));

    let image: Manifest = serde_json::from_slice(blob(&files, *digest)).unwrap();
    let expected = [
        index.manifests[0].digest,
        host.config.digest,
        index.manifests[2].digest,
        *digest,
        image.config.digest,
        host.layers[0].digest,
        image.layers[0].digest,
    ];
    let expected: Vec<String> =
        expected.iter().map(|digest| format!("blobs/sha256/{}", digest.hex())).collect();
    assert_eq!(names[3..], expected);
}

#[test]
fn the_host_layer_holds_exactly_the_files_of_the_manifest() {
    let root = tree();
    let files = unpacked(&written(&compiled(root.path(), &[host("arch-vps", true)])));
    let index: Index = serde_json::from_slice(&files[1].1).unwrap();
    let host: Manifest = serde_json::from_slice(blob(&files, index.manifests[0].digest)).unwrap();
    let manifest = HostManifest::parse(blob(&files, host.config.digest)).unwrap();
    let mut reader = Reader::new(MultiGzDecoder::new(blob(&files, host.layers[0].digest)));
    let mut found = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        assert_eq!(manifest.files[&entry.path].mode, entry.mode);
        found.push(entry.path);
    }
    assert!(found.iter().eq(manifest.files.keys()), "{found:?}");
    assert!(found.iter().any(|path| path.as_str() == "objects/docs/site/index.html"));
}

#[test]
fn the_same_input_gives_the_same_bytes_from_another_directory() {
    let (first, second) = (tree(), tree());
    let hosts = [host("arch-vps", true), host("mini-vps", false)];
    let bundle = written(&compiled(first.path(), &hosts));
    assert!(bundle == written(&compiled(second.path(), &hosts)));
    fs::write(second.path().join("site/index.html"), "other").unwrap();
    assert!(bundle != written(&compiled(second.path(), &hosts)));
}

#[test]
fn blobs_that_hosts_share_are_written_once() {
    let root = tree();
    let layout = compiled(root.path(), &[host("a", true), host("b", true)]);
    let files = unpacked(&written(&layout));
    let mut names: Vec<&String> = files.iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), files.len());
    assert_eq!(layout.hosts().len(), 2);
    let index: Index = serde_json::from_slice(&files[1].1).unwrap();
    assert_eq!(index.manifests.len(), 4);
}

#[test]
fn without_images_there_is_nothing_for_podman() {
    let root = tree();
    let files = unpacked(&written(&compiled(root.path(), &[host("mini-vps", false)])));
    assert!(files.iter().all(|(name, _)| name != "manifest.json"));
    assert_eq!(files.len(), 2 + 4);
}

#[test]
fn a_payload_that_changed_meanwhile_stops_the_build_before_the_first_byte() {
    let root = tree();
    let span = Span { file: source("x.star"), start: 0, end: 0 };
    let (payloads, _) =
        payload::find(root.path(), std::iter::once((source("site"), span)), &Known::default());
    payloads.0.values().flatten().for_each(|file| {
        file.hash().unwrap();
    });
    let lowered = lower(&host("a", false), &payloads, &BTreeMap::new()).unwrap();
    fs::write(root.path().join("site/index.html"), "other").unwrap();
    let error = assemble(&[(lowered, Images::new())], None, None).unwrap_err();
    assert!(format!("{error:#}").contains("index.html changed while it was read"), "{error:#}");
}

#[test]
fn a_layout_as_a_directory_is_the_archive_and_grows() {
    let (root, folder) = (tree(), tempfile::tempdir().unwrap());
    let directory = folder.path().join("new/layout");
    let inode =
        |path: &str| std::os::unix::fs::MetadataExt::ino(&fs::metadata(directory.join(path)).unwrap());
    let first = compiled(root.path(), &[host("a", true)]);
    first.write_directory(&directory, &Known::default()).unwrap();
    let blobs: Vec<(String, u64)> = unpacked(&written(&first))
        .into_iter()
        .map(|(path, bytes)| {
            assert!(fs::read(directory.join(&path)).unwrap() == bytes, "{path}");
            let inode = inode(&path);
            (path, inode)
        })
        .filter(|(path, _)| path.starts_with("blobs/"))
        .collect();
    fs::write(root.path().join("site/index.html"), "other").unwrap();
    fs::write(directory.join(&blobs[0].0), "cut short").unwrap();
    compiled(root.path(), &[host("a", true)]).write_directory(&directory, &Known::default()).unwrap();
    first.write_directory(&directory, &Known::default()).unwrap();
    for (path, before) in &blobs[1..] {
        assert_eq!(inode(path), *before, "{path} was written again");
    }
    for (path, bytes) in unpacked(&written(&first)) {
        assert!(fs::read(directory.join(&path)).unwrap() == bytes, "{path}");
    }
}
