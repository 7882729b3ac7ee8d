//! What the tests of the kernels share: random tensors, gradients of several inputs, comparisons.

use std::cell::RefCell;

use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::served::Place;
use crate::device::DeviceChoice;
use crate::parameters::cast;

thread_local! {
    /// Where the test of this thread computes; the CPU where nothing is said.
    static HERE: RefCell<Option<Device>> = const { RefCell::new(None) };
}

/// The device of this test, with autodiff.
pub(super) fn device() -> Device {
    let here = HERE.with_borrow(Clone::clone);
    here.unwrap_or_else(Device::flex).autodiff()
}

/// Runs a test on every device that `JAM_DEVICES` names (by default the CPU); one that is named must be there.
pub(super) fn everywhere(test: impl Fn()) {
    let named = std::env::var("JAM_DEVICES").unwrap_or_else(|_| "cpu".to_owned());
    for name in named.split(',').map(str::trim) {
        let choice: DeviceChoice = name.parse().expect("a device");
        let device = choice
            .open()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        HERE.set(Some(device));
        test();
    }
    HERE.set(None);
}

/// Normal random values that gradients are wanted of; the same for the same seed and shape.
pub(super) fn random<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    constant(shape, seed).require_grad()
}

/// Normal random values without gradient.
pub(super) fn constant<const D: usize>(shape: [usize; D], seed: u64) -> Tensor<D> {
    let count = shape.iter().product::<usize>() as u64;
    // A sum of uniform numbers is close enough to normal.
    let normal = |i: u64| {
        (0..4)
            .map(|j| super::sampling::uniform(seed, i, j) as f32 - 0.5)
            .sum::<f32>()
            * 1.7
    };
    let values: Vec<f32> = (0..count).map(normal).collect();
    Tensor::from_data(TensorData::new(values, shape), &device())
}

/// Asserts that two tensors agree to `tolerance`, absolute below 1 and relative above.
pub(super) fn assert_close(name: &str, got: TensorData, want: TensorData, tolerance: f32) {
    assert_eq!(got.shape(), want.shape(), "{name}: shapes");
    let (got, want): (Vec<f32>, Vec<f32>) = (got.iter().collect(), want.iter().collect());
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        let allowed = tolerance * w.abs().max(1.0);
        assert!((g - w).abs() <= allowed, "{name}[{i}]: {g}, expected {w}");
    }
}

/// Asserts that values and gradients of a function on this test's device, in f32 and in the halves that a GPU has, agree
/// with those of another on the CPU in f32 (a product of f32 is one there: on a GPU Burn may round its operands).
///
/// Outputs are weighted by random numbers before they are summed, so that every gradient differs.
pub(super) fn assert_same<const D: usize>(
    name: &str,
    inputs: Vec<AnyTensor>,
    f: impl Fn(&[AnyTensor]) -> Tensor<D>,
    reference: impl Fn(&[AnyTensor]) -> Tensor<D>,
    tolerance: f32,
) {
    let run = |f: &dyn Fn(&[AnyTensor]) -> Tensor<D>, leaves: &[AnyTensor], dtype| {
        let inputs: Vec<AnyTensor> = leaves.iter().map(|leaf| leaf.cast(dtype)).collect();
        let out = cast(f(&inputs), FloatDType::F32);
        let weights = constant(out.dims(), 99);
        let grads = (out.clone() * weights).sum().backward();
        let grads: Vec<_> = leaves.iter().map(|leaf| leaf.grad(&grads)).collect();
        (out.into_data(), grads)
    };
    let halves = [FloatDType::F16, FloatDType::BF16];
    let types = halves.into_iter().filter(|dtype| computes_in(*dtype));
    for dtype in [FloatDType::F32].into_iter().chain(types) {
        let name = format!("{name} in {dtype:?}");
        let tolerance = match dtype {
            FloatDType::F32 => tolerance,
            _ => 4e-2,
        };
        let rounded: Vec<AnyTensor> = inputs.iter().map(|input| input.rounded(dtype)).collect();
        let (got, got_grads) = run(&f, &rounded, dtype);
        let here = HERE.take();
        let copies: Vec<AnyTensor> = rounded.iter().map(AnyTensor::copied).collect();
        let (want, want_grads) = run(&reference, &copies, FloatDType::F32);
        HERE.set(here);
        assert_close(&name, got, want, tolerance);
        for (i, (got, want)) in got_grads.into_iter().zip(want_grads).enumerate() {
            match (got, want) {
                (Some(got), Some(want)) => {
                    assert_close(&format!("{name}: gradient {i}"), got, want, tolerance * 4.0);
                }
                (got, want) => assert_eq!(got.is_some(), want.is_some(), "{name}: gradient {i}"),
            }
        }
    }
}

/// Whether this test's device is a GPU that computes in a type.
fn computes_in(dtype: FloatDType) -> bool {
    Place::of(&device()) == Place::Gpu && device().supports_dtype(dtype)
}

/// An input of any rank that tests use.
#[derive(Clone)]
pub(super) enum AnyTensor {
    /// A vector.
    One(Tensor<1>),
    /// A matrix.
    Two(Tensor<2>),
    /// Three axes.
    Three(Tensor<3>),
    /// Four axes.
    Four(Tensor<4>),
}

macro_rules! rank {
    ($name:ident, $variant:ident, $rank:literal) => {
        /// The tensor of this rank.
        pub(super) fn $name(&self) -> Tensor<$rank> {
            match self {
                Self::$variant(tensor) => tensor.clone(),
                _ => panic!("a test asked for another rank"),
            }
        }
    };
}

impl AnyTensor {
    rank!(one, One, 1);
    rank!(two, Two, 2);
    rank!(three, Three, 3);
    rank!(four, Four, 4);

    /// The same in another element type.
    fn cast(&self, dtype: FloatDType) -> Self {
        match self {
            Self::One(x) => Self::One(cast(x.clone(), dtype)),
            Self::Two(x) => Self::Two(cast(x.clone(), dtype)),
            Self::Three(x) => Self::Three(cast(x.clone(), dtype)),
            Self::Four(x) => Self::Four(cast(x.clone(), dtype)),
        }
    }

    /// A leaf of numbers that a type has.
    fn rounded(&self, dtype: FloatDType) -> Self {
        if dtype == FloatDType::F32 {
            return self.clone();
        }
        self.cast(dtype).cast(FloatDType::F32).copied()
    }

    /// A leaf of the same numbers on the device of this test.
    fn copied(&self) -> Self {
        let device = device();
        match self {
            Self::One(x) => Self::One(Tensor::from_data(x.to_data(), &device).require_grad()),
            Self::Two(x) => Self::Two(Tensor::from_data(x.to_data(), &device).require_grad()),
            Self::Three(x) => Self::Three(Tensor::from_data(x.to_data(), &device).require_grad()),
            Self::Four(x) => Self::Four(Tensor::from_data(x.to_data(), &device).require_grad()),
        }
    }

    fn grad(&self, grads: &burn::tensor::Gradients) -> Option<TensorData> {
        match self {
            Self::One(x) => x.grad(grads).map(|g| g.into_data()),
            Self::Two(x) => x.grad(grads).map(|g| g.into_data()),
            Self::Three(x) => x.grad(grads).map(|g| g.into_data()),
            Self::Four(x) => x.grad(grads).map(|g| g.into_data()),
        }
    }
}

/// The results of `f` on one thread and on several have the same bits.
pub(super) fn assert_threads_do_not_matter(f: impl Fn() -> Vec<TensorData> + Send + Sync) {
    let run = |threads| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a pool of threads")
            .install(&f)
    };
    let (one, three) = (run(1), run(3));
    for (a, b) in one.into_iter().zip(three) {
        assert_eq!(a.as_bytes(), b.as_bytes());
    }
}
