//! The files of a host: packed as they come, or as a [script](super::script) describes them, and held against a manifest.

use std::collections::BTreeMap;
use std::io::Write as _;

use rick::activate::accounts::Ids;
use rick::activate::layer::{Layer, MAX_TEXTS, is_text};
use rick::activate::{check, realise};
use rick::bundle::digest::Digest;
use rick::bundle::manifest::{Accounts, HostManifest};
use rick::bundle::names::AccountName;

use super::{assert_stays_inside, files_below, manifest, script};

pub(super) fn run(input: &[u8]) -> bool {
    let Some((manifest, packed)) = script::manifest_and_layer(input) else { return false };
    let Ok(manifest) = HostManifest::parse(&manifest) else { return false };
    let mut file = tempfile::tempfile().expect("there is room");
    file.write_all(&packed).expect("there is room");
    judge(&manifest, &Layer::new(file))
}

/// What is accepted is what the manifest lists, with the bytes that it says, where it says.
pub(super) fn judge(manifest: &HostManifest, layer: &Layer) -> bool {
    if !manifest::judge(manifest) {
        return false;
    }
    let place = tempfile::tempdir().expect("there is room");
    let written = layer.write(manifest, |path| {
        assert_stays_inside(path);
        let at = place.path().join("generation").join(path.as_str());
        std::fs::create_dir_all(at.parent().expect("it has one"))?;
        Ok(Some(at))
    });
    let found = files_below(place.path());
    assert!(found.iter().all(|path| path.starts_with("generation/")), "{found:?}");
    let texts = layer.texts(manifest);
    let (Ok(texts), Ok(())) = (&texts, &written) else {
        // Both go through the same archive; of texts, only one of them holds more than it may.
        assert!(texts.is_err(), "texts are refused or taken as the rest is");
        return false;
    };
    assert!(texts.values().map(Vec::len).sum::<usize>() as u64 <= MAX_TEXTS);
    assert_eq!(texts.len() + found.len(), manifest.files.len(), "every file is there, once");
    for (path, listed) in &manifest.files {
        let bytes = match texts.get(path) {
            Some(bytes) => bytes.clone(),
            None => std::fs::read(place.path().join("generation").join(path.as_str())).expect("it is there"),
        };
        assert_eq!(is_text(path, listed), texts.contains_key(path));
        assert!(listed.digest.is_none_or(|digest| digest == Digest::of(&bytes)), "{path} has other bytes");
    }
    if check::check_tokens(manifest, texts).is_err() {
        return false;
    }
    let Accounts { users, groups } = &manifest.accounts;
    let ids = Ids { users: unknown(users), groups: unknown(groups) };
    let realised = realise::realise(texts, manifest, &ids);
    let all_there = |realised: &realise::Realised<'_>| realised.texts.keys().eq(texts.keys());
    assert!(realised.as_ref().is_ok_and(all_there) || realised.is_err(), "each text is there, and no other");
    realised.is_ok()
}

fn unknown(names: &BTreeMap<AccountName, Option<u32>>) -> BTreeMap<AccountName, Option<u32>> {
    names.keys().map(|name| (name.clone(), None)).collect()
}
