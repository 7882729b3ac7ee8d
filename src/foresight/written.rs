//! Steps as reports name them.

use jam_ir::recipe::Step;
use jam_ir::{Program, Span};

/// A step as the program writes it, and where.
pub(super) fn written(program: &Program, step: &Step) -> (String, Option<Span>) {
    let span = match step {
        Step::Lessons(_) | Step::Tokenizer(_) => None,
        Step::Fuse(name) => program.fusions.get(name).and_then(|recipe| recipe.span),
        Step::Train(name) => program.trainings.get(name).and_then(|recipe| recipe.span),
        Step::Eval(name) => program.evaluations.get(name).and_then(|recipe| recipe.span),
        Step::Page(name) => program.pages.get(name).and_then(|recipe| recipe.span),
    };
    (step.to_string(), span)
}
