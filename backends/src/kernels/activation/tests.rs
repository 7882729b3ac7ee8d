//! Activations against their references, values and gradients.

use super::*;
use crate::kernels::comparison::*;
use AnyTensor::{Three, Two};
use burn::tensor::Tensor;
use jam_ir::Activation;

#[test]
fn match_the_reference() {
    for act in Activation::ALL {
        for shape in [[1, 1, 1], [3, 5, 7], [2, 100, 129]] {
            assert_same(
                &format!("{act:?}"),
                vec![Three(random(shape, 1))],
                |i| activation(i[0].three() * 3.0, act),
                |i| activation_reference(i[0].three() * 3.0, act),
                5e-6,
            );
        }
    }
}

#[test]
fn gated_match_the_reference() {
    for act in Activation::ALL {
        assert_same(
            &format!("gated {act:?}"),
            vec![Two(random([37, 600], 1)), Two(random([37, 600], 2))],
            |i| gated(i[0].two(), i[1].two(), act),
            |i| gated_reference(i[0].two(), i[1].two(), act),
            5e-6,
        );
    }
}

#[test]
fn extremes_are_finite_and_nan_is_seen() {
    for act in Activation::ALL {
        let x = Tensor::<1>::from_floats([-1e15, -90.0, 0.0, 90.0, 1e15], &device()).require_grad();
        let y = activation(x.clone(), act);
        let grads = y.clone().sum().backward();
        let plain = activation_reference(x.clone(), act).into_data();
        let wanted = plain.iter::<f32>();
        for (found, wanted) in y.into_data().iter::<f32>().zip(wanted) {
            let near = (found - wanted).abs() <= 1e-4 + 1e-5 * wanted.abs();
            assert!(found.is_finite() && near, "{act:?}: {found}, not {wanted}");
        }
        let slopes = x.grad(&grads).unwrap().into_data();
        assert!(
            slopes.iter::<f32>().all(|s| s.is_finite()),
            "{act:?}: {slopes:?}"
        );
        let nan = activation(Tensor::<1>::from_floats([f32::NAN], &device()), act);
        assert!(nan.into_data().iter::<f32>().all(|x| x.is_nan()), "{act:?}");
    }
}
