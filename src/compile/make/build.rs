//! One build: its key, its run, and what it made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::lay_out::{Content, is_laid_out, lay_out, make_directory};
use super::outputs::{self, Trouble};
use super::sandbox::{Ended, Sandbox};
use crate::bundle::digest::Digest;
use crate::bundle::names::BundlePath;
use crate::bundle::oci;
use crate::compile::finding::{Finding, Refused};
use crate::compile::host::Build;
use crate::compile::store::{EPOCH, Store};
use crate::compile::tree::Tree;

/// Changes when the same inputs may give another output: when the sandbox is another one.
const BUILD_FORMAT: u32 = 1;
/// How many lines of what a failed command said are shown.
const LOG_LINES: usize = 30;

/// A build of which everything is known that goes into it.
pub(super) struct Task<'a> {
    pub(super) build: &'a Build,
    /// What names the root's file system.
    pub(super) root_key: Digest,
    pub(super) root: &'a Tree,
    /// What stands at each path of the build.
    pub(super) inputs: BTreeMap<&'a BundlePath, Tree>,
}

/// The name under which an input that is one file stands in its tree.
pub(super) const ONE_FILE: &str = "";

impl Task<'_> {
    /// All that the output depends on. What it is called is not part of it.
    pub(super) fn key(&self) -> Result<Digest> {
        #[derive(Serialize)]
        struct Key<'a> {
            format: u32,
            epoch: u64,
            root: String,
            inputs: &'a BTreeMap<&'a BundlePath, Tree>,
            command: &'a [String],
            environment: &'a BTreeMap<String, String>,
            outputs: Vec<&'a str>,
            cores: u32,
        }
        let Build { command, environment, outputs, cores, .. } = self.build;
        Ok(Digest::of(&oci::canonical_json(&Key {
            format: BUILD_FORMAT,
            epoch: EPOCH,
            root: self.root_key.hex(),
            inputs: &self.inputs,
            command,
            environment,
            outputs: outputs.iter().map(BundlePath::as_str).collect(),
            cores: *cores,
        })?))
    }

    /// Runs the build; gives what it made, each output at its path.
    ///
    /// # Errors
    /// [`Refused`] if the command fails or does not make what it should; what the machine says.
    pub(super) fn run(&self, store: &Store) -> Result<Tree> {
        let scratch = store.scratch()?;
        let inputs = self.lay_out_inputs(store, scratch.path())?;
        let root = root(self.root_key, self.root, store)?;
        let run = scratch.path().join("run");
        make_directory(&run)?;
        let sandbox = Sandbox {
            root: &root,
            top: self
                .root
                .entries()
                .filter(|(path, _)| !path.contains('/'))
                .map(|(path, node)| (path, &node.kind))
                .collect(),
            inputs,
            command: &self.build.command,
            environment: &self.build.environment,
            cores: self.build.cores,
        };
        let ended = match sandbox.run(&run)? {
            Ok(ended) => ended,
            Err(why) => {
                let message = format!("the build `{}` cannot run here: {why}", self.build.name);
                return Err(Refused::because(Finding::error(message).at(&self.build.span, "")));
            }
        };
        self.outputs(&ended, &run.join("out"), store)
    }

    fn lay_out_inputs<'a>(&'a self, store: &Store, scratch: &Path) -> Result<Vec<(&'a str, PathBuf)>> {
        let mut places = Vec::new();
        for (number, (path, tree)) in self.inputs.iter().enumerate() {
            let first = path.as_str().split('/').next().unwrap_or_default();
            if self.root.get(first).is_some() {
                let message = format!(
                    "the input `/{path}` of the build `{}` cannot stand there: its root has a `/{first}`",
                    self.build.name
                );
                let finding = Finding::error(message).at(&self.build.span, "");
                return Err(Refused::because(
                    finding.help("put it at a path whose first part the root does not have, as in `/src`"),
                ));
            }
            // Copies: with its hard links, a tree would tell a build of what else the store has, and two files of one content would be one.
            let place = scratch.join(format!("input-{number}"));
            if tree.get(ONE_FILE).is_none() {
                make_directory(&place)?;
            }
            lay_out(tree, store, &place, Content::Copied)?;
            places.push((path.as_str(), place));
        }
        Ok(places)
    }

    fn outputs(&self, ended: &Ended, out: &Path, store: &Store) -> Result<Tree> {
        let name = &self.build.name;
        if !ended.status.success() {
            let finding = Finding::error(format!("the build `{name}` failed: {}", ended.status));
            return Err(Refused::because(self.with_log(finding, ended)));
        }
        let mut changes = Vec::new();
        for output in &self.build.outputs {
            match outputs::take(out, output, store, &mut changes) {
                Ok(()) => {}
                Err(Trouble::Unfit(why)) => {
                    let finding =
                        Finding::error(format!("the build `{name}` left what cannot be taken: {why}"));
                    return Err(Refused::because(self.with_log(finding, ended)));
                }
                Err(Trouble::Machine(error)) => {
                    return Err(error)
                        .with_context(|| format!("cannot take `/out/{output}` of the build `{name}`"));
                }
            }
        }
        let mut made = Tree::default();
        made.apply(changes).map_err(anyhow::Error::msg)?;
        Ok(made)
    }

    fn with_log(&self, finding: Finding, ended: &Ended) -> Finding {
        let finding = finding.at(&self.build.span, "");
        let lines: Vec<&str> = ended.log.lines().collect();
        let end = &lines[lines.len().saturating_sub(LOG_LINES)..];
        if end.is_empty() {
            finding.note("it said nothing")
        } else {
            finding.note(format!("it said:\n{}", end.join("\n")))
        }
    }
}

/// The folder with the root: made once, for all builds that have it.
fn root(key: Digest, tree: &Tree, store: &Store) -> Result<PathBuf> {
    let place = store.root(key)?;
    let scratch = store.scratch()?;
    if place.is_dir() {
        if is_laid_out(tree, &place) {
            return Ok(place);
        }
        fs::rename(&place, scratch.path().join("damaged"))?;
    }
    let folder = scratch.path().join("root");
    make_directory(&folder)?;
    lay_out(tree, store, &folder, Content::Linked)?;
    // Once it has its name it is believed.
    store.sync()?;
    match fs::rename(&folder, &place) {
        // Another build of the same root was faster.
        Err(_) if place.is_dir() => {}
        other => other?,
    }
    Ok(place)
}

/// Waits until the clock shows another second: a build that writes the time down then makes something else.
pub(super) fn next_second() {
    let second =
        || SystemTime::now().duration_since(UNIX_EPOCH).map(|time| time.as_secs()).unwrap_or_default();
    let now = second();
    while second() == now {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
