//! Writing checkpoints tensor by tensor, with bounded memory.
//!
//! The tensors are named before the first is written, so that headers, shards and places are known; then
//! each is written by rows, in any order. The files stand under temporary names until
//! [`CheckpointWriter::finish`]; a checkpoint that was not finished leaves nothing behind.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;
use serde_json::json;

use super::atomic::{sync_folder, temporary_beside, write_file};
use super::checksums::Checksums;
use super::direct::{LongFile, Piece};
use super::header::byte_count;
use super::reader::{INDEX_FILE, SINGLE_FILE};
use super::{CHECKSUMS_FILE, Dtype};
use crate::{Error, ErrorKind, Result};

/// A tensor that is going to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name; not `__metadata__`.
    pub name: String,
    /// The stored format.
    pub dtype: Dtype,
    /// Sizes, the slowest axis first. Empty for a single number.
    pub shape: Vec<u64>,
}

impl TensorSpec {
    /// A tensor by name, format and sizes.
    pub fn new(name: impl Into<String>, dtype: Dtype, shape: impl Into<Vec<u64>>) -> Self {
        Self {
            name: name.into(),
            dtype,
            shape: shape.into(),
        }
    }
}

/// How a checkpoint is laid out.
#[derive(Debug, Clone)]
pub struct WriteOptions {
    /// Most bytes of data in one file; a larger tensor gets a file of its own. 5 GB by default.
    pub shard_bytes: u64,
    /// Strings for every header. `format: pt` by default, which Hugging Face's readers ask for.
    pub metadata: IndexMap<String, String>,
    /// Whether a `checksums.json` is written.
    pub checksums: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            shard_bytes: 5_000_000_000,
            metadata: IndexMap::from([("format".to_owned(), "pt".to_owned())]),
            checksums: true,
        }
    }
}

/// Where one tensor goes, and how far it has come.
#[derive(Debug)]
struct Place {
    dtype: Dtype,
    shard: usize,
    /// First byte in the file.
    start: u64,
    bytes: u64,
    written: u64,
    hasher: Option<Box<blake3::Hasher>>,
    checksum: Option<String>,
}

/// One file being written.
#[derive(Debug)]
struct Shard {
    path: PathBuf,
    temporary: PathBuf,
    file: LongFile,
    /// BLAKE3 of its header, the length included.
    header: String,
}

/// A checkpoint being written into a folder.
#[derive(Debug)]
pub struct CheckpointWriter {
    folder: PathBuf,
    places: IndexMap<String, Place>,
    shards: Vec<Shard>,
    /// What waits to be written, of one shard at a time.
    piece: Piece,
    checksums: bool,
    finished: bool,
}

impl CheckpointWriter {
    /// Begins a checkpoint of these tensors in `folder`, which is made where it is missing.
    ///
    /// # Errors
    /// When a name occurs twice or is reserved, a size overflows, the folder already holds a checkpoint, or
    /// files cannot be made.
    pub fn create(folder: &Path, specs: Vec<TensorSpec>, options: WriteOptions) -> Result<Self> {
        fs::create_dir_all(folder).map_err(|error| Error::io("make the folder", folder, error))?;
        for name in [SINGLE_FILE, INDEX_FILE, CHECKSUMS_FILE] {
            if folder.join(name).exists() {
                return Err(Error::of(
                    ErrorKind::Exists,
                    format!("the folder already has a {name}"),
                )
                .with_path(folder)
                .with_help("write into an empty folder"));
            }
        }
        let mut writer = Self {
            folder: folder.to_owned(),
            places: IndexMap::new(),
            shards: Vec::new(),
            piece: Piece::default(),
            checksums: options.checksums,
            finished: false,
        };
        let plan = plan_shards(&specs, options.shard_bytes)
            .map_err(|message| Error::new(message).with_path(folder))?;
        let count = plan.len();
        for (number, members) in plan.iter().enumerate() {
            let path = folder.join(if count == 1 {
                SINGLE_FILE.to_owned()
            } else {
                format!("model-{:05}-of-{count:05}.safetensors", number + 1)
            });
            writer.begin_shard(path, members, &options)?;
        }
        // Places in the order that was asked for, not that of the files.
        let mut places = std::mem::take(&mut writer.places);
        for spec in &specs {
            if let Some(place) = places.swap_remove(&spec.name) {
                writer.places.insert(spec.name.clone(), place);
            }
        }
        Ok(writer)
    }

    /// How many files a checkpoint of these tensors has.
    ///
    /// # Errors
    /// When a name occurs twice or is reserved, or a size overflows.
    pub fn files(specs: &[TensorSpec], options: &WriteOptions) -> Result<usize> {
        let plan = plan_shards(specs, options.shard_bytes).map_err(Error::new)?;
        Ok(plan.len())
    }

    fn begin_shard(
        &mut self,
        path: PathBuf,
        members: &[&TensorSpec],
        options: &WriteOptions,
    ) -> Result<()> {
        let shard = self.shards.len();
        let (header, starts) = header_text(members, &options.metadata)
            .map_err(|message| Error::new(message).with_path(&path))?;
        let data_start = 8 + header.len() as u64;
        let mut end = data_start;
        for (spec, start) in members.iter().zip(starts) {
            let bytes = byte_count(spec.dtype, &spec.shape).unwrap_or(0);
            let mut place = Place {
                dtype: spec.dtype,
                shard,
                start: data_start + start,
                bytes,
                written: 0,
                hasher: None,
                checksum: None,
            };
            if bytes == 0 {
                place.checksum = Some(blake3::hash(&[]).to_hex().to_string());
            }
            end = end.max(place.start + bytes);
            self.places.insert(spec.name.clone(), place);
        }
        let temporary = temporary_beside(&path);
        let length = (header.len() as u64).to_le_bytes();
        let mut hasher = blake3::Hasher::new();
        hasher.update(&length).update(&header);
        let file = File::create(&temporary)
            .and_then(|mut file| {
                file.write_all(&length)?;
                file.write_all(&header)?;
                file.set_len(end)?;
                Ok(file)
            })
            .map_err(|error| Error::io("write", &temporary, error))?;
        let file = LongFile::new(file, &temporary, end);
        self.shards.push(Shard {
            path,
            temporary,
            file,
            header: hasher.finalize().to_hex().to_string(),
        });
        Ok(())
    }

    /// The tensors, in the order in which they were named.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    /// Adds values to the end of what `name` has, rounded to its format.
    ///
    /// # Errors
    /// When no such tensor was named, it is not of floats, there are more values than it holds, or the file
    /// cannot be written.
    pub fn append_f32(&mut self, name: &str, values: &[f32]) -> Result<()> {
        let dtype = self.place(name)?.dtype;
        let bytes = dtype.from_f32(values).ok_or_else(|| {
            Error::new(format!("`{name}` is stored as {dtype}, not as floats"))
                .with_path(&self.folder)
        })?;
        self.append_bytes(name, &bytes)
    }

    /// Adds bytes, in the tensor's format and little-endian, to the end of what `name` has.
    ///
    /// # Errors
    /// When no such tensor was named, there are more bytes than it holds, or the file cannot be written.
    pub fn append_bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        let place = self.place(name)?;
        let count = bytes.len() as u64;
        if count > place.bytes - place.written {
            let message = format!(
                "`{name}` has room for {} more bytes; {count} were given",
                place.bytes - place.written
            );
            return Err(Error::new(message).with_path(&self.folder));
        }
        let offset = place.start + place.written;
        let shard = place.shard;
        let hasher = place.hasher.get_or_insert_with(Box::default);
        hasher.update(bytes);
        place.written += count;
        if place.written == place.bytes && place.checksum.is_none() {
            place.checksum = Some(hasher.finalize().to_hex().to_string());
        }
        if place.checksum.is_some() {
            place.hasher = None;
        }
        if self.piece.owner != shard {
            self.flush()?;
            self.piece.owner = shard;
        }
        let shard = &mut self.shards[shard];
        shard
            .file
            .write(&mut self.piece, offset, bytes)
            .map_err(|error| Error::io("write", &shard.temporary, error))
    }

    /// Writes what waits to be.
    fn flush(&mut self) -> Result<()> {
        match self.shards.get_mut(self.piece.owner) {
            None => Ok(()),
            Some(shard) => shard
                .file
                .flush(&mut self.piece)
                .map_err(|error| Error::io("write", &shard.temporary, error)),
        }
    }

    fn place(&mut self, name: &str) -> Result<&mut Place> {
        let folder = &self.folder;
        self.places.get_mut(name).ok_or_else(|| {
            Error::new(format!("`{name}` was not announced for this checkpoint")).with_path(folder)
        })
    }

    /// Flushes everything and gives the files their names.
    ///
    /// # Errors
    /// When a tensor is not complete, or files cannot be flushed or renamed.
    pub fn finish(mut self) -> Result<Checksums> {
        self.flush()?;
        let mut checksums = Checksums {
            algorithm: "blake3".to_owned(),
            ..Checksums::default()
        };
        let mut weight_map = serde_json::Map::new();
        let mut total = 0;
        for (name, place) in &self.places {
            let Some(sum) = &place.checksum else {
                let message = format!(
                    "`{name}` is not complete: {} of {} bytes were written",
                    place.written, place.bytes
                );
                return Err(Error::new(message).with_path(&self.folder));
            };
            checksums.tensors.insert(name.clone(), sum.clone());
            let file = self.shards[place.shard].path.file_name();
            let file = file.map(|file| file.to_string_lossy().into_owned());
            weight_map.insert(name.clone(), json!(file));
            total += place.bytes;
        }
        for shard in &self.shards {
            if let Some(name) = shard.path.file_name() {
                let name = name.to_string_lossy().into_owned();
                checksums.headers.insert(name, shard.header.clone());
            }
            shard
                .file
                .sync()
                .map_err(|error| Error::io("flush", &shard.temporary, error))?;
        }
        // The data comes last: a folder with checksums and an index and without data does not open.
        if self.checksums {
            checksums.save(&self.folder)?;
        }
        if self.shards.len() > 1 {
            let index = json!({ "metadata": { "total_size": total }, "weight_map": weight_map });
            let text = format!("{index:#}\n");
            write_file(&self.folder.join(INDEX_FILE), text.as_bytes())?;
        }
        for shard in &self.shards {
            fs::rename(&shard.temporary, &shard.path)
                .map_err(|error| Error::io("rename", &shard.temporary, error))?;
        }
        sync_folder(&self.folder);
        self.finished = true;
        Ok(checksums)
    }
}

impl Drop for CheckpointWriter {
    fn drop(&mut self) {
        if !self.finished {
            for shard in &self.shards {
                let _ = fs::remove_file(&shard.temporary);
            }
        }
    }
}

/// Which tensors share a file: in the given order, a new file where the next tensor would not fit. One
/// empty file when there are no tensors. Names and sizes are checked here.
fn plan_shards(
    specs: &[TensorSpec],
    shard_bytes: u64,
) -> std::result::Result<Vec<Vec<&TensorSpec>>, String> {
    let mut names = indexmap::IndexSet::new();
    let mut plan: Vec<Vec<&TensorSpec>> = vec![Vec::new()];
    let (mut total, mut filled) = (0u64, 0u64);
    for spec in specs {
        if spec.name == "__metadata__" || !names.insert(&spec.name) {
            return Err(format!(
                "the name `{}` is reserved or occurs twice",
                spec.name
            ));
        }
        let bytes = byte_count(spec.dtype, &spec.shape);
        let sum = bytes.and_then(|bytes| total.checked_add(bytes));
        let (Some(bytes), Some(sum)) = (bytes, sum.filter(|&sum| sum < 1 << 60)) else {
            return Err(format!(
                "the size of `{}`, {:?}, overflows",
                spec.name, spec.shape
            ));
        };
        total = sum;
        if filled > 0 && filled + bytes > shard_bytes {
            plan.push(Vec::new());
            filled = 0;
        }
        filled += bytes;
        if let Some(last) = plan.last_mut() {
            last.push(spec);
        }
    }
    for members in &mut plan {
        // Wide elements first, so that every tensor starts at a multiple of its element's size.
        members.sort_by_key(|spec| std::cmp::Reverse(spec.dtype.size()));
    }
    Ok(plan)
}

/// The header of one file, padded to a multiple of 8 bytes, and the first byte of each tensor's data.
fn header_text(
    members: &[&TensorSpec],
    metadata: &IndexMap<String, String>,
) -> std::result::Result<(Vec<u8>, Vec<u64>), String> {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        header.insert("__metadata__".to_owned(), json!(metadata));
    }
    let mut starts = Vec::new();
    let mut end = 0;
    for spec in members {
        let start = end;
        end += byte_count(spec.dtype, &spec.shape).unwrap_or(0);
        starts.push(start);
        header.insert(
            spec.name.clone(),
            json!({ "dtype": spec.dtype.name(), "shape": spec.shape, "data_offsets": [start, end] }),
        );
    }
    let mut text = serde_json::to_vec(&header).map_err(|error| error.to_string())?;
    text.resize(text.len().next_multiple_of(8), b' ');
    Ok((text, starts))
}

#[cfg(test)]
mod tests {
    use super::super::CheckpointReader;
    use super::*;

    fn specs() -> Vec<TensorSpec> {
        vec![
            TensorSpec::new("b", Dtype::BF16, [3]),
            TensorSpec::new("a", Dtype::F32, [2, 3]),
            TensorSpec::new("ids", Dtype::I64, [2]),
            TensorSpec::new("none", Dtype::F32, [0]),
        ]
    }

    fn fill(writer: &mut CheckpointWriter) {
        writer.append_f32("a", &[1.0, 2.0]).unwrap();
        writer.append_f32("b", &[0.5, 1.5, -2.0]).unwrap();
        writer.append_f32("a", &[3.0, 4.0, 5.0, 6.0]).unwrap();
        writer
            .append_bytes("ids", &[1i64.to_le_bytes(), (-1i64).to_le_bytes()].concat())
            .unwrap();
    }

    fn check(folder: &Path) {
        let reader = CheckpointReader::open(folder).unwrap();
        assert_eq!(reader.read_f32("a").unwrap(), [1., 2., 3., 4., 5., 6.]);
        assert_eq!(reader.read_rows_f32("a", 1..2).unwrap(), [4., 5., 6.]);
        assert_eq!(reader.read_f32("b").unwrap(), [0.5, 1.5, -2.0]);
        assert_eq!(reader.read_i64("ids").unwrap(), [1, -1]);
        assert!(reader.read_f32("none").unwrap().is_empty());
        assert_eq!(reader.metadata()["format"], "pt");
    }

    #[test]
    fn one_file_comes_back_and_the_reference_implementation_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer =
            CheckpointWriter::create(folder.path(), specs(), WriteOptions::default()).unwrap();
        fill(&mut writer);
        writer.finish().unwrap();
        check(folder.path());
        let bytes = fs::read(folder.path().join(SINGLE_FILE)).unwrap();
        let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(reference.tensor("a").unwrap().shape(), [2, 3]);
        assert_eq!(reference.len(), 4);
        let names = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names, 2, "the checkpoint and its checksums");
        let error =
            CheckpointWriter::create(folder.path(), specs(), WriteOptions::default()).unwrap_err();
        assert!(error.message.contains("already has"));
    }

    #[test]
    fn shards_come_back_and_their_damage_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let options = WriteOptions {
            shard_bytes: 30,
            ..WriteOptions::default()
        };
        let mut writer = CheckpointWriter::create(folder.path(), specs(), options).unwrap();
        fill(&mut writer);
        writer.finish().unwrap();
        check(folder.path());
        let shard = folder.path().join("model-00001-of-00002.safetensors");
        assert!(
            folder
                .path()
                .join("model-00002-of-00002.safetensors")
                .exists()
        );
        let mut bytes = fs::read(&shard).unwrap();
        // The last byte belongs to `b`; the other tensor of the shard stays readable.
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&shard, &bytes).unwrap();
        let reader = CheckpointReader::open(folder.path()).unwrap();
        assert!(reader.read_f32("a").is_ok());
        let error = reader.read_f32("b").unwrap_err();
        assert!(
            error.message.contains("not the tensor that was written"),
            "{error}"
        );
        assert!(reader.read_rows_f32("b", 0..1).is_err());
        let trusting = CheckpointReader::open(folder.path())
            .unwrap()
            .without_verification();
        assert!(trusting.read_f32("b").is_ok());
    }

    #[test]
    fn an_unfinished_checkpoint_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer =
            CheckpointWriter::create(folder.path(), specs(), WriteOptions::default()).unwrap();
        writer.append_f32("a", &[1.0]).unwrap();
        assert!(
            writer
                .append_f32("a", &[0.0; 6])
                .unwrap_err()
                .message
                .contains("room for 20")
        );
        assert!(
            writer
                .append_f32("ids", &[0.0])
                .unwrap_err()
                .message
                .contains("I64")
        );
        assert!(
            writer
                .append_f32("z", &[0.0])
                .unwrap_err()
                .message
                .contains("announced")
        );
        let error = writer.finish().unwrap_err();
        assert!(error.message.contains("`b` is not complete"), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn names_and_sizes_are_checked_first() {
        let folder = tempfile::tempdir().unwrap();
        for specs in [
            vec![
                TensorSpec::new("a", Dtype::F32, [1]),
                TensorSpec::new("a", Dtype::F32, [1]),
            ],
            vec![TensorSpec::new("__metadata__", Dtype::F32, [1])],
            vec![TensorSpec::new("a", Dtype::F32, [u64::MAX, 2])],
            vec![
                TensorSpec::new("a", Dtype::F32, [1 << 59]),
                TensorSpec::new("b", Dtype::F32, [1]),
            ],
        ] {
            assert!(
                CheckpointWriter::create(folder.path(), specs, WriteOptions::default()).is_err()
            );
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
