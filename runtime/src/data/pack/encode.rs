//! Documents as ids of a joint vocabulary.
//!
//! `<eos> question \n text <break> picture <break> text … <eos>`. A break opens every picture and a break closes it,
//! so that two pictures in a row have two breaks between them and a reader who counts breaks knows at each whether
//! text or a picture follows; where the document ends with a picture, `<eos>` closes it.

use jam_ir::{TokenKind, TokenLayout, TokenRange};

use super::CodeCache;
use crate::data::{Document, Segment};
use crate::tokens::text::TextTokenizer;
use crate::{Error, Result};

/// A document as ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedDocument {
    /// The ids, `<eos>` at both ends.
    pub ids: Vec<u32>,
    /// How many ids at the beginning are the question, the first `<eos>` and the line break after it included; 1
    /// where there is no question.
    pub question: usize,
    /// Half-open ranges of the pictures in `ids`, without their breaks.
    pub pictures: Vec<(usize, usize)>,
}

/// Makes documents into ids of one vocabulary.
#[derive(Debug)]
pub struct DocumentEncoder<'a> {
    text: &'a TextTokenizer,
    pictures: Option<&'a CodeCache<'a>>,
    text_ids: TokenRange,
    image_ids: Option<TokenRange>,
    eos: u32,
    brk: Option<u32>,
    picture_tokens: usize,
}

impl<'a> DocumentEncoder<'a> {
    /// An encoder for the vocabulary `layout`; `pictures` may be missing where no document has any.
    ///
    /// # Errors
    /// When the layout has no `eos` or no text ids, a tokenizer has more ids than the layout gives it, or a picture
    /// has another number of tokens than the layout's grid.
    pub fn new(
        layout: &TokenLayout,
        text: &'a TextTokenizer,
        pictures: Option<&'a CodeCache<'a>>,
    ) -> Result<Self> {
        let mark = |name: &str| {
            layout
                .marks
                .get(name)
                .and_then(|id| u32::try_from(*id).ok())
        };
        let named = |what: &str| Error::new(format!("the vocabulary `{}` {what}", layout.name));
        if layout.size > 1 << 31 {
            return Err(named("has more than 2^31 ids"));
        }
        let text_ids = layout
            .range(TokenKind::Text)
            .ok_or_else(|| named("has no text tokens"))?;
        if text.size() > text_ids.len {
            let (has, room) = (text.size(), text_ids.len);
            return Err(named(&format!(
                "has room for {room} text tokens; the tokenizer has {has}"
            )));
        }
        let image_ids = layout.range(TokenKind::Image).cloned();
        let picture_tokens = layout.picture_tokens() as usize;
        if let Some(found) = pictures.map(CodeCache::codes_per_picture)
            && found != picture_tokens
        {
            return Err(named(&format!(
                "has pictures of {picture_tokens} tokens, not of {found}"
            )));
        }
        Ok(Self {
            text,
            pictures,
            text_ids: text_ids.clone(),
            image_ids,
            eos: mark("eos").ok_or_else(|| named("has no `eos`"))?,
            brk: mark("break"),
            picture_tokens,
        })
    }

    /// The id that begins and ends documents.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// The ids of a document.
    ///
    /// # Errors
    /// When it has a picture and the vocabulary has no break, no image tokens or no image tokenizer, or when a
    /// picture cannot be read; the message names the document.
    pub fn encode(&self, document: &Document) -> Result<EncodedDocument> {
        self.encode_unnamed(document).map_err(|error| {
            let message = format!("document `{}`: {}", document.id, error.message);
            Error { message, ..error }
        })
    }

    fn encode_unnamed(&self, document: &Document) -> Result<EncodedDocument> {
        let mut ids = vec![self.eos];
        if let Some(prompt) = &document.prompt {
            self.add_text(&format!("{}\n", prompt.trim_end()), &mut ids)?;
        }
        let question = ids.len();
        let mut pictures = Vec::new();
        let mut after_picture = false;
        let mut text = String::new();
        for segment in &document.segments {
            match segment {
                Segment::Text(part) => {
                    if after_picture {
                        ids.push(self.mark_break()?);
                        after_picture = false;
                    }
                    if !text.is_empty() {
                        text.push('\n');
                    }
                    text.push_str(part);
                }
                Segment::Picture(picture) => {
                    self.add_text(&std::mem::take(&mut text), &mut ids)?;
                    if after_picture {
                        ids.push(self.mark_break()?);
                    }
                    ids.push(self.mark_break()?);
                    let codes = self
                        .pictures
                        .ok_or_else(|| {
                            Error::new("it has a picture, and there is no image tokenizer")
                        })?
                        .codes(picture)?;
                    let start = ids.len();
                    for code in codes {
                        ids.push(self.image_id(code)?);
                    }
                    if ids.len() - start != self.picture_tokens {
                        return Err(Error::new(
                            "a picture has another number of tokens than the others",
                        ));
                    }
                    pictures.push((start, ids.len()));
                    after_picture = true;
                }
            }
        }
        self.add_text(&text, &mut ids)?;
        ids.push(self.eos);
        Ok(EncodedDocument {
            ids,
            question,
            pictures,
        })
    }

    fn add_text(&self, text: &str, ids: &mut Vec<u32>) -> Result<()> {
        // The tokenizer's ids fit their range, and the range fits 31 bits.
        let start = self.text_ids.start as u32;
        ids.extend(self.text.encode(text)?.into_iter().map(|id| id + start));
        Ok(())
    }

    fn image_id(&self, code: u32) -> Result<u32> {
        let range = self
            .image_ids
            .as_ref()
            .ok_or_else(|| Error::new("the vocabulary has no image tokens"))?;
        if u64::from(code) >= range.len {
            return Err(Error::new(format!(
                "code {code} of {} image tokens",
                range.len
            )));
        }
        Ok(range.start as u32 + code)
    }

    fn mark_break(&self) -> Result<u32> {
        self.brk.ok_or_else(|| {
            Error::new("it has a picture, and the vocabulary has no `break`")
                .with_help("pictures stand between breaks: marks = [bos, pad, eos, unk, break]")
        })
    }
}
