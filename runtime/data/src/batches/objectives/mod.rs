//! Objectives: what is learned of each token, a file each.
//!
//! A new one is a file here and a line in [`OBJECTIVES`].

mod answers;
mod next_token;

use jam_ir::signature;
use jam_ir::{Called, Signature};

pub use answers::Answers;
pub use next_token::NextToken;

use super::objective::Objective;
use crate::Result;

/// Every objective, in the order in which help lists them; the first is the default.
pub const OBJECTIVES: [&dyn Objective; 2] = [&NextToken, &Answers];

/// Signatures of every objective, for the language.
pub fn objectives() -> Vec<Signature> {
    OBJECTIVES.iter().map(|of| of.signature()).collect()
}

/// The objective that a recipe calls.
///
/// # Errors
/// When there is none of this name; the language has checked it, a stored program may lie.
pub fn objective_of(called: &Called) -> Result<&'static dyn Objective> {
    signature::find(&OBJECTIVES, "an objective", &called.name, |of| {
        of.signature().word
    })
}
