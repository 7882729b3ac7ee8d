//! Decoder-only transformers built straight from their sizes: what imports and tests start from.
//!
//! Names are those that the language gives: the token table is `embed.table`, learned positions
//! are `positions.table`, layer i is called at `layers.i` and holds `norm1.gain`, `attn.q`,
//! `attn.out_bias`, `mlp.up`, …; the last norm is `final_norm.gain`, an untied head
//! `unembed.weight`.

use indexmap::IndexMap;

use jam_ir::{
    Activation, AxisId, Block, DType, Mask, Model, Norm, Op, ParamId, Plan, Role, RotaryLayout,
    RotaryScaling, TokenLayout, ValueId, ValueType, Weight, WeightType,
};

/// Sizes and kinds of a decoder-only model.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Name of the model.
    pub name: String,
    /// Vocabulary.
    pub tokens: TokenLayout,
    /// Longest sequence, in tokens; learned positions have `context + offset` rows.
    pub context: u64,
    /// Features of the residual stream.
    pub width: u64,
    /// Number of layers.
    pub layers: u64,
    /// Query heads of a layer.
    pub heads: u64,
    /// Key/value heads of a layer; must divide `heads`.
    pub kv_heads: u64,
    /// Features of a head.
    pub head_dim: u64,
    /// Features between the matrices of the feed-forward part.
    pub hidden: u64,
    /// Function between the matrices of the feed-forward part.
    pub activation: Activation,
    /// Whether the feed-forward part is `down(act(gate(x)) · up(x))`.
    pub gated: bool,
    /// Norms of the layers and, with `norm_place` before, of the end.
    pub norm: NormConfig,
    /// Where the norms stand.
    pub norm_place: NormPlace,
    /// How positions enter.
    pub positions: PositionConfig,
    /// Whether the matrices of attention have biases.
    pub biases: bool,
    /// Whether the matrices of the feed-forward part have biases.
    pub mlp_biases: bool,
    /// Whether the head is the token table read backwards.
    pub tied: bool,
    /// Norms on queries and keys, over the features of a head.
    pub qk_norm: Option<QkNorm>,
    /// Half-open ranges of token ids whose logits are the lowest f32 (pictures in Chameleon), ascending
    /// and disjoint.
    pub masked: Vec<(u64, u64)>,
    /// Features of the token table where they differ from `width` (OPT-350m); the model then has
    /// `project_in.weight` and `project_out.weight`.
    pub embed_width: Option<u64>,
    /// Stored element type of the weights.
    pub dtype: DType,
    /// Source that every weight is loaded from under its own name; `None` for fresh weights.
    pub source: Option<String>,
}

/// A norm: its kind, constant and weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NormConfig {
    /// Layer norm or RMS norm.
    pub kind: NormKind,
    /// Whether it has a gain.
    pub affine: bool,
    /// Whether a layer norm with a gain has a bias too.
    pub bias: bool,
    /// Added to the variance or the mean square.
    pub eps: f64,
}

/// Kinds of norms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// Mean and variance ([`Op::LayerNorm`]).
    Layer,
    /// Mean square ([`Op::RmsNorm`]).
    Rms,
}

/// Where the norms of a layer stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormPlace {
    /// Before each part, and once after the last layer.
    Before,
    /// After each residual sum, with none at the end (OPT-350m).
    After,
    /// After each part and before its residual sum, and once after the last layer (the `swin_norm` of
    /// Chameleon, as in Swin Transformer V2).
    Inside,
}

/// Norms on queries and keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QkNorm {
    /// The norm, over the features of a head.
    pub norm: NormConfig,
    /// Whether every head has gains of its own, `[head, key]` (Chameleon), or all share `[key]`.
    pub per_head: bool,
}

/// How positions enter a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PositionConfig {
    /// A learned table whose first row in use is `offset`.
    Learned {
        /// First row in use (2 in OPT).
        offset: u64,
    },
    /// Rotations of queries and keys.
    Rotary {
        /// Base of the frequencies.
        base: f64,
        /// Which features form a pair.
        layout: RotaryLayout,
        /// How the angles were stretched for a longer context.
        scaling: RotaryScaling,
    },
}

impl DecoderConfig {
    /// OPT: layer norm before each part, biases, ReLU, learned positions with offset 2, tied head.
    pub fn opt(
        tokens: TokenLayout,
        context: u64,
        width: u64,
        layers: u64,
        heads: u64,
        hidden: u64,
    ) -> DecoderConfig {
        DecoderConfig {
            name: "opt".to_owned(),
            tokens,
            context,
            width,
            layers,
            heads,
            kv_heads: heads,
            head_dim: width / heads.max(1),
            hidden,
            activation: Activation::Relu,
            gated: false,
            norm: NormConfig {
                kind: NormKind::Layer,
                affine: true,
                bias: true,
                eps: 1e-5,
            },
            norm_place: NormPlace::Before,
            positions: PositionConfig::Learned { offset: 2 },
            biases: true,
            mlp_biases: true,
            tied: true,
            qk_norm: None,
            masked: Vec::new(),
            embed_width: None,
            dtype: DType::F32,
            source: None,
        }
    }

    /// CM3leon: OPT without biases and without weights in its norms.
    pub fn cm3leon(
        tokens: TokenLayout,
        context: u64,
        width: u64,
        layers: u64,
        heads: u64,
        hidden: u64,
    ) -> DecoderConfig {
        let mut config = DecoderConfig::opt(tokens, context, width, layers, heads, hidden);
        config.name = "cm3leon".to_owned();
        config.biases = false;
        config.mlp_biases = false;
        config.norm.affine = false;
        config.norm.bias = false;
        config
    }

    /// LLaMA: RMS norm, no biases, gated SiLU, rotary positions of base 10000, untied head.
    pub fn llama(
        tokens: TokenLayout,
        context: u64,
        width: u64,
        layers: u64,
        heads: u64,
        hidden: u64,
    ) -> DecoderConfig {
        let mut config = DecoderConfig::opt(tokens, context, width, layers, heads, hidden);
        config.name = "llama".to_owned();
        config.activation = Activation::Silu;
        config.gated = true;
        config.norm = NormConfig {
            kind: NormKind::Rms,
            affine: true,
            bias: false,
            eps: 1e-5,
        };
        config.positions = PositionConfig::Rotary {
            base: 10_000.0,
            layout: RotaryLayout::Halves,
            scaling: RotaryScaling::None,
        };
        config.biases = false;
        config.mlp_biases = false;
        config.tied = false;
        config
    }
}

/// The axes of a decoder.
struct Axes {
    width: AxisId,
    head: AxisId,
    kv: AxisId,
    key: AxisId,
    hidden: AxisId,
    vocab: AxisId,
    stream: Vec<AxisId>,
}

/// Standard deviation of fresh matrices and tables, before the cut at three of them.
const FRESH_SD: f64 = 0.02;

/// Builds the model that `config` describes. Sizes that do not fit one another (heads that
/// `kv_heads` does not divide, a token layout with gaps) are left to the verifier.
pub fn decoder_only(config: &DecoderConfig) -> Model {
    let mut model = Model {
        name: config.name.clone(),
        tokens: config.tokens.clone(),
        context: Some(config.context),
        axes: Vec::new(),
        blocks: IndexMap::new(),
        main: Block::new("main"),
        weights: IndexMap::new(),
    };
    let batch = model.add_axis("b", None, Role::Batch);
    let time = model.add_axis("t", None, Role::Time);
    let width = model.add_axis("width", Some(config.width), Role::Width);
    let axes = Axes {
        width,
        head: model.add_axis("head", Some(config.heads), Role::Heads),
        kv: model.add_axis("kv", Some(config.kv_heads), Role::KvHeads),
        key: model.add_axis("key", Some(config.head_dim), Role::HeadDim),
        hidden: model.add_axis("hidden", Some(config.hidden), Role::Hidden),
        vocab: model.add_axis("vocab", Some(config.tokens.size), Role::Vocab),
        stream: vec![batch, time, width],
    };
    model.main = main_block(config, &axes, &mut model);
    let block = decoder_block(config, &axes);
    model.blocks.insert(block.name.clone(), block);

    let weights = model.weight_uses().into_iter().map(|(name, param)| {
        let plan = match &config.source {
            Some(source) => Plan::load(source.clone(), name.clone()),
            None => param.init.clone(),
        };
        (name, Weight { plan, span: None })
    });
    model.weights = weights.collect();
    model
}

/// tokens `[b, t]` → logits `[b, t, vocab]`.
fn main_block(config: &DecoderConfig, axes: &Axes, model: &mut Model) -> Block {
    let mut builder = Builder::new("main", config);
    let [batch, time] = [axes.stream[0], axes.stream[1]];
    let token_type = ValueType {
        dtype: DType::U32,
        axes: vec![batch, time],
    };
    let tokens = builder.block.input("tokens", token_type);
    let embed_axis = match config.embed_width {
        Some(size) => model.add_axis("embed", Some(size), Role::Inner),
        None => axes.width,
    };
    let embed_stream = vec![batch, time, embed_axis];

    let table = builder.matrix("embed.table", &[axes.vocab], &[embed_axis]);
    let mut x = builder.push("embed", &embed_stream, Op::Embed { tokens, table });
    if config.embed_width.is_some() {
        let weight = builder.matrix("project_in.weight", &[embed_axis], &[axes.width]);
        x = builder.linear("project_in", x, weight, None, &axes.stream);
    }
    if let PositionConfig::Learned { offset } = config.positions {
        let rows = config.context.saturating_add(offset);
        let rows = model.add_axis("positions", Some(rows), Role::Positions);
        let table = builder.matrix("positions.table", &[rows], &[axes.width]);
        let op = Op::Positions {
            tokens,
            table,
            offset,
        };
        let positions = builder.push("positions", &axes.stream, op);
        x = builder.add("x", x, positions, &axes.stream);
    }
    for layer in 0..config.layers {
        let op = Op::Call {
            block: "decoder".to_owned(),
            args: vec![x],
            at: format!("layers.{layer}"),
        };
        x = builder.push(&format!("x{}", layer + 1), &axes.stream, op);
    }
    if config.norm_place != NormPlace::After {
        let norm = &config.norm;
        x = builder.norm("final_norm", x, norm, &axes.stream, &[axes.width]);
    }
    if config.embed_width.is_some() {
        let weight = builder.matrix("project_out.weight", &[axes.width], &[embed_axis]);
        x = builder.linear("project_out", x, weight, None, &embed_stream);
    }
    let logit_axes = vec![batch, time, axes.vocab];
    let mut logits = if config.tied {
        builder.push("logits", &logit_axes, Op::Unembed { x, table })
    } else {
        let weight = builder.matrix("unembed.weight", &[embed_axis], &[axes.vocab]);
        builder.linear("logits", x, weight, None, &logit_axes)
    };
    if config.dtype != DType::F32 {
        let ty = ValueType {
            dtype: DType::F32,
            axes: logit_axes,
        };
        let op = Op::Cast {
            x: logits,
            dtype: DType::F32,
        };
        logits = builder.block.push("logits_f32", ty, op);
    }
    if !config.masked.is_empty() {
        let ty = builder.block.value_of(logits).ty.clone();
        let op = Op::MaskRows {
            x: logits,
            rows: config.masked.clone(),
        };
        logits = builder.block.push("masked", ty, op);
    }
    builder.block.result = logits;
    builder.block
}

/// One layer: x `[b, t, width]` → `[b, t, width]`.
fn decoder_block(config: &DecoderConfig, axes: &Axes) -> Block {
    let mut builder = Builder::new("decoder", config);
    let stream = &axes.stream;
    let x = builder.block.input("x", builder.value_type(stream));
    let norm = |builder: &mut Builder<'_>, name: &str, x: ValueId, place: NormPlace| {
        if config.norm_place == place {
            builder.norm(name, x, &config.norm, stream, &[axes.width])
        } else {
            x
        }
    };

    let n = norm(&mut builder, "norm1", x, NormPlace::Before);
    let mut attended = attention(&mut builder, axes, n);
    attended = norm(&mut builder, "norm1", attended, NormPlace::Inside);
    let mut x1 = builder.add("x1", x, attended, stream);
    x1 = norm(&mut builder, "norm1", x1, NormPlace::After);
    let n = norm(&mut builder, "norm2", x1, NormPlace::Before);
    let mut fed = feed_forward(&mut builder, axes, n);
    fed = norm(&mut builder, "norm2", fed, NormPlace::Inside);
    let mut x2 = builder.add("x2", x1, fed, stream);
    x2 = norm(&mut builder, "norm2", x2, NormPlace::After);
    builder.block.result = x2;
    builder.block
}

/// Causal self-attention: `[b, t, width]` → `[b, t, width]`.
fn attention(builder: &mut Builder<'_>, axes: &Axes, x: ValueId) -> ValueId {
    let config = builder.config;
    let [batch, time] = [axes.stream[0], axes.stream[1]];
    let mut projected = Vec::with_capacity(3);
    for (name, heads) in [("q", axes.head), ("k", axes.kv), ("v", axes.kv)] {
        let side = [heads, axes.key];
        let shape = [batch, time, heads, axes.key];
        let weight = builder.matrix(&format!("attn.{name}"), &[axes.width], &side);
        let bias = builder.bias(config.biases, &format!("attn.{name}_bias"), &side);
        let mut value = builder.linear(name, x, weight, bias, &shape); // [b, t, heads, key]
        if let (Some(qk), true) = (&config.qk_norm, name != "v") {
            let gain: &[AxisId] = if qk.per_head { &side } else { &side[1..] };
            value = builder.norm(&format!("attn.{name}_norm"), value, &qk.norm, &shape, gain);
        }
        if let (
            PositionConfig::Rotary {
                base,
                layout,
                scaling,
            },
            true,
        ) = (config.positions, name != "v")
        {
            let op = Op::Rotary {
                x: value,
                base,
                layout,
                scaling,
            };
            value = builder.push(&format!("{name}_rotated"), &shape, op);
        }
        projected.push(value);
    }
    let op = Op::Attention {
        q: projected[0],
        k: projected[1],
        v: projected[2],
        mask: Mask::Causal,
        scale: (config.head_dim as f64).powf(-0.5),
    };
    let heads = builder.push("attended", &[batch, time, axes.head, axes.key], op);
    let weight = builder.matrix("attn.out", &[axes.head, axes.key], &[axes.width]);
    let bias = builder.bias(config.biases, "attn.out_bias", &[axes.width]);
    builder.linear("out", heads, weight, bias, &axes.stream)
}

/// The feed-forward part: `[b, t, width]` → `[b, t, width]`.
fn feed_forward(builder: &mut Builder<'_>, axes: &Axes, x: ValueId) -> ValueId {
    let config = builder.config;
    let inner = [axes.stream[0], axes.stream[1], axes.hidden];
    let project = |builder: &mut Builder<'_>, name: &str| {
        let weight = builder.matrix(&format!("mlp.{name}"), &[axes.width], &[axes.hidden]);
        let bias = builder.bias(
            config.mlp_biases,
            &format!("mlp.{name}_bias"),
            &[axes.hidden],
        );
        builder.linear(name, x, weight, bias, &inner)
    };
    let kind = config.activation;
    let active = if config.gated {
        let gate = project(builder, "gate");
        let up = project(builder, "up");
        let gate = builder.push("active", &inner, Op::Activation { x: gate, kind });
        builder.push("gated", &inner, Op::Mul { a: gate, b: up })
    } else {
        let up = project(builder, "up");
        builder.push("active", &inner, Op::Activation { x: up, kind })
    };
    let weight = builder.matrix("mlp.down", &[axes.hidden], &[axes.width]);
    let bias = builder.bias(config.mlp_biases, "mlp.down_bias", &[axes.width]);
    builder.linear("down", active, weight, bias, &axes.stream)
}

/// A block under construction.
struct Builder<'c> {
    config: &'c DecoderConfig,
    block: Block,
}

impl<'c> Builder<'c> {
    fn new(name: &str, config: &'c DecoderConfig) -> Builder<'c> {
        Builder {
            config,
            block: Block::new(name),
        }
    }

    fn value_type(&self, axes: &[AxisId]) -> ValueType {
        ValueType {
            dtype: self.config.dtype,
            axes: axes.to_vec(),
        }
    }

    fn push(&mut self, name: &str, axes: &[AxisId], op: Op) -> ValueId {
        let ty = self.value_type(axes);
        self.block.push(name, ty, op)
    }

    fn param(&mut self, name: &str, input: &[AxisId], output: &[AxisId], init: Plan) -> ParamId {
        let ty = WeightType {
            dtype: self.config.dtype,
            input: input.to_vec(),
            output: output.to_vec(),
        };
        self.block.param(name, ty, init)
    }

    fn matrix(&mut self, name: &str, input: &[AxisId], output: &[AxisId]) -> ParamId {
        let init = Plan::TruncatedNormal {
            sd: FRESH_SD,
            cut: 3.0,
        };
        self.param(name, input, output, init)
    }

    fn bias(&mut self, wanted: bool, name: &str, output: &[AxisId]) -> Option<ParamId> {
        wanted.then(|| self.param(name, &[], output, Plan::Zeros))
    }

    fn linear(
        &mut self,
        name: &str,
        x: ValueId,
        weight: ParamId,
        bias: Option<ParamId>,
        axes: &[AxisId],
    ) -> ValueId {
        self.push(name, axes, Op::Linear { x, weight, bias })
    }

    fn add(&mut self, name: &str, a: ValueId, b: ValueId, axes: &[AxisId]) -> ValueId {
        self.push(name, axes, Op::Add { a, b })
    }

    fn norm(
        &mut self,
        name: &str,
        x: ValueId,
        config: &NormConfig,
        axes: &[AxisId],
        gain_axes: &[AxisId],
    ) -> ValueId {
        let norm = Norm {
            eps: config.eps,
            parts: Vec::new(),
        };
        let gain = config
            .affine
            .then(|| self.param(&format!("{name}.gain"), &[], gain_axes, Plan::Ones));
        let op = match config.kind {
            NormKind::Layer => {
                let with_bias = config.affine && config.bias;
                let bias = with_bias
                    .then(|| self.param(&format!("{name}.bias"), &[], gain_axes, Plan::Zeros));
                Op::LayerNorm {
                    x,
                    gain,
                    bias,
                    norm,
                }
            }
            NormKind::Rms => Op::RmsNorm { x, gain, norm },
        };
        self.push(name, axes, op)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Σ over weights of the product of their sizes.
    fn parameters(model: &Model) -> u64 {
        let uses = model.weight_uses();
        let count = |param: &jam_ir::Param| model.weight_shape(&param.ty).unwrap();
        uses.values()
            .map(|param| count(param).iter().product::<u64>())
            .sum()
    }

    #[test]
    fn names_and_sizes_are_those_of_published_models() {
        let config = DecoderConfig::opt(TokenLayout::bare(50_272), 2048, 4096, 32, 32, 16384);
        let opt = decoder_only(&config);
        assert_eq!(parameters(&opt), 6_658_473_984);
        assert_eq!(opt.weights.len(), 2 + 32 * 16 + 2);

        let config = DecoderConfig::llama(TokenLayout::bare(32_000), 4096, 4096, 32, 32, 11008);
        let mut llama = decoder_only(&config);
        assert_eq!(parameters(&llama), 6_738_415_616);
        assert_eq!(llama.weights.len(), 1 + 32 * 9 + 2);
        for name in ["embed.table", "layers.31.mlp.gate", "unembed.weight"] {
            assert!(llama.weights.shift_remove(name).is_some(), "{name}");
        }
    }
}
