//! The special tokens of a text tokenizer, as the files beside it name them.

use std::path::Path;

use indexmap::IndexMap;
use jam_ir::FIRST_MARKS;
use serde_json::{Map, Value, json};

use super::TextTokenizer;
use super::placed::PROBE;
use crate::{Error, Result};
use jam_weights::checkpoints::bounded::{JsonLimits, file_of, has, read_json};

/// Files of Hugging Face folders that name special tokens, in the order in which they are asked.
const FILES: [&str; 2] = ["tokenizer_config.json", "special_tokens_map.json"];
/// The file of a tokenizer that says what is put around texts.
const TOKENIZER: &str = "tokenizer.json";
/// What SentencePiece calls its own.
const SENTENCEPIECE: [(&str, &str); 3] = [("bos", "<s>"), ("eos", "</s>"), ("unk", "<unk>")];
/// What is read of a file (tables of added tokens count, and templates of chats).
const LIMITS: JsonLimits = JsonLimits {
    bytes: 8_000_000,
    commas: 400_000,
};

/// What files say of the special tokens of their tokenizer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// The ids of the marks `bos`, `pad`, `eos`, `unk`, as far as they are named and the tokenizer has them.
    pub marks: IndexMap<String, u64>,
    /// Whether texts begin with `bos`, where a file says so; else what the tokenizer puts around texts tells.
    pub begin: Option<bool>,
}

impl TextTokenizer {
    /// The special tokens that the files of a folder name. A folder that names none is taken for
    /// SentencePiece's, where the tokenizer has its special tokens.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn special_tokens(&self, folder: &Path) -> Result<SpecialTokens> {
        let mut marks = IndexMap::new();
        let mut named = false;
        let mut begin = None;
        for name in FILES.into_iter().filter(|name| has(folder, name)) {
            let file = file_of(folder, name)?;
            let wrong = |error| Error::new(format!("not JSON: {error}")).with_path(&file);
            let told: Value = serde_json::from_slice(&read_json(&file, LIMITS)?).map_err(wrong)?;
            for mark in FIRST_MARKS {
                let token = &told[format!("{mark}_token")];
                // A token, or a record of how it is cut out of texts.
                let token = token.as_str().or_else(|| token["content"].as_str());
                named |= token.is_some();
                if let Some(id) = token.and_then(|token| self.id(token)) {
                    marks.entry(mark.to_owned()).or_insert(id.into());
                }
            }
            begin = begin.or(told["add_bos_token"].as_bool());
        }
        let mut all = SENTENCEPIECE.iter();
        let sentencepiece = all.all(|(_, token)| self.is_special(token));
        if !named && sentencepiece {
            for (mark, token) in SENTENCEPIECE {
                marks.extend(self.id(token).map(|id| (mark.to_owned(), u64::from(id))));
            }
        }
        if sentencepiece && !has(folder, TOKENIZER) {
            // Nothing is put around texts there: programs know it of SentencePiece.
            begin = begin.or(Some(true));
        }
        Ok(SpecialTokens { marks, begin })
    }

    /// Whether the tokenizer puts this token before a text.
    ///
    /// # Errors
    /// As [`TextTokenizer::encode`].
    pub fn begins_with(&self, id: u64) -> Result<bool> {
        Ok(self.whole(PROBE)?.first() == Some(&id))
    }

    /// Whether a token that the configuration of a model names may be a mark: one that nobody writes.
    pub fn may_be_mark(&self, id: u64) -> bool {
        let token = u32::try_from(id).ok().and_then(|id| self.token(id));
        token.is_none_or(|token| {
            let within =
                |open, close| token.len() > 2 && token.starts_with(open) && token.ends_with(close);
            self.is_special(&token) || within('<', '>') || within('[', ']')
        })
    }

    fn is_special(&self, token: &str) -> bool {
        let added = self.inner.get_added_tokens_decoder();
        let id = self.id(token);
        id.is_some_and(|id| added.get(&id).is_some_and(|added| added.special))
    }

    /// The fields of a `tokenizer_config.json` that name the tokens of marks, by the marks' ids here.
    pub fn named_marks(&self, marks: &IndexMap<String, u64>) -> Map<String, Value> {
        let field = |mark: &str| {
            let id = u32::try_from(*marks.get(mark)?).ok()?;
            Some((format!("{mark}_token"), json!(self.token(id)?)))
        };
        FIRST_MARKS.into_iter().filter_map(field).collect()
    }
}
