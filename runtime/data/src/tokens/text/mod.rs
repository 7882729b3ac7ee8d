//! Text tokens: learned from a program's own texts, or read from the files of GPT-2, Hugging Face and
//! SentencePiece.
//!
//! Ids are the tokenizer's own, from 0; a token layout adds its offset. Marks such as `</s>` that stand
//! *in a text* are plain text: what a user writes never becomes structure, unless a tokenizer is told to
//! recognise them.

mod files;
mod letters;
mod outline;
mod placed;
mod sentencepiece;
mod special;
mod training;
mod union;

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use indexmap::IndexMap;
use serde_json::{Value, json};
use tokenizers::{AddedToken, Tokenizer};

use crate::{Error, Result};
use jam_weights::checkpoints::write_file;

use files::Found;
use outline::guarded;

pub use special::SpecialTokens;

/// The longest tokenizer file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 200_000_000;

/// Text to token ids and back.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
    size: u64,
    hash: String,
    /// Whether there are letters that the library passes over in silence.
    may_lose: bool,
}

impl TextTokenizer {
    /// Learns byte-level byte-pair encoding from texts. The result has `size` tokens, or fewer where the texts
    /// have no more pairs that occur twice; the same texts give the same tokens.
    ///
    /// # Errors
    /// When `size` is below 256, one token for each byte.
    pub fn train(texts: impl Iterator<Item = String>, size: u64) -> Result<Self> {
        let words = training::count_words(texts)?;
        let learned = training::learn(&words, size)?;
        let spelled = |id: u32| learned.tokens[id as usize].as_str();
        let merges: Vec<[&str; 2]> = learned
            .merges
            .iter()
            .map(|&(a, b)| [spelled(a), spelled(b)])
            .collect();
        let vocabulary: IndexMap<&str, usize> =
            learned.tokens.iter().map(String::as_str).zip(0..).collect();
        Self::from_json(&byte_level_json(json!(vocabulary), json!(merges)))
    }

    /// Opens what a path holds: a `tokenizer.json`, a SentencePiece `.model`, a vocabulary of llama2.c
    /// (`.bin`); a folder with one of them; or a folder with GPT-2 files, whose names end in `vocab.json` and
    /// `merges.txt`.
    ///
    /// # Errors
    /// When there is no tokenizer, or it is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        match Found::of(path.as_ref())? {
            Found::Whole(file) => Self::from_tokenizer_json(&file),
            Found::Gpt2 { vocabulary, merges } => Self::from_gpt2_files(&vocabulary, &merges),
            Found::Merges(merges) => Self::from_gpt2_merges(&merges),
            Found::SentencePiece(file) => Self::read_as(&file, sentencepiece::model_json),
            Found::Llama2c(file) => Self::read_as(&file, sentencepiece::llama2c_json),
        }
    }

    /// The files that [`TextTokenizer::open`] reads of a path.
    ///
    /// # Errors
    /// When the path cannot be looked at, a vocabulary has no merges beside it, or, with
    /// [`ErrorKind::Absent`](crate::ErrorKind::Absent), there is no tokenizer.
    pub fn files(path: &Path) -> Result<Vec<PathBuf>> {
        Found::of(path).map(Found::paths)
    }

    /// Reads a file of another form by what makes a `tokenizer.json` of it.
    fn read_as(path: &Path, convert: fn(&[u8]) -> Result<String>) -> Result<Self> {
        let failed = |error| Error::io("read", path, error);
        check_size(fs::metadata(path).map_err(failed)?.len(), path)?;
        let bytes = fs::read(path).map_err(failed)?;
        convert(&bytes)
            .and_then(|json| Self::from_json(&json))
            .map_err(|error| error.with_path(path))
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// When the file cannot be read or is not a tokenizer.
    pub fn from_tokenizer_json(path: &Path) -> Result<Self> {
        let text = read_bounded(path)?;
        Self::from_json(&text).map_err(|error| error.with_path(path))
    }

    /// Reads GPT-2's two files: token → id as JSON, and one merge a line in the order of rank.
    ///
    /// # Errors
    /// When a file cannot be read, a line is no merge, or a merge uses or makes a token that has no id.
    pub fn from_gpt2_files(vocabulary: &Path, merges: &Path) -> Result<Self> {
        let text = read_bounded(vocabulary)?;
        let ids: IndexMap<String, u32> = serde_json::from_str(&text).map_err(|error| {
            Error::new(format!("not a table of tokens and ids: {error}")).with_path(vocabulary)
        })?;
        let pairs = read_merges(merges)?;
        for (line, [a, b]) in &pairs {
            for token in [a.clone(), b.clone(), format!("{a}{b}")] {
                if !ids.contains_key(&token) {
                    let message = format!("line {line}: `{token}` is not in the vocabulary");
                    return Err(Error::new(message).with_path(merges));
                }
            }
        }
        let pairs: Vec<[String; 2]> = pairs.into_iter().map(|(_, pair)| pair).collect();
        Self::from_json(&byte_level_json(json!(ids), json!(pairs)))
            .map_err(|error| error.with_path(vocabulary))
    }

    /// GPT-2's own ids from its merges alone: the 256 bytes in their order, then a token for each merge, then
    /// `<|endoftext|>`.
    ///
    /// # Errors
    /// When the file cannot be read, a line is no merge, or a merge uses a token that no line before it makes.
    pub fn from_gpt2_merges(merges: &Path) -> Result<Self> {
        let pairs = read_merges(merges)?;
        let mut ids: IndexMap<String, usize> = gpt2_bytes()
            .into_iter()
            .map(|c| c.to_string())
            .zip(0..)
            .collect();
        for (line, [a, b]) in &pairs {
            if let Some(token) = [a, b].into_iter().find(|token| !ids.contains_key(*token)) {
                let message = format!("line {line}: nothing before it makes `{token}`");
                return Err(Error::new(message).with_path(merges));
            }
            let next = ids.len();
            ids.entry(format!("{a}{b}")).or_insert(next);
        }
        ids.insert("<|endoftext|>".to_owned(), ids.len());
        let pairs: Vec<[String; 2]> = pairs.into_iter().map(|(_, pair)| pair).collect();
        Self::from_json(&byte_level_json(json!(ids), json!(pairs)))
            .map_err(|error| error.with_path(merges))
    }

    /// Reads the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// When it is not a tokenizer.
    pub fn from_json(text: &str) -> Result<Self> {
        let wrong = |what: String| {
            Error::new(format!("not a tokenizer: {what}"))
                .with_help("a `tokenizer.json` of the Hugging Face tokenizers library is read")
        };
        // Some editors begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        outline::check(text).map_err(wrong)?;
        let mut inner = guarded("not a tokenizer", || Tokenizer::from_str(text))?
            .map_err(|error| wrong(error.to_string()))?;
        inner.set_encode_special_tokens(true);
        // Documents are never cut or padded here.
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| wrong(error.to_string()))?;
        let largest = inner.get_vocab(true).into_values().max();
        let size = largest.map_or(0, |id| u64::from(id) + 1);
        if size == 0 {
            return Err(wrong("it has no tokens".to_owned()));
        }
        let saved = inner
            .to_string(false)
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            may_lose: letters::may_be_lost(&inner),
            hash: blake3::hash(saved.as_bytes()).to_hex().to_string(),
            inner,
            size,
        })
    }

    /// The same tokenizer, which takes these strings in a text as the marks they name. Strings that are
    /// no tokens yet get new ids.
    ///
    /// # Errors
    /// When the tokenizer cannot be written as JSON any more.
    pub fn recognising(mut self, marks: &[&str]) -> Result<Self> {
        let marks: Vec<AddedToken> = marks
            .iter()
            .map(|mark| AddedToken::from(*mark, true))
            .collect();
        self.inner.add_special_tokens(&marks);
        let mut told = Self::from_json(&self.to_json()?)?;
        told.inner.set_encode_special_tokens(false);
        Ok(told)
    }

    /// Number of ids: the largest and one more.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// BLAKE3 of the tokenizer as JSON, in hexadecimal: equal for tokenizers that do the same.
    pub fn content_hash(&self) -> &str {
        &self.hash
    }

    /// Ids of a text, with nothing added at its ends.
    ///
    /// # Errors
    /// When the text has a character that the tokenizer has no token for; never for a byte-level one.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let what = "a text cannot be encoded";
        guarded(what, || letters::check(&self.inner, self.may_lose, text))??;
        let encoding = guarded(what, || self.inner.encode_fast(text, false))?
            .map_err(|error| Error::new(format!("a text cannot be encoded: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of ids. Bytes that are no whole character, as at the cut of an answer, become U+FFFD.
    ///
    /// # Errors
    /// When an id names no token.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        if let Some(id) = ids.iter().find(|id| self.token(**id).is_none()) {
            return Err(Error::new(format!(
                "{id} is no text token; the tokenizer has {} ids",
                self.size
            )));
        }
        guarded("tokens cannot be decoded", || self.inner.decode(ids, false))?
            .map_err(|error| Error::new(format!("tokens cannot be decoded: {error}")))
    }

    /// The text that ids add behind others. A tokenizer may leave out a space before the first token of a text:
    /// what goes on with one is no first token.
    ///
    /// # Errors
    /// As [`TextTokenizer::decode`].
    pub fn decode_after(&self, before: &[u32], ids: &[u32]) -> Result<String> {
        let start = self.decode(before)?;
        let whole = self.decode(&[before, ids].concat())?;
        match whole.strip_prefix(&start) {
            Some(rest) => Ok(rest.to_owned()),
            // The bytes of a character on both sides of the border.
            None => self.decode(ids),
        }
    }

    /// How the files spell the token of an id.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token as the files spell it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The tokenizer as the text of a `tokenizer.json`.
    ///
    /// # Errors
    /// When the library cannot write it.
    pub fn to_json(&self) -> Result<String> {
        self.inner
            .to_string(true)
            .map_err(|error| Error::new(format!("the tokenizer cannot be written: {error}")))
    }

    /// The same, to be changed.
    fn parsed(&self) -> Result<Value> {
        let wrong = |error| Error::new(format!("the tokenizer cannot be read again: {error}"));
        serde_json::from_str(&self.to_json()?).map_err(wrong)
    }

    /// Writes a `tokenizer.json`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        write_file(path, (self.to_json()? + "\n").as_bytes())
    }
}

/// A `tokenizer.json` for byte-level byte-pair encoding with GPT-2's pattern.
fn byte_level_json(vocabulary: Value, merges: Value) -> String {
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": false,
            "trim_offsets": true,
            "use_regex": true,
        },
        "post_processor": null,
        "decoder": {
            "type": "ByteLevel",
            "add_prefix_space": true,
            "trim_offsets": true,
            "use_regex": true,
        },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": merges,
        },
    })
    .to_string()
}

/// GPT-2's visible spelling of the bytes in the order of their ids: first the printable ones as they are,
/// then all others as characters from U+0100 on.
fn gpt2_bytes() -> Vec<char> {
    let printable = ('!'..='~').chain('¡'..='¬').chain('®'..='ÿ');
    let others = (0..=255u32).filter(|byte| !matches!(byte, 33..=126 | 161..=172 | 174..=255));
    let shifted = others
        .enumerate()
        .filter_map(|(n, _)| char::from_u32(256 + n as u32));
    printable.chain(shifted).collect()
}

/// The merges of a `merges.txt`, each with its line number.
fn read_merges(path: &Path) -> Result<Vec<(usize, [String; 2])>> {
    let text = read_bounded(path)?;
    let mut merges = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if line.is_empty() || (number == 0 && line.starts_with("#version")) {
            continue;
        }
        match line.split(' ').collect::<Vec<_>>()[..] {
            [a, b] if !a.is_empty() && !b.is_empty() => {
                merges.push((number + 1, [a.to_owned(), b.to_owned()]));
            }
            _ => {
                let message = format!("line {}: a merge is two tokens", number + 1);
                return Err(Error::new(message).with_path(path));
            }
        }
    }
    Ok(merges)
}

/// A text file of at most [`MAX_FILE_BYTES`].
fn read_bounded(path: &Path) -> Result<String> {
    let failed = |error| Error::io("read", path, error);
    check_size(fs::metadata(path).map_err(failed)?.len(), path)?;
    fs::read_to_string(path).map_err(failed)
}

fn check_size(size: u64, path: &Path) -> Result<()> {
    if size > MAX_FILE_BYTES {
        let message = format!("the file has {size} bytes; at most {MAX_FILE_BYTES} are read");
        return Err(Error::new(message).with_path(path));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
