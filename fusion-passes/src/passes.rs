//! Passes: one model to an equivalent one.
pub(crate) mod dead_code;
