//! Which decoder a graph is: the other direction of [`decoder`](super::decoder).
//!
//! Sizes and kinds are read off the graph, a decoder is built from them, and the two graphs are unified from
//! their logits back: every operation has its counterpart with equal constants and sizes, and every
//! weight has its one. Names of values, blocks and weights do not matter, nor how layers are cut into blocks.

use std::collections::BTreeMap;

use indexmap::IndexMap;

use jam_ir::{AxisId, Block, DType, Model, Norm, Op, Param, ParamId, ValueId, join_path};

use super::decoder::{
    DecoderConfig, NormConfig, NormKind, NormPlace, PositionConfig, QkNorm, decoder_only,
};

/// What a graph was recognised as.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recognised {
    /// The sizes and kinds that it can be built from.
    pub(super) config: DecoderConfig,
    /// The weights of [`decoder_only`] of it, by name, each with its name in the model.
    pub(super) weights: IndexMap<String, String>,
}

/// The decoder that a verified model is, with its weights.
///
/// # Errors
/// Why it is none: what differs first between the graph and the decoder that is nearest to it.
pub(super) fn recognise(model: &Model) -> Result<Recognised, String> {
    let nodes = Nodes::of(model);
    let config = nodes.sizes(model)?;
    let mut reason = String::new();
    for norm_place in [NormPlace::Before, NormPlace::Inside, NormPlace::After] {
        let config = DecoderConfig {
            norm_place,
            ..config.clone()
        };
        let built = decoder_only(&config);
        let mut unifier = Unifier::new(Nodes::of(&built), &nodes);
        let (first, second) = (unifier.pattern.result, nodes.result);
        if !unifier.unify(first, second) {
            if reason.is_empty() {
                reason = unifier.reason;
            }
            continue;
        }
        let found = unifier.weights;
        let names = built.weights.keys();
        let weights: IndexMap<String, String> = names
            .filter_map(|name| Some((name.clone(), found.get(name)?.clone())))
            .collect();
        if weights.len() == built.weights.len() && weights.len() == model.weight_uses().len() {
            return Ok(Recognised { config, weights });
        }
        reason = "some of its weights are used twice".to_owned();
    }
    Err(reason)
}

/// An operation, with calls put in their place.
struct Node {
    /// The operation; what it refers to is 0.
    op: Op,
    operands: Vec<usize>,
    /// Full names and sizes.
    params: Vec<(String, Vec<u64>, DType)>,
    /// Sizes of the result; `None` for batch and time.
    sizes: Vec<Option<u64>>,
}

/// The operations that lead to logits; casts to f32, which change no number that is computed, are left out.
struct Nodes {
    list: Vec<Node>,
    result: usize,
}

impl Nodes {
    fn of(model: &Model) -> Nodes {
        let mut nodes = Nodes {
            list: Vec::new(),
            result: 0,
        };
        let tokens = nodes.input(model, &model.main);
        nodes.result = nodes.emit(model, &model.main, "", tokens);
        nodes
    }

    /// Nodes for the inputs of the main block.
    fn input(&mut self, model: &Model, block: &Block) -> BTreeMap<ValueId, usize> {
        let mut values = BTreeMap::new();
        for input in &block.inputs {
            // An input is told from others by its place.
            let by = self.list.len() as f64;
            self.list.push(Node {
                op: Op::Scale { x: ValueId(0), by },
                operands: Vec::new(),
                params: Vec::new(),
                sizes: sizes(model, &block.value_of(*input).ty.axes),
            });
            values.insert(*input, self.list.len() - 1);
        }
        values
    }

    /// Adds the operations of a block at `path`; the node of its result.
    fn emit(
        &mut self,
        model: &Model,
        block: &Block,
        path: &str,
        mut values: BTreeMap<ValueId, usize>,
    ) -> usize {
        for statement in &block.body {
            let operands: Vec<usize> = statement.op.operands().iter().map(|v| values[v]).collect();
            let node = match &statement.op {
                Op::Call {
                    block: name, at, ..
                } if model.blocks.contains_key(name) => {
                    let callee = &model.blocks[name];
                    let inner = callee.inputs.iter().copied().zip(operands).collect();
                    self.emit(model, callee, &join_path(path, at), inner)
                }
                Op::Cast {
                    dtype: DType::F32, ..
                } => operands[0],
                op => {
                    let weight = |id: ParamId| {
                        let param: &Param = block.param_of(id);
                        let shape = model.weight_shape(&param.ty).unwrap_or_default();
                        (join_path(path, &param.name), shape, param.ty.dtype)
                    };
                    let value = block.value_of(statement.result);
                    self.list.push(Node {
                        params: op.params().map(weight).collect(),
                        op: bare(op),
                        operands,
                        sizes: sizes(model, &value.ty.axes),
                    });
                    self.list.len() - 1
                }
            };
            values.insert(statement.result, node);
        }
        values.get(&block.result).copied().unwrap_or(0)
    }

    fn find(&self, wanted: impl Fn(&Op) -> bool) -> Option<&Node> {
        self.list.iter().find(|node| wanted(&node.op))
    }

    /// The sizes and kinds of a decoder, where there is one of each kind of operation that it has.
    fn sizes(&self, model: &Model) -> Result<DecoderConfig, String> {
        let missing = |what: &str| format!("it has no {what}");
        let embed = self.find(|op| matches!(op, Op::Embed { .. }));
        let embed = embed.ok_or_else(|| missing("token table"))?;
        let is_attention = |op: &Op| matches!(op, Op::Attention { .. });
        let attention = self.find(is_attention);
        let attention = attention.ok_or_else(|| missing("attention"))?;
        let layers = self.list.iter().filter(|node| is_attention(&node.op));
        let layers = layers.count() as u64;
        let act = self.find(|op| matches!(op, Op::Activation { .. }));
        let act = act.ok_or_else(|| missing("feed-forward part"))?;
        let Op::Activation { kind, .. } = act.op else {
            return Err(missing("feed-forward part"));
        };
        let size = |node: &Node, axis: usize| node.sizes.get(axis).copied().flatten().unwrap_or(0);
        let queries = self.of_heads(attention.operands[0]);
        let keys = &self.list[attention.operands[1]];
        let projection = &self.list[queries.projection];
        let width = projection.params.first().and_then(|p| p.1.first());
        let width = *width.ok_or_else(|| missing("matrix of queries"))?;
        let embed_width = size(embed, 2);
        let into_act = &self.list[act.operands[0]];
        let has_bias = |node: &Node| matches!(node.op, Op::Linear { bias: Some(_), .. });
        let norm = self.list.iter().find_map(|node| match node.sizes.len() {
            3 => norm_of(node),
            _ => None,
        });
        let norm = norm.ok_or_else(|| missing("norm"))?;
        let positions = match queries.rotary {
            Some(positions) => positions,
            None => match self
                .find(|op| matches!(op, Op::Positions { .. }))
                .map(|n| &n.op)
            {
                Some(Op::Positions { offset, .. }) => PositionConfig::Learned { offset: *offset },
                _ => return Err(missing("positions")),
            },
        };
        let masked = match self
            .find(|op| matches!(op, Op::MaskRows { .. }))
            .map(|n| &n.op)
        {
            Some(Op::MaskRows { rows, .. }) => rows.clone(),
            _ => Vec::new(),
        };
        let stored: Vec<DType> = self
            .list
            .iter()
            .flat_map(|node| node.params.iter().map(|param| param.2))
            .collect();
        let one_type = stored.windows(2).all(|pair| pair[0] == pair[1]);
        Ok(DecoderConfig {
            name: model.name.clone(),
            tokens: model.tokens.clone(),
            context: model.context.ok_or_else(|| missing("context"))?,
            width,
            layers,
            heads: size(attention, 2),
            kv_heads: size(keys, 2),
            head_dim: size(attention, 3),
            hidden: size(act, 2),
            activation: kind,
            gated: self.find(|op| matches!(op, Op::Mul { .. })).is_some(),
            norm,
            norm_place: NormPlace::Before,
            positions,
            biases: has_bias(projection),
            mlp_biases: has_bias(into_act),
            tied: self.find(|op| matches!(op, Op::Unembed { .. })).is_some(),
            qk_norm: queries.norm,
            masked,
            embed_width: (embed_width != width).then_some(embed_width),
            dtype: match stored.first() {
                Some(dtype) if one_type => *dtype,
                _ => DType::F32,
            },
            source: None,
        })
    }

    /// What is done to queries between their matrix and attention.
    fn of_heads(&self, mut at: usize) -> Queries {
        let (mut rotary, mut norm) = (None, None);
        loop {
            let node = &self.list[at];
            match &node.op {
                Op::Rotary {
                    base,
                    layout,
                    scaling,
                    ..
                } => {
                    rotary = Some(PositionConfig::Rotary {
                        base: *base,
                        layout: *layout,
                        scaling: *scaling,
                    });
                }
                Op::LayerNorm { .. } | Op::RmsNorm { .. } => {
                    let per_head = node.params.first().is_some_and(|p| p.1.len() == 2);
                    norm = norm_of(node).map(|norm| QkNorm { norm, per_head });
                }
                _ => break,
            }
            at = node.operands[0];
        }
        Queries {
            projection: at,
            rotary,
            norm,
        }
    }
}

/// How queries come to be.
struct Queries {
    projection: usize,
    rotary: Option<PositionConfig>,
    norm: Option<QkNorm>,
}

/// The kind of a norm.
fn norm_of(node: &Node) -> Option<NormConfig> {
    let (kind, gain, bias, norm): (_, _, _, &Norm) = match &node.op {
        Op::LayerNorm {
            gain, bias, norm, ..
        } => (NormKind::Layer, gain, bias.is_some(), norm),
        Op::RmsNorm { gain, norm, .. } => (NormKind::Rms, gain, false, norm),
        _ => return None,
    };
    Some(NormConfig {
        kind,
        affine: gain.is_some(),
        bias,
        eps: norm.eps,
    })
}

fn sizes(model: &Model, axes: &[AxisId]) -> Vec<Option<u64>> {
    axes.iter().map(|axis| model.axis(*axis).size).collect()
}

/// The operation without what it refers to.
fn bare(op: &Op) -> Op {
    let mut op = op.clone();
    op.for_each_operand(|value| *value = ValueId(0));
    op.for_each_param(|param| *param = ParamId(0));
    match &mut op {
        Op::Concat { axis, .. } | Op::Slice { axis, .. } => *axis = AxisId(0),
        _ => {}
    }
    op
}

/// Pairs the operations of two graphs.
struct Unifier<'a> {
    pattern: Nodes,
    nodes: &'a Nodes,
    /// Nodes of the pattern that have their counterpart.
    pairs: BTreeMap<usize, usize>,
    weights: BTreeMap<String, String>,
    /// What was paired, in order, so that a trial can be taken back.
    trail: Vec<Step>,
    /// Why the trial failed that paired the most, and how much that was.
    reason: String,
    paired: usize,
}

enum Step {
    Pair(usize),
    Weight(String),
}

impl<'a> Unifier<'a> {
    fn new(pattern: Nodes, nodes: &'a Nodes) -> Unifier<'a> {
        Unifier {
            pattern,
            nodes,
            pairs: BTreeMap::new(),
            weights: BTreeMap::new(),
            trail: Vec::new(),
            reason: String::new(),
            paired: 0,
        }
    }

    /// Notes why a trial failed, where it came further than those before it.
    fn fails(&mut self, reason: String) -> bool {
        if self.reason.is_empty() || self.trail.len() > self.paired {
            self.paired = self.trail.len();
            self.reason = reason;
        }
        false
    }

    /// Pairs two nodes and what they read.
    fn unify(&mut self, first: usize, second: usize) -> bool {
        if let Some(known) = self.pairs.get(&first) {
            return *known == second;
        }
        let (a, b) = (&self.pattern.list[first], &self.nodes.list[second]);
        if a.op != b.op || a.sizes != b.sizes || a.operands.len() != b.operands.len() {
            let reason = format!(
                "it has `{}` where a decoder has `{}`",
                b.op.word(),
                a.op.word()
            );
            return self.fails(reason);
        }
        let weights: Vec<(String, String)> = a
            .params
            .iter()
            .zip(&b.params)
            .map(|(a, b)| (a.0.clone(), b.0.clone()))
            .collect();
        if a.params.len() != b.params.len()
            || a.params.iter().zip(&b.params).any(|(a, b)| a.1 != b.1)
        {
            let reason = format!("a weight of `{}` has another shape", b.op.word());
            return self.fails(reason);
        }
        let commutes = matches!(a.op, Op::Add { .. } | Op::Mul { .. });
        let (left, right) = (a.operands.clone(), b.operands.clone());
        let mark = self.trail.len();
        for (name, other) in weights {
            match self.weights.get(&name) {
                Some(known) if *known != other => {
                    let reason = format!("`{other}` stands where `{known}` does elsewhere");
                    self.fails(reason);
                    self.undo(mark);
                    return false;
                }
                Some(_) => {}
                None => {
                    self.weights.insert(name.clone(), other);
                    self.trail.push(Step::Weight(name));
                }
            }
        }
        self.pairs.insert(first, second);
        self.trail.push(Step::Pair(first));
        let begun = self.trail.len();
        let orders: &[bool] = if commutes { &[false, true] } else { &[false] };
        for swapped in orders {
            let paired = left.iter().enumerate().all(|(i, &operand)| {
                let other = if *swapped { right[1 - i] } else { right[i] };
                self.unify(operand, other)
            });
            if paired {
                return true;
            }
            self.undo(begun);
        }
        self.undo(mark);
        false
    }

    fn undo(&mut self, mark: usize) {
        for step in self.trail.drain(mark..) {
            match step {
                Step::Pair(node) => drop(self.pairs.remove(&node)),
                Step::Weight(name) => drop(self.weights.remove(&name)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jam_ir::{Activation, RotaryLayout, RotaryScaling, TokenLayout};

    fn configs() -> Vec<DecoderConfig> {
        let tokens = TokenLayout::bare(20);
        let opt = DecoderConfig::opt(tokens.clone(), 16, 8, 3, 2, 12);
        let mut projected = opt.clone();
        projected.embed_width = Some(4);
        projected.norm_place = NormPlace::After;
        let mut llama = DecoderConfig::llama(tokens.clone(), 16, 8, 2, 4, 12);
        llama.kv_heads = 1;
        llama.head_dim = 6;
        llama.dtype = DType::BF16;
        llama.positions = PositionConfig::Rotary {
            base: 500.0,
            layout: RotaryLayout::Pairs,
            scaling: RotaryScaling::Linear { factor: 2.0 },
        };
        let mut chameleon = llama.clone();
        chameleon.norm_place = NormPlace::Inside;
        chameleon.masked = vec![(3, 5), (7, 8)];
        chameleon.qk_norm = Some(QkNorm {
            norm: opt.norm,
            per_head: true,
        });
        vec![
            opt,
            projected,
            DecoderConfig::cm3leon(tokens, 16, 8, 2, 2, 12),
            llama,
            chameleon,
        ]
    }

    #[test]
    fn a_decoder_is_recognised_as_what_it_was_built_from() {
        for config in configs() {
            let model = decoder_only(&config);
            let found = recognise(&model).unwrap();
            assert_eq!(found.config, config);
            assert!(found.weights.iter().all(|(name, own)| name == own));
            assert_eq!(found.weights.len(), model.weights.len());
        }
    }

    #[test]
    fn names_and_orders_do_not_matter_and_operations_do() {
        let config = &configs()[3];
        let mut model = decoder_only(config);
        let mut block = model.blocks.shift_remove("decoder").unwrap();
        block.name = "layer".to_owned();
        for statement in &mut block.body {
            if let Op::Add { a, b } = &mut statement.op {
                std::mem::swap(a, b);
            }
        }
        for param in &mut block.params {
            param.name = format!("own.{}", param.name);
        }
        model.blocks.insert(block.name.clone(), block);
        for statement in &mut model.main.body {
            if let Op::Call { block, at, .. } = &mut statement.op {
                *block = "layer".to_owned();
                *at = at.replace("layers", "stack");
            }
        }
        let found = recognise(&model).unwrap();
        assert_eq!(found.config, *config);
        assert_eq!(found.weights["layers.1.attn.q"], "stack.1.own.attn.q");
        for statement in &mut model.blocks["layer"].body {
            if let Op::Activation { kind, .. } = &mut statement.op {
                *kind = Activation::Relu;
            }
        }
        assert_eq!(
            recognise(&model).unwrap().config.activation,
            Activation::Relu
        );
        for statement in &mut model.blocks["layer"].body {
            if let Op::Attention { scale, .. } = &mut statement.op {
                *scale *= 2.0;
            }
        }
        assert!(recognise(&model).unwrap_err().contains("`attention`"));
    }
}
