//! `rickbuild sign`, and the key that others are told of.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::error::ErrorKind;
use rick::compile::sign::{self, Signer};
use serde_json::json;

use crate::cli::{Cli, Format, wrong_usage};
use crate::write_bundle;

/// The key to sign with, if one was named.
pub(crate) fn signer(key: Option<&PathBuf>) -> Result<Option<Signer>> {
    key.map(|key| Signer::with(key)).transpose()
}

/// Signs a bundle where it is, or to another place, and says for whom.
pub(crate) fn sign(cli: &Cli, bundle: &Path, key: &Path, output: Option<&Path>) -> Result<ExitCode> {
    if bundle.is_dir() && output.is_some() {
        wrong_usage(ErrorKind::ArgumentConflict, "a directory is signed where it is: leave out --output");
    }
    if output.is_some_and(|output| output.as_os_str() == "-") && io::stdout().is_terminal() {
        wrong_usage(ErrorKind::InvalidValue, "a bundle is no text for a terminal: name a file");
    }
    let signed = sign::sign(bundle, &Signer::with(key)?)?;
    if bundle.is_dir() {
        let cannot = || format!("cannot write the bundle to {}", bundle.display());
        signed.write_directory().with_context(cannot)?;
    } else {
        write_bundle(output.unwrap_or(bundle), &|out| signed.write(out))?;
    }
    let key = &signed.key;
    for (host, digest) in &signed.hosts {
        let line = match cli.common.message_format {
            Format::Human => format!("{host}  {digest}  signed with {key}"),
            Format::Json => json!({"host": host, "digest": digest, "key": key}).to_string(),
        };
        let _ = writeln!(io::stderr(), "{line}");
    }
    Ok(ExitCode::SUCCESS)
}
