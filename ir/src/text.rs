//! The text form of a model: printed for people, and parsed back to the same model.
//!
//! ```text
//! model llm {
//!   tokens mixed {
//!     size = 66_056
//!     text = files "tokenizers/cm3leon"
//!     image = ids
//!     grid = 32
//!     range mark = 0..4
//!     …
//!     mark bos = 0
//!   }
//!   context = 4_096
//!   axis b: batch
//!   axis t: time
//!   axis width = 768                       // the role is the name's, unless it is given
//!   axis head: heads = 12
//!   …
//!   block decoder(x: bf16[b, t, width]) -> bf16[b, t, width] {
//!     param norm1.gain: bf16[width] = ones
//!     param attn.q: bf16[width -> head, key] = truncated_normal(0.02, 3.0) @0:120..140
//!     n1: bf16[b, t, width] = layer_norm x, norm1.gain {eps = 1e-5}
//!     q: bf16[b, t, head, key] = linear n1, attn.q @0:120..140
//!     …
//!     return x2
//!   }
//!   main(tokens: u32[b, t]) -> f32[b, t, vocab] { … }
//!   weights {
//!     embed.table = load(llm)              // under its own name, unless one is given
//!     layers.0.attn.q = sum(0.5 * load(llm), 0.5 * load(cm3leon))
//!   }
//! }
//! ```
//!
//! What follows a parameter's `=` is how a fresh one begins. `@file:start..end` is the place in
//! the program. A name that is not letters, digits, `_` and single dots stands in quotes; `_`
//! holds the place of a gain that is not there. A value whose id does not follow from the order is
//! written `x%7`, one that nothing defines `value x%7: f32[b]`. Line breaks mean nothing, `//` begins
//! a comment.
//!
//! Every model that the verifier accepts is parsed back to an equal one. A model that it does not
//! accept is still printed, so that one can look at it.

mod lex;
mod names;
mod parse;
mod print;

pub use parse::{ParseError, parse};
pub use print::{Style, print, print_plan, print_with};
