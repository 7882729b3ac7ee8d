//! Files as the language sees them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use jam_dsl::World;
use jam_ir::{Error, ErrorKind};
use jam_weights::checkpoints::bounded::is_absent;

use crate::failure::Failure;

/// Files as the language sees them.
pub(crate) struct Files;

impl World for Files {
    fn read(&self, path: &str) -> Result<String, String> {
        read_text(Path::new(path))
    }

    fn exists(&self, path: &str) -> bool {
        Path::new(path).exists()
    }

    fn absolute(&self, path: &str) -> Option<String> {
        let path = std::fs::canonicalize(path).ok()?;
        path.to_str().map(str::to_owned)
    }
}

/// The failure to read a program file, for which there is a reason.
pub(crate) fn unread(path: &Path, why: &str) -> Failure {
    let kind = match std::fs::symlink_metadata(path) {
        Err(error) if is_absent(&error) => ErrorKind::Absent,
        _ => ErrorKind::Input,
    };
    let message = format!("cannot read {}: {why}", path.display());
    Failure::Input(Error::of(kind, message))
}

/// A program file. Only files are read: what is far too long is not, and a device has no end.
pub(crate) fn read_text(path: &Path) -> Result<String, String> {
    let meta = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if meta.is_dir() {
        return Err("it is a folder; `jamc import` writes the program of a checkpoint".to_owned());
    }
    if !meta.is_file() {
        return Err("it is no file: a program has an end, and may be read again".to_owned());
    }
    let most = jam_dsl::MAX_BYTES as u64;
    if meta.len() > most {
        return Err(too_long(meta.len()));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    match bytes.len() as u64 {
        size if size > most => Err(too_long(size)),
        _ => String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()),
    }
}

fn too_long(size: u64) -> String {
    let most = jam_dsl::MAX_BYTES;
    format!("it has {size} bytes, and a program has at most {most}")
}

/// Where the relative paths of a program start.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}
