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

use jam_ir::{Axis, AxisId, Block, Model, Op, ParamId, Role, ValueId};

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
    let mut live = vec![false; block.values.len()];
    live[block.result.0 as usize] = true;
    for statement in block.body.iter().rev() {
        if live[statement.result.0 as usize] {
            for operand in statement.op.operands() {
                live[operand.0 as usize] = true;
            }
        }
    }
    let statements = block.body.len();
    block
        .body
        .retain(|statement| live[statement.result.0 as usize]);
    for input in &block.inputs {
        live[input.0 as usize] = true;
    }
    let mut used = vec![false; block.params.len()];
    for statement in &block.body {
        for param in statement.op.params() {
            used[param.0 as usize] = true;
        }
    }
    if live.iter().chain(&used).all(|kept| *kept) {
        return block.body.len() != statements;
    }
    let values = keep(&mut block.values, &live);
    let params = keep(&mut block.params, &used);
    let value = |value: &mut ValueId| value.0 = values[value.0 as usize];
    block.inputs.iter_mut().for_each(value);
    value(&mut block.result);
    for statement in &mut block.body {
        value(&mut statement.result);
        statement.op.for_each_operand(value);
        let param = |param: &mut ParamId| param.0 = params[param.0 as usize];
        statement.op.for_each_param(param);
    }
    true
}

/// Keeps the entries that are wanted, in their order, and gives the place that each then has.
fn keep<T>(all: &mut Vec<T>, wanted: &[bool]) -> Vec<u32> {
    let mut kept = 0;
    let places = wanted.iter().map(|wanted| {
        let place = kept;
        kept += u32::from(*wanted);
        place
    });
    let places = places.collect();
    let mut wanted = wanted.iter();
    all.retain(|_| wanted.next() == Some(&true));
    places
}

/// Blocks that no call reaches.
fn sweep_blocks(model: &mut Model) -> bool {
    let mut reached = vec![false; model.blocks.len()];
    let mut waiting = vec![&model.main];
    while let Some(block) = waiting.pop() {
        for statement in &block.body {
            if let Op::Call { block, .. } = &statement.op
                && let Some((index, _, callee)) = model.blocks.get_full(block)
                && !reached[index]
            {
                reached[index] = true;
                waiting.push(callee);
            }
        }
    }
    let before = model.blocks.len();
    let mut reached = reached.into_iter();
    model.blocks.retain(|_, _| reached.next() == Some(true));
    model.blocks.len() != before
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
    model.weights.retain(|_, _| used.next() == Some(true));
    model.weights.len() != before
}

/// Axes that no type names; batch and time always stay.
fn sweep_axes(model: &mut Model) -> bool {
    let stays = |axis: &Axis| matches!(axis.role, Role::Batch | Role::Time);
    let mut used: Vec<bool> = model.axes.iter().map(stays).collect();
    for_each_axis(model, |axis| used[axis.0 as usize] = true);
    if used.iter().all(|used| *used) {
        return false;
    }
    let axes = keep(&mut model.axes, &used);
    for_each_axis(model, |axis| axis.0 = axes[axis.0 as usize]);
    true
}

/// Visits, and may replace, every axis that a type or an operation names.
fn for_each_axis(model: &mut Model, mut visit: impl FnMut(&mut AxisId)) {
    for block in std::iter::once(&mut model.main).chain(model.blocks.values_mut()) {
        crate::axes::for_each_axis_of(block, &mut visit);
    }
}
