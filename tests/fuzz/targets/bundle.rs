//! A whole bundle: as it comes, or as a [script](super::script) describes it.

use std::fs;
use std::path::Path;

use rick::activate::receive::{HostNames, Received, receive};
use rick::activate::state::State;
use rick::activate::trust::Trust;
use rick::bundle::digest::Digest;
use rick::bundle::manifest::HostManifest;

use super::{files_below, layer, script};

/// Where what is received lies, below the root of the host.
const INCOMING: &str = "host/var/lib/rick/incoming/";

thread_local! {
    /// The host, and what is around it.
    static PLACE: tempfile::TempDir = tempfile::tempdir().expect("there is room");
}

pub(super) fn run(input: &[u8]) -> bool {
    let bundle = if input.starts_with(b"@") { script::archive(input) } else { input.to_vec() };
    PLACE.with(|place| judge(&bundle, place.path()))
}

/// It is refused or taken the same whether it is kept or only looked at; and what is kept has the digest that is its name, and lies
/// where nobody looks.
fn judge(bundle: &[u8], place: &Path) -> bool {
    let state = State::new(&place.join("host"));
    let names = HostNames::given(&"box".parse().expect("this is a name"));
    // What nobody has to sign goes deepest.
    let trust = Trust::on(&state, false, false);
    let receive = |keep, partial| receive(bundle, &state, &names, &trust, keep, None, partial);
    let looked_at = receive(false, false);
    assert!(files_below(place).is_empty(), "what is only looked at is written");
    let kept = receive(true, false);
    for path in files_below(place) {
        let name = path.strip_prefix(INCOMING);
        let digest = name.and_then(Digest::from_hex).unwrap_or_else(|| panic!("{path} was written"));
        let is_right = || Digest::of(&fs::read(place.join(&path)).expect("it is there")) == digest;
        assert!(kept.is_err() || is_right(), "{path} has other bytes");
    }
    match (&looked_at, &kept) {
        (Ok(looked_at), Ok(kept)) => {
            assert_eq!(looked_at.digest, kept.digest);
            expect_whole(kept, &state);
        }
        (Err(looked_at), Err(kept)) => assert_eq!(looked_at.to_string(), kept.to_string()),
        _ => panic!("only looked at: {looked_at:?}; kept: {kept:?}"),
    }
    let _ = fs::remove_dir_all(place.join("host"));
    // A bundle of which not all came is taken wherever the whole one is.
    assert!(receive(false, true).is_ok() || kept.is_err());
    match kept {
        Ok(Received { manifest, layer: Some(layer), .. }) => layer::judge(&manifest, &layer),
        _ => false,
    }
}

/// All that it is said to hold is there.
fn expect_whole(received: &Received, state: &State) {
    assert_eq!(HostManifest::parse(&received.config).as_ref(), Ok(&received.manifest));
    assert!(received.layer.is_some(), "the host has no build whose layer could be left out");
    for digest in &received.blobs {
        assert!(state.incoming().join(digest.hex()).is_file(), "{digest} was not kept");
    }
    let images = &received.manifest.images;
    assert!(received.images.iter().all(|image| images.values().any(|digest| *digest == image.digest)));
}
