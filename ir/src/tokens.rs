//! What the ids of a joint vocabulary mean.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// What a run of token ids stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TokenKind {
    /// Marks of structure: begin, end, padding, breaks, mask sentinels.
    Mark,
    /// Tokens of the text tokenizer.
    Text,
    /// Codes of the image tokenizer.
    Image,
    /// Kept free.
    Reserved,
    /// Rows that only round the table up; never produced.
    Filler,
}

/// A run of token ids of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRange {
    /// What the ids stand for.
    pub kind: TokenKind,
    /// First id.
    pub start: u64,
    /// Number of ids.
    pub len: u64,
}

/// Where the ids of text tokens come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TextTokens {
    /// A tokenizer that the program defines, by name.
    Tokenizer(String),
    /// Tokenizer files of the world: a folder or a `tokenizer.json`.
    Files(String),
    /// Ids without words (models that are only counted or compared).
    Ids,
}

/// Where the ids of image tokens come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageTokens {
    /// A tokenizer that the program defines, by name.
    Tokenizer(String),
    /// Weights of an image tokenizer.
    Files(String),
    /// Ids without pictures.
    Ids,
}

/// The meaning of every id of a vocabulary, in ascending ranges that cover it.
///
/// The order is the paper's: the marks `bos`, `pad`, `eos`, `unk` that are asked for, text, image,
/// reserved, all other marks, and filler up to a multiple of `pad_to`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenLayout {
    /// Name of its definition in the program; empty for a bare vocabulary.
    pub name: String,
    /// Number of rows of a token table.
    pub size: u64,
    /// Ranges in ascending order, without gaps.
    pub ranges: Vec<TokenRange>,
    /// Ids of single marks by name: `bos`, `pad`, `eos`, `unk`, `break`, `eoss`, `mask:0`, ….
    pub marks: IndexMap<String, u64>,
    /// Source of text tokens.
    pub text: TextTokens,
    /// Source of image tokens.
    pub image: ImageTokens,
    /// Side of a picture in image tokens; 0 where there are none.
    pub grid: u64,
}

impl TokenLayout {
    /// A vocabulary of `size` text ids and nothing else.
    pub fn bare(size: u64) -> TokenLayout {
        TokenLayout {
            name: String::new(),
            size,
            ranges: vec![TokenRange {
                kind: TokenKind::Text,
                start: 0,
                len: size,
            }],
            marks: IndexMap::new(),
            text: TextTokens::Ids,
            image: ImageTokens::Ids,
            grid: 0,
        }
    }

    /// The range of a kind that occurs once: text or image.
    pub fn range(&self, kind: TokenKind) -> Option<&TokenRange> {
        self.ranges.iter().find(|range| range.kind == kind)
    }

    /// The kind of a token id.
    pub fn kind(&self, id: u64) -> Option<TokenKind> {
        let found = self
            .ranges
            .iter()
            .find(|r| id >= r.start && id - r.start < r.len);
        found.map(|range| range.kind)
    }

    /// Half-open ranges of the ids of a kind, ascending.
    pub fn rows(&self, kind: TokenKind) -> Vec<(u64, u64)> {
        let of_kind = self
            .ranges
            .iter()
            .filter(|range| range.kind == kind && range.len > 0);
        of_kind
            .map(|range| (range.start, range.start + range.len))
            .collect()
    }

    /// Tokens of one picture.
    pub fn picture_tokens(&self) -> u64 {
        self.grid * self.grid
    }
}
