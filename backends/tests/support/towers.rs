//! Two towers that read each other's states, with the heads that fused models end in.
#![allow(dead_code, reason = "each test file uses a part")]

use jam_ir::{
    Activation, AxisId, Block, DType, Mask, Model, Norm, Op, ParamId, Plan, Role, RotaryLayout,
    TokenLayout, ValueId, ValueType, Weight, WeightType,
};

/// How the towers' states become logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TowerHead {
    /// Side by side, through a matrix and a norm to the shared token table, some ids forbidden.
    Joint,
    /// A head per tower, one with a bias; logits by rows of the vocabulary, some ids forbidden.
    ChosenRows,
    /// The heads' sum through an activation: nothing that can be cut off as a head.
    Odd,
}

/// Ids of the towers' vocabulary.
pub(crate) const VOCAB: u32 = 60;

/// Ids that no token may have.
pub(crate) const FORBIDDEN: (u64, u64) = (50, 57);

/// Axes of the towers.
#[derive(Clone, Copy)]
struct Axes {
    b: AxisId,
    t: AxisId,
    width: AxisId,
    head: AxisId,
    kv: AxisId,
    key: AxisId,
    hidden: AxisId,
    vocab: AxisId,
    joint: AxisId,
}

/// A block under construction.
struct Builder {
    block: Block,
    axes: Axes,
}

impl Builder {
    fn new(name: &str, axes: Axes) -> Builder {
        Builder {
            block: Block::new(name),
            axes,
        }
    }

    fn ty(&self, trailing: &[AxisId]) -> ValueType {
        let axes = [self.axes.b, self.axes.t]
            .into_iter()
            .chain(trailing.iter().copied());
        ValueType {
            dtype: DType::F32,
            axes: axes.collect(),
        }
    }

    fn push(&mut self, name: &str, trailing: &[AxisId], op: Op) -> ValueId {
        let ty = self.ty(trailing);
        self.block.push(name, ty, op)
    }

    fn param(&mut self, name: &str, input: &[AxisId], output: &[AxisId]) -> ParamId {
        let ty = WeightType {
            dtype: DType::F32,
            input: input.to_vec(),
            output: output.to_vec(),
        };
        self.block.param(name, ty, Plan::Zeros)
    }

    fn linear(&mut self, name: &str, x: ValueId, from: &[AxisId], to: &[AxisId]) -> ValueId {
        let weight = self.param(name, from, to);
        let op = Op::Linear {
            x,
            weight,
            bias: None,
        };
        self.push(&format!("{name}.out"), to, op)
    }

    fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let width = self.axes.width;
        self.push("sum", &[width], Op::Add { a, b })
    }

    fn rms(&mut self, name: &str, x: ValueId, parts: Vec<u64>) -> ValueId {
        let width = self.axes.width;
        let gain = Some(self.param(name, &[], &[width]));
        let norm = Norm { eps: 1e-5, parts };
        self.push("normed", &[width], Op::RmsNorm { x, gain, norm })
    }

    /// Attention of `x` to `other`, grouped and with rotary positions, around a residual.
    fn attend(&mut self, x: ValueId, other: ValueId, layout: RotaryLayout) -> ValueId {
        let Axes {
            width,
            head,
            kv,
            key,
            ..
        } = self.axes;
        let n = self.rms("norm.gain", x, vec![8, 16]);
        let q = self.linear("q", n, &[width], &[head, key]);
        let k = self.linear("k", other, &[width], &[kv, key]);
        let v = self.linear("v", other, &[width], &[kv, key]);
        let base = 100.0;
        let q = self.push(
            "q.turned",
            &[head, key],
            Op::Rotary {
                x: q,
                base,
                layout,
                scaling: jam_ir::RotaryScaling::None,
            },
        );
        let k = self.push(
            "k.turned",
            &[kv, key],
            Op::Rotary {
                x: k,
                base,
                layout,
                scaling: jam_ir::RotaryScaling::None,
            },
        );
        // Per-head gains, as Chameleon has them.
        let gain = Some(self.param("q_norm.gain", &[], &[head, key]));
        let bias = Some(self.param("q_norm.bias", &[], &[head, key]));
        let norm = Norm {
            eps: 1e-5,
            parts: Vec::new(),
        };
        let op = Op::LayerNorm {
            x: q,
            gain,
            bias,
            norm,
        };
        let q = self.push("q.normed", &[head, key], op);
        let op = Op::Attention {
            q,
            k,
            v,
            mask: Mask::Causal,
            scale: 0.37,
        };
        let heads = self.push("attended", &[head, key], op);
        let out = self.linear("out", heads, &[head, key], &[width]);
        self.add(x, out)
    }

    /// A gated feed-forward part around a residual; the gate stands on the right.
    fn feed(&mut self, x: ValueId) -> ValueId {
        let Axes { width, hidden, .. } = self.axes;
        let up = self.linear("up", x, &[width], &[hidden]);
        let gate = self.linear("gate", x, &[width], &[hidden]);
        let kind = Activation::GeluTanh;
        let gate = self.push("gate.active", &[hidden], Op::Activation { x: gate, kind });
        let inner = self.push("gated", &[hidden], Op::Mul { a: up, b: gate });
        let down = self.linear("down", inner, &[hidden], &[width]);
        let half = self.push("half", &[width], Op::Scale { x: down, by: 0.5 });
        self.add(x, half)
    }
}

/// Two towers of two layers with an exchange in both directions between them.
pub(crate) fn towers(head: TowerHead) -> Model {
    let mut model = Model {
        name: "towers".to_owned(),
        tokens: TokenLayout::bare(u64::from(VOCAB)),
        context: Some(40),
        axes: Vec::new(),
        blocks: Default::default(),
        main: Block::new("main"),
        weights: Default::default(),
    };
    let axes = Axes {
        b: model.add_axis("b", None, Role::Batch),
        t: model.add_axis("t", None, Role::Time),
        width: model.add_axis("width", Some(24), Role::Width),
        head: model.add_axis("head", Some(4), Role::Heads),
        kv: model.add_axis("kv", Some(2), Role::KvHeads),
        key: model.add_axis("key", Some(6), Role::HeadDim),
        hidden: model.add_axis("hidden", Some(40), Role::Hidden),
        vocab: model.add_axis("vocab", Some(u64::from(VOCAB)), Role::Vocab),
        joint: model.add_axis("joint", Some(48), Role::Inner),
    };
    let places = model.add_axis("places", Some(41), Role::Positions);

    let mut layer = Builder::new("layer", axes);
    let x = layer.block.input("x", layer.ty(&[axes.width]));
    let x = layer.attend(x, x, RotaryLayout::Halves);
    layer.block.result = layer.feed(x);
    model.blocks.insert("layer".to_owned(), layer.block);

    let mut exchange = Builder::new("exchange", axes);
    let x = exchange.block.input("x", exchange.ty(&[axes.width]));
    let other = exchange.block.input("other", exchange.ty(&[axes.width]));
    exchange.block.result = exchange.attend(x, other, RotaryLayout::Pairs);
    model.blocks.insert("exchange".to_owned(), exchange.block);

    let mut main = Builder::new("main", axes);
    let tokens = main.block.input(
        "tokens",
        ValueType {
            dtype: DType::U32,
            axes: vec![axes.b, axes.t],
        },
    );
    let table = main.param("embed.table", &[axes.vocab], &[axes.width]);
    let x = main.push("x", &[axes.width], Op::Embed { tokens, table });
    let positions = main.param("positions.table", &[places], &[axes.width]);
    let op = Op::Positions {
        tokens,
        table: positions,
        offset: 1,
    };
    let p = main.push("p", &[axes.width], op);
    let x = main.add(x, p);
    let call = |main: &mut Builder, block: &str, args: &[ValueId], at: &str| {
        let op = Op::Call {
            block: block.to_owned(),
            args: args.to_vec(),
            at: at.to_owned(),
        };
        main.push("state", &[axes.width], op)
    };
    let a = call(&mut main, "layer", &[x], "a.layers.0");
    let b = call(&mut main, "layer", &[x], "b.layers.0");
    let a1 = call(&mut main, "exchange", &[a, b], "a.exchange");
    let b1 = call(&mut main, "exchange", &[b, a], "b.exchange");
    let a = call(&mut main, "layer", &[a1], "a.layers.1");
    let b = call(&mut main, "layer", &[b1], "b.layers.1");

    main.block.result = match head {
        TowerHead::Joint => {
            let axis = axes.joint;
            let parts = vec![a, b];
            let joint = main.push("joint", &[axis], Op::Concat { parts, axis });
            let x = main.linear("combine", joint, &[axis], &[axes.width]);
            let x = main.rms("final_norm.gain", x, Vec::new());
            let logits = main.push("logits", &[axes.vocab], Op::Unembed { x, table });
            let rows = vec![FORBIDDEN];
            main.push("allowed", &[axes.vocab], Op::MaskRows { x: logits, rows })
        }
        TowerHead::ChosenRows | TowerHead::Odd => {
            let first = main.push("first", &[axes.vocab], Op::Unembed { x: a, table });
            let weight = main.param("unembed.weight", &[axes.width], &[axes.vocab]);
            let bias = Some(main.param("unembed.bias", &[], &[axes.vocab]));
            let op = Op::Linear { x: b, weight, bias };
            let second = main.push("second", &[axes.vocab], op);
            let second = main.push("scaled", &[axes.vocab], Op::Scale { x: second, by: 0.7 });
            if head == TowerHead::Odd {
                let op = Op::Add {
                    a: first,
                    b: second,
                };
                let x = main.push("both", &[axes.vocab], op);
                let kind = Activation::Silu;
                main.push("bent", &[axes.vocab], Op::Activation { x, kind })
            } else {
                let op = Op::ChooseRows {
                    a: first,
                    b: second,
                    second: vec![(3, 20), (40, 60)],
                };
                let logits = main.push("chosen", &[axes.vocab], op);
                let rows = vec![FORBIDDEN];
                main.push("allowed", &[axes.vocab], Op::MaskRows { x: logits, rows })
            }
        }
    };
    model.main = main.block;
    let weights = model.weight_uses().into_iter().map(|(name, param)| {
        let plan = param.init.clone();
        (name, Weight { plan, span: None })
    });
    model.weights = weights.collect();
    if let Err(problems) = jam_ir::verify::verify(&model) {
        panic!("{problems:#?}");
    }
    model
}
