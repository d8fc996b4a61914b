//! What the tests stand on: real hosts, and the rule for tests that cannot run where they are.

pub(crate) mod bundle;
pub(crate) mod durability;
pub(crate) mod facts;
pub(crate) mod host;
pub(crate) mod hub;
pub(crate) mod kept;
pub(crate) mod lab;
pub(crate) mod miniflux;
pub(crate) mod registry;
pub(crate) mod root;
pub(crate) mod signing;
pub(crate) mod site;
pub(crate) mod source;
pub(crate) mod standin;
pub(crate) mod web;

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

pub(crate) use host::Host;

/// Ends the calling test, as skipped, if this machine cannot boot hosts. The first line of each test that boots one; a test that boots
/// another Debian than the usual one names it.
///
/// libtest knows no skipping. So the test's name and the reason go into the file that `RICK_SKIPS_FILE` names, where `ci/test`
/// finds and counts them; without that variable the test fails.
macro_rules! require_hosts {
    () => {
        $crate::support::require_hosts!($crate::support::usual_suite())
    };
    ($suite:expr) => {
        fn here() {}
        if !$crate::support::hosts_can_boot($suite, std::any::type_name_of_val(&here)) {
            return;
        }
    };
}
pub(crate) use require_hosts;

/// The same as [`require_hosts`] for a test that only must be root.
macro_rules! require_root {
    () => {
        fn here() {}
        if !$crate::support::is_root(std::any::type_name_of_val(&here)) {
            return;
        }
    };
}
pub(crate) use require_root;

/// The same for a test that needs programs which not every machine has.
macro_rules! require_programs {
    ($($program:literal),+) => {
        let all_there = {
            fn here() {}
            let here = std::any::type_name_of_val(&here);
            [$($program),+].iter().all(|program| $crate::support::has_program(program, here))
        };
        if !all_there {
            return;
        }
    };
}
pub(crate) use require_programs;

/// Behind [`require_programs`].
pub(crate) fn has_program(program: &str, here: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    found.is_ok() || skip(here, &format!("{program} is missing: run ci/setup"))
}

/// Behind [`require_hosts`]: `here` is the path of a function inside the test.
pub(crate) fn hosts_can_boot(suite: &str, here: &str) -> bool {
    tree(suite).map_or_else(|reason| skip(here, &reason), |_| true)
}

/// Behind [`require_root`].
pub(crate) fn is_root(here: &str) -> bool {
    rustix::process::geteuid().is_root() || skip(here, "only root can mount a file system")
}

/// Notes that the test around `here` is skipped; gives `false`.
fn skip(here: &str, reason: &str) -> bool {
    let test = here.trim_end_matches("::here").split_once("::").map_or(here, |(_crate, path)| path);
    let Some(list) = std::env::var_os("RICK_SKIPS_FILE") else {
        panic!("{test} cannot run here: {reason}");
    };
    let mut list =
        OpenOptions::new().append(true).create(true).open(list).expect("RICK_SKIPS_FILE can be written");
    // One write, so that lines of parallel tests stay whole.
    list.write_all(format!("{test}: {reason}\n").as_bytes()).expect("RICK_SKIPS_FILE can be written");
    false
}

/// What comes after the usual Debian: newer systemd, Podman, Caddy and database server.
pub(crate) const NEXT_SUITE: &str = "forky";

/// The Debian that hosts run unless a test says otherwise: `RICK_TEST_SUITE`, or the stable one.
pub(crate) fn usual_suite() -> &'static str {
    static SUITE: OnceLock<String> = OnceLock::new();
    SUITE.get_or_init(|| std::env::var("RICK_TEST_SUITE").unwrap_or_else(|_| "trixie".into()))
}

/// The root file system that hosts of a suite boot, or why they cannot.
pub(crate) fn tree(suite: &str) -> Result<PathBuf, String> {
    static TREES: Mutex<BTreeMap<String, Result<PathBuf, String>>> = Mutex::new(BTreeMap::new());
    let mut trees = TREES.lock().unwrap_or_else(PoisonError::into_inner);
    trees.entry(suite.to_owned()).or_insert_with(|| find_tree(suite)).clone()
}

fn find_tree(suite: &str) -> Result<PathBuf, String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can boot a host".into());
    }
    for program in ["systemd-nspawn", "nsenter", "unshare"] {
        let found =
            Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            return Err(format!("{program} is missing: apt-get install systemd-container util-linux"));
        }
    }
    kept("rootfs", &[suite]).map_err(|advice| format!("no root file system is kept: {advice}"))
}

/// The folder that a script of `ci` keeps, or how to make it.
fn kept(script: &str, arguments: &[&str]) -> Result<PathBuf, String> {
    let call = ["ci/", script].concat();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&call);
    let found =
        Command::new(path).arg("--find").args(arguments).output().map_err(|e| format!("{call}: {e}"))?;
    if !found.status.success() {
        return Err(format!("run {}", [&[&*call], arguments].concat().join(" ")));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&found.stdout).trim_end()))
}

/// The activator to put on a host: the small static one that `RICK_ACTIVATOR` names, else the one of this build.
pub(crate) fn activator() -> PathBuf {
    std::env::var_os("RICK_ACTIVATOR")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_rick-activate")), PathBuf::from)
}
