//! What a file of records holds: bytes on the disk or, where it is packed, in memory.
//!
//! Only regular files are opened (a pipe or a device would never end), and what a packed file unpacks to is
//! bounded. A byte order mark is no part of a file; text in UTF-16 is named for what it is.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::packing::{Packing, packing};
use crate::{Error, Result};
use jam_weights::checkpoints::ReadAt;

/// The byte order mark of UTF-8.
pub(super) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The most that a packed file unpacks to, in bytes; it lies in memory.
const MAX_UNPACKED: u64 = 1 << 30;

/// A file of records.
#[derive(Debug, Clone)]
pub(super) struct Content {
    path: Arc<Path>,
    /// What it unpacks to, where it is packed.
    unpacked: Option<Arc<[u8]>>,
}

impl Content {
    /// A file, unpacked where the ending of its name says that it is packed.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = open_regular(path)?;
        let unpacked = match packing(path) {
            None => None,
            Some(Packing::Gzip) => Some(unpack(
                flate2::read::MultiGzDecoder::new(BufReader::new(file)),
                path,
            )?),
            Some(Packing::Zstd) => {
                let failed = |error| Error::io("unpack", path, error);
                Some(unpack(zstd::Decoder::new(file).map_err(failed)?, path)?)
            }
        };
        Ok(Self {
            path: Arc::from(path),
            unpacked,
        })
    }

    pub(super) fn path(&self) -> &Arc<Path> {
        &self.path
    }

    /// All of it, from the beginning.
    ///
    /// # Errors
    /// When it cannot be read, or is text in UTF-16.
    pub(super) fn reader(&self) -> Result<Box<dyn BufRead + '_>> {
        let mut reader: Box<dyn BufRead> = match &self.unpacked {
            Some(bytes) => Box::new(Cursor::new(bytes)),
            None => Box::new(BufReader::with_capacity(1 << 18, open_regular(&self.path)?)),
        };
        let start = reader.fill_buf();
        let start = start.map_err(|error| Error::io("read", &self.path, error))?;
        refuse_utf16(start, &self.path)?;
        Ok(reader)
    }

    /// Some of its bytes; a file that is `last` is not opened again.
    ///
    /// # Errors
    /// When the file cannot be read, or ends before them.
    pub(super) fn range(&self, start: u64, bytes: u64, last: &LastOpen) -> Result<Vec<u8>> {
        let failed = |error| Error::io("read", &self.path, error);
        if let Some(unpacked) = &self.unpacked {
            let range = unpacked.get(start as usize..(start + bytes) as usize);
            return range
                .map(<[u8]>::to_vec)
                .ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()));
        }
        let file = last.open(&self.path)?;
        let mut content = vec![0; bytes as usize];
        file.read_at(&mut content, start).map_err(failed)?;
        Ok(content)
    }
}

/// The file of a set that was read last, still open. Records are read in the order in which they lie, so it is nearly
/// always the next one too; and no more than one is open, for a set may have more files than a process may open.
#[derive(Debug, Clone, Default)]
pub(super) struct LastOpen(Arc<Mutex<Option<Opened>>>);

/// An open file with its path.
type Opened = (Arc<Path>, Arc<ReadAt>);

impl LastOpen {
    fn open(&self, path: &Arc<Path>) -> Result<Arc<ReadAt>> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, file)) = &*last
            && of == path
        {
            return Ok(file.clone());
        }
        let file = Arc::new(ReadAt::new(open_regular(path)?));
        *last = Some((path.clone(), file.clone()));
        Ok(file)
    }
}

/// Opens a file that has an end.
///
/// # Errors
/// When it cannot be opened, or is no regular file.
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    let failed = |error| Error::io("open", path, error);
    // Opening a pipe would wait for somebody to write, so this comes first.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(Error::new("it is no regular file")
            .with_path(path)
            .with_help("a pipe or a device need not end: write what it gives to a file first"));
    }
    File::open(path).map_err(failed)
}

/// All bytes of a regular file that has at most `most`.
///
/// # Errors
/// When it is larger or no regular file, or cannot be read.
pub(crate) fn read_regular(path: &Path, most: u64) -> Result<Vec<u8>> {
    let failed = |error| Error::io("read", path, error);
    let mut bytes = Vec::new();
    open_regular(path)?
        .take(most + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > most {
        let message = format!("the file has more than {most} bytes; no more are read");
        return Err(Error::new(message).with_path(path));
    }
    Ok(bytes)
}

/// The bytes of a text file without its byte order mark.
///
/// # Errors
/// When it is text in UTF-16.
pub(super) fn without_mark<'b>(bytes: &'b [u8], path: &Path) -> Result<&'b [u8]> {
    refuse_utf16(bytes, path)?;
    Ok(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes))
}

fn refuse_utf16(start: &[u8], path: &Path) -> Result<()> {
    match start {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Err(Error::new("the file is text in UTF-16")
            .with_path(path)
            .with_help("convert it to UTF-8: `iconv -f UTF-16 -t UTF-8 FILE > NEW`")),
        _ => Ok(()),
    }
}

fn unpack(packed: impl Read, path: &Path) -> Result<Arc<[u8]>> {
    let mut bytes = Vec::new();
    packed
        .take(MAX_UNPACKED + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io("unpack", path, error))?;
    if bytes.len() as u64 > MAX_UNPACKED {
        let message = format!("the file unpacks to more than {MAX_UNPACKED} bytes");
        return Err(Error::new(message)
            .with_path(path)
            .with_help("unpack it first: what lies on the disk is read piece by piece"));
    }
    Ok(bytes.into())
}
