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
//! first one. The size is as even as the parents' sizes are (tables of a size that a power of two
//! divides are faster).

use indexmap::IndexMap;
use jam_ir::{ImageTokens, TextTokens, TokenKind, TokenLayout, TokenRange};

use super::{Keys, Pieces, count, keys_of_one};

/// Marks that stand before text.
const FIRST_MARKS: [&str; 4] = ["bos", "pad", "eos", "unk"];

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
    let length = count;
    let with = |kind| {
        layouts
            .iter()
            .filter(move |layout| length(layout, kind) > 0)
    };

    // Marks and pictures that are text tokens as well would need new ids in the tokenizer too.
    let apart = |layout: &&&TokenLayout| {
        let text = layout.rows(TokenKind::Text);
        text.len() < 2
            && text
                .iter()
                .all(|(start, _)| *start == layout.first(TokenKind::Text))
    };
    if let Some(mixed) = layouts.iter().find(|layout| !apart(layout)) {
        let name = &mixed.name;
        return Err(format!(
            "`{name}` has images or marks among the ids of its text tokens"
        ));
    }
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
    let longest = with(TokenKind::Text).map(|layout| length(layout, TokenKind::Text));
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
    let mut marks: Vec<&String> = Vec::new();
    for mark in layouts.iter().flat_map(|layout| layout.marks.keys()) {
        if !marks.contains(&mark) {
            marks.push(mark);
        }
    }
    let is_first = |mark: &&String| FIRST_MARKS.contains(&mark.as_str());
    let place = |mark: &&String| FIRST_MARKS.iter().position(|first| first == mark);
    let (mut first, rest): (Vec<&String>, Vec<&String>) = marks.into_iter().partition(is_first);
    first.sort_by_key(place);
    let reserved = |layout: &&TokenLayout| count(layout, TokenKind::Reserved);

    let mut names: Vec<&str> = Vec::new();
    for name in layouts.iter().map(|layout| layout.name.as_str()) {
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    let mut joint = TokenLayout {
        name: names.join("_"),
        size: 0,
        ranges: Vec::new(),
        marks: IndexMap::new(),
        text,
        image: image.cloned().unwrap_or(ImageTokens::Ids),
        grid: pictures.first().map_or(0, |layout| layout.grid),
    };
    let codes = pictures
        .first()
        .map_or(0, |layout| length(layout, TokenKind::Image));
    add_marks(&mut joint, &first);
    add(&mut joint, TokenKind::Text, texts_len);
    add(&mut joint, TokenKind::Image, codes);
    add(
        &mut joint,
        TokenKind::Reserved,
        layouts.iter().map(reserved).max().unwrap_or(0),
    );
    add_marks(&mut joint, &rest);
    let even = layouts
        .iter()
        .map(|layout| layout.size.trailing_zeros())
        .min();
    let even = 1u64 << even.unwrap_or(0).min(MOST_EVEN);
    let filler = joint.size.next_multiple_of(even) - joint.size;
    add(&mut joint, TokenKind::Filler, filler);
    if joint.size > u64::from(u32::MAX) {
        return Err(format!("together they have {} tokens", joint.size));
    }
    let keys = keys_of_one(&joint, spelled);
    Ok((joint, keys))
}

fn add(layout: &mut TokenLayout, kind: TokenKind, len: u64) {
    if len > 0 {
        let start = layout.size;
        layout.ranges.push(TokenRange { kind, start, len });
        layout.size += len;
    }
}

fn add_marks(layout: &mut TokenLayout, marks: &[&String]) {
    let start = layout.size;
    add(layout, TokenKind::Mark, marks.len() as u64);
    let ids = marks.iter().zip(start..);
    layout
        .marks
        .extend(ids.map(|(mark, id)| ((*mark).clone(), id)));
}
