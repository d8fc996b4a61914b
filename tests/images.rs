//! What a module says of an image is what real tools see of it: umoci and skopeo in the bundle, Podman on a host.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::docs;
use crate::support::lab::{activate, host, is_well, wait_for};
use crate::support::source::{self, Tree};
use crate::support::{require_hosts, require_root};

/// What the image of the guide holds: path, mode, owner, and where a link leads.
pub(crate) const FILES: [&str; 15] = [
    "bin 777 0:0 -> usr/bin",
    "data 750 1000:1000",
    "data/notes 600 1000:1000",
    "etc 755 0:0",
    "etc/group 644 0:0",
    "etc/passwd 644 0:0",
    "srv 755 0:0",
    "srv/www 755 0:1000",
    "srv/www/cgi-bin 755 0:1000",
    "srv/www/cgi-bin/now 750 0:1000",
    "srv/www/index.html 640 0:1000",
    "tmp 1777 0:0",
    "usr 755 0:0",
    "usr/bin 755 0:0",
    "usr/bin/busybox 755 0:0",
];

/// The module that the guide shows, in an environment of one host, with the files that it wants.
pub(crate) fn guide() -> Tree {
    let tree = source::empty();
    tree.write("modules/pages/pages.star", &docs::block("docs/images.md", "python"));
    tree.write(
        "environments/guide.star",
        "load(\"//modules/pages\", \"pages\")\n\
         environment(name = \"guide\", hosts = [host(name = \"lab\", domain = \"lab.test\", os = \"debian-13\", services = [pages()])])\n",
    );
    let files = [
        ("index.html", "the first page"),
        ("README.md", "about the pages"),
        ("drafts/next.html", "not yet"),
        ("cgi-bin/now", "#!/bin/busybox sh\necho; echo now\n"),
    ];
    for (file, text) in files {
        tree.write(&format!("modules/pages/www/{file}"), text);
    }
    fs::copy("/bin/busybox", tree.path().join("modules/pages/busybox")).unwrap();
    tree
}

/// Has the layers of the guide's image compressed in a way.
pub(crate) fn compress(tree: &Tree, compression: &str) {
    let module = "modules/pages/pages.star";
    let said = format!("        compression = \"{compression}\",\n        layers = {{");
    tree.edit(module, "        layers = {", &said);
}

/// The bundle as an OCI layout, and the name of its one image.
fn layout(tree: &Tree) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let bundle = tree.bundle("guide");
    ok(Command::new("tar").arg("-x").arg("-C").arg(folder.path()).arg("-f").arg(bundle));
    let index: Value = json_file(&folder.path().join("index.json"));
    let names = index["manifests"].as_array().unwrap().iter();
    let mut names =
        names.map(|entry| entry["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap());
    let name = names.find(|name| name.starts_with("localhost/pages:")).unwrap().to_owned();
    (folder, name)
}

fn json_file(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[track_caller]
fn ok(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: run ci/setup"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whom umoci, a reader of layers that shares nothing with Podman, makes the files belong to.
#[test]
fn umoci_unpacks_what_the_module_says() {
    require_root!();
    let tree = guide();
    // The one that Debian has reads no zstd.
    compress(&tree, "gzip");
    let (layout, name) = layout(&tree);
    // umoci knows a layout's images by plain tags only.
    let index = layout.path().join("index.json");
    fs::write(&index, fs::read_to_string(&index).unwrap().replace(&name, "pages")).unwrap();
    let image = format!("{}:pages", layout.path().display());
    let unpacked = layout.path().join("unpacked");
    ok(Command::new("umoci").args(["unpack", "--image", &image]).arg(&unpacked));
    let root = unpacked.join("rootfs");
    let mut seen: Vec<String> = walkdir::WalkDir::new(&root)
        .min_depth(1)
        .sort_by_file_name()
        .into_iter()
        .map(|entry| {
            let entry = entry.unwrap();
            let found = entry.path().symlink_metadata().unwrap();
            let path = entry.path().strip_prefix(&root).unwrap().display().to_string();
            let mode = found.permissions().mode() & 0o7777;
            let link =
                fs::read_link(entry.path()).map(|to| format!(" -> {}", to.display())).unwrap_or_default();
            format!("{path} {mode:o} {}:{}{link}", found.uid(), found.gid())
        })
        .collect();
    seen.sort();
    assert_eq!(seen, FILES);
    // What it makes for a runtime of containers.
    let config = json_file(&unpacked.join("config.json"));
    assert_eq!(config["process"]["user"]["uid"], 1000);
    assert_eq!(config["process"]["cwd"], "/data");
    assert_eq!(config["process"]["args"][1], "httpd");
}

#[test]
fn a_changed_page_is_one_changed_layer() {
    let tree = guide();
    let layers = |tree: &Tree| {
        let (layout, name) = layout(tree);
        let blob = |digest: &Value| {
            let digest = digest.as_str().unwrap().replace(':', "/");
            json_file(&layout.path().join("blobs").join(digest))
        };
        let index = json_file(&layout.path().join("index.json"));
        let mut entries = index["manifests"].as_array().unwrap().iter();
        let entry =
            entries.find(|entry| entry["annotations"]["org.opencontainers.image.ref.name"] == name.as_str());
        let manifest = blob(&entry.unwrap()["digest"]);
        let digests = manifest["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].clone());
        digests.collect::<Vec<_>>()
    };
    let before = layers(&tree);
    tree.write("modules/pages/www/index.html", "the second page");
    // Neither is taken.
    tree.write("modules/pages/www/README.md", "more about the pages");
    tree.write("modules/pages/www/drafts/next.html", "nearly");
    let after = layers(&tree);
    assert_eq!((before.len(), &before[..7]), (8, &after[..7]));
    assert_ne!(before[7], after[7]);
}

#[test]
fn podman_runs_what_the_module_says() {
    require_hosts!();
    let host = host("lab");
    let tree = guide();
    activate(&host, &tree, "guide");
    is_well(&host);
    let inside =
        |command: &[&str]| host.ok(&[&["podman", "exec", "pages", "/bin/busybox"], command].concat());
    let page = ["podman", "exec", "pages", "/bin/busybox", "wget", "-qO-", "http://127.0.0.1:8080/"];
    wait_for("the web server", || host.run(&page).status.success());
    assert_eq!(host.ok(&page), "the first page");
    assert_eq!(inside(&["wget", "-qO-", "http://127.0.0.1:8080/cgi-bin/now"]), "now");
    assert_eq!((inside(&["id", "-un"]), inside(&["id", "-g"])), ("pages".to_owned(), "1000".to_owned()));
    assert_eq!(inside(&["pwd"]), "/data");
    assert_eq!(
        inside(&["stat", "-c", "%n %a %u:%g", "/data", "/data/notes", "/tmp", "/srv/www/index.html"]),
        "/data 750 1000:1000\n/data/notes 600 1000:1000\n/tmp 1777 0:0\n/srv/www/index.html 640 0:1000"
    );
    assert_eq!(inside(&["readlink", "/bin"]), "usr/bin");

    let reference = host.ok(&["podman", "images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let seen: Value =
        serde_json::from_str(&host.ok(&["podman", "image", "inspect", reference.trim()])).unwrap();
    let config = &seen[0]["Config"];
    assert_eq!(config["User"], "pages");
    assert_eq!(config["ExposedPorts"], json!({"8080/tcp": {}}));
    assert_eq!(config["Volumes"], json!({"/data": {}}));
    assert_eq!(config["Labels"], json!({"com.example.kind": "web"}));
    assert_eq!(config["StopSignal"], "SIGINT");
    assert_eq!(config["WorkingDir"], "/data");
    assert_eq!(seen[0]["Annotations"]["org.opencontainers.image.title"], "Pages");
    assert_eq!(seen[0]["RootFS"]["Layers"].as_array().unwrap().len(), 8);
    let container: Value = serde_json::from_str(&host.ok(&["podman", "inspect", "pages"])).unwrap();
    assert_eq!(container[0]["Config"]["StopSignal"], "SIGINT");
    host.ok(&["systemctl", "stop", "pages.service"]);
    assert_eq!(host.property("pages.service", "Result"), "success");
    assert_eq!(host.property("pages.service", "ExecMainStatus"), "130", "it was SIGINT that ended it");

    let (_, name) = layout(&tree);
    host.sh("mkdir /root/bundle && tar -x -C /root/bundle -f /root/bundle.tar");
    let config = host.ok(&["skopeo", "inspect", "--config", &format!("oci:/root/bundle:{name}")]);
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(
        (&config["config"]["User"], &config["config"]["StopSignal"]),
        (&json!("pages"), &json!("SIGINT"))
    );
    assert_eq!(config["architecture"], "amd64");

    // By hand, as `podman load` reads it.
    host.sh("podman rmi --all --force && podman load --quiet --input /root/bundle.tar");
    let run =
        ["podman", "run", "--rm", "--network", "none", "--entrypoint", "/bin/busybox", &name, "id", "-un"];
    assert_eq!(host.ok(&run), "pages");
}

/// Why `image` takes no health check. If Podman reads one some day, the guide is to be changed.
#[test]
fn podman_reads_no_health_check_from_an_image_of_the_oci() {
    require_hosts!();
    let host = host("lab");
    host.push(&guide().bundle("guide"), "/root/bundle.tar");
    let script = r#"
        mkdir /root/bundle; tar -x -C /root/bundle -f /root/bundle.tar; cd /root/bundle
        blob() { echo "blobs/sha256/${1#sha256:}"; }
        name=$(jq -r '.manifests[].annotations["org.opencontainers.image.ref.name"] | select(startswith("localhost/"))' index.json)
        old=$(jq -r --arg name "$name" '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == $name).digest' index.json)
        add() { digest=$(sha256sum < /root/new | cut -d' ' -f1); size=$(stat -c %s /root/new); cp /root/new "blobs/sha256/$digest"; }
        config=$(jq -r .config.digest "$(blob "$old")")
        jq -c '.config.Healthcheck = {"Test": ["CMD", "/bin/busybox", "true"], "Interval": 1000000000}' "$(blob "$config")" > /root/new; add
        jq -c --arg digest "sha256:$digest" --argjson size "$size" '.config.digest = $digest | .config.size = $size' "$(blob "$old")" > /root/new; add
        jq -c --arg digest "sha256:$digest" --argjson size "$size" \
            '{schemaVersion: 2, manifests: [{mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $digest, size: $size, annotations: {"org.opencontainers.image.ref.name": "healthy"}}]}' \
            <<< null > index.json
        skopeo copy --quiet oci:/root/bundle:healthy containers-storage:localhost/healthy:1
        podman image inspect localhost/healthy:1"#;
    let seen: Value = serde_json::from_str(&host.sh(script)).unwrap();
    assert!(seen[0].get("Healthcheck").is_none() && seen[0]["Config"].get("Healthcheck").is_none(), "{seen}");
    host.ok(&["podman", "create", "--name", "healthy", "--network", "none", "localhost/healthy:1"]);
    let made: Value = serde_json::from_str(&host.ok(&["podman", "inspect", "healthy"])).unwrap();
    assert!(made[0]["Config"].get("Healthcheck").is_none(), "{made}");
}
