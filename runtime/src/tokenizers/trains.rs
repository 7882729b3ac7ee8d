//! What a tokenizer is that can be trained.

use std::fmt::Debug;
use std::path::Path;

use jam_backends::Device;
use jam_ir::signature::TokenizerSignature;
use jam_ir::{Called, Holds, SettingSignature};
use jam_weights::progress::{Progress, Stop};

use crate::Result;
use crate::inputs::Inputs;

/// A training of a tokenizer.
pub struct Job<'j> {
    /// Name of the tokenizer, for progress.
    pub name: &'j str,
    /// What a tokenizer that keeps states calls before its first step, when its data are read.
    pub begin: &'j dyn Fn() -> Result<()>,
    /// Folder where a training that takes long keeps its states; gone at the end.
    pub state: &'j Path,
    /// The record of the result, which is saved with every state.
    pub record: &'j [u8],
    /// Data of the program.
    pub inputs: &'j dyn Inputs,
    /// Where to compute.
    pub device: &'j Device,
    /// Where progress is told.
    pub progress: &'j dyn Progress,
    /// When to stop.
    pub stop: &'j Stop,
}

/// A trained tokenizer, as what writes its files into a folder.
pub type Trained = Box<dyn Fn(&Path) -> Result<()>>;

/// A tokenizer that can be trained.
pub trait Trains: Debug + Sync {
    /// What the language may ask of it.
    fn signature(&self) -> TokenizerSignature;

    /// Whether its training takes long: it keeps states, goes on from them, and is not made anew unasked.
    fn keeps_states(&self) -> bool {
        false
    }

    /// Trains it; `None` where it was stopped, and goes on from its state when it is called again.
    ///
    /// # Errors
    /// When data or settings do not fit, or the device fails.
    fn train(&self, called: &Called, job: &Job<'_>) -> Result<Option<Trained>>;
}

/// The setting `train`: data that the tokenizer learns from.
pub(super) fn train(holds: Holds, help: &str) -> SettingSignature {
    SettingSignature::data("train", holds, true, help)
}
