//! Images that stand on others, and builds whose root is one: of packages of Debian, and of a registry.

use std::fs;

use serde_json::Value;

use crate::docs;
use crate::support::lab::{activate, host, lab};
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
    host.ok(&[
        "journalctl",
        "--unit",
        unit,
        "--output=cat",
        "--identifier",
        unit.trim_end_matches(".service"),
    ])
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
