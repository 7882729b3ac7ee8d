//! A plain reference: plans and graphs computed in f64, one number after the other.

use std::collections::BTreeMap;

use jam_ir::Model;

pub(crate) mod graph;
pub(crate) mod plan;

/// A dense tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<f64>,
}

impl Tensor {
    pub(crate) fn new(shape: &[usize], data: Vec<f64>) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), data.len());
        Tensor {
            shape: shape.to_vec(),
            data,
        }
    }

    pub(crate) fn filled(shape: &[usize], value: f64) -> Tensor {
        Tensor::new(shape, vec![value; shape.iter().product()])
    }

    /// Product of the sizes of some last axes.
    pub(crate) fn tail(&self, from: usize) -> usize {
        self.shape[from..].iter().product()
    }

    pub(crate) fn map(&self, f: impl Fn(f64) -> f64) -> Tensor {
        Tensor::new(&self.shape, self.data.iter().map(|x| f(*x)).collect())
    }

    pub(crate) fn zip(&self, other: &Tensor, f: impl Fn(f64, f64) -> f64) -> Tensor {
        assert_eq!(self.shape, other.shape);
        let pairs = self.data.iter().zip(&other.data);
        Tensor::new(&self.shape, pairs.map(|(a, b)| f(*a, *b)).collect())
    }

    /// Greatest distance between two tensors of one shape.
    pub(crate) fn distance(&self, other: &Tensor) -> f64 {
        assert_eq!(self.shape, other.shape);
        let pairs = self.data.iter().zip(&other.data);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    }
}

/// Weights by name.
pub(crate) type Weights = BTreeMap<String, Tensor>;

/// Random weights of a model, decided by a seed and each weight's name: norms around one, biases
/// and tables small, matrices of unit gain.
pub(crate) fn random_weights(model: &Model, seed: u64) -> Weights {
    let uses = model.weight_uses();
    let weights = uses.into_iter().map(|(name, param)| {
        let shape: Vec<usize> = model
            .weight_shape(&param.ty)
            .unwrap()
            .iter()
            .map(|size| *size as usize)
            .collect();
        let inputs = shape[..param.ty.input.len()].iter().product::<usize>();
        let mut state = name
            .bytes()
            .fold(seed, |hash, byte| mix(hash ^ u64::from(byte)));
        let count = shape.iter().product();
        let table = shape.len() == 2 && name.contains("table");
        let sd = if table {
            0.5
        } else {
            (inputs.max(1) as f64).powf(-0.5)
        };
        let centre = f64::from(u8::from(name.ends_with("gain")));
        let data = (0..count).map(|_| {
            state = mix(state);
            let uniform = (state >> 11) as f64 / (1u64 << 53) as f64;
            let spread = if param.ty.input.is_empty() { 0.3 } else { sd };
            centre + (uniform - 0.5) * 12f64.sqrt() * spread
        });
        let data: Vec<f64> = data.collect();
        (name, Tensor::new(&shape, data))
    });
    weights.collect()
}

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
