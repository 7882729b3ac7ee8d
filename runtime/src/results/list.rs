//! What there is in a folder of results, and taking one away.

use std::path::{Component, Path, PathBuf};

use jam_weights::checkpoints::take_away;
use serde::Serialize;

use super::record::Found;
use super::{Hashes, Ingredients, Record, Slots, stands};
use crate::{Error, ErrorKind, Result};

/// A result in a folder of results.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Its folder below the folder of results, which names it: `training/tune`, `training/tune@1f2e3d4c`.
    pub id: String,
    /// Kind of its step; none where that is not known.
    pub kind: Option<String>,
    /// Its name in the program; none where that is not known.
    pub name: Option<String>,
    /// What it is.
    pub state: State,
    /// When it was finished, or begun where it is not; seconds since 1970.
    pub made: Option<u64>,
    /// Bytes of all its files.
    pub bytes: u64,
    /// What it is made from.
    pub ingredients: Option<Ingredients>,
    /// Settings that changed while it was made.
    pub changes: Vec<String>,
    /// Its key.
    pub key: Option<String>,
}

/// What a result is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Finished and whole.
    Done,
    /// Begun, with this step of a training saved last.
    Begun(Option<u64>),
    /// Damaged in this way.
    Damaged(String),
    /// Made by an earlier version.
    Earlier,
    /// Made by a later version, as it says itself.
    Later(String),
    /// Not made by a step.
    Foreign,
    /// What a killed process left while it wrote or removed something.
    LeftOver,
}

/// Everything below `out` in the folders of the kinds `folders`; `sound` tells whether a finished one is whole.
///
/// # Errors
/// When a folder cannot be read.
pub fn list(
    out: &Path,
    folders: &[&str],
    sound: &dyn Fn(&str, &Path) -> Result<()>,
) -> Result<Vec<Entry>> {
    let mut all = Vec::new();
    for folder in folders {
        let place = out.join(folder);
        if !stands(&place)? {
            continue;
        }
        let failed = |error| Error::io("list", &place, error);
        let mut paths = Vec::new();
        for entry in place.read_dir().map_err(failed)? {
            paths.push(entry.map_err(failed)?.path());
        }
        paths.sort();
        for path in paths {
            all.push(entry(folder, &path, sound)?);
        }
    }
    Ok(all)
}

fn entry(folder: &str, path: &Path, sound: &dyn Fn(&str, &Path) -> Result<()>) -> Result<Entry> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut entry = Entry {
        id: format!("{folder}/{name}"),
        kind: None,
        name: None,
        state: State::Foreign,
        made: None,
        bytes: bytes_of(path)?,
        ingredients: None,
        changes: Vec::new(),
        key: None,
    };
    if name.starts_with('.') {
        if is_left_over(&name) {
            entry.state = State::LeftOver;
        }
        return Ok(entry);
    }
    match Record::look(path)? {
        Found::Record(record) => {
            let Record {
                kind,
                name,
                progress,
                begun,
                ingredients,
                changes,
                key,
                ..
            } = *record;
            (entry.state, entry.made) = match progress {
                super::Progress::Done(time) => match sound(folder, path) {
                    Ok(()) => (State::Done, Some(time)),
                    Err(error) => (State::Damaged(error.to_string()), Some(time)),
                },
                super::Progress::Begun => (
                    State::Begun(Slots::of_result(path).latest_step()?),
                    Some(begun),
                ),
            };
            entry.kind = Some(kind);
            entry.name = Some(name);
            entry.ingredients = Some(ingredients);
            entry.changes = changes;
            entry.key = Some(key);
        }
        Found::Damaged(error) => entry.state = State::Damaged(error.to_string()),
        Found::Earlier => entry.state = State::Earlier,
        Found::Later(error) => entry.state = State::Later(error.message),
        Found::Foreign | Found::Nothing => {}
    }
    Ok(entry)
}

/// Whether a name is one that a process gives to what it writes or removes.
fn is_left_over(name: &str) -> bool {
    let ends = [".tmp", ".new", ".gone", ".before"];
    name.starts_with('.') && ends.iter().any(|end| name.ends_with(end))
}

fn bytes_of(path: &Path) -> Result<u64> {
    let failed = |error| Error::io("read", path, error);
    let meta = match path.symlink_metadata() {
        Ok(meta) => meta,
        // A training that goes on meanwhile removes states that it no longer needs.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed(error)),
    };
    if !meta.is_dir() {
        return Ok(meta.len());
    }
    let mut bytes = 0;
    let entries = match path.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(failed(error)),
    };
    for entry in entries {
        bytes += bytes_of(&entry.map_err(failed)?.path())?;
    }
    Ok(bytes)
}

/// Where the result lies that `id` names, as [`Entry::id`] does, if it may be taken away.
///
/// # Errors
/// When nothing of that name is there, or it is no result.
pub fn removable(out: &Path, folders: &[&str], id: &str) -> Result<PathBuf> {
    let mut parts = Path::new(id).components();
    let named = match (parts.next(), parts.next(), parts.next()) {
        (Some(Component::Normal(kind)), Some(Component::Normal(name)), None)
            if folders.iter().any(|folder| kind == *folder) =>
        {
            Some(out.join(kind).join(name))
        }
        _ => None,
    };
    let Some(path) = named else {
        let kinds = folders.join(", ");
        return Err(
            Error::new(format!("`{id}` names no result")).with_help(format!(
                "write KIND/NAME as `jamc results` lists them; kinds are {kinds}"
            )),
        );
    };
    if !stands(&path)? {
        return Err(
            Error::of(ErrorKind::Absent, format!("there is no result `{id}`"))
                .with_path(out)
                .with_help("`jamc results` lists what there is"),
        );
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if !is_left_over(&name) && matches!(Record::look(&path)?, Found::Foreign) {
        return Err(Error::of(
            ErrorKind::Exists,
            format!("no step of a program made `{id}`"),
        )
        .with_path(&path)
        .with_help("it is yours: remove it yourself"));
    }
    Ok(path)
}

/// Takes the result away that `id` names, as [`Entry::id`] does, and nothing else; returns where it was.
///
/// # Errors
/// When nothing of that name is there, it is no result, or it cannot be removed.
pub fn remove(out: &Path, folders: &[&str], id: &str) -> Result<PathBuf> {
    let path = removable(out, folders, id)?;
    Hashes::open(out).forget(&path);
    take_away(&path)?;
    Ok(path)
}
