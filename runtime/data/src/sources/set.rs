//! A data set: an index over files, and the documents it leads to.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use jam_ir::Called;
use serde_json::Value;

use super::content::{BYTE_ORDER_MARK, Content, LastOpen};
use super::endings::layout;
use super::format::{Format, Layout};
use super::shards::{self, Member};
use super::{Document, PictureRef, Segment, format_of, matching_files, records, rows, values};
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
    /// In a piece of a file: a line, a value, a row, a block of text.
    Piece {
        file: u32,
        start: u64,
        bytes: u64,
        /// Its line; of values, rows and blocks, which of them it is.
        number: u64,
    },
    /// In members of a tar file.
    Member { file: u32, member: Box<Member> },
}

/// A file of a set.
#[derive(Debug, Clone)]
struct SetFile {
    content: Content,
    layout: Layout,
    /// The names of the columns of a table.
    names: Vec<String>,
}

/// Documents of one kind in a fixed order. Opening reads where they lie, [`DataSet::document`] reads them.
#[derive(Debug, Clone)]
pub struct DataSet {
    format: &'static dyn Format,
    called: Called,
    files: Vec<SetFile>,
    places: Vec<Place>,
    notes: Vec<String>,
    last: LastOpen,
}

impl DataSet {
    /// Opens files of one kind, in their order, as a program that says no more would have it.
    ///
    /// # Errors
    /// As [`DataSet::open_with`].
    pub fn open(format: &Called, files: &[PathBuf]) -> Result<Self> {
        Self::open_with(format, files, &ReadOptions::default())
    }

    /// Opens files of one kind, in their order. A folder stands for its `captions.jsonl` or its `.tar` files.
    ///
    /// # Errors
    /// When a file cannot be read, is not of the kind (its ending tells), or a shard is damaged. Records of JSON
    /// are not looked at before [`DataSet::document`].
    pub fn open_with(format: &Called, files: &[PathBuf], options: &ReadOptions) -> Result<Self> {
        let mut set = Self {
            format: format_of(format)?,
            called: format.clone(),
            files: Vec::new(),
            places: Vec::new(),
            notes: Vec::new(),
            last: LastOpen::default(),
        };
        for path in unfolded(format, files)? {
            set.add(&path, options)?;
        }
        Ok(set)
    }

    fn add(&mut self, path: &Path, options: &ReadOptions) -> Result<()> {
        let layout = layout(self.format, path).map_err(|help| {
            Error::new("the file is of another kind")
                .with_path(path)
                .with_help(help)
        })?;
        let file = self.files.len() as u32;
        let content = Content::open(path)?;
        let mut names = Vec::new();
        match layout {
            Layout::Lines => self.index_lines(&content, file)?,
            Layout::Text => self.index_blocks(&content, file, options.text_block)?,
            Layout::Values => {
                let ranges = values::ranges(content.reader()?, path)?;
                let place = |((start, bytes), number)| Place::Piece {
                    file,
                    start,
                    bytes,
                    number,
                };
                self.places.extend(ranges.into_iter().zip(1..).map(place));
            }
            Layout::Rows(delimiter) => {
                let table = rows::index(content.reader()?, delimiter, path)?;
                let place = |((start, bytes), number)| Place::Piece {
                    file,
                    start,
                    bytes,
                    number,
                };
                self.places
                    .extend(table.rows.into_iter().zip(1..).map(place));
                names = table.names;
            }
            Layout::Shard => {
                let shard = shards::index(path)?;
                if shard.left_out > 0 {
                    self.notes.push(format!(
                        "`{}`: {} members are of no record and left out, the first is `{}`",
                        short_name(path),
                        shard.left_out,
                        shard.first_left_out
                    ));
                }
                let place = |member| Place::Member {
                    file,
                    member: Box::new(member),
                };
                self.places.extend(shard.records.into_iter().map(place));
            }
        }
        self.files.push(SetFile {
            content,
            layout,
            names,
        });
        Ok(())
    }

    /// Every line that is not empty is a record.
    fn index_lines(&mut self, content: &Content, file: u32) -> Result<()> {
        let mut lines = Lines::open(content)?;
        while let Some((start, line)) = lines.next()? {
            let mark = match start {
                0 if line.starts_with(BYTE_ORDER_MARK) => BYTE_ORDER_MARK.len(),
                _ => 0,
            };
            let (start, line) = (start + mark as u64, &line[mark..]);
            if !line.trim_ascii().is_empty() {
                let (bytes, number) = (line.len() as u64, lines.number);
                self.places.push(Place::Piece {
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
    fn index_blocks(&mut self, content: &Content, file: u32, block: Option<u64>) -> Result<()> {
        let mut lines = Lines::open(content)?;
        let (mut start, mut end, mut number) = (0, 0, 0);
        let mut is_empty = true;
        while let Some((at, line)) = lines.next()? {
            end = at + line.len() as u64;
            let blank = line.trim_ascii().is_empty();
            is_empty &= blank;
            let bytes = end - start;
            let cut = block.is_some_and(|block| bytes >= 2 * block || (blank && bytes >= block));
            if cut && !is_empty {
                self.places.push(Place::Piece {
                    file,
                    start,
                    bytes,
                    number,
                });
                (start, is_empty, number) = (end, true, number + 1);
            }
        }
        if !is_empty {
            self.places.push(Place::Piece {
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
        self.files.iter().map(|file| file.content.path().as_ref())
    }

    /// What was left out when the set was opened, a sentence each.
    pub fn notes(&self) -> &[String] {
        &self.notes
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
            Place::Piece {
                file,
                start,
                bytes,
                number,
            } => {
                let file = &self.files[*file as usize];
                let bytes = file.content.range(*start, *bytes, &self.last)?;
                match file.layout {
                    Layout::Text => block(&bytes, file.content.path(), *start, *number),
                    _ => self.record(&bytes, file, *number),
                }
            }
            Place::Member { file, member } => self.member(&self.files[*file as usize], member),
        }
    }

    /// A record of JSON, or of a table.
    fn record(&self, bytes: &[u8], file: &SetFile, number: u64) -> Result<Document> {
        let path = file.content.path();
        let unit = match file.layout {
            Layout::Values | Layout::Rows(_) => "record",
            _ => "line",
        };
        let wrong =
            |what: String| Error::new(format!("{unit} {number}: {what}")).with_path(path.as_ref());
        let json: Value = match file.layout {
            Layout::Rows(delimiter) => {
                rows::record(bytes, delimiter, &file.names).map_err(wrong)?
            }
            _ => serde_json::from_slice(bytes)
                .map_err(|error| wrong(format!("not JSON: {error}")))?,
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let id = format!("{}:{number}", short_name(path));
        let made = self.format.document(&self.called, json, folder, id);
        made.map_err(|what| match self.format.hint() {
            Some(help) => wrong(what).with_help(help),
            None => wrong(what),
        })
    }

    /// Whether a document has nothing to learn: its text is empty, or its caption, or its question or answer.
    pub fn is_blank(&self, document: &Document) -> bool {
        self.format.is_blank(document)
    }

    /// Whether a document is one of the set: settings of its format may leave some out.
    pub fn keeps(&self, document: &Document) -> bool {
        self.format.keeps(&self.called, document)
    }

    fn member(&self, file: &SetFile, member: &Member) -> Result<Document> {
        let path = file.content.path();
        let wrong = |what: String| {
            Error::new(format!("the record `{}`: {what}", member.key)).with_path(path.as_ref())
        };
        let meta = match member.json {
            None => Value::Null,
            Some((start, bytes)) => {
                serde_json::from_slice(&file.content.range(start, bytes, &self.last)?)
                    .map_err(|error| wrong(format!("not JSON: {error}")))?
            }
        };
        let caption = match member.caption {
            None => records::caption(&meta).map_err(wrong)?,
            Some((start, bytes)) => records::one_line(utf8(
                &file.content.range(start, bytes, &self.last)?,
                path,
                start,
            )?),
        };
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

/// Files with what stands for folders among them: `captions.jsonl`, or all shards or lists.
///
/// # Errors
/// When a folder has none, or there is no such format.
pub fn unfolded(format: &Called, files: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let in_folder = format_of(format)?.in_folder();
    let mut all = Vec::new();
    for path in files {
        if !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let Some((last, first)) = in_folder.split_last() else {
            continue;
        };
        let mut listed = first.iter().map(|name| path.join(name));
        match listed.find(|path| path.is_file()) {
            Some(listed) => all.push(listed),
            None => all.extend(matching_files(path, &[(*last).to_owned()])?),
        }
    }
    Ok(all)
}

/// A block of running text as a document.
fn block(bytes: &[u8], path: &Path, start: u64, number: u64) -> Result<Document> {
    let text = utf8(bytes, path, start)?;
    let text = text
        .strip_prefix('\u{feff}')
        .unwrap_or(text)
        .replace("\r\n", "\n");
    Ok(Document {
        id: format!("{}:{number}", short_name(path)),
        prompt: None,
        segments: vec![Segment::Text(text.trim_matches('\n').to_owned())],
        meta: Value::Null,
    })
}

/// Lines of a file with their places.
struct Lines<'a> {
    path: &'a Path,
    reader: Box<dyn BufRead + 'a>,
    line: Vec<u8>,
    end: u64,
    /// Number of the last line, from 1.
    number: u64,
}

impl<'a> Lines<'a> {
    fn open(content: &'a Content) -> Result<Self> {
        Ok(Self {
            path: content.path(),
            reader: content.reader()?,
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

fn utf8<'b>(bytes: &'b [u8], path: &Path, start: u64) -> Result<&'b str> {
    std::str::from_utf8(bytes).map_err(|error| {
        let at = start + error.valid_up_to() as u64;
        Error::new(format!("byte {at} is not UTF-8 text"))
            .with_path(path)
            .with_help("convert the file to UTF-8")
    })
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
