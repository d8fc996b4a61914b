//! The digests of files that were read before: a file whose identity did not change is not read again.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use tempfile::NamedTempFile;

use super::identity::{Horizon, Identity};
use crate::bundle::digest::Digest;

/// Changes when the file means something else.
const FORMAT: &str = "rick known 2";

/// The digests of files, by their places.
#[derive(Debug, Default)]
pub struct Known {
    file: Option<PathBuf>,
    /// What the file said.
    text: String,
    /// Its lines, sorted by place.
    lines: Vec<Line>,
    horizon: Horizon,
}

/// What is known of a file.
#[derive(Debug)]
struct Line {
    /// Where the text says its place.
    place: Range<usize>,
    identity: Identity,
    digest: Digest,
}

/// A file of which something was found out: where it is, what it was then, and the digest of its content.
pub type Found<'a> = (&'a Path, &'a Identity, Digest);

impl Known {
    /// What is kept in `file`. Nothing, if it is not there, or damaged.
    pub fn at(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap_or_default();
        let lines = parse(&text).unwrap_or_default();
        Self { file: Some(file.to_owned()), text, lines, horizon: Horizon::now() }
    }

    /// The digest of the file at `place`, if that is the file which is known.
    pub fn digest(&self, place: &Path, identity: &Identity) -> Option<Digest> {
        let place = place.to_str()?;
        let line = self.lines.binary_search_by(|line| self.text[line.place.clone()].cmp(place));
        self.lines.get(line.ok()?).filter(|line| line.identity == *identity).map(|line| line.digest)
    }

    /// Keeps what was found out since, and nothing else, if that can be done: it only saves time.
    pub fn keep<'a>(&self, found: impl Iterator<Item = Found<'a>>) {
        let Some(file) = &self.file else { return };
        let settled = found.filter(|(_, identity, _)| identity.is_settled(self.horizon));
        let fact = |(place, identity, digest): Found<'a>| {
            let place = place.to_str().filter(|place| !place.contains('\n'))?;
            Some((place, identity, digest))
        };
        let mut facts: Vec<Fact<'_>> = settled.filter_map(fact).collect();
        facts.sort_by_key(|(place, ..)| *place);
        facts.dedup_by_key(|(place, ..)| *place);
        let old = self.lines.iter().map(|line| (&self.text[line.place.clone()], &line.identity, line.digest));
        if old.eq(facts.iter().copied()) {
            return;
        }
        let write = || {
            let folder = file.parent()?;
            fs::create_dir_all(folder).ok()?;
            let mut new = NamedTempFile::new_in(folder).ok()?;
            new.write_all(text_of(&facts).as_bytes()).ok()?;
            new.persist(file).ok()
        };
        // A cache that cannot be written is none.
        let _ = write();
    }

    /// Forgets all of it, after a build that failed: a file that is not what it was taken for is read by the next.
    pub fn forget(&self) {
        if let Some(file) = &self.file {
            let _ = fs::remove_file(file);
        }
    }
}

/// The same as [`Found`], as a line can say it.
type Fact<'a> = (&'a str, &'a Identity, Digest);

fn text_of(facts: &[Fact<'_>]) -> String {
    let mut text = String::new();
    for (place, identity, digest) in facts {
        let Identity { size, mode, device, inode, modified, changed } = identity;
        // A text takes everything.
        let _ =
            writeln!(text, "{} {size} {mode} {device} {inode} {modified} {changed} {place}", digest.hex());
    }
    format!("{FORMAT} {}\n{text}", Digest::of(text.as_bytes()).hex())
}

/// The first line says which format this is, and the digest of the others; each of them names a file.
fn parse(text: &str) -> Option<Vec<Line>> {
    let (first, rest) = text.split_once('\n')?;
    let digest = Digest::from_hex(first.strip_prefix(FORMAT)?.trim_start())?;
    let lines = || rest.par_split_terminator('\n').map(|line| parse_line(text, line)).collect();
    let (is_whole, lines) = rayon::join(|| digest == Digest::of(rest.as_bytes()), lines);
    if is_whole { lines } else { None }
}

/// What a line of the text says.
fn parse_line(text: &str, line: &str) -> Option<Line> {
    let mut words = line.splitn(8, ' ');
    let digest = Digest::from_hex(words.next()?)?;
    let identity = Identity {
        size: words.next()?.parse().ok()?,
        mode: words.next()?.parse().ok()?,
        device: words.next()?.parse().ok()?,
        inode: words.next()?.parse().ok()?,
        modified: words.next()?.parse().ok()?,
        changed: words.next()?.parse().ok()?,
    };
    let place = words.next()?;
    let start = place.as_ptr().addr() - text.as_ptr().addr();
    Some(Line { place: start..start + place.len(), identity, digest })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;
    use crate::compile::payload;
    use crate::compile::source::{SourcePath, Span};

    const OLD: Duration = Duration::from_secs(100);

    struct Scene {
        root: TempDir,
        cache: PathBuf,
    }

    impl Scene {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("site")).unwrap();
            let cache = root.path().join("cache/known");
            Self { root, cache }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.root.path().join("site").join(name), text).unwrap();
        }

        /// Looks as one does so much later; gives how many digests were known, and keeps all.
        fn look(&self, later: Duration) -> usize {
            let mut known = Known::at(&self.cache);
            known.horizon.0 += i64::try_from(later.as_nanos()).unwrap();
            let span = Span { file: SourcePath("x.star".to_owned()), start: 0, end: 0 };
            let wanted = [(SourcePath("site".to_owned()), span)].into_iter();
            let (payloads, findings) = payload::find(self.root.path(), wanted, &known);
            assert!(findings.is_empty(), "{findings:?}");
            let files = || payloads.0.values().flatten();
            let count = files().filter(|file| file.digest().is_some()).count();
            for file in files() {
                assert_eq!(file.hash().unwrap(), Digest::of(&fs::read(&file.location).unwrap()));
            }
            known.keep(payloads.found());
            count
        }
    }

    #[test]
    fn what_did_not_change_is_not_read_again() {
        let scene = Scene::new();
        scene.write("a", "1");
        scene.write("with space", "2");
        assert_eq!(scene.look(OLD), 0);
        assert_eq!(scene.look(OLD), 2);
        scene.write("a", "3");
        assert_eq!(scene.look(OLD), 1, "the other is known");
        fs::rename(scene.root.path().join("site/a"), scene.root.path().join("site/b")).unwrap();
        assert_eq!(scene.look(OLD), 1, "it is somewhere else");
    }

    #[test]
    fn the_time_that_a_file_says_it_was_written_is_not_enough() {
        let scene = Scene::new();
        scene.write("a", "1");
        scene.look(OLD);
        let path = scene.root.path().join("site/a");
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        scene.write("a", "2");
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
        assert_eq!(scene.look(OLD), 0);
    }

    #[test]
    fn what_just_changed_may_change_again() {
        let scene = Scene::new();
        scene.write("a", "1");
        scene.look(Duration::ZERO);
        assert_eq!(scene.look(Duration::ZERO), 0);
    }

    #[test]
    fn what_is_damaged_is_not_believed() {
        let scene = Scene::new();
        scene.write("a", "1");
        scene.look(OLD);
        let good = fs::read_to_string(&scene.cache).unwrap();
        for bad in ["", "x", &good.replace("rick known 2", "rick known 3"), &good.replacen('0', "1", 1)] {
            fs::write(&scene.cache, bad).unwrap();
            assert_eq!(scene.look(OLD), 0);
        }
        assert_eq!(scene.look(OLD), 1, "it was written anew");
    }
}
