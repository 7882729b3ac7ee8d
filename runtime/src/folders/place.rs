//! Where a folder that was filled comes to stand: over what stood there, or only where nothing does.

use std::path::Path;

use jam_weights::checkpoints::AtomicFolder;

use crate::Result;

/// Whether anything is lost when a folder takes this place: an empty folder is nothing.
pub fn is_something(path: &Path) -> bool {
    match std::fs::symlink_metadata(path) {
        Err(_) => false,
        Ok(meta) if meta.is_dir() => {
            std::fs::read_dir(path).map_or(true, |mut files| files.next().is_some())
        }
        Ok(_) => true,
    }
}

/// Puts a folder in its place. What came there while it was filled stays, unless it is to be replaced.
///
/// # Errors
/// When something stands there that is not to be replaced, a file cannot be flushed or the folder not renamed.
pub fn put(folder: AtomicFolder, replace: bool) -> Result<()> {
    if replace {
        return folder.commit();
    }
    if !is_something(folder.target()) {
        // Removes an empty folder only; where it cannot be, the next line says what stands there.
        let _ = std::fs::remove_dir(folder.target());
    }
    folder.commit_new()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ErrorKind;

    #[test]
    fn what_came_meanwhile_stays_unless_it_is_to_be_replaced() {
        let home = tempfile::tempdir().unwrap();
        let target = home.path().join("model");
        let filled = || {
            let folder = AtomicFolder::create(&target).unwrap();
            fs::write(folder.path().join("new.txt"), "new").unwrap();
            folder
        };
        // An empty folder is nothing.
        let folder = filled();
        fs::create_dir(&target).unwrap();
        put(folder, false).unwrap();
        fs::remove_dir_all(&target).unwrap();

        let folder = filled();
        fs::create_dir(&target).unwrap();
        fs::write(target.join("mine.txt"), "mine").unwrap();
        assert_eq!(put(folder, false).unwrap_err().kind, ErrorKind::Exists);
        assert_eq!(fs::read_to_string(target.join("mine.txt")).unwrap(), "mine");
        assert_eq!(
            fs::read_dir(home.path()).unwrap().count(),
            1,
            "nothing is left behind"
        );

        put(filled(), true).unwrap();
        assert!(target.join("new.txt").exists() && !target.join("mine.txt").exists());
    }
}
