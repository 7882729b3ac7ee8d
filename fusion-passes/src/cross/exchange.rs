//! Cross blocks: a fresh block of the receiving parent whose keys and values read the other
//! tower's state.
//!
//! ```text
//! block decoder(x) {                      block decoder_cross(x, other) {
//!     n1 = layer_norm x                       n1 = layer_norm x
//!     q1 = linear n1, attn.q                  q1 = linear n1, attn.q
//!     k1 = linear n1, attn.k        →         k1 = linear other, attn.k    // [other's width -> …]
//!     v1 = linear n1, attn.v                  v1 = linear other, attn.v
//!     …                                       …                            // as in the layer
//! ```
//!
//! The norm on queries stays; the giver's state is read as it is, or through a norm like the one
//! that keys had (`kv_norm: yes`). Whatever else the layer has — norms on queries and keys, rotary
//! positions, biases, its feed-forward part — the cross block has too.

use std::collections::{BTreeMap, BTreeSet};

use jam_ir::{AxisId, Block, Op, ParamId, Plan, ValueId, ValueType};

use super::tower::Tower;
use crate::anatomy::{Layer, is_norm};
use crate::flatten::flatten;
use crate::fresh::MATRIX;

/// The cross block of a receiver's layer, for states of the giver of type `other`.
///
/// # Errors
/// Why keys and values cannot be made to read another state, to be read after a colon.
pub(super) fn cross_block(
    receiver: &Tower<'_>,
    layer: &Layer,
    other: ValueType,
    kv_norm: bool,
) -> Result<Block, String> {
    let mut block = receiver.block(&layer.block);
    let width = receiver.stream();
    let reads = find_reads(&block)?;

    let Some(giver) = other.axes.last().copied() else {
        return Err("the states have no features".to_owned());
    };
    let state = block.input("other", other.clone());
    let read = match kv_norm {
        true => norm_of_other(&mut block, &reads, width, (state, other, giver))?,
        false => state,
    };
    retarget(&mut block, &reads, read, (width, giver))?;
    make_fresh(&mut block);
    // Emitted anew, its values are numbered in the order of their definitions.
    Ok(flatten(receiver.model, &block, &[]))
}

/// Statements of a block that make keys and values.
struct Reads {
    /// Linear maps, in order.
    linears: BTreeSet<usize>,
    /// Definitions by value.
    defined: BTreeMap<ValueId, usize>,
}

/// The linear maps that keys and values come from.
fn find_reads(block: &Block) -> Result<Reads, String> {
    let statements = block.body.iter().enumerate();
    let defined: BTreeMap<ValueId, usize> = statements
        .map(|(index, statement)| (statement.result, index))
        .collect();
    let mut linears = BTreeSet::new();
    let mut queries = BTreeSet::new();
    for statement in &block.body {
        let Op::Attention { q, k, v, .. } = &statement.op else {
            continue;
        };
        queries.insert(source_linear(block, &defined, *q)?);
        linears.insert(source_linear(block, &defined, *k)?);
        linears.insert(source_linear(block, &defined, *v)?);
    }
    if linears.is_empty() {
        return Err("a layer has no attention".to_owned());
    }
    if !linears.is_disjoint(&queries) {
        return Err(
            "queries and keys come from one matrix; give each a matrix of its own".to_owned(),
        );
    }
    Ok(Reads { linears, defined })
}

/// The linear map that a query, key or value comes from, through norms and rotary positions.
fn source_linear(
    block: &Block,
    defined: &BTreeMap<ValueId, usize>,
    mut value: ValueId,
) -> Result<usize, String> {
    loop {
        let Some(index) = defined.get(&value) else {
            return Err("its keys or values come from no matrix".to_owned());
        };
        value = match &block.body[*index].op {
            Op::Linear { .. } => return Ok(*index),
            Op::Rotary { x, .. }
            | Op::LayerNorm { x, .. }
            | Op::RmsNorm { x, .. }
            | Op::Scale { x, .. }
            | Op::Cast { x, .. } => *x,
            op => {
                return Err(format!(
                    "its keys or values come from `{}`, not a matrix",
                    op.word()
                ));
            }
        };
    }
}

/// Adds a norm of the other state like the one that keys had, or like the block's first over its
/// width; gives its result, or the state itself where the block has no such norm.
fn norm_of_other(
    block: &mut Block,
    reads: &Reads,
    width: AxisId,
    (state, ty, giver): (ValueId, ValueType, AxisId),
) -> Result<ValueId, String> {
    let of_keys = reads
        .linears
        .iter()
        .find_map(|index| match &block.body[*index].op {
            Op::Linear { x, .. } => reads.defined.get(x).copied(),
            _ => None,
        });
    let over_width = |index: &usize| {
        let statement = &block.body[*index];
        is_norm(&statement.op) && block.value_of(statement.result).ty.axes.last() == Some(&width)
    };
    let like = of_keys
        .filter(over_width)
        .or_else(|| (0..block.body.len()).find(over_width));
    let Some(like) = like else {
        return Ok(state);
    };
    let span = block.body[like].span;
    let mut op = block.body[like].op.clone();
    let mut add = |id: &mut ParamId, name: &str| {
        let mut param = block.param_of(*id).clone();
        if param.ty.output != [width] {
            return Err("the norm of its keys has weights of another axis than its width");
        }
        param.name = free_param(block, name);
        param.ty.output = vec![giver];
        block.params.push(param);
        *id = ParamId(block.params.len() as u32 - 1);
        Ok(())
    };
    match &mut op {
        Op::LayerNorm {
            x,
            gain,
            bias,
            norm,
        } => {
            *x = state;
            gain.as_mut().map_or(Ok(()), |id| add(id, "kv_norm.gain"))?;
            bias.as_mut().map_or(Ok(()), |id| add(id, "kv_norm.bias"))?;
            norm.parts.clear();
        }
        Op::RmsNorm { x, gain, norm } => {
            *x = state;
            gain.as_mut().map_or(Ok(()), |id| add(id, "kv_norm.gain"))?;
            norm.parts.clear();
        }
        _ => {}
    }
    let id = block.push("other_norm", ty, op);
    if let Some(mut statement) = block.body.pop() {
        statement.span = span;
        block.body.insert(0, statement);
    }
    Ok(id)
}

fn free_param(block: &Block, name: &str) -> String {
    let mut free = name.to_owned();
    let mut number = 2;
    while block.params.iter().any(|param| param.name == free) {
        free = format!("{name}.{number}");
        number += 1;
    }
    free
}

/// Makes keys and values read another value, of features `giver` in the place of `width`.
fn retarget(
    block: &mut Block,
    reads: &Reads,
    read: ValueId,
    (width, giver): (AxisId, AxisId),
) -> Result<(), String> {
    // A norm of the other state was put at the front.
    let moved = block.body.first().is_some_and(|first| first.result == read);
    let mut weights = BTreeSet::new();
    for index in &reads.linears {
        let statement = &mut block.body[index + usize::from(moved)];
        if let Op::Linear { x, weight, .. } = &mut statement.op {
            *x = read;
            weights.insert(*weight);
        }
    }
    for weight in weights {
        let param = &mut block.params[weight.0 as usize];
        if param.ty.input != [width] {
            return Err(format!("`{}` does not read the layer's state", param.name));
        }
        param.ty.input = vec![giver];
    }
    Ok(())
}

/// Lets no matrix begin as zeros: in the authors' code a cross block begins like any other
/// block, its residual outputs included.
fn make_fresh(block: &mut Block) {
    let matrix = |param: &&jam_ir::Param| !param.ty.input.is_empty();
    let zero = |plan: &Plan| match plan {
        Plan::Zeros => true,
        Plan::Normal { sd } | Plan::TruncatedNormal { sd, .. } => *sd == 0.0,
        _ => false,
    };
    let inits = block.params.iter().filter(matrix).map(|param| &param.init);
    let mut inits = inits.filter(|init| !zero(init)).cloned();
    let init = inits.next().unwrap_or(MATRIX);
    drop(inits);
    for param in &mut block.params {
        if !param.ty.input.is_empty() && zero(&param.init) {
            param.init = init.clone();
        }
    }
}
