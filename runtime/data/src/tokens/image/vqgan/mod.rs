//! VQGANs in files: what others and JAM call their settings and weights, and where these lie.
//!
//! Settings, layers (the structure as data), names (what others call settings and weights), files (folders of
//! others and of JAM), vocabulary (ids of codes in Chameleon's). The network runs above this crate.

mod files;
pub mod layers;
pub mod names;
mod settings;
mod vocabulary;

pub(super) use files::is_own;
pub use files::{VqganCheckpoint, VqganFile, save_vqgan};
pub use settings::VqganSettings;
pub use vocabulary::{code_of, ids_of_codes};
