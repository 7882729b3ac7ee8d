//! The largest numbers that a program may ask for. What lies beyond fits no machine or never ends,
//! and is more likely a slip than a wish; bounds that follow from a model's sizes are the verifier's.

/// Tokens of a sequence: a context, a row.
pub(crate) const SEQUENCE: u64 = 1 << 30;

/// Tokens of a batch: an id, a target and a weight each, 3 GiB.
pub(crate) const BATCH: u64 = 1 << 28;

/// Steps of a training.
pub(crate) const STEPS: u64 = 1_000_000_000;

/// Records of one kind that are written, questions asked, pictures drawn.
pub(crate) const RECORDS: u64 = 10_000_000;
