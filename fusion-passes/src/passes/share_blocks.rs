//! Makes blocks that differ in name alone one: layers written twice, towers of one kind.
//!
//! ```text
//! model m {
//!   tokens "" { size = 6  text = ids  image = ids  grid = 0  range text = 0..6 }
//!   axis b: batch
//!   axis t: time
//!   axis width = 4
//!   axis vocab = 6
//!   block one(x: f32[b, t, width]) -> f32[b, t, width] {
//!     param scale: f32[width] = ones
//!     y: f32[b, t, width] = rms_norm x, scale {eps = 1e-5}
//!     return y
//!   }
//!   block two(x: f32[b, t, width]) -> f32[b, t, width] {
//!     param scale: f32[width] = ones
//!     y: f32[b, t, width] = rms_norm x, scale {eps = 1e-5}
//!     return y
//!   }
//!   main(tokens: u32[b, t]) -> f32[b, t, vocab] {
//!     param embed.table: f32[vocab -> width] = zeros
//!     x: f32[b, t, width] = embed tokens, embed.table
//!     y: f32[b, t, width] = call one(x) at first
//!     z: f32[b, t, width] = call two(y) at second
//!     logits: f32[b, t, vocab] = unembed z, embed.table
//!     return logits
//!   }
//!   weights { embed.table = load(m)  first.scale = load(m)  second.scale = load(m) }
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
//!   block one(x: f32[b, t, width]) -> f32[b, t, width] {
//!     param scale: f32[width] = ones
//!     y: f32[b, t, width] = rms_norm x, scale {eps = 1e-5}
//!     return y
//!   }
//!   main(tokens: u32[b, t]) -> f32[b, t, vocab] {
//!     param embed.table: f32[vocab -> width] = zeros
//!     x: f32[b, t, width] = embed tokens, embed.table
//!     y: f32[b, t, width] = call one(x) at first
//!     z: f32[b, t, width] = call one(y) at second
//!     logits: f32[b, t, vocab] = unembed z, embed.table
//!     return logits
//!   }
//!   weights { embed.table = load(m)  first.scale = load(m)  second.scale = load(m) }
//! }
//! ```

use std::collections::BTreeMap;

use jam_ir::{Block, Model, Op};

/// Runs the pass; says whether anything was shared.
pub(crate) fn run(model: &mut Model) -> bool {
    let mut changed = false;
    // Blocks that call shared blocks may become alike in their turn.
    while share(model) {
        changed = true;
    }
    changed
}

fn share(model: &mut Model) -> bool {
    let mut kept: Vec<(String, Block)> = Vec::new();
    let mut renamed: BTreeMap<String, String> = BTreeMap::new();
    for (name, block) in &model.blocks {
        let plain = without_places(block);
        match kept.iter().find(|(_, known)| *known == plain) {
            Some((known, _)) => {
                renamed.insert(name.clone(), known.clone());
            }
            None => kept.push((name.clone(), plain)),
        }
    }
    model.blocks.retain(|name, _| !renamed.contains_key(name));
    for block in model.blocks.values_mut().chain([&mut model.main]) {
        for statement in &mut block.body {
            if let Op::Call { block, .. } = &mut statement.op
                && let Some(known) = renamed.get(block)
            {
                block.clone_from(known);
            }
        }
    }
    !renamed.is_empty()
}

/// A block without its name and its places in the program.
pub(crate) fn without_places(block: &Block) -> Block {
    let mut plain = block.clone();
    plain.name.clear();
    plain.span = None;
    plain.params.iter_mut().for_each(|param| param.span = None);
    plain
        .body
        .iter_mut()
        .for_each(|statement| statement.span = None);
    plain
}
