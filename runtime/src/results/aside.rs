//! Where a result stands, and the others of its name beside it.
//!
//! What a program asks for stands at `KIND/NAME`. Another result of that name is `NAME@KEY`, with the first digits of
//! its key (`NAME@earlier` of an earlier version, `NAME@damaged` of one whose record cannot be read), and a number
//! behind a point where there are several. A move is one rename: a process that is killed leaves all of them whole.

use std::path::{Path, PathBuf};

use jam_weights::checkpoints::recover;

use super::record::Found;
use super::{Record, stands};
use crate::{Error, ErrorKind, Result};

/// Digits of a key in the name of a folder.
const DIGITS: usize = 8;

/// What is known of the results of a step.
pub(crate) trait Known {
    /// Whether a finished result is whole.
    ///
    /// # Errors
    /// When something is missing or damaged, or cannot be read.
    fn sound(&self, folder: &Path) -> Result<()>;

    /// The record of a result whose own is damaged, where the result keeps another.
    ///
    /// # Errors
    /// When it cannot be read.
    fn heal(&self, folder: &Path) -> Result<Option<Record>>;

    /// Where the program says a setting.
    fn setting(&self, name: &str) -> Option<String>;

    /// Whether a begun result may come to be the wanted one: it is not past its end.
    ///
    /// # Errors
    /// When it cannot be read.
    fn fits(&self, folder: &Path) -> Result<bool>;
}

/// A result that is looked for.
pub(crate) struct Place<'p> {
    /// Where it is to stand.
    pub(crate) folder: &'p Path,
    /// What is wanted, as if it were begun now.
    pub(crate) wanted: &'p Record,
    /// What is known of results of its step.
    pub(crate) known: &'p dyn Known,
    /// Whether it is begun anew: what lies beside the place is not looked for.
    pub(crate) anew: bool,
    /// Tells what was found and moved.
    pub(crate) note: &'p dyn Fn(&str),
}

/// What was found.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It is there and whole.
    Done,
    /// It is begun, and goes on; its record says from what.
    Begun(Box<Record>),
    /// Nothing stands there now.
    Absent,
    /// It is there, and damaged so.
    Damaged(Error),
}

/// Finds a result, at its own place or beside it, and moves what stands in its place and is another one aside.
///
/// # Errors
/// When something stands there that no step made, or a later version, or a folder cannot be read or renamed.
pub(crate) fn find(place: &Place<'_>) -> Result<Standing> {
    let folder = place.folder;
    recover(folder)?;
    let mut here = known(Record::look(folder)?)?;
    if matches!(here, Found::Foreign) {
        foreign(folder)?;
        here = Found::Nothing;
    }
    if let Found::Damaged(why) = &here
        && let Some(record) = place.known.heal(folder)?
    {
        record.write(folder)?;
        (place.note)(&format!("{why}: restored from what was saved with it"));
        here = Found::Record(Box::new(record));
    }
    let taken = choice(place, &here)?;
    if let Choice::Here = taken
        && let Found::Record(record) = &here
        && record.is_done()
    {
        return whole(place, folder);
    }
    if let Choice::Beside(other) = taken {
        let why = match &here {
            Found::Record(record) if record.is_done() && record.key == place.wanted.key => {
                "damaged"
            }
            _ => "",
        };
        let moved = match here {
            Found::Nothing => None,
            here => Some(away(folder, &here, why)?),
        };
        rename(&other, folder)?;
        let found = other.file_name().unwrap_or_default().to_string_lossy();
        let kept = moved.map_or_else(String::new, |moved| {
            format!("; what stood in its place is {}", shown(&moved))
        });
        (place.note)(&format!(
            "{}: found again as {found}{kept}",
            shown(place.folder)
        ));
        return match Record::look(folder)? {
            Found::Record(record) if !record.is_done() => Ok(Standing::Begun(record)),
            _ => whole(place, folder),
        };
    }
    match here {
        Found::Record(record) if matches!(taken, Choice::Here) => Ok(Standing::Begun(record)),
        Found::Nothing => Ok(Standing::Absent),
        Found::Damaged(why) => Ok(Standing::Damaged(why)),
        here => {
            let changes = match &here {
                Found::Record(record) => {
                    let wanted = &place.wanted.ingredients;
                    wanted.told_changes(&record.ingredients, &|name| place.known.setting(name))
                }
                _ => "another version of jamc made it".to_owned(),
            };
            let moved = away(folder, &here, "")?;
            (place.note)(&format!(
                "{} {}: what was made before is another result and is kept in {} ({changes})",
                place.wanted.kind,
                place.wanted.name,
                moved.display()
            ));
            Ok(Standing::Absent)
        }
    }
}

/// Which result is taken for the wanted one.
enum Choice {
    /// The one at its place.
    Here,
    /// One of its name beside it.
    Beside(PathBuf),
    /// None: it is begun now.
    New,
}

/// Chooses the result that is the wanted one, where `here` stands at its place. Nothing is moved.
fn choice(place: &Place<'_>, here: &Found) -> Result<Choice> {
    let folder = place.folder;
    let mut begun = None;
    if let Found::Record(record) = here {
        if record.kind != place.wanted.kind || record.name != place.wanted.name {
            let message = format!("this is the result of `{} {}`", record.kind, record.name);
            return Err(Error::of(ErrorKind::Exists, message)
                .with_path(folder)
                .with_help(
                    "two names that this file system takes for one: give one of them another",
                ));
        }
        if record.is_done() && record.key == place.wanted.key {
            // A whole one of the same, which was begun anew, serves in the place of a damaged one.
            return Ok(match place.known.sound(folder) {
                Err(error) if error.kind == ErrorKind::Io => return Err(error),
                Err(_) => beside(place, true)?.map_or(Choice::Here, Choice::Beside),
                Ok(()) => Choice::Here,
            });
        }
        if goes_on(record, place.wanted) && place.known.fits(folder)? {
            begun = Some(record);
        }
    }
    // What was begun anew goes on, though the one before it lies finished beside it.
    let anew = place.anew || begun.is_some_and(|record| record.anew);
    let other = match anew {
        true => None,
        false => beside(place, begun.is_some())?,
    };
    Ok(match (other, begun) {
        (Some(other), _) => Choice::Beside(other),
        (None, Some(_)) => Choice::Here,
        (None, None) => Choice::New,
    })
}

/// The folder that [`find`] would take for the wanted result as things stand, wherever it lies; none where it would be
/// begun. Nothing is moved or written.
///
/// # Errors
/// As [`find`], but for what no step made.
pub(crate) fn taken(place: &Place<'_>) -> Result<Option<PathBuf>> {
    let mut here = known(Record::look(place.folder)?)?;
    if let Found::Damaged(_) = &here
        && let Some(record) = place.known.heal(place.folder)?
    {
        here = Found::Record(Box::new(record));
    }
    Ok(match choice(place, &here)? {
        Choice::Here => Some(place.folder.to_owned()),
        Choice::Beside(other) => Some(other),
        Choice::New => None,
    })
}

/// Moves what stands at a place aside, so that a result can be made anew; returns where it lies now, and nothing where
/// nothing stood there.
///
/// # Errors
/// When no step made it, or it cannot be renamed.
pub(crate) fn set_aside(folder: &Path, why: &str) -> Result<Option<PathBuf>> {
    recover(folder)?;
    match known(Record::look(folder)?)? {
        Found::Nothing => Ok(None),
        Found::Foreign => foreign(folder).map(|()| None),
        here => away(folder, &here, why).map(Some),
    }
}

fn whole(place: &Place<'_>, folder: &Path) -> Result<Standing> {
    match place.known.sound(folder) {
        Ok(()) => Ok(Standing::Done),
        // What cannot be read now may be whole.
        Err(error) if error.kind == ErrorKind::Io => Err(error),
        Err(error) => Ok(Standing::Damaged(error)),
    }
}

/// Whether a begun result is one that the wanted one may go on from.
fn goes_on(record: &Record, wanted: &Record) -> bool {
    !record.is_done() && record.base == wanted.base
}

/// The result beside the place that is the wanted one: finished, or, where none is begun at the place, begun.
fn beside(place: &Place<'_>, begun_here: bool) -> Result<Option<PathBuf>> {
    let (mut done, mut begun) = (None, None);
    for path in others(place.folder)? {
        // What is damaged or of others is not taken for anything.
        let Found::Record(record) = Record::look(&path)? else {
            continue;
        };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let damaged = name.contains(".damaged");
        let slot = match record.is_done() {
            true if record.key == place.wanted.key && !damaged => match place.known.sound(&path) {
                Ok(()) => &mut done,
                // It may be whole.
                Err(error) if error.kind == ErrorKind::Io => return Err(error),
                Err(_) => continue,
            },
            false if goes_on(&record, place.wanted) && place.known.fits(&path)? => &mut begun,
            _ => continue,
        };
        // The latest of several.
        if slot.as_ref().is_none_or(|(time, _)| record.begun > *time) {
            *slot = Some((record.begun, path));
        }
    }
    let begun = begun.filter(|_| !begun_here);
    Ok(done.or(begun).map(|(_, path)| path))
}

/// Results of the same name beside a place, in the order of their names.
pub(super) fn others(folder: &Path) -> Result<Vec<PathBuf>> {
    let (Some(name), Some(parent)) = (folder.file_name(), folder.parent()) else {
        return Ok(Vec::new());
    };
    let start = format!("{}@", name.to_string_lossy());
    let entries = match parent.read_dir() {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", parent, error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| Error::io("list", parent, error))?;
        if entry.file_name().to_string_lossy().starts_with(&start) && entry.path().is_dir() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Refuses what a later version made: what it is, that version knows.
fn known(found: Found) -> Result<Found> {
    match found {
        Found::Later(error) => Err(error),
        found => Ok(found),
    }
}

/// Refuses a folder that no step made; an empty one is removed.
fn foreign(folder: &Path) -> Result<()> {
    // Removes empty folders only.
    if folder.is_dir() && std::fs::remove_dir(folder).is_ok() {
        return Ok(());
    }
    Err(Error::of(
        ErrorKind::Exists,
        "something stands here that no step of a program made",
    )
    .with_path(folder)
    .with_help(
        "a result was to go here: move it away, or choose another folder of results with `--out`",
    ))
}

/// Renames a folder to `NAME@LABEL`, or the first of `NAME@LABEL.2`, … that is free. The label is what stands there
/// and, where something is the matter with it, `why`.
fn away(folder: &Path, here: &Found, why: &str) -> Result<PathBuf> {
    let label = match here {
        Found::Record(record) => {
            let key: String = record.key.chars().take(DIGITS).collect();
            match why {
                "" => key,
                why => format!("{key}.{why}"),
            }
        }
        Found::Earlier => "earlier".to_owned(),
        Found::Later(_) => "later".to_owned(),
        Found::Damaged(_) | Found::Foreign | Found::Nothing => "damaged".to_owned(),
    };
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let mut target = folder.with_file_name(format!("{name}@{label}"));
    let mut number = 2;
    while stands(&target)? {
        target = folder.with_file_name(format!("{name}@{label}.{number}"));
        number += 1;
    }
    rename(folder, &target)?;
    Ok(target)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).map_err(|error| Error::io("rename", from, error))?;
    if let Some(parent) = to.parent() {
        jam_weights::checkpoints::atomic::sync_folder(parent);
    }
    Ok(())
}

/// The last two parts of a path.
fn shown(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let kind = path.parent().and_then(Path::file_name);
    let kind = kind.unwrap_or_default().to_string_lossy();
    format!("{kind}/{name}")
}
