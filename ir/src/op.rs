//! The operations of a graph.

use serde::{Deserialize, Serialize};

use crate::{Activation, AxisId, DType, ParamId, RotaryScaling, ValueId};

/// Which keys a query may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mask {
    /// Keys at the query's own position and before.
    Causal,
    /// Every key that is not padding.
    Full,
}

impl Mask {
    /// The word of the text form.
    pub fn word(self) -> &'static str {
        match self {
            Mask::Causal => "causal",
            Mask::Full => "full",
        }
    }

    /// The mask of a word of the text form.
    pub fn from_word(word: &str) -> Option<Mask> {
        let masks = [Mask::Causal, Mask::Full];
        masks.into_iter().find(|mask| mask.word() == word)
    }
}

/// How rotary positions pair the features of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RotaryLayout {
    /// Feature i with feature i + key/2 (Hugging Face).
    Halves,
    /// Feature 2i with feature 2i + 1 (Meta's original checkpoints).
    Pairs,
}

impl RotaryLayout {
    /// The word of the text form and of the language.
    pub fn word(self) -> &'static str {
        match self {
            RotaryLayout::Halves => "halves",
            RotaryLayout::Pairs => "pairs",
        }
    }

    /// The layout of a word.
    pub fn from_word(word: &str) -> Option<RotaryLayout> {
        let layouts = [RotaryLayout::Halves, RotaryLayout::Pairs];
        layouts.into_iter().find(|layout| layout.word() == word)
    }
}

/// A normalisation: its constant, and how the last axis is divided.
///
/// `parts` lists the lengths of consecutive runs of the last axis that are normalised on their
/// own (JAM-Width with `norm: halves`); empty means the whole axis at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Norm {
    /// Added to the variance (layer norm) or the mean square (RMS norm).
    pub eps: f64,
    /// Lengths of the runs normalised on their own; empty for the whole last axis.
    pub parts: Vec<u64>,
}

/// One operation. Operands are values of the same block; weights are parameters of the block.
///
/// In shapes b and t are batch and time, `…` any leading axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Rows of a token table: tokens `u32[b, t]`, table `[vocab -> width]` → `[b, t, width]`.
    Embed {
        /// Token ids.
        tokens: ValueId,
        /// Token table.
        table: ParamId,
    },
    /// Rows of a learned position table `[positions -> width]` → `[b, t, width]`.
    ///
    /// Row `position + offset`, where a token's position is the number of tokens before it that
    /// are not padding.
    Positions {
        /// Token ids, for batch and time.
        tokens: ValueId,
        /// Position table.
        table: ParamId,
        /// First row in use (2 in OPT and CM3leon).
        offset: u64,
    },
    /// `[…, in…]` and weight `[in… -> out…]` → `[…, out…]`, plus a bias `[out…]`.
    Linear {
        /// Operand; its last axes are the weight's input side.
        x: ValueId,
        /// Weight `[in… -> out…]`.
        weight: ParamId,
        /// Bias `[out…]`.
        bias: Option<ParamId>,
    },
    /// `[b, t, width]` and the token table `[vocab -> width]`, read backwards → `[b, t, vocab]`.
    Unembed {
        /// Last states.
        x: ValueId,
        /// Token table.
        table: ParamId,
    },
    /// (x − mean) / √(variance + eps) · gain + bias over the last axis.
    LayerNorm {
        /// Operand.
        x: ValueId,
        /// Gain; its axes are the last axes of `x`.
        gain: Option<ParamId>,
        /// Bias, of the gain's shape.
        bias: Option<ParamId>,
        /// Constant and division.
        norm: Norm,
    },
    /// x / √(mean square + eps) · gain over the last axis.
    RmsNorm {
        /// Operand.
        x: ValueId,
        /// Gain; its axes are the last axes of `x`.
        gain: Option<ParamId>,
        /// Constant and division.
        norm: Norm,
    },
    /// Rotary positions on `[b, t, heads, key]`.
    Rotary {
        /// Queries or keys.
        x: ValueId,
        /// Base of the frequencies (10000 in LLaMA).
        base: f64,
        /// Which features form a pair.
        layout: RotaryLayout,
        /// How the angles were stretched for a longer context.
        #[serde(default)]
        scaling: RotaryScaling,
    },
    /// softmax(scale · q kᵀ + mask) v: q `[b, t, head, key]`, k and v `[b, t, kv, key]` → as q.
    Attention {
        /// Queries.
        q: ValueId,
        /// Keys.
        k: ValueId,
        /// Values.
        v: ValueId,
        /// Which keys are seen.
        mask: Mask,
        /// Factor on the scores, usually key^-½.
        scale: f64,
    },
    /// An element-wise function.
    Activation {
        /// Operand.
        x: ValueId,
        /// The function.
        kind: Activation,
    },
    /// a + b, of one type.
    Add {
        /// First term.
        a: ValueId,
        /// Second term.
        b: ValueId,
    },
    /// a · b element by element, of one type.
    Mul {
        /// First factor.
        a: ValueId,
        /// Second factor.
        b: ValueId,
    },
    /// x times a constant.
    Scale {
        /// Operand.
        x: ValueId,
        /// The constant.
        by: f64,
    },
    /// Operands side by side on their last axis, which becomes `axis`.
    Concat {
        /// Operands, equal but for the last axis.
        parts: Vec<ValueId>,
        /// Axis of the result; its size is the sum.
        axis: AxisId,
    },
    /// `axis.size` features of the last axis, from `start` on; the last axis becomes `axis`.
    Slice {
        /// Operand.
        x: ValueId,
        /// First feature taken.
        start: u64,
        /// Axis of the result.
        axis: AxisId,
    },
    /// Logits by rows of the vocabulary: those in `second` from `b`, all others from `a`.
    ChooseRows {
        /// Logits `[b, t, vocab]` of the first model.
        a: ValueId,
        /// Logits `[b, t, vocab]` of the second model.
        b: ValueId,
        /// Half-open ranges of token ids taken from `b`, ascending and disjoint.
        second: Vec<(u64, u64)>,
    },
    /// Logits of the token ids in `rows` set to the lowest f32 (never sampled).
    MaskRows {
        /// Logits `[b, t, vocab]`.
        x: ValueId,
        /// Half-open ranges of token ids, ascending and disjoint.
        rows: Vec<(u64, u64)>,
    },
    /// Another element type.
    Cast {
        /// Operand.
        x: ValueId,
        /// Type of the result.
        dtype: DType,
    },
    /// A block applied to values, with the weights below `at`.
    Call {
        /// Name of the block.
        block: String,
        /// Operands, one for each input of the block.
        args: Vec<ValueId>,
        /// Path put before the names of the block's parameters: `layers.0`.
        at: String,
    },
}

impl Op {
    /// The word of the text form.
    pub fn word(&self) -> &'static str {
        match self {
            Op::Embed { .. } => "embed",
            Op::Positions { .. } => "positions",
            Op::Linear { .. } => "linear",
            Op::Unembed { .. } => "unembed",
            Op::LayerNorm { .. } => "layer_norm",
            Op::RmsNorm { .. } => "rms_norm",
            Op::Rotary { .. } => "rotary",
            Op::Attention { .. } => "attention",
            Op::Activation { kind, .. } => kind.word(),
            Op::Add { .. } => "add",
            Op::Mul { .. } => "mul",
            Op::Scale { .. } => "scale",
            Op::Concat { .. } => "concat",
            Op::Slice { .. } => "slice",
            Op::ChooseRows { .. } => "choose_rows",
            Op::MaskRows { .. } => "mask_rows",
            Op::Cast { .. } => "cast",
            Op::Call { .. } => "call",
        }
    }

    /// The values it reads, in order.
    pub fn operands(&self) -> Vec<ValueId> {
        match self {
            Op::Embed { tokens, .. } | Op::Positions { tokens, .. } => vec![*tokens],
            Op::Linear { x, .. }
            | Op::Unembed { x, .. }
            | Op::LayerNorm { x, .. }
            | Op::RmsNorm { x, .. }
            | Op::Rotary { x, .. }
            | Op::Activation { x, .. }
            | Op::Scale { x, .. }
            | Op::Slice { x, .. }
            | Op::MaskRows { x, .. }
            | Op::Cast { x, .. } => vec![*x],
            Op::Attention { q, k, v, .. } => vec![*q, *k, *v],
            Op::Add { a, b } | Op::Mul { a, b } | Op::ChooseRows { a, b, .. } => vec![*a, *b],
            Op::Concat { parts, .. } => parts.clone(),
            Op::Call { args, .. } => args.clone(),
        }
    }

    /// Visits, and may replace, every value it reads, in order.
    pub fn for_each_operand(&mut self, mut visit: impl FnMut(&mut ValueId)) {
        match self {
            Op::Embed { tokens, .. } | Op::Positions { tokens, .. } => visit(tokens),
            Op::Linear { x, .. }
            | Op::Unembed { x, .. }
            | Op::LayerNorm { x, .. }
            | Op::RmsNorm { x, .. }
            | Op::Rotary { x, .. }
            | Op::Activation { x, .. }
            | Op::Scale { x, .. }
            | Op::Slice { x, .. }
            | Op::MaskRows { x, .. }
            | Op::Cast { x, .. } => visit(x),
            Op::Attention { q, k, v, .. } => {
                visit(q);
                visit(k);
                visit(v);
            }
            Op::Add { a, b } | Op::Mul { a, b } | Op::ChooseRows { a, b, .. } => {
                visit(a);
                visit(b);
            }
            Op::Concat { parts, .. } => parts.iter_mut().for_each(visit),
            Op::Call { args, .. } => args.iter_mut().for_each(visit),
        }
    }

    /// The parameters it reads, in order.
    pub fn params(&self) -> impl Iterator<Item = ParamId> + use<> {
        let read: [Option<ParamId>; 2] = match self {
            Op::Embed { table, .. } | Op::Positions { table, .. } | Op::Unembed { table, .. } => {
                [Some(*table), None]
            }
            Op::Linear { weight, bias, .. } => [Some(*weight), *bias],
            Op::LayerNorm { gain, bias, .. } => [*gain, *bias],
            Op::RmsNorm { gain, .. } => [*gain, None],
            Op::Rotary { .. }
            | Op::Attention { .. }
            | Op::Activation { .. }
            | Op::Add { .. }
            | Op::Mul { .. }
            | Op::Scale { .. }
            | Op::Concat { .. }
            | Op::Slice { .. }
            | Op::ChooseRows { .. }
            | Op::MaskRows { .. }
            | Op::Cast { .. }
            | Op::Call { .. } => [None, None],
        };
        read.into_iter().flatten()
    }

    /// Visits, and may replace, every parameter it reads, in order.
    pub fn for_each_param(&mut self, mut visit: impl FnMut(&mut ParamId)) {
        match self {
            Op::Embed { table, .. } | Op::Positions { table, .. } | Op::Unembed { table, .. } => {
                visit(table);
            }
            Op::Linear { weight, bias, .. } => {
                visit(weight);
                bias.iter_mut().for_each(visit);
            }
            Op::LayerNorm { gain, bias, .. } => gain.iter_mut().chain(bias).for_each(visit),
            Op::RmsNorm { gain, .. } => gain.iter_mut().for_each(visit),
            Op::Rotary { .. }
            | Op::Attention { .. }
            | Op::Activation { .. }
            | Op::Add { .. }
            | Op::Mul { .. }
            | Op::Scale { .. }
            | Op::Concat { .. }
            | Op::Slice { .. }
            | Op::ChooseRows { .. }
            | Op::MaskRows { .. }
            | Op::Cast { .. }
            | Op::Call { .. } => {}
        }
    }
}
