//! Names: each kind is tried on every text.

use std::fmt::Display;
use std::str::FromStr;

use rick::bundle::digest::Digest;
use rick::bundle::names::{AccountName, BundlePath, HostName, HostPath, Label, SecretName, UnitName};
use rick::bundle::secret::SecretFile;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::assert_stays_inside;

pub(super) fn run(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let names = [
        name::<AccountName>(text).map(|name| name.to_string()),
        name::<HostName>(text).map(|name| name.to_string()),
        name::<Label>(text).map(|name| name.to_string()),
        name::<SecretName>(text).map(|name| name.to_string()),
        name::<UnitName>(text).map(|name| name.to_string()),
    ];
    for name in names.into_iter().flatten() {
        assert!(
            !name.contains(['/', '\0', '\n', ' ']) && name.len() <= 255 && !name.starts_with('.'),
            "{name:?}"
        );
    }
    name::<Digest>(text);
    if let Ok(file) = text.parse::<SecretFile>() {
        assert_eq!(file.to_string().parse(), Ok(file));
    }
    if let Some(unit) = name::<UnitName>(text) {
        let again = format!("{}.{}", unit.stem(), unit.kind());
        assert_eq!(again, text);
        assert!(unit.template().is_none_or(|template| template.to_string().parse() == Ok(template)));
    }
    if let Some(path) = name::<BundlePath>(text) {
        assert_stays_inside(&path);
        assert!(path.parents().all(|parent| parent.parse() == Ok(path.parent(parent))));
        if let Ok(twice) = path.join_path(&path) {
            assert_stays_inside(&twice);
            assert_eq!(path.join(text), Ok(twice));
        }
    }
    if let Some(path) = name::<HostPath>(text) {
        assert!(path.as_str().starts_with('/') && path.as_str().len() > 1);
        assert!(path.as_str()[1..].split('/').all(|part| !matches!(part, "" | "." | "..")), "{path:?}");
    }
    true
}

/// What is taken for a name is it as it stands, and in JSON as well; and what is not is in no JSON.
fn name<N>(text: &str) -> Option<N>
where
    N: FromStr + Display + Serialize + DeserializeOwned + PartialEq,
{
    let name = text.parse::<N>().ok();
    let json = serde_json::to_string(text).expect("a text can be written");
    assert!(serde_json::from_str::<N>(&json).ok() == name, "{text:?} is one thing here and another in JSON");
    if let Some(name) = &name {
        assert_eq!(name.to_string(), text);
        assert_eq!(serde_json::to_string(name).expect("a name can be written"), json);
    }
    name
}
