//! Steps as reports name them.

use jam_ir::recipe::Step;
use jam_ir::{Program, Span};

/// A step as the program writes it, and where.
pub(super) fn written(program: &Program, step: &Step) -> (String, Option<Span>) {
    match step {
        Step::Lessons(name) => (format!("lessons {name}"), None),
        Step::Tokenizer(name) => (format!("tokenizer {name}"), None),
        Step::Fuse(name) => {
            let span = program.fusions.get(name).and_then(|recipe| recipe.span);
            (format!("fuse {name}"), span)
        }
        Step::Train(name) => {
            let span = program.trainings.get(name).and_then(|recipe| recipe.span);
            (format!("train {name}"), span)
        }
        Step::Eval(name) => {
            let span = program.evaluations.get(name).and_then(|recipe| recipe.span);
            (format!("eval {name}"), span)
        }
        Step::Page(name) => {
            let span = program.pages.get(name).and_then(|recipe| recipe.span);
            (format!("page {name}"), span)
        }
    }
}
