//! What is said: findings and progress on standard error, results on standard output.

use std::io::{self, IsTerminal as _, Write};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use rick::bundle::digest::Digest;
use rick::bundle::names::HostName;
use rick::compile::emit::Layout;
use rick::compile::finding::{Finding, Severity};
use rick::compile::report;
use rick::compile::source::Sources;

use crate::FINDINGS;
use crate::cli::{Cli, Colour, Format};

/// Says what is done, where it may take a while.
pub(crate) fn say_progress(cli: &Cli, what: &str) {
    let line = match cli.common.message_format {
        Format::Human => format!("{what}\n"),
        Format::Json => serde_json::json!({"progress": what}).to_string() + "\n",
    };
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Says the findings on standard error; the exit code that they call for.
pub(crate) fn say(cli: &Cli, findings: &[Finding], sources: &Sources) -> ExitCode {
    let coloured = match cli.common.color {
        Colour::Always => true,
        Colour::Never => false,
        Colour::Auto => {
            io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        }
    };
    let text = match cli.common.message_format {
        Format::Human => report::render(findings, sources, coloured),
        Format::Json => report::json(findings, sources),
    };
    // Nobody is left to tell if standard error is closed.
    let _ = io::stderr().write_all(text.as_bytes());
    let errors = findings.iter().any(|finding| finding.severity == Severity::Error);
    if errors { ExitCode::from(FINDINGS) } else { ExitCode::SUCCESS }
}

/// Says the digest of each host's build on standard error.
pub(crate) fn say_digests(cli: &Cli, layout: &Layout) {
    let hosts = layout.hosts();
    let width = hosts.keys().map(|name| name.as_str().len()).max().unwrap_or_default();
    let line = |(name, digest): (&HostName, &Digest)| match cli.common.message_format {
        Format::Human => format!("{:width$}  {digest}\n", name.as_str()),
        Format::Json => serde_json::json!({"host": name, "digest": digest}).to_string() + "\n",
    };
    let text: String = hosts.iter().map(line).collect();
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Writes text to standard output; a reader that went away is no error.
pub(crate) fn print(text: &[u8]) -> Result<ExitCode> {
    match io::stdout().write_all(text).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}
