//! Leaves out what does not reach the logits: statements, values, parameters, blocks, axes and
//! weights.
//!
//! ```text
//! model m {
//!   tokens "" { size = 6  text = ids  image = ids  grid = 0  range text = 0..6 }
//!   axis b: batch
//!   axis t: time
//!   axis width = 4
//!   axis hidden = 8
//!   axis vocab = 6
//!   block layer(x: f32[b, t, width]) -> f32[b, t, width] {
//!     param gain: f32[width] = ones
//!     param up: f32[width -> hidden] = zeros
//!     u: f32[b, t, hidden] = linear x, up
//!     y: f32[b, t, width] = rms_norm x, gain {eps = 1e-5}
//!     return y
//!   }
//!   block other(x: f32[b, t, width]) -> f32[b, t, width] {
//!     y: f32[b, t, width] = relu x
//!     return y
//!   }
//!   main(tokens: u32[b, t]) -> f32[b, t, vocab] {
//!     param embed.table: f32[vocab -> width] = zeros
//!     x: f32[b, t, width] = embed tokens, embed.table
//!     y: f32[b, t, width] = call layer(x) at layers.0
//!     z: f32[b, t, width] = call other(y) at layers.1
//!     logits: f32[b, t, vocab] = unembed y, embed.table
//!     return logits
//!   }
//!   weights { embed.table = load(m)  layers.0.gain = load(m)  layers.0.up = load(m) }
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
//!   block layer(x: f32[b, t, width]) -> f32[b, t, width] {
//!     param gain: f32[width] = ones
//!     y: f32[b, t, width] = rms_norm x, gain {eps = 1e-5}
//!     return y
//!   }
//!   main(tokens: u32[b, t]) -> f32[b, t, vocab] {
//!     param embed.table: f32[vocab -> width] = zeros
//!     x: f32[b, t, width] = embed tokens, embed.table
//!     y: f32[b, t, width] = call layer(x) at layers.0
//!     logits: f32[b, t, vocab] = unembed y, embed.table
//!     return logits
//!   }
//!   weights { embed.table = load(m)  layers.0.gain = load(m) }
//! }
//! ```

use std::collections::{BTreeMap, BTreeSet};

use jam_ir::{AxisId, Block, Model, Op, ParamId, Role, ValueId};

/// Runs the pass; says whether anything was left out.
pub(crate) fn run(model: &mut Model) -> bool {
    let mut changed = sweep_block(&mut model.main);
    for block in model.blocks.values_mut() {
        changed |= sweep_block(block);
    }
    changed |= sweep_blocks(model);
    changed |= sweep_weights(model);
    changed | sweep_axes(model)
}

/// Statements, values and parameters of one block.
pub(super) fn sweep_block(block: &mut Block) -> bool {
    let mut live = BTreeSet::from([block.result]);
    for statement in block.body.iter().rev() {
        if live.contains(&statement.result) {
            live.extend(statement.op.operands());
        }
    }
    let statements = block.body.len();
    block
        .body
        .retain(|statement| live.contains(&statement.result));
    let mut changed = block.body.len() != statements;

    live.extend(block.inputs.iter().copied());
    let mut values = BTreeMap::new();
    let mut kept = Vec::new();
    for (index, value) in std::mem::take(&mut block.values).into_iter().enumerate() {
        let id = ValueId(index as u32);
        if live.contains(&id) {
            values.insert(id, ValueId(kept.len() as u32));
            kept.push(value);
        } else {
            changed = true;
        }
    }
    block.values = kept;

    let used = block
        .body
        .iter()
        .flat_map(|statement| statement.op.params());
    let used: BTreeSet<ParamId> = used.collect();
    let mut params = BTreeMap::new();
    let mut kept = Vec::new();
    for (index, param) in std::mem::take(&mut block.params).into_iter().enumerate() {
        let id = ParamId(index as u32);
        if used.contains(&id) {
            params.insert(id, ParamId(kept.len() as u32));
            kept.push(param);
        } else {
            changed = true;
        }
    }
    block.params = kept;

    // Every id that is left is in the maps: operands of live statements are live.
    let inputs = block.inputs.iter_mut();
    inputs.for_each(|value| *value = values[value]);
    block.result = values[&block.result];
    for statement in &mut block.body {
        statement.result = values[&statement.result];
        statement
            .op
            .for_each_operand(|value| *value = values[value]);
        statement.op.for_each_param(|param| *param = params[param]);
    }
    changed
}

/// Blocks that no call reaches.
fn sweep_blocks(model: &mut Model) -> bool {
    let mut reached: BTreeSet<String> = BTreeSet::new();
    let mut waiting = callees(&model.main);
    while let Some(name) = waiting.pop() {
        if let (Some(block), false) = (model.blocks.get(&name), reached.contains(&name)) {
            waiting.extend(callees(block));
            reached.insert(name);
        }
    }
    let before = model.blocks.len();
    model.blocks.retain(|name, _| reached.contains(name));
    model.blocks.len() != before
}

fn callees(block: &Block) -> Vec<String> {
    let ops = block.body.iter().map(|statement| &statement.op);
    let callees = ops.filter_map(|op| match op {
        Op::Call { block, .. } => Some(block.clone()),
        _ => None,
    });
    callees.collect()
}

/// Weights that nothing asks for.
fn sweep_weights(model: &mut Model) -> bool {
    let mut used = vec![false; model.weights.len()];
    model.for_each_weight_use(&mut |name, _| {
        if let Some(index) = model.weights.get_index_of(name) {
            used[index] = true;
        }
    });
    let before = model.weights.len();
    let mut used = used.into_iter();
    model.weights.retain(|_, _| used.next().unwrap_or(false));
    model.weights.len() != before
}

/// Axes that no type names; batch and time always stay.
fn sweep_axes(model: &mut Model) -> bool {
    let mut used: BTreeSet<AxisId> = BTreeSet::new();
    for_each_axis(model, |axis| {
        used.insert(*axis);
    });
    let mut axes = BTreeMap::new();
    let mut kept = Vec::new();
    let all = std::mem::take(&mut model.axes);
    let before = all.len();
    for (index, axis) in all.into_iter().enumerate() {
        let id = AxisId(index as u32);
        if used.contains(&id) || matches!(axis.role, Role::Batch | Role::Time) {
            axes.insert(id, AxisId(kept.len() as u32));
            kept.push(axis);
        }
    }
    model.axes = kept;
    for_each_axis(model, |axis| *axis = axes[axis]);
    model.axes.len() != before
}

/// Visits, and may replace, every axis that a type or an operation names.
fn for_each_axis(model: &mut Model, mut visit: impl FnMut(&mut AxisId)) {
    for block in std::iter::once(&mut model.main).chain(model.blocks.values_mut()) {
        crate::anatomy::for_each_axis_of(block, &mut visit);
    }
}
