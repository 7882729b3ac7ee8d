//! Documents as token ids, and the batches that training reads.

mod set;
mod stream;

#[cfg(test)]
mod tests;

pub use set::EncodedSet;
pub use stream::{Batch, BatchOptions, BatchStream};
