//! A text tokenizer with the ids of a vocabulary: for programs that know one table of ids.
//!
//! ```text
//! vocabulary    bos pad eos | a b c …            text from id 3 on
//! tokenizer                   a b c …            0 1 2 …
//! placed        <bos> <pad> <eos> a b c …        0 1 2 3 4 5 …
//! ```

use indexmap::IndexMap;
use jam_ir::TokenLayout;
use serde_json::{Value, json};

use super::TextTokenizer;
use crate::{Error, Result};

impl TextTokenizer {
    /// The same tokenizer with the ids that a vocabulary gives its tokens, and with the vocabulary's own marks
    /// before and behind them as special tokens, `<bos>` for `bos`. What stands beside them (image tokens,
    /// rows kept free) is no part of it.
    ///
    /// # Errors
    /// When the tokenizer's algorithm is not known, or has a token of a mark's name.
    pub fn placed(&self, tokens: &TokenLayout) -> Result<TextTokenizer> {
        let start = tokens.text_ids.0;
        let own = tokens
            .marks
            .iter()
            .filter(|(_, id)| !tokens.tokenizer_has(**id));
        let own: IndexMap<String, u64> = own.map(|(name, id)| (format!("<{name}>"), *id)).collect();
        if start == 0 && own.is_empty() {
            return Ok(self.clone());
        }
        if let Some(mark) = own.keys().find(|mark| self.id(mark).is_some()) {
            let message = format!("the text tokenizer has a token `{mark}`, as the mark is called");
            return Err(Error::new(message));
        }
        let mut told = self.parsed()?;
        let moved = |id: &mut Value| {
            if let Some(old) = id.as_u64() {
                *id = json!(old + start);
            }
        };
        match &mut told["model"]["vocab"] {
            Value::Object(vocabulary) => {
                vocabulary.values_mut().for_each(moved);
                vocabulary.extend(own.iter().map(|(mark, id)| (mark.clone(), json!(id))));
            }
            // The ids are the places: only marks before the text have one.
            Value::Array(pieces) => {
                let mut before: Vec<Value> = (0..start)
                    .map(|id| json!([format!("<unused:{id}>"), 0.0]))
                    .collect();
                for (mark, id) in own.iter().filter(|(_, id)| **id < start) {
                    before[*id as usize] = json!([mark, 0.0]);
                }
                pieces.splice(0..0, before);
                moved(&mut told["model"]["unk_id"]);
            }
            _ => return Err(Error::new("the tokenizer has no vocabulary that is known")),
        }
        let added = told.pointer_mut("/added_tokens");
        for token in list_of(added) {
            moved(&mut token["id"]);
        }
        // Marks that the tokenizer puts around a text.
        let around = told.pointer_mut("/post_processor/special_tokens");
        let around = around.and_then(Value::as_object_mut);
        for token in around.into_iter().flat_map(|all| all.values_mut()) {
            list_of(token.get_mut("ids")).for_each(moved);
        }
        let added = own.iter().map(|(mark, id)| {
            json!({
                "id": id,
                "content": mark,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": false,
                "special": true,
            })
        });
        let known = list_of(told.get_mut("added_tokens")).map(|token| token.take());
        let mut added: Vec<Value> = known.chain(added).collect();
        added.sort_by_key(|token| token["id"].as_u64());
        told["added_tokens"] = Value::Array(added);
        let placed = TextTokenizer::from_json(&told.to_string())?;
        let kept = |(id, token): (u32, String)| {
            placed.id(&token).map(u64::from) == Some(u64::from(id) + start)
        };
        let marked = own
            .iter()
            .all(|(mark, id)| placed.id(mark).map(u64::from) == Some(*id));
        match marked && self.spelled().all(kept) {
            true => Ok(placed),
            false => Err(Error::new(
                "the text tokenizer cannot have the ids of the vocabulary",
            )),
        }
    }
}

/// The entries of a list; of anything else, none.
fn list_of(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    value
        .and_then(Value::as_array_mut)
        .into_iter()
        .flat_map(|all| all.iter_mut())
}
