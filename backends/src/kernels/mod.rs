//! The operations that decide speed and memory, each behind one seam.
//!
//! A seam is a function on Burn tensors with autodiff. Beside it stands `…_reference`, the same
//! function made of plain tensor operations, which works on every backend and is what tests compare
//! with. On the CPU (Flex, `f32`) a seam runs a kernel of its own, forward and backward, registered
//! as a backend extension; elsewhere it runs the reference, until that backend has a kernel too: one
//! more entry in the extension's list of backends.
//!
//! Shapes are the caller's duty (a verified graph has them right): a seam given shapes that
//! disagree panics, as Burn's own operations do. Results on the CPU have the same bits whatever the number of threads.

pub mod activation;
pub mod attention;
mod buffer;
pub mod cross_entropy;
pub mod embedding;
pub mod linear;
pub mod memory;
pub mod norm;
pub mod optimizer;
pub mod rotary;
pub mod sampling;
mod tape;
mod vector;

#[cfg(test)]
mod comparison;
