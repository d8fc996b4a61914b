//! What a generation holds, wherever it lies, to be read and compared. Its configuration directories go by their names in it, not by their
//! paths in the store: else one changed file would look like a change in all that name it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::Arc;

use super::generation::{Generation, Known};
use super::layer::{MAX_SHOWN, Shown, is_text};
use super::realise::Realised;
use super::state::{STATE, State};
use crate::bundle::digest::Digest;
use crate::bundle::manifest::{HostManifest, UnitEntry};
use crate::bundle::names::{BundlePath, Label, UnitName};

/// How many hexadecimal digits name a directory of the store.
const HEX: usize = 64;

/// What a generation holds.
#[derive(Clone, Debug)]
pub struct Contents {
    /// What its build says; none for generation 0.
    pub manifest: Option<Arc<HostManifest>>,
    objects: BTreeMap<Label, Digest>,
    files: Files,
}

#[derive(Clone, Debug)]
enum Files {
    In(PathBuf),
    /// Texts, and as much of the payload as may be shown.
    Imagined(BTreeMap<BundlePath, Vec<u8>>, Option<Arc<Shown>>),
}

impl Contents {
    /// Those of a generation that lies on this host. Whatever of it cannot be read is not in it.
    pub fn of(generation: &Generation) -> Self {
        Self {
            manifest: generation.content.as_ref().map(|content| Arc::clone(&content.manifest)),
            objects: generation.objects().unwrap_or_default(),
            files: Files::In(generation.directory.clone()),
        }
    }

    /// Those of generation `number`, if it can be read.
    pub fn at(known: &Known, state: &State, number: u32) -> Option<Self> {
        known.get(state, number).ok().as_ref().map(Self::of)
    }

    /// Those of one that a dry run only imagines. Of its payload, what is not `shown` is known by its digest.
    pub fn imagined(manifest: &HostManifest, realised: &Realised<'_>, shown: Option<Shown>) -> Self {
        let texts = realised.texts.iter().map(|(path, bytes)| (path.clone(), bytes.to_vec())).collect();
        Self {
            manifest: Some(Arc::new(manifest.clone())),
            objects: realised.objects.clone(),
            files: Files::Imagined(texts, shown.map(Arc::new)),
        }
    }

    /// What is said of a unit, or of the template that it is an instance of.
    pub fn unit(&self, name: &UnitName) -> Option<&UnitEntry> {
        let units = &self.manifest.as_ref()?.units;
        let find = |name: &UnitName| units.iter().find(|unit| unit.name == *name);
        find(name).or_else(|| find(&name.template()?))
    }

    /// All files and links.
    pub fn paths(&self) -> BTreeSet<&BundlePath> {
        let manifest = self.manifest.iter();
        manifest.flat_map(|manifest| manifest.files.keys().chain(manifest.links.keys())).collect()
    }

    /// The bytes of a file as they are on the host, or where a link leads, if that is not too much to be shown.
    pub fn read(&self, path: &BundlePath) -> Option<Vec<u8>> {
        let manifest = self.manifest.as_ref()?;
        if let Some(target) = manifest.links.get(path) {
            return Some(target.clone().into_bytes());
        }
        if self.size(path)? > MAX_SHOWN {
            return None;
        }
        match &self.files {
            Files::In(directory) => fs::read(directory.join(path.as_str())).ok(),
            Files::Imagined(texts, shown) => texts.get(path).cloned().or_else(|| shown.as_ref()?.read(path)),
        }
    }

    /// The digest of what a file holds on the host, or of where a link leads.
    pub fn digest(&self, path: &BundlePath) -> Option<Digest> {
        let manifest = self.manifest.as_ref()?;
        if let Some(target) = manifest.links.get(path) {
            return Some(Digest::of(target.as_bytes()));
        }
        let listed = manifest.files.get(path)?;
        listed.digest.or_else(|| match &self.files {
            Files::In(directory) => Digest::of_all(&mut File::open(directory.join(path.as_str())).ok()?).ok(),
            Files::Imagined(texts, _) => texts.get(path).map(|text| Digest::of(text)),
        })
    }

    /// The size of a file on the host, in bytes.
    pub fn size(&self, path: &BundlePath) -> Option<u64> {
        let listed = self.manifest.as_ref()?.files.get(path)?;
        match &self.files {
            _ if listed.digest.is_some() => Some(listed.size),
            Files::In(directory) => fs::metadata(directory.join(path.as_str())).ok().map(|found| found.len()),
            Files::Imagined(texts, _) => texts.get(path).map(|text| text.len() as u64),
        }
    }

    /// It is a file that nobody here reads for what it says.
    pub fn is_payload(&self, path: &BundlePath) -> bool {
        let listed = self.manifest.as_ref().and_then(|manifest| manifest.files.get(path));
        listed.is_some_and(|listed| !is_text(path, listed))
    }

    /// The permission bits of a file.
    pub fn mode(&self, path: &BundlePath) -> Option<u32> {
        self.manifest.as_ref()?.files.get(path).map(|file| file.mode)
    }

    /// The digest of a configuration directory.
    pub fn object(&self, name: &Label) -> Option<Digest> {
        self.objects.get(name).copied()
    }

    /// The files of a configuration directory.
    pub fn files_of(&self, object: &Label) -> BTreeSet<&BundlePath> {
        let inside = format!("objects/{object}/");
        self.paths().into_iter().filter(|path| path.as_str().starts_with(&inside)).collect()
    }

    /// `bytes` with the names of configuration directories in the place of their paths in the store, and those names.
    pub fn named(&self, bytes: &[u8]) -> (Vec<u8>, BTreeSet<Label>) {
        let prefix = format!("{STATE}/store/").into_bytes();
        let (mut text, mut names, mut rest) = (Vec::with_capacity(bytes.len()), BTreeSet::new(), bytes);
        while let Some(at) = rest.windows(prefix.len()).position(|window| window == prefix) {
            let (before, found) = rest.split_at(at);
            text.extend(before);
            let end = prefix.len() + HEX;
            if let Some(name) = found.get(prefix.len()..end).and_then(|hex| self.name_of(hex)) {
                text.extend(format!("objects/{name}").bytes());
                names.insert(name.clone());
                rest = &found[end..];
            } else {
                text.extend(&prefix);
                rest = &found[prefix.len()..];
            }
        }
        text.extend(rest);
        (text, names)
    }

    fn name_of(&self, hex: &[u8]) -> Option<&Label> {
        let digest = Digest::from_hex(std::str::from_utf8(hex).ok()?)?;
        self.objects.iter().find(|(_, object)| **object == digest).map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::accounts::Ids;
    use crate::activate::realise::realise;
    use crate::activate::testing::Build;

    #[test]
    fn configuration_directories_go_by_their_names() {
        let build = Build::new("h")
            .file("objects/app/app.conf", "1")
            .text("units/a.service", "A=@rick(object:app)/x B=/var/lib/rick/store/0 C=@rick(object:app)\n");
        let (texts, manifest, ids) = (build.texts(), build.manifest(), Ids::default());
        let contents = Contents::imagined(&manifest, &realise(&texts, &manifest, &ids).unwrap(), None);
        let bytes = contents.read(&"units/a.service".parse().unwrap()).unwrap();
        let (text, names) = contents.named(&bytes);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "A=objects/app/x B=/var/lib/rick/store/0 C=objects/app\n"
        );
        assert!(names.into_iter().eq(["app".parse().unwrap()]));
        assert_eq!(contents.named(b"/var/lib/rick/store/").0, b"/var/lib/rick/store/");
        assert_eq!(contents.read(&"units/b.service".parse().unwrap()), None);
    }
}
