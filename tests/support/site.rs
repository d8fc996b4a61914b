//! The sites of a host, asked over HTTPS by a client that trusts its web server's own authority.

use std::time::{Duration, Instant};

use super::Host;

/// Where Caddy keeps the certificate of its authority.
pub(crate) const AUTHORITY: &str = "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt";

/// How curl ends while Caddy, which listens already, has not yet made the certificate of a site.
const NO_CERTIFICATE_YET: Option<i32> = Some(35);

/// What curl prints on the host, to which all names lead. It must end well.
#[track_caller]
pub(crate) fn fetch(host: &Host, arguments: &[&str]) -> String {
    let common = ["curl", "--silent", "--show-error", "--path-as-is", "--max-time", "30"];
    let there = ["--cacert", AUTHORITY, "--resolve", "*:443:127.0.0.1"];
    let command = [&common, &there[..], arguments].concat();
    let deadline = Instant::now() + Duration::from_mins(1);
    let mut output = host.run(&command);
    while output.status.code() == NO_CERTIFICATE_YET && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(500));
        output = host.run(&command);
    }
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
