//! The saved states of something that learns: the last two, each whole and under checksums.
//!
//! ```text
//! state/00000500/   what goes on from step 500, sealed
//! state/00001000/   the one after it
//! ```
//!
//! A new state is written beside the others and takes its name when it is complete; only then the one before the last
//! is removed. Where the last is damaged, the one before it goes on.

use std::path::{Path, PathBuf};

use jam_weights::checkpoints::{
    AtomicFolder, CheckpointReader, seal_folder, take_away, verify_sealed,
};

use crate::{Error, ErrorKind, Result};

/// The folder of states in that of a result.
const STATES: &str = "state";

/// States that are kept.
const KEPT: usize = 2;

/// The record of the result that a state belongs to, beside the state.
const RECORD: &str = "record.json";

/// The states of one run.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    folder: PathBuf,
}

impl Slots {
    /// Those in a folder, which need not be there.
    pub(crate) fn of(folder: &Path) -> Slots {
        Slots {
            folder: folder.to_owned(),
        }
    }

    /// Those of a result, which need not have any.
    pub(crate) fn of_result(result: &Path) -> Slots {
        Slots::of(&result.join(STATES))
    }

    /// Where they lie.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Their steps with their folders, the latest first.
    ///
    /// # Errors
    /// When the folder cannot be read.
    fn all(&self) -> Result<Vec<(u64, PathBuf)>> {
        let entries = match self.folder.read_dir() {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io("list", &self.folder, error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry
                .map_err(|error| Error::io("list", &self.folder, error))?
                .path();
            let name = path.file_name().and_then(|name| name.to_str());
            found.extend(
                name.and_then(|name| name.parse().ok())
                    .map(|step| (step, path)),
            );
        }
        found.sort_by_key(|(step, _)| std::cmp::Reverse(*step));
        Ok(found)
    }

    /// Writes the state after `step` steps: `fill` puts its files into a folder, `record` goes beside them.
    ///
    /// # Errors
    /// When a file cannot be written; the states before are then still there.
    pub(crate) fn write(
        &self,
        step: u64,
        record: &[u8],
        fill: &mut dyn FnMut(&Path) -> Result<()>,
    ) -> Result<()> {
        let draft = AtomicFolder::create(&self.folder.join(format!("{step:08}")))?;
        fill(draft.path())?;
        jam_weights::checkpoints::write_file(&draft.path().join(RECORD), record)?;
        seal_folder(draft.path(), &[])?;
        draft.commit()?;
        for (_, path) in self.all()?.into_iter().skip(KEPT) {
            take_away(&path)?;
        }
        Ok(())
    }

    /// The latest state that is whole, as `open` reads it; `None` where none was saved. `note` tells of one that is
    /// damaged.
    ///
    /// # Errors
    /// When there are states and none is whole, or one cannot be read.
    pub(crate) fn latest<T>(
        &self,
        open: &mut dyn FnMut(&Path) -> Result<T>,
        note: &dyn Fn(&str),
    ) -> Result<Option<T>> {
        let all = self.all()?;
        let mut first: Option<Error> = None;
        for (step, path) in &all {
            let opened = whole(path).and_then(|()| open(path));
            match opened {
                Ok(state) => {
                    if let Some(damage) = &first {
                        note(&format!(
                            "{damage}: goes on from the state before it, of step {step}"
                        ));
                    }
                    return Ok(Some(state));
                }
                // It may be whole: what cannot be read now is no reason to go back.
                Err(error) if error.kind == ErrorKind::Io => return Err(error),
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        match first {
            None => Ok(None),
            Some(error) => Err(Error::damaged(format!(
                "no state of the run is whole: {}",
                error.message
            ))
            .with_path(error.path.unwrap_or_else(|| self.folder.clone()))
            .with_help("`--restart` begins anew, and keeps what is there beside it")),
        }
    }

    /// The step of the latest state, whole or not; none where none was saved.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub(crate) fn latest_step(&self) -> Result<Option<u64>> {
        Ok(self.all()?.first().map(|(step, _)| *step))
    }

    /// The record that lies beside the latest whole state.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub(crate) fn record(&self) -> Result<Option<Vec<u8>>> {
        for (_, path) in self.all()? {
            match verify_sealed(&path) {
                Ok(_) => return super::read_optional(&path.join(RECORD)),
                Err(error) if error.kind == ErrorKind::Io => return Err(error),
                Err(_) => {}
            }
        }
        Ok(None)
    }

    /// Removes all of them, once the end of the run is recorded.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub(crate) fn remove(&self) -> Result<()> {
        match std::fs::remove_dir_all(&self.folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &self.folder, error))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a sealed folder has every file and every tensor that it was written with, read anew.
///
/// # Errors
/// When something is missing or differs, or cannot be read.
pub(crate) fn whole(path: &Path) -> Result<()> {
    let checksums = verify_sealed(path)?;
    if !checksums.headers.is_empty() {
        let reader = CheckpointReader::open(path)?;
        for name in checksums.tensors.keys() {
            reader.verify(name)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;

    use super::*;

    #[test]
    fn the_last_two_states_are_kept_and_the_one_before_serves_where_the_last_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let slots = Slots::of(&folder.path().join("state"));
        let told = RefCell::new(Vec::new());
        let note = |text: &str| told.borrow_mut().push(text.to_owned());
        let read = |path: &Path| -> Result<String> {
            Ok(fs::read_to_string(path.join("number")).unwrap())
        };
        let latest = || slots.latest(&mut |path| read(path), &note);
        assert_eq!(latest().unwrap(), None);
        for step in [500, 1000, 1500] {
            let fill = |path: &Path| fs::write(path.join("number"), step.to_string());
            slots
                .write(step, b"record", &mut |path| {
                    fill(path).map_err(|error| Error::io("write", path, error))
                })
                .unwrap();
        }
        assert_eq!(
            fs::read_dir(folder.path().join("state")).unwrap().count(),
            2
        );
        assert_eq!(latest().unwrap().as_deref(), Some("1500"));
        assert_eq!(slots.record().unwrap().as_deref(), Some(&b"record"[..]));
        assert!(told.borrow().is_empty());

        fs::write(folder.path().join("state/00001500/number"), "1501").unwrap();
        assert_eq!(latest().unwrap().as_deref(), Some("1000"));
        assert!(told.borrow()[0].contains("of step 1000"), "{told:?}");
        // Without its list nobody can tell.
        fs::remove_file(folder.path().join("state/00001000/checksums.json")).unwrap();
        let error = latest().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Damaged);
        assert!(error.help.unwrap().contains("--restart"));
        slots.remove().unwrap();
        assert_eq!(latest().unwrap(), None);
    }
}
