//! `pytorch_model.bin`: what `torch.save` writes, read as untrusted input. Nothing of it is executed.
//!
//! Since torch 1.6 the file is a zip of a pickle, `data.pkl`, and of a file for each storage of numbers, all of
//! them stored as they are. The pickle is read by a machine that knows the few instructions that lead to a
//! dictionary of tensors ([`pickle`]); numbers stay in the file, and tensors are ranges of it, as those of
//! a safetensors file are.

mod pickle;
mod zip;

#[cfg(test)]
mod tests;

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use indexmap::IndexMap;

use super::header::{Header, HeaderEntry, check_tensor, element_count};
use crate::{Error, Result};
use pickle::Tensor;
use zip::{Archive, Entry};

/// What a zip begins with.
const ZIP: [u8; 4] = *b"PK\x03\x04";
/// What the format before torch 1.6 begins with: a pickle of its magic number.
const LEGACY: [u8; 14] = [
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
];
/// The longest pickle that is read: the names and shapes of some fifty thousand tensors.
const MAX_PICKLE_BYTES: u64 = 8_000_000;

/// Whether a file that begins so is one of torch's, of either format.
pub(super) fn is_torch(start: &[u8]) -> bool {
    start.starts_with(&ZIP) || start.starts_with(&LEGACY)
}

impl Header {
    /// Reads and checks the tensors of what `torch.save` wrote, a `pytorch_model.bin`; `path` is for
    /// messages only.
    ///
    /// # Errors
    /// When the file cannot be read, is none of torch's or of the format before torch 1.6, its zip is
    /// damaged, compressed or overlaps, its pickle asks for anything but tensors, or a tensor is not a run
    /// of its storage.
    pub fn read_torch(file: &mut (impl Read + Seek), path: &Path) -> Result<Self> {
        let mut start = Vec::with_capacity(LEGACY.len());
        file.seek(SeekFrom::Start(0))
            .and_then(|_| {
                file.by_ref()
                    .take(LEGACY.len() as u64)
                    .read_to_end(&mut start)
            })
            .map_err(|error| Error::io("read", path, error))?;
        if !is_torch(&start) {
            return Err(Error::new("the file is not what `torch.save` writes").with_path(path));
        }
        read(file, &start, path)
    }
}

/// Reads and checks the tensors of an open file that begins with `start`; `path` is for messages only.
///
/// # Errors
/// When the file cannot be read, is of the format before torch 1.6, its zip is damaged, compressed or
/// overlaps, its pickle asks for anything but tensors, or a tensor is not a run of its storage.
pub(super) fn read(file: &mut (impl Read + Seek), start: &[u8], path: &Path) -> Result<Header> {
    if start.starts_with(&LEGACY) {
        return Err(
            Error::new("the file is in the format that torch wrote before version 1.6")
                .with_path(path)
                .with_help(
                    "load it in torch with `weights_only=True`, and save it again, better as \
                     safetensors",
                ),
        );
    }
    let archive = Archive::read(file, path)?;
    let bad = |message: String| {
        Error::damaged(message).with_path(path).with_help(
            "the file is damaged, or no state dictionary; what is executed on loading is never \
             executed here",
        )
    };
    let mut pickles = archive.entries.iter().filter_map(|(name, entry)| {
        let folder = name.strip_suffix("/data.pkl")?;
        (!folder.contains('/')).then_some((folder, entry))
    });
    let (Some((folder, pickle)), None) = (pickles.next(), pickles.next()) else {
        return Err(bad("the archive has no `data.pkl`, or several".to_owned()));
    };
    if let Some(order) = archive.entries.get(&format!("{folder}/byteorder"))
        && archive.bytes(file, order, 16, path)? != b"little"
    {
        return Err(bad("its numbers are not little-endian".to_owned()));
    }
    let program = archive.bytes(file, pickle, MAX_PICKLE_BYTES, path)?;
    let tensors = pickle::tensors(&program).map_err(|why| bad(format!("its pickle {why}")))?;
    let mut header = Header {
        tensors: IndexMap::with_capacity(tensors.len()),
        metadata: IndexMap::new(),
    };
    for (name, tensor) in tensors {
        check_tensor(&name, &tensor.shape).map_err(bad)?;
        let storage = format!("{folder}/data/{}", tensor.storage);
        let entry = archive.entries.get(&storage).ok_or_else(|| {
            bad(format!(
                "`{name}` lies in the storage `{storage}`, which is not there"
            ))
        })?;
        let entry = place(&tensor, entry).map_err(|why| bad(format!("`{name}` {why}")))?;
        header.tensors.insert(name, entry);
    }
    // In the order of the data, as safetensors files are read.
    header
        .tensors
        .sort_by(|_, a, _, b| a.range.start.cmp(&b.range.start));
    Ok(header)
}

/// The bytes of a tensor in the file.
fn place(tensor: &Tensor, entry: &Entry) -> std::result::Result<HeaderEntry, String> {
    let size = tensor.dtype.size();
    let elements = element_count(&tensor.shape).ok_or("has more elements than 64 bits count")?;
    if elements > 0 && !is_contiguous(&tensor.shape, &tensor.strides) {
        return Err(format!(
            "has the strides {:?} for the shape {:?}: it is a view that was saved as one",
            tensor.strides, tensor.shape
        ));
    }
    let bytes = |count: u64| count.checked_mul(size);
    let (Some(start), Some(length)) = (bytes(tensor.offset), bytes(elements)) else {
        return Err("is larger than any file".to_owned());
    };
    let end = start.checked_add(length);
    if bytes(tensor.storage_elements).is_none_or(|told| told > entry.size)
        || end.is_none_or(|end| end > entry.size)
    {
        return Err(format!(
            "needs {length} bytes from {start} on of a storage that has {}",
            entry.size
        ));
    }
    let start = entry.start + start;
    Ok(HeaderEntry {
        dtype: tensor.dtype,
        shape: tensor.shape.clone(),
        range: start..start + length,
    })
}

/// Whether elements follow one another, the last axis fastest. Strides of axes of size 1 mean nothing.
fn is_contiguous(shape: &[u64], strides: &[u64]) -> bool {
    let mut wanted = 1u64;
    for (&size, &stride) in shape.iter().zip(strides).rev() {
        if size != 1 && stride != wanted {
            return false;
        }
        wanted = wanted.saturating_mul(size);
    }
    shape.len() == strides.len()
}
