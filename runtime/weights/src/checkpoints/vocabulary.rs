//! The vocabulary of an imported checkpoint: which of its ids are marks, images and text, and the `tokens` that
//! say so in `.jam` source.

use std::fmt::Write as _;

use indexmap::IndexMap;
use jam_ir::{END_MARK, FIRST_MARKS, ImageTokens, LAST_MARKS, TextTokens, TokenKind, TokenLayout};

use super::import::{ImportedConfig, quoted};

impl ImportedConfig {
    /// Gives the ids to the tokens of a text tokenizer: that of `files`, which has `size`, and of which some are
    /// marks; `begin` says whether its texts begin with `bos`. A table may have more rows than the tokenizer has
    /// tokens; these are kept free, and no mark is among them.
    pub fn set_tokenizer(
        &mut self,
        files: &str,
        size: u64,
        marks: &IndexMap<String, u64>,
        begin: bool,
    ) {
        let all = self.decoder.tokens.size;
        let mut tokens = TokenLayout::empty("");
        tokens.text = TextTokens::Files(files.to_owned());
        tokens.add(TokenKind::Text, size.min(all));
        tokens.add(TokenKind::Reserved, all - tokens.size);
        for (mark, id) in marks {
            tokens.take_mark(mark, *id);
        }
        if begin {
            tokens.begin = begin_of(&tokens);
        }
        self.decoder.tokens = tokens;
    }

    /// Makes the tokens from `from` on the codes of an image tokenizer: that of `files`, with `codes` codes and
    /// pictures of `grid` × `grid` of them. False, and nothing changes, where they are not all text.
    pub fn set_pictures(&mut self, files: &str, codes: u64, grid: u64, from: u64) -> bool {
        let tokens = &mut self.decoder.tokens;
        let taken = tokens.take_images(from, codes);
        if taken {
            tokens.image = ImageTokens::Files(files.to_owned());
            tokens.grid = grid;
        }
        taken
    }

    /// Makes a token a mark. False, and nothing changes, where the id is none of the tokenizer's, or an image's.
    pub fn set_mark(&mut self, mark: &str, id: u64) -> bool {
        self.decoder.tokens.take_mark(mark, id)
    }

    /// Makes tokens ends of documents, beside those that are.
    pub fn add_ends(&mut self, ids: &[u64]) {
        for id in ids {
            self.decoder.tokens.add_end(*id);
        }
    }

    /// Lets documents begin with `bos` where that is a mark beside `eos`: what is likely where no file tells.
    pub(super) fn guess_begin(&mut self) {
        self.decoder.tokens.begin = begin_of(&self.decoder.tokens);
    }
}

/// What documents begin with, where models with a mark for it have seen it there.
fn begin_of(tokens: &TokenLayout) -> String {
    let begin =
        tokens.marks.contains_key("bos") && tokens.marks.get("eos") != tokens.marks.get("bos");
    (if begin { "bos" } else { "eos" }).to_owned()
}

/// The `tokens` of a model called `model`, as `.jam` source: their name, and their statement; `None` where the
/// size says all of them. The ids are those of a text tokenizer, and of rows that are kept free.
pub(super) fn tokens_source(model: &str, tokens: &TokenLayout) -> Option<(String, String)> {
    let text = tokens.room(TokenKind::Text);
    let text = match &tokens.text {
        TextTokens::Files(path) => format!("bpe({}, size: {text})", quoted(path)),
        _ if tokens.marks.is_empty() && tokens.count(TokenKind::Image) == 0 => return None,
        _ => text.to_string(),
    };
    let name = format!("{model}_tokens");
    let mut source = format!("tokens {name} {{\n    text     = {text}\n");
    if let ImageTokens::Files(path) = &tokens.image {
        let _ = writeln!(
            source,
            "    image    = vq({}, codes: {}, grid: {}, from: {})",
            quoted(path),
            tokens.count(TokenKind::Image),
            tokens.grid,
            tokens.first(TokenKind::Image) - tokens.text_ids.0
        );
    }
    let all = FIRST_MARKS.iter().chain(&LAST_MARKS);
    let ids = |mark: &str| -> Vec<u64> {
        match mark {
            END_MARK => tokens.ends().collect(),
            mark => tokens.marks.get(mark).copied().into_iter().collect(),
        }
    };
    let marks = all.filter_map(|mark| {
        let ids: Vec<String> = ids(mark).iter().map(u64::to_string).collect();
        (!ids.is_empty()).then(|| format!("{mark}({})", ids.join(", ")))
    });
    let marks: Vec<String> = marks.collect();
    if !marks.is_empty() {
        let _ = writeln!(source, "    marks    = [{}]", marks.join(", "));
    }
    if tokens.begin == "bos" {
        let _ = writeln!(source, "    begin    = bos");
    }
    match tokens.count(TokenKind::Reserved) {
        0 => {}
        reserved => {
            let _ = writeln!(source, "    reserved = {reserved}");
        }
    }
    source.push_str("}\n\n");
    Some((name, source))
}
