//! Source trees for tests: copies of the project's own, to change at will.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

/// A source tree that is the test's alone.
pub(crate) struct Tree {
    dir: TempDir,
    /// Where builds find what was fetched for them, and leave what they made; nowhere if nothing is built.
    cache: Option<PathBuf>,
}

/// A new tree that holds nothing.
pub(crate) fn empty() -> Tree {
    Tree { dir: tempfile::tempdir().expect("a temporary directory"), cache: None }
}

/// A new tree that holds the project's modules and nothing else.
pub(crate) fn modules() -> Tree {
    let tree = empty();
    tree.lay(&project("modules"));
    tree
}

/// A new tree that holds the project's modules and environments.
pub(crate) fn whole() -> Tree {
    let tree = modules();
    tree.lay(&project("environments"));
    tree
}

/// The project's modules and environments with all that they take from outside: what is built can be built.
pub(crate) fn buildable() -> Tree {
    let mut tree = whole();
    tree.lay(&project("rick.lock"));
    tree.cache = Some(fetched().to_owned());
    tree
}

/// The cache that has what `rick.lock` says. It is kept from run to run.
fn fetched() -> &'static Path {
    static FETCHED: OnceLock<PathBuf> = OnceLock::new();
    FETCHED.get_or_init(|| {
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache");
        lock(&project("."), &cache, &[]);
        cache
    })
}

/// Asks the network for what a source tree takes from outside.
#[track_caller]
fn lock(root: &Path, cache: &Path, more: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rickbuild"));
    command.env("XDG_CACHE_HOME", cache).arg("--root").arg(root).arg("lock").args(more);
    let output = command.output().expect("rickbuild runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The project's modules and environments, and beside them `small`: a database, a cache, a web server, one application and a site.
pub(crate) fn small() -> Tree {
    let tree = whole();
    tree.lay(&project("fixtures/small/."));
    if super::usual_suite() == super::NEXT_SUITE {
        // The database server that this Debian brings.
        tree.edit("environments/small.star", "postgresql(version = 17", "postgresql(version = 18");
    }
    tree
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

impl Tree {
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Lays a file or folder (`folder/.`: what is in it) over the tree as it is, links included.
    pub(crate) fn lay(&self, from: &Path) {
        let status = Command::new("cp").arg("-a").arg(from).arg(self.path()).status().expect("cp runs");
        assert!(status.success(), "cannot copy {}", from.display());
    }

    /// Writes a file, and the folders that lead to it.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("the tree can be written");
        fs::write(path, text).expect("the tree can be written");
    }

    /// Replaces a text that stands exactly once in a file.
    #[track_caller]
    pub(crate) fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.path().join(file);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(text.matches(from).count(), 1, "`{from}` stands once in {file}");
        fs::write(path, text.replace(from, to)).expect("the tree can be written");
    }

    /// Locks what the tree takes from outside, so that what is built can be built.
    #[track_caller]
    pub(crate) fn lock(&mut self, more: &[&str]) {
        let cache = fetched();
        lock(self.path(), cache, more);
        self.cache = Some(cache.to_owned());
    }

    /// Runs `rickbuild` on the tree, with nothing of the environment around it.
    pub(crate) fn rickbuild(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("rickbuild runs")
    }

    /// The same, not started yet.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rickbuild"));
        command.env_clear();
        if let Some(cache) = &self.cache {
            command.env("XDG_CACHE_HOME", cache).env("PATH", "/usr/bin:/bin");
        }
        command.arg("--root").arg(self.path()).args(arguments);
        command
    }

    /// Compiles an environment, and signs it with the key that the hosts of the tests trust; the bundle is a file that lives as long as the tree.
    #[track_caller]
    pub(crate) fn bundle(&self, environment: &str) -> PathBuf {
        let bundle = self.path().join(format!("{environment}.tar"));
        let (output, key) = (bundle.to_str().expect("a plain path"), super::signing::key());
        let output = self.rickbuild(&[environment, "--output", output, "--sign-key", key]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        bundle
    }
}
