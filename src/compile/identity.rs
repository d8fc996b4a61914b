//! What a file system tells of a file, and when that is enough to know that it holds what it held.
//!
//! It is believed as git believes it: size, mode, device, inode and both times. A file that changed so shortly before it was looked at that it
//! may change again within the same tick of a clock is read again.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// What is younger than this when it is looked at may change without showing. The coarsest clock of a file system that is in use has
/// two seconds.
const TICK: Duration = Duration::from_secs(2);

/// How many numbers an identity is.
pub const WORDS: usize = 6;

/// What tells a file from what it was or will be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) device: u64,
    pub(super) inode: u64,
    /// In nanoseconds since 1970, like the next: until the year 2262.
    pub(super) modified: i64,
    pub(super) changed: i64,
}

impl Identity {
    /// That of a file of which this is known.
    pub fn of(metadata: &Metadata) -> Self {
        let time = |seconds: i64, nanoseconds: i64| {
            seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
        };
        Self {
            size: metadata.len(),
            mode: metadata.mode(),
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: time(metadata.mtime(), metadata.mtime_nsec()),
            changed: time(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// As numbers, for a file that says it.
    pub fn to_words(&self) -> [[u8; 8]; WORDS] {
        let Self { size, mode, device, inode, modified, changed } = *self;
        let [modified, changed] = [modified, changed].map(i64::cast_unsigned);
        [size, mode.into(), device, inode, modified, changed].map(u64::to_be_bytes)
    }

    /// What [`to_words`](Self::to_words) gave; nothing, if a number is too large.
    pub fn from_words(words: [[u8; 8]; WORDS]) -> Option<Self> {
        let [size, mode, device, inode, modified, changed] = words.map(u64::from_be_bytes);
        let [modified, changed] = [modified, changed].map(u64::cast_signed);
        Some(Self { size, mode: mode.try_into().ok()?, device, inode, modified, changed })
    }

    /// A file that changes from now on will have another one.
    pub fn is_settled(&self, horizon: Horizon) -> bool {
        self.modified.max(self.changed) < horizon.0
    }
}

/// A moment, in nanoseconds since 1970: what changed after it may change again and look the same.
#[derive(Clone, Copy, Debug, Default)]
pub struct Horizon(pub(super) i64);

impl Horizon {
    /// That of what is looked at now.
    pub fn now() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH + TICK).unwrap_or_default();
        Self(i64::try_from(now.as_nanos()).unwrap_or_default())
    }
}
