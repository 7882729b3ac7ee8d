//! Places in source texts: spans, and the texts they point into.
//!
//! This is plain data. Nothing here reads a file: whoever reads one adds its name and text to a
//! [`SourceMap`] and gets the [`FileId`] that spans carry.

use serde::{Deserialize, Serialize};

/// A file of a [`SourceMap`], by its place in it.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct FileId(pub u16);

/// A range of bytes of one source text: `start` is in it, `end` is not.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
pub struct Span {
    /// The file that the range lies in.
    pub file: FileId,
    /// Byte offset of the first byte.
    pub start: u32,
    /// Byte offset after the last byte.
    pub end: u32,
}

impl Span {
    /// The span of the bytes `start..end` of `file`.
    pub fn new(file: FileId, start: u32, end: u32) -> Self {
        Self { file, start, end }
    }

    /// The smallest span that holds both; `self` when they lie in different files.
    pub fn to(self, other: Self) -> Self {
        if self.file != other.file {
            return self;
        }
        Self {
            file: self.file,
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}

/// One source text with the name it is shown under.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// The name shown in reports: the path as the user wrote it.
    pub name: String,
    /// The whole text.
    pub text: String,
}

/// The texts that spans point into. A [`FileId`] is an index into it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SourceMap {
    sources: Vec<Source>,
}

impl SourceMap {
    /// An empty map.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text and returns its id; `None` when 65,536 files are already there.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> Option<FileId> {
        let id = u16::try_from(self.sources.len()).ok()?;
        self.sources.push(Source {
            name: name.into(),
            text: text.into(),
        });
        Some(FileId(id))
    }

    /// The file with this id, if it is in the map.
    pub fn get(&self, file: FileId) -> Option<&Source> {
        self.sources.get(usize::from(file.0))
    }

    /// The words that a span covers; empty when it points outside of the text.
    pub fn text(&self, span: Span) -> &str {
        self.get(span.file)
            .and_then(|source| source.text.get(span.start as usize..span.end as usize))
            .unwrap_or("")
    }

    /// Line and column of a byte of a file, both counted from 1, the column in characters.
    pub fn line_column(&self, file: FileId, offset: u32) -> Option<(usize, usize)> {
        let text = &self.get(file)?.text;
        let mut offset = (offset as usize).min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &text[..offset];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        Some((line, before[line_start..].chars().count() + 1))
    }

    /// All files in the order they were added.
    pub fn iter(&self) -> impl Iterator<Item = (FileId, &Source)> {
        // `add` keeps the count within u16.
        self.sources
            .iter()
            .enumerate()
            .map(|(index, source)| (FileId(index as u16), source))
    }

    /// How many files the map holds.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether the map holds no file.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        let mut sources = SourceMap::new();
        let file = sources.add("a.jam", "één\nzwei = 2\n").unwrap();
        assert_eq!(sources.line_column(file, 0), Some((1, 1)));
        assert_eq!(sources.line_column(file, 5), Some((1, 4)));
        assert_eq!(sources.line_column(file, 6), Some((2, 1)));
        assert_eq!(
            sources.line_column(file, 1),
            Some((1, 1)),
            "inside of a character"
        );
        assert_eq!(sources.line_column(file, 1000), Some((3, 1)));
        assert_eq!(sources.text(Span::new(file, 6, 10)), "zwei");
        assert_eq!(sources.text(Span::new(file, 6, 1000)), "");
    }
}
