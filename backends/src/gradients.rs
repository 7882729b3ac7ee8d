//! Gradients, in the order of the parameters of an executable.

use crate::error::ExecError;
use crate::executable::Executable;
use crate::parameters::ParamTensor;

/// A gradient for every parameter that the loss depends on, in the order of the parameters.
#[derive(Debug, Clone)]
pub struct Gradients {
    pub(crate) tensors: Vec<Option<ParamTensor>>,
}

impl Gradients {
    /// The gradient of a parameter in storage order; `None` where the loss does not depend on it.
    ///
    /// # Errors
    /// When there is no such parameter, or the device fails.
    pub fn read(&self, executable: &Executable, name: &str) -> Result<Option<Vec<f32>>, ExecError> {
        let index = executable.index(name)?;
        let tensor = self.tensors.get(index).and_then(Option::as_ref);
        tensor.map(ParamTensor::to_vec).transpose()
    }

    /// No gradient yet for `count` parameters.
    pub(crate) fn none(count: usize) -> Gradients {
        Gradients {
            tensors: vec![None; count],
        }
    }

    /// Adds to the gradient of one parameter.
    ///
    /// # Errors
    /// When it has not the form of the sum so far.
    pub(crate) fn add(&mut self, index: usize, gradient: ParamTensor) -> Result<(), ExecError> {
        let slot = &mut self.tensors[index];
        *slot = Some(match slot.take() {
            None => gradient,
            Some(sum) => sum.plus(gradient)?,
        });
        Ok(())
    }
}
