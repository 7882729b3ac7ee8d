//! Reading checkpoints: headers first, then single tensors or ranges of their rows.
//!
//! A checkpoint is one `.safetensors` file, or a folder with `model.safetensors` or with shards under
//! `model.safetensors.index.json`; or the same in torch's format (`pytorch_model.bin`), or a checkpoint of
//! llama2.c. Opening reads headers only. Where the folder has a `checksums.json`,
//! a tensor is compared with its checksum before the first of its numbers is handed out.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use indexmap::IndexMap;

use super::atomic::refuse_unfinished;
use super::bounded::open;
use super::checksums::Checksums;
use super::foreign;
use super::header::element_count;
use super::{CHECKSUMS_FILE, Dtype, ReadAt, ShardIndex};
use crate::{Error, Result};

/// Name of the only file of an unsharded checkpoint.
pub const SINGLE_FILE: &str = "model.safetensors";
/// Name of the table that tells which shard holds which tensor.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
/// What training programs put before the names of a model that they wrap: `DataParallel` and `torch.compile`.
const WRAPPERS: [&str; 2] = ["module.", "_orig_mod."];
/// Bytes read at once when a tensor is verified.
const PIECE_BYTES: u64 = 1 << 20;

/// Where a tensor lies and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The stored format.
    pub dtype: Dtype,
    /// Sizes, the slowest axis first. Empty for a single number.
    pub shape: Vec<u64>,
    /// The file it lies in.
    pub file: Arc<PathBuf>,
    /// Its bytes, counted from the file's first byte.
    pub range: Range<u64>,
    /// Which of the open files that is.
    shard: usize,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        (self.range.end - self.range.start) / self.dtype.size()
    }

    /// Number of rows: the size of the first axis, 1 for a single number.
    pub fn rows(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements of one row.
    pub fn row_elements(&self) -> u64 {
        // The header was checked: the product fits.
        element_count(self.shape.get(1..).unwrap_or(&[])).unwrap_or(0)
    }
}

/// An open checkpoint.
#[derive(Debug)]
pub struct CheckpointReader {
    path: PathBuf,
    shards: Vec<ReadAt>,
    tensors: IndexMap<String, TensorInfo>,
    metadata: IndexMap<String, String>,
    /// What stands before every name in the files.
    wrapper: String,
    /// Checksums still to be compared; `None` where there are none or they are not wanted.
    checksums: Option<Checksums>,
    /// Of every tensor that was compared or is being compared: whether it is sound.
    verified: Mutex<IndexMap<String, Arc<Mutex<bool>>>>,
}

impl CheckpointReader {
    /// Opens a file of a known format, or a folder that holds a checkpoint.
    ///
    /// # Errors
    /// When there is no checkpoint, a header fails its checks, the index names a tensor or a file that is
    /// not there or a file outside the folder, or `checksums.json` lists other tensors.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let kind = fs::metadata(path).map_err(|error| Error::io("open", path, error))?;
        let mut reader = Self {
            path: path.to_owned(),
            shards: Vec::new(),
            tensors: IndexMap::new(),
            metadata: IndexMap::new(),
            wrapper: String::new(),
            checksums: None,
            verified: Mutex::default(),
        };
        let folder = match kind.is_dir() {
            true => path.to_owned(),
            false => path.parent().map(Path::to_owned).unwrap_or_default(),
        };
        // The manifest speaks of a folder's own files, not of any other that lies beside them.
        let own = kind.is_dir() || path.file_name().is_some_and(|name| name == SINGLE_FILE);
        if own {
            reader.checksums = Checksums::load(&folder)?;
        }
        if !kind.is_dir() {
            reader.add_shard(path)?;
        } else {
            refuse_unfinished(path)?;
            let found = foreign::find(path)?;
            for file in &found.files {
                reader.add_shard(file)?;
            }
            if let Some((path, index)) = &found.index {
                reader.compare_index(path, index)?;
            }
        }
        reader.compare_names(&folder)?;
        if reader.checksums.is_none() {
            reader.unwrap();
        }
        Ok(reader)
    }

    /// The files that [`CheckpointReader::open`] reads of a path that is there, but for lists of checksums: the table of
    /// shards and what holds tensors.
    ///
    /// # Errors
    /// When a folder has no checkpoint, or its table is wrong or names what is not there.
    pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
        if !path.is_dir() {
            return Ok(vec![path.to_owned()]);
        }
        let found = foreign::find(path)?;
        let index = found.index.map(|(path, _)| path);
        Ok(index.into_iter().chain(found.files).collect())
    }

    /// Takes off the names what training programs put before all of them.
    fn unwrap(&mut self) {
        loop {
            let all = |wrapper: &&&str| {
                let mut names = self.tensors.keys();
                !self.tensors.is_empty() && names.all(|name| name.starts_with(**wrapper))
            };
            let Some(wrapper) = WRAPPERS.iter().find(all) else {
                return;
            };
            self.wrapper.push_str(wrapper);
            let tensors = std::mem::take(&mut self.tensors).into_iter();
            self.tensors = tensors
                .map(|(name, info)| (name[wrapper.len()..].to_owned(), info))
                .collect();
        }
    }

    /// The same checkpoint, its checksums not compared.
    pub fn without_verification(mut self) -> Self {
        self.checksums = None;
        self
    }

    fn add_shard(&mut self, path: &Path) -> Result<()> {
        let mut file = open(path)?;
        let (header, checksum) = foreign::header(&mut file, path)?;
        self.compare_header(path, checksum.as_deref())?;
        let file_path = Arc::new(path.to_owned());
        let shard = self.shards.len();
        for (name, entry) in header.tensors {
            let info = TensorInfo {
                dtype: entry.dtype,
                shape: entry.shape,
                file: file_path.clone(),
                range: entry.range,
                shard,
            };
            if let Some(other) = self.tensors.insert(name.clone(), info) {
                let message = format!("`{name}` is also in {}", other.file.display());
                return Err(Error::new(message).with_path(path));
            }
        }
        self.metadata.extend(header.metadata);
        self.shards.push(ReadAt::new(file));
        Ok(())
    }

    /// The tensors of the shards against the table that names them.
    fn compare_index(&self, path: &Path, index: &ShardIndex) -> Result<()> {
        let bad = |message: String| Error::new(message).with_path(path);
        for (name, file) in &index.weight_map {
            match self.tensors.get(name) {
                None => return Err(bad(format!("the index names `{name}`, no shard has it"))),
                Some(info) if info.file.file_name() != Some(file.as_ref()) => {
                    return Err(bad(format!(
                        "the index says that `{name}` is in `{file}`; it is in {}",
                        info.file.display()
                    )));
                }
                Some(_) => {}
            }
        }
        if let Some(name) = self
            .tensors
            .keys()
            .find(|name| !index.weight_map.contains_key(*name))
        {
            return Err(bad(format!(
                "`{name}` lies in a shard and is not in the index"
            )));
        }
        Ok(())
    }

    /// A header against its checksum; lists of older versions have none. `found` is `None` in formats that
    /// are never listed.
    fn compare_header(&self, path: &Path, found: Option<&str>) -> Result<()> {
        let headers = self.checksums.as_ref().map(|checksums| &checksums.headers);
        let Some(headers) = headers.filter(|headers| !headers.is_empty()) else {
            return Ok(());
        };
        let name = path.file_name().map(|name| name.to_string_lossy());
        let expected = name.and_then(|name| headers.get(name.as_ref()));
        match expected.is_some() && expected.map(String::as_str) == found {
            true => Ok(()),
            false => Err(Error::damaged("the header is not the one that was written")
                .with_path(path)
                .with_help(format!(
                    "its checksum differs from {CHECKSUMS_FILE}: the file is damaged; make or \
                     fetch it again"
                ))),
        }
    }

    /// The names of the tensors against those that have checksums.
    fn compare_names(&self, folder: &Path) -> Result<()> {
        let Some(checksums) = &self.checksums else {
            return Ok(());
        };
        let bad = |message: String| Error::new(message).with_path(folder.join(CHECKSUMS_FILE));
        for name in checksums.tensors.keys() {
            if !self.tensors.contains_key(name) {
                return Err(bad(format!("`{name}` has a checksum, and is in no file")));
            }
        }
        match self
            .tensors
            .keys()
            .find(|name| !checksums.tensors.contains_key(*name))
        {
            Some(name) => Err(bad(format!("`{name}` has no checksum"))),
            None => Ok(()),
        }
    }

    /// The file or folder that was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stands before every name in the files and is no part of the names here: `module.`, say.
    pub fn wrapper(&self) -> Option<&str> {
        Some(self.wrapper.as_str()).filter(|wrapper| !wrapper.is_empty())
    }

    /// Every tensor by name, in the order of shards and of the data in them.
    pub fn tensors(&self) -> &IndexMap<String, TensorInfo> {
        &self.tensors
    }

    /// The strings that headers carry beside the tensors.
    pub fn metadata(&self) -> &IndexMap<String, String> {
        &self.metadata
    }

    /// One tensor by name.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.tensors
            .get(name)
            .ok_or_else(|| Error::new(format!("there is no tensor `{name}`")).with_path(&self.path))
    }

    /// The bytes of a tensor as stored, `range` counted in elements.
    ///
    /// # Errors
    /// When the range is outside the tensor, the file cannot be read, or a checksum differs.
    pub fn read_bytes(&self, name: &str, elements: Range<u64>) -> Result<Vec<u8>> {
        let info = self.tensor(name)?;
        if elements.start > elements.end || elements.end > info.elements() {
            return Err(Error::new(format!(
                "`{name}` has {} elements; {}..{} were asked for",
                info.elements(),
                elements.start,
                elements.end
            ))
            .with_path(info.file.as_ref()));
        }
        self.verify(name)?;
        self.read_unchecked(info, elements)
    }

    fn read_unchecked(&self, info: &TensorInfo, elements: Range<u64>) -> Result<Vec<u8>> {
        let size = info.dtype.size();
        let count = (elements.end - elements.start) * size;
        let mut bytes = vec![0; count as usize];
        self.shards[info.shard]
            .read_at(&mut bytes, info.range.start + elements.start * size)
            .map_err(|error| Error::io("read", &info.file, error))?;
        Ok(bytes)
    }

    /// Fills `bytes` with elements of a tensor as stored, from element `start` on.
    ///
    /// # Errors
    /// When they are outside the tensor or no whole number of elements, the file cannot be read, or a
    /// checksum differs.
    pub(super) fn read_into(&self, name: &str, start: u64, bytes: &mut [u8]) -> Result<()> {
        let info = self.tensor(name)?;
        let size = info.dtype.size();
        let count = bytes.len() as u64;
        let end = start.checked_add(count / size);
        if !count.is_multiple_of(size) || end.is_none_or(|end| end > info.elements()) {
            let message = format!(
                "`{name}` has {} elements of {size} bytes; {count} bytes from element {start} on \
                 were asked for",
                info.elements()
            );
            return Err(Error::new(message).with_path(info.file.as_ref()));
        }
        self.verify(name)?;
        self.shards[info.shard]
            .read_at(bytes, info.range.start + start * size)
            .map_err(|error| Error::io("read", &info.file, error))
    }

    /// Asks the system to fetch elements of a tensor, where it can be asked (Linux).
    pub(super) fn prefetch(&self, name: &str, elements: Range<u64>) {
        #[cfg(target_os = "linux")]
        if let Ok(info) = self.tensor(name)
            && elements.start < elements.end
            && elements.end <= info.elements()
        {
            use std::os::fd::AsRawFd;
            let size = info.dtype.size();
            let start = info.range.start + elements.start * size;
            let count = (elements.end - elements.start) * size;
            let file = self.shards[info.shard].file().as_raw_fd();
            // SAFETY: takes any numbers; it is advice, and what comes of it changes nothing.
            unsafe {
                libc::posix_fadvise64(file, start as i64, count as i64, libc::POSIX_FADV_WILLNEED)
            };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (name, elements);
    }

    /// Compares a tensor with its checksum, once; without checksums there is nothing to compare.
    ///
    /// # Errors
    /// When the file cannot be read or the tensor differs.
    pub fn verify(&self, name: &str) -> Result<()> {
        let Some(checksums) = &self.checksums else {
            return Ok(());
        };
        let info = self.tensor(name)?;
        let mut verified = self
            .verified
            .lock()
            .unwrap_or_else(|poison| poison.into_inner());
        let sound = match verified.get(name) {
            Some(sound) => sound.clone(),
            None => verified.entry(name.to_owned()).or_default().clone(),
        };
        drop(verified);
        // Threads that want the same tensor wait for the one that reads it.
        let mut sound = sound.lock().unwrap_or_else(|poison| poison.into_inner());
        if *sound {
            return Ok(());
        }
        let mut hasher = blake3::Hasher::new();
        let step = PIECE_BYTES / info.dtype.size();
        let mut start = 0;
        while start < info.elements() {
            let end = info.elements().min(start + step);
            hasher.update(&self.read_unchecked(info, start..end)?);
            start = end;
        }
        let found = hasher.finalize().to_hex();
        if checksums.tensors.get(name).map(String::as_str) != Some(found.as_str()) {
            return Err(
                Error::damaged(format!("`{name}` is not the tensor that was written"))
                    .with_path(info.file.as_ref())
                    .with_help(format!(
                        "its checksum differs from {CHECKSUMS_FILE}: the file is damaged; delete \
                         it, and make or fetch it again"
                    )),
            );
        }
        *sound = true;
        Ok(())
    }

    /// A whole float tensor as `f32`, row-major.
    ///
    /// # Errors
    /// As [`CheckpointReader::read_bytes`], and when the tensor holds integers.
    pub fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        self.read_elements_f32(name, 0..self.tensor(name)?.elements())
    }

    /// Rows of a float tensor as `f32`: `rows` counts along the first axis.
    ///
    /// # Errors
    /// As [`CheckpointReader::read_bytes`], and when the tensor holds integers.
    pub fn read_rows_f32(&self, name: &str, rows: Range<u64>) -> Result<Vec<f32>> {
        let info = self.tensor(name)?;
        if rows.start > rows.end || rows.end > info.rows() {
            return Err(Error::new(format!(
                "`{name}` has {} rows; {}..{} were asked for",
                info.rows(),
                rows.start,
                rows.end
            ))
            .with_path(info.file.as_ref()));
        }
        let row = info.row_elements();
        self.read_elements_f32(name, rows.start * row..rows.end * row)
    }

    /// Consecutive elements of a float tensor as `f32`, counted row-major.
    ///
    /// # Errors
    /// As [`CheckpointReader::read_bytes`], and when the tensor holds integers.
    pub fn read_elements_f32(&self, name: &str, elements: Range<u64>) -> Result<Vec<f32>> {
        let info = self.tensor(name)?;
        if !info.dtype.is_float() {
            return Err(
                Error::new(format!("`{name}` holds {}, not floats", info.dtype))
                    .with_path(info.file.as_ref()),
            );
        }
        let bytes = self.read_bytes(name, elements)?;
        info.dtype
            .to_f32(&bytes)
            .ok_or_else(|| Error::damaged(format!("`{name}` is cut")).with_path(info.file.as_ref()))
    }

    /// A whole tensor of whole numbers (or truth values) as `i64`, row-major.
    ///
    /// # Errors
    /// As [`CheckpointReader::read_bytes`], and when the tensor holds floats or numbers beyond `i64`.
    pub fn read_i64(&self, name: &str) -> Result<Vec<i64>> {
        let info = self.tensor(name)?;
        let bytes = self.read_bytes(name, 0..info.elements())?;
        info.dtype.to_i64(&bytes).ok_or_else(|| {
            Error::new(format!(
                "`{name}` holds {}, which do not fit whole numbers of 64 bits",
                info.dtype
            ))
            .with_path(info.file.as_ref())
        })
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
