//! The real Miniflux, as an image that rick builds: the program is Debian's, because no registry of images can be reached.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::source::Tree;

/// The root of the file system that `ci/miniflux` keeps. Ends the calling test, as skipped, if there is none: see [`super::require_hosts`].
macro_rules! require_miniflux {
    () => {{
        fn here() {}
        match $crate::support::miniflux::find(std::any::type_name_of_val(&here)) {
            Some(root) => root,
            None => return,
        }
    }};
}
pub(crate) use require_miniflux;

/// Behind [`require_miniflux`]: `here` is the path of a function inside the test.
pub(crate) fn find(here: &str) -> Option<PathBuf> {
    super::kept("miniflux", &[])
        .map_err(|advice| super::skip(here, &format!("no Miniflux is kept: {advice}")))
        .ok()
}

/// The module that builds the image, which starts as Miniflux's own does: by a command, and with an address that must be overridden.
const MODULE: &str = r#""""The real Miniflux."""

def _build(ctx):
    return [image(
        "miniflux",
        layers = {"/" + part: "root/" + part for part in ["etc", "lib64", "usr"]},
        command = ["/usr/bin/miniflux"],
        environment = {"LISTEN_ADDR": "0.0.0.0:8080"},
    )]

miniflux_image = module(doc = "The real Miniflux.", build = _build)
"#;

/// Lays the module `//contrib/miniflux_image` into a tree; the image is `localhost/miniflux`.
pub(crate) fn lay(tree: &Tree, root: &Path) {
    tree.write("contrib/miniflux_image/miniflux_image.star", MODULE);
    let target = tree.path().join("contrib/miniflux_image/root");
    let status = Command::new("cp").arg("-a").arg(root).arg(target).status().expect("cp runs");
    assert!(status.success(), "cannot copy {}", root.display());
}
