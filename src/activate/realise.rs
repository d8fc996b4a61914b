//! Tokens → what this host has. From here on every byte is the one that systemd will read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write as _};

use anyhow::Result;

use super::accounts::Ids;
use super::check::{object_path, objects_of};
use super::layer::Texts;
use super::secrets::Secrets;
use super::state::STATE;
use crate::bundle::digest::{Digest, Hashing};
use crate::bundle::manifest::HostManifest;
use crate::bundle::names::{AccountName, BundlePath, Label};
use crate::bundle::secret::{self, SecretFile};
use crate::bundle::token::{self, Token};
use crate::refusal::Refusal;

/// The files of a host as they will lie there. Payload is as it came, and lies with the layer.
#[derive(Debug)]
pub struct Realised<'a> {
    /// Every text, those of objects included. Some hold no tokens, and are as they came.
    pub texts: BTreeMap<BundlePath, Cow<'a, [u8]>>,
    /// The configuration directories by name: the digests of their realised content.
    pub objects: BTreeMap<Label, Digest>,
    /// The files in memory that the texts name.
    pub secrets: Secrets,
}

/// Stands for the number of an account that the host has yet to give one. No account ever has it, and no service ever sees it: it is
/// for dry runs, and for trying whether all can be written.
const NOT_YET: u32 = u32::MAX - 1;

/// How deep directories may name one another. Each level takes some of the stack.
const MAX_DEPTH: usize = 64;

/// Replaces all tokens.
pub fn realise<'a>(texts: &'a Texts, manifest: &'a HostManifest, ids: &'a Ids) -> Result<Realised<'a>> {
    let mut realiser = Realiser {
        manifest,
        ids,
        paths: objects_of(manifest),
        realised: Realised { texts: BTreeMap::new(), objects: BTreeMap::new(), secrets: Secrets::default() },
        texts,
        open: Vec::new(),
    };
    let objects: Vec<Label> = realiser.paths.keys().cloned().collect();
    for object in objects {
        realiser.object(&object)?;
    }
    for path in texts.keys() {
        realiser.file(path)?;
    }
    Ok(realiser.realised)
}

struct Realiser<'a> {
    manifest: &'a HostManifest,
    ids: &'a Ids,
    paths: BTreeMap<Label, Vec<BundlePath>>,
    texts: &'a Texts,
    realised: Realised<'a>,
    /// The objects that are being realised, the outermost first.
    open: Vec<Label>,
}

impl<'a> Realiser<'a> {
    fn object(&mut self, name: &Label) -> Result<Digest, Refusal> {
        if let Some(done) = self.realised.objects.get(name) {
            return Ok(*done);
        }
        if self.open.contains(name) {
            return Err(Refusal::new(format!("the configuration directory `{name}` names itself")));
        }
        if self.open.len() == MAX_DEPTH {
            return Err(Refusal::new(format!(
                "configuration directories name one another more than {MAX_DEPTH} deep, `{name}` at last"
            )));
        }
        self.open.push(name.clone());
        let paths = self.paths.get(name).cloned().unwrap_or_default();
        for path in &paths {
            self.file(path)?;
        }
        self.open.pop();
        let digest = object_digest(self.object_files(&paths));
        self.realised.objects.insert(name.clone(), digest);
        Ok(digest)
    }

    fn file(&mut self, path: &BundlePath) -> Result<(), Refusal> {
        let texts: &'a Texts = self.texts;
        let Some(bytes) = texts.get(path).filter(|_| !self.realised.texts.contains_key(path)) else {
            return Ok(());
        };
        let tokens = self.manifest.files.get(path).is_some_and(|file| file.tokens);
        let bytes =
            if tokens { Cow::Owned(self.text(path, bytes)?) } else { Cow::Borrowed(bytes.as_slice()) };
        self.realised.texts.insert(path.clone(), bytes);
        Ok(())
    }

    fn text(&mut self, path: &BundlePath, bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
        let text = String::from_utf8_lossy(bytes);
        let realised = token::realise(&text, |token| match token {
            Token::Uid(name) => number(&self.ids.users, name, "uid").map(|uid| uid.to_string()),
            Token::Gid(name) => number(&self.ids.groups, name, "gid").map(|gid| gid.to_string()),
            Token::Object(name) => {
                self.object(name).map(|digest| store_path(&digest)).map_err(|why| why.to_string())
            }
            Token::Secret(file) => self.secret(file),
        });
        realised
            .map(String::into_bytes)
            .map_err(|why| Refusal::new(format!("`{path}` cannot be realised: {why}")))
    }

    fn secret(&mut self, file: &SecretFile) -> Result<String, String> {
        let encrypted = secret::encrypted(&file.name).ok();
        let listed =
            encrypted.and_then(|path| self.manifest.files.get(&path)).and_then(|listed| listed.digest);
        let digest = listed.ok_or_else(|| format!("the bundle has no secret `{}`", file.name))?;
        let uid = owner(&self.ids.users, &file.user, "uid")?;
        let gid = owner(&self.ids.groups, &file.group, "gid")?;
        Ok(self.realised.secrets.add(file, digest, uid, gid))
    }

    fn object_files<'b>(&'b self, paths: &'b [BundlePath]) -> impl Iterator<Item = (&'b str, u32, Digest)> {
        paths.iter().filter_map(|path| {
            let listed = self.manifest.files.get(path)?;
            let digest = match self.realised.texts.get(path) {
                Some(bytes) => Digest::of(bytes),
                None => listed.digest?,
            };
            Some((object_path(path)?.1, listed.mode, digest))
        })
    }
}

/// The digest of a configuration directory, of the path, mode and digest of its files. For each, sorted by the bytes of its path in the
/// directory: path, NUL, mode in octal, NUL, digest, NUL. Changing this is a break: the store's names come from it.
pub fn object_digest<'b>(files: impl IntoIterator<Item = (&'b str, u32, Digest)>) -> Digest {
    let mut hash = Hashing::new(io::sink());
    for (path, mode, digest) in files {
        // A sink takes everything.
        let _ = write!(hash, "{path}\0{mode:o}\0{digest}\0");
    }
    hash.finish().1
}

/// Where an object stands on the host.
fn store_path(digest: &Digest) -> String {
    format!("{STATE}/store/{}", digest.hex())
}

fn number(ids: &BTreeMap<AccountName, Option<u32>>, name: &AccountName, kind: &str) -> Result<u32, String> {
    match ids.get(name) {
        Some(number) => Ok(number.unwrap_or(NOT_YET)),
        None => Err(format!("no {kind} of `{name}` is known")),
    }
}

/// The same of one that may be root, of whom nothing has to be said.
fn owner(ids: &BTreeMap<AccountName, Option<u32>>, name: &AccountName, kind: &str) -> Result<u32, String> {
    if name.as_str() == secret::ROOT { Ok(0) } else { number(ids, name, kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activate::testing::Build;

    /// The texts of all files, and the objects.
    fn done(build: &Build) -> Result<(BTreeMap<String, String>, BTreeMap<Label, Digest>)> {
        let ids = Ids { users: [("app".parse().unwrap(), Some(961))].into(), groups: BTreeMap::new() };
        let (texts, manifest) = (build.texts(), build.manifest());
        let realised = realise(&texts, &manifest, &ids)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let texts = realised.texts.iter().map(|(path, bytes)| (path.to_string(), text(bytes))).collect();
        Ok((texts, realised.objects))
    }

    #[test]
    fn numbers_and_store_paths_stand_in_the_text() {
        let build = Build::new("h")
            .text("units/a.service", "User=@rick(uid:app) @rick(object:conf)/x")
            .text("objects/conf/x", "uid=@rick(uid:app)")
            .file("units/b.service", "@rick(uid:app)")
            .file("objects/conf/payload", "@rick(uid:app)");
        let (texts, objects) = done(&build).unwrap();
        let digest = objects[&"conf".parse().unwrap()];
        assert_eq!(texts["units/a.service"], format!("User=961 /var/lib/rick/store/{}/x", digest.hex()));
        assert_eq!(texts["objects/conf/x"], "uid=961");
        assert_eq!(texts["units/b.service"], "@rick(uid:app)", "what has no tokens is never touched");
        assert!(!texts.contains_key("objects/conf/payload"), "payload is never held");
    }

    #[test]
    fn an_object_may_name_another_but_not_itself() {
        let chain = Build::new("h").text("objects/a/x", "@rick(object:b)").text("objects/b/x", "end");
        let (texts, objects) = done(&chain).unwrap();
        assert!(texts["objects/a/x"].ends_with(&objects[&"b".parse().unwrap()].hex()));
        let ring =
            Build::new("h").text("objects/a/x", "@rick(object:b)").text("objects/b/x", "@rick(object:a)");
        assert!(done(&ring).unwrap_err().to_string().contains("names itself"));
    }

    #[test]
    fn however_long_a_chain_of_objects_is_the_stack_bears_it() {
        let chain = |length: usize| {
            (0..length).fold(Build::new("h"), |build, at| {
                build.text(&format!("objects/o{at:06}/x"), &format!("@rick(object:o{:06})", at + 1))
            })
        };
        let with_end = |length: usize| chain(length).text(&format!("objects/o{length:06}/x"), "end");
        assert!(done(&with_end(MAX_DEPTH - 1)).is_ok());
        for length in [MAX_DEPTH, 20_000] {
            let said = done(&with_end(length)).unwrap_err().to_string();
            assert!(said.contains("name one another more than 64 deep"), "{said:.200}");
            // Each level says where it was.
            assert!(said.len() < 10_000, "{}", said.len());
        }
    }

    #[test]
    fn an_object_is_known_by_its_content() {
        let of = |build: Build| done(&build).unwrap().1[&"a".parse().unwrap()];
        let plain = of(Build::new("h").file("objects/a/x", "1"));
        assert_eq!(plain, of(Build::new("other").file("objects/a/x", "1").file("etc/b/c", "")));
        assert_ne!(plain, of(Build::new("h").file("objects/a/x", "2")));
        assert_ne!(plain, of(Build::new("h").file("objects/a/y", "1")));
        assert_ne!(plain, of(Build::new("h").program("objects/a/x", "1")));
    }
}
