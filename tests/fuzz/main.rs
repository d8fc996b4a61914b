//! One target of [`targets`], the one that `RICK_FUZZ_TARGET` names, under libFuzzer. `ci/fuzz` builds and runs it.
#![no_main]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use libfuzzer_sys::fuzz_target;

use targets::Target;

mod targets;

/// What an input may take of memory at once: so much, and for each of its bytes so many more.
const FREE_BYTES: usize = 16 << 20;
const BYTES_PER_BYTE: usize = 128;

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("RICK_FUZZ_TARGET").expect("RICK_FUZZ_TARGET names a target");
        let target = targets::TARGETS.iter().find(|(known, _)| *known == name);
        TARGET.get_or_init(|| target.expect("it is one of those in targets/mod.rs").1);
    },
    |input: &[u8]| {
        let before = LIVE.load(Relaxed);
        PEAK.store(before, Relaxed);
        TARGET.get().expect("it was set before")(input);
        let taken = PEAK.load(Relaxed).saturating_sub(before);
        let allowed = FREE_BYTES + BYTES_PER_BYTE * input.len();
        assert!(taken <= allowed, "{} bytes of input took {taken} bytes of memory", input.len());
    }
);

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with a count of what is taken.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(at, layout) }
    }
}
