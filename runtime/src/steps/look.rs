//! One look at the files of a program: what their contents are, each found out once.
//!
//! Many steps read the same data, and keys are asked for again and again. What a look has seen stays as it was;
//! whether something has changed since, another look tells.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use indexmap::IndexMap;
use jam_data::sources::{format_of, matching_files, unfolded};
use jam_ir::recipe::{DataRef, Step};
use jam_ir::{Called, Holds};

use crate::results::{Hashes, Ingredients, stands};
use crate::{Error, Result};

/// What was seen.
#[derive(Debug)]
pub(crate) struct Look {
    /// The program's folder, and where it lies.
    folder: [PathBuf; 2],
    /// What steps are made from.
    pub(super) steps: RefCell<IndexMap<Step, Ingredients>>,
    /// Data whose lists name pictures that are not there.
    pub(super) without_pictures: RefCell<Vec<DataRef>>,
    /// Records by their format and the patterns that find them.
    records: RefCell<Vec<Seen>>,
    /// Where folders lie, however they are spelled.
    folders: RefCell<BTreeMap<PathBuf, PathBuf>>,
}

/// A format and patterns, and what they find.
type Seen = (Called, Vec<String>, Rc<Records>);

/// The files of records that patterns find, and those of pictures that they name.
#[derive(Debug)]
pub(super) struct Records {
    /// Names, as [`Look::called`] has them, with hashes of contents; all pictures of a list have one.
    pub(super) files: Vec<(String, String)>,
    /// Whether a picture is not there.
    pub(super) without_pictures: bool,
}

impl Look {
    /// Of a program's folder; nothing is seen yet.
    pub(super) fn new(folder: &Path) -> Look {
        let lies = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        Look {
            folder: [folder.to_owned(), lies],
            steps: RefCell::default(),
            without_pictures: RefCell::default(),
            records: RefCell::default(),
            folders: RefCell::default(),
        }
    }

    /// Works out anew what steps are made from, of files as they were seen: another result may stand in a step's place.
    pub(super) fn forget_steps(&self) {
        self.steps.borrow_mut().clear();
    }

    /// What is found by patterns of names that start in the program's folder; `whose` the records are stands before what
    /// is told of patterns.
    ///
    /// # Errors
    /// When a pattern finds nothing, a file cannot be read, or a list is not of its format.
    pub(super) fn records(
        &self,
        hashes: &Hashes,
        whose: &str,
        format: &Called,
        patterns: &[String],
    ) -> Result<Rc<Records>> {
        let is_this = |(of, found, _): &&Seen| of == format && found == patterns;
        if let Some((.., known)) = self.records.borrow().iter().find(is_this) {
            return Ok(known.clone());
        }
        let files = matching_files(&self.folder[0], patterns).map_err(|error| Error {
            message: format!("{whose}: {}", error.message),
            ..error
        })?;
        let mut found = Records {
            files: Vec::new(),
            without_pictures: false,
        };
        for file in &files {
            self.file(hashes, file, &mut found.files)?;
        }
        if format_of(format)?
            .signature()
            .holds
            .contains(&Holds::Pictures)
        {
            for list in &unfolded(format, &files)? {
                self.pictures(hashes, format, list, &mut found)?;
            }
        }
        let found = Rc::new(found);
        let entry = (format.clone(), patterns.to_vec(), found.clone());
        self.records.borrow_mut().push(entry);
        Ok(found)
    }

    /// The pictures that a list names.
    fn pictures(
        &self,
        hashes: &Hashes,
        format: &Called,
        list: &Path,
        found: &mut Records,
    ) -> Result<()> {
        let named = hashes.named_pictures(format, list)?;
        if named.is_empty() {
            return Ok(());
        }
        let mut pictures = blake3::Hasher::new();
        for picture in &named {
            pictures.update(self.called(picture).as_bytes());
            let content = match stands(picture)? {
                true => hashes.content(picture)?,
                false => {
                    found.without_pictures = true;
                    "missing".to_owned()
                }
            };
            pictures.update(content.as_bytes());
        }
        let name = format!("{} (its pictures)", self.called(list));
        let hash = pictures.finalize().to_hex()[..32].to_owned();
        found.files.push((name, hash));
        Ok(())
    }

    /// A file, or every file of a folder of records.
    fn file(&self, hashes: &Hashes, path: &Path, all: &mut Vec<(String, String)>) -> Result<()> {
        if !path.is_dir() {
            all.push((self.called(path), hashes.content(path)?));
            return Ok(());
        }
        let failed = |error| Error::io("list", path, error);
        let mut entries = Vec::new();
        for entry in path.read_dir().map_err(failed)? {
            entries.push(entry.map_err(failed)?.path());
        }
        entries.sort();
        for entry in &entries {
            match entry.metadata() {
                // A link to a folder may lead back to this one; records are not looked for behind it either.
                Ok(found) if found.is_dir() && entry.is_symlink() => {}
                Ok(_) => self.file(hashes, entry, all)?,
                // A link that leads nowhere need not be one that is read.
                Err(_) => all.push((self.called(entry), "missing".to_owned())),
            }
        }
        Ok(())
    }

    /// A file by its path in the program's folder, or its canonical path where it lies elsewhere: however the program or
    /// its files are spelled, and where the whole folder is moved to.
    pub(super) fn called(&self, path: &Path) -> String {
        let file = self.canonical(path).unwrap_or_else(|| path.to_owned());
        let name = file.strip_prefix(&self.folder[1]).unwrap_or(&file);
        name.to_string_lossy().replace('\\', "/")
    }

    /// Where a file lies; none where it is not there.
    fn canonical(&self, path: &Path) -> Option<PathBuf> {
        let (Some(name), Some(folder)) = (path.file_name(), path.parent()) else {
            return path.canonicalize().ok();
        };
        // Elsewhere a name may be spelled with letters of another size.
        let spelled = cfg!(any(windows, target_vendor = "apple"));
        let kind = path.symlink_metadata().ok()?.file_type();
        match kind.is_symlink() || spelled {
            true => path.canonicalize().ok(),
            false => Some(self.folder(folder)?.join(name)),
        }
    }

    /// Where a folder lies.
    fn folder(&self, folder: &Path) -> Option<PathBuf> {
        let here = match folder.as_os_str().is_empty() {
            true => Path::new("."),
            false => folder,
        };
        if let Some(known) = self.folders.borrow().get(here) {
            return Some(known.clone());
        }
        let found = here.canonicalize().ok()?;
        let known = found.clone();
        self.folders.borrow_mut().insert(here.to_owned(), known);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn articles() -> Called {
        Called {
            name: "interleaved".to_owned(),
            ..Called::default()
        }
    }

    #[test]
    fn a_look_sees_data_once_and_another_sees_what_has_changed() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path();
        let article = r#"{"segments": [{"image": "1.png"}, {"image": "2.png"}]}"#;
        fs::write(folder.join("a.jsonl"), article).unwrap();
        fs::write(folder.join("1.png"), "one").unwrap();
        let hashes = Hashes::open(folder);
        let patterns = ["*.jsonl".to_owned()];
        let found = |look: &Look| {
            let found = look.records(&hashes, "data", &articles(), &patterns);
            found.unwrap()
        };
        let first = Look::new(folder);
        let seen = found(&first);
        let names: Vec<&str> = seen.files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a.jsonl", "a.jsonl (its pictures)"]);
        assert!(seen.without_pictures);
        fs::write(folder.join("2.png"), "two").unwrap();
        assert!(Rc::ptr_eq(&seen, &found(&first)), "seen once");
        let now = found(&Look::new(folder));
        assert_ne!(now.files[1], seen.files[1]);
        assert!(!now.without_pictures);
    }

    #[cfg(unix)]
    #[test]
    fn a_file_has_one_name_however_it_is_spelled() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("program");
        let elsewhere = place.path().join("data");
        for made in [&folder, &elsewhere] {
            fs::create_dir(made).unwrap();
            fs::write(made.join("a"), "").unwrap();
        }
        std::os::unix::fs::symlink(&elsewhere, folder.join("linked")).unwrap();
        std::os::unix::fs::symlink("a", folder.join("other")).unwrap();
        let look = Look::new(&folder);
        let called = |path: PathBuf| look.called(&path);
        for own in ["a", "other", "./a", "../program/a", "linked/../program/a"] {
            assert_eq!(called(folder.join(own)), "a", "{own}");
        }
        let there = elsewhere.join("a").canonicalize().unwrap();
        for way in ["linked/a", "../data/a"] {
            assert_eq!(called(folder.join(way)), there.display().to_string());
        }
        let absent = folder.join("linked/absent");
        assert_eq!(called(absent), "linked/absent");
    }
}
