//! Computes once what a block computes twice: statements of one operation on the same values
//! with the same weights, calls of one block at one path among them.
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
//!     a: f32[b, t, width] = relu x
//!     y: f32[b, t, width] = embed tokens, embed.table
//!     b: f32[b, t, width] = relu y
//!     sum: f32[b, t, width] = add a, b
//!     logits: f32[b, t, vocab] = unembed sum, embed.table
//!     return logits
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
//!     a: f32[b, t, width] = relu x
//!     sum: f32[b, t, width] = add a, a
//!     logits: f32[b, t, vocab] = unembed sum, embed.table
//!     return logits
//!   }
//!   weights { embed.table = load(m) }
//! }
//! ```

use std::collections::{BTreeMap, HashMap};

use jam_ir::{Block, Model, Op, ValueId};

use super::dead_code::sweep_block;

/// Runs the pass; says whether anything was shared.
pub(crate) fn run(model: &mut Model) -> bool {
    let mut changed = share(&mut model.main);
    for block in model.blocks.values_mut() {
        changed |= share(block);
    }
    changed
}

fn share(block: &mut Block) -> bool {
    let mut same: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    // Places in the body of statements with one word and one first operand: few to compare.
    let mut known: HashMap<(&'static str, Option<ValueId>), Vec<usize>> = HashMap::new();
    let statements = block.body.len();
    let body = std::mem::take(&mut block.body);
    for mut statement in body {
        let replace = |value: &mut ValueId| *value = same.get(value).copied().unwrap_or(*value);
        statement.op.for_each_operand(replace);
        let key = (statement.op.word(), first_operand(&statement.op));
        let alike = known.entry(key).or_default();
        let twin = alike.iter().map(|index| &block.body[*index]).find(|twin| {
            let (a, b) = (
                block.value_of(twin.result),
                block.value_of(statement.result),
            );
            twin.op == statement.op && a.ty == b.ty
        });
        match twin.map(|twin| twin.result) {
            Some(twin) => {
                same.insert(statement.result, twin);
            }
            None => {
                alike.push(block.body.len());
                block.body.push(statement);
            }
        }
    }
    block.result = same.get(&block.result).copied().unwrap_or(block.result);
    let changed = block.body.len() != statements;
    if changed {
        sweep_block(block); // Values that went with their statements.
    }
    changed
}

fn first_operand(op: &Op) -> Option<ValueId> {
    op.operands().first().copied()
}
