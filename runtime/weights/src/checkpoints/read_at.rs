//! A file that is read at places, by several threads at once.

use std::fs::File;
use std::io;
#[cfg(not(unix))]
use std::sync::Mutex;

/// An open file that is read at places.
#[derive(Debug)]
pub struct ReadAt {
    file: File,
    #[cfg(not(unix))]
    turn: Mutex<()>,
}

impl ReadAt {
    /// Of an open file; where it stood is of no matter.
    pub fn new(file: File) -> ReadAt {
        ReadAt {
            file,
            #[cfg(not(unix))]
            turn: Mutex::new(()),
        }
    }

    /// Fills `bytes` from the byte `offset` of the file on.
    ///
    /// # Errors
    /// When the file cannot be read, or ends before.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        #[cfg(unix)]
        {
            std::os::unix::fs::FileExt::read_exact_at(&self.file, bytes, offset)
        }
        #[cfg(not(unix))]
        {
            use std::io::{Read, Seek, SeekFrom};
            let _turn = self.turn.lock();
            let mut file = &self.file;
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(bytes)
        }
    }

    /// The open file.
    pub fn file(&self) -> &File {
        &self.file
    }
}
