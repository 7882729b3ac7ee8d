//! Losses, and gradients of every parameter: on one tape, or with every layer computed twice.
//!
//! A loss is Σ weight · loss / Σ weight over the tokens of all micro-batches of a step. The last
//! layer and its cross-entropy are one operation, so that logits exist for a chunk of rows only.
//!
//! With `recompute`, the forward pass keeps no tape: it keeps the values of the main block alone
//! (one per layer). The backward pass walks the main block from its end; each statement, usually
//! the call of a layer, runs again on a tape of its own, and hands the gradient of its operands on.
//! Gradients are those of the single tape, up to rounding.

use burn::tensor::{DType, FloatDType, Int, Tensor, TensorData, activation::log_softmax};

use crate::error::ExecError;
use crate::executable::{Executable, Placed, Tokens};
use crate::gradients::Gradients;
use crate::interpreter::{Run, Value, read_operands, read_value, scaled, unknown_head};
use crate::kernels::cross_entropy::{self, CrossEntropy, HeadLayout, linear_cross_entropy};
use crate::lower::{Body, Head, Program};
use crate::parameters::{ParamTensor, cast, read, read_number};

/// What every position should be followed by, and how much it counts.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// The token after each, `[rows, length]`; not looked at where the weight is 0.
    pub ids: &'a [u32],
    /// How often each counts, `[rows, length]`; 0 leaves it out.
    pub weights: &'a [f32],
}

/// Targets that own their numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct NextTokens {
    /// The token after each, `[rows, length]`.
    pub ids: Vec<u32>,
    /// 1 where both tokens are no padding, 0 elsewhere.
    pub weights: Vec<f32>,
}

impl NextTokens {
    /// Every token's successor in its sequence; the last one has none.
    pub fn of(tokens: Tokens<'_>) -> NextTokens {
        let length = tokens.length().max(1);
        let real = |i: usize| tokens.mask.is_none_or(|mask| mask.get(i) == Some(&true));
        let follows = |i: usize| !(i + 1).is_multiple_of(length) && i + 1 < tokens.ids.len();
        let count = 0..tokens.ids.len();
        NextTokens {
            ids: count
                .clone()
                .map(|i| if follows(i) { tokens.ids[i + 1] } else { 0 })
                .collect(),
            weights: count
                .map(|i| f32::from(u8::from(follows(i) && real(i) && real(i + 1))))
                .collect(),
        }
    }

    /// Borrowed.
    pub fn targets(&self) -> Targets<'_> {
        Targets {
            ids: &self.ids,
            weights: &self.weights,
        }
    }
}

/// A mean loss in nats per unit of weight.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Loss {
    /// Σ weight · loss / Σ weight; 0 where nothing counts.
    pub mean: f64,
    /// Σ weight.
    pub weight: f64,
}

/// The outcome of one step: the loss before it, and the gradient of every parameter.
#[derive(Debug)]
pub struct TrainStep {
    /// Over all micro-batches.
    pub loss: Loss,
    /// Of the mean loss.
    pub gradients: Gradients,
}

/// Targets on the device, row by row.
struct Aims {
    ids: Tensor<1, Int>,
    weights: Tensor<1>,
}

impl Executable {
    /// The weighted mean of the cross-entropy of every position.
    ///
    /// # Errors
    /// When tokens and targets do not fit each other or the model, or the device fails.
    pub fn loss(&self, tokens: Tokens<'_>, targets: Targets<'_>) -> Result<Loss, ExecError> {
        let total = weight_of(&targets);
        let found = self.cross_entropy(tokens, targets)?;
        Ok(mean_of(f64::from(read_number(found.sum)?), total))
    }

    /// The cross-entropy of every position by itself, unweighted, in nats: `[rows, length]` row by
    /// row, 0 where the weight is 0.
    ///
    /// # Errors
    /// As [`Executable::loss`].
    pub fn token_losses(
        &self,
        tokens: Tokens<'_>,
        targets: Targets<'_>,
    ) -> Result<Vec<f32>, ExecError> {
        read(self.cross_entropy(tokens, targets)?.rows)
    }

    fn cross_entropy(
        &self,
        tokens: Tokens<'_>,
        targets: Targets<'_>,
    ) -> Result<CrossEntropy, ExecError> {
        let placed = self.place(tokens)?;
        let aims = self.aim(tokens, targets)?;
        let params = self.tensors();
        let mut run = self.run(&params, &placed);
        let states = run.trunk(&self.program)?;
        run.cross_entropy(&self.program, states, aims)
    }

    /// Loss and gradients over micro-batches; every one is weighted by what counts in it.
    /// With `recompute` every layer runs twice and one layer's activations are kept at a time.
    ///
    /// # Errors
    /// When there is no batch, nothing counts, or as [`Executable::loss`].
    pub fn train_step(
        &self,
        batches: &[(Tokens<'_>, Targets<'_>)],
        recompute: bool,
    ) -> Result<TrainStep, ExecError> {
        let total: f64 = batches.iter().map(|(_, targets)| weight_of(targets)).sum();
        if !total.is_finite() {
            return Err(ExecError::input("a loss weight is not a number"));
        }
        if total <= 0.0 {
            return Err(ExecError::input("no token of this batch counts"));
        }
        let mut gradients = Gradients::none(self.parameters.len());
        let mut sum = 0.0;
        for (tokens, targets) in batches {
            let placed = self.place(*tokens)?;
            let aims = self.aim(*tokens, *targets)?;
            let found = if recompute {
                self.backward_twice(&placed, aims, 1.0 / total, &mut gradients)?
            } else {
                self.backward_once(&placed, aims, 1.0 / total, &mut gradients)?
            };
            sum += f64::from(read_number(found)?);
        }
        Ok(TrainStep {
            loss: mean_of(sum, total),
            gradients,
        })
    }

    /// One tape over the whole model. Returns the unscaled sum of losses.
    fn backward_once(
        &self,
        placed: &Placed,
        aims: Aims,
        scale: f64,
        gradients: &mut Gradients,
    ) -> Result<Tensor<1>, ExecError> {
        let leaves = self.leaves(0..self.parameters.len());
        let cast = |(_, leaf): &(usize, ParamTensor)| leaf.clone().cast(self.compute());
        let params: Vec<ParamTensor> = leaves.iter().map(cast).collect();
        let mut run = self.run(&params, placed);
        let states = run.trunk(&self.program)?;
        let found = run.cross_entropy(&self.program, states, aims)?;
        let sum = found.sum.clone().without_autodiff();
        let scaled = found.sum * scale;
        if scaled.is_tracked() {
            collect(leaves, &mut scaled.backward(), gradients)?;
        }
        Ok(sum)
    }

    /// A tape per statement of the main block. Returns the unscaled sum of losses.
    fn backward_twice(
        &self,
        placed: &Placed,
        aims: Aims,
        scale: f64,
        gradients: &mut Gradients,
    ) -> Result<Tensor<1>, ExecError> {
        let plain = self.tensors();
        let trunk = &self.program.trunk;

        // Forward, every value of the main block kept.
        let mut frame: Vec<Option<Value>> = vec![None; trunk.values];
        for &input in &trunk.inputs {
            frame[input] = Some(Value::Tokens);
        }
        let mut run = self.run(&plain, placed);
        for step in &trunk.steps {
            let operands = read_operands(&frame, step)?;
            frame[step.result] = Some(run.action(&step.action, operands)?);
        }

        // The loss, and its gradient for the values that the head reads.
        let mut upstream: Vec<Option<Tensor<3>>> = vec![None; trunk.values];
        let used = head_params(self.program.head.as_ref());
        let leaves = self.leaves(used);
        let params = self.over(&plain, &leaves);
        let run = self.run(&params, placed);
        let values: Result<Vec<Value>, ExecError> = trunk
            .results
            .iter()
            .map(|&slot| read_value(&frame, slot).map(as_leaf))
            .collect();
        let values = values?;
        let states: Result<Vec<Tensor<3>>, ExecError> = values
            .iter()
            .map(|value| run.states(value.clone()))
            .collect();
        let found = run.cross_entropy(&self.program, states?, aims)?;
        let sum = found.sum.clone().without_autodiff();
        let scaled = found.sum * scale;
        if scaled.is_tracked() {
            let mut tape = scaled.backward();
            collect(leaves, &mut tape, gradients)?;
            for (&slot, value) in trunk.results.iter().zip(&values) {
                hand_on(value, slot, &mut tape, &mut upstream);
            }
        }

        for step in trunk.steps.iter().rev() {
            frame[step.result] = None;
            let Some(gradient) = upstream[step.result].take() else {
                continue;
            };
            let mut used = Vec::new();
            Body::params_of(&step.action, &mut used);
            let leaves = self.leaves(used);
            let params = self.over(&plain, &leaves);
            let operands: Vec<Value> = read_operands(&frame, step)?
                .into_iter()
                .map(as_leaf)
                .collect();
            let result = self
                .run(&params, placed)
                .action(&step.action, operands.clone())?;
            // Token ids have no gradient.
            let Value::Floats(result) = result else {
                continue;
            };
            let product = (result * gradient).sum();
            if product.is_tracked() {
                let mut tape = product.backward();
                collect(leaves, &mut tape, gradients)?;
                for (&slot, value) in step.operands.iter().zip(&operands) {
                    hand_on(value, slot, &mut tape, &mut upstream);
                }
            }
        }
        Ok(sum)
    }

    /// Masters as leaves of a new tape.
    fn leaves(&self, used: impl IntoIterator<Item = usize>) -> Vec<(usize, ParamTensor)> {
        let leaf = |index: usize| (index, self.parameters[index].master().leaf());
        used.into_iter().map(leaf).collect()
    }

    /// Parameters as they are computed with: from the leaves those that have one, the others `plain`.
    fn over(&self, plain: &[ParamTensor], leaves: &[(usize, ParamTensor)]) -> Vec<ParamTensor> {
        let mut params = plain.to_vec();
        for (index, leaf) in leaves {
            params[*index] = leaf.clone().cast(self.compute());
        }
        params
    }

    /// Checks targets and brings them to the device.
    fn aim(&self, tokens: Tokens<'_>, targets: Targets<'_>) -> Result<Aims, ExecError> {
        let count = tokens.ids.len();
        let Targets { ids, weights } = targets;
        if ids.len() != count || weights.len() != count {
            return Err(ExecError::input(format!(
                "{count} tokens have {} targets and {} weights",
                ids.len(),
                weights.len()
            )));
        }
        if weights.iter().any(|weight| !weight.is_finite()) {
            return Err(ExecError::input("a loss weight is not a number"));
        }
        let classes = self.program.classes;
        let known = |(&id, &weight): (&u32, &f32)| weight == 0.0 || (id as usize) < classes;
        if !ids.iter().zip(weights).all(known) {
            let reason = format!("a target is outside the vocabulary of {classes} ids");
            return Err(ExecError::input(reason));
        }
        let counted = ids.iter().zip(weights);
        let ids: Vec<i32> = counted
            .map(|(&id, &weight)| if weight == 0.0 { 0 } else { id as i32 })
            .collect();
        let options = |dtype| (&self.device, dtype);
        Ok(Aims {
            ids: Tensor::from_data(TensorData::new(ids, [count]), options(DType::I32)),
            weights: Tensor::from_data(
                TensorData::new(weights.to_vec(), [count]),
                options(DType::F32),
            ),
        })
    }
}

impl Run<'_> {
    /// The loss of the trunk's results.
    fn cross_entropy(
        &self,
        program: &Program,
        states: Vec<Tensor<3>>,
        aims: Aims,
    ) -> Result<CrossEntropy, ExecError> {
        let joined = match &program.head {
            Some(head) => Some(self.joined_head(head, &states)?),
            None => None,
        };
        if let Some((hidden, head)) = joined {
            return Ok(linear_cross_entropy(hidden, head, aims.ids, aims.weights));
        }
        let logits = self.finish(program, states)?;
        let [rows, time, classes] = logits.dims();
        let count = rows * time;
        let logits = cast(logits, FloatDType::F32);
        let losses = log_softmax(logits.reshape([count, classes]), 1)
            .gather(1, aims.ids.reshape([count, 1]))
            .neg()
            .reshape([count]);
        let losses = losses.mask_fill(aims.weights.clone().equal_elem(0.0), 0.0);
        Ok(CrossEntropy {
            sum: (losses.clone() * aims.weights).sum(),
            rows: losses.without_autodiff(),
        })
    }

    /// A head as one output layer over states `[rows · time, width]`.
    ///
    /// Two output layers between which rows are chosen become one over both states side by side:
    /// each weight is zero at the ids that the other one gives.
    fn joined_head(
        &self,
        head: &Head,
        states: &[Tensor<3>],
    ) -> Result<(Tensor<2>, cross_entropy::Head), ExecError> {
        let flat = |state: usize, scale: f64| {
            let x = states[state].clone();
            let [rows, time, width] = x.dims();
            let x = x.reshape([rows * time, width]);
            if scale == 1.0 { x } else { x * scale }
        };
        let mask = head.mask.map(|mask| self.forbidding(mask)).transpose()?;
        let mask = mask.map(flatten);
        let choice = head.choice.map(|choice| self.choice(choice)).transpose()?;
        let choice = choice.map(|choice| flatten(choice.float()));
        match (&head.outputs[..], choice) {
            ([output], None) => Ok((
                flat(output.state, output.scale),
                cross_entropy::Head {
                    weight: self.weight(output.weight),
                    layout: match output.table {
                        true => HeadLayout::Table,
                        false => HeadLayout::Linear,
                    },
                    bias: scaled(self.bias(output.bias), output.scale),
                    mask,
                },
            )),
            ([first, second], Some(choice)) => {
                let sides = [(first, choice.clone().neg() + 1.0), (second, choice)];
                let mut hidden = Vec::with_capacity(2);
                let mut weights = Vec::with_capacity(2);
                let mut bias: Option<Tensor<1>> = None;
                for (output, share) in sides {
                    hidden.push(flat(output.state, output.scale));
                    let weight = self.weight(output.weight);
                    let weight = if output.table {
                        weight
                    } else {
                        weight.transpose()
                    };
                    let share = cast(share, self.compute);
                    weights.push(weight * share.clone().unsqueeze_dim(1));
                    if let Some(own) = scaled(self.bias(output.bias), output.scale) {
                        let own = own * share;
                        bias = Some(match bias {
                            Some(other) => other + own,
                            None => own,
                        });
                    }
                }
                let head = cross_entropy::Head {
                    weight: Tensor::cat(weights, 1),
                    layout: HeadLayout::Table,
                    bias,
                    mask,
                };
                Ok((Tensor::cat(hidden, 1), head))
            }
            (outputs, _) => Err(unknown_head(outputs.len())),
        }
    }
}

/// `[1, 1, n]` as `[n]`.
fn flatten(constant: Tensor<3>) -> Tensor<1> {
    let classes = constant.dims()[2];
    constant.reshape([classes])
}

/// Σ weight of targets.
fn weight_of(targets: &Targets<'_>) -> f64 {
    targets
        .weights
        .iter()
        .map(|&weight| f64::from(weight))
        .sum()
}

fn mean_of(sum: f64, weight: f64) -> Loss {
    let mean = if weight == 0.0 { 0.0 } else { sum / weight };
    Loss { mean, weight }
}

/// Parameters that a head reads.
fn head_params(head: Option<&Head>) -> Vec<usize> {
    let outputs = head.map(|head| &head.outputs[..]).unwrap_or(&[]);
    let mut used: Vec<usize> = outputs
        .iter()
        .flat_map(|output| [Some(output.weight), output.bias])
        .flatten()
        .collect();
    used.sort_unstable();
    used.dedup();
    used
}

/// A value as a leaf of a new tape.
fn as_leaf(value: Value) -> Value {
    match value {
        Value::Floats(tensor) => Value::Floats(tensor.autodiff().require_grad()),
        Value::Tokens => Value::Tokens,
    }
}

/// Moves the gradients of leaves from a tape to the sums.
fn collect(
    leaves: Vec<(usize, ParamTensor)>,
    tape: &mut burn::tensor::Gradients,
    gradients: &mut Gradients,
) -> Result<(), ExecError> {
    for (index, leaf) in leaves {
        let gradient = match leaf {
            ParamTensor::Vector(leaf) => leaf.grad_remove(tape).map(ParamTensor::Vector),
            ParamTensor::Matrix(leaf) => leaf.grad_remove(tape).map(ParamTensor::Matrix),
        };
        if let Some(gradient) = gradient {
            gradients.add(index, gradient)?;
        }
    }
    Ok(())
}

/// Moves the gradient of a leaf from a tape to the sum for the value that it stands for.
fn hand_on(
    leaf: &Value,
    slot: usize,
    tape: &mut burn::tensor::Gradients,
    upstream: &mut [Option<Tensor<3>>],
) {
    let Value::Floats(leaf) = leaf else { return };
    if let Some(gradient) = leaf.grad_remove(tape) {
        upstream[slot] = Some(match upstream[slot].take() {
            Some(sum) => sum + gradient,
            None => gradient,
        });
    }
}
