//! One tokenizer with the tokens of several: for models whose parents read different text tokens.
//!
//! ```text
//! first    a b c d   ab            merges  a+b
//! second   a b c d   bc  ab  abc   merges  b+c  a+b  ab+c
//! union    a b c d   ab  bc  abc   merges  a+b  b+c  ab+c
//! ```
//!
//! The first tokenizer's ids and merges stand first, as they are; then the tokens and the merges that
//! only a later one has. Every merge makes a token that is there, as in the tokenizers it comes from, so
//! that the result is byte-pair encoding like them, and no text is lost. It may cut a text in another
//! way than each of them alone: where both would merge, the first's merges come first.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::TextTokenizer;
use crate::{Error, Result};

/// What else must be the same in tokenizers that become one: where texts are cut, and how tokens become text.
const SAME: [(&str, &str); 3] = [
    ("normalizer", "how texts are normalised"),
    ("pre_tokenizer", "where texts are cut into words"),
    DECODER,
];
const DECODER: (&str, &str) = ("decoder", "how tokens become text");

impl TextTokenizer {
    /// One tokenizer with the tokens of all: the ids of the first, then, in the order of their ids, the
    /// tokens that only a later one has. Tokens are the same where they are spelled the same.
    ///
    /// # Errors
    /// When one is not byte-pair encoding, or they cut texts into words, treat them, or join tokens in
    /// different ways: their tokens do not mean the same then.
    pub fn union(all: &[&TextTokenizer]) -> Result<TextTokenizer> {
        let Some((first, others)) = all.split_first() else {
            return Err(Error::new("there are no tokenizers to make one of"));
        };
        let mut joint = first.parsed()?;
        check_algorithm(&joint)?;
        for other in others {
            let told = other.parsed()?;
            check_algorithm(&told)?;
            check_same(&joint, &told)?;
        }
        let mut vocabulary = Map::new();
        let mut next = 0;
        for (id, token) in first.spelled() {
            vocabulary.insert(token, json!(id));
            next = id + 1;
        }
        for other in others {
            for (_, token) in other.spelled() {
                if !vocabulary.contains_key(&token) {
                    vocabulary.insert(token, json!(next));
                    next += 1;
                }
            }
        }
        let mut merges: Vec<Value> = Vec::new();
        let mut known: HashSet<String> = HashSet::new();
        let mut added: Vec<Value> = Vec::new();
        let mut marked: HashSet<String> = HashSet::new();
        for tokenizer in all {
            let told = tokenizer.parsed()?;
            for merge in list(&told["model"]["merges"]) {
                if known.insert(merge.to_string()) {
                    merges.push(merge.clone());
                }
            }
            for token in list(&told["added_tokens"]) {
                let content = token["content"].as_str().unwrap_or_default();
                if marked.insert(content.to_owned()) {
                    let mut token = token.clone();
                    token["id"] = vocabulary[content].clone();
                    added.push(token);
                }
            }
        }
        added.sort_by_key(|token| token["id"].as_u64());
        // Added tokens stand in the vocabulary too, which keeps their ids where others follow.
        joint["model"]["vocab"] = Value::Object(vocabulary);
        joint["model"]["merges"] = Value::Array(merges);
        joint["added_tokens"] = Value::Array(added);
        let joint = TextTokenizer::from_json(&joint.to_string())?;
        let kept = first
            .spelled()
            .all(|(id, token)| joint.id(&token) == Some(id));
        let has = |other: &&TextTokenizer| other.spelled().all(|(_, t)| joint.id(&t).is_some());
        if !kept || !others.iter().all(has) {
            return Err(Error::new("the tokens of the tokenizers have no joint ids"));
        }
        Ok(joint)
    }

    /// Whether tokenizers cut texts alike, and make texts of tokens alike: all but their tokens and merges is the
    /// same.
    ///
    /// # Errors
    /// How one differs from the first.
    pub fn cut_alike(all: &[&TextTokenizer]) -> Result<()> {
        let unlike =
            |(first, other): (&TextTokenizer, &TextTokenizer)| match first.hash == other.hash {
                true => Ok(()),
                false => check_same(&first.parsed()?, &other.parsed()?),
            };
        pairs(all).try_for_each(unlike)
    }

    /// Whether tokens that are spelled alike stand for the same text, however tokenizers find them in texts.
    ///
    /// # Errors
    /// How one differs from the first.
    pub fn spelled_alike(all: &[&TextTokenizer]) -> Result<()> {
        let decoder = |tokenizer: &TextTokenizer| {
            serde_json::to_value(tokenizer.inner.get_decoder())
                .map_err(|error| Error::new(format!("a decoder cannot be written: {error}")))
        };
        pairs(all)
            .try_for_each(|(first, other)| check_part(DECODER, &decoder(first)?, &decoder(other)?))
    }

    /// Every id with its token, ascending; ids without one are left out.
    pub fn spelled(&self) -> impl Iterator<Item = (u32, String)> {
        let ids = 0..u32::try_from(self.size()).unwrap_or(u32::MAX);
        ids.filter_map(|id| Some((id, self.token(id)?)))
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Whether a tokenizer is byte-pair encoding.
fn check_algorithm(told: &Value) -> Result<()> {
    match told["model"]["type"].as_str() {
        Some("BPE") => Ok(()),
        other => Err(Error::new(format!(
            "one is `{}`, and only byte-pair encodings can be united",
            other.unwrap_or("unknown")
        ))),
    }
}

/// The first with every other.
fn pairs<'a>(
    all: &'a [&'a TextTokenizer],
) -> impl Iterator<Item = (&'a TextTokenizer, &'a TextTokenizer)> {
    let (first, others) = match all {
        [first, others @ ..] => (Some(*first), others),
        [] => (None, all),
    };
    first
        .into_iter()
        .flat_map(move |first| others.iter().map(move |other| (first, *other)))
}

/// Whether two tokenizers treat texts alike, but for their tokens and merges.
fn check_same(a: &Value, b: &Value) -> Result<()> {
    for part in SAME {
        check_part(part, &a[part.0], &b[part.0])?;
    }
    let settings = a["model"].as_object().into_iter().flatten();
    for (name, value) in settings.filter(|(name, _)| !matches!(name.as_str(), "vocab" | "merges")) {
        if *value != b["model"][name] {
            return differ(&format!("`{name}`"), value, &b["model"][name]);
        }
    }
    Ok(())
}

fn check_part((part, what): (&str, &str), a: &Value, b: &Value) -> Result<()> {
    match with_effect(part, a) == with_effect(part, b) {
        true => Ok(()),
        false => differ(what, a, b),
    }
}

fn differ(what: &str, a: &Value, b: &Value) -> Result<()> {
    // Two of one type: what is set otherwise.
    if let (Value::Object(first), Value::Object(second)) = (a, b)
        && first.get("type") == second.get("type")
        && let Some(name) = (first.keys().chain(second.keys())).find(|name| a[*name] != b[*name])
    {
        let what = format!("{what}, `{name}` of {}", short(&a["type"]));
        let message = format!(
            "they differ in {what}: {} and {}",
            short(&a[name]),
            short(&b[name])
        );
        return Err(Error::new(message));
    }
    let message = format!("they differ in {what}: {} and {}", short(a), short(b));
    Err(Error::new(message))
}

/// A part of a tokenizer without what changes neither ids nor text.
fn with_effect(part: &str, value: &Value) -> Value {
    // Bytes become text in one way, whatever else is written there.
    if part == "decoder" && value["type"] == "ByteLevel" {
        return json!("ByteLevel");
    }
    match value {
        Value::Object(fields) => {
            // Where tokens stand in a text is not asked for.
            let kept = fields.iter().filter(|(name, _)| *name != "trim_offsets");
            let kept = kept.map(|(name, value)| (name.clone(), with_effect(name, value)));
            Value::Object(kept.collect())
        }
        Value::Array(all) => Value::Array(all.iter().map(|value| with_effect("", value)).collect()),
        other => other.clone(),
    }
}

/// A part of a tokenizer in a message.
fn short(part: &Value) -> String {
    const MOST: usize = 60;
    let text = match part {
        Value::Null => "nothing".to_owned(),
        Value::Object(fields) if fields.contains_key("type") && part.to_string().len() > MOST => {
            format!("{} with other settings", fields["type"])
        }
        other => other.to_string(),
    };
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}
