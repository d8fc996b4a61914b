//! What `rickbuild` writes and publishes is read by the tools of others: on a host, in the versions that its Debian has.
//!
//! [`crate::tools`] and [`crate::images`] have skopeo, `podman load` and the umoci of this machine read bundles.

use rick::bundle::digest::Digest;
use serde_json::Value;

use crate::images::{self, FILES};
use crate::registry::{self, digest_of};
use crate::support::lab::{host, is_well, said};
use crate::support::registry::{Network, Registry};
use crate::support::source::Tree;
use crate::support::{Host, NEXT_SUITE, require_hosts, signing};

/// What is below a directory, in the words of [`FILES`].
const LIST: &str = r"find . -mindepth 1 -printf '%P %m %U:%G' \( -type l -printf ' -> %l' -o -true \) -printf '\n' | LC_ALL=C sort";

/// The image of the guide on a host: in a layout, `/root/bundle`, and in a registry.
struct Scene {
    host: Host,
    registry: Registry,
    tree: Tree,
    /// What `publish` said.
    said: String,
    /// The name of the image, and the digest of its manifest.
    image: String,
    digest: String,
}

impl Scene {
    fn set(compression: &str) -> Self {
        Self::set_on(host("lab"), compression)
    }

    fn set_on(host: Host, compression: &str) -> Self {
        let (tree, registry) = (images::guide(), Registry::start(Network::of(&host), "", ""));
        images::compress(&tree, compression);
        host.push(&tree.bundle("guide"), "/root/bundle.tar");
        host.sh("mkdir /root/bundle; tar -x -C /root/bundle -f /root/bundle.tar");
        let (to, home) = (format!("127.0.0.1:{}/fleet:stable", registry.port), tempfile::tempdir().unwrap());
        let arguments = ["publish", "guide", &to, "--insecure", "--sign-key", signing::key()];
        let output = registry::rickbuild(registry.network, &tree, home.path(), &arguments);
        assert!(output.status.success(), "{}", said(&output));
        let image = host.sh(
            r#"jq -r '.manifests[] | [.annotations["org.opencontainers.image.ref.name"], .digest] | select(.[0] | startswith("localhost/")) | join(" ")' /root/bundle/index.json"#,
        );
        let (image, digest) = image.split_once(' ').unwrap();
        Self {
            said: String::from_utf8(output.stdout).unwrap(),
            image: image.to_owned(),
            digest: digest.to_owned(),
            host,
            registry,
            tree,
        }
    }

    /// A name in the registry.
    fn at(&self, repository: &str, version: &str) -> String {
        format!("127.0.0.1:{}/{repository}{version}", self.registry.port)
    }

    /// The image in the registry.
    fn published(&self) -> String {
        self.at("fleet", &format!("@{}", self.digest))
    }

    #[track_caller]
    fn json(&self, command: &[&str]) -> Value {
        let said = self.host.ok(command);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{command:?}: {error}: {said}"))
    }

    #[track_caller]
    fn oras(&self, arguments: &[&str]) -> String {
        self.host.ok(&[&["oras"], arguments].concat())
    }
}

#[test]
fn buildah_finds_the_files_of_an_image_in_a_layout_and_in_a_registry() {
    require_hosts!();
    for compression in ["zstd", "gzip"] {
        let scene = Scene::set(compression);
        for from in [format!("oci:/root/bundle:{}", scene.image), format!("docker://{}", scene.published())] {
            let container = scene.host.ok(&["buildah", "from", "--quiet", "--tls-verify=false", &from]);
            let mounted = scene.host.sh(&format!("cd \"$(buildah mount {container})\"; {LIST}"));
            assert_eq!(mounted.lines().collect::<Vec<_>>(), FILES, "{compression}, {from}");
            let seen = scene.json(&["buildah", "inspect", &container]);
            assert_eq!(seen["FromImageDigest"], scene.digest);
            let config = &seen["OCIv1"]["config"];
            assert_eq!((&config["User"], &config["StopSignal"]), (&"pages".into(), &"SIGINT".into()));
            scene.host.sh("buildah rm --all; buildah rmi --all --force");
        }
    }
}

#[test]
fn podman_pulls_from_a_registry_what_was_published_and_runs_it() {
    require_hosts!();
    for compression in ["zstd", "gzip"] {
        let scene = Scene::set(compression);
        let runs = |name: &str| {
            let busybox = ["--network=none", "--entrypoint=/bin/busybox", name, "cat", "/srv/www/index.html"];
            // Its own user may not read what is for the group of the web server only.
            let run = [&["podman", "run", "--rm", "--pull=never", "--user=0:1000"], &busybox[..]].concat();
            assert_eq!(scene.host.ok(&run), "the first page", "{compression}, {name}");
        };
        let published = scene.published();
        scene.host.ok(&["podman", "pull", "--quiet", "--tls-verify=false", &published]);
        runs(&published);
        let kept = scene.json(&["podman", "image", "inspect", &published]);
        assert_eq!(kept[0]["Digest"], scene.digest);
        // The one image of a bundle, by hand and by its name.
        scene.host.sh("podman rmi --all --force; podman load --quiet --input /root/bundle.tar");
        runs(&scene.image);
    }
}

#[test]
fn oras_reads_and_copies_what_was_published() {
    require_hosts!();
    let scene = Scene::set("zstd");
    let (plain, stable) = ("--plain-http", scene.at("fleet", ":stable"));
    let [bundle, lab] = ["bundle", "host lab"].map(|what| digest_of(&scene.said, what).to_owned());

    // The whole, and of it a host: its files are a file.
    let whole = scene.oras(&["manifest", "fetch", plain, &stable]);
    assert_eq!(Digest::of(whole.as_bytes()).to_string(), bundle);
    let of_lab = scene.at("fleet", &format!("@{lab}"));
    scene.oras(&["pull", plain, "--output=/root/pulled", &of_lab]);
    assert_eq!(scene.host.ok(&["ls", "/root/pulled"]), "host.tar.gz");
    let files = scene.host.ok(&["tar", "-tzf", "/root/pulled/host.tar.gz"]);
    assert!(files.contains("quadlets/pages.container"), "{files}");
    // The archive itself is a layout to it, also without a registry.
    for (name, digest) in [("host-lab", &lab), ("bundle", &digest_in(&scene, "bundle"))] {
        let named = format!("/root/bundle.tar:{name}");
        let seen = scene.oras(&["manifest", "fetch", "--oci-layout", &named]);
        assert_eq!(&Digest::of(seen.as_bytes()).to_string(), digest);
    }

    // What is known of where both come from, and what it holds.
    let attached = |registry: &str, digest: &str| {
        let subject = scene.at(registry, &format!("@{digest}"));
        let seen = scene.json(&["oras", "discover", plain, "--format=json", &subject]);
        // oras 1.2 calls them so, and 1.3 otherwise.
        let all = seen.get("referrers").unwrap_or(&seen["manifests"]).as_array().unwrap().clone();
        let mut all: Vec<_> =
            all.iter().map(|one| [&one["artifactType"], &one["digest"]].map(text)).collect();
        all.sort();
        all
    };
    let both = attached("fleet", &bundle);
    let types: Vec<_> = both.iter().map(|[kind, _]| kind.as_str()).collect();
    assert_eq!(types, ["application/vnd.cyclonedx+json", "application/vnd.in-toto+json"]);
    assert_eq!(both[0][1], digest_of(&scene.said, "sbom"));
    assert_eq!(attached("fleet", &lab).len(), 2);
    let document = scene.at("fleet", &format!("@{}", both[1][1]));
    scene.oras(&["pull", plain, "--output=/root/document", &document]);
    let statement = scene.host.sh("cat /root/document/*");
    let statement: Value = serde_json::from_str(&statement).unwrap();
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");

    // All of it to a directory, from there to another place, and from there to a host.
    scene.oras(&[
        "copy",
        "--recursive",
        "--from-plain-http",
        "--to-oci-layout",
        &stable,
        "/root/copy:stable",
    ]);
    let mirror = scene.at("mirror", ":stable");
    scene.oras(&[
        "copy",
        "--recursive",
        "--from-oci-layout",
        "--to-plain-http",
        "/root/copy:stable",
        &mirror,
    ]);
    assert_eq!(attached("mirror", &bundle), both);
    assert_eq!(attached("mirror", &lab), attached("fleet", &lab));
    let from = format!("oci://{mirror}");
    scene.host.ok(&["rick-activate", "--insecure", "--settle=0", &from]);
    is_well(&scene.host);
    assert_eq!(scene.host.ok(&["podman", "ps", "--format={{.Names}}"]), "pages");
    let output = scene.tree.rickbuild(&["guide", "--output", "/dev/null"]);
    assert!(said(&output).contains(&lab), "the digest of a host survives it all");
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The digest that a name has in the layout.
fn digest_in(scene: &Scene, name: &str) -> String {
    scene.host.sh(&format!(
        r#"jq -r '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == "{name}").digest' /root/bundle/index.json"#
    ))
}

/// Debian 13 has a umoci that reads gzip alone; [`crate::images`] has it read that.
#[test]
fn the_umoci_of_the_next_debian_unpacks_zstd_too() {
    require_hosts!(NEXT_SUITE);
    for compression in ["zstd", "gzip"] {
        let scene = Scene::set_on(Host::boot_suite(NEXT_SUITE, "lab"), compression);
        // It knows images by plain tags only.
        let rename = format!("sed -i 's,{},pages,' /root/bundle/index.json", scene.image);
        let unpack = "umoci unpack --image /root/bundle:pages /root/unpacked >&2";
        let unpacked = scene.host.sh(&format!("{rename}; {unpack}; cd /root/unpacked/rootfs; {LIST}"));
        assert_eq!(unpacked.lines().collect::<Vec<_>>(), FILES, "{compression}");
    }
}
