//! The kernels for GPUs, written once in CubeCL for CUDA and WGPU.
//!
//! A kernel knows buffers, sizes and element types, and no tensor library: an edit is compiled, run on the
//! processor (`backends/cuda-on-cpu`) and brought to machine code in seconds. Each module holds the kernels of one
//! operation, forward and backward, and functions that launch them with sizes that suit the device. Buffers are
//! contiguous, in the layout that the function names; `len` of an argument is its number of elements.
//!
//! Sums are f32 in a fixed order, whatever the element type: the same device gives the same bits.

pub mod activation;
pub mod attention;
pub mod cross_entropy;
pub mod device;
pub mod embedding;
pub mod norm;
pub mod optimizer;
mod reduce;
pub mod rotary;
pub mod sampling;
pub mod sums;

pub use cubecl;
