//! Hashes of the contents of files, computed once for each state of a file.
//!
//! Contents count, and reading them again each time would take long: what a file hashes to is kept beside the results
//! with the [`Stamp`] that the file had, and read again only where the stamp has changed. The memory is under a
//! checksum of its own; where it is damaged or missing, everything is read again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{File, Metadata};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jam_data::sources::{DataSet, Segment, is_list};
use jam_ir::Called;
use jam_weights::checkpoints::{
    CHECKSUMS_FILE, CheckpointReader, Checksums, file_checksum, sealed, write_file,
};
use serde::{Deserialize, Serialize};

use super::read_optional;
use crate::{Error, Result};

/// Files of checkpoints of others that are longer are not read whole to be told apart, see [`Hashes::weights`].
const WHOLE: u64 = 256 << 20;
/// Pieces of a longer file that are read, and bytes of each.
const PIECES: u64 = 64;
/// Bytes of a piece.
const PIECE: u64 = 1 << 20;
/// The longest tick by which systems stamp their files.
const TICK: Duration = Duration::from_millis(10);

/// What is known of files; kept between runs.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Known {
    /// By path: the hash of its content, in hexadecimal.
    contents: BTreeMap<PathBuf, Stamped<String>>,
    /// By path of a long file: the hash of pieces of it.
    pieces: BTreeMap<PathBuf, Stamped<String>>,
    /// By path of a file of tensors that were all verified: the seal of the list that they were compared with.
    tensors: BTreeMap<PathBuf, Stamped<String>>,
    /// By the path of a list: the pictures that it names, for each way in which it is read.
    lists: BTreeMap<PathBuf, Vec<Named>>,
}

/// The paths of the pictures that a list names where it is read in one way: `max_pictures` leaves documents out, and
/// their pictures with them.
#[derive(Debug, Serialize, Deserialize)]
struct Named {
    format: Called,
    pictures: Stamped<Vec<PathBuf>>,
}

/// Something that was read from a file, and the stamp that the file had.
#[derive(Debug, Clone, Serialize, Deserialize)]
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

    /// The stamp of a file. Times of files go by the ticks of the system's clock: one that was written in this very
    /// tick could be written again under the same stamp, so the tick is waited out.
    fn read(path: &Path) -> Result<Stamp> {
        let read = || {
            let meta = path.metadata();
            let meta = meta.map_err(|error| Error::io("read", path, error))?;
            Ok(Stamp::of(&meta))
        };
        let stamp: Stamp = read()?;
        let written = UNIX_EPOCH + Duration::from_nanos(stamp.changed.max(stamp.modified));
        match SystemTime::now().duration_since(written) {
            Ok(age) if age < TICK => {
                sleep(TICK - age);
                read()
            }
            _ => Ok(stamp),
        }
    }
}

/// Hashes of files, with what was known of them before.
#[derive(Debug)]
pub(crate) struct Hashes {
    memory: PathBuf,
    known: RefCell<Known>,
    changed: Cell<bool>,
    remembers: Cell<bool>,
}

impl Hashes {
    /// What is known below a folder of results. A memory that cannot be read knows nothing.
    pub(crate) fn open(out: &Path) -> Hashes {
        let memory = out.join("cache").join("hashes.json");
        let known = read_optional(&memory).ok().flatten().and_then(|bytes| {
            let (checksum, known): (String, Known) = serde_json::from_slice(&bytes).ok()?;
            (checksum == known.checksum()?).then_some(known)
        });
        Hashes {
            memory,
            known: RefCell::new(known.unwrap_or_default()),
            changed: Cell::new(false),
            remembers: Cell::new(true),
        }
    }

    /// Writes nothing from now on: it is looked only.
    pub(crate) fn only_look(&self) {
        self.remembers.set(false);
    }

    /// Keeps what was found out for the next run. That it cannot be kept is no failure: it is read again.
    pub(crate) fn keep(&self) {
        if !self.remembers.get() || !self.changed.replace(false) {
            return;
        }
        let mut known = self.known.borrow_mut();
        known.contents.retain(|path, _| path.exists());
        known.pieces.retain(|path, _| path.exists());
        known.tensors.retain(|path, _| path.exists());
        known.lists.retain(|path, _| path.exists());
        let checksum = known.checksum().unwrap_or_default();
        let bytes = serde_json::to_vec(&(checksum, &*known)).unwrap_or_default();
        let _ = write_file(&self.memory, &bytes);
    }

    /// BLAKE3 of a file's content, in hexadecimal.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn content(&self, path: &Path) -> Result<String> {
        let place = absolute(path);
        let stamp = Stamp::read(path)?;
        if let Some(found) = of(&self.known.borrow().contents, &place, stamp) {
            return Ok(found);
        }
        let found = file_checksum(path)?;
        self.remember(place, stamp, found.clone());
        Ok(found)
    }

    /// The hash of pieces of a long file.
    fn pieces(&self, path: &Path) -> Result<String> {
        let place = absolute(path);
        let stamp = Stamp::read(path)?;
        if let Some(found) = of(&self.known.borrow().pieces, &place, stamp) {
            return Ok(found);
        }
        let found = sampled(path, stamp.bytes)?;
        let stamped = Stamped {
            stamp,
            found: found.clone(),
        };
        self.known.borrow_mut().pieces.insert(place, stamped);
        self.changed.set(true);
        Ok(found)
    }

    fn remember(&self, place: PathBuf, stamp: Stamp, found: String) {
        let stamped = Stamped { stamp, found };
        self.known.borrow_mut().contents.insert(place, stamped);
        self.changed.set(true);
    }

    fn remember_tensors(&self, place: PathBuf, stamp: Stamp, seal: String) {
        let stamped = Stamped { stamp, found: seal };
        self.known.borrow_mut().tensors.insert(place, stamped);
        self.changed.set(true);
    }

    /// What tells a checkpoint or image tokenizer from another, by file: of a folder that JAM sealed its list of
    /// checksums, of others the contents of `files`, which are those that are read. Of one longer than 256 MiB its size,
    /// its first 8 MiB, 64 pieces of 1 MiB spread over it, and its end: every change that training, conversion or
    /// another version makes is in them, and reading them takes no time beside a build.
    ///
    /// # Errors
    /// When a file cannot be read, and what `files` fails with.
    pub(crate) fn weights(
        &self,
        path: &Path,
        files: &dyn Fn(&Path) -> Result<Vec<PathBuf>>,
    ) -> Result<Vec<(PathBuf, String)>> {
        if path.is_dir()
            && let Some(checksums) = Checksums::load(path)?
            && !checksums.seal().is_empty()
        {
            return Ok(vec![(
                path.join(CHECKSUMS_FILE),
                checksums.seal().to_owned(),
            )]);
        }
        let found = files(path)?.into_iter().map(|file| {
            let hash = self.tensors_file(&file)?;
            Ok((file, hash))
        });
        found.collect()
    }

    fn tensors_file(&self, path: &Path) -> Result<String> {
        match Stamp::read(path)?.bytes <= WHOLE {
            true => self.content(path),
            false => self.pieces(path),
        }
    }

    /// Paths of the pictures in files of their own that a list names in the documents that its format keeps, in their
    /// order; none where it is no list.
    ///
    /// # Errors
    /// When it cannot be read, or is not of its kind.
    pub(crate) fn named_pictures(&self, format: &Called, list: &Path) -> Result<Vec<PathBuf>> {
        // Pictures in shards are part of their file.
        if !is_list(list) || !super::stands(list)? {
            return Ok(Vec::new());
        }
        let place = absolute(list);
        let stamp = Stamp::read(list)?;
        let is_this = |named: &&Named| named.format == *format && named.pictures.stamp == stamp;
        if let Some(ways) = self.known.borrow().lists.get(&place)
            && let Some(known) = ways.iter().find(is_this)
        {
            return Ok(known.pictures.found.clone());
        }
        let set = DataSet::open(format, &[list.to_owned()])?;
        let mut found = Vec::new();
        for index in 0..set.len() {
            let document = set.document(index)?;
            if !set.keeps(&document) {
                continue;
            }
            for segment in document.segments {
                if let Segment::Picture(picture) = segment {
                    // However the folder is spelled from where the program is run.
                    let path = picture.path();
                    found.push(absolute(path));
                }
            }
        }
        let named = Named {
            format: format.clone(),
            pictures: Stamped {
                stamp,
                found: found.clone(),
            },
        };
        let mut known = self.known.borrow_mut();
        let ways = known.lists.entry(place).or_default();
        ways.retain(|known| known.format != *format && known.pictures.stamp == stamp);
        ways.push(named);
        self.changed.set(true);
        Ok(found)
    }

    /// Whether a sealed folder is whole: every file and every tensor that its list of checksums names. What was
    /// verified and has not been touched since is believed.
    ///
    /// # Errors
    /// When there is no list, or something is missing or differs.
    pub(crate) fn verify(&self, folder: &Path) -> Result<()> {
        let checksums = sealed(folder)?;
        checksums.verify(folder, &mut |path| self.content(path))?;
        if checksums.headers.is_empty() {
            return Ok(());
        }
        let seal = checksums.seal().to_owned();
        let verified = |file: &str| -> Result<bool> {
            let path = folder.join(file);
            let place = absolute(&path);
            let stamp = Stamp::read(&path)?;
            let known = of(&self.known.borrow().tensors, &place, stamp);
            Ok(known.is_some_and(|known| known == seal))
        };
        let mut all = true;
        for file in checksums.headers.keys() {
            all &= verified(file)?;
        }
        if all {
            return Ok(());
        }
        let reader = CheckpointReader::open(folder)?;
        let stamps = checksums.headers.keys().map(|file| {
            let path = folder.join(file);
            let place = absolute(&path);
            Ok((place, Stamp::read(&path)?))
        });
        let stamps = stamps.collect::<Result<Vec<_>>>()?;
        for name in checksums.tensors.keys() {
            reader.verify(name)?;
        }
        for (place, stamp) in stamps {
            self.remember_tensors(place, stamp, seal.clone());
        }
        Ok(())
    }

    /// Takes a sealed folder that was just written for whole.
    pub(crate) fn trust(&self, folder: &Path) {
        let Ok(checksums) = sealed(folder) else {
            return;
        };
        let seal = checksums.seal().to_owned();
        let stamped = |file: &str| {
            let path = folder.join(file);
            Stamp::read(&path).map(|stamp| (absolute(&path), stamp))
        };
        for (file, sum) in &checksums.files {
            if let Ok((place, stamp)) = stamped(file) {
                self.remember(place, stamp, sum.clone());
            }
        }
        for file in checksums.headers.keys() {
            if let Ok((place, stamp)) = stamped(file) {
                self.remember_tensors(place, stamp, seal.clone());
            }
        }
    }

    /// Knows nothing more of the files of a folder: what was read of them was not what was written.
    pub(crate) fn forget(&self, folder: &Path) {
        let folder = absolute(folder);
        let mut known = self.known.borrow_mut();
        known.contents.retain(|path, _| !path.starts_with(&folder));
        known.pieces.retain(|path, _| !path.starts_with(&folder));
        known.tensors.retain(|path, _| !path.starts_with(&folder));
        self.changed.set(true);
    }
}

impl Drop for Hashes {
    fn drop(&mut self) {
        self.keep();
    }
}

impl Known {
    /// BLAKE3 of this as compact JSON; in the file it stands before it.
    fn checksum(&self) -> Option<String> {
        let bytes = serde_json::to_vec(self).ok()?;
        Some(blake3::hash(&bytes).to_hex().to_string())
    }
}

/// What is known of a file that has not changed since.
fn of(known: &BTreeMap<PathBuf, Stamped<String>>, place: &Path, stamp: Stamp) -> Option<String> {
    let known = known.get(place).filter(|known| known.stamp == stamp);
    known.map(|known| known.found.clone())
}

/// A path however it is spelled from where the program is run.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// A hash of pieces of a long file, and of its size.
fn sampled(path: &Path, bytes: u64) -> Result<String> {
    let failed = |error| Error::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes.to_le_bytes());
    let mut take = |start: u64, count: u64| -> Result<()> {
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        let mut piece = Vec::new();
        file.by_ref()
            .take(count)
            .read_to_end(&mut piece)
            .map_err(failed)?;
        hasher.update(&piece);
        Ok(())
    };
    take(0, 8 * PIECE)?;
    for piece in 1..=PIECES {
        take((bytes - PIECE) / PIECES * piece, PIECE)?;
    }
    take(bytes - PIECE, PIECE)?;
    Ok(format!("pieces {}", hasher.finalize().to_hex()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use jam_ir::SettingValue;
    use jam_weights::checkpoints::seal_folder;

    use super::*;

    /// The pictures that a list names, with their hashes, by a memory that is kept.
    fn pictures(folder: &Path) -> Vec<(String, Option<String>)> {
        let hashes = Hashes::open(folder);
        let list = folder.join("a.jsonl");
        let articles = Called {
            name: "interleaved".to_owned(),
            ..Called::default()
        };
        let named = hashes.named_pictures(&articles, &list).unwrap();
        named
            .into_iter()
            .map(|path| {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                (name, hashes.content(&path).ok())
            })
            .collect()
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
        let first = pictures(folder);
        let hash = blake3::hash(b"one").to_hex().to_string();
        let one = ("p/1.png".to_owned(), Some(hash));
        assert_eq!(first, [one.clone(), ("p/2.png".to_owned(), None)]);
        assert_eq!(pictures(folder), first, "from memory");

        // Another picture of the same size, its time set back.
        let times = fs::metadata(folder.join("p/1.png")).unwrap();
        let times = fs::FileTimes::new().set_modified(times.modified().unwrap());
        fs::write(folder.join("p/new.png"), b"two").unwrap();
        fs::rename(folder.join("p/new.png"), folder.join("p/1.png")).unwrap();
        let file = File::options().write(true).open(folder.join("p/1.png"));
        file.unwrap().set_times(times).unwrap();
        if cfg!(unix) {
            assert_ne!(pictures(folder), first);
        }
        // The same bytes again are the same content, whatever the time.
        fs::write(folder.join("p/1.png"), b"one").unwrap();
        assert_eq!(pictures(folder), first);
        // A list that names others is read again; a damaged memory does no harm.
        let other = r#"{"segments": [{"image": "p/1.png"}]}"#;
        fs::write(folder.join("a.jsonl"), format!("{other}\n")).unwrap();
        assert_eq!(pictures(folder), std::slice::from_ref(&one));
        fs::write(folder.join("cache/hashes.json"), "{damaged").unwrap();
        assert_eq!(pictures(folder), [one]);
    }

    #[test]
    fn a_list_that_is_read_otherwise_names_other_pictures() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let articles = [
            r#"{"segments": [{"image": "one.png"}]}"#,
            r#"{"segments": [{"image": "two.png"}, {"image": "three.png"}]}"#,
        ];
        let list = folder.join("a.jsonl");
        fs::write(&list, articles.join("\n")).unwrap();
        let named = |most| {
            let format = Called {
                name: "interleaved".to_owned(),
                settings: [("max_pictures".to_owned(), SettingValue::Count(most))].into(),
            };
            let hashes = Hashes::open(folder);
            hashes.named_pictures(&format, &list).unwrap().len()
        };
        for most in [1, 0, 1, 0] {
            assert_eq!(named(most), if most == 1 { 1 } else { 3 });
        }
    }

    #[test]
    fn a_memory_with_a_flipped_bit_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, b"content").unwrap();
        let right = Hashes::open(folder.path()).content(&file).unwrap();
        let memory = folder.path().join("cache/hashes.json");
        let bytes = fs::read(&memory).unwrap();
        for bit in (0..bytes.len() * 8).step_by(7) {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&memory, &damaged).unwrap();
            assert_eq!(Hashes::open(folder.path()).content(&file).unwrap(), right);
        }
    }

    #[test]
    fn long_files_are_told_apart_by_pieces_and_short_ones_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("long");
        let file = File::create(&path).unwrap();
        file.set_len(WHOLE + 12_345).unwrap();
        let hash = |path: &Path| {
            let own = |path: &Path| Ok(vec![path.to_owned()]);
            Hashes::open(folder.path()).weights(path, &own).unwrap()[0]
                .1
                .clone()
        };
        let first = hash(&path);
        assert!(first.starts_with("pieces "));
        file.set_len(WHOLE + 12_346).unwrap();
        assert_ne!(hash(&path), first);
        let short = folder.path().join("short");
        fs::write(&short, b"short").unwrap();
        assert_eq!(hash(&short), blake3::hash(b"short").to_hex().to_string());
    }

    #[test]
    fn a_folder_is_verified_again_where_it_was_touched() {
        let folder = tempfile::tempdir().unwrap();
        let result = folder.path().join("result");
        fs::create_dir(&result).unwrap();
        fs::write(result.join("a"), b"right").unwrap();
        seal_folder(&result, &[]).unwrap();
        let hashes = Hashes::open(folder.path());
        hashes.trust(&result);
        hashes.verify(&result).unwrap();
        fs::write(result.join("a"), b"wrong").unwrap();
        assert!(hashes.verify(&result).is_err());
        fs::write(result.join("a"), b"right").unwrap();
        hashes.verify(&result).unwrap();
        fs::remove_file(result.join(CHECKSUMS_FILE)).unwrap();
        assert!(hashes.verify(&result).is_err());
    }
}
