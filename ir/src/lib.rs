//! The intermediate representation of JAM.
//!
//! The central type is [`Model`]: named [`Axis`]es, [`Block`]s of [`Statement`]s over typed
//! [`Value`]s, a main block, and for every weight a [`Plan`] that says where its numbers come
//! from. A fused model is a graph and a weight plan, like any other.
//!
//! - **Named axes.** Every axis has a [`Role`]; a weight is declared by its sides,
//!   `[width -> head, key]`. Strategies are rules over sides and roles, never over tensor names.
//! - **Blocks and calls.** A model of 32 layers is one block and 32 calls; the weight `attn.q` of
//!   the call at `layers.3` is `layers.3.attn.q`.
//! - **Spans.** What came from a program remembers where, so that a late error still points at
//!   the source.
//! - **Implicit inputs.** A run gives the main block tokens and, where there is padding, a mask;
//!   `positions`, `rotary` and `attention` read positions and mask from the run.
//!
//! This crate knows no files, no device and no command line. [`recipe`] holds what a program asks
//! for beside models, as plain data.

// This room knows no files (`clippy.toml`).
#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

mod activation;
mod axis;
pub mod count;
pub mod diagnostic;
pub mod error;
pub mod headers;
mod implied;
pub mod infer;
mod model;
mod op;
pub mod origins;
mod plan;
pub mod plan_shape;
pub mod recipe;
pub mod reference;
mod rotary;
mod setting;
pub mod signature;
pub mod span;
pub mod text;
mod tokens;
mod types;
pub mod verify;
mod words;

pub use activation::Activation;
pub use axis::{Axis, AxisId, Role};
pub use diagnostic::Diagnostic;
pub use error::{Error, ErrorKind, Result};
pub use implied::Contradiction;
pub use model::{Block, Model, Param, ParamId, Statement, Value, ValueId, Weight, join_path};
pub use op::{Mask, Norm, Op, RotaryLayout};
pub use plan::Plan;
pub use recipe::{ModelRef, Program};
pub use rotary::{RotaryScaling, number_text};
pub use setting::{Holds, Part, SettingKind, SettingSignature, SettingValue, Settings};
pub use signature::{Called, Reference, Signature, StrategySignature};
pub use span::Span;
pub use tokens::{
    END_MARK, FIRST_MARKS, ImageTokens, LAST_MARKS, TextTokens, TokenKind, TokenLayout, TokenRange,
};
pub use types::{DType, ValueType, WeightType};
pub use verify::verify;
pub use words::Words;
