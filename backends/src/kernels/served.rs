//! Which operation has a kernel of its own where, and what was computed without one.
//!
//! The one place that decides: a seam asks [`served`], and runs its reference where the answer is no. What that
//! happened to is kept for [`fallbacks`].

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::backend::DispatchDevice;
use burn::tensor::{DType, Device, Tensor};

/// An operation that has kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kernel {
    /// Activations, plain and gated.
    Activation,
    /// Attention, forward and backward.
    Attention,
    /// The last layer and its loss.
    CrossEntropy,
    /// Rows of a table.
    Embedding,
    /// The linear layer.
    Linear,
    /// Layer and RMS normalisation.
    Norm,
    /// A step of an optimizer.
    Optimizer,
    /// Rotary positions.
    Rotary,
    /// The choice of a token.
    Sampling,
}

/// Every kernel, in the order of their names.
pub const KERNELS: [Kernel; 9] = [
    Kernel::Activation,
    Kernel::Attention,
    Kernel::CrossEntropy,
    Kernel::Embedding,
    Kernel::Linear,
    Kernel::Norm,
    Kernel::Optimizer,
    Kernel::Rotary,
    Kernel::Sampling,
];

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kernel::Activation => "activation",
            Kernel::Attention => "attention",
            Kernel::CrossEntropy => "cross-entropy",
            Kernel::Embedding => "embedding",
            Kernel::Linear => "linear",
            Kernel::Norm => "norm",
            Kernel::Optimizer => "optimizer",
            Kernel::Rotary => "rotary",
            Kernel::Sampling => "sampling",
        })
    }
}

/// What kernels a device runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// Burn's Flex: kernels for the processor.
    Processor,
    /// CubeCL: kernels for CUDA and WGPU.
    Gpu,
    /// Another backend of Burn, which has none.
    Other,
}

impl Place {
    /// That of a device.
    pub fn of(device: &Device) -> Place {
        match device.clone().inner().as_dispatch() {
            DispatchDevice::Flex(_) => Place::Processor,
            #[cfg(feature = "gpu")]
            DispatchDevice::Cube(_) => Place::Gpu,
            _ => Place::Other,
        }
    }
}

/// Why an operation is computed by plain tensor operations.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fallback {
    /// The operation.
    pub kernel: Kernel,
    /// Why, in words.
    pub reason: String,
}

impl fmt::Display for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by plain operations: {}", self.kernel, self.reason)
    }
}

/// Whether `kernel` computes with numbers of `dtype` at `place`; the reason where it does not.
///
/// # Errors
/// Why the reference has to do.
fn serves(kernel: Kernel, place: Place, dtype: DType) -> Result<(), String> {
    match (place, kernel) {
        (Place::Processor, _) if dtype == DType::F32 => Ok(()),
        (Place::Processor, _) => Err(format!(
            "the processor's kernels compute in f32, not {dtype:?}"
        )),
        (Place::Gpu, Kernel::Optimizer) if dtype == DType::F32 => Ok(()),
        (Place::Gpu, Kernel::Optimizer) => Err(format!("masters are f32, not {dtype:?}")),
        (Place::Gpu, Kernel::Sampling) => Err("tokens are chosen on the host".to_owned()),
        (Place::Gpu, _) => floats(dtype),
        (Place::Other, _) => Err("this backend has no kernels".to_owned()),
    }
}

fn floats(dtype: DType) -> Result<(), String> {
    match dtype {
        DType::F32 | DType::F16 | DType::BF16 => Ok(()),
        other => Err(format!("there is no kernel for {other:?}")),
    }
}

/// What a place does about one operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The operation.
    pub kernel: Kernel,
    /// Element types that its kernel computes with, as `--dtype` calls them; none where there is no kernel.
    pub types: Vec<&'static str>,
    /// Why there is none.
    pub note: Option<String>,
}

/// What a place does about every operation.
pub fn services(place: Place) -> Vec<Service> {
    const TYPES: [(DType, &str); 3] = [
        (DType::F32, "f32"),
        (DType::F16, "f16"),
        (DType::BF16, "bf16"),
    ];
    let of = |kernel| {
        let served = |&(dtype, _): &(DType, &str)| serves(kernel, place, dtype).is_ok();
        let types: Vec<&str> = TYPES
            .iter()
            .filter(|one| served(one))
            .map(|(_, name)| *name)
            .collect();
        let note = if types.is_empty() {
            serves(kernel, place, DType::F32).err()
        } else {
            None
        };
        Service {
            kernel,
            types,
            note,
        }
    };
    KERNELS.into_iter().map(of).collect()
}

static SEEN: Mutex<BTreeSet<Fallback>> = Mutex::new(BTreeSet::new());

/// Whether a kernel serves this tensor; a no is noted.
pub(super) fn served<const D: usize>(kernel: Kernel, tensor: &Tensor<D>) -> bool {
    let place = Place::of(&tensor.device());
    match serves(kernel, place, tensor.dtype()) {
        Ok(()) => true,
        Err(reason) => {
            seen().insert(Fallback { kernel, reason });
            false
        }
    }
}

fn seen() -> MutexGuard<'static, BTreeSet<Fallback>> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What has been computed by plain operations in this process.
pub fn fallbacks() -> Vec<Fallback> {
    seen().iter().cloned().collect()
}
