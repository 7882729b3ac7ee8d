//! What a model costs: parameters, bytes, floating-point operations.
//!
//! **Parameters** are the entries of all weights, each weight once: a tied head, or two calls at
//! one path, add nothing.
//!
//! **Training** is with AdamW, whose two moments are f32. In f32 a parameter takes 4 bytes for
//! itself, 4 for its gradient and 8 for its moments. In bf16 the master weights, their gradients
//! and the moments stay f32, and a bf16 copy is computed with: 4 + 2, 4 and 8 bytes. Activations
//! are not counted: they depend on the batch.
//!
//! **Operations** of one token's forward pass at context t: 2 for each entry of a matrix that it
//! is multiplied with, the head's included and tables that are only looked up left out, and
//! 2 · 2 · t · heads · key for each attention (q kᵀ, and the weights times v). As is usual, a causal
//! mask saves nothing, a multiplication and an addition are two operations, and norms, activations and
//! biases are left out. Training takes three times as many: the backward pass is two products for
//! each of the forward pass.
//!
//! **The key-value cache** of one token holds a key and a value for every key/value head of every
//! attention that is called.

use indexmap::IndexMap;
use serde::Serialize;

use crate::model::MAX_CALL_DEPTH;
use crate::{AxisId, Block, Model, Op, ParamId, ValueId};

/// Context at which attention is counted for a model that bounds none.
pub const DEFAULT_CONTEXT: u64 = 2048;

/// What a model costs. Numbers that would not fit stop at the largest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Counts {
    /// Entries of all weights, each once.
    pub parameters: u128,
    /// The same by the first word of the weight's path: `embed`, `layers`, ….
    pub parts: IndexMap<String, u128>,
    /// Bytes of the weights as they are stored.
    pub stored_bytes: u128,
    /// Bytes of running the model, in f32 and in bf16.
    pub inference: Vec<InferenceBytes>,
    /// Bytes of training the model, in f32 and in bf16.
    pub training: Vec<TrainingBytes>,
    /// Floating-point operations.
    pub flops: Flops,
}

/// Bytes of running a model in one precision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct InferenceBytes {
    /// Word of the element type.
    pub precision: &'static str,
    /// Weights.
    pub weights: u128,
    /// Key-value cache, for each token of each sequence.
    pub cache_per_token: u128,
}

/// Bytes of training a model in one precision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingBytes {
    /// Word of the element type that is computed with.
    pub precision: &'static str,
    /// Weights, with their copy in bf16 where there is one.
    pub weights: u128,
    /// Gradients.
    pub gradients: u128,
    /// Moments of AdamW.
    pub optimizer: u128,
}

/// Floating-point operations for each token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flops {
    /// Context at which attention is counted, in tokens.
    pub context: u64,
    /// Forward pass.
    pub forward: u128,
    /// Forward and backward pass.
    pub training: u128,
}

/// Counts a model that the verifier accepts, at `context` tokens (by default its own context).
pub fn count(model: &Model, context: Option<u64>) -> Counts {
    let mut parameters: u128 = 0;
    let mut stored_bytes: u128 = 0;
    let mut parts: IndexMap<String, u128> = IndexMap::new();
    for (name, param) in model.weight_uses() {
        let entries = entries(model, param.ty.axes());
        parameters = parameters.saturating_add(entries);
        let bytes = entries.saturating_mul(param.ty.dtype.bytes().into());
        stored_bytes = stored_bytes.saturating_add(bytes);
        let part = name.split('.').next().unwrap_or_default();
        let slot = parts.entry(part.to_owned()).or_default();
        *slot = slot.saturating_add(entries);
    }
    let context = context.or(model.context).unwrap_or(DEFAULT_CONTEXT);
    let mut walk = Walk {
        model,
        context,
        known: IndexMap::new(),
    };
    let work = walk.block(&model.main, 0);
    let bytes = |each: u128| parameters.saturating_mul(each);
    Counts {
        parameters,
        parts,
        stored_bytes,
        inference: [("f32", 4), ("bf16", 2)]
            .map(|(precision, each)| InferenceBytes {
                precision,
                weights: bytes(each),
                cache_per_token: work.cached.saturating_mul(each),
            })
            .to_vec(),
        training: [("f32", 4), ("bf16", 6)]
            .map(|(precision, each)| TrainingBytes {
                precision,
                weights: bytes(each),
                gradients: bytes(4),
                optimizer: bytes(8),
            })
            .to_vec(),
        flops: Flops {
            context,
            forward: work.flops,
            training: work.flops.saturating_mul(3),
        },
    }
}

/// Product of the sizes of axes; an axis that is not there, or has no size, counts once.
fn entries(model: &Model, axes: impl Iterator<Item = AxisId>) -> u128 {
    let size = |id: AxisId| model.axes.get(id.0 as usize)?.size;
    axes.fold(1, |product: u128, id| {
        product.saturating_mul(size(id).unwrap_or(1).into())
    })
}

/// What one run of a block takes for each token.
#[derive(Clone, Copy, Default)]
struct Work {
    flops: u128,
    /// Entries of keys and values.
    cached: u128,
}

struct Walk<'m> {
    model: &'m Model,
    context: u64,
    /// Blocks by name: each is walked once, however often it is called.
    known: IndexMap<&'m str, Work>,
}

impl<'m> Walk<'m> {
    fn block(&mut self, block: &'m Block, depth: usize) -> Work {
        let mut total = Work::default();
        for statement in &block.body {
            let work = match &statement.op {
                Op::Linear { weight, .. } => self.matrix(block, *weight),
                Op::Unembed { table, .. } => self.matrix(block, *table),
                Op::Attention { q, k, v, .. } => Work {
                    flops: self
                        .features(block, *q)
                        .saturating_mul(4)
                        .saturating_mul(self.context.into()),
                    cached: self.features(block, *k) + self.features(block, *v),
                },
                Op::Call { block: name, .. } => self.call(name, depth),
                _ => Work::default(),
            };
            total.flops = total.flops.saturating_add(work.flops);
            total.cached = total.cached.saturating_add(work.cached);
        }
        total
    }

    fn call(&mut self, name: &str, depth: usize) -> Work {
        if let Some(work) = self.known.get(name) {
            return *work;
        }
        let Some((name, callee)) = self.model.blocks.get_key_value(name) else {
            return Work::default();
        };
        if depth >= MAX_CALL_DEPTH {
            return Work::default();
        }
        let work = self.block(callee, depth + 1);
        self.known.insert(name, work);
        work
    }

    fn matrix(&self, block: &Block, id: ParamId) -> Work {
        let Some(param) = block.params.get(id.0 as usize) else {
            return Work::default();
        };
        Work {
            flops: entries(self.model, param.ty.axes()).saturating_mul(2),
            cached: 0,
        }
    }

    /// Entries of a value for each token: axes without a size count once.
    fn features(&self, block: &Block, id: ValueId) -> u128 {
        match block.values.get(id.0 as usize) {
            // Two axes of 64 bits fit 127; more than two stop at 126.
            Some(value) => entries(self.model, value.ty.axes.iter().copied()).min(1 << 126),
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::{DecoderConfig, decoder_only};
    use crate::{DType, TokenLayout, ValueType, Weight, generate};

    /// The paper's parent: 32 layers of width 4096, 32 heads, hidden 16384, tied head.
    fn parent() -> Model {
        let tokens = TokenLayout::bare(64_512);
        let mut config = DecoderConfig::cm3leon(tokens, 4096, 4096, 32, 32, 16384);
        config.positions = crate::decoder::PositionConfig::Learned { offset: 0 };
        config.dtype = DType::BF16;
        decoder_only(&config)
    }

    #[test]
    fn the_papers_parent() {
        let counts = count(&parent(), None);
        assert_eq!(counts.parameters, 6_723_469_312);
        assert_eq!(counts.parts["layers"], 6_442_450_944);
        assert_eq!(counts.parts["embed"], 264_241_152);
        assert_eq!(counts.parts["positions"], 16_777_216);
        assert_eq!(counts.stored_bytes, 2 * 6_723_469_312);
        let [f32, bf16] = &counts.training[..] else {
            panic!("two precisions")
        };
        let all = |t: &TrainingBytes| t.weights + t.gradients + t.optimizer;
        assert_eq!(all(f32), 16 * 6_723_469_312);
        assert_eq!(all(bf16), 18 * 6_723_469_312);
        assert_eq!(counts.inference[1].weights, 2 * 6_723_469_312);
        // A key and a value of 4096 entries in each of 32 layers.
        assert_eq!(counts.inference[1].cache_per_token, 32 * 2 * 4096 * 2);
        // Layers and head, and 4 · t · width in each of 32 layers.
        let matrices = 2 * (6_442_450_944 + 264_241_152);
        let attention = 32 * 4 * 4096 * 4096;
        assert_eq!(counts.flops.forward, matrices + attention);
        assert_eq!(counts.flops.training, 3 * (matrices + attention));
        assert_eq!(count(&parent(), Some(0)).flops.forward, matrices);
    }

    #[test]
    fn grouped_heads_cache_less_and_an_untied_head_adds_a_matrix() {
        let tokens = TokenLayout::bare(100);
        let mut config = DecoderConfig::llama(tokens, 64, 32, 3, 4, 48);
        config.kv_heads = 2;
        let counts = count(&decoder_only(&config), None);
        assert_eq!(counts.inference[0].cache_per_token, 3 * 2 * (2 * 8) * 4);
        config.tied = true;
        let tied = count(&decoder_only(&config), None);
        assert_eq!(counts.parameters - tied.parameters, 100 * 32);
        assert_eq!(counts.flops, tied.flops);
    }

    #[test]
    fn calls_at_one_path_share_parameters_but_not_work() {
        let mut model = parent();
        let before = count(&model, None);
        let body = &mut model.main.body;
        for statement in body.iter_mut() {
            if let Op::Call { at, .. } = &mut statement.op {
                *at = "layers.0".to_owned();
            }
        }
        let after = count(&model, None);
        assert_eq!(after.parts["layers"] * 32, before.parts["layers"]);
        assert_eq!(after.flops, before.flops);
    }

    #[test]
    fn counts_never_overflow_and_agree_with_the_weights() {
        for seed in 0..200 {
            let model = generate::seeded(seed).model;
            let counts = count(&model, Some(u64::MAX));
            let parts: u128 = counts.parts.values().sum();
            assert_eq!(parts, counts.parameters);
        }
        let mut model = parent();
        model.axes[5].size = Some(u64::MAX);
        model.axes[2].size = Some(u64::MAX);
        model.weights.insert(
            "odd".to_owned(),
            Weight {
                plan: crate::Plan::Zeros,
                span: None,
            },
        );
        let ty = ValueType {
            dtype: DType::F32,
            axes: Vec::new(),
        };
        let block = "nowhere".to_owned();
        let (args, at) = (Vec::new(), String::new());
        model.main.push("x", ty, Op::Call { block, args, at });
        assert!(count(&model, Some(u64::MAX)).parameters > 0);
    }
}
