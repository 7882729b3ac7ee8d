//! Cross blocks that begin as identities (`start: parents`): they add nothing to the state until
//! the first step of training.
//!
//! A block is a state to which parts are added. The last weights of every part begin as zeros
//! (Zhang et al., *Fixup Initialization*, 2019, of matrices; Goyal et al., *Accurate, Large Minibatch
//! SGD*, 2017, of the gain of a norm):
//!
//! ```text
//! n1 = layer_norm x                                n1 = layer_norm x
//! …                                                …
//! o = linear a, attn.out, attn.out_bias      →     o = linear a, attn.out, attn.out_bias   // = zeros
//! x1 = add x, o                                    x1 = add x, o                            // = x
//! ```
//!
//! Where a part ends in a norm with a gain, the gain begins as zeros instead: a norm of nearly
//! nothing is far from nothing. Norms on the state itself (after each sum, OPT-350m) would change
//! it whatever the parts give; here they are read by the next part alone:
//!
//! ```text
//! x1 = add x, o                                    x1 = add x, o
//! n1 = layer_norm x1                         →     n1 = layer_norm x1
//! m = … n1                                         m = … n1
//! x2 = add n1, m                                   x2 = add x1, m
//! n2 = layer_norm x2                               // the next layer has what follows
//! ```
//!
//! Zeros alone do not keep the others from learning: the last weights have a gradient at the first
//! step, and once they have moved, all others have one.

use std::collections::{BTreeMap, BTreeSet};

use jam_ir::{Block, Op, ParamId, Plan, Span, ValueId};

/// Makes a cross block of two states begin as the identity of the first.
///
/// # Errors
/// Why it has no such form, to be read after a colon, and where.
pub(super) fn begin_as_identity(block: &mut Block) -> Result<(), (Option<Span>, String)> {
    let defined: BTreeMap<ValueId, usize> = block
        .body
        .iter()
        .enumerate()
        .map(|(index, statement)| (statement.result, index))
        .collect();
    let Some(state) = block.inputs.first().copied() else {
        return Err((block.span, "they read no state".to_owned()));
    };
    let carriers = carriers(block, state);
    let mut ends = BTreeSet::new();
    // From the result back to the state, norms passed over.
    let bare = |block: &Block, mut value: ValueId| {
        while let Some(index) = defined.get(&value) {
            match &block.body[*index].op {
                Op::LayerNorm { x, .. } | Op::RmsNorm { x, .. } => value = *x,
                _ => break,
            }
        }
        value
    };
    let mut value = match carriers.contains(&block.result) {
        true => bare(block, block.result),
        false => {
            return Err((
                block.span,
                "their result is no sum with the state".to_owned(),
            ));
        }
    };
    block.result = value;
    while value != state {
        let Some(index) = defined.get(&value).copied() else {
            return Err((block.span, "they hand on another state".to_owned()));
        };
        let Op::Add { a, b } = block.body[index].op else {
            let word = block.body[index].op.word();
            let reason = format!("the state goes through `{word}`");
            return Err((block.body[index].span, reason));
        };
        let (kept, part) = match (carriers.contains(&a), carriers.contains(&b)) {
            (true, false) => (a, b),
            (false, true) => (b, a),
            _ => {
                let reason = "the state is added to itself".to_owned();
                return Err((block.body[index].span, reason));
            }
        };
        last_weights(block, &defined, part, &mut ends)?;
        let before = bare(block, kept);
        if let Op::Add { a, b } = &mut block.body[index].op {
            for operand in [a, b] {
                if *operand == kept {
                    *operand = before;
                }
            }
        }
        value = before;
    }
    for id in ends {
        block.params[id.0 as usize].init = Plan::Zeros;
    }
    Ok(())
}

/// Values that are the state, with parts added or normalised.
fn carriers(block: &Block, state: ValueId) -> BTreeSet<ValueId> {
    let mut carriers = BTreeSet::from([state]);
    for statement in &block.body {
        let carries = match &statement.op {
            Op::LayerNorm { x, .. } | Op::RmsNorm { x, .. } => {
                carriers.contains(x) && is_state(block, statement.result, state)
            }
            Op::Add { a, b } => carriers.contains(a) || carriers.contains(b),
            _ => false,
        };
        if carries {
            carriers.insert(statement.result);
        }
    }
    carriers
}

/// Whether a value has the axes of the state.
fn is_state(block: &Block, value: ValueId, state: ValueId) -> bool {
    block.value_of(value).ty.axes == block.value_of(state).ty.axes
}

/// Collects the weights that a part ends in, without which it is zero.
fn last_weights(
    block: &Block,
    defined: &BTreeMap<ValueId, usize>,
    part: ValueId,
    ends: &mut BTreeSet<ParamId>,
) -> Result<(), (Option<Span>, String)> {
    // A value may be read many times over (`y + y`): each is looked at once.
    let mut seen = BTreeSet::new();
    let mut open = vec![part];
    while let Some(value) = open.pop() {
        if !seen.insert(value) {
            continue;
        }
        let Some(index) = defined.get(&value).copied() else {
            return Err((block.span, "the other state is added as it is".to_owned()));
        };
        let statement = &block.body[index];
        match &statement.op {
            Op::Linear { weight, bias, .. } => {
                ends.insert(*weight);
                ends.extend(*bias);
            }
            Op::LayerNorm {
                gain: Some(gain),
                bias,
                ..
            } => {
                ends.insert(*gain);
                ends.extend(*bias);
            }
            Op::RmsNorm {
                gain: Some(gain), ..
            } => {
                ends.insert(*gain);
            }
            Op::LayerNorm { x, .. }
            | Op::RmsNorm { x, .. }
            | Op::Scale { x, .. }
            | Op::Cast { x, .. } => open.push(*x),
            Op::Add { a, b } => open.extend([*b, *a]),
            op => {
                let reason = format!("what they add ends in `{}`, not a matrix", op.word());
                return Err((statement.span, reason));
            }
        }
    }
    Ok(())
}
