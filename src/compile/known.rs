//! The digests of files that were read before: a file whose identity did not change is not read again.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use tempfile::NamedTempFile;

use super::identity::{self, Horizon, Identity};
use crate::bundle::digest::Digest;

/// How the file begins; changes when it means something else. Then comes the digest of all that follows.
const FORMAT: &[u8] = b"rick known 3\n";

/// The digests of files, by their places.
#[derive(Debug, Default)]
pub struct Known {
    file: Option<PathBuf>,
    /// What the file holds.
    bytes: Vec<u8>,
    /// What it says of each file, sorted by place.
    records: Vec<Record>,
    horizon: Horizon,
}

/// What is known of a file.
#[derive(Debug)]
struct Record {
    /// Where the bytes say its place.
    place: Range<usize>,
    identity: Identity,
    digest: Digest,
    /// Whether it is still that, once somebody looked.
    stands: OnceLock<bool>,
}

impl Record {
    fn stands(&self, place: &Path) -> bool {
        let look = || fs::metadata(place).is_ok_and(|now| Identity::of(&now) == self.identity);
        *self.stands.get_or_init(look)
    }
}

/// A file of which something was found out: where it is, what it was then, and the digest of its content.
pub type Found<'a> = (&'a Path, &'a Identity, Digest);

impl Known {
    /// What is kept in `file`. Nothing, if it is not there, or damaged.
    pub fn at(file: &Path) -> Self {
        let bytes = fs::read(file).unwrap_or_default();
        let records = parse(&bytes).unwrap_or_default();
        Self { file: Some(file.to_owned()), bytes, records, horizon: Horizon::now() }
    }

    /// Looks at every file of which something is known, ahead of whoever wants it. What is found of a file is what it was at some moment since
    /// this began: who reads it later finds out if it has changed since.
    pub fn look(&self) {
        for record in &self.records {
            record.stands(Path::new(OsStr::from_bytes(self.place(record))));
        }
    }

    /// The file at `place`, if it was what is known when it was looked at, which is done once: what that is, and the digest of its content.
    pub fn standing(&self, place: &Path) -> Option<(&Identity, Digest)> {
        self.record(place)
            .filter(|record| record.stands(place))
            .map(|record| (&record.identity, record.digest))
    }

    /// The digest of the file at `place`, if that is the file which is known.
    pub fn digest(&self, place: &Path, identity: &Identity) -> Option<Digest> {
        self.record(place).filter(|record| record.identity == *identity).map(|record| record.digest)
    }

    fn record(&self, place: &Path) -> Option<&Record> {
        let place = place.as_os_str().as_bytes();
        let at = self.records.binary_search_by(|record| self.place(record).cmp(place));
        self.records.get(at.ok()?)
    }

    fn place(&self, record: &Record) -> &[u8] {
        &self.bytes[record.place.clone()]
    }

    /// Keeps what was found out since, and nothing else, if that can be done: it only saves time.
    pub fn keep<'a>(&self, found: impl Iterator<Item = Found<'a>>) {
        let Some(file) = &self.file else { return };
        let settled = found.filter(|(_, identity, _)| identity.is_settled(self.horizon));
        let fact = |(place, identity, digest): Found<'a>| (place.as_os_str().as_bytes(), identity, digest);
        let mut facts: Vec<Fact<'_>> = settled.map(fact).collect();
        facts.sort_by_key(|(place, ..)| *place);
        facts.dedup_by_key(|(place, ..)| *place);
        let old = self.records.iter().map(|record| (self.place(record), &record.identity, record.digest));
        if old.eq(facts.iter().copied()) {
            return;
        }
        let write = || {
            let folder = file.parent()?;
            fs::create_dir_all(folder).ok()?;
            let mut new = NamedTempFile::new_in(folder).ok()?;
            new.write_all(&bytes_of(&facts)).ok()?;
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

/// The same as [`Found`], with the bytes of the place.
type Fact<'a> = (&'a [u8], &'a Identity, Digest);

/// Of each file: the digest of its content, its identity, and its place after the number of its bytes.
fn bytes_of(facts: &[Fact<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (place, identity, digest) in facts {
        bytes.extend(digest.bytes());
        bytes.extend(identity.to_words().as_flattened());
        bytes.extend((place.len() as u64).to_be_bytes());
        bytes.extend(*place);
    }
    [FORMAT, Digest::of(&bytes).bytes(), &bytes].concat()
}

fn parse(bytes: &[u8]) -> Option<Vec<Record>> {
    let (digest, rest) = bytes.strip_prefix(FORMAT)?.split_first_chunk()?;
    let records = || {
        let (mut records, mut left) = (Vec::new(), rest);
        while !left.is_empty() {
            records.push(parse_record(bytes.len(), &mut left)?);
        }
        Some(records)
    };
    let (is_whole, records) = rayon::join(|| Digest::of(rest) == Digest::from(*digest), records);
    if is_whole { records } else { None }
}

/// What is said of a file at the beginning of what is `left` of so many bytes.
fn parse_record(all: usize, left: &mut &[u8]) -> Option<Record> {
    let (digest, rest) = left.split_first_chunk::<32>()?;
    let (identity, rest) = rest.split_first_chunk::<{ 8 * identity::WORDS }>()?;
    let (size, rest) = rest.split_first_chunk()?;
    let place = usize::try_from(u64::from_be_bytes(*size)).ok()?;
    let start = all - rest.len();
    *left = rest.get(place..)?;
    Some(Record {
        place: start..start + place,
        identity: Identity::from_words(identity.as_chunks().0.try_into().ok()?)?,
        digest: Digest::from(*digest),
        stands: OnceLock::new(),
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::compile::payload::{self, Payloads};
    use crate::compile::source::{SourcePath, Span};

    const OLD: Duration = Duration::from_secs(100);

    struct Scene {
        root: TempDir,
        cache: PathBuf,
        /// Whether files are looked at before they are wanted.
        ahead: bool,
    }

    impl Scene {
        fn both() -> [Self; 2] {
            [Self::new(), Self { ahead: true, ..Self::new() }]
        }

        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            fs::create_dir(root.path().join("site")).unwrap();
            let cache = root.path().join("cache/known");
            Self { root, cache, ahead: false }
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.root.path().join("site").join(name), text).unwrap();
        }

        fn find(&self, known: &Known) -> Payloads {
            let span = Span { file: SourcePath("x.star".to_owned()), start: 0, end: 0 };
            let wanted = [(SourcePath("site".to_owned()), span)].into_iter();
            let (payloads, findings) = payload::find(self.root.path(), wanted, known);
            assert!(findings.is_empty(), "{findings:?}");
            payloads
        }

        /// Looks as one does so much later; gives how many digests were known, and keeps all.
        fn look(&self, later: Duration) -> usize {
            let mut known = Known::at(&self.cache);
            known.horizon.0 += i64::try_from(later.as_nanos()).unwrap();
            if self.ahead {
                known.look();
            }
            let payloads = self.find(&known);
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
        for scene in Scene::both() {
            scene.write("a", "1");
            scene.write("with space", "2");
            assert_eq!(scene.look(OLD), 0);
            assert_eq!(scene.look(OLD), 2);
            scene.write("a", "3");
            assert_eq!(scene.look(OLD), 1, "the other is known");
            fs::rename(scene.root.path().join("site/a"), scene.root.path().join("site/b")).unwrap();
            assert_eq!(scene.look(OLD), 1, "it is somewhere else");
        }
    }

    #[test]
    fn the_time_that_a_file_says_it_was_written_is_not_enough() {
        for scene in Scene::both() {
            scene.write("a", "1");
            scene.look(OLD);
            let path = scene.root.path().join("site/a");
            let time = fs::metadata(&path).unwrap().modified().unwrap();
            scene.write("a", "2");
            File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            assert_eq!(scene.look(OLD), 0);
        }
    }

    #[test]
    fn what_became_a_directory_or_executable_is_seen() {
        for scene in Scene::both() {
            let path = |name| scene.root.path().join("site").join(name);
            for name in ["a", "b", "c"] {
                scene.write(name, "1");
            }
            scene.look(OLD);
            fs::set_permissions(path("a"), fs::Permissions::from_mode(0o755)).unwrap();
            fs::remove_file(path("b")).unwrap();
            fs::create_dir(path("b")).unwrap();
            scene.write("b/d", "2");
            assert_eq!(scene.look(OLD), 1, "only `c` is what it was");
        }
    }

    /// It is what it was at one moment of the build, or the build ends; and the next knows better.
    #[test]
    fn what_changes_after_it_was_looked_at_is_found_out() {
        let scene = Scene::new();
        scene.write("a", "1");
        scene.look(OLD);
        let known = Known::at(&scene.cache);
        known.look();
        scene.write("a", "2");
        let payloads = scene.find(&known);
        let file = payloads.0.values().flatten().next().unwrap();
        assert_eq!(file.digest(), Some(Digest::of(b"1")));
        assert!(file.copy(&mut Vec::new()).is_err());
        known.keep(payloads.found());
        assert_eq!(scene.look(OLD), 0);
        assert_eq!(scene.look(OLD), 1);
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
        let good = fs::read(&scene.cache).unwrap();
        let other_format = [b"rick known 2\n", &good[FORMAT.len()..]].concat();
        let mut other_byte = good.clone();
        other_byte[good.len() / 2] ^= 1;
        for bad in [b"", b"x".as_slice(), FORMAT, &good[..good.len() - 1], &other_format, &other_byte] {
            fs::write(&scene.cache, bad).unwrap();
            assert_eq!(scene.look(OLD), 0);
        }
        assert_eq!(scene.look(OLD), 1, "it was written anew");
    }

    fn whole(rest: &[u8]) -> Vec<u8> {
        [FORMAT, Digest::of(rest).bytes(), rest].concat()
    }

    /// Whoever can write the file can write its digest, too.
    #[test]
    fn a_place_that_is_longer_than_the_file_is_none() {
        let record = |place: u64| [&[0; 80], place.to_be_bytes().as_slice(), b"/a"].concat();
        assert_eq!(parse(&whole(&record(2))).unwrap().len(), 1);
        for place in [1, 3, u64::MAX, u64::MAX - 80] {
            assert!(parse(&whole(&record(place))).is_none(), "{place}");
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_read_or_not(rest in prop::collection::vec(any::<u8>(), 0..400)) {
            for bytes in [whole(&rest), rest] {
                for record in parse(&bytes).unwrap_or_default() {
                    prop_assert!(bytes.get(record.place).is_some());
                }
            }
        }
    }
}
