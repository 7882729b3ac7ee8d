//! What a rule of optimization is, and the settings that all have.

use std::fmt::Debug;

use burn::tensor::Tensor;
use jam_ir::recipe::WeightKind;
use jam_ir::{Called, SettingSignature, Signature};

use crate::error::ExecError;

/// How gradients change weights, as a table lists it.
pub trait Rule: Debug + Sync {
    /// What the language may ask of it; `lr` and `clip` are among its settings.
    fn signature(&self) -> Signature;

    /// The rule with the settings of a recipe.
    ///
    /// # Errors
    /// When a setting is missing or of another kind; the language has checked it, a stored program may lie.
    fn update(&self, called: &Called) -> Result<Box<dyn Update>, ExecError>;
}

/// A rule with its settings.
pub trait Update: Debug {
    /// Names of what is kept beside every parameter from step to step: tensors of its size, zeros at first.
    fn keeps(&self) -> &'static [&'static str];

    /// Step number `step` (the first is 1) at the learning rate `lr`, gradients times `scale` first. Gives the
    /// same list with weights, and what is kept, replaced.
    fn step(&self, weights: Vec<Improved>, step: u64, lr: f64, scale: f64) -> Vec<Improved>;
}

/// A parameter in a step, flattened, without autodiff.
#[derive(Debug)]
pub struct Improved {
    /// What kind of weight it is; `None` for the matrices of linear layers and of untied heads.
    pub kind: Option<WeightKind>,
    /// Its values.
    pub param: Tensor<1>,
    /// Their gradient.
    pub grad: Tensor<1>,
    /// What is kept of it, in the order of [`Update::keeps`].
    pub kept: Vec<Tensor<1>>,
}

/// The setting `lr`: the peak of the learning rate, whose course a schedule says.
pub(super) fn lr() -> SettingSignature {
    SettingSignature::number("lr", (0.0, 10.0), None, "the learning rate at its peak")
}

/// The setting `clip`.
pub(super) fn clip() -> SettingSignature {
    let help = "the greatest L2 norm of all gradients together; 0 sets no bound";
    SettingSignature::number("clip", (0.0, f64::MAX), 0.0, help)
}
