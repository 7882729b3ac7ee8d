//! The verifier: whether a model can be trusted by everything that comes after it.
//!
//! It reports every failure with its place, never only the first, and runs after every pass. It
//! checks:
//!
//! **Axes.** Names are unique and not empty. Batch and time occur once each and have no size;
//! every other axis has one, of at least 1.
//!
//! **Tokens.** Ranges follow one another without gaps from 0 to the size of the vocabulary, which
//! fits 32-bit ids and is the size of every vocabulary axis. Marks have ids in it. A picture fits
//! the id arithmetic.
//!
//! **Blocks.** A block is filed under its name; none but the main block is called `main`. Names of
//! values and of parameters are unique in their block and not empty. Types name axes that exist,
//! values at most once each; weights have sized axes and a float type. Every value is defined at
//! most once, and before it is read; the result is defined. Every operation has the type that
//! [`infer`](crate::infer::infer) gives it, which includes what each operation asks of its
//! operands: head counts that divide, even heads under rotary positions, parts of a norm that make
//! up the axis, ranges of rows inside of the vocabulary, finite constants. Fresh values of
//! parameters load nothing and fit the parameter's shape.
//!
//! **Calls.** Blocks do not call themselves, calls nest at most 64 deep, and the graph expands to
//! at most 1,048,576 calls and weights.
//!
//! **Main.** It takes tokens `u32[b, t]` and gives logits `f32[b, t, vocab]`.
//!
//! **Context.** It is at least 1; with learned positions it is given, and every position table
//! that is read has `offset + context` rows.
//!
//! **Weights.** Every weight that a call asks for is there under its full name, asked for by one
//! parameter only; none is there that nothing asks for. Every plan adds up to the shape of its
//! weight, as far as the plan alone tells ([`plan_shape`](crate::plan_shape::plan_shape)). Bytes
//! of each weight and of all together fit 64 bits.

mod blocks;
mod calls;
mod problems;
mod vocabulary;
mod weights;

use crate::Model;
use problems::Problems;
pub use problems::{Place, Problem};

/// Checks everything that this file opens with.
///
/// # Errors
/// Every problem, in the order of the list above. It never panics, whatever the model.
pub fn verify(model: &Model) -> Result<(), Vec<Problem>> {
    let mut problems = Problems::default();
    vocabulary::check_axes(model, &mut problems);
    vocabulary::check_tokens(model, &mut problems);
    blocks::check_blocks(model, &mut problems);
    // Expanding calls and weights is safe only once calls are known to end.
    let calls_end = calls::check_calls(model, &mut problems);
    blocks::check_main(model, &mut problems);
    vocabulary::check_context(model, &mut problems);
    if calls_end {
        weights::check_weights(model, &mut problems);
    }
    match problems.list.is_empty() {
        true => Ok(()),
        false => Err(problems.list),
    }
}

/// Whether calls end within the bounds, so that the graph may be expanded.
pub(crate) fn calls_end(model: &Model) -> bool {
    calls::check_calls(model, &mut Problems::default())
}
