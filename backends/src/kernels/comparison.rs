//! What the tests of the kernels share: random tensors, gradients of several inputs, comparisons.

use burn::tensor::{Device, Tensor, TensorData};

/// The CPU with autodiff.
pub(super) fn device() -> Device {
    Device::flex().autodiff()
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

/// Asserts that values and gradients of two functions of the same inputs agree.
///
/// Outputs are weighted by random numbers before they are summed, so that every gradient differs.
pub(super) fn assert_same<const D: usize>(
    name: &str,
    inputs: Vec<AnyTensor>,
    f: impl Fn(&[AnyTensor]) -> Tensor<D>,
    reference: impl Fn(&[AnyTensor]) -> Tensor<D>,
    tolerance: f32,
) {
    let run = |f: &dyn Fn(&[AnyTensor]) -> Tensor<D>| {
        let out = f(&inputs);
        let weights = constant(out.dims(), 99);
        let grads = (out.clone() * weights).sum().backward();
        let grads: Vec<_> = inputs.iter().map(|input| input.grad(&grads)).collect();
        (out.into_data(), grads)
    };
    let (got, got_grads) = run(&f);
    let (want, want_grads) = run(&reference);
    assert_close(name, got, want, tolerance);
    for (i, (got, want)) in got_grads.into_iter().zip(want_grads).enumerate() {
        match (got, want) {
            (Some(got), Some(want)) => {
                assert_close(&format!("{name}: gradient {i}"), got, want, tolerance * 4.0);
            }
            (got, want) => assert_eq!(got.is_some(), want.is_some(), "{name}: gradient {i}"),
        }
    }
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
