//! Answers: the next token of answers only.

use jam_ir::Signature;

use crate::batches::EncodedSet;
use crate::batches::objective::Objective;

/// The objective.
#[derive(Debug)]
pub struct Answers;

impl Objective for Answers {
    fn signature(&self) -> Signature {
        Signature::new(
            "answers",
            "tokens of answers are learned; questions are read and not learned",
        )
    }

    fn read(&self, set: &EncodedSet, document: usize) -> usize {
        set.prompt(document)
    }

    fn lacking(&self) -> &'static str {
        "no answers"
    }
}
