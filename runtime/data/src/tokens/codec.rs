//! Documents to token ids of a joint vocabulary, and back.
//!
//! A document is `<eos> text <break> picture <break> text … <eos>`: a break before and after every
//! picture (two between neighbours), none after the last one where the document ends with it. A
//! question stands before its answer and ends with a line break. Vocabularies with `begin = bos` have
//! `<bos>` in place of the first `<eos>`.

use std::sync::Arc;

use jam_ir::{TokenKind, TokenLayout, TokenRange};

use super::PictureTokenizer;
use super::runs::{Run, runs};
use super::text::TextTokenizer;
use crate::images::{Fit, Picture, Resample};
use crate::{Error, Result};

/// A vocabulary with the tokenizers behind it.
#[derive(Clone, Debug)]
pub struct Codec {
    layout: TokenLayout,
    /// The layout, its text and image ranges cut to the tokens that the tokenizers have.
    producible: TokenLayout,
    text: Option<TextTokenizer>,
    image: Option<Arc<dyn PictureTokenizer>>,
    begin: u32,
    eos: u32,
}

/// A piece of a document to be encoded; pictures are codes already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A run of text.
    Text(&'a str),
    /// The joint ids of a picture.
    Picture(&'a [u32]),
}

/// A piece of a document that was decoded.
#[derive(Clone, Debug)]
pub enum Piece {
    /// A run of text.
    Text(String),
    /// A picture.
    Picture(Picture),
}

impl Codec {
    /// A vocabulary and its tokenizers; either may be missing where no document needs it.
    ///
    /// # Errors
    /// When a tokenizer has more tokens than the layout has room for, or the layout no `eos`.
    pub fn new(
        layout: TokenLayout,
        text: Option<TextTokenizer>,
        image: Option<Arc<dyn PictureTokenizer>>,
    ) -> Result<Codec> {
        let check = |what: &str, has: u64, room: u64| {
            if has <= room {
                return Ok(());
            }
            let message = format!(
                "the {what} tokenizer has {has} tokens, and `{}` has room for {room}",
                layout.name
            );
            Err(Error::new(message))
        };
        if let Some(text) = &text {
            check("text", text.size(), layout.room(TokenKind::Text))?;
        }
        if let Some(image) = &image {
            check("image", image.codes() as u64, layout.room(TokenKind::Image))?;
            if image.tokens_per_picture() as u64 != layout.picture_tokens() {
                let message = format!(
                    "the image tokenizer makes {} tokens of a picture, and `{}` has a grid of {}",
                    image.tokens_per_picture(),
                    layout.name,
                    layout.grid
                );
                return Err(Error::new(message));
            }
        }
        let eos = layout.marks.get("eos").map(|id| *id as u32);
        let eos = eos.ok_or_else(|| {
            let whose = match layout.name.is_empty() {
                true => "the vocabulary".to_owned(),
                false => format!("the vocabulary `{}`", layout.name),
            };
            Error::new(format!("{whose} has no `eos`")).with_help(
                "documents end with it: give the `tokens` of the model `marks = [eos]`, or its id",
            )
        })?;
        let begin = layout.marks.get(&layout.begin).map(|id| *id as u32);
        let mut producible = layout.clone();
        if let Some(text) = &text {
            let end = layout.first(TokenKind::Text) + text.size();
            cut(&mut producible, TokenKind::Text, end);
        }
        if let Some(image) = &image {
            let codes = if image.decodes() { image.codes() } else { 0 };
            let end = layout.first(TokenKind::Image) + codes as u64;
            cut(&mut producible, TokenKind::Image, end);
        }
        Ok(Codec {
            layout,
            producible,
            text,
            image,
            begin: begin.unwrap_or(eos),
            eos,
        })
    }

    /// The vocabulary.
    pub fn layout(&self) -> &TokenLayout {
        &self.layout
    }

    /// The vocabulary without the text and image ids that the tokenizers have no text or picture for:
    /// what decoding may produce.
    pub fn producible(&self) -> &TokenLayout {
        &self.producible
    }

    /// Whether there is a text tokenizer.
    pub fn reads_text(&self) -> bool {
        self.text.is_some()
    }

    /// The image tokenizer, where there is one.
    pub fn image(&self) -> Option<&dyn PictureTokenizer> {
        self.image.as_deref()
    }

    /// The id that begins documents: that of `eos`, or of `bos` where the vocabulary says so.
    pub fn begin(&self) -> u32 {
        self.begin
    }

    /// The id that ends documents.
    pub fn eos(&self) -> u32 {
        self.eos
    }

    /// The id that stands before and after pictures.
    ///
    /// # Errors
    /// When the vocabulary has none.
    pub fn brk(&self) -> Result<u32> {
        let found = self.layout.marks.get("break").map(|id| *id as u32);
        found.ok_or_else(|| {
            Error::new(format!(
                "the vocabulary `{}` has no `break`",
                self.layout.name
            ))
            .with_help(
                "pictures stand between breaks: marks = [bos, pad, eos, unk, break]".to_owned(),
            )
        })
    }

    /// Joint ids of a text.
    ///
    /// # Errors
    /// When there is no text tokenizer.
    pub fn text_ids(&self, text: &str) -> Result<Vec<u32>> {
        let tokenizer = self.text.as_ref().ok_or_else(|| {
            Error::new(format!(
                "the vocabulary `{}` has no text tokenizer",
                self.layout.name
            ))
        })?;
        let start = self.start(TokenKind::Text);
        Ok(tokenizer
            .encode(text)?
            .into_iter()
            .map(|id| id + start)
            .collect())
    }

    /// The text of joint ids of text tokens.
    ///
    /// # Errors
    /// When there is no text tokenizer.
    pub fn text(&self, ids: &[u32]) -> Result<String> {
        let start = self.start(TokenKind::Text);
        let ids: Vec<u32> = ids.iter().map(|id| id.saturating_sub(start)).collect();
        match &self.text {
            Some(tokenizer) => tokenizer.decode(&ids),
            None => Err(Error::new(format!(
                "`{}` has no text tokenizer",
                self.layout.name
            ))),
        }
    }

    /// The text that joint ids of text tokens add behind a document under way.
    ///
    /// # Errors
    /// When there is no text tokenizer.
    pub fn text_after(&self, document: &[u32], ids: &[u32]) -> Result<String> {
        let before = match runs(&self.producible, document).pop() {
            Some(Run::Text(before)) => before,
            _ => Vec::new(),
        };
        let start = self.start(TokenKind::Text);
        let ids: Vec<u32> = ids.iter().map(|id| id.saturating_sub(start)).collect();
        match &self.text {
            Some(tokenizer) => tokenizer.decode_after(&before, &ids),
            None => self.text(&ids),
        }
    }

    /// Joint ids of pictures of any size: cropped to a square, resized, encoded.
    ///
    /// # Errors
    /// When there is no image tokenizer.
    pub fn picture_ids(&self, pictures: &[Picture]) -> Result<Vec<Vec<u32>>> {
        let tokenizer = self.image.as_ref().ok_or_else(|| {
            Error::new(format!(
                "the vocabulary `{}` has no image tokenizer",
                self.layout.name
            ))
        })?;
        let side = tokenizer.picture();
        let pictures: Vec<Picture> = pictures
            .iter()
            .map(|picture| fitted(picture, side))
            .collect::<Result<_>>()?;
        let start = self.start(TokenKind::Image);
        let mut ids = tokenizer.encode(&pictures)?;
        ids.iter_mut().flatten().for_each(|id| *id += start);
        Ok(ids)
    }

    /// A whole document; returns its ids and how many of them are the question.
    ///
    /// # Errors
    /// When a tokenizer or a mark that it needs is missing.
    pub fn document(&self, prompt: Option<&str>, parts: &[Part<'_>]) -> Result<(Vec<u32>, usize)> {
        let mut ids = match prompt {
            Some(prompt) => self.prompt(prompt)?,
            None => vec![self.begin],
        };
        let question = ids.len();
        let mut before: Option<&Part<'_>> = None;
        for part in parts {
            // One break ends a picture, one begins the next: two stand between neighbours.
            let breaks = [before, Some(part)].into_iter().flatten();
            for _ in breaks.filter(|part| matches!(part, Part::Picture(_))) {
                ids.push(self.brk()?);
            }
            match part {
                Part::Text(text) if matches!(before, Some(Part::Text(_))) => {
                    ids.extend(self.text_ids(&format!("\n{text}"))?);
                }
                Part::Text(text) => ids.extend(self.text_ids(text)?),
                Part::Picture(codes) => ids.extend_from_slice(codes),
            }
            before = Some(part);
        }
        ids.push(self.eos);
        Ok((ids, question))
    }

    /// The beginning of a document that answers `prompt`.
    ///
    /// # Errors
    /// When there is no text tokenizer.
    pub fn prompt(&self, prompt: &str) -> Result<Vec<u32>> {
        self.beginning(&format!("{}\n", prompt.trim_end()))
    }

    /// The beginning of a document that goes on with a text.
    ///
    /// # Errors
    /// When there is no text tokenizer.
    pub fn beginning(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = vec![self.begin];
        ids.extend(self.text_ids(text)?);
        Ok(ids)
    }

    /// The beginning of a document that draws what `caption` says.
    ///
    /// # Errors
    /// When there is no text tokenizer, or the vocabulary has no break.
    pub fn caption(&self, caption: &str) -> Result<Vec<u32>> {
        let mut ids = self.beginning(caption)?;
        ids.push(self.brk()?);
        Ok(ids)
    }

    /// Text and pictures of token ids; marks are dropped, and a picture that is not complete too.
    ///
    /// # Errors
    /// When a tokenizer is missing or fails.
    pub fn pieces(&self, tokens: &[u32]) -> Result<Vec<Piece>> {
        self.pieces_after(&[], tokens)
    }

    /// The same of tokens that go on with the text of a document under way.
    ///
    /// # Errors
    /// As [`Codec::pieces`].
    pub fn pieces_after(&self, document: &[u32], tokens: &[u32]) -> Result<Vec<Piece>> {
        let mut pieces = Vec::new();
        let mut before = match runs(&self.producible, document).pop() {
            Some(Run::Text(before)) => before,
            _ => Vec::new(),
        };
        for run in runs(&self.producible, tokens) {
            let before = std::mem::take(&mut before);
            pieces.push(match (run, &self.text, &self.image) {
                (Run::Text(ids), Some(text), _) => Piece::Text(text.decode_after(&before, &ids)?),
                (Run::Picture(codes), _, Some(image)) => {
                    let picture = image.decode(&[&codes])?.pop();
                    Piece::Picture(picture.ok_or_else(|| Error::new("a picture was not decoded"))?)
                }
                _ => {
                    return Err(Error::new(format!(
                        "`{}` lacks a tokenizer",
                        self.layout.name
                    )));
                }
            });
        }
        Ok(pieces)
    }

    fn start(&self, kind: TokenKind) -> u32 {
        self.layout.first(kind) as u32
    }
}

/// Makes the ids of a kind from `end` on filler.
fn cut(layout: &mut TokenLayout, kind: TokenKind, end: u64) {
    let ranges = std::mem::take(&mut layout.ranges);
    for range in ranges {
        let past = range.start + range.len;
        if range.kind != kind || past <= end {
            layout.ranges.push(range);
            continue;
        }
        let kept = end.saturating_sub(range.start);
        let unused = TokenRange {
            kind: TokenKind::Filler,
            start: range.start + kept,
            len: range.len - kept,
        };
        // Of nothing, too: its place tells where the image tokenizer's ids begin.
        layout.ranges.push(TokenRange { len: kept, ..range });
        layout.ranges.push(unused);
    }
}

/// A picture cropped to a square of `side` pixels; one that has the size already is taken as it is.
pub fn fitted(picture: &Picture, side: usize) -> Result<Picture> {
    if (picture.width(), picture.height()) == (side, side) {
        return Ok(picture.clone());
    }
    picture.squared(side, Fit::Crop, Resample::Lanczos)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// eos 0, text 1..301, image 301..305 in a grid of 2, break 305.
    fn codec() -> Codec {
        codec_with(None)
    }

    fn codec_with(image: Option<Arc<dyn PictureTokenizer>>) -> Codec {
        let mut layout = TokenLayout::empty("small");
        layout.add_mark("eos");
        layout.add(TokenKind::Text, 300);
        layout.add(TokenKind::Image, 4);
        layout.add_mark("break");
        layout.grid = 2;
        let texts = ["a red house", "a blue tree"]
            .map(str::to_owned)
            .into_iter();
        let text = TextTokenizer::train(texts, 260).unwrap();
        Codec::new(layout, Some(text), image).unwrap()
    }

    #[test]
    fn breaks_stand_before_and_after_every_picture() {
        let codec = codec();
        let picture = [301, 302, 303, 304];
        let parts = [
            Part::Picture(&picture),
            Part::Picture(&picture),
            Part::Text("red"),
        ];
        let (ids, question) = codec.document(None, &parts).unwrap();
        let mut expected = vec![0, 305];
        expected.extend(picture);
        expected.extend([305, 305]);
        expected.extend(picture);
        expected.push(305);
        expected.extend(codec.text_ids("red").unwrap());
        expected.push(0);
        assert_eq!((ids, question), (expected, 1));
    }

    #[test]
    fn an_answer_goes_on_where_its_question_ends() {
        let codec = codec();
        let (ids, question) = codec
            .document(Some("a tree?"), &[Part::Text("a red tree")])
            .unwrap();
        assert_eq!(ids[..question], codec.prompt("a tree?").unwrap());
        assert_eq!(
            codec.text(&ids[question..ids.len() - 1]).unwrap(),
            "a red tree"
        );
    }

    /// A text tokenizer may have names for the codes of pictures, and for the marks.
    #[test]
    fn pictures_and_marks_may_be_tokens_of_the_text_tokenizer() {
        let mut layout = TokenLayout::empty("inside");
        layout.add(TokenKind::Text, 300);
        layout.grid = 2;
        assert!(layout.take_images(0, 4));
        for (mark, id) in [("break", 296), ("eos", 299), ("bos", 299)] {
            assert!(layout.take_mark(mark, id));
        }
        assert_eq!(layout.first(TokenKind::Text), 0);
        assert_eq!(layout.room(TokenKind::Text), 300);
        let run = runs(&layout, &[0, 1, 2, 3, 296, 4, 298, 299]);
        assert_eq!(
            run,
            [Run::Picture(vec![0, 1, 2, 3]), Run::Text(vec![4, 298])]
        );
        let mut cut_off = layout.clone();
        cut(&mut cut_off, TokenKind::Text, 200);
        cut(&mut cut_off, TokenKind::Image, 0); // an encoder alone
        let kinds = [3, 199, 200, 298].map(|id| cut_off.kind(id));
        let filler = Some(TokenKind::Filler);
        assert_eq!(kinds, [filler, Some(TokenKind::Text), filler, filler]);
        assert_eq!(runs(&cut_off, &[4]), [Run::Text(vec![4])]);
    }

    #[test]
    fn ids_without_a_token_are_not_produced() {
        let codec = codec();
        assert_eq!(codec.producible().kind(1), Some(TokenKind::Text));
        assert_eq!(codec.producible().kind(300), Some(TokenKind::Filler));
        assert_eq!(codec.layout().kind(300), Some(TokenKind::Text));
    }

    /// A tokenizer of four cells and three codes, each a grey.
    #[derive(Debug)]
    struct ThreeCodes;

    impl PictureTokenizer for ThreeCodes {
        fn codes(&self) -> usize {
            3
        }

        fn picture(&self) -> usize {
            4
        }

        fn tokens_per_picture(&self) -> usize {
            4
        }

        fn decodes(&self) -> bool {
            true
        }

        fn encode(&self, pictures: &[Picture]) -> Result<Vec<Vec<u32>>> {
            Ok(pictures.iter().map(|_| vec![0; 4]).collect())
        }

        fn decode(&self, pictures: &[&[u32]]) -> Result<Vec<Picture>> {
            let grey = |codes: &&[u32]| Picture::new(4, 4, [codes[0] as u8; 3]);
            pictures.iter().map(grey).collect()
        }
    }

    /// A vocabulary may have room for more pictures' codes than the tokenizer has.
    #[test]
    fn codes_without_a_picture_are_not_drawn() {
        let codec = codec_with(Some(Arc::new(ThreeCodes)));
        let kinds = [301, 303, 304, 305].map(|id| codec.producible().kind(id));
        let (image, filler) = (Some(TokenKind::Image), Some(TokenKind::Filler));
        assert_eq!(kinds, [image, image, filler, Some(TokenKind::Mark)]);
        assert_eq!(codec.layout().kind(304), image);

        // Decoding draws from the range of image tokens alone.
        let range = codec.producible().range(TokenKind::Image).unwrap();
        assert_eq!((range.start, range.len), (301, 3));
        // An id that none can decode is no part of a picture.
        let pieces = codec.pieces(&[301, 302, 303, 304]).unwrap();
        assert!(pieces.is_empty(), "{pieces:?}");
    }
}
