//! From documents to batches: token ids, the order in which documents are drawn, rows of training.
//!
//! A [`DocumentEncoder`] makes a document into ids of a joint vocabulary, a [`Mixture`] draws documents from data
//! sets by weight, and [`Batches`] fills rows with them. All three are functions of their inputs, a seed and a
//! [`StreamState`] of a few numbers: a run that goes on from a saved state sees the same bits. Only the documents of
//! one pool of batches are in memory at a time.

mod batches;
mod codes;
mod encode;
mod mixture;
mod vq;

#[cfg(test)]
mod tests;

pub use batches::{Batch, Batches, PackOptions, StreamState};
pub use codes::{CodeCache, PictureEncoder};
pub use encode::{DocumentEncoder, EncodedDocument};
pub use mixture::{Mixture, MixtureState};
pub use vq::VqPictures;
