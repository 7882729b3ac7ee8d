//! One process at a time in a folder of results.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;

use crate::{Error, ErrorKind, Result};

/// The file whose lock it is. It stays: the lock ends with the process, however that ends.
const NAME: &str = ".lock";

/// Holds a folder of results until it is dropped.
#[derive(Debug)]
pub(super) struct Lock(
    #[expect(dead_code, reason = "the lock ends when the file is closed")] Option<File>,
);

impl Lock {
    /// Takes a folder, which is made where it is missing.
    ///
    /// # Errors
    /// When another process holds it, or it cannot be made. A file system without locks is no reason to fail,
    /// nor is one that may only be read: where everything is done nothing is written, and else the first step
    /// tells it.
    pub(super) fn take(folder: &Path) -> Result<Lock> {
        fs::create_dir_all(folder).map_err(|error| Error::io("make the folder", folder, error))?;
        let path = folder.join(NAME);
        let file = match File::create(&path) {
            Ok(file) => file,
            Err(error) if may_only_be_read(&error) => match File::open(&path) {
                // Another user's: it can be held all the same.
                Ok(file) => file,
                Err(_) => return Ok(Lock(None)),
            },
            Err(error) => return Err(Error::io("write", &path, error)),
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Error::of(
                ErrorKind::Busy,
                "another process works in this folder",
            )
            .with_path(folder)
            .with_help("wait for its end, or give this one a folder of its own with `--out`")),
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Lock(Some(file))),
        }
    }
}

fn may_only_be_read(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_may_only_be_read_is_no_failure() {
        for kind in [
            io::ErrorKind::ReadOnlyFilesystem,
            io::ErrorKind::PermissionDenied,
        ] {
            assert!(may_only_be_read(&kind.into()));
        }
        assert!(!may_only_be_read(&io::ErrorKind::StorageFull.into()));
    }

    #[test]
    fn a_folder_has_one_holder_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let results = folder.path().join("runs/a");
        let first = Lock::take(&results).unwrap();
        let refused = Lock::take(&results).unwrap_err();
        assert_eq!(refused.message, "another process works in this folder");
        assert_eq!(refused.path.as_deref(), Some(results.as_path()));
        drop(first);
        Lock::take(&results).unwrap();
    }
}
