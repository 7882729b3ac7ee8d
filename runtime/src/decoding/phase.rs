//! What may come next in a document.

use std::ops::Range;

use jam_ir::{TokenKind, TokenLayout};

use super::Limits;
use crate::{Error, Result};

/// Where a document stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Text; `<break>` begins a picture, `<eos>` ends the document.
    Text,
    /// Inside a picture of which `left` tokens are still to come.
    Picture { left: u64 },
    /// After a picture: `<break>` leads back to text, `<eos>` ends the document.
    AfterPicture,
    /// Ended.
    Done,
}

/// The tokens that mean something to a document, and its limits.
#[derive(Debug)]
pub(super) struct Rules {
    /// Ids that end a document, `eos` first.
    pub(super) ends: Vec<u32>,
    pub(super) pad: u32,
    /// Ids of image tokens.
    pub(super) image: Range<usize>,
    /// What guidance reads in place of a document.
    pub(super) without: Vec<u32>,
    pub(super) picture_tokens: u64,
    brk: Option<u32>,
    limits: Limits,
    text: Vec<bool>,
}

impl Rules {
    pub(super) fn new(layout: &TokenLayout, limits: Limits) -> Result<Rules> {
        let mark = |name: &str| layout.marks.get(name).map(|id| *id as u32);
        let eos = mark("eos").ok_or_else(|| {
            Error::new(format!("the vocabulary `{}` has no `eos`", layout.name))
                .with_help("documents end with it: marks = [bos, pad, eos, unk, break]".to_owned())
        })?;
        let image = layout.range(TokenKind::Image).filter(|range| range.len > 0);
        let image = image.map_or(0..0, |range| {
            range.start as usize..(range.start + range.len) as usize
        });
        let brk = mark("break").filter(|_| !image.is_empty() && layout.grid > 0);
        let begin = mark(&layout.begin).unwrap_or(eos);
        let without = [Some(begin), mark("mask:0"), brk];
        let mut text = vec![false; layout.size as usize];
        for (start, end) in layout.rows(TokenKind::Text) {
            text[start as usize..end as usize].fill(true);
        }
        let ends: Vec<u32> = layout.ends().map(|id| id as u32).collect();
        ends.iter().for_each(|end| text[*end as usize] = true);
        Ok(Rules {
            ends,
            pad: mark("pad").unwrap_or(eos),
            image,
            without: without.into_iter().flatten().collect(),
            picture_tokens: layout.picture_tokens(),
            brk,
            limits,
            text,
        })
    }

    /// The beginning of a picture.
    pub(super) fn picture(&self) -> Phase {
        Phase::Picture {
            left: self.picture_tokens,
        }
    }

    /// Ids that may come next outside of a picture, with room for `room` more tokens.
    pub(super) fn allowed(&self, phase: Phase, pictures: u64, room: u64) -> Vec<bool> {
        let more = self.limits.max_pictures == 0 || pictures < self.limits.max_pictures;
        // The break itself, and all of the picture.
        let fits = room > self.picture_tokens;
        let mut allowed = match phase {
            Phase::Text => self.text.clone(),
            _ => vec![false; self.text.len()],
        };
        (self.ends.iter()).for_each(|end| allowed[*end as usize] = true);
        if let Some(brk) = self.brk {
            allowed[brk as usize] = phase == Phase::AfterPicture || (more && fits);
        }
        allowed
    }

    /// The phase after a token.
    pub(super) fn after(&self, phase: Phase, id: u32) -> Phase {
        match phase {
            _ if self.ends.contains(&id) => Phase::Done,
            Phase::Text if Some(id) == self.brk => self.picture(),
            Phase::Text => Phase::Text,
            Phase::Picture { left } if left > 1 => Phase::Picture { left: left - 1 },
            Phase::Picture { .. } => Phase::AfterPicture,
            Phase::AfterPicture => Phase::Text,
            Phase::Done => Phase::Done,
        }
    }

    /// True when a document ends with this many pictures.
    pub(super) fn ends_with(&self, pictures: u64) -> bool {
        self.limits.end_with_picture && pictures >= self.limits.max_pictures.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// eos 0, text 1..5, image 5..8 in a 2 × 1 … 2 × 2 grid, break 8.
    fn layout() -> TokenLayout {
        let mut layout = TokenLayout::empty("small");
        layout.add_mark("eos");
        layout.add(TokenKind::Text, 4);
        layout.add(TokenKind::Image, 3);
        layout.add_mark("break");
        layout.grid = 2;
        layout
    }

    fn limits() -> Limits {
        Limits {
            context: 32,
            max_tokens: 0,
            max_pictures: 2,
            end_with_picture: false,
        }
    }

    #[test]
    fn a_picture_is_begun_only_when_all_of_it_fits() {
        let rules = Rules::new(&layout(), limits()).unwrap();
        let may_break = |room, pictures| rules.allowed(Phase::Text, pictures, room)[8];
        assert!(may_break(5, 0), "the break and four tokens");
        assert!(!may_break(4, 0));
        assert!(!may_break(20, 2), "no third picture");
        let text = rules.allowed(Phase::Text, 0, 20);
        assert_eq!(
            text,
            [true, true, true, true, true, false, false, false, true]
        );
        let after = rules.allowed(Phase::AfterPicture, 2, 20);
        assert_eq!(
            after,
            [true, false, false, false, false, false, false, false, true]
        );
    }

    #[test]
    fn a_document_walks_through_its_phases() {
        let rules = Rules::new(&layout(), limits()).unwrap();
        let mut phase = Phase::Text;
        let mut seen = Vec::new();
        for id in [2, 8, 5, 6, 7, 5, 8, 3, 0] {
            phase = rules.after(phase, id);
            seen.push(phase);
        }
        let left = |left| Phase::Picture { left };
        let expected = [
            Phase::Text,
            left(4),
            left(3),
            left(2),
            left(1),
            Phase::AfterPicture,
            Phase::Text,
            Phase::Text,
            Phase::Done,
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn any_end_ends_a_document() {
        let mut layout = layout();
        assert!(layout.add_end(3) && !layout.add_end(0));
        let rules = Rules::new(&layout, limits()).unwrap();
        assert_eq!(rules.ends, [0, 3]);
        assert!(rules.allowed(Phase::Text, 0, 20)[3]);
        assert!(rules.allowed(Phase::AfterPicture, 0, 20)[3]);
        assert_eq!(rules.after(Phase::Text, 3), Phase::Done);
        assert_eq!(rules.after(Phase::Text, 2), Phase::Text);
    }

    #[test]
    fn a_vocabulary_without_an_end_is_refused() {
        let mut layout = layout();
        layout.marks.shift_remove("eos");
        assert!(
            Rules::new(&layout, limits())
                .unwrap_err()
                .message
                .contains("no `eos`")
        );
    }
}
