//! Files and folders that are there whole or not at all.
//!
//! A file is written under a temporary name beside its own, flushed to the disk, then renamed. A folder is
//! filled under a temporary name, and takes its place when it is complete; what stood there before is
//! gone only after that. Until then it holds a file `.unfinished`, and who finds one refuses the folder. Its
//! writer has it locked; what nobody has locked was left by a killed process, and the next writer of the
//! same folder removes it.
//!
//! Where a system cannot exchange two names, replacing a folder takes two renames. What stood there is called
//! `.NAME.before` between them, and [`recover`] ends what a killed process began.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::bounded::is_absent;
use crate::{Error, ErrorKind, Result};

/// Stands in a folder that is being filled.
const UNFINISHED: &str = ".unfinished";

/// Tells apart the temporary names of one process.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A name beside `path` that no other writer uses: hidden, on the same file system.
pub fn temporary_beside(path: &Path) -> PathBuf {
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
    })?;
    if let Some(parent) = path.parent() {
        sync_folder(parent);
    }
    Ok(())
}

/// Takes a file or a folder away. It is gone under its name at once, so that a kill leaves nothing of it that looks
/// whole, only something with a temporary name.
///
/// # Errors
/// When it cannot be renamed, and is then still there, or what bears the temporary name cannot be removed.
pub fn take_away(path: &Path) -> Result<()> {
    let going = temporary_beside(path).with_extension("gone");
    fs::rename(path, &going).map_err(|error| Error::io("rename", path, error))?;
    let removed = match going.is_dir() {
        true => fs::remove_dir_all(&going),
        false => fs::remove_file(&going),
    };
    removed.map_err(|error| Error::io("remove", &going, error))
}

/// Makes the names in a folder last, where the system can (elsewhere renames are ordered anyway).
pub fn sync_folder(path: &Path) {
    if let Ok(folder) = File::open(path) {
        let _ = folder.sync_all();
    }
}

/// A folder being filled under a temporary name. Dropped without [`AtomicFolder::commit`], it vanishes.
#[derive(Debug)]
pub struct AtomicFolder {
    target: PathBuf,
    temporary: PathBuf,
    /// Held as long as this lives.
    _lock: Option<File>,
    committed: bool,
}

/// Refuses a folder that somebody is filling, or was when the process ended.
///
/// # Errors
/// When the folder is one.
pub fn refuse_unfinished(folder: &Path) -> Result<()> {
    match fs::symlink_metadata(folder.join(UNFINISHED)) {
        Err(_) => Ok(()),
        Ok(_) => Err(Error::new("the folder is not finished")
            .with_path(folder)
            .with_help("what wrote it was stopped or is still at it: make it again")),
    }
}

/// Whether a temporary name beside `name` is that of a folder being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Temporary {
    /// Made, and not locked yet.
    New,
    /// Locked as long as its writer lives.
    Locked,
}

impl Temporary {
    fn of(found: &str, name: &str) -> Option<Temporary> {
        let rest = found.strip_prefix('.')?.strip_prefix(name)?;
        let (numbers, end) = rest.strip_prefix('.')?.split_once('.')?;
        let (process, count) = numbers.split_once('-')?;
        process.parse::<u32>().ok()?;
        count.parse::<u64>().ok()?;
        match end {
            "new" => Some(Temporary::New),
            "tmp" => Some(Temporary::Locked),
            _ => None,
        }
    }
}

/// A folder that nobody has locked for so long is not just being made.
const MAKING: Duration = Duration::from_secs(60);

/// The lock of a folder being filled. Where folders can be opened it is the folder's own, which goes
/// with it under any name; elsewhere that of its mark.
fn open_lock(folder: &Path) -> std::io::Result<File> {
    if cfg!(unix) {
        File::open(folder)
    } else {
        File::open(folder.join(UNFINISHED))
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
        let path = entry.path();
        let found = entry.file_name().to_string_lossy().into_owned();
        let Some(kind) = Temporary::of(&found, &name).filter(|_| path.is_dir()) else {
            continue;
        };
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if kind == Temporary::New && age().is_none_or(|age| age < MAKING) {
            continue;
        }
        let lock = open_lock(&path);
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

impl AtomicFolder {
    /// An empty folder that will stand at `target`. Missing parent folders are made.
    ///
    /// # Errors
    /// When the temporary folder cannot be made.
    pub fn create(target: &Path) -> Result<Self> {
        recover(target)?;
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
            _lock: None,
            committed: false,
        };
        File::create(nameless.join(UNFINISHED))
            .map_err(|error| Error::io("write", &nameless, error))?;
        // Where there are no locks, left-overs stay.
        folder._lock = open_lock(&nameless)
            .ok()
            .filter(|lock| lock.try_lock().is_ok());
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
    /// again. That the old folder cannot be removed is none: the next writer tries again.
    pub fn commit(mut self) -> Result<()> {
        self.finish()?;
        let old = swap_in(&self.temporary, &self.target, exchange, &mut || {})?;
        self.committed = true;
        if let Some(parent) = self.target.parent() {
            sync_folder(parent);
        }
        if let Some(old) = old {
            // Under a name that nobody takes for a folder that is complete.
            let gone = self.temporary.with_extension("gone");
            let gone = fs::rename(&old, &gone).map_or(old, |()| gone);
            let _ = fs::remove_dir_all(&gone);
        }
        Ok(())
    }

    /// The same where nothing may stand there yet.
    ///
    /// # Errors
    /// As [`AtomicFolder::commit`], and when something stands there: it is left as it is.
    pub fn commit_new(mut self) -> Result<()> {
        self.finish()?;
        if fs::symlink_metadata(&self.target).is_ok() {
            let message = "something stands where the result was to go";
            return Err(Error::of(ErrorKind::Exists, message)
                .with_path(&self.target)
                .with_help("it came while the result was made: move it away, and make it again"));
        }
        fs::rename(&self.temporary, &self.target)
            .map_err(|error| Error::io("rename", &self.temporary, error))?;
        self.committed = true;
        if let Some(parent) = self.target.parent() {
            sync_folder(parent);
        }
        Ok(())
    }

    /// Flushes everything and takes the mark away.
    fn finish(&self) -> Result<()> {
        sync_tree(&self.temporary)?;
        let mark = self.temporary.join(UNFINISHED);
        fs::remove_file(&mark).map_err(|error| Error::io("remove", &mark, error))?;
        sync_folder(&self.temporary);
        Ok(())
    }
}

/// Where what stood at `target` lies between two renames.
fn before(target: &Path) -> PathBuf {
    let name = target
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    target.with_file_name(format!(".{name}.before"))
}

/// Puts `temporary` in the place of `target`; returns where what stood there lies now. `between` is called where
/// two renames are needed and one is done.
fn swap_in(
    temporary: &Path,
    target: &Path,
    exchange: impl Fn(&Path, &Path) -> bool,
    between: &mut dyn FnMut(),
) -> Result<Option<PathBuf>> {
    let rename = |from: &Path, to: &Path| {
        fs::rename(from, to).map_err(|error| Error::io("rename", from, error))
    };
    if exchange(temporary, target) {
        // What stood there has the temporary name now.
        return Ok(Some(temporary.to_owned()));
    }
    if fs::symlink_metadata(target).is_err() {
        rename(temporary, target)?;
        return Ok(None);
    }
    let aside = before(target);
    if fs::symlink_metadata(&aside).is_ok() {
        // `target` is there, so that this one was replaced long ago.
        fs::remove_dir_all(&aside).map_err(|error| Error::io("remove", &aside, error))?;
    }
    rename(target, &aside)?;
    between();
    if let Err(error) = rename(temporary, target) {
        rename(&aside, target)?;
        return Err(error);
    }
    Ok(Some(aside))
}

/// Ends what a process began that was killed while it put a folder in its place: where nothing stands at `target`,
/// the new folder takes its place if it was complete, else the one before it. Nothing is done where something
/// stands there, or somebody is still at it.
///
/// # Errors
/// When a folder that is to take its place cannot be renamed.
pub fn recover(target: &Path) -> Result<()> {
    match fs::symlink_metadata(target) {
        Ok(_) => return Ok(()),
        Err(error) if is_absent(&error) => {}
        Err(error) => return Err(Error::io("read", target, error)),
    }
    let name = target.file_name().map(|name| name.to_string_lossy());
    let (Some(name), Some(parent)) = (name, target.parent()) else {
        return Ok(());
    };
    let parent = match parent.as_os_str().is_empty() {
        true => Path::new("."),
        false => parent,
    };
    let entries = match fs::read_dir(parent) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(()),
        Err(error) => return Err(Error::io("list", parent, error)),
    };
    let mut complete: Option<(std::time::SystemTime, PathBuf)> = None;
    for entry in entries {
        let path = entry
            .map_err(|error| Error::io("list", parent, error))?
            .path();
        let found = path.file_name().map(|name| name.to_string_lossy());
        let kind = found.and_then(|found| Temporary::of(&found, &name));
        if kind != Some(Temporary::Locked) || !path.is_dir() {
            continue;
        }
        let marked = fs::symlink_metadata(path.join(UNFINISHED)).is_ok();
        let held = open_lock(&path).is_ok_and(|lock| lock.try_lock().is_err());
        if marked || held {
            continue;
        }
        let time = path.metadata().and_then(|meta| meta.modified());
        let time = time.map_err(|error| Error::io("read", &path, error))?;
        if complete.as_ref().is_none_or(|(latest, _)| time > *latest) {
            complete = Some((time, path));
        }
    }
    let old = before(target);
    let there = fs::symlink_metadata(&old).is_ok().then_some(old);
    let Some(from) = complete.map(|(_, path)| path).or(there) else {
        return Ok(());
    };
    fs::rename(&from, target).map_err(|error| Error::io("rename", &from, error))?;
    sync_folder(parent);
    Ok(())
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
        let place = |name: &str| folder.path().join(name);
        let left = place(".model.4294967295-0.tmp");
        // Killed between its last two steps; while it was made; just now.
        let (whole, old) = (place(".model.7-1.tmp"), place(".model.7-2.new"));
        let made = place(".model.7-3.new");
        let others = [
            place(".models.7-0.tmp"),
            place(".model.7.tmp"),
            made.clone(),
        ];
        for place in [&left, &whole, &old].into_iter().chain(&others) {
            fs::create_dir(place).unwrap();
            fs::write(place.join(UNFINISHED), b"").unwrap();
        }
        fs::remove_file(whole.join(UNFINISHED)).unwrap();
        let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
        let times = fs::FileTimes::new().set_modified(hour_ago);
        if cfg!(unix) {
            File::open(&old).unwrap().set_times(times).unwrap();
        }
        assert!(refuse_unfinished(&left).is_err());
        let first = AtomicFolder::create(&target).unwrap();
        assert!(!left.exists() && others.iter().all(|other| other.exists()));
        assert!(!cfg!(unix) || !whole.exists() && !old.exists());
        assert!(refuse_unfinished(first.path()).is_err());
        // One that is being filled stays, even when its mark is gone.
        fs::remove_file(first.path().join(UNFINISHED)).unwrap();
        let second = AtomicFolder::create(&target).unwrap();
        assert!(!cfg!(unix) || first.path().exists());
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

    /// A folder with one file.
    fn filled(path: &Path, text: &str) {
        fs::create_dir_all(path).unwrap();
        fs::write(path.join("file"), text).unwrap();
    }

    #[test]
    fn two_renames_lose_nothing_when_killed_between_them() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("last");
        let temporary = folder.path().join(".last.7-0.tmp");
        let never = |_: &Path, _: &Path| false;
        // Killed after the first rename: neither stands there.
        filled(&target, "old");
        filled(&temporary, "new");
        let killed = std::panic::catch_unwind(|| {
            let _ = swap_in(&temporary, &target, never, &mut || panic!("killed"));
        });
        assert!(killed.is_err() && !target.exists());
        recover(&target).unwrap();
        assert_eq!(
            fs::read(target.join("file")).unwrap(),
            b"new",
            "it was complete"
        );
        // What was not complete does not take the place of what was there.
        filled(&temporary, "half");
        fs::write(temporary.join(UNFINISHED), b"").unwrap();
        fs::remove_dir_all(before(&target)).unwrap();
        fs::rename(&target, before(&target)).unwrap();
        recover(&target).unwrap();
        assert_eq!(fs::read(target.join("file")).unwrap(), b"new");
        // Without a kill the old one is given back to be removed.
        fs::remove_file(temporary.join(UNFINISHED)).unwrap();
        let old = swap_in(&temporary, &target, never, &mut || {}).unwrap();
        assert_eq!(fs::read(old.unwrap().join("file")).unwrap(), b"new");
        assert_eq!(fs::read(target.join("file")).unwrap(), b"half");
    }

    #[test]
    fn what_is_new_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("model");
        let draft = AtomicFolder::create(&target).unwrap();
        filled(&target, "of another");
        let error = draft.commit_new().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Exists);
        assert_eq!(fs::read(target.join("file")).unwrap(), b"of another");
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
