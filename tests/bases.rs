//! Images that stand on others, and builds whose root is one: of packages of Debian, and of a registry.

use std::fs;
use std::path::Path;
use std::process::Command;

use rick::bundle::digest::Digest;
use serde_json::Value;
use tempfile::TempDir;

use crate::docs;
use crate::support::hub::Hub;
use crate::support::lab::{activate, again, host, lab, logged, push, said};
use crate::support::registry::{Network, Registry};
use crate::support::source::{self, Tree};
use crate::support::{Host, require_hosts};

/// A container that runs once.
fn once(name: &str) -> String {
    format!(
        "        quadlet(\"{name}.container\", {{\"Container\": {{\"Image\": \"localhost/{name}\", \"User\": \"1\", \"Network\": \"none\"}}, \
         \"Service\": {{\"Type\": \"oneshot\", \"RemainAfterExit\": True}}, \"Install\": {{\"WantedBy\": \"multi-user.target\"}}}}),\n"
    )
}

fn said_by(host: &Host, unit: &str) -> String {
    logged(host, &["--unit", unit, "--identifier", unit.trim_end_matches(".service")])
}

/// The module that the guide to builds shows, in an environment of one host.
#[test]
fn the_program_of_the_guide_is_compiled_and_runs() {
    require_hosts!();
    let mut tree = source::empty();
    let module = docs::block("docs/builds.md", "python");
    let (image, rest) = module.split_once("    return [image(").unwrap();
    let (image_arguments, rest) = rest.split_once(")]\n").unwrap();
    tree.write(
        "modules/hello/hello.star",
        &format!("{image}    return [image({image_arguments}),\n{}    ]\n{rest}", once("hello")),
    );
    tree.write(
        "environments/guide.star",
        "load(\"//modules/hello\", \"hello\")\n\
         environment(name = \"guide\", hosts = [host(name = \"lab\", domain = \"lab.test\", os = \"debian-13\", services = [hello()])])\n",
    );
    tree.write(
        "modules/hello/src/hello.c",
        "#include <stdio.h>\nint main(void) { puts(\"compiled by \" __VERSION__ \" on \" __DATE__); }\n",
    );
    tree.lock(&[]);
    let host = host("lab");
    activate(&host, &tree, "guide");
    let said = said_by(&host, "hello.service");
    assert!(said.contains("compiled by 14.") && said.contains("on Jan  1 1980"), "{said}");
}

/// What the one image of a bundle has as layers, and its configuration.
fn image_of(tree: &Tree, environment: &str, name: &str) -> (Vec<String>, Value) {
    let folder = tempfile::tempdir().unwrap();
    let layout = folder.path().join("layout");
    let output = tree.rickbuild(&[environment, "--layout", layout.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json =
        |path: &str| -> Value { serde_json::from_slice(&fs::read(layout.join(path)).unwrap()).unwrap() };
    let blob = |digest: &Value| json(&format!("blobs/{}", digest.as_str().unwrap().replace(':', "/")));
    let index = json("index.json");
    let mut entries = index["manifests"].as_array().unwrap().iter();
    let of = |entry: &&Value| {
        entry["annotations"]["org.opencontainers.image.ref.name"]
            .as_str()
            .unwrap()
            .starts_with(&format!("localhost/{name}:"))
    };
    let manifest = blob(&entries.find(of).unwrap()["digest"]);
    let layers = manifest["layers"].as_array().unwrap().iter();
    (
        layers.map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect(),
        blob(&manifest["config"]["digest"]),
    )
}

#[test]
fn packages_of_debian_are_layers_of_their_own_and_run() {
    require_hosts!();
    let image = |text: &str| {
        format!(
            "        image(\"greets\", base = debian(\"trixie\", [\"hello\", \"libcap2-bin\"]), layers = {{\n\
             \"/etc/greeting\": written(\"{text}\"),\n\
             \"/usr/share/doc-of-hello\": copied(path_in(debian(\"trixie\", [\"hello\", \"libcap2-bin\"]), \"/usr/share/doc/hello\"), exclude = [\"NEWS*\"]),\n\
             }}, entrypoint = [\"/usr/bin/hello\", \"--greeting\", \"from a package\"]),\n{}",
            once("greets")
        )
    };
    let mut tree = lab(&image("hi"));
    tree.lock(&[]);
    let (before, config) = image_of(&tree, "lab", "greets");
    assert!(before.len() > 5, "{before:?}");
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), before.len());
    crate::support::lab::describe(&tree, &image("hello"));
    let (after, _) = image_of(&tree, "lab", "greets");
    let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert_eq!((before.len(), changed), (after.len(), 1));

    let host = host("lab");
    activate(&host, &tree, "lab");
    assert_eq!(said_by(&host, "greets.service"), "from a package");
    let reference = host.ok(&["podman", "images", "--format", "{{.Repository}}:{{.Tag}}"]);
    let inside = |script: &str| {
        host.ok(&[
            "podman",
            "run",
            "--rm",
            "--network=none",
            "--entrypoint=/usr/bin/mawk",
            reference.trim(),
            script,
        ])
    };
    assert_eq!(inside("BEGIN { getline < \"/etc/greeting\"; print }"), "hello");
    // What packages say of modes and links is so in the container.
    let mounted = host.sh(&format!(
        "cd $(podman image mount {0}); stat -c '%n %a %u:%g %N' bin tmp var/local root usr/bin/hello etc/greeting; ls usr/share/doc-of-hello | head -n 3",
        reference.trim()
    ));
    for line in [
        "bin 777 0:0 'bin' -> 'usr/bin'",
        "tmp 1777 0:0",
        "root 700 0:0",
        "usr/bin/hello 755 0:0",
        "copyright",
    ] {
        assert!(mounted.contains(line), "{line}: {mounted}");
    }
    assert!(!mounted.contains("NEWS"), "{mounted}");
}

/// An image in a registry as another tool makes it: umoci writes layers that hide files, replace directories and name a file twice.
fn push_an_image(registry: &Hub, format: &str) -> TempDir {
    let folder = make_an_image();
    let mut copy = Command::new("skopeo");
    copy.args(["copy", "--quiet", "--dest-tls-verify=false", "--format", format]);
    copy.arg(format!("oci:{}:it", folder.path().join("layout").display()));
    succeed(copy.arg(format!("docker://{}/it:1", registry.host())));
    folder
}

fn make_an_image() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |path: &str| folder.path().join(path).display().to_string();
    let (image, root) = (at("layout") + ":it", folder.path().join("bundle/rootfs"));
    let umoci = |arguments: &[&str]| succeed(Command::new("umoci").args(arguments));
    umoci(&["init", "--layout", &at("layout")]);
    umoci(&["new", "--image", &image]);
    umoci(&["unpack", "--image", &image, &at("bundle")]);
    let sh = |script: &str| succeed(Command::new("sh").args(["-euc", script]).current_dir(&root));
    sh("mkdir -p bin usr/share/gone usr/share/kept usr/share/emptied etc var/tmp; cp /bin/busybox bin/busybox; ln -s busybox bin/sh
        chmod 1777 var/tmp; chmod 4755 bin/busybox; echo 1 >usr/share/gone/a; echo 2 >usr/share/kept/b; echo 3 >usr/share/emptied/c
        ln usr/share/kept/b usr/share/kept/again; ln -s usr/share/kept kept; echo 'www:x:33:33::/:/bin/sh' >etc/passwd; echo old >etc/changed
        d=deep/$(printf 'x%.0s' $(seq 90))/$(printf 'y%.0s' $(seq 90)); mkdir -p $d; echo far >$d/file; chown -R 33:33 usr/share/kept");
    umoci(&["repack", "--refresh-bundle", "--image", &image, &at("bundle")]);
    sh(
        "rm -r usr/share/gone usr/share/emptied; mkdir usr/share/emptied; echo 4 >usr/share/emptied/d; rm etc/changed; mkdir etc/changed; echo new >etc/changed/e",
    );
    umoci(&["repack", "--image", &image, &at("bundle")]);
    umoci(&[
        "config",
        "--image",
        &image,
        "--config.user",
        "33",
        "--config.env",
        "BELOW=1",
        "--config.entrypoint",
        "/bin/busybox",
        "--config.cmd",
        "true",
    ]);
    fs::remove_dir_all(folder.path().join("bundle")).unwrap();
    umoci(&["unpack", "--image", &image, &at("bundle")]);
    folder
}

#[track_caller]
fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}: run ci/setup"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Everything in a file system but what a sandbox has of its own: kind, size, whether it may be executed, where it leads.
const LIST: &str = "/bin/busybox find . -mindepth 1 ! -path './proc*' ! -path './dev*' ! -path './build*' ! -path './tmp*' ! -path './out*' ! -path './list*' \
    -exec /bin/busybox sh -c 'for f; do if [ -h \"$f\" ]; then echo \"$f -> $(/bin/busybox readlink \"$f\")\"; elif [ -d \"$f\" ]; then echo \"$f/\"; else \
    [ -x \"$f\" ] && x=x || x=; echo \"$f $x $(/bin/busybox md5sum <\"$f\")\"; fi; done' sh {} + | /bin/busybox sort";

#[test]
fn images_of_registries_are_bases_roots_and_sources() {
    require_hosts!();
    let host = host("lab");
    for format in ["oci", "v2s2"] {
        let registry = Hub::start();
        let made = push_an_image(&registry, format);
        let reference = format!("{}/it:1", registry.host());
        let items = format!(
            "        image(\"stands\", base = upstream(\"{reference}\"), layers = {{\n\
             \"/own\": written(\"mine\"),\n\
             \"/copy\": path_in(upstream(\"{reference}\"), \"/kept\"),\n\
             \"/one\": path_in(upstream(\"{reference}\"), \"/kept/again\"),\n\
             \"/list\": build(\"list\", root = upstream(\"{reference}\"), inputs = {{\"/list\": \"list\"}}, \
             command = [\"sh\", \"-euc\", \"cd /; . /list >/out/list\"], outputs = [\"list\"]).outputs[\"list\"],\n\
             }}, command = [\"cat\", \"/own\", \"/copy/b\", \"/one\", \"/etc/changed/e\"]),\n{}",
            once("stands").replace("\"User\": \"1\", ", "")
        );
        let mut tree = lab(&items);
        tree.write("modules/lab/list", LIST);
        tree.lock(&["--insecure-registry", &registry.host()]);
        drop(registry);
        // What we see in the image is what umoci sees.
        activate(&host, &tree, "lab");
        let name = host.ok(&["sh", "-c", "podman images --format '{{.Repository}}:{{.Tag}}' | head -n 1"]);
        let inside = |script: &str| {
            let run = ["podman", "run", "--rm", "--network=none", "--user=0", "--entrypoint=/bin/sh"];
            host.ok(&[&run[..], &[&name, "-c", script]].concat())
        };
        let theirs = Command::new("sh")
            .args(["-c", LIST])
            .current_dir(made.path().join("bundle/rootfs"))
            .output()
            .unwrap();
        let theirs = String::from_utf8(theirs.stdout).unwrap();
        assert_eq!(inside("/bin/busybox cat /list"), theirs.trim_end());
        assert!(
            theirs.contains("./etc/changed/e") && theirs.contains("/file ") && !theirs.contains("gone"),
            "{theirs}"
        );
        let said = said_by(&host, "stands.service");
        assert!(
            said.ends_with("mine2\n2\nnew"),
            "the entrypoint of the one below, with our arguments: {said}"
        );
        // The layers themselves are what the registry has: owners and modes of the container are those of the image.
        assert_eq!(
            inside("/bin/busybox stat -c '%a %u:%g' /bin/busybox /kept/b /var/tmp /copy/b"),
            "4755 0:0\n644 33:33\n1777 0:0\n644 0:0"
        );
        assert_eq!(inside("echo $BELOW"), "1");
        let config: Value = serde_json::from_str(&host.ok(&["podman", "image", "inspect", &name])).unwrap();
        assert_eq!(
            (&config[0]["Config"]["User"], config[0]["RootFS"]["Layers"].as_array().unwrap().len()),
            (&Value::from("33"), 6)
        );
        host.ok(&["rick-activate", "rollback", "0"]);
        host.sh("podman rmi --all --force >/dev/null");
    }
}

/// The image in an index beside none other, as registries have it for many processors; the index' digest.
fn push_an_index(network: Network, port: u16) -> String {
    let made = make_an_image();
    let layout = made.path().join("layout");
    let mut index: Value = serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let mut entry = index["manifests"][0].clone();
    entry["platform"] = serde_json::json!({"os": "linux", "architecture": "amd64"});
    entry.as_object_mut().unwrap().remove("annotations");
    let media_type = "application/vnd.oci.image.index.v1+json";
    let all =
        serde_json::json!({"schemaVersion": 2, "mediaType": media_type, "manifests": [entry]}).to_string();
    let digest = Digest::of(all.as_bytes());
    fs::write(layout.join("blobs/sha256").join(digest.hex()), &all).unwrap();
    index["manifests"] = serde_json::json!([{"mediaType": media_type, "digest": digest.to_string(), "size": all.len(),
        "annotations": {"org.opencontainers.image.ref.name": "all"}}]);
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    let mut skopeo = network.command(Path::new("skopeo"));
    skopeo.args(["copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false"]);
    skopeo.arg(format!("oci:{}:all", layout.display()));
    succeed(skopeo.arg(format!("docker://127.0.0.1:{port}/it:1")));
    digest.to_string()
}

/// What containers run of registries is there before anything stops; if it cannot be had, nothing is changed.
#[test]
fn images_of_registries_are_pulled_before_a_switch() {
    require_hosts!();
    let host = host("lab");
    let mut registry = Registry::start(Network::of(&host), "", "");
    let port = registry.port;
    let digest = push_an_index(Network::of(&host), port);
    let trusted = format!("[[registry]]\nlocation = \"127.0.0.1:{port}\"\ninsecure = true\n");
    host.sh("mkdir -p /etc/containers/registries.conf.d");
    host.write("/etc/containers/registries.conf.d/test.conf", trusted);
    let runs = |image: &str| {
        format!(
            "        quadlet(\"runs.container\", {{\"Container\": {{\"Image\": \"{image}\", \"User\": \"33\", \"Network\": \"none\", \"Exec\": \"sleep 1000\"}}, \
             \"Install\": {{\"WantedBy\": \"multi-user.target\"}}}}),\n"
        )
    };
    let tree = lab(&runs(&format!("127.0.0.1:{port}/it:1")));
    tree.write("rick.lock", &format!("version = 1\n\n[images]\n\"127.0.0.1:{port}/it:1\" = \"{digest}\"\n"));

    // The registry is down: refused, and the host is as it was.
    registry.stop();
    push(&host, &tree, "lab");
    let refused = host.run(&["rick-activate", "--settle=0", "/root/bundle.tar"]);
    let text = said(&refused);
    assert_eq!(refused.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("podman cannot pull `127.0.0.1:{port}/it@{digest}`")), "{text}");
    assert!(!host.run(&["test", "-e", "/var/lib/rick/current"]).status.success(), "{text}");

    registry.go_on();
    let dry = host.ok(&["rick-activate", "/root/bundle.tar", "--dry-run"]);
    assert!(dry.contains(&format!("would pull 127.0.0.1:{port}/it@{digest}")), "{dry}");
    let text = activate(&host, &tree, "lab");
    let line = |begin: &str| {
        text.lines().position(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{text}"))
    };
    assert!(line("pull") < line("commit"), "{text}");
    assert_eq!(host.property("runs.service", "ActiveState"), "active");
    // It is there now, whoever is asked.
    registry.stop();
    assert!(again(&host).contains("nothing to do"));
    host.sh("systemctl stop runs.service; podman rm --force --all; systemctl start runs.service");
    host.sh("systemctl stop runs.service; podman rmi --force --all");
    let status = said(&host.run(&["rick-activate", "status"]));
    assert!(status.contains(&format!("podman lacks the image 127.0.0.1:{port}/it@{digest}")), "{status}");
}

/// With `registry_images = "embedded"` a host needs no registry: what containers run comes in the bundle.
#[test]
fn images_of_registries_can_come_in_the_bundle() {
    require_hosts!();
    let host = host("lab");
    for format in ["oci", "v2s2"] {
        let hub = Hub::start();
        let _made = push_an_image(&hub, format);
        let image = format!("{}/it:1", hub.host());
        let container = format!(
            "{{\"Image\": \"{image}\", \"Network\": \"none\", \"User\": \"33\", \"Exec\": \"cat /etc/changed/e\"}}"
        );
        let mut tree = lab(&format!(
            "        quadlet(\"once.container\", {{\"Container\": {container}, \
             \"Service\": {{\"Type\": \"oneshot\", \"RemainAfterExit\": True}}, \"Install\": {{\"WantedBy\": \"multi-user.target\"}}}}),\n"
        ));
        tree.edit(
            "environments/lab.star",
            "environment(name = \"lab\"",
            "environment(registry_images = \"embedded\", name = \"lab\"",
        );
        tree.lock(&["--insecure-registry", &hub.host()]);
        drop(hub);
        let text = activate(&host, &tree, "lab");
        assert!(text.lines().any(|line| line.starts_with("load")) && !text.contains("pull "), "{text}");
        assert!(said_by(&host, "once.service").ends_with("new"));
        assert!(again(&host).contains("nothing to do"));
        let shown = String::from_utf8(tree.rickbuild(&["show", "lab"]).stdout).unwrap();
        let name = image.trim_end_matches(":1");
        assert!(shown.contains(&format!("Image={name}@sha256:")) && shown.contains("Pull=never"), "{shown}");
        host.ok(&["rick-activate", "rollback", "0"]);
        host.sh("podman rmi --all --force >/dev/null");
    }
}
