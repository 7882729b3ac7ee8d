//! The special tokens of a text tokenizer, as the files beside it name them.

use std::path::Path;

use indexmap::IndexMap;
use jam_ir::FIRST_MARKS;
use serde_json::{Map, Value, json};

use super::TextTokenizer;
use crate::checkpoints::bounded::{JsonLimits, file_of, has, read_json};
use crate::{Error, Result};

/// Files of Hugging Face folders that name special tokens, in the order in which they are asked.
const FILES: [&str; 2] = ["tokenizer_config.json", "special_tokens_map.json"];
/// What SentencePiece calls its own.
const SENTENCEPIECE: [(&str, &str); 3] = [("bos", "<s>"), ("eos", "</s>"), ("unk", "<unk>")];
/// What is read of a file (tables of added tokens count, and templates of chats).
const LIMITS: JsonLimits = JsonLimits {
    bytes: 8_000_000,
    commas: 400_000,
};

impl TextTokenizer {
    /// The ids of the marks `bos`, `pad`, `eos`, `unk` that the files of a folder name, as far as the tokenizer
    /// has the tokens. A folder that names none is taken for SentencePiece's, where the tokenizer has
    /// its special tokens.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn marks_of(&self, folder: &Path) -> Result<IndexMap<String, u64>> {
        let mut marks = IndexMap::new();
        let mut named = false;
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
        }
        if !named
            && SENTENCEPIECE
                .iter()
                .all(|(_, token)| self.is_special(token))
        {
            for (mark, token) in SENTENCEPIECE {
                marks.extend(self.id(token).map(|id| (mark.to_owned(), u64::from(id))));
            }
        }
        Ok(marks)
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
