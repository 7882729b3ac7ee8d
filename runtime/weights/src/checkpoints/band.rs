//! Rows of a matrix that lies the other way about in its file, held as they are stored.
//!
//! Hugging Face files have most matrices with the output side first, so that a row of a JAM weight is
//! a column of the file. A band holds a run of such columns, turned while they were read; small blocks
//! of rows are taken from it without going back to the file.

use std::ops::Range;

use super::Dtype;

/// Some rows of a weight, row-major in its layout and in the format of the file.
#[derive(Debug)]
pub struct Band {
    /// Rows of the weight's first axis that it holds.
    pub(super) rows: Range<u64>,
    /// Elements of one of them.
    pub(super) width: u64,
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
        let place = |row: u64| ((row - self.rows.start) * self.width * self.dtype.size()) as usize;
        let bytes = self.bytes.get(place(rows.start)..place(rows.end))?;
        self.dtype.to_f32(bytes)
    }
}
