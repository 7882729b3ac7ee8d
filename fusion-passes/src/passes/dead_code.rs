//! Leaves out what does not reach the logits: statements, values, parameters, blocks, axes and
//! weights.

use std::collections::{BTreeMap, BTreeSet};

use jam_ir::{AxisId, Block, Model, Op, ParamId, Role, ValueId};

/// Runs the pass; says whether anything was left out.
pub(crate) fn run(model: &mut Model) -> bool {
    let mut changed = sweep_block(&mut model.main);
    for block in model.blocks.values_mut() {
        changed |= sweep_block(block);
    }
    changed |= sweep_blocks(model);
    let used: BTreeSet<String> = model.weight_uses().into_keys().collect();
    let before = model.weights.len();
    model.weights.retain(|name, _| used.contains(name));
    changed |= model.weights.len() != before;
    changed | sweep_axes(model)
}

/// Statements, values and parameters of one block.
fn sweep_block(block: &mut Block) -> bool {
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
