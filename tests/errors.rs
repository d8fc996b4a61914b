//! Every mistake in a source tree is said in full: what, where, and how to mend it. One folder of `fixtures/errors` each.
//!
//! A case is an environment called `case`, with whatever else it needs beside the project's own modules; `expected.txt` holds
//! everything that `rickbuild check case` says. `RICK_BLESS=1` writes that file anew, for a person to read.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::source::{self, Tree};

/// The project's modules with a case's own files laid over them.
fn tree_of(case: &Path) -> Tree {
    let tree = source::modules();
    tree.lay(&case.join("."));
    tree
}

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/errors");
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

#[test]
fn every_mistake_is_said_in_full() {
    let mut wrong = Vec::new();
    for case in cases() {
        let tree = tree_of(&case);
        let output = tree.rickbuild(&["check", "case"]);
        let said = String::from_utf8(output.stderr).expect("findings are text");
        let file = case.join("expected.txt");
        if std::env::var_os("RICK_BLESS").is_some() {
            fs::write(&file, &said).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        if said != expected {
            wrong.push(format!("{}\n--- expected\n{expected}--- said\n{said}", case.display()));
        }
        assert_eq!(output.status.code(), Some(1), "{}: exit code, {said}", case.display());
        assert!(output.stdout.is_empty(), "{}: something was written to standard output", case.display());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases().len() > 15);
}

#[test]
fn a_deeply_nested_literal_is_an_error_of_the_source() {
    let tree = source::modules();
    let nested = format!("x = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    tree.write("environments/case.star", &nested);
    let output = tree.rickbuild(&["check", "case"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: evaluating `case` needs more than its stack\n"), "{said}");
}

#[test]
fn findings_are_json_on_request() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/errors/misspelt-option");
    let tree = tree_of(&case);
    let output = tree.rickbuild(&["check", "case", "--message-format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    let finding: serde_json::Value =
        serde_json::from_str(said.lines().next().expect("one finding")).expect("it is JSON");
    assert_eq!(finding["severity"], "error");
    assert_eq!(finding["message"], "`postgresql` has no option `versoin`");
    assert_eq!(finding["file"], "environments/case.star");
    assert_eq!((finding["line"].as_u64(), finding["column"].as_u64()), (Some(13), Some(24)));
}

#[test]
fn usage_errors_have_an_exit_code_of_their_own() {
    let output = source::modules().rickbuild(&["homelab", "--no-such-flag"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}
