//! `rickbuild publish` and `rickbuild provenance`.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rick::compile::emit::Layout;
use rick::compile::provenance::Provenance;
use rick::compile::store::Store;
use rick::compile::{Checked, Compiled, cache_key, known_in, publish};
use rick::registry::Origin;
use tempfile::TempDir;

use crate::cli::{Cli, Format};
use crate::say::print;
use crate::{cache, source_root};

/// Where a bundle comes from.
pub(crate) fn provenance(
    environment: &str,
    checked: &Checked,
    compiled: &Compiled,
    layout: &Layout,
) -> Result<Provenance> {
    // Without a cache nothing was fetched for it, so nothing is asked of that folder.
    let store = Store::at(&cache().unwrap_or_default());
    Provenance::of(environment, checked, compiled, layout, &store)
}

/// Sends a layout to a registry, and says by which names it is to be had there.
pub(crate) fn send(
    cli: &Cli,
    environment: &str,
    layout: &Layout,
    provenance: Option<&Provenance>,
    to: &Origin,
) -> Result<()> {
    let human = cli.common.message_format == Format::Human;
    let (folder, _gone_at_the_end) = publishing_folder(&source_root(cli)?, environment)?;
    let terminal = human && io::stderr().is_terminal();
    let known = known_in(cache().as_deref(), &folder);
    let published = publish::publish(layout, provenance, to, (&folder, &known), terminal, &mut |news| {
        if human {
            let _ = writeln!(io::stderr(), "{news}");
        }
    })?;
    let text = if human { published.text() } else { published.json() };
    print(text.as_bytes()).map(drop)
}

/// Where a layout waits to be sent: in the cache, so that the next one finds there what did not change; without a cache, in a folder that
/// goes.
fn publishing_folder(root: &Path, environment: &str) -> Result<(PathBuf, Option<TempDir>)> {
    if let Some(cache) = cache() {
        return Ok((cache.join("publish").join(cache_key(root, environment)), None));
    }
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    Ok((folder.path().to_owned(), Some(folder)))
}
