//! Long files written past the system's cache of pages, where the system can (Linux).
//!
//! What a build writes is larger than memory: kept in the cache it costs a copy and a page for every 4 kB, and
//! drives out what is read next. Pieces at multiples of the block size go straight to the disk from one buffer;
//! what lies between such multiples goes the usual way. The bytes are the same.

use std::fs::File;
use std::io;
use std::path::Path;

/// Places, lengths and memory of direct writes are multiples of this.
const BLOCK: u64 = 4096;
/// Bytes that are written at once.
const PIECE: usize = 8 << 20;
/// Files below this length are written the usual way.
const LONG: u64 = 256 << 20;

/// A file that is written mostly from its start to its end.
#[derive(Debug)]
pub(super) struct LongFile {
    file: File,
    /// The same file for direct writes; `None` where there are none.
    direct: Option<File>,
}

/// The bytes that wait to be written to one of the files; used again for the next.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// Room for [`PIECE`] bytes from the first multiple of [`BLOCK`] on.
    memory: Vec<u8>,
    /// Where its first byte belongs: a multiple of [`BLOCK`].
    start: u64,
    filled: usize,
    /// Which of the files they are for.
    pub(super) owner: usize,
}

impl LongFile {
    /// For a file at `path` that will have `length` bytes.
    pub(super) fn new(file: File, path: &Path, length: u64) -> LongFile {
        let direct = if length >= LONG { open(path) } else { None };
        LongFile { file, direct }
    }

    /// Writes `bytes` at `offset`, or holds them back in `piece`, which must be this file's or empty.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn write(&mut self, piece: &mut Piece, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.direct.is_none() {
            return self.write_plain(offset, bytes);
        }
        let (mut offset, mut bytes) = (offset, bytes);
        if piece.filled == 0 || piece.start + piece.filled as u64 != offset {
            self.flush(piece)?;
            let before = offset.next_multiple_of(BLOCK) - offset;
            let (head, rest) = bytes.split_at(bytes.len().min(before as usize));
            self.write_plain(offset, head)?;
            offset += head.len() as u64;
            bytes = rest;
            piece.start = offset;
        }
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(PIECE - piece.filled));
            let filled = piece.filled;
            piece.room()[filled..filled + now.len()].copy_from_slice(now);
            piece.filled += now.len();
            bytes = rest;
            if piece.filled == PIECE {
                self.flush(piece)?;
            }
        }
        Ok(())
    }

    /// Writes what was held back.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn flush(&mut self, piece: &mut Piece) -> io::Result<()> {
        let (start, filled) = (piece.start, std::mem::take(&mut piece.filled));
        piece.start += filled as u64;
        if filled == 0 {
            return Ok(());
        }
        let whole = filled / BLOCK as usize * BLOCK as usize;
        let (blocks, rest) = piece.room()[..filled].split_at(whole);
        if let Some(direct) = &self.direct {
            match write_at(direct, start, blocks) {
                Ok(()) => return self.write_plain(start + whole as u64, rest),
                // The disk has larger blocks, or the file system takes no such writes.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.direct = None,
                Err(error) => return Err(error),
            }
        }
        self.write_plain(start, &piece.room()[..filled])
    }

    fn write_plain(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        write_at(&self.file, offset, bytes)
    }

    /// Makes what was written last.
    ///
    /// # Errors
    /// When the disk says no.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Piece {
    /// The bytes from the first multiple of [`BLOCK`] on.
    fn room(&mut self) -> &mut [u8] {
        if self.memory.is_empty() {
            self.memory = vec![0; PIECE + BLOCK as usize];
        }
        let before = self.memory.as_ptr().align_offset(BLOCK as usize);
        // An offset that cannot be told leaves the memory as it is: the write is refused, and done plainly.
        let before = before.min(BLOCK as usize);
        &mut self.memory[before..before + PIECE]
    }
}

#[cfg(target_os = "linux")]
fn open(path: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = File::options();
    options.write(true).custom_flags(libc::O_DIRECT);
    options.open(path).ok()
}

#[cfg(not(target_os = "linux"))]
fn open(_: &Path) -> Option<File> {
    None
}

#[cfg(unix)]
fn write_at(file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    use std::io::{Seek, SeekFrom, Write};
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same writes, past the cache where that can be and plainly.
    #[test]
    fn the_bytes_are_those_of_a_plain_file() {
        let folder = tempfile::tempdir().unwrap();
        let length = 3 * PIECE + 12_345;
        let bytes: Vec<u8> = (0..length).map(|i| (i * 7 + i / 251) as u8).collect();
        // In order, with pieces of odd lengths; then parts that come out of order.
        let cuts: [&[usize]; 3] = [
            &[0, length],
            &[0, 13, 5000, PIECE + 1, PIECE + 4097, 2 * PIECE + 77, length],
            &[0, 100, 8192, 9000, 20_000, 2 * PIECE, length],
        ];
        for (number, cuts) in cuts.into_iter().enumerate() {
            let mut parts: Vec<(usize, usize)> = cuts.windows(2).map(|w| (w[0], w[1])).collect();
            if number == 2 {
                parts.reverse();
                parts.swap(1, 3);
            }
            for long in [0, LONG] {
                let path = folder.path().join(format!("{number}-{long}"));
                let mut file = LongFile::new(File::create(&path).unwrap(), &path, long);
                let mut piece = Piece::default();
                for (start, end) in &parts {
                    file.write(&mut piece, *start as u64, &bytes[*start..*end])
                        .unwrap();
                }
                file.flush(&mut piece).unwrap();
                file.sync().unwrap();
                assert!(std::fs::read(&path).unwrap() == bytes, "{number} {long}");
            }
        }
    }
}
