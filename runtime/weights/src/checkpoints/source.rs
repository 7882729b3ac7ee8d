//! What weight plans read: tensors under the names and in the layout of a JAM model.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Band, CheckpointReader, Dtype};
use crate::Result;

/// Where the numbers of a weight are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The format.
    pub dtype: Dtype,
    /// Bytes.
    pub bytes: u64,
    /// The file.
    pub file: Arc<PathBuf>,
}

/// A weight that is stored in one tensor with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPart {
    /// The tensor.
    pub tensor: String,
    /// Where in it the weight begins.
    pub first: u64,
}

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

    /// Where a tensor is stored; `None` where there is none of that name, and for numbers that lie in
    /// no file.
    fn stored(&self, _name: &str) -> Option<Stored> {
        None
    }

    /// The tensor that a weight is a part of; `None` for one that is stored for itself.
    fn part(&self, _name: &str) -> Option<StoredPart> {
        None
    }

    /// Bytes that a [`WeightSource::band`] of a tensor takes for each row; 0 where blocks of rows are
    /// read as they are.
    fn band_bytes(&self, _name: &str) -> u64 {
        0
    }

    /// Bytes of each of its pieces in the file that a row of a [`WeightSource::band`] takes: a run of so many
    /// rows is put together from pieces so many times as long; 0 where blocks of rows are read as they are.
    fn piece_bytes(&self, _name: &str) -> u64 {
        0
    }

    /// Rows of a tensor that lies the other way about, held as they are stored, so that small blocks
    /// of them are had without reading the file for each; `None` where rows follow one another.
    /// `buffer` is used for the bytes: memory that has been touched before comes cheaper.
    ///
    /// # Errors
    /// As [`WeightSource::rows`].
    fn band(&self, _name: &str, _rows: Range<u64>, _buffer: Vec<u8>) -> Result<Option<Band>> {
        Ok(None)
    }

    /// Tells that rows will be read soon, so that the system can fetch them meanwhile.
    fn will_need(&self, _name: &str, _rows: Range<u64>) {}
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

    fn stored(&self, name: &str) -> Option<Stored> {
        let info = self.tensors().get(name)?;
        Some(Stored {
            dtype: info.dtype,
            bytes: info.range.end - info.range.start,
            file: info.file.clone(),
        })
    }

    fn will_need(&self, name: &str, rows: Range<u64>) {
        if let Ok(info) = self.tensor(name) {
            let row = info.row_elements();
            self.prefetch(name, rows.start * row..rows.end * row);
        }
    }
}
