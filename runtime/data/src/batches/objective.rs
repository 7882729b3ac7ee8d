//! What an objective is.

use std::fmt::Debug;

use jam_ir::Signature;

use super::EncodedSet;

/// What is learned.
pub trait Objective: Debug + Sync {
    /// What the language may ask of it.
    fn signature(&self) -> Signature;

    /// How many of the first tokens of a document are read and not learned.
    fn read(&self, set: &EncodedSet, document: usize) -> usize;

    /// What data have of which nothing is learned: `no answers`.
    fn lacking(&self) -> &'static str;
}
