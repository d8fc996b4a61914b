//! Source trees for tests: copies of the project's own, to change at will.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// Copies a file or a folder as it is, links included.
pub(crate) fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(status.success(), "cannot copy {} to {}", from.display(), to.display());
}

/// A new tree that holds the project's modules and nothing else.
pub(crate) fn modules() -> TempDir {
    let tree = tempfile::tempdir().expect("a temporary directory");
    copy(&project("modules"), tree.path());
    tree
}

/// A new tree that holds the project's modules and environments.
pub(crate) fn whole() -> TempDir {
    let tree = modules();
    copy(&project("environments"), tree.path());
    tree
}

fn project(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
