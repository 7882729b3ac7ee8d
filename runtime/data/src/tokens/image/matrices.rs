//! Matrices of f32 by name in a safetensors file, as image tokenizers and their runs keep them.

use std::collections::HashMap;

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::{Error, ErrorKind, Result};

/// A matrix by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// Its name in the file.
    pub name: String,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Row by row.
    pub values: Vec<f32>,
}

/// A file of matrices; `header` are a key and a text for its metadata.
///
/// # Errors
/// When two have one name, or a shape does not fit its numbers.
pub fn to_bytes(matrices: &[Named], header: Option<(&str, String)>) -> Result<Vec<u8>> {
    let bytes: Vec<Vec<u8>> = matrices
        .iter()
        .map(|matrix| {
            let bytes = matrix.values.iter().flat_map(|value| value.to_le_bytes());
            bytes.collect()
        })
        .collect();
    let views = std::iter::zip(matrices, &bytes).map(|(matrix, bytes)| {
        TensorView::new(Dtype::F32, matrix.shape.to_vec(), bytes)
            .map(|view| (matrix.name.as_str(), view))
            .map_err(unreadable)
    });
    let views = views.collect::<Result<Vec<_>>>()?;
    let header = header.map(|(key, text)| HashMap::from([(key.to_owned(), text)]));
    safetensors::serialize(views, header).map_err(unreadable)
}

/// A file of matrices as it was read.
#[derive(Debug)]
pub struct Matrices<'b> {
    bytes: &'b [u8],
    file: SafeTensors<'b>,
}

impl<'b> Matrices<'b> {
    /// Reads the table of a file.
    ///
    /// # Errors
    /// When it is no sound file.
    pub fn read(bytes: &'b [u8]) -> Result<Self> {
        let file = SafeTensors::deserialize(bytes).map_err(unreadable)?;
        Ok(Self { bytes, file })
    }

    /// The text of a key of its metadata.
    ///
    /// # Errors
    /// When it is no sound file.
    pub fn header(&self, key: &str) -> Result<Option<String>> {
        let (_, header) = SafeTensors::read_metadata(self.bytes).map_err(unreadable)?;
        let strings = header.metadata().as_ref();
        Ok(strings.and_then(|strings| strings.get(key)).cloned())
    }

    /// Whether there is a matrix of this name.
    pub fn has(&self, name: &str) -> bool {
        self.file.names().contains(&name)
    }

    /// The numbers of one matrix, which must have this shape, row by row.
    ///
    /// # Errors
    /// When it is missing, of another shape or type, or has numbers that are not finite.
    pub fn values(&self, name: &str, shape: [usize; 2]) -> Result<Vec<f32>> {
        let view = self
            .file
            .tensor(name)
            .map_err(|_| Error::new(format!("the matrix `{name}` is missing")))?;
        if view.dtype() != Dtype::F32 || view.shape() != shape {
            return Err(Error::new(format!(
                "the matrix `{name}` is {:?} {:?}, but the settings ask for F32 {shape:?}",
                view.dtype(),
                view.shape()
            )));
        }
        let (numbers, _) = view.data().as_chunks::<4>();
        let values: Vec<f32> = numbers
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect();
        if values.iter().any(|value| !value.is_finite()) {
            let message = format!("the matrix `{name}` holds numbers that are not finite");
            return Err(Error::of(ErrorKind::NotFinite, message));
        }
        Ok(values)
    }
}

fn unreadable(error: safetensors::SafeTensorError) -> Error {
    Error::damaged(format!("not a sound safetensors file: {error}"))
}
