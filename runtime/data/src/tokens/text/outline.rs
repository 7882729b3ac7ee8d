//! What a `tokenizer.json` asks of the library, looked at before the library sees it.
//!
//! A file may have steps that end the library with a panic, or that make texts grow without end. So:
//!
//! 1. steps are at most so many, and so deep, and added tokens too;
//! 2. what is replaced is something: an empty pattern matches between all characters;
//! 3. replacements one after the other make a text at most so many times as long;
//! 4. a table of SentencePiece (`Precompiled`) has the length that it says.
//!
//! A table may lie within its length too, and a regular expression may match nothing: what ends the library all
//! the same is caught ([`guarded`]).

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::{Error, Result};

/// The most steps of a tokenizer, those inside others counted.
const MOST_STEPS: usize = 256;
/// The most added tokens: published vocabularies have up to 40,000, for pictures.
const MOST_ADDED: usize = 1 << 16;
/// How many times as long the replacements of a tokenizer may make a text.
const MOST_GROWTH: f64 = 64.0;

/// A `tokenizer.json` but for its vocabulary.
#[derive(Deserialize)]
struct Outline {
    #[serde(default)]
    added_tokens: Vec<IgnoredAny>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
}

/// Refuses the text of a `tokenizer.json` that the library cannot be trusted with.
///
/// # Errors
/// A sentence that says what it asks for.
pub(super) fn check(text: &str) -> std::result::Result<(), String> {
    let outline: Outline = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let added = outline.added_tokens.len();
    if added > MOST_ADDED {
        return Err(format!(
            "it has {added} added tokens; at most {MOST_ADDED} are read"
        ));
    }
    let mut steps = 0;
    for chain in [
        &outline.normalizer,
        &outline.pre_tokenizer,
        &outline.post_processor,
        &outline.decoder,
    ] {
        let growth = growth_of(chain, &mut steps)?;
        if growth > MOST_GROWTH {
            return Err(format!(
                "its replacements make a text {growth:.0} times as long; at most {MOST_GROWTH:.0} times is read"
            ));
        }
    }
    Ok(())
}

/// How many times as long a step and those inside it make a text.
fn growth_of(step: &Value, steps: &mut usize) -> std::result::Result<f64, String> {
    let mut growth = 1.0;
    match step {
        Value::Array(several) => {
            for step in several {
                growth *= growth_of(step, steps)?;
            }
        }
        Value::Object(fields) => {
            if fields.contains_key("type") {
                *steps += 1;
                if *steps > MOST_STEPS {
                    return Err(format!("it has more than {MOST_STEPS} steps"));
                }
            }
            match step["type"].as_str() {
                Some("Replace") => growth *= replacing(step)?,
                Some("Precompiled") => check_table(&step["precompiled_charsmap"])?,
                _ => {}
            }
            for (name, inner) in fields {
                // The ids of marks are no steps.
                if name != "special_tokens" {
                    growth *= growth_of(inner, steps)?;
                }
            }
        }
        _ => {}
    }
    Ok(growth)
}

/// How many times as long a replacement makes a text at most.
fn replacing(step: &Value) -> std::result::Result<f64, String> {
    let pattern = &step["pattern"];
    let literal = pattern["String"].as_str();
    let written = literal.or_else(|| pattern["Regex"].as_str());
    if written.is_some_and(str::is_empty) {
        return Err("it replaces an empty pattern, which is between all characters".to_owned());
    }
    let chars = |text: &str| text.chars().count() as f64;
    let content = step["content"].as_str().map_or(0.0, chars);
    // An expression matches one character at the least.
    Ok((content / literal.map_or(1.0, chars)).max(1.0))
}

/// A table of SentencePiece: the length of a part, that part in words of four bytes, and texts.
fn check_table(table: &Value) -> std::result::Result<(), String> {
    let Some(table) = table.as_str() else {
        return Ok(()); // The library says so.
    };
    let digits = table.trim_end_matches('=');
    let bytes = digits.len() / 4 * 3 + (digits.len() % 4).saturating_sub(1);
    let wrong = || "the table of its `Precompiled` step is cut or damaged".to_owned();
    let mut bits: u64 = 0;
    for digit in digits.bytes().take(6) {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(wrong()),
        };
        bits = bits << 6 | u64::from(value);
    }
    // The first 32 of 36 bits, the lowest byte first.
    let length = u64::from(((bits >> 4) as u32).swap_bytes());
    match bytes >= 8 && (4..=bytes as u64 - 4).contains(&length) && length.is_multiple_of(4) {
        true => Ok(()),
        false => Err(wrong()),
    }
}

/// What the library gives; where it panics, an error.
pub(super) fn guarded<T>(what: &str, call: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|_| {
        Error::new(format!("{what}: the tokenizers library failed"))
            .with_help("a step of the `tokenizer.json` is damaged or asks for what cannot be done")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::TextTokenizer;

    /// A tokenizer of letters with a normalizer and added tokens.
    fn with(normalizer: serde_json::Value, added: usize) -> crate::Result<TextTokenizer> {
        let vocabulary: serde_json::Map<String, serde_json::Value> = ('a'..='z')
            .zip(0..)
            .map(|(letter, id)| (letter.to_string(), json!(id)))
            .collect();
        let added: Vec<_> = (0..added)
            .map(|n| {
                json!({"id": 26 + n, "content": format!("<{n}>"), "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": n % 2 == 0, "special": n % 3 == 0})
            })
            .collect();
        let whole = json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
            "normalizer": normalizer, "pre_tokenizer": null, "post_processor": null, "decoder": null,
            "model": {"type": "BPE", "vocab": vocabulary, "merges": []}});
        TextTokenizer::from_json(&whole.to_string())
    }

    fn replace(pattern: serde_json::Value, content: &str) -> serde_json::Value {
        json!({"type": "Replace", "pattern": pattern, "content": content})
    }

    #[test]
    fn steps_that_end_the_library_are_errors() {
        let doubled = vec![replace(json!({"String": "a"}), "aa"); 40];
        let cases = [
            (replace(json!({"String": ""}), "x"), "empty pattern"),
            (replace(json!({"Regex": ""}), "x"), "empty pattern"),
            (
                json!({"type": "Precompiled", "precompiled_charsmap": "AAAAAAAA"}),
                "`Precompiled`",
            ),
            (
                json!({"type": "Precompiled", "precompiled_charsmap": "/////w=="}),
                "`Precompiled`",
            ),
            (
                json!({"type": "Sequence", "normalizers": doubled}),
                "times as long",
            ),
            (
                json!({"type": "Sequence", "normalizers": vec![json!({"type": "NFC"}); 300]}),
                "more than 256 steps",
            ),
        ];
        for (normalizer, told) in cases {
            let error = with(normalizer.clone(), 1).map(drop).unwrap_err();
            assert!(error.message.contains(told), "{normalizer}: {error}");
        }
        assert!(
            with(json!(null), 100_000)
                .unwrap_err()
                .message
                .contains("added tokens")
        );
    }

    #[test]
    fn what_the_library_fails_at_later_is_caught() {
        // A table of one word that leads outside of it.
        let outside = json!({"type": "Precompiled", "precompiled_charsmap": "BAAAAAD8//8="});
        let opened = with(outside, 0);
        let told = opened.and_then(|tokenizer| tokenizer.encode("abc"));
        assert!(told.unwrap_err().message.contains("library failed"));
    }

    #[test]
    fn what_published_tokenizers_ask_for_is_read() {
        let usual = json!({"type": "Sequence", "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            replace(json!({"String": " "}), "▁"),
            replace(json!({"Regex": " {2,}"}), " "),
        ]});
        let tokenizer = with(usual, 40_000).unwrap();
        assert_eq!(tokenizer.size(), 40_026);
        assert_eq!(tokenizer.encode("<7>").unwrap().len(), 1);
    }
}
