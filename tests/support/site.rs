//! The sites of a host, asked over HTTPS by a client that trusts its web server's own authority.

use std::process::Output;
use std::time::{Duration, Instant};

use super::Host;

/// Where Caddy keeps the certificate of its authority.
pub(crate) const AUTHORITY: &str = "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt";

/// How curl ends while Caddy, which listens already, has not yet made the certificate of a site.
const NO_CERTIFICATE_YET: Option<i32> = Some(35);

/// Runs curl on the host, to which all names lead.
pub(crate) fn curl(host: &Host, arguments: &[&str]) -> Output {
    let common = ["curl", "--silent", "--show-error", "--path-as-is", "--max-time", "30"];
    let there = ["--cacert", AUTHORITY, "--resolve", "*:443:127.0.0.1"];
    let command = [&common, &there[..], arguments].concat();
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        let output = host.run(&command);
        if output.status.code() != NO_CERTIFICATE_YET || Instant::now() > deadline {
            return output;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// What curl prints when it ends well.
#[track_caller]
pub(crate) fn fetch(host: &Host, arguments: &[&str]) -> String {
    let output = curl(host, arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
