//! Stand-ins for images that cannot be had where no registry is: each checks its surroundings as strictly as the real program would need
//! them, and answers like it where tests look. `tests/standin/` is their program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::Host;
use super::source::{self, Tree};

/// The module that builds their images.
const MODULE: &str = r#""""Images that stand in for the real ones."""

def _build(ctx):
    # Podman adds the user that a container runs as, if there is a file to add it to.
    shell = {"/etc/passwd": "passwd"} | {"/bin/" + name: "busybox" for name in ["sh", "cat", "cp", "id", "mv", "sleep"]}
    # Each program behind a shell that hears the signal to end: process 1 of a container has to say that it does.
    programs = lambda *paths: shell | {path: "run" for path in paths} | {"/standin/" + path.split("/")[-1]: "standin" for path in paths}
    return [
        image("authentik", layers = programs("/usr/bin/ak"), entrypoint = ["/usr/bin/ak"]),
        image(
            "nextcloud",
            layers = programs("/entrypoint.sh", "/usr/local/bin/php", "/usr/bin/curl"),
            entrypoint = ["/entrypoint.sh"],
            command = ["apache2-foreground"],
        ),
        image("gitea", layers = programs("/app/gitea/gitea"), entrypoint = ["/app/gitea/gitea"]),
    ]

standins = module(doc = "Stand-ins.", build = _build)
"#;

/// What stands in the images under the names of the real programs.
const RUN: &str = r#"#!/bin/sh
"/standin/${0##*/}" "$@" &
program=$!
trap 'kill "$program"; wait "$program"; exit 0' TERM
wait "$program"
"#;

/// The homelab as it stands in the repository, but for what needs the internet: certificates of the host's own authority, and
/// stand-ins for the images of authentik, Nextcloud and Gitea.
pub(crate) fn homelab() -> Tree {
    let tree = source::whole();
    lay(&tree);
    let file = "environments/homelab.star";
    tree.edit(
        file,
        "load(\"//modules/static_site\"",
        "load(\"//modules/standins\", \"standins\")\nload(\"//modules/static_site\"",
    );
    tree.edit(
        file,
        "caddy(email = \"admin@jnss.me\")",
        "caddy(email = \"admin@jnss.me\", tls = \"internal\"),\n            standins()",
    );
    for name in ["authentik", "nextcloud", "gitea"] {
        tree.edit(
            file,
            &format!("            {name}("),
            &format!("            {name}(image = \"localhost/{name}\", "),
        );
    }
    tree
}

/// Lays the module of the stand-ins into a tree.
pub(crate) fn lay(tree: &Tree) {
    tree.write("modules/standins/standins.star", MODULE);
    let folder = tree.path().join("modules/standins");
    let put = |from: &Path, name: &str| {
        let to = folder.join(name);
        fs::copy(from, &to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("the tree is ours");
    };
    tree.write("modules/standins/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    tree.write("modules/standins/run", RUN);
    fs::set_permissions(folder.join("run"), fs::Permissions::from_mode(0o755)).expect("the tree is ours");
    put(program(), "standin");
    put(Path::new("/bin/busybox"), "busybox");
}

/// The stand-ins' program, built once for each run of the tests.
fn program() -> &'static PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/standin/standin.rs");
        let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("standin-{}", std::process::id()));
        let output = Command::new("rustc")
            .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "panic=abort"])
            .args(["-C", "strip=symbols", "--target", "x86_64-unknown-linux-gnu", "-o"])
            .arg(&built)
            .arg(source)
            .output()
            .expect("rustc runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        built
    })
}

/// Makes the secrets that a refused activation names, with the very script that it advises.
pub(crate) fn make_secrets(host: &Host, bundle: &str) {
    let refused = host.run(&["rick-activate", bundle]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("this host lacks the secret"), "{said}");
    let script: String = said
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .map(|line| line.to_owned() + "\n")
        .collect();
    assert!(script.contains("systemd-creds encrypt"), "{said}");
    host.sh(&script);
}
