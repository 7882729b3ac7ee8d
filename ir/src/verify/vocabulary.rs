//! Axes, token layout and context.

use std::collections::HashSet;

use super::problems::{Place, Problems};
use crate::{END_MARK, Model, Op, Role, TokenKind};

/// Names, roles and sizes of axes.
pub(super) fn check_axes(model: &Model, problems: &mut Problems) {
    let mut names = HashSet::new();
    for axis in &model.axes {
        let mut report =
            |message: String| problems.add(Place::Axis(axis.name.clone()), None, message);
        if axis.name.is_empty() {
            report("an axis has no name".to_owned());
        }
        if !names.insert(axis.name.as_str()) {
            report("two axes have this name".to_owned());
        }
        match (axis.role.is_symbolic(), axis.size) {
            (true, Some(size)) => report(format!(
                "an axis of role {} has no size before a run, but this one has {size}",
                axis.role.word()
            )),
            (false, None) => report(format!("an axis of role {} has a size", axis.role.word())),
            (false, Some(0)) => report("an axis has at least one entry".to_owned()),
            _ => {}
        }
    }
    for role in [Role::Batch, Role::Time] {
        let count = model.axes.iter().filter(|axis| axis.role == role).count();
        if count != 1 {
            let message = format!("there are {count} axes of role {}, not one", role.word());
            problems.add(Place::Model, None, message);
        }
    }
}

/// Ranges, marks and size of the vocabulary.
pub(super) fn check_tokens(model: &Model, problems: &mut Problems) {
    let tokens = &model.tokens;
    let mut report = |message: String| problems.add(Place::Tokens, None, message);
    if tokens.size == 0 || tokens.size > u64::from(u32::MAX) {
        report(format!(
            "a vocabulary has between 1 and 2^32 - 1 ids, not {}",
            tokens.size
        ));
    }
    // Ends are of 128 bits: hostile ranges end beyond 64.
    let mut end = 0u128;
    for range in &tokens.ranges {
        if end != range.start.into() {
            report(format!(
                "the range of {} ids starts at {}, not at {end}, where the one before it ends",
                range.kind.word(),
                range.start
            ));
        }
        end = u128::from(range.start) + u128::from(range.len);
    }
    if end != tokens.size.into() {
        report(format!(
            "the ranges of ids end at {end}, not at {}, the size of the vocabulary",
            tokens.size
        ));
    }
    let (start, past) = tokens.text_ids;
    if start > past || past > tokens.size {
        report(format!(
            "the text tokenizer has the ids {start}..{past}, but the vocabulary has {}",
            tokens.size
        ));
    }
    for range in &tokens.ranges {
        let end = u128::from(range.start) + u128::from(range.len);
        let inside = range.start >= start && end <= past.into();
        let apart = end <= start.into() || range.start >= past;
        let fits = match range.kind {
            TokenKind::Text => inside,
            TokenKind::Mark | TokenKind::Image => inside || apart,
            TokenKind::Reserved | TokenKind::Filler => apart,
        };
        if !fits && range.len > 0 {
            report(format!(
                "the range of {} ids from {} on does not fit the ids of the text tokenizer, {start}..{past}",
                range.kind.word(),
                range.start
            ));
        }
    }
    if tokens.begin != END_MARK && !tokens.marks.contains_key(&tokens.begin) {
        report(format!(
            "documents begin with `{}`, which is no mark of the vocabulary",
            tokens.begin
        ));
    }
    for (name, id) in &tokens.marks {
        if *id >= tokens.size {
            report(format!("mark `{name}` has id {id}, beyond the vocabulary"));
        } else if tokens.kind(*id) != Some(TokenKind::Mark) {
            report(format!(
                "mark `{name}` has id {id}, which is that of no mark"
            ));
        }
    }
    if tokens.grid > u64::from(u16::MAX) {
        report(format!(
            "a picture of {} x {} tokens is too large",
            tokens.grid, tokens.grid
        ));
    }
    for axis in &model.axes {
        if axis.role == Role::Vocab && axis.size.is_some_and(|size| size != tokens.size) {
            let message = format!(
                "the axis has {} rows, but the vocabulary has {} ids",
                axis.size.unwrap_or(0),
                tokens.size
            );
            problems.add(Place::Axis(axis.name.clone()), None, message);
        }
    }
}

/// The context, and the rows of position tables that it needs.
pub(super) fn check_context(model: &Model, problems: &mut Problems) {
    if model.context == Some(0) {
        problems.add(Place::Model, None, "a context has at least one token");
    }
    for block in std::iter::once(&model.main).chain(model.blocks.values()) {
        for statement in &block.body {
            let Op::Positions { table, offset, .. } = &statement.op else {
                continue;
            };
            let Some(param) = block.params.get(table.0 as usize) else {
                continue; // Reported with the block.
            };
            let axis = param.ty.input.first();
            let rows = axis.and_then(|axis| model.axes.get(axis.0 as usize)?.size);
            let place = Place::Param {
                block: block.name.clone(),
                param: param.name.clone(),
            };
            let Some(context) = model.context else {
                let message = "a table of positions bounds the context, but none is given";
                problems.add(place, statement.span, message);
                continue;
            };
            let needed = context.checked_add(*offset);
            if let Some(rows) = rows
                && needed.is_none_or(|needed| needed > rows)
            {
                let message = format!(
                    "a context of {context} tokens from row {offset} on needs more than the \
                     {rows} rows of the position table"
                );
                problems.add(place, statement.span, message);
            }
        }
    }
}
