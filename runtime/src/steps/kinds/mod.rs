//! Kinds of steps, a file each: what a step of the kind is made from, and how it is made.
//!
//! A new kind is a file here, its line in [`kind`], and its words in `jam_ir::recipe::Step`.

mod evaluate;
mod fuse;
mod lessons;
mod page;
mod tokenizer;
mod train;

use jam_ir::recipe::Step;

pub use evaluate::{Measured, Report, ReportRow, read_report};

use super::kind::{Kind, Task};

/// The kind of a step.
pub(crate) fn kind(step: &Step) -> &'static dyn Kind {
    match step {
        Step::Lessons(_) => &lessons::Lessons,
        Step::Tokenizer(_) => &tokenizer::Tokenizer,
        Step::Fuse(_) => &fuse::Fuse,
        Step::Train(_) => &train::Train,
        Step::Eval(_) => &evaluate::Evaluate,
        Step::Page(_) => &page::Page,
    }
}
