//! Where a command writes: never over what it reads, and over what exists only where it may.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Component, Path, PathBuf};

use jam_ir::Error;
use jam_runtime::folders::is_something;
use jam_runtime::results::RESULT_FILE;
use jam_weights::checkpoints::atomic::temporary_beside;
use jam_weights::checkpoints::write_file;

use crate::cli::ForceArgs;
use crate::failure::Failure;

/// Refuses a file that is there, unless it may be replaced, and one that is read from or lies in a folder that is.
///
/// # Errors
/// When it is refused.
pub(crate) fn check_file(file: &Path, force: ForceArgs, inputs: &[&Path]) -> Result<(), Failure> {
    apart(file, inputs)?;
    match fs::symlink_metadata(file) {
        Err(_) => Ok(()), // Nothing is there.
        Ok(_) if file.is_dir() => Err(Failure::exists(
            Error::new("a folder is there").with_path(file),
        )),
        Ok(_) if force.force => Ok(()),
        Ok(_) => Err(there_already(file)),
    }
}

/// The file by which a command knows a folder for one that it wrote, and may replace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(&'static str);

impl Mark {
    pub(crate) const ANSWER: Mark = Mark(".answer");
    pub(crate) const EXPORT: Mark = Mark(".export");
    pub(crate) const SYNTH: Mark = Mark(".synth");

    /// Its name; it holds nothing.
    pub(crate) fn name(self) -> &'static str {
        self.0
    }

    /// Marks a folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn put(self, folder: &Path) -> Result<(), Error> {
        write_file(&folder.join(self.0), b"")
    }
}

/// Refuses a folder that holds something, unless it may be replaced; one without the mark of the command, and a result of
/// a program, are never replaced. A folder that is read from, lies in one or has one in it is refused. Whether one is to be
/// replaced; where nothing stood, what comes meanwhile is not.
///
/// # Errors
/// When it is refused.
pub(crate) fn check_folder(
    folder: &Path,
    force: ForceArgs,
    inputs: &[&Path],
    mark: Mark,
) -> Result<bool, Failure> {
    apart(folder, inputs)?;
    if !is_something(folder) {
        return Ok(false);
    }
    let refused = |message: &str, help: &str| {
        let error = Error::new(message).with_path(folder).with_help(help);
        Err(Failure::exists(error))
    };
    if folder.join(RESULT_FILE).exists() {
        return refused(
            "this is a result of a program, and is not replaced",
            "name another folder; `jamc results` lists results, and takes away the one that `--remove` names",
        );
    }
    if !force.force {
        return Err(there_already(folder));
    }
    // A link to a folder would be replaced, and not the folder.
    let own = fs::symlink_metadata(folder).is_ok_and(|meta| meta.is_dir())
        && folder.join(mark.name()).is_file();
    let below = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut below = below.filter_map(|entry| made_below(&entry.path()));
    match (own, below.next()) {
        (true, None) => Ok(true),
        (true, Some(made)) => refused(
            &format!(
                "{} in it was made by another command, and would be lost",
                made.display()
            ),
            "name another folder, or move what is in it",
        ),
        (false, _) => refused(
            &format!(
                "what is there is not marked as made by this command (`{}`), and is not replaced",
                mark.name()
            ),
            "name another folder, or remove it yourself, as also what a version of jamc made that set no marks",
        ),
    }
}

/// A folder that a program or a command made, at a path or below it; links are not followed.
fn made_below(path: &Path) -> Option<PathBuf> {
    if !fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir()) {
        return None;
    }
    let marks = [Mark::ANSWER, Mark::EXPORT, Mark::SYNTH].map(Mark::name);
    if marks
        .iter()
        .chain(&[RESULT_FILE])
        .any(|name| path.join(name).exists())
    {
        return Some(path.to_owned());
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .into_iter()
        .find_map(|entry| made_below(&entry.path()))
}

fn there_already(path: &Path) -> Failure {
    Failure::exists(
        Error::new("there is something already")
            .with_path(path)
            .with_help("name another place, or replace it with `--force`"),
    )
}

/// Refuses a place that is one of the inputs, lies in one, or has one in it, wherever links lead.
fn apart(output: &Path, inputs: &[&Path]) -> Result<(), Failure> {
    let place = resolved(output);
    for input in inputs {
        if overlap(&place, &resolved(input)) {
            return Err(Failure::usage(format!(
                "{} is read from, and {} would be written over it or into it; name another place",
                input.display(),
                output.display()
            )));
        }
    }
    Ok(())
}

/// Whether one of two resolved places is the other, or lies in it.
pub(crate) fn overlap(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// A path without links and detours, as far as it exists; what does not exist yet stands behind that.
pub(crate) fn resolved(path: &Path) -> PathBuf {
    resolve(path, 0)
}

/// Links that are followed one after the other, as many as systems follow.
const MOST_LINKS: usize = 40;

fn resolve(path: &Path, links: usize) -> PathBuf {
    if let Ok(whole) = fs::canonicalize(path) {
        return whole;
    }
    // A link that leads nowhere yet: what is written through it stands where it leads.
    if let (Ok(target), true) = (fs::read_link(path), links < MOST_LINKS) {
        let folder = path.parent().unwrap_or(Path::new(""));
        return resolve(&folder.join(target), links + 1);
    }
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => resolve(parent, links),
        Some(_) => fs::canonicalize(".").unwrap_or_default(),
        None => return path.to_owned(),
    };
    match path.components().next_back() {
        Some(Component::ParentDir) => parent.parent().unwrap_or(&parent).to_owned(),
        Some(Component::Normal(name)) => parent.join(name),
        _ => parent,
    }
}

/// Writes a file anew, whole or not at all. Where it is there, the file that links lead to is written, and keeps its
/// permissions.
///
/// # Errors
/// When it cannot be written; the old file is then still there.
pub(crate) fn rewrite(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let place = resolved(path);
    let Ok(meta) = fs::metadata(&place) else {
        return Ok(write_file(&place, bytes)?);
    };
    let temporary = temporary_beside(&place);
    let written = File::create(&temporary).and_then(|mut file| {
        // Before its first byte: nobody else reads what only its owner may.
        file.set_permissions(meta.permissions())?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &place)
    });
    written.map_err(|error| {
        // The error that is told is the first one; a left-over hidden file does no harm.
        let _ = fs::remove_file(&temporary);
        Failure::Input(Error::io("write", path, error))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_are_not_there_yet_are_resolved_as_far_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        assert_eq!(resolved(&folder.path().join("a/b/../c")), root.join("a/c"));
        fs::create_dir(root.join("real")).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(root.join("real"), root.join("link")).unwrap();
            assert_eq!(resolved(&root.join("link/new")), root.join("real/new"));
            std::os::unix::fs::symlink("real/later", root.join("broken")).unwrap();
            assert_eq!(resolved(&root.join("broken")), root.join("real/later"));
            std::os::unix::fs::symlink("self", root.join("self")).unwrap();
            assert_eq!(resolved(&root.join("self")), root.join("self"));
        }
        assert!(overlap(&root, &root.join("real")));
        assert!(!overlap(&root.join("real"), &root.join("realm")));
    }
}
