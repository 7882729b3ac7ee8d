//! AdamW over the parameters of an executable: moments, clipping by the norm of all gradients, and
//! what a checkpoint needs to go on with the same bits.

use burn::tensor::{DType, Tensor, TensorData};
use jam_ir::recipe;

use crate::error::ExecError;
use crate::executable::Executable;
use crate::gradients::Gradients;
use crate::kernels::optimizer::{AdamW, Slot, adamw_step, clip_factor, global_norm};
use crate::parameters::{ParamTensor, read};

/// Moments of every parameter, and the rule.
#[derive(Debug)]
pub struct Optimizer {
    rule: AdamW,
    /// Decay of every parameter.
    decays: Vec<f64>,
    clip: f64,
    steps: u64,
    /// First and second moment of every parameter, flat; taken out during a step.
    moments: Vec<Option<(Tensor<1>, Tensor<1>)>>,
}

/// First and second moment of a parameter, in storage order.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Running mean of gradients.
    pub first: Vec<f32>,
    /// Running mean of squared gradients.
    pub second: Vec<f32>,
}

impl Optimizer {
    /// Before the first step. The learning rate is given with every step; a recipe's own is its
    /// peak and not looked at. Decay is decoupled and applies to every parameter but those of the kinds
    /// in `no_decay`; a `clip` of 0 is none.
    pub fn new(executable: &Executable, recipe: &recipe::AdamW) -> Optimizer {
        let kinds = executable.program.weight_kinds().into_iter();
        let spared = |kind: Option<_>| kind.is_some_and(|kind| recipe.no_decay.contains(&kind));
        Optimizer {
            rule: AdamW {
                beta1: recipe.betas.0,
                beta2: recipe.betas.1,
                eps: recipe.eps,
            },
            decays: kinds
                .map(|kind| if spared(kind) { 0.0 } else { recipe.decay })
                .collect(),
            clip: recipe.clip,
            steps: 0,
            moments: vec![None; executable.parameters.len()],
        }
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Sets the number of steps taken (a run goes on).
    pub fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// The moments of a parameter; `None` before its first step.
    ///
    /// # Errors
    /// When there is no such parameter, or the device fails.
    pub fn moments(
        &self,
        executable: &Executable,
        name: &str,
    ) -> Result<Option<Moments>, ExecError> {
        match &self.moments[executable.index(name)?] {
            None => Ok(None),
            Some((first, second)) => Ok(Some(Moments {
                first: read(first.clone())?,
                second: read(second.clone())?,
            })),
        }
    }

    /// Sets the moments of a parameter (a run goes on).
    ///
    /// # Errors
    /// When there is no such parameter, or the number of elements differs.
    pub fn set_moments(
        &mut self,
        executable: &Executable,
        name: &str,
        moments: Moments,
    ) -> Result<(), ExecError> {
        let index = executable.index(name)?;
        let parameter = &executable.parameters[index];
        for given in [moments.first.len(), moments.second.len()] {
            if given != parameter.len() {
                return Err(ExecError::WeightShape {
                    name: name.to_owned(),
                    wanted: parameter.shape().to_vec(),
                    given,
                });
            }
        }
        let place = |values: Vec<f32>| {
            let shape = [values.len()];
            let data = TensorData::new(values, shape);
            Tensor::<1>::from_data(data, (&executable.device, DType::F32))
        };
        self.moments[index] = Some((place(moments.first), place(moments.second)));
        Ok(())
    }

    /// One step at learning rate `lr`; returns the norm of all gradients before clipping.
    ///
    /// Parameters without a gradient stay as they are.
    ///
    /// # Errors
    /// When the gradients are of another executable, or are not numbers: then nothing has changed.
    pub fn step(
        &mut self,
        executable: &mut Executable,
        gradients: Gradients,
        lr: f64,
    ) -> Result<f64, ExecError> {
        let count = executable.parameters.len();
        if gradients.tensors.len() != count || self.moments.len() != count {
            return Err(ExecError::input("these gradients are of another model"));
        }
        let flat: Vec<Option<Tensor<1>>> = gradients
            .tensors
            .into_iter()
            .map(|gradient| gradient.map(ParamTensor::flat))
            .collect();
        let known: Vec<Tensor<1>> = flat.iter().flatten().cloned().collect();
        let norm = global_norm(&known);
        drop(known);
        if !norm.is_finite() {
            return Err(ExecError::input(format!(
                "the gradients are not numbers (their norm is {norm}): a lower learning rate may help"
            )));
        }
        let scale = if self.clip > 0.0 {
            clip_factor(norm, self.clip)
        } else {
            1.0
        };
        self.steps += 1;

        let mut indices = Vec::with_capacity(count);
        let mut slots = Vec::with_capacity(count);
        for (index, gradient) in flat.into_iter().enumerate() {
            let Some(gradient) = gradient else { continue };
            let parameter = &mut executable.parameters[index];
            // Taken out, so that the step may change it in place.
            let empty = ParamTensor::Vector(Tensor::zeros([0], (&executable.device, DType::F32)));
            let tensor = std::mem::replace(&mut parameter.tensor, empty).flat();
            let slot = match self.moments[index].take() {
                None => Slot::new(tensor, gradient, self.decays[index]),
                Some((first, second)) => Slot {
                    param: tensor,
                    grad: gradient,
                    first,
                    second,
                    decay: self.decays[index],
                    rate: 1.0,
                },
            };
            indices.push(index);
            slots.push(slot);
        }
        let slots = adamw_step(slots, &self.rule, self.steps, lr, scale);
        for (index, slot) in indices.into_iter().zip(slots) {
            let parameter = &mut executable.parameters[index];
            parameter.tensor = ParamTensor::from_flat(slot.param, &parameter.spec);
            self.moments[index] = Some((slot.first, slot.second));
        }
        Ok(norm)
    }
}
