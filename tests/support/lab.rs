//! An environment of one host, `lab`, with one service whose items a test writes down, and what tests say to such a host.

use std::collections::BTreeMap;
use std::process::Output;
use std::time::{Duration, Instant};

use super::source::{self, Tree};
use super::{Host, activator};

/// An environment of one host, `lab`, with one service that has these items.
pub(crate) fn lab(items: &str) -> Tree {
    let tree = source::modules();
    tree.write(
        "environments/lab.star",
        "load(\"//modules/lab\", \"lab\")\n\
         environment(name = \"lab\", hosts = [host(name = \"lab\", domain = \"lab.test\", os = \"debian-13\", services = [lab()])])\n",
    );
    describe(&tree, items);
    tree
}

pub(crate) fn describe(tree: &Tree, items: &str) {
    tree.write(
        "modules/lab/lab.star",
        &format!(
            "def _build(ctx):\n    return [\n{items}    ]\n\nlab = module(doc = \"A laboratory.\", options = {{}}, build = _build)\n"
        ),
    );
}

/// A service that sleeps, with more lines in `[Service]`.
pub(crate) fn sleeper(name: &str, after: &str, more: &str) -> String {
    format!(
        "        unit(\"{name}\", text = \"\"\"[Unit]\nAfter={after}\n[Service]\nExecStart=/bin/sleep infinity\n{more}\n[Install]\nWantedBy=multi-user.target\n\"\"\"),\n"
    )
}

pub(crate) fn item(name: &str, text: &str, more: &str) -> String {
    format!("        unit(\"{name}\", text = \"\"\"{text}\"\"\"{more}),\n")
}

pub(crate) fn host(name: &str) -> Host {
    let host = Host::boot(name);
    host.push(&activator(), "/usr/local/bin/rick-activate");
    host
}

pub(crate) fn push(host: &Host, tree: &Tree, environment: &str) {
    host.push(&tree.bundle(environment), "/root/bundle.tar");
}

/// Switches a host to a tree; all must go well.
#[track_caller]
pub(crate) fn activate(host: &Host, tree: &Tree, environment: &str) -> String {
    push(host, tree, environment);
    host.ok(&["rick-activate", "--settle=0", "/root/bundle.tar"])
}

/// The same bundle again.
#[track_caller]
pub(crate) fn again(host: &Host) -> String {
    host.ok(&["rick-activate", "/root/bundle.tar"])
}

/// What was done to units, a line each: verb and unit.
pub(crate) fn done(said: &str) -> Vec<String> {
    let step = |line: &str| {
        let mut words = line.split_whitespace();
        let verb = words.next().filter(|verb| ["stop", "reload", "restart", "start"].contains(verb))?;
        Some(format!("{verb} {}", words.next()?.trim_end_matches(':')))
    };
    said.lines().filter_map(step).collect()
}

pub(crate) fn lives(host: &Host, units: &[&str]) -> BTreeMap<String, String> {
    units.iter().map(|unit| ((*unit).to_owned(), host.property(unit, "InvocationID"))).collect()
}

pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

#[track_caller]
pub(crate) fn is_well(host: &Host) {
    assert_eq!(host.ok(&["systemctl", "--failed", "--no-legend", "--plain"]), "");
    assert_eq!(host.ok(&["systemctl", "is-system-running"]), "running");
    assert_eq!(
        host.sh(
            "systemctl list-units --all --plain --no-legend --state=not-found | awk '$3 != \"inactive\"'"
        ),
        ""
    );
}

/// What the journal has of something, when all that was said has come to it.
pub(crate) fn logged(host: &Host, of: &[&str]) -> String {
    host.ok(&["journalctl", "--sync"]);
    // That there is nothing is a failure to it.
    let output = host.run(&[&["journalctl", "--quiet", "--output=cat"], of].concat());
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

#[track_caller]
pub(crate) fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}
