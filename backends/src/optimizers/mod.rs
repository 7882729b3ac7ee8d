//! Optimizers over the parameters of an executable: a rule a file, clipping by the norm of all gradients, and
//! what a checkpoint needs to go on with the same bits.
//!
//! A rule is a [`Rule`]: its signature (the language and the reference know no more of it) and how a step
//! changes weights. A new one is a file here and a line in [`OPTIMIZERS`]; clipping, states of runs and the
//! learning rate's course are the same for all.

mod adamw;
mod rule;

use burn::tensor::{DType, Tensor, TensorData};
use jam_ir::recipe::WeightKind;
use jam_ir::{Called, Signature, signature};

pub use adamw::AdamW;
pub use rule::{Improved, Rule, Update};

use crate::error::ExecError;
use crate::executable::Executable;
use crate::gradients::Gradients;
use crate::kernels::optimizer::{clip_factor, global_norm};
use crate::parameters::{ParamTensor, read};

/// Every rule, in the order in which help lists them.
pub const OPTIMIZERS: [&dyn Rule; 1] = [&adamw::Adam];

/// Signatures of every optimizer, for the language.
pub fn optimizers() -> Vec<Signature> {
    OPTIMIZERS.iter().map(|rule| rule.signature()).collect()
}

/// A rule and what it keeps of every parameter.
#[derive(Debug)]
pub struct Optimizer {
    update: Box<dyn Update>,
    /// What kind of weight every parameter is.
    kinds: Vec<Option<WeightKind>>,
    clip: f64,
    steps: u64,
    /// What is kept of every parameter, flat; taken out during a step.
    kept: Vec<Option<Vec<Tensor<1>>>>,
}

/// What is kept of a parameter, in the order of [`Optimizer::keeps`], each in storage order.
pub type Kept = Vec<Vec<f32>>;

impl Optimizer {
    /// Before the first step. The learning rate is given with every step; a recipe's own is its
    /// peak and not looked at.
    ///
    /// # Errors
    /// When there is no such optimizer, or a setting is missing or of another kind.
    pub fn new(executable: &Executable, called: &Called) -> Result<Optimizer, ExecError> {
        Ok(Optimizer {
            update: update(called)?,
            kinds: executable.program.weight_kinds(),
            clip: number(called, "clip")?,
            steps: 0,
            kept: vec![None; executable.parameters.len()],
        })
    }

    /// Names of what is kept of every parameter.
    pub fn keeps(&self) -> &'static [&'static str] {
        self.update.keeps()
    }

    /// How many numbers the optimizer that a recipe calls keeps of each weight.
    ///
    /// # Errors
    /// As [`Optimizer::new`].
    pub fn kept_by(called: &Called) -> Result<usize, ExecError> {
        Ok(update(called)?.keeps().len())
    }

    /// The peak of the learning rate that a recipe calls for.
    ///
    /// # Errors
    /// When it has none.
    pub fn peak(called: &Called) -> Result<f64, ExecError> {
        number(called, "lr")
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Sets the number of steps taken (a run goes on).
    pub fn set_steps(&mut self, steps: u64) {
        self.steps = steps;
    }

    /// What is kept of a parameter; `None` before its first step.
    ///
    /// # Errors
    /// When there is no such parameter, or the device fails.
    pub fn kept(&self, executable: &Executable, name: &str) -> Result<Option<Kept>, ExecError> {
        let Some(kept) = &self.kept[executable.index(name)?] else {
            return Ok(None);
        };
        let kept = kept.iter().map(|tensor| read(tensor.clone()));
        kept.collect::<Result<Kept, _>>().map(Some)
    }

    /// Sets what is kept of a parameter (a run goes on).
    ///
    /// # Errors
    /// When there is no such parameter, or the number of elements differs.
    pub fn set_kept(
        &mut self,
        executable: &Executable,
        name: &str,
        kept: Kept,
    ) -> Result<(), ExecError> {
        let index = executable.index(name)?;
        let parameter = &executable.parameters[index];
        let given = kept.iter().map(Vec::len);
        if let Some(given) = given.clone().find(|given| *given != parameter.len()) {
            return Err(ExecError::WeightShape {
                name: name.to_owned(),
                wanted: parameter.shape().to_vec(),
                given,
            });
        }
        if given.len() != self.keeps().len() {
            let wanted = self.keeps().join(" and ");
            return Err(ExecError::input(format!("of `{name}` {wanted} are kept")));
        }
        let place = |values: Vec<f32>| {
            let shape = [values.len()];
            let data = TensorData::new(values, shape);
            Tensor::<1>::from_data(data, (&executable.device, DType::F32))
        };
        self.kept[index] = Some(kept.into_iter().map(place).collect());
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
        if gradients.tensors.len() != count || self.kept.len() != count {
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
        let mut weights = Vec::with_capacity(count);
        for (index, gradient) in flat.into_iter().enumerate() {
            let Some(grad) = gradient else { continue };
            let parameter = &mut executable.parameters[index];
            // Taken out, so that the step may change it in place.
            let empty = ParamTensor::Vector(Tensor::zeros([0], (&executable.device, DType::F32)));
            let param = parameter.replace(empty).flat();
            let kept = self.kept[index].take().unwrap_or_else(|| {
                let zeros = param.zeros_like();
                vec![zeros; self.update.keeps().len()]
            });
            indices.push(index);
            weights.push(Improved {
                kind: self.kinds[index],
                param,
                grad,
                kept,
            });
        }
        let weights = self.update.step(weights, self.steps, lr, scale);
        for (index, weight) in indices.into_iter().zip(weights) {
            let parameter = &mut executable.parameters[index];
            let master = ParamTensor::from_flat(weight.param, &parameter.spec);
            parameter.replace(master);
            self.kept[index] = Some(weight.kept);
        }
        Ok(norm)
    }
}

/// The rule that a recipe calls, with its settings.
fn update(called: &Called) -> Result<Box<dyn Update>, ExecError> {
    let found = signature::find(&OPTIMIZERS, "an optimizer", &called.name, |rule| {
        rule.signature().word
    });
    let rule = found.map_err(|error| ExecError::input(error.to_string()))?;
    rule.update(called)
}

fn number(called: &Called, name: &str) -> Result<f64, ExecError> {
    let found = called.number(name);
    found.map_err(|error| ExecError::input(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::rule::{clip, lr};
    use super::*;

    #[test]
    fn every_optimizer_has_the_settings_that_others_read() {
        for rule in OPTIMIZERS {
            let signature = rule.signature();
            assert_eq!(signature.setting("lr"), Some(&lr()), "{}", signature.word);
            assert_eq!(
                signature.setting("clip"),
                Some(&clip()),
                "{}",
                signature.word
            );
            let called = signature.called([("lr", jam_ir::SettingValue::Number(0.5))]);
            assert_eq!(Optimizer::peak(&called).unwrap(), 0.5);
            let update = rule.update(&called).unwrap();
            assert_eq!(update.keeps().len(), Optimizer::kept_by(&called).unwrap());
        }
    }

    #[test]
    fn an_optimizer_that_is_not_there_is_an_error_with_those_that_are() {
        let called = Called {
            name: "adma".to_owned(),
            ..Called::default()
        };
        let error = Optimizer::kept_by(&called).unwrap_err().to_string();
        assert!(
            error.contains("`adma` is not an optimizer") && error.contains("adamw"),
            "{error}"
        );
    }
}
