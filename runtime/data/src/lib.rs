//! Data sets, tokens, pictures and batches: from files of records to rows of token ids.
//!
//! [`sources`] finds files and reads their records as documents of text and pictures; [`images`] reads,
//! writes and resizes pictures; [`tokens`] makes token ids of documents and documents of token ids;
//! [`batches`] draws batches of them. A batch is a pure function of data, recipe, seed and step. Nothing
//! here knows a device: image tokenizers compute above this crate and come in as
//! [`tokens::PictureTokenizer`].

pub mod batches;
pub mod images;
pub mod sources;
pub mod tokens;

pub use jam_ir::error::{Error, ErrorKind, Result};
pub use jam_weights::random;
