//! Runs the steps of a lowered model on tensors.
//!
//! A value is `[batch, time, features]`, or `[1, time, features]` where all sequences agree
//! (positions without padding). Activations are f32; with [`Precision::Bf16`] the operands of
//! matrix products are rounded to bf16, while norms, attention scores and losses stay f32.

use burn::tensor::{Bool, FloatDType, Int, Tensor};

use crate::decoder::Cache;
use crate::kernels::activation::{activation, gated};
use crate::kernels::attention::{AttentionOptions, attention};
use crate::kernels::embedding::embedding;
use crate::kernels::linear::linear;
use crate::kernels::norm::norm;
use crate::kernels::rotary::{RotaryTable, rotary};
use crate::lower::{Action, Body, Head, Step};
use crate::parameters::ParamTensor;

/// Element type of matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats throughout.
    #[default]
    F32,
    /// Matrix products in bfloat16, everything else in f32; weights are kept in f32.
    Bf16,
}

/// A constant of the graph on the device.
#[derive(Debug, Clone)]
pub(crate) enum ConstantTensor {
    /// Added to logits, `[1, 1, classes]`.
    Bias(Tensor<3>),
    /// Takes the second operand where true, `[1, 1, classes]`.
    Choice(Tensor<3, Bool>),
}

/// A value of a block.
#[derive(Debug, Clone)]
#[allow(
    clippy::large_enum_variant,
    reason = "almost every value is a tensor, and a box would cost each operation an allocation"
)]
pub(crate) enum Value {
    /// The token ids of the run.
    Tokens,
    /// `[batch or 1, time, features]`.
    Floats(Tensor<3>),
}

/// What the steps of one run share.
pub(crate) struct Run<'a> {
    /// Parameters, as plain tensors or as leaves of a tape.
    pub(crate) params: &'a [ParamTensor],
    pub(crate) constants: &'a [ConstantTensor],
    pub(crate) precision: Precision,
    /// `[batch, time]`
    pub(crate) tokens: Tensor<2, Int>,
    /// Number of tokens before each that are not padding, `[batch or 1, time]`.
    pub(crate) positions: Tensor<2, Int>,
    /// One per entry of [`crate::lower::Program::rotaries`].
    pub(crate) rotaries: &'a [RotaryTable],
    /// True where a key is no padding: `[batch, time]`, with a cache `[batch, past + time]`.
    pub(crate) key_mask: Option<Tensor<2, Bool>>,
    /// Keys and values of the past.
    pub(crate) cache: Option<&'a mut Cache>,
}

impl Run<'_> {
    /// Runs a body on the values that a caller gives; returns what it gets.
    pub(crate) fn body(&mut self, body: &Body, inputs: Vec<Value>) -> Vec<Value> {
        let mut frame: Vec<Option<Value>> = vec![None; body.values];
        for (&slot, value) in body.inputs.iter().zip(inputs) {
            frame[slot] = Some(value);
        }
        for step in &body.steps {
            let operands = read_operands(&frame, step);
            // Dropped before the step runs, so that it may work in place.
            for &dead in &step.last {
                frame[dead] = None;
            }
            let result = self.action(&step.action, operands);
            if !step.last.contains(&step.result) {
                frame[step.result] = Some(result);
            }
        }
        let result = |&slot: &usize| frame[slot].clone().unwrap_or(Value::Tokens);
        body.results.iter().map(result).collect()
    }

    pub(crate) fn weight(&self, index: usize) -> Tensor<2> {
        match &self.params[index] {
            ParamTensor::Matrix(matrix) => matrix.clone(),
            ParamTensor::Vector(vector) => vector.clone().unsqueeze(),
        }
    }

    pub(crate) fn vector(&self, index: usize) -> Tensor<1> {
        self.params[index].clone().flat()
    }

    pub(crate) fn bias(&self, index: Option<usize>) -> Option<Tensor<1>> {
        index.map(|index| self.vector(index))
    }

    /// A value spread over the batch where all sequences share it.
    pub(crate) fn spread(&self, x: Tensor<3>) -> Tensor<3> {
        let [rows, time, features] = x.dims();
        let batch = self.tokens.dims()[0];
        if rows == batch {
            x
        } else {
            x.expand([batch, time, features])
        }
    }

    /// One action. Operands are as many as the operation has, floats but for token ids.
    pub(crate) fn action(&mut self, action: &Action, operands: Vec<Value>) -> Value {
        if let Action::Call(body) = action {
            let results = self.body(body, operands);
            return results.into_iter().next().unwrap_or(Value::Tokens);
        }
        let mut floats = operands.into_iter().filter_map(|value| match value {
            Value::Floats(tensor) => Some(tensor),
            Value::Tokens => None,
        });
        let result = match action {
            Action::Embed { table } => embedding(self.weight(*table), self.tokens.clone()),
            Action::Positions { table, offset } => {
                let rows = self.positions.clone().add_scalar(*offset as i64);
                embedding(self.weight(*table), rows)
            }
            _ => match (floats.next(), floats.next()) {
                (Some(x), None) => self.unary(action, x),
                (Some(x), Some(y)) => self.several(action, x, y, floats.collect()),
                // A lowered graph has operands for all other actions.
                (None, _) => return Value::Tokens,
            },
        };
        Value::Floats(result)
    }

    fn unary(&mut self, action: &Action, x: Tensor<3>) -> Tensor<3> {
        match action {
            Action::Linear {
                weight,
                bias,
                inner,
            } => {
                let bias = self.bias(*bias);
                in_groups(x, *inner, |x| self.product(x, self.weight(*weight), bias))
            }
            Action::Unembed { table } => self.product(x, self.weight(*table).transpose(), None),
            Action::Norm {
                kind,
                gain,
                bias,
                parts,
                eps,
                last,
                wide,
            } => {
                let (gain, bias) = (self.bias(*gain), self.bias(*bias));
                if *wide {
                    let mut y = in_groups(x, *last, |x| norm(x, None, None, *kind, parts, *eps));
                    if let Some(gain) = gain {
                        y = y * gain.unsqueeze();
                    }
                    if let Some(bias) = bias {
                        y = y + bias.unsqueeze();
                    }
                    y
                } else {
                    in_groups(x, *last, |x| norm(x, gain, bias, *kind, parts, *eps))
                }
            }
            Action::Rotary { table, layout, key } => {
                let [batch, time, features] = x.dims();
                let x = x.reshape([batch, time, features / key, *key]);
                rotary(x, &self.rotaries[*table], *layout).reshape([batch, time, features])
            }
            Action::Activation(kind) => activation(x, *kind),
            Action::Scale(by) => x * *by,
            Action::Concat(_) => x,
            Action::Slice { start, len, last } => {
                let [batch, time, features] = x.dims();
                let groups = features / last;
                x.reshape([batch, time, groups, *last])
                    .narrow(3, *start, *len)
                    .reshape([batch, time, groups * len])
            }
            Action::MaskRows(constant) => match &self.constants[*constant] {
                ConstantTensor::Bias(bias) => x + bias.clone(),
                ConstantTensor::Choice(_) => x,
            },
            Action::Round(dtype) => match dtype {
                jam_ir::DType::BF16 => x.cast(FloatDType::BF16).cast(FloatDType::F32),
                jam_ir::DType::F16 => x.cast(FloatDType::F16).cast(FloatDType::F32),
                jam_ir::DType::F32 | jam_ir::DType::U32 => x,
            },
            // These have more operands.
            _ => x,
        }
    }

    fn several(
        &mut self,
        action: &Action,
        x: Tensor<3>,
        y: Tensor<3>,
        rest: Vec<Tensor<3>>,
    ) -> Tensor<3> {
        match action {
            Action::Add => x + y,
            Action::Mul => x * y,
            Action::Gated(kind) => {
                let (x, y) = self.alike(x, y);
                gated(x, y, *kind)
            }
            Action::ChooseRows(constant) => {
                let (x, y) = self.alike(x, y);
                match &self.constants[*constant] {
                    ConstantTensor::Choice(choice) => {
                        let shape = x.dims();
                        x.mask_where(choice.clone().expand(shape), y)
                    }
                    ConstantTensor::Bias(_) => x,
                }
            }
            Action::Concat(lengths) => {
                let parts = [x, y].into_iter().chain(rest);
                let parts: Vec<Tensor<3>> = parts.map(|part| self.spread(part)).collect();
                side_by_side(parts, lengths)
            }
            Action::Attention {
                site,
                causal,
                scale,
                heads,
            } => {
                let Some(v) = rest.into_iter().next() else {
                    return x;
                };
                let (q, k, v) = (self.spread(x), self.spread(y), self.spread(v));
                self.attention(q, k, v, *site, *causal, *scale, *heads)
            }
            _ => x,
        }
    }

    fn alike(&self, x: Tensor<3>, y: Tensor<3>) -> (Tensor<3>, Tensor<3>) {
        if x.dims()[0] == y.dims()[0] {
            (x, y)
        } else {
            (self.spread(x), self.spread(y))
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn attention(
        &mut self,
        q: Tensor<3>,
        k: Tensor<3>,
        v: Tensor<3>,
        site: usize,
        causal: bool,
        scale: f64,
        heads: usize,
    ) -> Tensor<3> {
        let [batch, time, features] = q.dims();
        let key = features / heads;
        let kv_heads = k.dims()[2] / key;
        let value = v.dims()[2] / kv_heads;
        let q = q.reshape([batch, time, heads, key]);
        let k = k.reshape([batch, time, kv_heads, key]);
        let v = v.reshape([batch, time, kv_heads, value]);
        let (k, v, past) = match &mut self.cache {
            None => (k, v, 0),
            Some(cache) => cache.extend(site, k, v),
        };
        let options = AttentionOptions {
            causal,
            scale: Some(scale),
            key_mask: self.key_mask.clone(),
            query_offset: past,
        };
        attention(q, k, v, &options).reshape([batch, time, heads * value])
    }

    /// `x w + bias` in the precision of the run.
    fn product<const D: usize>(
        &self,
        x: Tensor<D>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Tensor<D> {
        match self.precision {
            Precision::F32 => linear(x, weight, bias),
            Precision::Bf16 => {
                let half = FloatDType::BF16;
                let y = linear(x.cast(half), weight.cast(half), None).cast(FloatDType::F32);
                match bias {
                    Some(bias) => y + bias.unsqueeze(),
                    None => y,
                }
            }
        }
    }

    /// The logits of a head, from the trunk's results.
    pub(crate) fn logits(&self, head: &Head, states: &[Tensor<3>]) -> Option<Tensor<3>> {
        let mut outputs = head.outputs.iter().map(|output| {
            let x = states[output.state].clone();
            let x = if output.scale == 1.0 {
                x
            } else {
                x * output.scale
            };
            let weight = self.weight(output.weight);
            let weight = if output.table {
                weight.transpose()
            } else {
                weight
            };
            self.product(x, weight, scaled(self.bias(output.bias), output.scale))
        });
        let mut logits = outputs.next()?;
        if let (Some(second), Some(choice)) = (outputs.next(), head.choice)
            && let ConstantTensor::Choice(choice) = &self.constants[choice]
        {
            let shape = logits.dims();
            logits = logits.mask_where(choice.clone().expand(shape), second);
        }
        if let Some(mask) = head.mask
            && let ConstantTensor::Bias(mask) = &self.constants[mask]
        {
            logits = logits + mask.clone();
        }
        Some(logits)
    }
}

/// A bias times a constant.
pub(crate) fn scaled(bias: Option<Tensor<1>>, by: f64) -> Option<Tensor<1>> {
    bias.map(|bias| if by == 1.0 { bias } else { bias * by })
}

/// The operands of a step.
pub(crate) fn read_operands(frame: &[Option<Value>], step: &Step) -> Vec<Value> {
    let operand = |&slot: &usize| frame[slot].clone().unwrap_or(Value::Tokens);
    step.operands.iter().map(operand).collect()
}

/// Applies `f` to every run of `inner` features by itself.
fn in_groups(x: Tensor<3>, inner: usize, f: impl FnOnce(Tensor<3>) -> Tensor<3>) -> Tensor<3> {
    let [batch, time, features] = x.dims();
    if features == inner {
        return f(x);
    }
    let groups = features / inner;
    let y = f(x.reshape([batch, time * groups, inner]));
    let out = y.dims()[2];
    y.reshape([batch, time, groups * out])
}

/// Operands side by side on their last axis, group by group.
fn side_by_side(parts: Vec<Tensor<3>>, lengths: &[usize]) -> Tensor<3> {
    let [batch, time, features] = parts[0].dims();
    let groups = features / lengths[0].max(1);
    if groups <= 1 {
        return Tensor::cat(parts, 2);
    }
    let parts = parts.into_iter().zip(lengths);
    let parts = parts.map(|(part, &len)| part.reshape([batch, time, groups, len]));
    let total: usize = lengths.iter().sum();
    Tensor::cat(parts.collect(), 3).reshape([batch, time, groups * total])
}
