//! One process at a time in a folder of results.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use crate::{Error, Result};

/// The file whose lock it is. It stays: the lock ends with the process, however that ends.
const NAME: &str = ".lock";

/// Holds a folder of results until it is dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the lock ends when the file is closed")] File);

impl Lock {
    /// Takes a folder, which is made where it is missing.
    ///
    /// # Errors
    /// When another process holds it, or it cannot be written. A file system without locks is no
    /// reason to fail.
    pub(super) fn take(folder: &Path) -> Result<Lock> {
        fs::create_dir_all(folder).map_err(|error| Error::io("make the folder", folder, error))?;
        let path = folder.join(NAME);
        let file = File::create(&path).map_err(|error| Error::io("write", &path, error))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                Err(Error::new("another process works in this folder")
                    .with_path(folder)
                    .with_help(
                        "wait for its end, or give this one a folder of its own with `--out`",
                    ))
            }
            Ok(()) | Err(TryLockError::Error(_)) => Ok(Lock(file)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
