//! Documents as token ids, and the batches that training reads.

mod objective;
mod objectives;
mod set;
mod stream;

#[cfg(test)]
mod tests;

pub use objective::Objective;
pub use objectives::{Answers, NextToken, OBJECTIVES, objective_of, objectives};
pub use set::EncodedSet;
pub use stream::{Batch, BatchOptions, BatchStream};
