//! What is fuzzed: functions of any bytes that panic if a promise is broken. `ci/fuzz` runs them under libFuzzer, and every test
//! run holds them against the inputs that are kept in `fixtures/fuzz`.

use std::fs;
use std::path::Path;

use rick::bundle::names::BundlePath;

mod bundle;
mod layer;
mod manifest;
mod names;
mod script;
mod signatures;
mod tokens;
mod ustar;

/// A function that panics if an input breaks a promise. Gives whether the input was taken.
pub(crate) type Target = fn(&[u8]) -> bool;

/// All of them. Each has a folder of its name in `fixtures/fuzz`.
pub(crate) const TARGETS: [(&str, Target); 7] = [
    ("bundle", bundle::run),
    ("layer", layer::run),
    ("manifest", manifest::run),
    ("names", names::run),
    ("signatures", signatures::run),
    ("tokens", tokens::run),
    ("ustar", ustar::run),
];

/// A path of a bundle, put below any directory, is below it.
fn assert_stays_inside(path: &BundlePath) {
    let text = path.as_str();
    assert!(!text.is_empty() && text.len() <= 256 && !text.contains('\0'), "{text:?}");
    let plain = |part: &str| !matches!(part, "" | "." | "..");
    assert!(text.split('/').all(plain), "{text:?}");
}

/// The files below a directory, without following links; there are regular files and directories only.
fn files_below(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory_of) = open.pop() {
        for entry in fs::read_dir(&directory_of).expect("it can be read") {
            let entry = entry.expect("it can be read");
            let kind = entry.file_type().expect("it has a type");
            assert!(kind.is_file() || kind.is_dir(), "{} is {kind:?}", entry.path().display());
            if kind.is_dir() {
                open.push(entry.path());
            } else {
                let path = entry.path();
                let inside = path.strip_prefix(directory).expect("it is below");
                found.push(inside.to_str().expect("it is UTF-8").to_owned());
            }
        }
    }
    found
}
