//! From a verified model to an executable on a Burn device.

pub mod kernels;
