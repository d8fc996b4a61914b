//! The layers of a file system as they were stored, each with the way to read it.

use std::io::{self, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail};
use flate2::read::MultiGzDecoder;

use super::unpack::unpack;
use crate::bundle::digest::Digest;
use crate::compile::archive::Codec;
use crate::compile::blob::Blob;
use crate::compile::store::Store;
use crate::compile::tree::Tree;

/// Changes when the same strata give another tree.
const TREE_FORMAT: u32 = 1;

/// One layer.
pub(super) struct Stratum {
    /// The digest of its bytes.
    pub(super) digest: Digest,
    /// What they are.
    pub(super) form: Form,
    /// The bytes, if they are not those that were fetched.
    pub(super) made: Option<Blob>,
}

/// The bytes of a layer were not fetched.
#[derive(Debug)]
pub(super) struct Missing;

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a layer was not fetched")
    }
}

impl std::error::Error for Missing {}

/// How a layer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As an archive.
    Plain,
    /// Compressed.
    Packed(Codec),
    /// As a package of Debian.
    Package,
}

/// What names a file system: the digests of its strata. The same layer in two forms counts as two.
pub(super) fn key(strata: &[Stratum]) -> Digest {
    let digests: Vec<String> = strata.iter().map(|stratum| stratum.digest.hex()).collect();
    Digest::of(format!("tree {TREE_FORMAT}\n{}", digests.join("\n")).as_bytes())
}

/// The file system of all of them, from the store if it was made before.
///
/// # Errors
/// [`Missing`]; a damaged layer; what the machine says.
pub(super) fn tree(strata: &[Stratum], store: &Store) -> Result<Tree> {
    let key = key(strata);
    if let Some(tree) = store.record("trees", key).filter(|tree: &Tree| store.holds(tree)) {
        return Ok(tree);
    }
    let mut tree = Tree::default();
    for stratum in strata {
        stratum.apply(&mut tree, store)?;
    }
    store.keep_record("trees", key, &tree)?;
    Ok(tree)
}

impl Stratum {
    fn apply(&self, tree: &mut Tree, store: &Store) -> Result<()> {
        let context = || format!("cannot unpack the layer {}", self.digest);
        let blob = self.made.clone().or_else(|| store.blob(self.digest)).ok_or(Missing)?;
        let bytes = BufReader::new(blob.open().with_context(context)?);
        let changes = match self.form {
            Form::Plain => unpack(bytes, store),
            Form::Packed(Codec::Gzip) => unpack(MultiGzDecoder::new(bytes), store),
            Form::Packed(Codec::Zstd) => unpack(zstd::Decoder::new(bytes).with_context(context)?, store),
            Form::Package => {
                let mut package = Package::open(&store.blob_path(self.digest))?;
                unpack(&mut package, store).and_then(|changes| package.finish().map(|()| changes))
            }
        };
        let changes = changes.with_context(context)?;
        let applied = if self.form == Form::Package { tree.install(changes) } else { tree.apply(changes) };
        applied.map_err(anyhow::Error::msg).with_context(context)
    }
}

/// The archive inside a package. Debian's own program opens it: the compressions that packages may have are its business.
struct Package {
    child: Child,
    archive: BufReader<ChildStdout>,
}

impl Package {
    fn open(path: &Path) -> Result<Self> {
        let mut command = Command::new("dpkg-deb");
        command.arg("--fsys-tarfile").arg(path).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().context(
            "cannot start dpkg-deb, which unpacks packages of Debian: install it (`apt install dpkg`, `pacman -S dpkg`)",
        )?;
        let archive = child.stdout.take().context("dpkg-deb has no output")?;
        Ok(Self { child, archive: BufReader::new(archive) })
    }

    /// What follows the end of the archive is read too, or the program would die of a closed pipe.
    fn finish(&mut self) -> Result<()> {
        io::copy(&mut self.archive, &mut io::sink())?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("dpkg-deb --fsys-tarfile: {status}");
        }
        Ok(())
    }
}

impl Read for Package {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.archive.read(buffer)
    }
}

impl Drop for Package {
    /// After an error it may still run.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
