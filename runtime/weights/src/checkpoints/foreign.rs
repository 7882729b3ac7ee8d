//! Checkpoints in other formats than safetensors: which file of a folder is one, and what a file is.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::bounded::{TABLE, file_of, has, open, read_json};
use super::header::Header;
use super::index::ShardIndex;
use super::llama2c::{self, Sizes};
use super::reader::{INDEX_FILE, SINGLE_FILE};
use super::torch;
use crate::{Error, ErrorKind, Result};

/// Names that torch's own checkpoints have in a folder: the table of shards, and single files.
const TORCH_INDEX: &str = "pytorch_model.bin.index.json";
const TORCH_FILES: [&str; 2] = ["pytorch_model.bin", "consolidated.00.pth"];
/// A second part of an original checkpoint that was cut across its matrices.
const SECOND_PART: &str = "consolidated.01.pth";

/// What holds the tensors of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The table of shards, where there is one.
    pub index: Option<(PathBuf, ShardIndex)>,
    /// The files with the tensors: one, or those that the table names, in the order of their names.
    pub files: Vec<PathBuf>,
}

impl Found {
    fn file(path: PathBuf) -> Found {
        Found {
            index: None,
            files: vec![path],
        }
    }

    fn index(folder: &Path, path: PathBuf) -> Result<Found> {
        let bad = |message: String| Error::new(message).with_path(&path);
        let index = ShardIndex::parse(&read_json(&path, TABLE)?).map_err(bad)?;
        let file = |name: &str| match has(folder, name) {
            true => file_of(folder, name),
            false => Err(bad(format!("the index names `{name}`, which is not there"))
                .with_help("fetch the missing shard")),
        };
        let files = index.files().into_iter().map(file).collect::<Result<_>>()?;
        Ok(Found {
            index: Some((path, index)),
            files,
        })
    }
}

/// Finds the checkpoint of a folder: safetensors under their usual names, torch's, one safetensors file of
/// any name, or one of llama2.c.
///
/// # Errors
/// When there is none, or several and no name that tells which; when a table is wrong, or names a file that is not there.
pub(super) fn find(folder: &Path) -> Result<Found> {
    for name in [INDEX_FILE, SINGLE_FILE, TORCH_INDEX] {
        if has(folder, name) {
            let path = file_of(folder, name)?;
            return match name {
                SINGLE_FILE => Ok(Found::file(path)),
                _ => Found::index(folder, path),
            };
        }
    }
    for name in TORCH_FILES {
        if has(folder, name) {
            let path = file_of(folder, name)?;
            if has(folder, SECOND_PART) {
                let message = "the checkpoint is cut across its matrices into several files";
                return Err(Error::new(message)
                    .with_path(folder)
                    .with_help("convert it to a Hugging Face folder first"));
            }
            return Ok(Found::file(path));
        }
    }
    let failed = |error| Error::io("list", folder, error);
    let mut names: Vec<String> = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        // What other programs make has names of text.
        names.extend(
            name.into_string()
                .ok()
                .filter(|name| !name.starts_with('.')),
        );
    }
    names.sort();
    let ending = |end: &str| {
        let ends = |name: &&String| Path::new(name).extension().is_some_and(|x| x == end);
        names.iter().filter(ends).collect::<Vec<&String>>()
    };
    let one = |found: Vec<&String>| match found[..] {
        [] => Ok(None),
        [one] => Ok(Some(Found::file(file_of(folder, one)?))),
        [first, second, ..] => {
            let message =
                format!("the folder has several checkpoints, `{first}` and `{second}` among them");
            Err(Error::new(message)
                .with_path(folder)
                .with_help("name the file"))
        }
    };
    if let Some(found) = one(ending("safetensors"))? {
        return Ok(found);
    }
    let mut sized = Vec::new();
    for name in ending("bin") {
        if sizes(&file_of(folder, name)?)?.is_some() {
            sized.push(name);
        }
    }
    one(sized)?.ok_or_else(|| {
        Error::of(
            ErrorKind::Absent,
            format!("the folder has no {SINGLE_FILE} or {INDEX_FILE}"),
        )
        .with_path(folder)
        .with_help(format!(
            "{}, {TORCH_INDEX} and checkpoints of llama2.c are read too",
            TORCH_FILES.join(", ")
        ))
    })
}

/// The sizes of a llama2.c checkpoint; `None` for any other file.
///
/// # Errors
/// When the file cannot be read, or is one that is not understood.
pub(super) fn sizes(path: &Path) -> Result<Option<Sizes>> {
    let mut file = open(path)?;
    let start = llama2c::start_of(&mut file, path)?;
    sizes_of(&file, &start, path)
}

fn sizes_of(file: &File, start: &[u8], path: &Path) -> Result<Option<Sizes>> {
    let length = file
        .metadata()
        .map_err(|error| Error::io("read", path, error))?
        .len();
    Sizes::of(start, length, path)
}

/// The tensors of an open file, in whatever format it is; of a safetensors header its checksum too.
///
/// # Errors
/// As the format's own reader.
pub(super) fn header(file: &mut File, path: &Path) -> Result<(Header, Option<String>)> {
    if path.extension().is_none_or(|found| found != "safetensors") {
        let start = llama2c::start_of(file, path)?;
        if torch::is_torch(&start) {
            return Ok((torch::read(file, &start, path)?, None));
        }
        if let Some(sizes) = sizes_of(file, &start, path)? {
            return Ok((sizes.header(), None));
        }
        let foreign = ["bin", "pth", "pt"];
        if path
            .extension()
            .is_some_and(|found| foreign.iter().any(|end| found == *end))
        {
            return Err(Error::new("the file is no checkpoint of a known format")
                .with_path(path)
                .with_help(
                    "known are what `torch.save` writes since torch 1.6, of which nothing is \
                     executed, and checkpoints of llama2.c",
                ));
        }
    }
    let (header, checksum) = Header::read_with_checksum(file, path)?;
    Ok((header, Some(checksum)))
}
