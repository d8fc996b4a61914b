//! The files of the source tree that a build read.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use rayon::prelude::*;

use crate::bundle::digest::Digest;
use crate::compile::Checked;
use crate::compile::host::{Base, BaseKind, Build, File, Host, Image, Piece, Source};
use crate::compile::item::Content;
use crate::compile::payload::{PayloadFile, Payloads};
use crate::compile::selection::Selection;
use crate::compile::source::SourcePath;

/// Path → digest. `rick.lock` is not among them: what it says of things that were asked for is told of each by itself, and the rest of it
/// does not matter.
pub(super) fn read(checked: &Checked) -> Result<BTreeMap<String, Digest>> {
    let mut reading = Reading { payloads: &checked.payloads, files: BTreeMap::new() };
    checked.hosts.iter().for_each(|host| reading.host(host));
    // They are known since the build, so this reads none.
    let hashed = reading.files.into_par_iter().map(|(path, file)| Ok((path, file.hash()?)));
    both(hashed.collect::<Result<_>>()?, &checked.read)
}

/// What was packed and what the evaluation read. A file that is of both is the same, or it changed in between, and what was built is of no one state
/// of the source.
fn both(
    packed: BTreeMap<String, Digest>,
    evaluated: &BTreeMap<SourcePath, Digest>,
) -> Result<BTreeMap<String, Digest>> {
    let mut files = packed;
    for (SourcePath(path), digest) in evaluated {
        if files.insert(path.clone(), *digest).is_some_and(|other| other != *digest) {
            bail!("{path} changed while it was built: build it again");
        }
    }
    Ok(files)
}

/// Collects the payload files that take part: of a tree, those that are left out do not.
struct Reading<'a> {
    payloads: &'a Payloads,
    files: BTreeMap<String, &'a PayloadFile>,
}

impl Reading<'_> {
    fn host(&mut self, host: &Host) {
        for file in host.files.values() {
            if let File { content: Content::Payload(path), .. } = file {
                self.tree(path, &Selection::default());
            }
        }
        host.images.values().for_each(|image| self.image(image));
    }

    fn image(&mut self, image: &Image) {
        image.base.iter().for_each(|base| self.base(base));
        for layer in &image.layers {
            if let Piece::Copied { source, selection, .. } = &layer.piece {
                self.source(source, selection);
            }
        }
    }

    fn base(&mut self, base: &Base) {
        if let BaseKind::Image(image) = &base.kind {
            self.image(image);
        }
    }

    fn build(&mut self, build: &Build) {
        self.base(&build.root);
        build.inputs.values().for_each(|input| self.source(input, &Selection::default()));
    }

    fn source(&mut self, source: &Source, selection: &Selection) {
        match source {
            Source::Tree(path) => self.tree(path, selection),
            Source::Archive(..) => {}
            Source::Output(build, _) => self.build(build),
            Source::Within(base, _) => self.base(base),
        }
    }

    fn tree(&mut self, path: &SourcePath, selection: &Selection) {
        let members = self.payloads.0.get(path).map(Vec::as_slice).unwrap_or_default();
        let path = path.0.trim_end_matches('/');
        for file in selection.of(members) {
            let below = file.relative.as_ref().map(|relative| format!("{path}/{relative}"));
            self.files.insert(below.unwrap_or_else(|| path.to_owned()), file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_twice_is_the_same_both_times() {
        let [one, other] = [b"1", b"2"].map(|bytes| Digest::of(bytes));
        let packed = || BTreeMap::from([("a".to_owned(), one), ("b".to_owned(), one)]);
        let evaluated = |digest| {
            BTreeMap::from([(SourcePath("b".to_owned()), digest), (SourcePath("c".to_owned()), one)])
        };
        assert_eq!(both(packed(), &evaluated(one)).unwrap().into_keys().collect::<String>(), "abc");
        let refused = both(packed(), &evaluated(other)).unwrap_err().to_string();
        assert_eq!(refused, "b changed while it was built: build it again");
    }
}
