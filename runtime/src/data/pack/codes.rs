//! Codes of pictures, kept on the disk: a picture goes through its tokenizer once.
//!
//! One file a tokenizer, `HASH.codes`: a head, then records of one length, each the BLAKE3 of a picture's bytes, its
//! codes, and a check. A record that was cut off by an interrupt fails its check; what stands before it is kept.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use indexmap::IndexMap;

use crate::data::{Document, PictureRef, Segment};
use crate::images::Picture;
use crate::{Error, Result};

/// First bytes of the file; the number counts its versions.
const MAGIC: &[u8; 8] = b"JAMCODE1";
const HEAD_BYTES: u64 = 16;
/// Pictures that go through the tokenizer together.
const AT_ONCE: usize = 64;

/// An image tokenizer as far as documents need it.
pub trait PictureEncoder: Send + Sync {
    /// A hash of everything that decides the codes of a picture, the way it is cropped included.
    fn content_hash(&self) -> String;

    /// Codes of one picture.
    fn codes_per_picture(&self) -> usize;

    /// Codes of pictures of any size, each of [`PictureEncoder::codes_per_picture`].
    ///
    /// # Errors
    /// When the tokenizer cannot run.
    fn encode(&self, pictures: &[Picture]) -> Result<Vec<Vec<u32>>>;
}

/// The hash of a picture's bytes.
type Hash = [u8; 32];

struct State {
    file: File,
    /// Number of the record of each picture.
    records: IndexMap<Hash, u64>,
}

/// Pictures' codes: from the disk, or from the tokenizer and then to the disk.
pub struct CodeCache<'a> {
    encoder: &'a dyn PictureEncoder,
    codes: usize,
    path: PathBuf,
    state: Mutex<State>,
}

impl fmt::Debug for CodeCache<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CodeCache")
            .field("path", &self.path)
            .field("codes", &self.codes)
            .finish()
    }
}

impl<'a> CodeCache<'a> {
    /// Opens the tokenizer's file in `folder`, or begins it.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(folder: &Path, encoder: &'a dyn PictureEncoder) -> Result<Self> {
        let codes = encoder.codes_per_picture();
        let name = blake3::hash(encoder.content_hash().as_bytes()).to_hex();
        let path = folder.join(format!("{}.codes", &name[..32]));
        fs::create_dir_all(folder).map_err(|error| Error::io("make the folder", folder, error))?;
        let failed = |error| Error::io("open", &path, error);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let mut file = file.map_err(failed)?;
        let mut head = MAGIC.to_vec();
        head.extend((codes as u64).to_le_bytes());
        let records = match read_records(&mut file, &head, codes) {
            Ok(Some(records)) => records,
            Ok(None) => {
                // Empty, cut off in its head, or of another version: begin anew.
                file.set_len(0).map_err(failed)?;
                file.seek(SeekFrom::Start(0)).map_err(failed)?;
                file.write_all(&head).map_err(failed)?;
                IndexMap::new()
            }
            Err(error) => return Err(failed(error)),
        };
        // What follows the last good record is of no use.
        let end = HEAD_BYTES + records.len() as u64 * record_bytes(codes);
        file.set_len(end).map_err(failed)?;
        Ok(Self {
            encoder,
            codes,
            path,
            state: Mutex::new(State { file, records }),
        })
    }

    /// Codes of one picture.
    pub fn codes_per_picture(&self) -> usize {
        self.codes
    }

    /// Number of pictures on the disk.
    pub fn len(&self) -> usize {
        self.state().records.len()
    }

    /// True without pictures.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poison| poison.into_inner())
    }

    /// The codes of a picture.
    ///
    /// # Errors
    /// When the picture cannot be read or encoded, or the file not be read or written.
    pub fn codes(&self, picture: &PictureRef) -> Result<Vec<u32>> {
        let hash = *blake3::hash(&picture.bytes()?).as_bytes();
        if let Some(codes) = self.stored(&hash)? {
            return Ok(codes);
        }
        self.add(&[(hash, picture.load()?)])?;
        self.stored(&hash)?
            .ok_or_else(|| Error::new("the codes of a picture were not kept").with_path(&self.path))
    }

    /// Encodes the pictures of documents that are not on the disk yet, many at a time. `each` is called after every
    /// group with the number of new pictures so far; a `false` ends the work early.
    ///
    /// # Errors
    /// As [`CodeCache::codes`].
    pub fn prepare(
        &self,
        documents: impl Iterator<Item = Result<Document>>,
        mut each: impl FnMut(u64) -> bool,
    ) -> Result<()> {
        let mut waiting: IndexMap<Hash, Picture> = IndexMap::new();
        let mut done = 0;
        let mut flush = |waiting: &mut IndexMap<Hash, Picture>| -> Result<bool> {
            let group: Vec<(Hash, Picture)> = waiting.drain(..).collect();
            self.add(&group)?;
            done += group.len() as u64;
            Ok(each(done))
        };
        for document in documents {
            for segment in document?.segments {
                let Segment::Picture(picture) = segment else {
                    continue;
                };
                let bytes = picture.bytes()?;
                let hash = *blake3::hash(&bytes).as_bytes();
                if waiting.contains_key(&hash) || self.state().records.contains_key(&hash) {
                    continue;
                }
                waiting.insert(hash, picture.load()?);
                if waiting.len() == AT_ONCE && !flush(&mut waiting)? {
                    return Ok(());
                }
            }
        }
        if !waiting.is_empty() {
            flush(&mut waiting)?;
        }
        Ok(())
    }

    fn stored(&self, hash: &Hash) -> Result<Option<Vec<u32>>> {
        let mut state = self.state();
        let Some(number) = state.records.get(hash).copied() else {
            return Ok(None);
        };
        let mut bytes = vec![0; record_bytes(self.codes) as usize];
        let start = HEAD_BYTES + number * record_bytes(self.codes);
        state
            .file
            .seek(SeekFrom::Start(start))
            .and_then(|_| state.file.read_exact(&mut bytes))
            .map_err(|error| Error::io("read", &self.path, error))?;
        match codes_of(&bytes) {
            Some((found, codes)) if found == *hash => Ok(Some(codes)),
            _ => Err(
                Error::new("the file of picture codes was changed by others")
                    .with_path(&self.path)
                    .with_help("remove it; it is made again"),
            ),
        }
    }

    fn add(&self, pictures: &[(Hash, Picture)]) -> Result<()> {
        let (hashes, pictures): (Vec<Hash>, Vec<Picture>) = pictures.iter().cloned().unzip();
        let all = self.encoder.encode(&pictures)?;
        if all.len() != hashes.len() || all.iter().any(|codes| codes.len() != self.codes) {
            return Err(Error::new(format!(
                "the image tokenizer did not make {} codes of a picture",
                self.codes
            )));
        }
        let mut state = self.state();
        let mut bytes = Vec::new();
        let mut added = Vec::new();
        for (hash, codes) in hashes.into_iter().zip(all) {
            if !state.records.contains_key(&hash) && !added.contains(&hash) {
                bytes.extend(record(&hash, &codes));
                added.push(hash);
            }
        }
        let end = HEAD_BYTES + state.records.len() as u64 * record_bytes(self.codes);
        state
            .file
            .seek(SeekFrom::Start(end))
            .and_then(|_| state.file.write_all(&bytes))
            .map_err(|error| Error::io("write", &self.path, error))?;
        for hash in added {
            let number = state.records.len() as u64;
            state.records.insert(hash, number);
        }
        Ok(())
    }
}

/// Hash, codes, check.
fn record_bytes(codes: usize) -> u64 {
    32 + 4 * codes as u64 + 8
}

fn record(hash: &Hash, codes: &[u32]) -> Vec<u8> {
    let mut bytes = hash.to_vec();
    bytes.extend(codes.iter().flat_map(|code| code.to_le_bytes()));
    let check = blake3::hash(&bytes);
    bytes.extend(&check.as_bytes()[..8]);
    bytes
}

/// The hash and the codes of a record; `None` when it fails its check.
fn codes_of(bytes: &[u8]) -> Option<(Hash, Vec<u32>)> {
    let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
    let (hash, codes) = body.split_at_checked(32)?;
    if blake3::hash(body).as_bytes()[..8] != *check {
        return None;
    }
    let codes = codes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|code| u32::from_le_bytes(*code))
        .collect();
    Some((hash.try_into().ok()?, codes))
}

/// The good records from the beginning of a file; `None` when its head is another.
fn read_records(
    file: &mut File,
    head: &[u8],
    codes: usize,
) -> std::io::Result<Option<IndexMap<Hash, u64>>> {
    let count = file.metadata()?.len().saturating_sub(HEAD_BYTES) / record_bytes(codes);
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut found = [0; HEAD_BYTES as usize];
    match reader.read_exact(&mut found) {
        Ok(()) if found == head => {}
        Ok(()) => return Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut records = IndexMap::new();
    let mut bytes = vec![0; record_bytes(codes) as usize];
    for number in 0..count {
        reader.read_exact(&mut bytes)?;
        match codes_of(&bytes) {
            Some((hash, _)) if !records.contains_key(&hash) => records.insert(hash, number),
            _ => break,
        };
    }
    Ok(Some(records))
}
