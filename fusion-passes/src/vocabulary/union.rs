//! The union of vocabularies, where no parent has every token of the others.
//!
//! ```text
//! llm     bos eos | a b c           | mask:0
//! img     bos pad | a b d | <0> <1> | break
//! union   bos pad eos | a b c d | <0> <1> | mask:0 break
//! ```
//!
//! The order is that of every layout: the first marks, text, image, reserved rows, all other marks,
//! and filler. Text tokens stand in the order of the united tokenizer, which keeps the ids of the
//! first one; marks and images that are tokens of a parent's tokenizer are those tokens of the united one.
//! A mark is as the first parent that has it tells it. The size is as even as the parents' sizes are
//! (tables of a size that a power of two divides are faster).

use std::collections::HashMap;
use std::ops::Range;

use indexmap::IndexMap;
use jam_ir::{FIRST_MARKS, ImageTokens, TextTokens, TokenKind, TokenLayout};

use super::Pieces;
use super::keys::{Keys, keys_of_one};

/// Most that the size of a joint table is rounded up to.
const MOST_EVEN: u32 = 7;

/// The union of layouts whose tokens can be told apart, and what its ids are. Text tokens are told by
/// their spelling where that is given, and else by their place in one tokenizer.
///
/// # Errors
/// Why their tokenizers cannot be united.
pub(super) fn layout(
    layouts: &[&TokenLayout],
    pieces: Option<&dyn Pieces>,
) -> Result<(TokenLayout, Keys), String> {
    let with = |kind| layouts.iter().filter(move |layout| layout.room(kind) > 0);
    let mut texts: Vec<&TextTokens> = Vec::new();
    for layout in with(TokenKind::Text) {
        if !texts.contains(&&layout.text) {
            texts.push(&layout.text);
        }
    }
    let mut paths: Vec<String> = Vec::new();
    for text in &texts {
        let files = match text {
            TextTokens::Files(path) => std::slice::from_ref(path),
            TextTokens::Joint(paths) => paths,
            TextTokens::Tokenizer(_) | TextTokens::Ids => continue,
        };
        files.iter().for_each(|path| {
            if !paths.contains(path) {
                paths.push(path.clone());
            }
        });
    }
    let longest = with(TokenKind::Text).map(|layout| layout.room(TokenKind::Text));
    let longest = longest.max().unwrap_or(0);
    // Bare ids claim nothing: the tokenizer is another's.
    let told = texts.iter().find(|text| ***text != TextTokens::Ids);
    let one = told.map_or(TextTokens::Ids, |text| (*text).clone());
    let (text, spelled, texts_len) = match pieces {
        Some(pieces) if texts.len() > 1 => {
            let spelled = pieces.union(&texts)?;
            let len = spelled.len() as u64;
            (TextTokens::Joint(paths), Some(spelled), len)
        }
        _ => (one, None, longest),
    };

    let pictures: Vec<_> = with(TokenKind::Image).collect();
    let image = pictures.iter().map(|layout| &layout.image);
    let image = image
        .clone()
        .find(|image| **image != ImageTokens::Ids)
        .or(image.clone().next());
    // The first layout that has a mark tells it.
    let mut marks: IndexMap<&String, &TokenLayout> = IndexMap::new();
    for layout in layouts {
        for mark in layout.marks.keys() {
            marks.entry(mark).or_insert(layout);
        }
    }
    let mut names: Vec<&str> = Vec::new();
    for name in layouts.iter().map(|layout| layout.name.as_str()) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    let mut joint = TokenLayout::empty(&names.join("_"));
    joint.text = text;
    joint.image = image.cloned().unwrap_or(ImageTokens::Ids);
    joint.grid = pictures.first().map_or(0, |layout| layout.grid);
    // Marks that are tokens of a tokenizer have their ids with it.
    let is_own = |mark: &String, layout: &TokenLayout| {
        let id = layout.marks.get(mark);
        id.is_none_or(|id| !layout.tokenizer_has(*id))
    };
    let (own, inside): (Vec<_>, Vec<_>) = marks
        .into_iter()
        .partition(|(mark, layout)| is_own(mark, layout));
    let place = |mark: &str| FIRST_MARKS.iter().position(|first| *first == mark);
    let (mut first, rest): (Vec<&String>, Vec<&String>) = own
        .into_iter()
        .map(|(mark, _)| mark)
        .partition(|mark| place(mark).is_some());
    first.sort_by_key(|mark| place(mark));
    first.iter().for_each(|mark| joint.add_mark(mark));
    joint.add(TokenKind::Text, texts_len);
    let images_inside = pictures
        .first()
        .filter(|layout| layout.tokenizer_has(layout.first(TokenKind::Image)));
    if let (Some(layout), None) = (pictures.first(), images_inside) {
        joint.add(TokenKind::Image, layout.count(TokenKind::Image));
    }
    let reserved = layouts
        .iter()
        .map(|layout| layout.count(TokenKind::Reserved));
    joint.add(TokenKind::Reserved, reserved.max().unwrap_or(0));
    rest.iter().for_each(|mark| joint.add_mark(mark));

    let moved = Moved::new(joint.text_ids.0, spelled.as_deref(), pieces);
    if let Some(layout) = images_inside {
        let (first, len) = (
            layout.first(TokenKind::Image),
            layout.count(TokenKind::Image),
        );
        let ids = moved.ids(layout, first..first + len);
        let ids = ids.filter(|ids| ids.iter().zip(ids[0]..).all(|(id, next)| *id == next));
        if !ids.is_some_and(|ids| joint.take_images(ids[0], len)) {
            return Err(format!(
                "the image tokens of `{}` do not follow one another in the joint tokenizer",
                layout.name
            ));
        }
    }
    for (mark, layout) in inside {
        let id = layout.marks[mark];
        let ids = moved.ids(layout, id..id + 1);
        if !ids.is_some_and(|ids| joint.take_mark(mark, ids[0])) {
            return Err(format!(
                "the mark `{mark}` of `{}` is no token of its own in the joint tokenizer",
                layout.name
            ));
        }
    }
    let even = layouts
        .iter()
        .map(|layout| layout.size.trailing_zeros())
        .min();
    let even = 1u64 << even.unwrap_or(0).min(MOST_EVEN);
    let filler = joint.size.next_multiple_of(even) - joint.size;
    joint.add(TokenKind::Filler, filler);
    if joint.size > u64::from(u32::MAX) {
        return Err(format!("together they have {} tokens", joint.size));
    }
    let keys = keys_of_one(&joint, spelled);
    Ok((joint, keys))
}

/// Where tokens of the parents' tokenizers are in the united one.
struct Moved<'a> {
    /// The joint id of its token 0.
    first: u64,
    /// Its tokens, and what knows the parents'; nothing where there is one tokenizer.
    spelled: Option<(HashMap<&'a str, u64>, &'a dyn Pieces)>,
}

impl<'a> Moved<'a> {
    fn new(first: u64, spelled: Option<&'a [String]>, pieces: Option<&'a dyn Pieces>) -> Moved<'a> {
        let spelled = spelled.zip(pieces).map(|(spelled, pieces)| {
            let places = spelled.iter().map(String::as_str).zip(0..);
            (places.collect(), pieces)
        });
        Moved { first, spelled }
    }

    /// The joint ids of tokens of a parent's tokenizer; `None` where one has none. There is at least one.
    fn ids(&self, layout: &TokenLayout, ids: Range<u64>) -> Option<Vec<u64>> {
        let start = layout.text_ids.0;
        let places = ids.map(|id| id.checked_sub(start));
        let Some((joint, pieces)) = &self.spelled else {
            return places.map(|place| Some(self.first + place?)).collect();
        };
        let own = pieces.pieces(&layout.text)?;
        let id = |place: Option<u64>| {
            let piece = own.get(usize::try_from(place?).ok()?)?;
            Some(self.first + joint.get(piece.as_str())?)
        };
        places.map(id).collect()
    }
}
