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

impl TokenKind {
    /// Every kind.
    pub const ALL: [TokenKind; 5] = [
        Self::Mark,
        Self::Text,
        Self::Image,
        Self::Reserved,
        Self::Filler,
    ];

    /// The word of a kind in text and in reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Mark => "mark",
            Self::Text => "text",
            Self::Image => "image",
            Self::Reserved => "reserved",
            Self::Filler => "filler",
        }
    }
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
/// and marks are tokens of the text tokenizer, and stand among its ids; one token may be several marks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenLayout {
    /// Name of its definition in the program; empty for a bare vocabulary.
    pub name: String,
    /// Number of rows of a token table.
    pub size: u64,
    /// Ranges in ascending order, without gaps.
    pub ranges: Vec<TokenRange>,
    /// Half-open range of the ids of the text tokenizer, those of its tokens counted that are marks or
    /// image tokens. Its token 0 has the first of them.
    pub text_ids: (u64, u64),
    /// Ids of single marks by name: `bos`, `pad`, `eos`, `unk`, `break`, `eoss`, `mask:0`, ….
    pub marks: IndexMap<String, u64>,
    /// The mark that documents begin with: `eos`, as in the paper, or `bos`.
    pub begin: String,
    /// Source of text tokens.
    pub text: TextTokens,
    /// Source of image tokens.
    pub image: ImageTokens,
    /// Side of a picture in image tokens; 0 where there are none.
    pub grid: u64,
}

/// The mark that ends documents.
pub const END_MARK: &str = "eos";
/// Marks that stand before all other tokens, in this order.
pub const FIRST_MARKS: [&str; 4] = ["bos", "pad", END_MARK, "unk"];
/// Marks that stand after all other tokens, in this order.
pub const LAST_MARKS: [&str; 3] = ["break", "eoss", "mask"];

impl TokenLayout {
    /// A vocabulary of `size` text ids and nothing else.
    pub fn bare(size: u64) -> TokenLayout {
        let mut layout = TokenLayout::empty("");
        layout.add(TokenKind::Text, size);
        layout
    }

    /// A vocabulary without ids, to which they are added.
    pub fn empty(name: &str) -> TokenLayout {
        TokenLayout {
            name: name.to_owned(),
            size: 0,
            ranges: Vec::new(),
            text_ids: (0, 0),
            marks: IndexMap::new(),
            begin: END_MARK.to_owned(),
            text: TextTokens::Ids,
            image: ImageTokens::Ids,
            grid: 0,
        }
    }

    /// Adds ids of a kind behind all others. All text is added at once. What would be too large for 64 bits
    /// ends there; the verifier refuses it.
    pub fn add(&mut self, kind: TokenKind, len: u64) {
        let start = self.size;
        self.size = start.saturating_add(len);
        let len = self.size - start;
        if kind == TokenKind::Text {
            self.text_ids = (start, self.size);
        }
        match self.ranges.last_mut() {
            Some(last) if last.kind == kind => last.len += len,
            _ if len > 0 => self.ranges.push(TokenRange { kind, start, len }),
            _ => {}
        }
    }

    /// Adds a mark with an id of its own behind all others.
    pub fn add_mark(&mut self, name: &str) {
        self.marks.insert(name.to_owned(), self.size);
        self.add(TokenKind::Mark, 1);
    }

    /// Gives ids of the text tokenizer to image tokens; false, and nothing changes, where these ids are none, or
    /// not all of text.
    pub fn take_images(&mut self, start: u64, len: u64) -> bool {
        len > 0 && self.take(TokenKind::Image, start, len)
    }

    /// Makes a token of the text tokenizer a mark, or a mark another one too; false, and nothing changes, where
    /// the id is of neither.
    pub fn take_mark(&mut self, name: &str, id: u64) -> bool {
        let is_mark = self.kind(id) == Some(TokenKind::Mark);
        let taken = is_mark || self.take(TokenKind::Mark, id, 1);
        if taken {
            self.marks.insert(name.to_owned(), id);
        }
        taken
    }

    /// Makes a token one that ends documents, beside those that do: `eos`, then `eos:2` and so on. False where it
    /// is one already, or can be no mark.
    pub fn add_end(&mut self, id: u64) -> bool {
        if self.ends().any(|end| end == id) {
            return false;
        }
        let mut names = (2..).map(|number| format!("{END_MARK}:{number}"));
        let name = match self.marks.contains_key(END_MARK) {
            false => END_MARK.to_owned(),
            true => (names.find(|name| !self.marks.contains_key(name))).unwrap_or_default(),
        };
        self.take_mark(&name, id)
    }

    /// Ids that end documents: that of `eos`, then the others that a model of others or a parent of a fused one
    /// ends its texts with.
    pub fn ends(&self) -> impl Iterator<Item = u64> {
        let others = self.marks.iter().filter(|(name, _)| {
            let number = name
                .strip_prefix(END_MARK)
                .and_then(|rest| rest.strip_prefix(':'));
            number.is_some()
        });
        self.marks
            .get(END_MARK)
            .into_iter()
            .chain(others.map(|(_, id)| id))
            .copied()
    }

    fn take(&mut self, kind: TokenKind, start: u64, len: u64) -> bool {
        let Some(end) = start.checked_add(len) else {
            return false;
        };
        let place = self.ranges.iter().position(|range| {
            range.kind == TokenKind::Text && range.start <= start && end <= range.start + range.len
        });
        let Some(place) = place else {
            return false;
        };
        let past = self.ranges[place].start + self.ranges[place].len;
        let parts = [
            (TokenKind::Text, self.ranges[place].start, start),
            (kind, start, end),
            (TokenKind::Text, end, past),
        ];
        let parts = parts.into_iter().filter(|(_, start, end)| start < end);
        let parts = parts.map(|(kind, start, end)| TokenRange {
            kind,
            start,
            len: end - start,
        });
        self.ranges.splice(place..=place, parts);
        true
    }

    /// The range of a kind that occurs once, or the first: text may go on behind image tokens and marks
    /// that have ids of its tokenizer.
    pub fn range(&self, kind: TokenKind) -> Option<&TokenRange> {
        self.ranges.iter().find(|range| range.kind == kind)
    }

    /// The kind of a token id.
    pub fn kind(&self, id: u64) -> Option<TokenKind> {
        let after = self.ranges.partition_point(|range| range.start <= id);
        let range = self.ranges[..after].last()?;
        (id - range.start < range.len).then_some(range.kind)
    }

    /// Whether an id is that of a token of the text tokenizer, whatever the token is used for.
    pub fn tokenizer_has(&self, id: u64) -> bool {
        (self.text_ids.0..self.text_ids.1).contains(&id)
    }

    /// The id of the first token of the text or the image tokenizer; 0 where there is none.
    pub fn first(&self, kind: TokenKind) -> u64 {
        match kind {
            TokenKind::Text => self.text_ids.0,
            _ => self.range(kind).map_or(0, |range| range.start),
        }
    }

    /// Tokens that the text or the image tokenizer may have: ids from its first one on, those of images
    /// and marks that stand among its own counted.
    pub fn room(&self, kind: TokenKind) -> u64 {
        match kind {
            TokenKind::Text => self.text_ids.1.saturating_sub(self.text_ids.0),
            _ => {
                let end = self.rows(kind).last().map_or(0, |(_, end)| *end);
                end.saturating_sub(self.first(kind))
            }
        }
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

    /// Ids of a kind.
    pub fn count(&self, kind: TokenKind) -> u64 {
        let of_kind = self.ranges.iter().filter(|range| range.kind == kind);
        of_kind.map(|range| range.len).sum()
    }

    /// The ids of the text tokenizer as far as its text tells them: from the first to the last.
    pub(crate) fn text_span(&self) -> (u64, u64) {
        let rows = self.rows(TokenKind::Text);
        match (rows.first(), rows.last()) {
            (Some((start, _)), Some((_, end))) => (*start, *end),
            _ => (0, 0),
        }
    }

    /// Tokens of one picture.
    pub fn picture_tokens(&self) -> u64 {
        self.grid * self.grid
    }
}
