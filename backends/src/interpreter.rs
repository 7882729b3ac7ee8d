//! Runs the steps of a lowered model on tensors.
//!
//! A value is `[batch, time, features]`, or `[1, time, features]` where all sequences agree
//! (positions without padding). On a GPU values have the element type of the run's precision, and kernels sum in f32;
//! on the processor they are f32, and with [`Precision::Bf16`] the operands of matrix products are rounded to bf16.
//! Logits that leave the model and losses are f32.

use burn::tensor::{Bool, Device, FloatDType, Tensor};

use crate::cache::Cache;
use crate::error::ExecError;
use crate::kernels::activation::{activation, gated};
use crate::kernels::attention::{AttentionOptions, attention};
use crate::kernels::embedding::{Ids, embedding};
use crate::kernels::linear::linear;
use crate::kernels::norm::norm;
use crate::kernels::rotary::{RotaryTable, rotary};
use crate::kernels::served::Place;
use crate::lower::{Action, Body, Head, Output, Step};
use crate::parameters::{ParamTensor, cast};

/// What is computed in. Weights that train, their gradients and the moments of optimizers are f32 whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats throughout.
    #[default]
    F32,
    /// On a GPU, weights, activations and caches in bfloat16, sums in f32; on the processor f32, with the operands of
    /// matrix products rounded to bfloat16.
    Bf16,
}

impl Precision {
    /// The element type of values on a device.
    pub(crate) fn compute(self, device: &Device) -> FloatDType {
        match (self, Place::of(device)) {
            (Precision::Bf16, Place::Gpu) => FloatDType::BF16,
            (Precision::Bf16, Place::Processor | Place::Other) | (Precision::F32, _) => {
                FloatDType::F32
            }
        }
    }
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
    /// The element type of values.
    pub(crate) compute: FloatDType,
    /// `[batch, time]`
    pub(crate) tokens: Ids,
    /// Number of tokens before each that are not padding, `[batch or 1, time]`.
    pub(crate) positions: Ids,
    /// One per entry of [`crate::lower::Program::rotaries`].
    pub(crate) rotaries: &'a [RotaryTable],
    /// True where a key is no padding: `[batch, time]`, with a cache `[batch, past + time]`.
    pub(crate) key_mask: Option<Tensor<2, Bool>>,
    /// Keys and values of the past.
    pub(crate) cache: Option<&'a mut Cache>,
}

impl Run<'_> {
    /// Runs a body on the values that a caller gives; returns what it gets.
    ///
    /// # Errors
    /// When a step has not the operands that it needs.
    pub(crate) fn body(
        &mut self,
        body: &Body,
        inputs: Vec<Value>,
    ) -> Result<Vec<Value>, ExecError> {
        let mut frame: Vec<Option<Value>> = vec![None; body.values];
        for (&slot, value) in body.inputs.iter().zip(inputs) {
            frame[slot] = Some(value);
        }
        for step in &body.steps {
            let operands = read_operands(&frame, step)?;
            // Dropped before the step runs, so that it may work in place.
            for &dead in &step.last {
                frame[dead] = None;
            }
            let result = self.action(&step.action, operands)?;
            if !step.last.contains(&step.result) {
                frame[step.result] = Some(result);
            }
        }
        body.results
            .iter()
            .map(|&slot| read_value(&frame, slot))
            .collect()
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

    /// One action.
    ///
    /// # Errors
    /// When it has not the operands that it needs.
    pub(crate) fn action(
        &mut self,
        action: &Action,
        operands: Vec<Value>,
    ) -> Result<Value, ExecError> {
        if let Action::Call(body) = action {
            let results = self.body(body, operands)?;
            let mut results = results.into_iter();
            return results
                .next()
                .ok_or_else(|| broken(action, "has no result"));
        }
        let mut operands = Operands {
            action,
            values: operands.into_iter(),
        };
        let result = match action {
            Action::Call(_) => return Err(broken(action, "is no operation")),
            Action::Embed { table } => embedding(self.weight(*table), &self.tokens),
            Action::Positions { table, offset } => {
                embedding(self.weight(*table), &self.positions.shifted(*offset))
            }
            Action::Linear {
                weight,
                bias,
                inner,
            } => {
                let (x, bias) = (operands.next()?, self.bias(*bias));
                in_groups(x, *inner, |x| self.product(x, self.weight(*weight), bias))
            }
            Action::Unembed { table } => {
                self.product(operands.next()?, self.weight(*table).transpose(), None)
            }
            Action::Norm {
                kind,
                gain,
                bias,
                parts,
                eps,
                last,
                wide,
            } => {
                let x = operands.next()?;
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
                let x = operands.next()?;
                let [batch, time, features] = x.dims();
                let x = x.reshape([batch, time, features / key, *key]);
                rotary(x, &self.rotaries[*table], *layout).reshape([batch, time, features])
            }
            Action::Attention {
                site,
                causal,
                scale,
                heads,
            } => {
                let (q, k, v) = (operands.next()?, operands.next()?, operands.next()?);
                let (q, k, v) = (self.spread(q), self.spread(k), self.spread(v));
                self.attention(q, k, v, *site, *causal, *scale, *heads)
            }
            Action::Activation(kind) => activation(operands.next()?, *kind),
            Action::Gated(kind) => {
                let (x, y) = self.alike(operands.next()?, operands.next()?);
                gated(x, y, *kind)
            }
            Action::Add => operands.next()? + operands.next()?,
            Action::Mul => operands.next()? * operands.next()?,
            Action::Scale(by) => operands.next()? * *by,
            Action::Concat(lengths) => {
                let parts: Result<Vec<Tensor<3>>, ExecError> =
                    lengths.iter().map(|_| operands.next()).collect();
                match <[Tensor<3>; 1]>::try_from(parts?) {
                    Ok([alone]) => alone,
                    Err(parts) => {
                        let parts = parts.into_iter().map(|part| self.spread(part)).collect();
                        side_by_side(parts, lengths)
                    }
                }
            }
            Action::Slice { start, len, last } => {
                let x = operands.next()?;
                let [batch, time, features] = x.dims();
                let groups = features / last;
                x.reshape([batch, time, groups, *last])
                    .narrow(3, *start, *len)
                    .reshape([batch, time, groups * len])
            }
            Action::ChooseRows(constant) => {
                let (x, y) = self.alike(operands.next()?, operands.next()?);
                let shape = x.dims();
                x.mask_where(self.choice(*constant)?.expand(shape), y)
            }
            Action::MaskRows(constant) => {
                operands.next()? + cast(self.forbidding(*constant)?, self.compute)
            }
            Action::Round(dtype) => {
                let x = operands.next()?;
                match dtype {
                    jam_ir::DType::BF16 => cast(cast(x, FloatDType::BF16), self.compute),
                    jam_ir::DType::F16 => cast(cast(x, FloatDType::F16), self.compute),
                    // What is computed with is no wider; ids are never rounded.
                    jam_ir::DType::F32 => x,
                    jam_ir::DType::U32 => return Err(broken(action, "rounds to whole numbers")),
                }
            }
        };
        match action {
            // What they read is the run's own.
            Action::Embed { .. } | Action::Positions { .. } => {}
            _ => operands.end()?,
        }
        Ok(Value::Floats(result))
    }

    /// A constant that is added to logits.
    pub(crate) fn forbidding(&self, constant: usize) -> Result<Tensor<3>, ExecError> {
        match &self.constants[constant] {
            ConstantTensor::Bias(bias) => Ok(bias.clone()),
            ConstantTensor::Choice(_) => Err(ExecError::Graph {
                place: format!("constant {constant}"),
                reason: "it chooses between rows, and is read as numbers to add".to_owned(),
            }),
        }
    }

    /// A constant that chooses between rows.
    pub(crate) fn choice(&self, constant: usize) -> Result<Tensor<3, Bool>, ExecError> {
        match &self.constants[constant] {
            ConstantTensor::Choice(choice) => Ok(choice.clone()),
            ConstantTensor::Bias(_) => Err(ExecError::Graph {
                place: format!("constant {constant}"),
                reason: "it has numbers to add, and is read as a choice between rows".to_owned(),
            }),
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
        match (self.precision, self.compute) {
            (Precision::F32, _) | (Precision::Bf16, FloatDType::BF16) => linear(x, weight, bias),
            (Precision::Bf16, _) => {
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
    ///
    /// # Errors
    /// When the head has not one output layer, or two with a choice between them.
    pub(crate) fn logits(&self, head: &Head, states: &[Tensor<3>]) -> Result<Tensor<3>, ExecError> {
        let output = |output: &Output| {
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
        };
        let logits = match (&head.outputs[..], head.choice) {
            ([one], None) => output(one),
            ([first, second], Some(choice)) => {
                let (first, second) = (output(first), output(second));
                let shape = first.dims();
                first.mask_where(self.choice(choice)?.expand(shape), second)
            }
            (outputs, _) => return Err(unknown_head(outputs.len())),
        };
        let logits = cast(logits, FloatDType::F32);
        match head.mask {
            Some(mask) => Ok(logits + self.forbidding(mask)?),
            None => Ok(logits),
        }
    }
}

/// A head that is neither one output layer nor two with a choice between them.
pub(crate) fn unknown_head(outputs: usize) -> ExecError {
    ExecError::Graph {
        place: "block main".to_owned(),
        reason: format!("its logits come from {outputs} output layers without a choice of two"),
    }
}

/// The operands of an action, one after another.
struct Operands<'a> {
    action: &'a Action,
    values: std::vec::IntoIter<Value>,
}

impl Operands<'_> {
    fn next(&mut self) -> Result<Tensor<3>, ExecError> {
        match self.values.next() {
            Some(Value::Floats(tensor)) => Ok(tensor),
            Some(Value::Tokens) => Err(broken(self.action, "reads token ids as numbers")),
            None => Err(broken(self.action, "has too few operands")),
        }
    }

    fn end(mut self) -> Result<(), ExecError> {
        match self.values.next() {
            Some(_) => Err(broken(self.action, "has too many operands")),
            None => Ok(()),
        }
    }
}

/// An action that is not as lowering makes it.
fn broken(action: &Action, reason: &str) -> ExecError {
    ExecError::Graph {
        place: format!("the operation {}", action.name()),
        reason: format!("it {reason}"),
    }
}

/// A bias times a constant.
pub(crate) fn scaled(bias: Option<Tensor<1>>, by: f64) -> Option<Tensor<1>> {
    bias.map(|bias| if by == 1.0 { bias } else { bias * by })
}

/// The operands of a step.
///
/// # Errors
/// When one is not there.
pub(crate) fn read_operands(frame: &[Option<Value>], step: &Step) -> Result<Vec<Value>, ExecError> {
    step.operands
        .iter()
        .map(|&slot| read_value(frame, slot))
        .collect()
}

/// A value of a block.
///
/// # Errors
/// When no step has made it, or it was dropped.
pub(crate) fn read_value(frame: &[Option<Value>], slot: usize) -> Result<Value, ExecError> {
    frame[slot].clone().ok_or_else(|| ExecError::Graph {
        place: format!("value {slot} of a block"),
        reason: "it is read where it is not there".to_owned(),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};

    fn refused(action: &Action, operands: Vec<Value>) -> String {
        let device = Device::flex();
        let constants = [ConstantTensor::Bias(Tensor::zeros(
            [1, 1, 2],
            (&device, DType::F32),
        ))];
        let mut run = Run {
            params: &[],
            constants: &constants,
            precision: Precision::F32,
            compute: FloatDType::F32,
            tokens: Ids::new(vec![0], 1, &device),
            positions: Ids::new(vec![0], 1, &device),
            rotaries: &[],
            key_mask: None,
            cache: None,
        };
        run.action(action, operands).unwrap_err().to_string()
    }

    fn floats() -> Value {
        Value::Floats(Tensor::zeros([1, 1, 2], (&Device::flex(), DType::F32)))
    }

    #[test]
    fn an_operation_without_its_operands_is_an_error_and_not_its_first_operand() {
        let attention = Action::Attention {
            site: 0,
            causal: true,
            scale: 1.0,
            heads: 1,
        };
        for (action, operands, told) in [
            (Action::Add, vec![floats()], "add: it has too few operands"),
            (
                Action::Scale(2.0),
                vec![floats(); 2],
                "scale: it has too many",
            ),
            (
                Action::Mul,
                vec![floats(), Value::Tokens],
                "reads token ids",
            ),
            (attention, vec![floats(); 2], "attention: it has too few"),
            (
                Action::Concat(vec![2, 2]),
                vec![floats()],
                "concat: it has too few",
            ),
            (
                Action::ChooseRows(0),
                vec![floats(); 2],
                "as a choice between rows",
            ),
            (
                Action::Round(jam_ir::DType::U32),
                vec![floats()],
                "whole numbers",
            ),
        ] {
            let refused = refused(&action, operands);
            assert!(refused.contains(told), "{refused}");
        }
    }

    #[test]
    fn a_block_that_reads_or_returns_what_is_not_there_is_an_error() {
        let body = |steps, results| {
            Action::Call(Box::new(Body {
                steps,
                values: 2,
                inputs: vec![0],
                results,
            }))
        };
        let step = Step {
            action: Action::Add,
            operands: vec![0, 1],
            result: 1,
            last: vec![],
        };
        let told = refused(&body(vec![step], vec![1]), vec![floats()]);
        assert!(told.contains("value 1 of a block"), "{told}");
        let told = refused(&body(vec![], vec![1]), vec![floats()]);
        assert!(told.contains("value 1 of a block"), "{told}");
        let told = refused(&body(vec![], vec![]), vec![floats()]);
        assert!(told.contains("call: it has no result"), "{told}");
    }
}
