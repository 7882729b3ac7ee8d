//! SentencePiece vocabularies, as LLaMA has them: read into the tokenizers library's own form.
//!
//! A `.model` file is a protocol buffer, of which the pieces, the kind of model and how text is normalised
//! matter. llama2.c has the same pieces in a form of its own: the longest length, then score, length and
//! bytes of each. What is read becomes byte-pair encoding (merges in the order of the pieces' scores) or a
//! unigram model, with spaces written as `▁` and bytes where a character has no piece.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{Error, Result};

/// What a space is written as.
const SPACE: char = '▁';
/// The most pieces that are believed.
const MAX_PIECES: usize = 1 << 20;
/// The longest piece whose merges are looked for, in characters.
const MAX_PIECE_CHARS: usize = 256;

/// What a piece stands for, by the number that files have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// A token.
#[derive(Debug, Clone, PartialEq)]
struct Piece {
    text: String,
    score: f32,
    kind: Kind,
}

/// A vocabulary, and how text is prepared for it.
#[derive(Debug, Clone, PartialEq)]
struct Vocabulary {
    pieces: Vec<Piece>,
    unigram: bool,
    /// A space before the first character.
    dummy_prefix: bool,
    /// Runs of spaces as one, none at the ends.
    one_space: bool,
}

/// A `.model` file as the text of a `tokenizer.json`.
///
/// # Errors
/// When it is no SentencePiece model, is of a kind other than BPE and unigram, or normalises text by a
/// table.
pub(super) fn model_json(bytes: &[u8]) -> Result<String> {
    let wrong = |what: &str| Error::new(format!("not a SentencePiece model: {what}"));
    let mut vocabulary = Vocabulary {
        pieces: Vec::new(),
        unigram: true,
        dummy_prefix: true,
        one_space: true,
    };
    let cut = || wrong("it is cut or damaged");
    for field in fields(bytes) {
        match field.ok_or_else(cut)? {
            (1, Field::Bytes(piece)) => {
                if vocabulary.pieces.len() == MAX_PIECES {
                    return Err(wrong("it has more than a million pieces"));
                }
                vocabulary.pieces.push(piece_of(piece).ok_or_else(cut)?);
            }
            // The trainer's settings, of which the kind of model.
            (2, Field::Bytes(trainer)) => {
                for field in fields(trainer) {
                    if let (3, Field::Number(kind)) = field.ok_or_else(cut)? {
                        vocabulary.unigram = match kind {
                            1 => true,
                            2 => false,
                            _ => return Err(wrong("it cuts texts into words or characters")),
                        };
                    }
                }
            }
            // How text is normalised.
            (3, Field::Bytes(normalizer)) => {
                for field in fields(normalizer) {
                    match field.ok_or_else(cut)? {
                        (2, Field::Bytes(table)) if !table.is_empty() => {
                            let message = "the vocabulary normalises text by a table";
                            return Err(Error::new(message).with_help(
                                "convert it to a `tokenizer.json` with the Hugging Face libraries",
                            ));
                        }
                        (3, Field::Number(flag)) => vocabulary.dummy_prefix = flag != 0,
                        (4, Field::Number(flag)) => vocabulary.one_space = flag != 0,
                        (5, Field::Number(0)) => {
                            return Err(wrong("it keeps spaces as they are, which is not read"));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    if vocabulary.pieces.is_empty() {
        return Err(wrong("it has no pieces"));
    }
    vocabulary.json()
}

/// A vocabulary of llama2.c as the text of a `tokenizer.json`.
///
/// # Errors
/// When it is none.
pub(super) fn llama2c_json(bytes: &[u8]) -> Result<String> {
    let wrong = || Error::damaged("not a vocabulary of llama2.c: it is cut or damaged");
    let word =
        |at: usize| -> Option<[u8; 4]> { bytes.get(at..at.checked_add(4)?)?.try_into().ok() };
    let longest = i32::from_le_bytes(word(0).ok_or_else(wrong)?);
    let mut pieces = Vec::new();
    let mut at = 4;
    while at < bytes.len() && pieces.len() < MAX_PIECES {
        let score = f32::from_le_bytes(word(at).ok_or_else(wrong)?);
        let length = i32::from_le_bytes(word(at + 4).ok_or_else(wrong)?);
        if length < 0 || length > longest {
            return Err(wrong());
        }
        let end = at + 8 + length as usize;
        let text = bytes.get(at + 8..end).ok_or_else(wrong)?;
        let text = str::from_utf8(text).map_err(|_| wrong())?;
        at = end;
        // The first three have their places, and a line around them.
        let (text, kind) = match pieces.len() {
            0 => ("<unk>".to_owned(), Kind::Unknown),
            1 => ("<s>".to_owned(), Kind::Control),
            2 => ("</s>".to_owned(), Kind::Control),
            _ if byte_of(text).is_some() => (text.to_owned(), Kind::Byte),
            _ => (text.replace(' ', &SPACE.to_string()), Kind::Normal),
        };
        pieces.push(Piece { text, score, kind });
    }
    if pieces.len() < 3 || at < bytes.len() {
        return Err(wrong());
    }
    Vocabulary {
        pieces,
        unigram: false,
        dummy_prefix: true,
        one_space: false,
    }
    .json()
}

impl Vocabulary {
    /// The text of a `tokenizer.json`.
    fn json(&self) -> Result<String> {
        let mut ids: BTreeMap<&str, usize> = BTreeMap::new();
        for (id, piece) in self.pieces.iter().enumerate() {
            if ids.insert(&piece.text, id).is_some() {
                return Err(Error::new(format!(
                    "the piece `{}` occurs twice in the vocabulary",
                    piece.text
                )));
            }
        }
        let unknown = self.pieces.iter().position(|p| p.kind == Kind::Unknown);
        let has_bytes = self.pieces.iter().any(|piece| piece.kind == Kind::Byte);
        let added: Vec<Value> = self
            .pieces
            .iter()
            .enumerate()
            .filter(|(_, p)| matches!(p.kind, Kind::Unknown | Kind::Control | Kind::UserDefined))
            .map(|(id, piece)| {
                json!({
                    "id": id,
                    "content": piece.text,
                    "single_word": false,
                    "lstrip": false,
                    "rstrip": false,
                    "normalized": false,
                    "special": piece.kind != Kind::UserDefined,
                })
            })
            .collect();
        let model = if self.unigram {
            let vocab: Vec<Value> = self
                .pieces
                .iter()
                .map(|piece| json!([piece.text, piece.score]))
                .collect();
            json!({"type": "Unigram", "unk_id": unknown, "vocab": vocab, "byte_fallback": has_bytes})
        } else {
            let vocab: serde_json::Map<String, Value> = self
                .pieces
                .iter()
                .zip(0..)
                .map(|(piece, id)| (piece.text.clone(), json!(id)))
                .collect();
            json!({
                "type": "BPE",
                "dropout": null,
                "unk_token": unknown.map(|id| &self.pieces[id].text),
                "continuing_subword_prefix": null,
                "end_of_word_suffix": null,
                "fuse_unk": true,
                "byte_fallback": has_bytes,
                "ignore_merges": false,
                "vocab": vocab,
                "merges": self.merges(&ids),
            })
        };
        let mut prepare = Vec::new();
        if self.one_space {
            // Of white space only the space itself is taken away.
            for (runs, content) in [(r"\A +| +\z", ""), (" {2,}", " ")] {
                let pattern = json!({"Regex": runs});
                prepare.push(json!({"type": "Replace", "pattern": pattern, "content": content}));
            }
        }
        if self.dummy_prefix {
            prepare.push(json!({"type": "Prepend", "prepend": SPACE}));
        }
        let space = |text: char| json!({"String": text});
        prepare.push(json!({"type": "Replace", "pattern": space(' '), "content": SPACE}));
        let mut restore = vec![
            json!({"type": "Replace", "pattern": space(SPACE), "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if self.dummy_prefix {
            restore.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added,
            "normalizer": {"type": "Sequence", "normalizers": prepare},
            "pre_tokenizer": null,
            "post_processor": null,
            "decoder": {"type": "Sequence", "decoders": restore},
            "model": model,
        });
        Ok(tokenizer.to_string())
    }

    /// Every way to make a piece of two others, the best pieces first.
    fn merges(&self, ids: &BTreeMap<&str, usize>) -> Vec<[&str; 2]> {
        let mut order: Vec<usize> = (0..self.pieces.len())
            .filter(|id| matches!(self.pieces[*id].kind, Kind::Normal | Kind::UserDefined))
            .collect();
        order.sort_by(|a, b| self.pieces[*b].score.total_cmp(&self.pieces[*a].score));
        let normal = |text: &str| {
            let id = ids.get(text)?;
            matches!(self.pieces[*id].kind, Kind::Normal | Kind::UserDefined).then_some(*id)
        };
        let mut merges = Vec::new();
        for id in order {
            let text = self.pieces[id].text.as_str();
            let cuts = text.char_indices().skip(1).take(MAX_PIECE_CHARS);
            let mut ways: Vec<(usize, usize, [&str; 2])> = cuts
                .filter_map(|(cut, _)| {
                    let (left, right) = text.split_at(cut);
                    Some((normal(left)?, normal(right)?, [left, right]))
                })
                .collect();
            ways.sort_unstable();
            merges.extend(ways.into_iter().map(|(_, _, pair)| pair));
        }
        merges
    }
}

/// A piece of a `.model` file.
fn piece_of(bytes: &[u8]) -> Option<Piece> {
    let mut piece = Piece {
        text: String::new(),
        score: 0.0,
        kind: Kind::Normal,
    };
    for field in fields(bytes) {
        match field? {
            (1, Field::Bytes(text)) => piece.text = str::from_utf8(text).ok()?.to_owned(),
            (2, Field::Word(bits)) => piece.score = f32::from_bits(bits),
            (3, Field::Number(kind)) => {
                piece.kind = match kind {
                    1 => Kind::Normal,
                    2 => Kind::Unknown,
                    3 => Kind::Control,
                    4 => Kind::UserDefined,
                    5 => Kind::Unused,
                    6 => Kind::Byte,
                    _ => return None,
                };
            }
            _ => {}
        }
    }
    (!piece.text.is_empty() && piece.score.is_finite()).then_some(piece)
}

/// The byte that `<0x0A>` stands for.
fn byte_of(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    (digits.len() == 2).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// A field of a protocol buffer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Word(u32),
    Long,
}

/// The fields of a message with their numbers; `None` once where it is damaged, and then nothing.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Option<(u64, Field<'_>)>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let found = field(&mut rest);
        if found.is_none() {
            rest = &[];
        }
        Some(found)
    })
}

/// Takes one field off the front.
fn field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Field<'a>)> {
    let take = |rest: &mut &'a [u8], count: usize| {
        let (taken, left) = rest.split_at_checked(count)?;
        *rest = left;
        Some(taken)
    };
    let key = varint(rest)?;
    let field = match key & 7 {
        0 => Field::Number(varint(rest)?),
        1 => {
            take(rest, 8)?;
            Field::Long
        }
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Field::Bytes(take(rest, length)?)
        }
        5 => Field::Word(u32::from_le_bytes(take(rest, 4)?.try_into().ok()?)),
        _ => return None,
    };
    Some((key >> 3, field))
}

/// Takes a number in groups of seven bits off the front.
fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (first, left) = rest.split_first()?;
        *rest = left;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::TextTokenizer;
    use super::*;

    /// Pieces as id: control, bytes, then text, the earlier the better.
    fn pieces() -> Vec<Piece> {
        let piece = |text: &str, score: f32, kind| Piece {
            text: text.to_owned(),
            score,
            kind,
        };
        let mut pieces = vec![
            piece("<unk>", 0.0, Kind::Unknown),
            piece("<s>", 0.0, Kind::Control),
            piece("</s>", 0.0, Kind::Control),
        ];
        pieces.extend((0..=255u8).map(|b| piece(&format!("<0x{b:02X}>"), 0.0, Kind::Byte)));
        let words = ["▁a", "ab", "▁ab", "▁", "a", "b"];
        pieces.extend(
            words
                .iter()
                .zip(0i8..)
                .map(|(w, n)| piece(w, -f32::from(n), Kind::Normal)),
        );
        pieces
    }

    /// A `.model` file of pieces.
    fn model(pieces: &[Piece], kind: u8, normalizer: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for piece in pieces {
            let number = match piece.kind {
                Kind::Normal => 1,
                Kind::Unknown => 2,
                Kind::Control => 3,
                Kind::UserDefined => 4,
                Kind::Unused => 5,
                Kind::Byte => 6,
            };
            let mut own = vec![0x0a, piece.text.len() as u8];
            own.extend(piece.text.as_bytes());
            own.push(0x15);
            own.extend(piece.score.to_le_bytes());
            own.extend([0x18, number]);
            bytes.extend([0x0a, own.len() as u8]);
            bytes.extend(own);
        }
        bytes.extend([0x12, 2, 0x18, kind]);
        bytes.extend([0x1a, normalizer.len() as u8]);
        bytes.extend(normalizer);
        bytes
    }

    #[test]
    fn byte_pairs_merge_in_the_order_of_scores() {
        let normalizer = [0x18, 1, 0x20, 0];
        let json = model_json(&model(&pieces(), 2, &normalizer)).unwrap();
        let tokenizer = TextTokenizer::from_json(&json).unwrap();
        let id = |text: &str| tokenizer.id(text).unwrap();
        // `▁a` comes before `ab`, and `▁ab` is made of `▁a` and `b`.
        assert_eq!(tokenizer.encode("ab").unwrap(), [id("▁ab")]);
        assert_eq!(
            tokenizer.encode("bab").unwrap(),
            [id("▁"), id("b"), id("ab")]
        );
        let ids = tokenizer.encode("ab  ab é\n").unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), "ab  ab é\n");
        assert!(ids.contains(&id("<0x0A>")) && ids.contains(&id("<0xC3>")));
        // Marks in a text are text.
        assert!(!tokenizer.encode("<s>").unwrap().contains(&1));
        let one_space = model_json(&model(&pieces(), 2, &[0x18, 1, 0x20, 1])).unwrap();
        let one_space = TextTokenizer::from_json(&one_space).unwrap();
        assert_eq!(
            one_space.encode(" ab   ab ").unwrap(),
            one_space.encode("ab ab").unwrap()
        );
    }

    #[test]
    fn llama2c_has_the_same_pieces() {
        let pieces = pieces();
        let mut bytes = 16i32.to_le_bytes().to_vec();
        for (id, piece) in pieces.iter().enumerate() {
            let text = match id {
                1 | 2 => format!("\n{}\n", piece.text),
                _ => piece.text.replace(SPACE, " "),
            };
            bytes.extend(piece.score.to_le_bytes());
            bytes.extend((text.len() as i32).to_le_bytes());
            bytes.extend(text.as_bytes());
        }
        let one = llama2c_json(&bytes).unwrap();
        let other = model_json(&model(&pieces, 2, &[0x18, 1, 0x20, 0])).unwrap();
        assert_eq!(one, other);
        for cut in [3, 5, bytes.len() - 1] {
            assert!(llama2c_json(&bytes[..cut]).is_err());
        }
    }

    /// Of a text's first token the space before it is none of the text; of one that goes on it is.
    #[test]
    fn a_text_that_goes_on_keeps_its_first_blank() {
        let json = model_json(&model(&pieces(), 2, &[0x18, 1, 0x20, 0])).unwrap();
        let tokenizer = TextTokenizer::from_json(&json).unwrap();
        let id = |text: &str| tokenizer.id(text).unwrap();
        let (before, ids) = ([id("▁ab")], [id("▁a"), id("b")]);
        assert_eq!(tokenizer.decode(&ids).unwrap(), "ab");
        assert_eq!(tokenizer.decode_after(&before, &ids).unwrap(), " ab");
        assert_eq!(tokenizer.decode_after(&[], &ids).unwrap(), "ab");
        // A character on both sides of the border is whole nowhere.
        let cut = [id("<0xC3>")];
        let rest = tokenizer.decode_after(&cut, &[id("<0xA9>")]).unwrap();
        assert!(rest.contains('\u{fffd}') || rest == "é", "{rest:?}");
    }

    #[test]
    fn unigrams_take_the_likeliest_pieces() {
        let json = model_json(&model(&pieces(), 1, &[0x18, 1, 0x20, 0])).unwrap();
        let tokenizer = TextTokenizer::from_json(&json).unwrap();
        assert_eq!(
            tokenizer.encode("ab").unwrap(),
            [tokenizer.id("▁ab").unwrap()]
        );
    }

    #[test]
    fn what_is_not_read_is_an_error() {
        let told = |bytes: &[u8]| model_json(bytes).unwrap_err().message;
        assert!(told(&model(&pieces(), 3, &[])).contains("words or characters"));
        assert!(told(&model(&pieces(), 2, &[0x12, 1, 7])).contains("by a table"));
        assert!(told(&[]).contains("no pieces"));
        let twice = [pieces(), pieces()].concat();
        assert!(told(&model(&twice, 2, &[])).contains("twice"));
        let whole = model(&pieces(), 2, &[0x18, 1]);
        for cut in 1..whole.len() {
            let _ = model_json(&whole[..cut]); // an error or fewer pieces, never a panic
        }
        assert!(told(&[0x0a, 0xff, 0xff]).contains("damaged"));
        assert!(told(&[0xff; 11]).contains("damaged"));
    }
}
