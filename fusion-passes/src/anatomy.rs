//! The parts of a parent: one stack of layers between its embedding and its head.
//!
//! ```text
//! tokens ── embedding ── layer ── layer ── … ── layer ── head ── logits
//!                      stack_in                    stack_out
//! ```
//!
//! A layer is a call in the main block that takes a state and gives one of the same type, and in
//! which there is attention. [`dissect`] also makes the parent plain: what does not reach the
//! logits is left out, and all calls but those of the layers are put in place, so that a layer's
//! block has no calls. Weights keep their full names.

use std::collections::{BTreeMap, BTreeSet};

use jam_ir::{AxisId, Block, Model, Op, ParamId, Role, Span, Statement, ValueId};

use crate::Parent;
use crate::flatten::flatten;
use crate::passes::dead_code;
use crate::reports::{Errors, Place, error};

/// One call of the stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layer {
    /// Block that is called.
    pub(crate) block: String,
    /// Path of its weights.
    pub(crate) at: String,
    /// Where the program asks for it.
    pub(crate) span: Option<Span>,
}

/// The parts of a parent, by places in its main block.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Anatomy {
    /// Statements of the embedding, in order.
    pub(crate) embedding: Vec<usize>,
    /// The one of them that looks tokens up.
    pub(crate) embed: usize,
    /// Those of them that look learned positions up.
    pub(crate) positions: Vec<usize>,
    /// State before the first layer.
    pub(crate) stack_in: ValueId,
    /// Features of the state: the residual stream.
    pub(crate) stream: AxisId,
    /// The layers, in order.
    pub(crate) layers: Vec<Layer>,
    /// State after the last layer.
    pub(crate) stack_out: ValueId,
    /// Statements of the head, in order.
    pub(crate) head: Vec<usize>,
    /// The one of them that normalises the last state, where there is one.
    pub(crate) norm: Option<usize>,
    /// The one of them that gives the vocabulary axis: an unembed or a linear.
    pub(crate) readout: usize,
}

/// A parent made plain, with its parts.
#[derive(Clone, Debug)]
pub(crate) struct Dissected {
    /// The parent's model, made plain.
    pub(crate) model: Model,
    /// Its parts.
    pub(crate) anatomy: Anatomy,
}

impl Anatomy {
    /// The token table.
    pub(crate) fn table(&self, model: &Model) -> Option<ParamId> {
        match &model.main.body.get(self.embed)?.op {
            Op::Embed { table, .. } => Some(*table),
            _ => None,
        }
    }
}

/// Takes a verified parent apart.
///
/// # Errors
/// Why it cannot be fused layer by layer: no layers, several stacks, states that are read from
/// elsewhere, more than one token table or head.
pub(crate) fn dissect(parent: &Parent<'_>) -> Result<Dissected, Vec<jam_ir::Diagnostic>> {
    let mut model = parent.model.clone();
    dead_code::run(&mut model);
    let stack = find_stack(parent, &model)?;
    let calls = |block: &Block| {
        block
            .body
            .iter()
            .filter(|s| matches!(s.op, Op::Call { .. }))
            .count()
    };
    let names: BTreeSet<String> = stack
        .iter()
        .map(|index| callee(&model.main, *index))
        .collect();
    let nested = names.iter().any(|name| calls(&model.blocks[name]) > 0);
    if nested || calls(&model.main) > stack.len() {
        for name in names {
            let block = flatten(&model, &model.blocks[&name], &[]);
            model.blocks.insert(name, block);
        }
        model.main = flatten(&model, &model.main, &stack);
        dead_code::run(&mut model);
    }
    let anatomy = divide(parent, &model)?;
    Ok(Dissected { model, anatomy })
}

/// Name of the block that a statement calls; empty where it is no call.
fn callee(block: &Block, index: usize) -> String {
    match &block.body[index].op {
        Op::Call { block, .. } => block.clone(),
        _ => String::new(),
    }
}

/// Statements of the main block that call the layers, in order.
fn find_stack(parent: &Parent<'_>, model: &Model) -> Result<Vec<usize>, Vec<jam_ir::Diagnostic>> {
    let main = &model.main;
    let attending = attending_blocks(model);
    // Calls that keep the type of a state, by the state that they read.
    let mut by_operand: BTreeMap<ValueId, usize> = BTreeMap::new();
    let mut results: BTreeSet<ValueId> = BTreeSet::new();
    let mut with_attention: BTreeSet<usize> = BTreeSet::new();
    for (index, statement) in main.body.iter().enumerate() {
        let Op::Call { block, args, .. } = &statement.op else {
            continue;
        };
        if attending.contains(block) {
            with_attention.insert(index);
        }
        if let [state] = args.as_slice()
            && main.value_of(*state).ty == main.value_of(statement.result).ty
        {
            by_operand.entry(*state).or_insert(index);
            results.insert(statement.result);
        }
    }
    let mut chains: Vec<Vec<usize>> = Vec::new();
    for (state, first) in &by_operand {
        if results.contains(state) {
            continue;
        }
        let mut chain = vec![*first];
        let mut last = *first;
        while let Some(next) = by_operand.get(&main.body[last].result) {
            chain.push(*next);
            last = *next;
        }
        // A call without attention at either end is part of the embedding or the head, unless
        // its block is called between others too (layers of an attention and a feed-forward call).
        let attends = |index: &usize| with_attention.contains(index);
        let (first, last) = (
            chain.iter().position(attends),
            chain.iter().rposition(attends),
        );
        if let (Some(first), Some(last)) = (first, last) {
            let inner: BTreeSet<String> = chain[first..=last]
                .iter()
                .map(|index| callee(main, *index))
                .collect();
            let repeated = |index: &usize| inner.contains(&callee(main, *index));
            let start = chain.iter().position(repeated).unwrap_or(first);
            let end = chain.iter().rposition(repeated).unwrap_or(last);
            chains.push(chain[start..=end].to_vec());
        }
    }
    let name = &parent.source;
    chains.sort_by_key(|chain| std::cmp::Reverse(chain.len()));
    let Some(stack) = chains.first() else {
        let message = format!("`{name}` has no stack of layers to fuse");
        let report = error(message, &[Place::new(parent, "no repeated layers")])
            .help("write its layers as a block with attention, `repeat N { x = layer(x) }`");
        return Err(vec![report]);
    };
    let inside: BTreeSet<usize> = stack.iter().copied().collect();
    if let Some(other) = with_attention.difference(&inside).next() {
        let message = format!(
            "`{name}` has more than one stack of layers; a fusion needs one between embedding \
             and head"
        );
        let place = Place::new(parent, "layers that are not one after the other");
        let report = error(message, &[place.inside(main.body[*other].span)]);
        return Err(vec![report]);
    }
    let mut readers: BTreeMap<ValueId, usize> = BTreeMap::new();
    for value in main
        .body
        .iter()
        .flat_map(|statement| statement.op.operands())
    {
        *readers.entry(value).or_default() += 1;
    }
    for index in &stack[..stack.len() - 1] {
        let state = main.body[*index].result;
        if readers.get(&state) != Some(&1) || main.result == state {
            let message = format!(
                "state `{}` between two layers of `{name}` is read by more than the next layer",
                main.value_of(state).name
            );
            let place = Place::new(parent, "states of its layers are read elsewhere");
            return Err(vec![error(
                message,
                &[place.inside(main.body[*index].span)],
            )]);
        }
    }
    Ok(stack.clone())
}

/// Blocks in which there is attention, by themselves or by what they call.
fn attending_blocks(model: &Model) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = BTreeSet::new();
    loop {
        let before = found.len();
        for (name, block) in &model.blocks {
            let attends = block.body.iter().any(|statement| match &statement.op {
                Op::Attention { .. } => true,
                Op::Call { block, .. } => found.contains(block),
                _ => false,
            });
            if attends {
                found.insert(name.clone());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// Divides a plain parent, whose only calls are its layers.
fn divide(parent: &Parent<'_>, model: &Model) -> Result<Anatomy, Vec<jam_ir::Diagnostic>> {
    let main = &model.main;
    let name = &parent.source;
    let mut errors = Errors::default();
    let mut layers = Vec::new();
    let (mut stack_in, mut stack_out) = (main.result, main.result);
    for statement in &main.body {
        if let Op::Call { block, args, at } = &statement.op {
            if layers.is_empty() {
                stack_in = args.first().copied().unwrap_or(main.result);
            }
            stack_out = statement.result;
            layers.push(Layer {
                block: block.clone(),
                at: at.clone(),
                span: statement.span,
            });
        }
    }
    let is_layer = |statement: &Statement| matches!(statement.op, Op::Call { .. });
    let embedding = closure(main, stack_in, None);
    let head = closure(main, main.result, Some(stack_out));
    let crossing = head.iter().find(|index| {
        let operands = main.body[**index].op.operands();
        let early = |value: &ValueId| {
            main.inputs.contains(value)
                || embedding
                    .iter()
                    .any(|index| main.body[*index].result == *value)
        };
        embedding.contains(index) || operands.iter().any(early)
    });
    if let Some(index) = crossing {
        let message = format!("the head of `{name}` reads more than the last layer's state");
        let place = Place::new(parent, "its head reads the embedding");
        errors.add(error(message, &[place.inside(main.body[*index].span)]));
    }
    let of = |part: &[usize], wanted: fn(&Op) -> bool| -> Vec<usize> {
        let found = part.iter().filter(|index| wanted(&main.body[**index].op));
        found.copied().collect()
    };
    let embeds = of(&embedding, |op| matches!(op, Op::Embed { .. }));
    if embeds.len() != 1 || main.body.iter().filter(|s| is_embed(s)).count() != 1 {
        let message = format!(
            "`{name}` looks tokens up {} times; a fusion needs one token table",
            main.body.iter().filter(|s| is_embed(s)).count()
        );
        errors.add(error(message, &[Place::new(parent, "its embedding")]));
    }
    let gives_vocab = |index: &&usize| {
        let statement = &main.body[**index];
        let projects = matches!(statement.op, Op::Unembed { .. } | Op::Linear { .. });
        let last = main.value_of(statement.result).ty.axes.last();
        projects && last.is_some_and(|axis| model.axis(*axis).role == Role::Vocab)
    };
    let readouts: Vec<usize> = head.iter().filter(gives_vocab).copied().collect();
    if readouts.len() != 1 {
        let message = format!(
            "`{name}` computes logits in {} places; a fusion needs one head",
            readouts.len()
        );
        errors.add(error(message, &[Place::new(parent, "its head")]));
    }
    let readers: Vec<&usize> = head
        .iter()
        .filter(|index| main.body[**index].op.operands().contains(&stack_out))
        .collect();
    let norm = match readers.as_slice() {
        [index] if is_norm(&main.body[**index].op) => Some(**index),
        _ => None,
    };
    let stream = main.value_of(stack_in).ty.axes.last().copied();
    if stream.is_none() || main.body.iter().filter(|s| is_layer(s)).count() != layers.len() {
        errors.add(error(
            format!("the layers of `{name}` pass no features on"),
            &[Place::new(parent, "its layers")],
        ));
    }
    errors.check()?;
    Ok(Anatomy {
        positions: of(&embedding, |op| matches!(op, Op::Positions { .. })),
        embed: embeds[0],
        embedding,
        stack_in,
        stream: stream.unwrap_or(AxisId(0)),
        layers,
        stack_out,
        norm,
        readout: readouts[0],
        head,
    })
}

fn is_embed(statement: &Statement) -> bool {
    matches!(statement.op, Op::Embed { .. })
}

/// Whether an operation is a norm.
pub(crate) fn is_norm(op: &Op) -> bool {
    matches!(op, Op::LayerNorm { .. } | Op::RmsNorm { .. })
}

/// Statements that a value is computed by, in order, without those before `stop`.
fn closure(block: &Block, value: ValueId, stop: Option<ValueId>) -> Vec<usize> {
    let mut live = BTreeSet::from([value]);
    let mut found = Vec::new();
    for (index, statement) in block.body.iter().enumerate().rev() {
        if live.contains(&statement.result) && Some(statement.result) != stop {
            live.extend(statement.op.operands());
            found.push(index);
        }
    }
    found.reverse();
    found
}
