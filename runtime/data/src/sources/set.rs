//! A data set: an index over files, and the documents it leads to.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jam_ir::recipe::DataKind;
use serde_json::Value;

use super::shards::{self, Member};
use super::{Document, PictureRef, Segment, matching_files, records};
use crate::{Error, Result};

/// The longest record that is read, in bytes.
const MAX_RECORD_BYTES: u64 = 256 << 20;

/// How files become records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadOptions {
    /// Bytes after which a `.txt` file is cut, at the next empty line (or, at twice the bytes, the next line), so
    /// that books can be shuffled; `None` makes every file one document. 8 KiB by default.
    pub text_block: Option<u64>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            text_block: Some(8 << 10),
        }
    }
}

/// Where a record lies.
#[derive(Debug, Clone)]
enum Place {
    /// A line of JSON.
    Line {
        file: u32,
        start: u64,
        bytes: u64,
        number: u64,
    },
    /// A block of a text file.
    Block {
        file: u32,
        start: u64,
        bytes: u64,
        number: u64,
    },
    /// Members of a tar file.
    Member { file: u32, member: Box<Member> },
}

/// Documents of one kind in a fixed order. Opening reads where they lie, [`DataSet::document`] reads them.
#[derive(Debug, Clone)]
pub struct DataSet {
    kind: DataKind,
    files: Vec<Arc<Path>>,
    places: Vec<Place>,
}

impl DataSet {
    /// Opens files of one kind, in their order, as a program that says no more would have it.
    ///
    /// # Errors
    /// As [`DataSet::open_with`].
    pub fn open(kind: &DataKind, files: &[PathBuf]) -> Result<Self> {
        Self::open_with(kind, files, &ReadOptions::default())
    }

    /// Opens files of one kind, in their order. A folder stands for its `captions.jsonl` or its `.tar` files.
    ///
    /// # Errors
    /// When a file cannot be read, is not of the kind (its ending tells), or a shard is damaged. Lines of JSON are
    /// not looked at before [`DataSet::document`].
    pub fn open_with(kind: &DataKind, files: &[PathBuf], options: &ReadOptions) -> Result<Self> {
        let mut set = Self {
            kind: kind.clone(),
            files: Vec::new(),
            places: Vec::new(),
        };
        for path in files {
            if !path.is_dir() {
                set.add(path, options)?;
                continue;
            }
            let listed = path.join("captions.jsonl");
            if *kind == DataKind::ImageText && listed.is_file() {
                set.add(&listed, options)?;
            } else {
                let ending = if *kind == DataKind::ImageText {
                    "*.tar"
                } else {
                    "*.jsonl"
                };
                for file in matching_files(path, &[ending.to_owned()])? {
                    set.add(&file, options)?;
                }
            }
        }
        Ok(set)
    }

    fn add(&mut self, path: &Path, options: &ReadOptions) -> Result<()> {
        let ending = path
            .extension()
            .map(|ending| ending.to_string_lossy().to_lowercase());
        let is_json = matches!(ending.as_deref(), Some("jsonl" | "ndjson"));
        let is_tar = ending.as_deref() == Some("tar");
        let file = self.files.len() as u32;
        self.files.push(Arc::from(path));
        let refused = |help: &str| {
            Err(Error::new("the file is of another kind")
                .with_path(path)
                .with_help(help))
        };
        match self.kind {
            DataKind::Choice { .. } => {
                refused("multiple choice is read as questions, not documents")
            }
            DataKind::ImageText if is_tar => {
                let members = shards::index(path)?;
                let place = |member| Place::Member {
                    file,
                    member: Box::new(member),
                };
                self.places.extend(members.into_iter().map(place));
                Ok(())
            }
            DataKind::ImageText if !is_json => {
                refused("captioned pictures are read from .tar shards and captions.jsonl")
            }
            DataKind::Interleaved | DataKind::Instruct if !is_json => {
                refused("articles and questions with answers are read from .jsonl")
            }
            DataKind::Text { .. } if is_tar => refused("text is read from .jsonl and .txt"),
            DataKind::Text { .. } if !is_json => self.index_blocks(path, file, options.text_block),
            _ => self.index_lines(path, file),
        }
    }

    /// Every line that is not empty is a record.
    fn index_lines(&mut self, path: &Path, file: u32) -> Result<()> {
        let mut lines = Lines::open(path)?;
        while let Some((start, line)) = lines.next()? {
            if !line.trim_ascii().is_empty() {
                let (bytes, number) = (line.len() as u64, lines.number);
                self.places.push(Place::Line {
                    file,
                    start,
                    bytes,
                    number,
                });
            }
        }
        Ok(())
    }

    /// Cuts a text file into blocks of whole lines.
    fn index_blocks(&mut self, path: &Path, file: u32, block: Option<u64>) -> Result<()> {
        let mut lines = Lines::open(path)?;
        let (mut start, mut end, mut number) = (0, 0, 0);
        let mut is_empty = true;
        while let Some((at, line)) = lines.next()? {
            end = at + line.len() as u64;
            let blank = line.trim_ascii().is_empty();
            is_empty &= blank;
            let bytes = end - start;
            let cut = block.is_some_and(|block| bytes >= 2 * block || (blank && bytes >= block));
            if cut && !is_empty {
                self.places.push(Place::Block {
                    file,
                    start,
                    bytes,
                    number,
                });
                (start, is_empty, number) = (end, true, number + 1);
            }
        }
        if !is_empty {
            self.places.push(Place::Block {
                file,
                start,
                bytes: end - start,
                number,
            });
        }
        Ok(())
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True without documents.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The files, in their order.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(AsRef::as_ref)
    }

    /// Reads the document at a place in the order.
    ///
    /// # Errors
    /// When there is none, its file cannot be read, or the record is not of the set's kind; the message names
    /// the line or the member.
    pub fn document(&self, index: usize) -> Result<Document> {
        let place = self.places.get(index).ok_or_else(|| {
            Error::new(format!(
                "there is no document {index}; there are {}",
                self.places.len()
            ))
        })?;
        match place {
            Place::Line {
                file,
                start,
                bytes,
                number,
            } => {
                let path = &self.files[*file as usize];
                let wrong = |what: String| {
                    Error::new(format!("line {number}: {what}")).with_path(path.as_ref())
                };
                let line = read_range(path, *start, *bytes)?;
                let json: Value = serde_json::from_slice(&line)
                    .map_err(|error| wrong(format!("not JSON: {error}")))?;
                let folder = path.parent().unwrap_or(Path::new(""));
                let id = format!("{}:{number}", short_name(path));
                let made = match &self.kind {
                    DataKind::Text { field } => records::text(json, field, id),
                    DataKind::ImageText => records::captioned(json, folder, id),
                    DataKind::Interleaved => records::interleaved(json, folder, id),
                    DataKind::Instruct => records::instruct(json, id),
                    DataKind::Choice { .. } => Err("a question is no document".to_owned()),
                };
                made.map_err(wrong)
            }
            Place::Block {
                file,
                start,
                bytes,
                number,
            } => {
                let path = &self.files[*file as usize];
                let text = utf8(read_range(path, *start, *bytes)?, path, *start)?;
                let text = text
                    .strip_prefix('\u{feff}')
                    .unwrap_or(&text)
                    .replace("\r\n", "\n");
                Ok(Document {
                    id: format!("{}:{number}", short_name(path)),
                    prompt: None,
                    segments: vec![Segment::Text(text.trim_matches('\n').to_owned())],
                    meta: Value::Null,
                })
            }
            Place::Member { file, member } => self.member(&self.files[*file as usize], member),
        }
    }

    fn member(&self, path: &Arc<Path>, member: &Member) -> Result<Document> {
        let wrong = |what: String| {
            Error::new(format!("the record `{}`: {what}", member.key)).with_path(path.as_ref())
        };
        let meta = match member.json {
            None => Value::Null,
            Some((start, bytes)) => serde_json::from_slice(&read_range(path, start, bytes)?)
                .map_err(|error| wrong(format!("not JSON: {error}")))?,
        };
        let caption = match member.caption {
            None => records::caption(&meta).map_err(wrong)?,
            Some((start, bytes)) => {
                records::one_line(&utf8(read_range(path, start, bytes)?, path, start)?)
            }
        };
        if caption.is_empty() {
            return Err(wrong("the caption is empty".to_owned()));
        }
        let Some((name, (start, bytes))) = &member.picture else {
            return Err(wrong("it has no picture".to_owned()));
        };
        let picture = PictureRef::member(path.clone(), *start, *bytes, name);
        Ok(Document {
            id: format!("{}:{}", short_name(path), member.key),
            prompt: None,
            segments: vec![Segment::Text(caption), Segment::Picture(picture)],
            meta,
        })
    }

    /// Keeps the documents that `keep` wants, in their order.
    ///
    /// # Errors
    /// When a document cannot be read.
    pub fn filtered(mut self, mut keep: impl FnMut(&Document) -> bool) -> Result<Self> {
        let mut places = Vec::new();
        for index in 0..self.places.len() {
            if keep(&self.document(index)?) {
                places.push(self.places[index].clone());
            }
        }
        self.places = places;
        Ok(self)
    }
}

/// The last two parts of a path: names of shards repeat from folder to folder, and where the folders lie is no
/// part of a record's name.
fn short_name(path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    match path.parent().and_then(Path::file_name) {
        Some(folder) => format!("{}/{file}", folder.to_string_lossy()),
        None => file.into_owned(),
    }
}

/// Lines of a file with their places.
struct Lines<'a> {
    path: &'a Path,
    reader: BufReader<File>,
    line: Vec<u8>,
    end: u64,
    /// Number of the last line, from 1.
    number: u64,
}

impl<'a> Lines<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io("open", path, error))?;
        Ok(Self {
            path,
            reader: BufReader::with_capacity(1 << 18, file),
            line: Vec::new(),
            end: 0,
            number: 0,
        })
    }

    /// The next line with its end, and its first byte; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<(u64, &[u8])>> {
        self.line.clear();
        self.number += 1;
        let count = (&mut self.reader)
            .take(MAX_RECORD_BYTES + 1)
            .read_until(b'\n', &mut self.line)
            .map_err(|error| Error::io("read", self.path, error))? as u64;
        if count > MAX_RECORD_BYTES {
            let message = format!(
                "line {} has more than {MAX_RECORD_BYTES} bytes",
                self.number
            );
            return Err(Error::new(message).with_path(self.path));
        }
        let start = self.end;
        self.end += count;
        Ok((count > 0).then_some((start, self.line.as_slice())))
    }
}

fn read_range(path: &Path, start: u64, bytes: u64) -> Result<Vec<u8>> {
    let failed = |error| Error::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    file.seek(SeekFrom::Start(start)).map_err(failed)?;
    let mut content = vec![0; bytes as usize];
    file.read_exact(&mut content).map_err(failed)?;
    Ok(content)
}

fn utf8(bytes: Vec<u8>, path: &Path, start: u64) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let at = start + error.utf8_error().valid_up_to() as u64;
        Error::new(format!("byte {at} is not UTF-8 text"))
            .with_path(path)
            .with_help("convert the file to UTF-8")
    })
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
