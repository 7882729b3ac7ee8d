//! Letters that a tokenizer has no token for.
//!
//! Byte-pair encoding without an unknown token leaves such letters out of the ids and says nothing: a text is
//! learned with holes. They are found by what the tokens of each piece cover, and are an error.

use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{
    Model, ModelWrapper, NormalizerWrapper, OffsetReferential, OffsetType, PreTokenizer,
    PreTokenizerWrapper, Tokenizer,
};

use crate::{Error, Result};

/// Whether there are letters that the library passes over: never where all bytes have tokens, or what is unknown
/// has one.
pub(super) fn may_be_lost(tokenizer: &Tokenizer) -> bool {
    let ModelWrapper::BPE(model) = tokenizer.get_model() else {
        return false;
    };
    if model.get_unk_token().is_some() || spells_all_bytes(model) {
        return false;
    }
    let spelled = ByteLevel::alphabet()
        .into_iter()
        .all(|letter| model.token_to_id(letter.encode_utf8(&mut [0; 4])).is_some());
    !(spelled && is_byte_level(tokenizer))
}

fn spells_all_bytes(model: &BPE) -> bool {
    model.byte_fallback
        && (0..=255).all(|byte| model.token_to_id(&format!("<0x{byte:02X}>")).is_some())
}

/// Whether texts are spelled in bytes before they are cut into tokens.
fn is_byte_level(tokenizer: &Tokenizer) -> bool {
    let cuts = match tokenizer.get_pre_tokenizer() {
        Some(PreTokenizerWrapper::ByteLevel(_)) => true,
        Some(PreTokenizerWrapper::Sequence(all)) => {
            let mut all = all.as_ref().iter();
            all.any(|one| matches!(one, PreTokenizerWrapper::ByteLevel(_)))
        }
        _ => false,
    };
    let spells = match tokenizer.get_normalizer() {
        Some(NormalizerWrapper::ByteLevel(_)) => true,
        Some(NormalizerWrapper::Sequence(all)) => {
            let mut all = all.as_ref().iter();
            all.any(|one| matches!(one, NormalizerWrapper::ByteLevel(_)))
        }
        _ => false,
    };
    cuts || spells
}

/// Refuses a text with a letter that has no token.
///
/// # Errors
/// With the first such letter and its place.
pub(super) fn check(tokenizer: &Tokenizer, may_lose: bool, text: &str) -> Result<()> {
    if !may_lose {
        return Ok(());
    }
    let failed = |error| Error::new(format!("a text cannot be encoded: {error}"));
    let added = tokenizer.get_added_vocabulary();
    let mut pieces = added.extract_and_normalize(tokenizer.get_normalizer(), text);
    if let Some(cutter) = tokenizer.get_pre_tokenizer() {
        cutter.pre_tokenize(&mut pieces).map_err(failed)?;
    }
    for (piece, (start, _), tokens) in
        pieces.get_splits(OffsetReferential::Original, OffsetType::Byte)
    {
        // Pieces with tokens are added ones, found before.
        if tokens.is_some() || piece.is_empty() {
            continue;
        }
        let model = tokenizer.get_model();
        let covered = model.tokenize(piece).map_err(failed)?;
        if covered.last().map_or(0, |token| token.offsets.1) == piece.len() {
            continue;
        }
        let lost = lost_letter(model, piece);
        let place = text.get(start..).and_then(|rest| rest.find(lost));
        let line = 1 + text[..start.min(text.len())].matches('\n').count();
        let at = start + place.unwrap_or(0);
        return Err(Error::new(format!(
            "the text tokenizer has no token for `{lost}` (U+{:04X}), at byte {at} of the text, line {line}",
            u32::from(lost)
        ))
        .with_help(
            "a tokenizer of bytes has tokens for every text, and one with an `unk_token` one for what it \
             does not know",
        ));
    }
    Ok(())
}

/// The first letter of a piece that no token is: alone, or where it stands in a word.
fn lost_letter(model: &ModelWrapper, piece: &str) -> char {
    let (prefix, suffix) = match model {
        ModelWrapper::BPE(model) => (
            model
                .get_continuing_subword_prefix()
                .clone()
                .unwrap_or_default(),
            model.end_of_word_suffix.clone().unwrap_or_default(),
        ),
        _ => Default::default(),
    };
    let has_token = |(at, letter): (usize, char)| {
        let before = if at > 0 { prefix.as_str() } else { "" };
        let last = at + letter.len_utf8() == piece.len();
        let after = if last { suffix.as_str() } else { "" };
        model
            .token_to_id(&format!("{before}{letter}{after}"))
            .is_some()
    };
    let lost = piece.char_indices().find(|place| !has_token(*place));
    lost.map_or(char::REPLACEMENT_CHARACTER, |(_, letter)| letter)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::tokens::text::TextTokenizer;

    fn tokenizer(letters: &str, change: impl FnOnce(&mut serde_json::Value)) -> TextTokenizer {
        let vocabulary: serde_json::Map<String, serde_json::Value> = letters
            .chars()
            .enumerate()
            .map(|(id, letter)| (letter.to_string(), json!(id)))
            .collect();
        let mut json = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null,
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
                "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary, "merges": [],
            },
        });
        change(&mut json);
        TextTokenizer::from_json(&json.to_string()).unwrap()
    }

    #[test]
    fn a_letter_without_a_token_is_an_error_with_its_place() {
        let plain = tokenizer("abcdefghijklmnopqrstuvwxyz \n", |_| {});
        assert_eq!(plain.encode("dog\ncafe").unwrap().len(), 8);
        for (text, told) in [
            (
                "dog\ncaf\u{e9}",
                "no token for `\u{e9}` (U+00E9), at byte 7",
            ),
            ("DOG", "no token for `D` (U+0044), at byte 0"),
            ("dog 7", "no token for `7` (U+0037), at byte 4"),
            (
                "dog \u{1f600}",
                "no token for `\u{1f600}` (U+1F600), at byte 4",
            ),
        ] {
            let error = plain.encode(text).unwrap_err();
            assert!(error.message.contains(told), "{error}");
        }
    }

    #[test]
    fn pieces_are_looked_at_as_they_are_tokenised() {
        let words = tokenizer("abcdog", |json| {
            json["pre_tokenizer"] = json!({"type": "WhitespaceSplit"});
            json["normalizer"] = json!({"type": "Lowercase"});
        });
        assert_eq!(words.encode("DOG  cab").unwrap().len(), 6);
        let error = words.encode("dog cab\n\ndog x").unwrap_err();
        assert!(
            error
                .message
                .contains("`x` (U+0078), at byte 13 of the text, line 3"),
            "{error}"
        );
        let unknown = tokenizer("abcdog?", |json| json["model"]["unk_token"] = json!("?"));
        assert_eq!(unknown.encode("dog x").unwrap().len(), 5);
        let trained = TextTokenizer::train(["dog"].map(str::to_owned).into_iter(), 257).unwrap();
        assert!(!trained.may_lose && trained.encode("\u{1f600}").is_ok());
    }
}
