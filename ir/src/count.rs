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
                // What is done element by element is not counted.
                Op::Embed { .. }
                | Op::Positions { .. }
                | Op::LayerNorm { .. }
                | Op::RmsNorm { .. }
                | Op::Rotary { .. }
                | Op::Activation { .. }
                | Op::Add { .. }
                | Op::Mul { .. }
                | Op::Scale { .. }
                | Op::Concat { .. }
                | Op::Slice { .. }
                | Op::ChooseRows { .. }
                | Op::MaskRows { .. }
                | Op::Cast { .. } => Work::default(),
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
    use super::short;

    #[test]
    fn numbers_have_three_figures() {
        let shown = [0, 999, 1000, 999_400, 999_600, 9_996_000, u64::MAX];
        let shown: Vec<String> = shown.into_iter().map(short).collect();
        assert_eq!(
            shown,
            ["0", "999", "1.00k", "999k", "1.00M", "10.0M", "18.4E"]
        );
    }
}
