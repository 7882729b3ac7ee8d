//! Leaves out operations that change nothing: a factor of one, a cast to the type that a value
//! has, a slice of the whole or a concatenation of one part on the same axis, masks and choices of
//! no rows.
//!
//! ```text
//! model m {
//!   tokens "" { size = 6  text = ids  image = ids  grid = 0  range text = 0..6 }
//!   axis b: batch
//!   axis t: time
//!   axis width = 4
//!   axis vocab = 6
//!   main(tokens: u32[b, t]) -> f32[b, t, vocab] {
//!     param embed.table: f32[vocab -> width] = zeros
//!     x: f32[b, t, width] = embed tokens, embed.table
//!     once: f32[b, t, width] = scale x {by = 1.0}
//!     same: f32[b, t, width] = cast once {dtype = f32}
//!     all: f32[b, t, width] = slice same {start = 0, axis = width}
//!     twice: f32[b, t, width] = scale all {by = 2.0}
//!     logits: f32[b, t, vocab] = unembed twice, embed.table
//!     masked: f32[b, t, vocab] = mask_rows logits {rows = []}
//!     return masked
//!   }
//!   weights { embed.table = load(m) }
//! }
//! ```
//!
//! becomes
//!
//! ```text
//! model m {
//!   tokens "" { size = 6  text = ids  image = ids  grid = 0  range text = 0..6 }
//!   axis b: batch
//!   axis t: time
//!   axis width = 4
//!   axis vocab = 6
//!   main(tokens: u32[b, t]) -> f32[b, t, vocab] {
//!     param embed.table: f32[vocab -> width] = zeros
//!     x: f32[b, t, width] = embed tokens, embed.table
//!     twice: f32[b, t, width] = scale x {by = 2.0}
//!     logits: f32[b, t, vocab] = unembed twice, embed.table
//!     return logits
//!   }
//!   weights { embed.table = load(m) }
//! }
//! ```

use std::collections::BTreeMap;

use jam_ir::{Block, Model, Op, Statement, ValueId};

use super::dead_code::sweep_block;

/// Runs the pass; says whether anything was left out.
pub(crate) fn run(model: &mut Model) -> bool {
    let mut changed = fold(&mut model.main);
    for block in model.blocks.values_mut() {
        changed |= fold(block);
    }
    changed
}

fn fold(block: &mut Block) -> bool {
    let mut same: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    let statements = block.body.len();
    let body = std::mem::take(&mut block.body);
    for mut statement in body {
        let replace = |value: &mut ValueId| *value = same.get(value).copied().unwrap_or(*value);
        statement.op.for_each_operand(replace);
        match unchanged(block, &statement) {
            Some(operand) => {
                same.insert(statement.result, operand);
            }
            None => block.body.push(statement),
        }
    }
    block.result = same.get(&block.result).copied().unwrap_or(block.result);
    let changed = block.body.len() != statements;
    if changed {
        sweep_block(block); // Values that went with their statements.
    }
    changed
}

/// The operand that a statement gives back unchanged.
fn unchanged(block: &Block, statement: &Statement) -> Option<ValueId> {
    let operand = match &statement.op {
        Op::Scale { x, by } if *by == 1.0 => *x,
        Op::Cast { x, .. } => *x,
        Op::Slice { x, start: 0, .. } => *x,
        Op::Concat { parts, .. } => match parts.as_slice() {
            [part] => *part,
            _ => return None,
        },
        Op::MaskRows { x, rows } if rows.is_empty() => *x,
        Op::ChooseRows { a, b, second } if second.is_empty() || a == b => *a,
        _ => return None,
    };
    // Of one type means: the same element type and the same axes, whole.
    (block.value_of(operand).ty == block.value_of(statement.result).ty).then_some(operand)
}
