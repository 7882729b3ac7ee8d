//! Contents of the pictures that records name, for the keys of steps.
//!
//! Articles and `captions.jsonl` name pictures in files of their own, so neither the size nor the
//! time of the list says what the pictures show. Their contents are hashed; what a list names and
//! what a picture hashes to is kept beside the results, and read again only where the stamp of the
//! file has changed.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use jam_ir::recipe::DataKind;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};
use jam_data::sources::{DataSet, Segment, is_list};
use jam_weights::checkpoints::write_file;

/// What is known of files; kept between runs.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    /// By the path of a list: the paths of its pictures.
    lists: BTreeMap<PathBuf, Stamped<Vec<PathBuf>>>,
    /// By the path of a picture: the hash of its content, in hexadecimal.
    pictures: BTreeMap<PathBuf, Stamped<String>>,
}

/// Something that was read from a file, and the stamp that the file had.
#[derive(Debug, Serialize, Deserialize)]
struct Stamped<T> {
    stamp: Stamp,
    found: T,
}

/// What changes when a file is written: its size and time and, where the system has them, its
/// number and the time of the last change to anything about it, which no program can set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    bytes: u64,
    modified: u64,
    changed: u64,
    number: u64,
}

impl Stamp {
    fn of(meta: &Metadata) -> Stamp {
        let modified = meta.modified().ok();
        let modified = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        #[cfg(unix)]
        let (changed, number) = {
            use std::os::unix::fs::MetadataExt;
            let seconds = (meta.ctime() as u64).wrapping_mul(1_000_000_000);
            (seconds.wrapping_add(meta.ctime_nsec() as u64), meta.ino())
        };
        #[cfg(not(unix))]
        let (changed, number) = (0, 0);
        Stamp {
            bytes: meta.len(),
            modified: modified.map_or(0, |time| time.as_nanos() as u64),
            changed,
            number,
        }
    }
}

/// Calls `each` with the path of every picture that `files` name in files of their own, in their
/// order, and the hash of its content; `None` where it is missing. What is found out is kept in
/// the file `memory`, which may be damaged or missing; it is written where `remember` says so.
///
/// # Errors
/// When a list cannot be read or is not of its kind, or a picture cannot be read.
pub(super) fn picture_contents(
    kind: &DataKind,
    files: &[PathBuf],
    memory: &Path,
    remember: bool,
    mut each: impl FnMut(&Path, Option<&str>),
) -> Result<()> {
    let before = std::fs::read(memory).unwrap_or_default();
    let mut known: Known = serde_json::from_slice(&before).unwrap_or_default();
    let mut found = Known::default();
    for lines in files {
        // Pictures in shards are part of their file.
        let Some(stamp) = stamp(lines).filter(|_| is_list(lines)) else {
            continue;
        };
        let named = match known.lists.remove(lines) {
            Some(known) if known.stamp == stamp => known,
            _ => Stamped {
                stamp,
                found: named_pictures(kind, lines)?,
            },
        };
        for picture in &named.found {
            let Some(stamp) = self::stamp(picture) else {
                each(picture, None);
                continue;
            };
            if !found.pictures.contains_key(picture) {
                let content = match known.pictures.remove(picture) {
                    Some(known) if known.stamp == stamp => known.found,
                    _ => content_hash(picture)?,
                };
                let stamped = Stamped {
                    stamp,
                    found: content,
                };
                found.pictures.insert(picture.clone(), stamped);
            }
            each(picture, Some(&found.pictures[picture].found));
        }
        found.lists.insert(lines.clone(), named);
    }
    let after = serde_json::to_vec(&found)
        .map_err(|error| Error::new(format!("hashes cannot be written: {error}")))?;
    if remember && after != before && !found.lists.is_empty() {
        write_file(memory, &after)?;
    }
    Ok(())
}

fn stamp(path: &Path) -> Option<Stamp> {
    path.metadata().ok().map(|meta| Stamp::of(&meta))
}

/// Paths of the pictures that a list names, in its order.
fn named_pictures(kind: &DataKind, lines: &Path) -> Result<Vec<PathBuf>> {
    let set = DataSet::open(kind, &[lines.to_owned()])?;
    let mut named = Vec::new();
    for index in 0..set.len() {
        for segment in set.document(index)?.segments {
            if let Segment::Picture(picture) = segment {
                named.push(picture.path().to_owned());
            }
        }
    }
    Ok(named)
}

fn content_hash(picture: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut file =
        std::fs::File::open(picture).map_err(|error| Error::io("open", picture, error))?;
    std::io::copy(&mut file, &mut hasher).map_err(|error| Error::io("read", picture, error))?;
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Names and hashes, and whether the memory was written.
    fn contents(folder: &Path, files: &[&str]) -> Vec<(String, Option<String>)> {
        let files: Vec<PathBuf> = files.iter().map(|file| folder.join(file)).collect();
        let mut found = Vec::new();
        let memory = folder.join("memory/known.json");
        fs::create_dir_all(folder.join("memory")).unwrap();
        picture_contents(
            &DataKind::Interleaved,
            &files,
            &memory,
            true,
            |path, hash| {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.push((name, hash.map(str::to_owned)));
            },
        )
        .unwrap();
        found
    }

    #[test]
    fn a_picture_replaced_in_place_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let article =
            r#"{"segments": [{"text": "a"}, {"image": "p/1.png"}, {"image": "p/2.png"}]}"#;
        fs::write(folder.join("a.jsonl"), format!("{article}\n")).unwrap();
        fs::create_dir(folder.join("p")).unwrap();
        fs::write(folder.join("p/1.png"), b"one").unwrap();
        let first = contents(folder, &["a.jsonl"]);
        let hash = blake3::hash(b"one").to_hex().to_string();
        let one = ("p/1.png".to_owned(), Some(hash));
        assert_eq!(first, [one.clone(), ("p/2.png".to_owned(), None)]);
        assert_eq!(contents(folder, &["a.jsonl"]), first, "from memory");

        // Another picture of the same size, its time set back.
        let times = fs::metadata(folder.join("p/1.png")).unwrap();
        let times = fs::FileTimes::new().set_modified(times.modified().unwrap());
        let set_back = |name: &str| {
            let file = fs::File::options().write(true).open(folder.join(name));
            file.unwrap().set_times(times).unwrap();
        };
        fs::write(folder.join("p/new.png"), b"two").unwrap();
        fs::rename(folder.join("p/new.png"), folder.join("p/1.png")).unwrap();
        set_back("p/1.png");
        let second = contents(folder, &["a.jsonl"]);
        assert_eq!(second.len(), 2);
        if cfg!(unix) {
            assert_ne!(second, first);
        }
        // The same bytes again are the same content, whatever the time.
        fs::write(folder.join("p/1.png"), b"one").unwrap();
        assert_eq!(contents(folder, &["a.jsonl"]), first);
        fs::write(folder.join("p/2.png"), b"longer").unwrap();
        assert_ne!(contents(folder, &["a.jsonl"]), first);
    }

    #[test]
    fn a_list_that_changes_is_read_again_and_damage_does_no_harm() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for name in ["1.png", "2.png"] {
            fs::write(folder.join(name), name).unwrap();
        }
        let list = |names: &[&str]| {
            let lines = names
                .iter()
                .map(|name| format!("{{\"segments\": [{{\"image\": \"{name}\"}}]}}\n"));
            fs::write(folder.join("a.jsonl"), lines.collect::<String>()).unwrap();
        };
        list(&["1.png"]);
        assert_eq!(contents(folder, &["a.jsonl"]).len(), 1);
        list(&["1.png", "2.png"]);
        let two = contents(folder, &["a.jsonl"]);
        assert_eq!(two.len(), 2);
        fs::write(folder.join("memory/known.json"), "{damaged").unwrap();
        assert_eq!(contents(folder, &["a.jsonl"]), two);
    }
}
