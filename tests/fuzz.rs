//! Every input that a fuzzer once found worth keeping keeps every promise: the corpus in `fixtures/fuzz`, without a fuzzer. `ci/fuzz` looks
//! for more of them.

use std::fs;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use rick::bundle::digest::Digest;
use rick::bundle::manifest::FORMAT;
use serde_json::Value;

use crate::support::bundle::{Bundle, Entry, unpack};
use crate::support::root;

mod targets;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz").join(target)
}

/// The last that is named is the one that fails.
fn replay(target: &str) {
    let (_, run) = targets::TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let mut inputs: Vec<PathBuf> =
        fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "the corpus of {target} is gone");
    for input in inputs {
        println!("{}", input.display());
        run(&fs::read(&input).unwrap());
    }
}

#[test]
fn bundles() {
    replay("bundle");
}

#[test]
fn layers() {
    replay("layer");
}

#[test]
fn manifests() {
    replay("manifest");
}

#[test]
fn names() {
    replay("names");
}

#[test]
fn signatures() {
    replay("signatures");
}

#[test]
fn tokens() {
    replay("tokens");
}

#[test]
fn archives() {
    replay("ustar");
}

/// A corpus that is refused at the door shows nothing of what lies behind it.
#[test]
fn what_the_fuzzer_begins_with_is_taken() {
    for (target, run) in targets::TARGETS.iter().filter(|(target, _)| !["names", "tokens"].contains(target)) {
        assert!(run(&fs::read(corpus(target).join("seed")).unwrap()), "{target}");
    }
}

#[test]
fn every_target_is_replayed_here() {
    let replayed = ["bundle", "layer", "manifest", "names", "signatures", "tokens", "ustar"];
    assert_eq!(targets::TARGETS.map(|(name, _)| name), replayed);
    let folders = fs::read_dir(corpus("")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(folders.filter(|name| replayed.iter().all(|known| name != known)).count(), 0);
}

/// Writes what a fuzzer begins with: a bundle of ours, and what is in it. For a corpus that is to be made anew.
#[test]
#[ignore = "it writes to fixtures/fuzz"]
fn seeds() {
    let bundle = Bundle::read(&fs::read(root::environment("one").bundle("small")).unwrap());
    let keep = |target: &str, name: &str, bytes: &[u8]| {
        fs::create_dir_all(corpus(target)).unwrap();
        fs::write(corpus(target).join(name), bytes).unwrap();
    };
    keep("bundle", "seed-packed", &bundle.bytes());
    let mut script = Vec::new();
    for entry in &bundle.entries {
        let path = if entry.is_blob() { "" } else { &entry.path };
        script.extend(format!("@{path}\n").into_bytes());
        script.extend(described(entry, &bundle));
        script.push(b'\n');
    }
    keep("bundle", "seed", &script);
    let layer = bundle.entries.iter().position(|entry| described(entry, &bundle).starts_with(b">")).unwrap();
    let is_config = |entry: &&Entry| entry.bytes.starts_with(b"{\"accounts\"");
    let config = bundle.entries.iter().find(is_config).unwrap();
    let text = String::from_utf8(config.bytes.clone()).unwrap();
    keep("manifest", "seed", text.replace(&format!("\"format\":{FORMAT},"), "\"format\":$F,").as_bytes());
    let mut config = String::from_utf8(described(config, &bundle)).unwrap();
    config = config.replace(&format!("${layer}."), "$1.");
    for (at, entry) in bundle.entries.iter().enumerate().filter(|(_, entry)| entry.is_blob()) {
        config = config.replace(&format!("\"${at}d\""), &format!("\"{}\"", entry.digest()));
    }
    let files = described(&bundle.entries[layer], &bundle);
    keep("layer", "seed", &[b"@\n", config.as_bytes(), b"\n@\n", &files].concat());
    keep(
        "layer",
        "seed-packed",
        &[b"@\n", config.as_bytes(), b"\n@\n", &bundle.entries[layer].bytes].concat(),
    );
    keep("ustar", "seed", &unpacked(&bundle.entries[layer]).unwrap());
    for (at, text) in TEXTS.iter().enumerate() {
        keep("tokens", &format!("seed-{at}"), text.as_bytes());
    }
    for (at, name) in NAMES.iter().enumerate() {
        keep("names", &format!("seed-{at}"), name.as_bytes());
    }
}

const TEXTS: [&str; 4] = [
    "User=@rick(uid:app)\nGroup=@rick(gid:app)\n",
    "@rick(object:page)/page @rick(secret:key:app:root:440)",
    "a@rick.example @rick(",
    "",
];
const NAMES: [&str; 7] = [
    "app",
    "box.example.net",
    "postgresql@17-main.service",
    "objects/page/a b",
    "/var/lib/rick",
    "db-key:app:root:400",
    "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
];

fn unpacked(entry: &Entry) -> Option<Vec<u8>> {
    let mut archive = Vec::new();
    std::io::Read::read_to_end(&mut MultiGzDecoder::new(entry.bytes.as_slice()), &mut archive).ok()?;
    Some(archive)
}

/// An entry of a bundle as a script has it: see `targets/script.rs`.
fn described(entry: &Entry, bundle: &Bundle) -> Vec<u8> {
    if let Some(archive) = unpacked(entry) {
        let file = |file: Entry| {
            [format!(">{} 0 {:o}\n", file.path, file.mode).as_bytes(), &file.bytes, b"\n"].concat()
        };
        return unpack(&archive).into_iter().flat_map(file).collect();
    }
    // Nobody looks into the layer of an image.
    let Ok(mut value) = serde_json::from_slice(&entry.bytes) else { return b"layer".to_vec() };
    describe(&mut value, bundle);
    // A size is no text.
    let mut text = value.to_string();
    for (open, close) in [("\"size\":\"$", "s\""), ("\"format\":\"$", "F\"")] {
        let mut parts = text.split(open);
        let mut bare = parts.next().unwrap().to_owned();
        for part in parts {
            bare.push_str(&open[..open.len() - 2]);
            bare.push('$');
            bare.push_str(&part.replacen(close, &close[..1], 1));
        }
        text = bare;
    }
    text.into_bytes()
}

/// Puts what is filled in later in the place of digests, sizes and the format.
fn describe(value: &mut Value, bundle: &Bundle) {
    match value {
        Value::String(digest) => {
            if let Some(name) = place_of(digest, bundle) {
                *digest = format!("{name}d");
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|value| describe(value, bundle)),
        Value::Object(map) => {
            let name = map.get("digest").and_then(Value::as_str).and_then(|digest| place_of(digest, bundle));
            if let Some(name) = name {
                map.insert("size".to_owned(), format!("{name}s").into());
            }
            if map.get("format").is_some_and(Value::is_number) {
                map.insert("format".to_owned(), "$F".into());
            }
            map.values_mut().for_each(|value| describe(value, bundle));
        }
        _ => {}
    }
}

/// `$N` for the digest of an entry, `$N.M` for that of a file in it.
fn place_of(digest: &str, bundle: &Bundle) -> Option<String> {
    let is_it = |entry: &Entry| entry.is_blob() && entry.digest() == digest;
    if let Some(at) = bundle.entries.iter().position(is_it) {
        return Some(format!("${at}"));
    }
    bundle.entries.iter().enumerate().find_map(|(at, entry)| {
        let files = unpack(&unpacked(entry)?);
        let inside = files.iter().position(|file| Digest::of(&file.bytes).to_string() == digest)?;
        Some(format!("${at}.{inside}"))
    })
}
