//! The operations that decide speed and memory, each behind one seam.
//!
//! A seam is a function on Burn tensors with autodiff, and a trait of what a backend has to offer for it: the operation,
//! and its gradient as an operation of its own, so that autodiff is written once for every backend. Beside it stands
//! `…_reference`, the same function made of plain tensor operations, which works everywhere and is what tests compare
//! with. The processor (Flex, `f32`) has kernels of its own; those of CUDA and WGPU are `jam-cube`'s. [`served`] says
//! which kernel serves where, and what was computed without one.
//!
//! Shapes are the caller's duty (a verified graph has them right): a seam given shapes that
//! disagree panics, as Burn's own operations do. Results on the CPU have the same bits whatever the number of threads.

mod absent;
pub mod activation;
pub mod attention;
mod buffer;
pub mod cross_entropy;
#[cfg(feature = "gpu")]
mod cube;
pub mod embedding;
pub mod linear;
pub mod memory;
pub mod norm;
pub mod optimizer;
pub mod rotary;
pub mod sampling;
pub mod served;
mod tape;
mod vector;

#[cfg(test)]
mod comparison;
