//! What an evaluation may use. Hard limits on memory and time are the fence's (`fence.rs`); these ones can name the line.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use starlark::eval::Evaluator;

/// Function calls and loop rounds; a homelab takes a few thousand.
const TICKS: u64 = 10_000_000;
/// Nested calls.
const CALLS: usize = 200;
/// Bytes of values, checked every few hundred ticks.
const HEAP: usize = 256 << 20;

/// Sets the limits of one evaluator.
pub(super) fn set(evaluator: &mut Evaluator<'_, '_, '_>) -> starlark::Result<()> {
    evaluator.disable_gc();
    evaluator.set_max_tick_count(TICKS).map_err(starlark::Error::new_other)?;
    evaluator.set_max_callstack_size(CALLS).map_err(starlark::Error::new_other)?;
    evaluator.set_max_heap_size(HEAP).map_err(starlark::Error::new_other)
}

/// The language's words for a limit that was reached, in ours; any other text stays.
pub(super) fn in_our_words(text: String) -> String {
    let known = [
        (
            "Execution duration limit",
            format!("this takes more than {TICKS} steps\nhelp: look for a loop that does not end"),
        ),
        (
            "Starlark call stack overflow",
            format!("calls are nested more than {CALLS} deep\nhelp: look for a function that calls itself"),
        ),
        (
            "Heap memory usage",
            format!(
                "this needs more than {} MiB of values\nhelp: look for a text or list that grows without end",
                HEAP >> 20
            ),
        ),
    ];
    known.into_iter().find(|(start, _)| text.starts_with(start)).map_or(text, |(_, ours)| ours)
}
