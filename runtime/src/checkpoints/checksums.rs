//! `checksums.json`: the BLAKE3 checksum of every tensor and every other file of a folder.
//!
//! Tensors have checksums of their own, so that one tensor can be read and believed without reading the
//! shards around it.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::atomic::write_file;
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
    pub tensors: IndexMap<String, String>,
    /// Name of another file of the folder → checksum of the file.
    #[serde(default)]
    pub files: IndexMap<String, String>,
}

impl Checksums {
    /// Reads a folder's manifest; `None` where the folder has none.
    ///
    /// # Errors
    /// When the manifest cannot be read, or says what this program does not understand.
    pub fn load(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(CHECKSUMS_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", &path, error)),
        };
        let checksums: Self = serde_json::from_slice(&text).map_err(|error| {
            Error::new(format!("the list of checksums is wrong: {error}")).with_path(&path)
        })?;
        if checksums.algorithm != "blake3" {
            let message = format!("unknown checksums: {}", checksums.algorithm);
            return Err(Error::new(message)
                .with_path(path)
                .with_help("`blake3` is known"));
        }
        Ok(Some(checksums))
    }

    /// Writes the manifest into a folder.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let path = folder.join(CHECKSUMS_FILE);
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::new(error.to_string()).with_path(&path))?;
        text.push('\n');
        write_file(&path, text.as_bytes())
    }
}

/// Adds every file at the top of `folder` that holds no tensors to its manifest (made where there is none),
/// in the order of their names. Call it last, before the folder takes its place.
///
/// # Errors
/// When a file cannot be read or the manifest not written.
pub fn seal_folder(folder: &Path) -> Result<()> {
    let mut checksums = Checksums::load(folder)?.unwrap_or_default();
    checksums.algorithm = "blake3".to_owned();
    checksums.files.clear();
    let failed = |error| Error::io("list", folder, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_file = entry.file_type().map_err(failed)?.is_file();
        if is_file
            && name != CHECKSUMS_FILE
            && !name.starts_with('.')
            && !name.ends_with(".safetensors")
        {
            names.push(name);
        }
    }
    names.sort();
    for name in names {
        let sum = file_checksum(&folder.join(&name))?;
        checksums.files.insert(name, sum);
    }
    checksums.save(folder)
}

/// Compares every file that a folder's manifest names with its checksum. Tensors are verified when they are
/// read. A folder without a manifest passes.
///
/// # Errors
/// The first file that is missing or differs.
pub fn verify_files(folder: &Path) -> Result<()> {
    let Some(checksums) = Checksums::load(folder)? else {
        return Ok(());
    };
    for (name, expected) in &checksums.files {
        let path = folder.join(name);
        if Path::new(name).components().count() != 1 || name == ".." {
            return Err(Error::new(format!("{CHECKSUMS_FILE} names `{name}`"))
                .with_path(folder)
                .with_help("it may only name files of its own folder"));
        }
        if file_checksum(&path)? != *expected {
            return Err(Error::new("the file is not the one that was written")
                .with_path(path)
                .with_help(format!(
                    "its checksum differs from {CHECKSUMS_FILE}: make it again, or remove the \
                     list of checksums if the change is meant"
                )));
        }
    }
    Ok(())
}

/// BLAKE3 of a file's bytes, read in pieces.
fn file_checksum(path: &Path) -> Result<String> {
    let failed = |error| Error::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
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
        seal_folder(folder.path()).unwrap();
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
    fn a_manifest_cannot_point_outside() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"algorithm":"blake3","tensors":{},"files":{"../secret":"00"}}"#;
        fs::write(folder.path().join(CHECKSUMS_FILE), text).unwrap();
        let error = verify_files(folder.path()).unwrap_err();
        assert!(error.help.unwrap().contains("its own folder"));
    }
}
