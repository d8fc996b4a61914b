//! Files of web servers, by curl.

use std::path::Path;
use std::time::Duration;

use super::Network;
use super::failure::Failure;
use super::program::{Limits, Program};

const CURL: Program = Program { name: "curl", package: "curl", purpose: "fetches files" };
/// How often a file is begun anew whose end did not come.
const TRIES: usize = 3;
/// curl's words for a connection that broke off: 18, 52, 55, 56 and 92.
const BROKEN_OFF: [i32; 5] = [18, 52, 55, 56, 92];
/// More than a day is spent on no file.
const TIME: Duration = Duration::from_hours(24);

/// Fetches a file, of which nothing is known but where it is.
pub(super) fn download(network: &Network<'_>, url: &str, into: &Path, limit: u64) -> Result<(), Failure> {
    // What was asked for in secret does not come in the open.
    let after_redirect = if url.starts_with("https:") { "=https" } else { "=http,https" };
    let mut tries = 1;
    loop {
        let mut command = CURL.command();
        command
            .args(["--disable", "--silent", "--show-error", "--fail", "--location", "--globoff"])
            .args(["--proto", "=http,https", "--proto-redir", after_redirect, "--max-redirs", "10"])
            .args(["--connect-timeout", "30", "--speed-limit", "1", "--speed-time", "60", "--retry", "2"])
            .args(["--max-filesize", &limit.to_string(), "--output"])
            .arg(into)
            .args(["--url", url]);
        let limits = Limits { stdout: 0, written: Some((into, limit)), time: TIME };
        let ended = CURL.run(&mut command, &limits, network.progress)?;
        if ended.well {
            // Of an empty file, curl makes none.
            drop(std::fs::OpenOptions::new().append(true).create(true).open(into)?);
            return Ok(());
        }
        let again = ended.code.is_some_and(|code| BROKEN_OFF.contains(&code)) && tries < TRIES;
        if !again {
            return Err(Failure::refused(format!("`{url}` could not be fetched")).note(ended.said));
        }
        tries += 1;
    }
}
