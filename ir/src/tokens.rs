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
    /// The union of several such tokenizers: the ids of the first, then the tokens that only a later
    /// one has.
    Joint(Vec<String>),
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
/// reserved, all other marks, and filler up to a multiple of `pad_to`. In models of others, image tokens
/// and marks are tokens of the text tokenizer, and stand among its ids.
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

/// Marks that have their ids before text, unless they are tokens of the text tokenizer.
const FIRST_MARKS: [&str; 4] = ["bos", "pad", "eos", "unk"];

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

    /// The range of a kind that occurs once, or the first: text may go on behind image tokens and marks
    /// that have ids of its tokenizer.
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

    /// The id of the first token of the text or the image tokenizer; 0 where there is none.
    ///
    /// Images stand behind text, or among the ids of a text tokenizer that has names for them: a text
    /// tokenizer's first id is theirs where they come first.
    pub fn first(&self, kind: TokenKind) -> u64 {
        let start = |kind| self.range(kind).map(|range| range.start);
        match (kind, start(TokenKind::Text), start(TokenKind::Image)) {
            (TokenKind::Text, Some(text), Some(image)) => text.min(image),
            (kind, _, _) => start(kind).unwrap_or(0),
        }
    }

    /// Tokens that the text or the image tokenizer may have: ids from its first one on, those of pictures
    /// and marks that stand among its own counted.
    pub fn room(&self, kind: TokenKind) -> u64 {
        let mut end = self.rows(kind).last().map_or(0, |(_, end)| *end);
        // These marks follow text only where they are tokens of it.
        let is_first = |id: u64| {
            let mut marks = FIRST_MARKS.iter().filter_map(|name| self.marks.get(*name));
            marks.any(|mark| *mark == id)
        };
        while kind == TokenKind::Text && end > 0 && is_first(end) {
            end += 1;
        }
        end.saturating_sub(self.first(kind))
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
