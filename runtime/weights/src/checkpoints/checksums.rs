//! `checksums.json`: the BLAKE3 checksum of every tensor and every other file of a folder.
//!
//! Tensors have checksums of their own, so that one tensor can be read and believed without reading the
//! shards around it; so have the headers of the shards. The list closes with a checksum of its own.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::atomic::write_file;
use super::bounded::{TABLE, file_of, has, is_plain, open, read_json};
use crate::{Error, Result};

/// Name of the manifest in a checkpoint folder.
pub const CHECKSUMS_FILE: &str = "checksums.json";

/// The contents of `checksums.json`. Every checksum is BLAKE3, in lower-case hexadecimal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checksums {
    /// How checksums are computed: always `blake3`.
    pub algorithm: String,
    /// Tensor name → checksum of its bytes as stored.
    #[serde(deserialize_with = "once")]
    pub tensors: IndexMap<String, String>,
    /// Name of a safetensors file of these tensors → checksum of its header, length included.
    #[serde(
        default,
        skip_serializing_if = "IndexMap::is_empty",
        deserialize_with = "once"
    )]
    pub headers: IndexMap<String, String>,
    /// Name of another file of the folder → checksum of the file.
    #[serde(default, deserialize_with = "once")]
    pub files: IndexMap<String, String>,
    /// Checksum of this list without this line, as compact JSON; empty in lists of older versions.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) manifest: String,
}

/// A map whose names occur once.
pub(super) fn once<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<IndexMap<String, String>, D::Error> {
    struct Once;
    impl<'de> serde::de::Visitor<'de> for Once {
        type Value = IndexMap<String, String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object of texts")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut map: A,
        ) -> std::result::Result<Self::Value, A::Error> {
            let mut found = IndexMap::new();
            while let Some((name, text)) = map.next_entry::<String, String>()? {
                if found.contains_key(&name) {
                    let message = format!("`{name}` occurs twice");
                    return Err(serde::de::Error::custom(message));
                }
                found.insert(name, text);
            }
            Ok(found)
        }
    }
    deserializer.deserialize_map(Once)
}

impl Checksums {
    /// Reads a folder's manifest; `None` where the folder has none.
    ///
    /// # Errors
    /// When the manifest cannot be read, or says what this program does not understand.
    pub fn load(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(CHECKSUMS_FILE);
        if !has(folder, CHECKSUMS_FILE) {
            return Ok(None);
        }
        let text = read_json(&file_of(folder, CHECKSUMS_FILE)?, TABLE)?;
        let checksums: Self = serde_json::from_slice(&text).map_err(|error| {
            Error::damaged(format!("the list of checksums is wrong: {error}")).with_path(&path)
        })?;
        drop(text);
        if checksums.algorithm != "blake3" {
            let message = format!("unknown checksums: {}", checksums.algorithm);
            return Err(Error::new(message)
                .with_path(path)
                .with_help("`blake3` is known"));
        }
        if !checksums.manifest.is_empty() && checksums.manifest != checksums.own_checksum()? {
            return Err(Error::damaged("it is not the list that was written")
                .with_path(path)
                .with_help(
                    "its own checksum differs: the folder is damaged; delete it, and make or fetch it again",
                ));
        }
        Ok(Some(checksums))
    }

    /// What `manifest` is to be.
    fn own_checksum(&self) -> Result<String> {
        #[derive(Serialize)]
        struct Rest<'c> {
            algorithm: &'c str,
            tensors: &'c IndexMap<String, String>,
            headers: &'c IndexMap<String, String>,
            files: &'c IndexMap<String, String>,
        }
        let rest = Rest {
            algorithm: &self.algorithm,
            tensors: &self.tensors,
            headers: &self.headers,
            files: &self.files,
        };
        let mut hasher = blake3::Hasher::new();
        serde_json::to_writer(&mut hasher, &rest).map_err(|error| Error::new(error.to_string()))?;
        Ok(hasher.finalize().to_hex().to_string())
    }

    /// Writes the manifest into a folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let path = folder.join(CHECKSUMS_FILE);
        let sealed = Self {
            manifest: self.own_checksum()?,
            ..self.clone()
        };
        let mut text = serde_json::to_string_pretty(&sealed)
            .map_err(|error| Error::new(error.to_string()).with_path(&path))?;
        text.push('\n');
        write_file(&path, text.as_bytes())
    }
}

/// Adds every file of `folder` and of the folders in it whose header is not in its manifest to it (made where there
/// is none), in the order of their names; hidden ones and those of `except`, by name at the top, are left out, and
/// so are folders with a manifest of their own. Call it last, before the folder takes its place.
///
/// # Errors
/// When a file cannot be read or the manifest not written.
pub fn seal_folder(folder: &Path, except: &[&str]) -> Result<()> {
    let mut checksums = Checksums::load(folder)?.unwrap_or_default();
    checksums.algorithm = "blake3".to_owned();
    checksums.files.clear();
    let mut names = Vec::new();
    files_below(folder, "", &mut names)?;
    names.retain(|name| !checksums.headers.contains_key(name) && !except.contains(&name.as_str()));
    names.sort();
    for name in names {
        let sum = file_checksum(&folder.join(&name))?;
        checksums.files.insert(name, sum);
    }
    checksums.save(folder)
}

/// Names of files below a folder, their parts divided by `/`.
fn files_below(folder: &Path, prefix: &str, names: &mut Vec<String>) -> Result<()> {
    let failed = |error| Error::io("list", folder, error);
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') || name == CHECKSUMS_FILE {
            continue;
        }
        let kind = entry.file_type().map_err(failed)?;
        let below = entry.path();
        if kind.is_file() {
            names.push(format!("{prefix}{name}"));
        } else if kind.is_dir() && !has(&below, CHECKSUMS_FILE) {
            files_below(&below, &format!("{prefix}{name}/"), names)?;
        }
    }
    Ok(())
}

/// Compares every file that a folder's manifest names with its checksum. Tensors are verified when they are
/// read. A folder without a manifest passes: those of others have none.
///
/// # Errors
/// The first file that is missing or differs.
pub fn verify_files(folder: &Path) -> Result<()> {
    match Checksums::load(folder)? {
        Some(checksums) => checksums.verify(folder, &mut file_checksum),
        None => Ok(()),
    }
}

/// As [`verify_files`], where the folder must have a manifest.
///
/// # Errors
/// As [`verify_files`], and when there is none.
pub fn verify_sealed(folder: &Path) -> Result<Checksums> {
    let checksums = sealed(folder)?;
    checksums.verify(folder, &mut file_checksum)?;
    Ok(checksums)
}

/// The manifest of a folder that must have one.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn sealed(folder: &Path) -> Result<Checksums> {
    Checksums::load(folder)?.ok_or_else(|| {
        Error::damaged(format!("the folder has no {CHECKSUMS_FILE}"))
            .with_path(folder)
            .with_help("without it nobody can tell whether its files are whole: make it again")
    })
}

impl Checksums {
    /// Compares every file that the manifest names with its checksum, which `sum` computes or knows.
    ///
    /// # Errors
    /// The first file that is missing or differs.
    pub fn verify(
        &self,
        folder: &Path,
        sum: &mut dyn FnMut(&Path) -> Result<String>,
    ) -> Result<()> {
        for (name, expected) in &self.files {
            let path = file_below(folder, name)?;
            if sum(&path)? != *expected {
                return Err(Error::damaged("the file is not the one that was written")
                    .with_path(path)
                    .with_help(format!(
                        "its checksum differs from {CHECKSUMS_FILE}: make or fetch it again"
                    )));
            }
        }
        Ok(())
    }

    /// What the whole list comes to: the checksum of itself.
    pub fn seal(&self) -> &str {
        &self.manifest
    }
}

/// A file of a folder or of folders in it, as [`file_of`] finds one.
fn file_below(folder: &Path, name: &str) -> Result<PathBuf> {
    match name.split_once('/') {
        Some((first, rest)) if is_plain(first) => {
            let below = folder.join(first);
            let kind =
                fs::symlink_metadata(&below).map_err(|error| Error::io("read", &below, error))?;
            match kind.is_dir() {
                true => file_below(&below, rest),
                false => Err(Error::new("it is no folder").with_path(below)),
            }
        }
        _ => file_of(folder, name),
    }
}

/// BLAKE3 of a file's bytes, read in pieces, in lower-case hexadecimal.
///
/// # Errors
/// When it is no regular file or cannot be read.
pub fn file_checksum(path: &Path) -> Result<String> {
    let failed = |error| Error::io("read", path, error);
    let mut file: File = open(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut piece).map_err(failed)?;
        if count == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&piece[..count]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_found() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("config.json"), b"{}").unwrap();
        fs::write(folder.path().join("model.ir"), b"model").unwrap();
        seal_folder(folder.path(), &[]).unwrap();
        verify_files(folder.path()).unwrap();
        let names: Vec<String> = Checksums::load(folder.path())
            .unwrap()
            .unwrap()
            .files
            .into_keys()
            .collect();
        assert_eq!(names, ["config.json", "model.ir"]);
        fs::write(folder.path().join("model.ir"), b"Model").unwrap();
        let error = verify_files(folder.path()).unwrap_err();
        assert!(error.path.unwrap().ends_with("model.ir"));
        fs::remove_file(folder.path().join("model.ir")).unwrap();
        assert!(verify_files(folder.path()).is_err());
    }

    #[test]
    fn files_of_folders_inside_are_sealed_too() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        fs::create_dir_all(place.join("val/deep")).unwrap();
        for name in [
            "a.txt",
            "val/b.txt",
            "val/deep/c.txt",
            "result.json",
            ".hidden",
        ] {
            fs::write(place.join(name), name).unwrap();
        }
        seal_folder(place, &["result.json"]).unwrap();
        let names: Vec<String> = verify_sealed(place).unwrap().files.into_keys().collect();
        assert_eq!(names, ["a.txt", "val/b.txt", "val/deep/c.txt"]);
        fs::write(place.join("val/deep/c.txt"), "other").unwrap();
        let error = verify_sealed(place).unwrap_err();
        assert_eq!(error.kind, crate::ErrorKind::Damaged);
        assert!(error.path.unwrap().ends_with("val/deep/c.txt"));
        fs::remove_file(place.join(CHECKSUMS_FILE)).unwrap();
        assert!(verify_sealed(place).is_err());
        verify_files(place).unwrap();
    }

    #[test]
    fn a_manifest_cannot_point_outside() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"algorithm":"blake3","tensors":{},"files":{"../secret":"00"}}"#;
        fs::write(folder.path().join(CHECKSUMS_FILE), text).unwrap();
        let error = verify_files(folder.path()).unwrap_err();
        assert!(error.message.contains("outside its folder"));
    }
}
