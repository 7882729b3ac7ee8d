//! The next token: every token that is not padding, with equal weight.

use jam_ir::Signature;

use crate::batches::EncodedSet;
use crate::batches::objective::Objective;

/// The objective.
#[derive(Debug)]
pub struct NextToken;

impl Objective for NextToken {
    fn signature(&self) -> Signature {
        Signature::new("next_token", "every token is learned from those before it")
    }

    fn read(&self, _: &EncodedSet, _: usize) -> usize {
        0
    }

    fn lacking(&self) -> &'static str {
        "no document of two tokens"
    }
}
