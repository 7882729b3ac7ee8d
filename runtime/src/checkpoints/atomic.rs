//! Files and folders that are there whole or not at all.
//!
//! A file is written under a temporary name beside its own, flushed to the disk, then renamed. A folder is
//! filled under a temporary name, and takes its place when it is complete; what stood there before is
//! gone only after that. Until then it holds a file `.unfinished`, which its writer has locked: who finds
//! one refuses the folder, and who finds one that nobody locks removes what a killed process left.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Error, Result};

/// Stands in a folder that is being filled.
const UNFINISHED: &str = ".unfinished";

/// Tells apart the temporary names of one process.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A name beside `path` that no other writer uses: hidden, on the same file system.
pub(crate) fn temporary_beside(path: &Path) -> PathBuf {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{name}.{}-{count}.tmp", std::process::id()))
}

/// Writes `bytes` to `path`: temporary name, flush, rename. Missing parent folders are made.
///
/// # Errors
/// When a folder or the file cannot be written; the old file, if any, is then still there.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        fs::create_dir_all(parent).map_err(|error| Error::io("make the folder", parent, error))?;
    }
    let temporary = temporary_beside(path);
    let written = File::create(&temporary)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        // The error that is told is the first one; a left-over hidden file does no harm.
        let _ = fs::remove_file(&temporary);
        Error::io("write", path, error)
    })
}

/// Makes the names in a folder last, where the system can (elsewhere renames are ordered anyway).
pub(crate) fn sync_folder(path: &Path) {
    if let Ok(folder) = File::open(path) {
        let _ = folder.sync_all();
    }
}

/// A folder being filled under a temporary name. Dropped without [`AtomicFolder::commit`], it vanishes.
#[derive(Debug)]
pub struct AtomicFolder {
    target: PathBuf,
    temporary: PathBuf,
    /// `.unfinished`, locked as long as this lives.
    lock: Option<File>,
    committed: bool,
}

/// Refuses a folder that somebody is filling, or was when the process ended.
///
/// # Errors
/// When the folder is one.
pub(crate) fn refuse_unfinished(folder: &Path) -> Result<()> {
    match fs::symlink_metadata(folder.join(UNFINISHED)) {
        Err(_) => Ok(()),
        Ok(_) => Err(Error::new("the folder is not finished")
            .with_path(folder)
            .with_help("what wrote it was stopped or is still at it: make it again")),
    }
}

/// Removes what killed writers of `target` left beside it.
fn remove_left_over(target: &Path) {
    let name = target
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    let (Some(name), Some(parent)) = (name, target.parent()) else {
        return;
    };
    let parent = if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    };
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let found = entry.file_name().to_string_lossy().into_owned();
        let left = found.strip_prefix(&format!(".{name}.")).map(str::to_owned);
        let number = left.and_then(|rest| {
            let (process, _) = rest.strip_suffix(".tmp")?.split_once('-')?;
            process.parse::<u32>().ok()
        });
        let Some(process) = number.filter(|_| entry.path().is_dir()) else {
            continue;
        };
        let nobody_has_it = match File::open(entry.path().join(UNFINISHED)) {
            Ok(file) => file.try_lock().is_ok(),
            // It ended between the last two steps: then it must be gone, where that can be told.
            Err(_) => {
                let processes = Path::new("/proc");
                processes.join("self").exists() && !processes.join(process.to_string()).exists()
            }
        };
        if nobody_has_it {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

impl AtomicFolder {
    /// An empty folder that will stand at `target`. Missing parent folders are made.
    ///
    /// # Errors
    /// When the temporary folder cannot be made.
    pub fn create(target: &Path) -> Result<Self> {
        remove_left_over(target);
        let temporary = temporary_beside(target);
        // It gets its name once it is locked, so that nobody takes it for a left-over.
        let nameless = temporary.with_extension("new");
        for left in [&temporary, &nameless] {
            if left.exists() {
                // Left by a process of the same number that was killed.
                fs::remove_dir_all(left).map_err(|error| Error::io("remove", left, error))?;
            }
        }
        fs::create_dir_all(&nameless)
            .map_err(|error| Error::io("make the folder", &nameless, error))?;
        let mut folder = Self {
            target: target.to_owned(),
            temporary: nameless.clone(),
            lock: None,
            committed: false,
        };
        let file = File::create(nameless.join(UNFINISHED))
            .map_err(|error| Error::io("write", &nameless, error))?;
        // Where files cannot be locked, left-overs stay.
        let _ = file.try_lock();
        folder.lock = Some(file);
        fs::rename(&nameless, &temporary).map_err(|error| Error::io("rename", &nameless, error))?;
        folder.temporary = temporary;
        Ok(folder)
    }

    /// Where to write for now.
    pub fn path(&self) -> &Path {
        &self.temporary
    }

    /// Where it will stand.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Flushes every file, then puts the folder in its place. A folder that stood there is replaced,
    /// on Linux and macOS without a moment in which neither is there.
    ///
    /// # Errors
    /// When a file cannot be flushed or the folder not renamed; what stood there before then stands there
    /// again.
    pub fn commit(mut self) -> Result<()> {
        sync_tree(&self.temporary)?;
        let mark = self.temporary.join(UNFINISHED);
        fs::remove_file(&mark).map_err(|error| Error::io("remove", &mark, error))?;
        sync_folder(&self.temporary);
        let rename = |from: &Path, to: &Path| {
            fs::rename(from, to).map_err(|error| Error::io("rename", from, error))
        };
        if exchange(&self.temporary, &self.target) {
            // What stood there has the temporary name now.
            let old = &self.temporary;
            fs::remove_dir_all(old).map_err(|error| Error::io("remove", old, error))?;
        } else if self.target.exists() {
            let old = temporary_beside(&self.target);
            rename(&self.target, &old)?;
            if let Err(error) = rename(&self.temporary, &self.target) {
                rename(&old, &self.target)?;
                return Err(error);
            }
            fs::remove_dir_all(&old).map_err(|error| Error::io("remove", &old, error))?;
        } else {
            rename(&self.temporary, &self.target)?;
        }
        self.committed = true;
        if let Some(parent) = self.target.parent() {
            sync_folder(parent);
        }
        Ok(())
    }
}

impl Drop for AtomicFolder {
    fn drop(&mut self) {
        if !self.committed {
            let _ = fs::remove_dir_all(&self.temporary);
        }
    }
}

/// Lets two folders change names at once, so that there is no moment without either; false where
/// one is missing, or the system or the file system cannot.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange(one: &Path, other: &Path) -> bool {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).is_ok()
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange(_: &Path, _: &Path) -> bool {
    false
}

/// Flushes every file of a folder, and of the folders in it.
fn sync_tree(folder: &Path) -> Result<()> {
    let failed = |error| Error::io("flush", folder, error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            sync_tree(&entry.path())?;
        } else if kind.is_file() {
            File::open(entry.path())
                .and_then(|file| file.sync_all())
                .map_err(|error| Error::io("flush", &entry.path(), error))?;
        }
    }
    sync_folder(folder);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_leaves_no_other_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/er/a.txt");
        write_file(&path, b"one").unwrap();
        write_file(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_killed_writer_left_is_refused_and_then_removed() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model");
        let (left, whole) = (
            folder.path().join(".model.4294967295-0.tmp"),
            folder.path().join(".model.4294967295-1.tmp"),
        );
        let other = folder.path().join(".models.4294967295-0.tmp");
        for place in [&left, &whole, &other] {
            fs::create_dir(place).unwrap();
        }
        fs::write(left.join(UNFINISHED), b"").unwrap();
        assert!(refuse_unfinished(&left).is_err());
        let first = AtomicFolder::create(&target).unwrap();
        assert!(!left.exists() && other.exists());
        assert_eq!(whole.exists(), !Path::new("/proc/self").exists());
        assert!(refuse_unfinished(first.path()).is_err());
        // One that is being filled stays.
        let second = AtomicFolder::create(&target).unwrap();
        assert!(first.path().exists());
        drop(first);
        second.commit().unwrap();
        refuse_unfinished(&target).unwrap();
    }

    #[test]
    fn a_folder_appears_only_when_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model");
        {
            let draft = AtomicFolder::create(&target).unwrap();
            fs::write(draft.path().join("half"), b"x").unwrap();
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        for round in [b"first", b"again"] {
            let draft = AtomicFolder::create(&target).unwrap();
            fs::create_dir(draft.path().join("sub")).unwrap();
            fs::write(draft.path().join("sub/file"), round).unwrap();
            draft.commit().unwrap();
            assert_eq!(fs::read(target.join("sub/file")).unwrap(), round);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    #[cfg(any(target_os = "linux", target_vendor = "apple"))]
    fn a_folder_that_is_replaced_is_there_at_every_moment() {
        use std::sync::atomic::AtomicBool;
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("state");
        AtomicFolder::create(&target).unwrap().commit().unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| {
                let mut looks = 0;
                while !done.load(Ordering::Relaxed) {
                    assert!(fs::symlink_metadata(&target).is_ok(), "after {looks} looks");
                    looks += 1;
                }
            });
            for _ in 0..200 {
                AtomicFolder::create(&target).unwrap().commit().unwrap();
            }
            done.store(true, Ordering::Relaxed);
            watch.join().unwrap();
        });
    }
}
