//! A host that is only a directory: `rick-activate --root`, and all that lies there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rick::bundle::digest::Digest;

use super::source::{self, Tree};

/// The name of the host in [`environment`].
pub(crate) const NAME: &str = "box";

/// A small environment of two hosts with accounts, files, units and a container: nothing of it needs to be installed.
pub(crate) fn environment(text: &str) -> Tree {
    let tree = source::empty();
    tree.write("modules/app/program", "not a real program\n");
    tree.write("modules/app/app.star", APP);
    tree.write(
        "environments/small.star",
        &format!(
            r#"load("//modules/app", "app")

environment(name = "small", hosts = [
    host(name = "{NAME}", domain = "example.net", services = [app(text = "{text}")]),
    host(name = "other", domain = "example.net", services = [app(text = "other")]),
])
"#
        ),
    );
    tree
}

const APP: &str = r#"def _build(ctx):
    page = file("page", content = ctx.options.text)
    settings = file("settings", stable = True, content = ctx.options.text)
    picture = image("app", layers = {"/program": "program"}, entrypoint = ["/program"])
    return [
        user("app", description = "A small service"),
        directory("/run/app", user = "app", group = "app", mode = 0o755),
        page,
        settings,
        picture,
        unit("app.service", {
            "Unit": {"Description": "App"},
            "Service": {"User": "app", "ExecStart": command("/usr/bin/cat", page.path, settings.path)},
            "Install": {"WantedBy": "multi-user.target"},
        }),
        quadlet("contained.container", {
            "Unit": {"Description": "The same, contained"},
            "Container": {"Image": picture.ref, "User": uid("app"), "Group": gid("app")},
            "Install": {"WantedBy": "multi-user.target"},
        }),
    ]

app = module(doc = "A small service.", options = {"text": option(str, doc = "What it says.")}, build = _build)
"#;

/// A `rick-activate` for a directory.
pub(crate) fn activator(root: &Path) -> Command {
    let mut command = Command::new(super::activator());
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").arg("--root").arg(root);
    command.stdin(Stdio::null());
    command
}

/// Activates a bundle file on a directory as host [`NAME`].
pub(crate) fn activate(root: &Path, bundle: &Path) -> Output {
    activator(root).args(["--host", NAME]).arg(bundle).output().expect("rick-activate runs")
}

/// Runs a command that must succeed; gives what it printed.
#[track_caller]
pub(crate) fn ok(output: Output) -> String {
    assert!(
        output.status.success(),
        "{}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    String::from_utf8(output.stdout).unwrap()
}

/// Everything below a directory: path → kind, owner, mode, size, and where it leads or what it holds.
pub(crate) fn everything_below(directory: &Path) -> BTreeMap<PathBuf, String> {
    let entries = walkdir::WalkDir::new(directory).into_iter().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            let (path, found) = (entry.path(), entry.path().symlink_metadata().unwrap());
            let content = if found.is_symlink() {
                fs::read_link(path).unwrap().display().to_string()
            } else if found.is_file() {
                // A shadow file is for root alone to read.
                let bytes = fs::read(path).map(|bytes| Digest::of(&bytes).to_string());
                format!("{} {}", found.len(), bytes.unwrap_or_else(|error| error.to_string()))
            } else {
                String::new()
            };
            let mode = found.permissions().mode();
            let shown = format!("{mode:o} {}:{} {content}", found.uid(), found.gid());
            (path.strip_prefix(directory).unwrap().to_owned(), shown)
        })
        .collect()
}

/// What is in one listing and not in the other, for messages.
pub(crate) fn differences(
    before: &BTreeMap<PathBuf, String>,
    after: &BTreeMap<PathBuf, String>,
) -> Vec<String> {
    let only = |mark, one: &BTreeMap<PathBuf, String>, other: &BTreeMap<PathBuf, String>| {
        one.iter()
            .filter(|(path, shown)| other.get(*path) != Some(shown))
            .map(|(path, shown)| format!("{mark} {} {shown}", path.display()))
            .collect::<Vec<_>>()
    };
    [only('-', before, after), only('+', after, before)].concat()
}
