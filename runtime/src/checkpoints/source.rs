//! What weight plans read: tensors under the names and in the layout of a JAM model.

use std::ops::Range;

use super::CheckpointReader;
use crate::Result;

/// Tensors by JAM names, in JAM's layout.
///
/// The layout: a weight `in -> out` is row-major over its input axes, then its output axes; a token table
/// `vocab -> width` has a row for each token. Sizes are those of the axes, so that the queries of a model
/// of width 768 with 12 heads have the shape `[768, 12, 64]` where a Hugging Face file has `[768, 768]`
/// the other way about.
pub trait WeightSource: Send + Sync {
    /// Every name, in a fixed order.
    fn names(&self) -> Vec<String>;

    /// Sizes of a tensor, the slowest axis first; `None` when there is none of that name.
    fn shape(&self, name: &str) -> Option<Vec<u64>>;

    /// Rows along the first axis, row-major, converted to `f32`.
    ///
    /// # Errors
    /// When there is no such tensor, the rows are outside of it, or a file cannot be read or is damaged.
    fn rows(&self, name: &str, rows: Range<u64>) -> Result<Vec<f32>>;
}

/// A checkpoint whose names are JAM's own.
impl WeightSource for CheckpointReader {
    fn names(&self) -> Vec<String> {
        self.tensors().keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        self.tensors().get(name).map(|info| info.shape.clone())
    }

    fn rows(&self, name: &str, rows: Range<u64>) -> Result<Vec<f32>> {
        self.read_rows_f32(name, rows)
    }
}
