//! What an evaluation may use. Hard limits on memory and time are the fence's (`fence.rs`); these ones can name the line.

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
