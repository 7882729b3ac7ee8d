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

/// Text in which special tokens at both ends would be seen.
pub(super) const PROBE: &str = "a b";
/// In the names of marks that would be found in texts else: Unicode keeps it out of texts.
const NONCHARACTER: char = '\u{fdd0}';

impl TextTokenizer {
    /// The same tokenizer with the ids that a vocabulary gives its tokens, and with the vocabulary's own marks
    /// before and behind them as special tokens, `<bos>` for `bos`, as far as it can have them. What stands
    /// beside them (image tokens, rows kept free) is no part of it.
    ///
    /// # Errors
    /// When the tokenizer cannot have these ids, or its algorithm is not known.
    pub fn placed(&self, tokens: &TokenLayout) -> Result<TextTokenizer> {
        let own = (tokens.marks.iter()).filter(|(_, id)| !tokens.tokenizer_has(**id));
        let own: IndexMap<String, u64> =
            own.map(|(name, id)| (self.free_name(name), *id)).collect();
        let start = tokens.text_ids.0;
        if start == 0 && own.is_empty() {
            return Ok(self.clone());
        }
        let placed = self.moved(start, own.clone())?;
        for (mark, id) in &own {
            // Some find whatever they have in a text: what a user writes never becomes structure.
            if placed.ids_of(mark, false)?.contains(id) {
                let own = own.into_iter();
                let own = own.map(|(mark, id)| (format!("{mark}{NONCHARACTER}"), id));
                return self.moved(start, own.collect());
            }
        }
        Ok(placed)
    }

    /// The same tokenizer with ids from `start` on, and with marks.
    fn moved(&self, start: u64, mut own: IndexMap<String, u64>) -> Result<TextTokenizer> {
        let mut told = self.parsed()?;
        let moved = |id: &mut Value| {
            if let Some(old) = id.as_u64() {
                *id = json!(old + start);
            }
        };
        match &mut told["model"]["vocab"] {
            Value::Object(vocabulary) => {
                // All of them: added tokens that are not there get ids by the count of those that are.
                vocabulary.extend(self.spelled().map(|(id, token)| (token, json!(id))));
                vocabulary.values_mut().for_each(moved);
                vocabulary.extend(own.iter().map(|(mark, id)| (mark.clone(), json!(id))));
            }
            Value::Array(pieces) => {
                // The ids are the places: there is none behind the last.
                own.retain(|_, id| *id < start);
                // The least chance there is, on which that of an unknown piece hangs.
                let chances = pieces.iter().filter_map(|piece| piece[1].as_f64());
                let least = chances.fold(0.0, f64::min);
                let mut before: Vec<Value> = (0..start)
                    .map(|id| json!([format!("<{id}>{NONCHARACTER}"), least]))
                    .collect();
                for (mark, id) in &own {
                    before[*id as usize] = json!([mark, least]);
                }
                pieces.splice(0..0, before);
                if let Some(unknown) = told.pointer_mut("/model/unk_id") {
                    moved(unknown);
                }
            }
            _ => return Err(Error::new("the tokenizer has no vocabulary that is known")),
        }
        for token in list_of(told.get_mut("added_tokens")) {
            moved(&mut token["id"]);
        }
        if let Some(around) = told.get_mut("post_processor") {
            move_around(around, &moved);
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
        let known = list_of(told.get_mut("added_tokens")).map(Value::take);
        let mut added: Vec<Value> = known.chain(added).collect();
        added.sort_by_key(|token| token["id"].as_u64());
        told["added_tokens"] = Value::Array(added);
        let placed = TextTokenizer::from_json(&told.to_string())?;
        let kept = |(id, token): (u32, String)| {
            placed.id(&token).map(u64::from) == Some(u64::from(id) + start)
        };
        let mut marked = own.iter();
        let marked = marked.all(|(mark, id)| placed.id(mark).map(u64::from) == Some(*id));
        let same = placed.whole(PROBE)?
            == self
                .whole(PROBE)?
                .iter()
                .map(|id| id + start)
                .collect::<Vec<_>>();
        match marked && same && self.spelled().all(kept) {
            true => Ok(placed),
            false => Err(Error::new(
                "the text tokenizer cannot have the ids of the vocabulary",
            )),
        }
    }

    /// The same tokenizer, which where it is asked for special tokens puts this one before a text and nothing
    /// else around it.
    ///
    /// # Errors
    /// When it has no such token.
    pub fn beginning(&self, token: &str) -> Result<TextTokenizer> {
        let id = self
            .id(token)
            .ok_or_else(|| Error::new(format!("the text tokenizer has no token `{token}`")))?;
        let before = json!({"SpecialToken": {"id": token, "type_id": 0}});
        let text = |name: &str, kind: u8| json!({"Sequence": {"id": name, "type_id": kind}});
        self.with_around(json!({
            "type": "TemplateProcessing",
            "single": [before, text("A", 0)],
            "pair": [before, text("A", 0), text("B", 1)],
            "special_tokens": {token: {"id": token, "ids": [id], "tokens": [token]}},
        }))
    }

    /// The same tokenizer, which puts nothing around texts.
    ///
    /// # Errors
    /// When the tokenizer cannot be written as JSON any more.
    pub fn bare(&self) -> Result<TextTokenizer> {
        self.with_around(Value::Null)
    }

    fn with_around(&self, processor: Value) -> Result<TextTokenizer> {
        let mut told = self.parsed()?;
        told["post_processor"] = processor;
        TextTokenizer::from_json(&told.to_string())
    }

    /// Whether it puts special tokens around texts.
    ///
    /// # Errors
    /// As [`TextTokenizer::encode`].
    pub fn puts_around(&self) -> Result<bool> {
        Ok(self.whole(PROBE)? != self.ids_of(PROBE, false)?)
    }

    /// Ids of a text with the special tokens that the tokenizer puts around it.
    pub(super) fn whole(&self, text: &str) -> Result<Vec<u64>> {
        self.ids_of(text, true)
    }

    fn ids_of(&self, text: &str, special: bool) -> Result<Vec<u64>> {
        let encoding = self
            .inner
            .encode_fast(text, special)
            .map_err(|error| Error::new(format!("a text cannot be encoded: {error}")))?;
        Ok(encoding.get_ids().iter().map(|id| u64::from(*id)).collect())
    }

    /// A name for a mark that no token has.
    fn free_name(&self, mark: &str) -> String {
        let mut name = format!("<{mark}>");
        while self.id(&name).is_some() {
            name = format!("<{name}>");
        }
        name
    }
}

/// Moves the ids of special tokens that a post-processor puts around texts.
fn move_around(processor: &mut Value, moved: &impl Fn(&mut Value)) {
    for inner in list_of(processor.get_mut("processors")) {
        move_around(inner, moved);
    }
    let special = processor.get_mut("special_tokens");
    let special = special.and_then(Value::as_object_mut);
    for token in special.into_iter().flat_map(|all| all.values_mut()) {
        list_of(token.get_mut("ids")).for_each(moved);
    }
    // BERT's and RoBERTa's: a token and its id.
    for end in ["sep", "cls"] {
        if let Some(id) = list_of(processor.get_mut(end)).nth(1) {
            moved(id);
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
