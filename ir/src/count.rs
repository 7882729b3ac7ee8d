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

use std::fmt;

use indexmap::IndexMap;
use serde::Serialize;

use crate::model::MAX_CALL_DEPTH;
use crate::verify::calls_end;
use crate::{AxisId, Block, Model, Op, ParamId, ValueId};

/// Context at which attention is counted for a model that bounds none.
pub const DEFAULT_CONTEXT: u64 = 2048;

/// What a model costs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Counts {
    /// Entries of all weights, each once.
    pub parameters: u64,
    /// The same by the first word of the weight's path: `embed`, `layers`, ….
    pub parts: IndexMap<String, u64>,
    /// Bytes of the weights as they are stored.
    pub stored_bytes: u64,
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
    pub weights: u64,
    /// Key-value cache, for each token of each sequence.
    pub cache_per_token: u64,
}

/// Bytes of training a model in one precision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrainingBytes {
    /// Word of the element type that is computed with.
    pub precision: &'static str,
    /// Weights, with their copy in bf16 where there is one.
    pub weights: u64,
    /// Gradients.
    pub gradients: u64,
    /// Moments of AdamW.
    pub optimizer: u64,
}

/// Floating-point operations for each token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Flops {
    /// Context at which attention is counted, in tokens.
    pub context: u64,
    /// Forward pass.
    pub forward: u64,
    /// Forward and backward pass.
    pub training: u64,
}

/// Why a model cannot be counted: one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CountError(pub String);

impl fmt::Display for CountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CountError {}

/// Counts a model at its own context, or at [`DEFAULT_CONTEXT`].
///
/// # Errors
/// As [`counts_at`].
pub fn counts(model: &Model) -> Result<Counts, CountError> {
    counts_at(model, model.context.unwrap_or(DEFAULT_CONTEXT))
}

/// Counts a model with attention over `context` tokens.
///
/// # Errors
/// When a number does not fit 64 bits, or calls do not end (the verifier says where).
pub fn counts_at(model: &Model, context: u64) -> Result<Counts, CountError> {
    if !calls_end(model) {
        return Err(CountError("its calls do not end".to_owned()));
    }
    let fit = |number: u128, what: &str| {
        let too_large = |_| CountError(format!("its {what} do not fit 64 bits"));
        u64::try_from(number).map_err(too_large)
    };
    let mut parameters: u128 = 0;
    let mut stored: u128 = 0;
    let mut parts: IndexMap<String, u64> = IndexMap::new();
    for (name, param) in model.weight_uses() {
        let entries = entries(model, param.ty.axes());
        parameters = parameters.saturating_add(entries);
        stored = stored.saturating_add(entries.saturating_mul(param.ty.dtype.bytes().into()));
        let part = name.split('.').next().unwrap_or_default();
        let slot = parts.entry(part.to_owned()).or_default();
        *slot = fit(entries.saturating_add((*slot).into()), "parameters")?;
    }
    let mut walk = Walk {
        model,
        context,
        known: IndexMap::new(),
    };
    let work = walk.block(&model.main, 0);
    let bytes = |each: u128| fit(parameters.saturating_mul(each), "bytes");
    let mut inference = Vec::new();
    for (precision, each) in [("f32", 4), ("bf16", 2)] {
        inference.push(InferenceBytes {
            precision,
            weights: bytes(each)?,
            cache_per_token: fit(work.cached.saturating_mul(each), "bytes of cache")?,
        });
    }
    let mut training = Vec::new();
    for (precision, each) in [("f32", 4), ("bf16", 6)] {
        training.push(TrainingBytes {
            precision,
            weights: bytes(each)?,
            gradients: bytes(4)?,
            optimizer: bytes(8)?,
        });
    }
    Ok(Counts {
        parameters: fit(parameters, "parameters")?,
        parts,
        stored_bytes: fit(stored, "bytes")?,
        inference,
        training,
        flops: Flops {
            context,
            forward: fit(work.flops, "operations")?,
            training: fit(work.flops.saturating_mul(3), "operations")?,
        },
    })
}

/// `6.72B`, `1.4k`: three digits, decimal.
fn short(number: u64) -> String {
    scaled(number, 1000.0, &["", "k", "M", "B", "T", "P", "E"])
}

/// `12.5 GiB`: three digits, binary.
fn bytes_text(bytes: u64) -> String {
    let units = [" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"];
    scaled(bytes, 1024.0, &units)
}

fn scaled(number: u64, step: f64, units: &[&str]) -> String {
    let mut value = number as f64;
    let mut unit = 0;
    // What rounds to the next unit is written in it.
    while value >= step - 0.5 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = match value {
        _ if unit == 0 => 0,
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.digits$}{}", units[unit])
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { parameters, .. } = self;
        writeln!(f, "  parameters   {} ({parameters})", short(*parameters))?;
        for (part, count) in &self.parts {
            writeln!(f, "    {part:<18} {:>8}", short(*count))?;
        }
        writeln!(f, "  stored       {}", bytes_text(self.stored_bytes))?;
        for bytes in &self.inference {
            writeln!(
                f,
                "  run {:<8} {} weights, {} cache per token",
                bytes.precision,
                bytes_text(bytes.weights),
                bytes_text(bytes.cache_per_token)
            )?;
        }
        for bytes in &self.training {
            writeln!(
                f,
                "  train {:<6} {} weights + {} gradients + {} optimizer",
                bytes.precision,
                bytes_text(bytes.weights),
                bytes_text(bytes.gradients),
                bytes_text(bytes.optimizer)
            )?;
        }
        let Flops {
            context,
            forward,
            training,
        } = self.flops;
        write!(
            f,
            "  operations   {} forward, {} training, per token at context {context}",
            short(forward),
            short(training)
        )
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
    use crate::{DType, TokenLayout, generate};

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
        let counts = counts(&parent()).unwrap();
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
        assert_eq!(counts_at(&parent(), 0).unwrap().flops.forward, matrices);
    }

    #[test]
    fn grouped_heads_cache_less_and_an_untied_head_adds_a_matrix() {
        let tokens = TokenLayout::bare(100);
        let mut config = DecoderConfig::llama(tokens, 64, 32, 3, 4, 48);
        config.kv_heads = 2;
        let free = counts(&decoder_only(&config)).unwrap();
        assert_eq!(free.inference[0].cache_per_token, 3 * 2 * (2 * 8) * 4);
        config.tied = true;
        let tied = counts(&decoder_only(&config)).unwrap();
        assert_eq!(free.parameters - tied.parameters, 100 * 32);
        assert_eq!(free.flops, tied.flops);
    }

    #[test]
    fn calls_at_one_path_share_parameters_but_not_work() {
        let mut model = parent();
        let before = counts(&model).unwrap();
        let body = &mut model.main.body;
        for statement in body.iter_mut() {
            if let Op::Call { at, .. } = &mut statement.op {
                *at = "layers.0".to_owned();
            }
        }
        let after = counts(&model).unwrap();
        assert_eq!(after.parts["layers"] * 32, before.parts["layers"]);
        assert_eq!(after.flops, before.flops);
    }

    #[test]
    fn parts_add_up_and_numbers_that_do_not_fit_are_said() {
        for seed in 0..200 {
            let model = generate::seeded(seed).model;
            let counts = counts(&model).unwrap();
            assert_eq!(counts.parts.values().sum::<u64>(), counts.parameters);
            assert_eq!(counts.inference[0].weights, 4 * counts.parameters);
        }
        let error = counts_at(&parent(), u64::MAX).unwrap_err();
        assert_eq!(error.to_string(), "its operations do not fit 64 bits");
        let mut model = parent();
        for axis in [2, 5, 6] {
            model.axes[axis].size = Some(u64::MAX);
        }
        let error = counts(&model).unwrap_err();
        assert_eq!(error.to_string(), "its parameters do not fit 64 bits");
        let mut model = parent();
        let ty = model.blocks["decoder"].values[0].ty.clone();
        let op = Op::Call {
            block: "decoder".to_owned(),
            args: vec![ValueId(0)],
            at: "again".to_owned(),
        };
        model.blocks["decoder"].push("again", ty, op);
        let error = counts(&model).unwrap_err();
        assert_eq!(error.to_string(), "its calls do not end");
    }

    #[test]
    fn a_page_for_people() {
        let text = counts(&parent()).unwrap().to_string();
        let expected = "  parameters   6.72B (6723469312)
    embed                  264M
    positions             16.8M
    layers                6.44B
  stored       12.5 GiB
  run f32      25.0 GiB weights, 1.00 MiB cache per token
  run bf16     12.5 GiB weights, 512 KiB cache per token
  train f32    25.0 GiB weights + 25.0 GiB gradients + 50.1 GiB optimizer
  train bf16   37.6 GiB weights + 25.0 GiB gradients + 50.1 GiB optimizer
  operations   15.6B forward, 46.7B training, per token at context 4096";
        assert_eq!(text, expected);
        let shown = [0, 999, 1000, 999_400, 999_600, 9_996_000, u64::MAX];
        let shown: Vec<String> = shown.into_iter().map(short).collect();
        assert_eq!(
            shown,
            ["0", "999", "1.00k", "999k", "1.00M", "10.0M", "18.4E"]
        );
    }
}
