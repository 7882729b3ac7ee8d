//! Random graphs: blocks, calls and a head.

use super::{Axes, Choices, plans, skeleton};
use jam_ir::infer::infer;
use jam_ir::{
    Activation, AxisId, Block, DType, Mask, Model, Norm, Op, ParamId, Role, RotaryLayout,
    RotaryScaling, ValueId, ValueType, WeightType,
};

/// A model without weights.
pub(super) fn graph(choices: &mut Choices<'_>) -> Model {
    let (model, axes, dtype) = skeleton(choices);
    let mut maker = Maker {
        choices,
        model,
        axes,
        dtype,
        signatures: Vec::new(),
        block: Block::new("main"),
    };
    for number in 0..1 + maker.choices.below(3) {
        maker.make_block(number);
    }
    maker.make_main();
    maker.model
}

/// Streams that a block takes; it gives one of the first's type.
struct Signature {
    name: String,
    streams: Vec<usize>,
}

struct Maker<'m, 'b> {
    choices: &'m mut Choices<'b>,
    model: Model,
    axes: Axes,
    dtype: DType,
    signatures: Vec<Signature>,
    /// The block under construction.
    block: Block,
}

impl Maker<'_, '_> {
    fn stream_type(&self, stream: usize) -> ValueType {
        ValueType {
            dtype: self.dtype,
            axes: vec![self.axes.batch, self.axes.time, self.axes.widths[stream]],
        }
    }

    /// Adds an operation that fits; one that does not is left out, and `x` stays.
    fn push(&mut self, name: &str, x: ValueId, op: Op) -> ValueId {
        let Ok(ty) = infer(&self.model, &self.block, &op) else {
            return x;
        };
        let name = self.choices.name(name);
        let id = self.block.push(name, ty, op);
        let span = self.choices.span();
        if let Some(statement) = self.block.body.last_mut() {
            statement.span = span;
        }
        id
    }

    fn param(&mut self, name: &str, input: &[AxisId], output: &[AxisId]) -> ParamId {
        let ty = WeightType {
            dtype: match self.choices.chance(10) {
                true => DType::F32,
                false => self.dtype,
            },
            input: input.to_vec(),
            output: output.to_vec(),
        };
        let shape = self.model.weight_shape(&ty).unwrap_or_default();
        let init = plans::fresh(self.choices, &shape);
        // The number makes the name unique in its block.
        let name = format!("{name}.{}", self.block.params.len());
        let name = self.choices.name(&name);
        let id = self.block.param(name, ty, init);
        let span = self.choices.span();
        if let Some(param) = self.block.params.last_mut() {
            param.span = span;
        }
        id
    }

    fn maybe_param(&mut self, name: &str, output: &[AxisId]) -> Option<ParamId> {
        self.choices
            .chance(50)
            .then(|| self.param(name, &[], output))
    }

    fn axes_of(&self, x: ValueId) -> Vec<AxisId> {
        self.block.value_of(x).ty.axes.clone()
    }

    /// `[…, in]` → `[…, out]`
    fn linear(&mut self, name: &str, x: ValueId, input: &[AxisId], output: &[AxisId]) -> ValueId {
        let weight = self.param(name, input, output);
        let bias = self.maybe_param("bias", output);
        self.push(name, x, Op::Linear { x, weight, bias })
    }

    fn norm(&mut self, x: ValueId) -> ValueId {
        let axes = self.axes_of(x);
        // Gains are of the last axis, or now and then of the last two (heads of their own).
        let per_head = axes.len() == 4 && self.choices.chance(50);
        let gain_axes = &axes[axes.len() - 1 - usize::from(per_head)..];
        let gain = self.maybe_param("gain", gain_axes);
        let size = axes
            .last()
            .and_then(|last| self.model.axis(*last).size)
            .unwrap_or(1);
        let mut parts = Vec::new();
        if size > 1 && self.choices.chance(20) {
            let first = self.choices.size(1, size - 1);
            parts = vec![first, size - first];
        }
        let eps = 1e-5 * self.choices.factor().abs();
        let norm = Norm { eps, parts };
        let op = match self.choices.below(2) {
            0 => Op::RmsNorm { x, gain, norm },
            _ => Op::LayerNorm {
                x,
                gain,
                bias: self.maybe_param("shift", gain_axes),
                norm,
            },
        };
        self.push("normed", x, op)
    }

    /// Queries from `x`, keys and values from `other`.
    fn attention(&mut self, x: ValueId, other: ValueId) -> ValueId {
        let Axes {
            heads,
            kv_heads,
            key,
            ..
        } = self.axes;
        let width = self.axes_of(x)[2];
        let other_width = self.axes_of(other)[2];
        let mut q = self.linear("q", x, &[width], &[heads, key]);
        let mut k = self.linear("k", other, &[other_width], &[kv_heads, key]);
        let v = self.linear("v", other, &[other_width], &[kv_heads, key]);
        if self.choices.chance(25) {
            q = self.norm(q);
            k = self.norm(k);
        }
        if self.choices.chance(40) {
            let base = 100.0 * self.choices.factor().abs();
            let layout = self
                .choices
                .pick(&[RotaryLayout::Halves, RotaryLayout::Pairs]);
            let scaling = self.choices.pick(&[
                RotaryScaling::None,
                RotaryScaling::Linear { factor: 2.5 },
                RotaryScaling::Dynamic { factor: 2.5 },
                RotaryScaling::Llama3 {
                    factor: 8.0,
                    low: 1.0,
                    high: 4.0,
                    original: 64,
                },
                RotaryScaling::Yarn {
                    factor: 4.0,
                    fast: 32.0,
                    slow: 1.0,
                    original: 64,
                    attention: 1.125,
                    whole: true,
                },
            ]);
            let rotary = |x| Op::Rotary {
                x,
                base,
                layout,
                scaling,
            };
            q = self.push("q_rotated", q, rotary(q));
            k = self.push("k_rotated", k, rotary(k));
        }
        let op = Op::Attention {
            q,
            k,
            v,
            mask: self.choices.pick(&[Mask::Causal, Mask::Full]),
            scale: self.choices.factor(),
        };
        let attended = self.push("attended", q, op);
        self.linear("out", attended, &[heads, key], &[width])
    }

    fn feed_forward(&mut self, x: ValueId) -> ValueId {
        let width = self.axes_of(x)[2];
        let hidden = self.axes.hidden;
        let up = self.linear("up", x, &[width], &[hidden]);
        let kind = self.choices.pick(&Activation::ALL);
        let mut active = self.push("active", up, Op::Activation { x: up, kind });
        if self.choices.chance(40) {
            let gate = self.linear("gate", x, &[width], &[hidden]);
            active = self.push("gated", active, Op::Mul { a: active, b: gate });
        }
        self.linear("down", active, &[hidden], &[width])
    }

    /// Cuts the features in two and puts them together the other way round.
    fn cut_and_join(&mut self, x: ValueId) -> ValueId {
        let width = self.axes_of(x)[2];
        let size = self.model.axis(width).size.unwrap_or(0);
        if size < 2 {
            return x;
        }
        let first = self.choices.size(1, size - 1);
        let mut parts = Vec::new();
        for (start, len) in [(first, size - first), (0, first)] {
            let name = format!("cut{}", self.model.axes.len());
            let axis = self.model.add_axis(name, Some(len), Role::Inner);
            parts.push(self.push("cut", x, Op::Slice { x, start, axis }));
        }
        let axis = width;
        self.push("joined", x, Op::Concat { parts, axis })
    }

    /// A call of a block that takes these streams, if there is one.
    fn call(&mut self, x: ValueId, streams: &[ValueId], path: String) -> ValueId {
        if self.signatures.is_empty() {
            return x;
        }
        let callee = self.choices.below(self.signatures.len());
        let mut args = Vec::new();
        for (index, stream) in self.signatures[callee].streams.iter().enumerate() {
            let ty = self.stream_type(*stream);
            let candidates = std::iter::once(&x).chain(streams);
            let mut fitting = candidates.filter(|id| self.block.value_of(**id).ty == ty);
            let arg = match index {
                0 => Some(&x).filter(|x| self.block.value_of(**x).ty == ty),
                _ => fitting.next(),
            };
            let Some(arg) = arg else { return x };
            args.push(*arg);
        }
        let op = Op::Call {
            block: self.signatures[callee].name.clone(),
            args,
            at: path,
        };
        self.push("called", x, op)
    }

    /// One step on a stream; `others` may be attended to.
    fn step(&mut self, x: ValueId, others: &[ValueId]) -> ValueId {
        let y = match self.choices.below(8) {
            0 => self.norm(x),
            1 => {
                let all = [&[x], others].concat();
                let other = self.choices.pick(&all);
                self.attention(x, other)
            }
            2 => self.feed_forward(x),
            3 => {
                let by = self.choices.factor();
                self.push("scaled", x, Op::Scale { x, by })
            }
            4 => self.cut_and_join(x),
            5 => {
                let path = format!("inner{}", self.block.body.len());
                let path = self.choices.name(&path);
                self.call(x, others, path)
            }
            6 => {
                let low = self.choices.pick(&[DType::F16, DType::BF16]);
                let y = self.push("low", x, Op::Cast { x, dtype: low });
                let dtype = self.dtype;
                self.push("back", y, Op::Cast { x: y, dtype })
            }
            _ => self.push("product", x, Op::Mul { a: x, b: x }),
        };
        match self.choices.chance(60) {
            true => self.push("sum", y, Op::Add { a: x, b: y }),
            false => y,
        }
    }

    fn make_block(&mut self, number: usize) {
        let name = self.choices.name(&format!("block{number}"));
        self.block = Block::new(name.clone());
        self.block.span = self.choices.span();
        let mut streams = vec![self.choices.below(self.axes.widths.len())];
        if self.choices.chance(40) {
            streams.push(self.choices.below(self.axes.widths.len()));
        }
        let mut inputs = Vec::new();
        for (index, stream) in streams.iter().enumerate() {
            let ty = self.stream_type(*stream);
            let name = self.choices.name(&format!("x{index}"));
            inputs.push(self.block.input(name, ty));
        }
        let mut x = inputs[0];
        for _ in 0..self.choices.below(5) {
            x = self.step(x, &inputs[1..]);
        }
        self.block.result = x;
        let block = std::mem::replace(&mut self.block, Block::new("main"));
        self.model.blocks.insert(name.clone(), block);
        self.signatures.push(Signature { name, streams });
    }

    fn make_main(&mut self) {
        let Axes {
            batch, time, vocab, ..
        } = self.axes;
        self.block = Block::new("main");
        let token_type = ValueType {
            dtype: DType::U32,
            axes: vec![batch, time],
        };
        let tokens = self.block.input("tokens", token_type);
        let mut streams = Vec::new();
        let mut tables = Vec::new();
        for width in self.axes.widths.clone() {
            let table = self.table("embed.table", vocab, width);
            tables.push(table);
            let mut x = self.push("embedded", tokens, Op::Embed { tokens, table });
            if self.choices.chance(50) {
                x = self.add_positions(tokens, x, width);
            }
            streams.push(x);
        }
        for layer in 0..self.choices.below(6) {
            let stream = self.choices.below(streams.len());
            // Calls at one path share their weights, as long as they call one block.
            let path = match (self.signatures.len(), self.choices.chance(20)) {
                (1, true) => "layers.shared".to_owned(),
                _ => self.choices.name(&format!("layers.{layer}")),
            };
            let others: Vec<ValueId> = streams.clone();
            streams[stream] = self.call(streams[stream], &others, path);
        }
        let logits = self.head(&streams, &tables);
        self.block.result = logits;
        let main = std::mem::replace(&mut self.block, Block::new("main"));
        self.model.main = main;
    }

    /// A table of the stored type: sums of looked-up rows need one type.
    fn table(&mut self, name: &str, rows: AxisId, width: AxisId) -> ParamId {
        let table = self.param(name, &[rows], &[width]);
        self.block.params[table.0 as usize].ty.dtype = self.dtype;
        table
    }

    fn add_positions(&mut self, tokens: ValueId, x: ValueId, width: AxisId) -> ValueId {
        let offset = self.choices.below(3) as u64;
        let spare = self.choices.below(3) as u64;
        let rows = self.model.context.unwrap_or(1) + offset + spare;
        let name = format!("positions{}", self.model.axes.len());
        let rows = self.model.add_axis(name, Some(rows), Role::Positions);
        let table = self.table("positions.table", rows, width);
        let op = Op::Positions {
            tokens,
            table,
            offset,
        };
        let positions = self.push("positions", x, op);
        self.push("x", x, Op::Add { a: x, b: positions })
    }

    /// Last states of the streams → logits `f32[b, t, vocab]`.
    fn head(&mut self, streams: &[ValueId], tables: &[ParamId]) -> ValueId {
        let mut logits = Vec::new();
        for (x, table) in streams.iter().zip(tables) {
            let (mut x, table) = (*x, *table);
            if self.choices.chance(50) {
                x = self.norm(x);
            }
            let y = match self.choices.below(2) {
                0 => self.push("logits", x, Op::Unembed { x, table }),
                _ => {
                    let width = self.axes_of(x)[2];
                    self.linear("unembed", x, &[width], &[self.axes.vocab])
                }
            };
            logits.push(y);
        }
        if streams.len() == 2 && self.choices.chance(30) {
            logits.push(self.joint_head(streams));
        }
        let mut x = logits[0];
        let size = self.model.tokens.size;
        for b in &logits[1..] {
            let split = self.choices.size(0, size - 1);
            let second = vec![(split, size)];
            x = self.push(
                "chosen",
                x,
                Op::ChooseRows {
                    a: x,
                    b: *b,
                    second,
                },
            );
        }
        if self.choices.chance(30) {
            let rows = match self.choices.below(2) {
                0 => Vec::new(),
                _ => vec![(0, 1), (size - 1, size)].split_off(usize::from(size < 3)),
            };
            x = self.push("masked", x, Op::MaskRows { x, rows });
        }
        if self.dtype != DType::F32 || self.choices.chance(10) {
            let dtype = DType::F32;
            x = self.push("result", x, Op::Cast { x, dtype });
        }
        x
    }

    /// Both streams side by side, and their logits.
    fn joint_head(&mut self, streams: &[ValueId]) -> ValueId {
        let sizes = self.axes.widths.iter().map(|id| self.model.axis(*id).size);
        let total = sizes.sum::<Option<u64>>();
        let joint = self.model.add_axis("joint", total, Role::Inner);
        let op = Op::Concat {
            parts: streams.to_vec(),
            axis: joint,
        };
        let both = self.push("both", streams[0], op);
        self.linear("joint_unembed", both, &[joint], &[self.axes.vocab])
    }
}
