//! From a verified model to an executable on a Burn device.
//!
//! The central type is [`Executable`]: a [`jam_ir::Model`], lowered to steps over a flat list of
//! named parameters that lie on a device. Its entries are
//!
//! - [`Executable::forward`]: logits of every position;
//! - [`Executable::loss`] and [`Executable::token_losses`]: cross-entropy, mean and per token;
//! - [`Executable::train_step`]: loss and gradients, which [`Optimizer::step`] applies;
//! - [`Executable::decoder`]: a [`Decoder`] that reads token by token with a key-value cache.
//!
//! [`DeviceChoice`] finds the device that a user names, [`doctor`] tells what there is.
//! Operations that decide speed and memory stand in [`kernels`], one seam each, with a plain
//! reference beside them. Callers give token ids as slices and get numbers back; every failure is
//! an [`ExecError`].

// This room knows no files (`clippy.toml`).
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

mod cache;
mod decoder;
mod device;
mod error;
mod executable;
mod gradients;
mod interpreter;
pub mod kernels;
mod lower;
pub mod optimizers;
mod parameters;
mod train;

pub use burn::tensor::Device;
pub use decoder::Decoder;
pub use device::{DeviceChoice, Doctor, Kind, UnknownDevice, WgpuChoice, doctor};
pub use error::ExecError;
pub use executable::{ExecOptions, Executable, Tokens, WeightSource};
pub use gradients::Gradients;
pub use interpreter::Precision;
pub use optimizers::{AdamW, Kept, Optimizer};
pub use parameters::Parameter;
pub use train::{Loss, NextTokens, Targets, TrainStep};
