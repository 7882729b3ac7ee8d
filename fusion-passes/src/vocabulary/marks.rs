//! The marks of a joint vocabulary.
//!
//! What is a mark of one parent is none of its text, and must not become text that the fused model writes:
//! a token that a parent marks is a mark of the joint vocabulary too. Where its name is that of another token
//! already (the ends of two tokenizers that spell them differently), it has a name of its own, `eos:2`, under
//! which nothing is written or asked for.

use std::collections::HashMap;

use jam_ir::{Diagnostic, END_MARK, TextTokens, TokenKind, TokenLayout};

use crate::Parent;
use crate::reports::{Place, note};

/// Makes every token a mark that is one of a parent. `rows` has, for every joint id, the row of each parent.
pub(super) fn join(joint: &mut TokenLayout, layouts: &[&TokenLayout], rows: &[Vec<Option<u64>>]) {
    for (layout, rows) in layouts.iter().zip(rows) {
        // Without words, nobody knows whether an id is one.
        let words = layout.text != TextTokens::Ids || joint.text == TextTokens::Ids;
        let mut places: HashMap<u64, Vec<u64>> = (layout.marks.values())
            .map(|id| (*id, Vec::new()))
            .collect();
        for (row, id) in rows.iter().zip(0..) {
            if let Some(found) = row.and_then(|row| places.get_mut(&row)) {
                found.push(id);
            }
        }
        for (mark, own) in &layout.marks {
            for id in &places[own] {
                if joint.kind(*id) == Some(TokenKind::Text) && !words {
                    continue;
                }
                if !joint.marks.contains_key(mark) {
                    joint.take_mark(mark, *id);
                } else if joint.kind(*id) == Some(TokenKind::Text) {
                    let mut names = (2..).map(|number| format!("{}:{number}", stem(mark)));
                    let free = names.find(|name| !joint.marks.contains_key(name));
                    joint.take_mark(&free.unwrap_or_default(), *id);
                }
            }
        }
    }
}

/// The mark that a name made here is another of: `eos` of `eos:2`.
fn stem(mark: &str) -> &str {
    match is_another(mark) {
        true => mark.split(':').next().unwrap_or(mark),
        false => mark,
    }
}

/// Whether a name was made here; copies of `mask` have numbers of their own.
pub(super) fn is_another(mark: &str) -> bool {
    mark.contains(':') && !mark.starts_with("mask:")
}

/// The mark that documents begin with: that of the first parent which has it, the one whose vocabulary it is
/// before all others.
pub(super) fn begin(joint: &TokenLayout, base: &TokenLayout, layouts: &[&TokenLayout]) -> String {
    let has = |layout: &&&TokenLayout| {
        let begin = &layout.begin;
        layout.marks.contains_key(begin) && joint.marks.contains_key(begin)
    };
    let found = [&base].into_iter().chain(layouts).find(has);
    found.map_or(END_MARK, |layout| &layout.begin).to_owned()
}

/// Whether a parent begins documents with another token than the fused model does.
pub(super) fn begin_differs(
    joint: &TokenLayout,
    layouts: &[&TokenLayout],
    rows: &[Vec<Option<u64>>],
) -> bool {
    let Some(begin) = joint.marks.get(&joint.begin) else {
        return false;
    };
    layouts.iter().zip(rows).any(|(layout, rows)| {
        let own = layout.marks.get(&layout.begin);
        own.is_some_and(|own| rows.get(*begin as usize).copied().flatten() != Some(*own))
    })
}

/// The note that parents begin documents with other marks.
pub(super) fn other_begin(parents: &[Parent<'_>], joint: &TokenLayout) -> Diagnostic {
    let begin = |parent: &Parent<'_>| format!("`begin = {}`", parent.model.tokens.begin);
    let places: Vec<Place<'_>> = parents
        .iter()
        .map(|parent| Place::new(parent, begin(parent)))
        .collect();
    let message = format!(
        "the parents begin documents with other marks: those of the fused model begin with `{}`",
        joint.begin
    );
    note(message, &places)
}
