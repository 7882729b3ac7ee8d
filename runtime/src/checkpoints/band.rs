//! Rows of a matrix that lies the other way about in its file, held as they are stored.
//!
//! Hugging Face files have most matrices with the output side first, so that a row of a JAM weight is
//! a column of the file. A band holds a run of such columns; small blocks of rows are taken from it
//! without going back to the file, and turn into `f32` while they are in the cache.

use std::ops::Range;

use super::Dtype;

/// Columns `inputs` of a stored matrix `[outputs, all inputs]`, as `[outputs, inputs]`.
#[derive(Debug)]
pub struct Band {
    /// Rows of the weight's first axis that it holds.
    pub(super) rows: Range<u64>,
    /// Stored columns for each row of the first axis.
    pub(super) inner: u64,
    /// Outputs.
    pub(super) outputs: u64,
    pub(super) dtype: Dtype,
    pub(super) bytes: Vec<u8>,
}

impl Band {
    /// The memory that it was read into.
    pub fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Rows of the first axis that it holds.
    pub fn rows(&self) -> Range<u64> {
        self.rows.clone()
    }

    /// Some of its rows as `f32`, row-major in the layout of the weight; `None` for rows that it does
    /// not hold.
    pub fn read(&self, rows: Range<u64>) -> Option<Vec<f32>> {
        if rows.start < self.rows.start || rows.end > self.rows.end || rows.start > rows.end {
            return None;
        }
        let stride = (self.rows.end - self.rows.start) * self.inner;
        let first = (rows.start - self.rows.start) * self.inner;
        let columns = (rows.end - rows.start) * self.inner;
        let bytes = self.bytes.get((first * self.dtype.size()) as usize..)?;
        self.dtype.transposed_f32(
            bytes,
            self.outputs as usize,
            stride as usize,
            columns as usize,
        )
    }
}
