//! The linear layer against its reference, values and gradients.

use super::*;
use crate::kernels::buffer::{Matrix, Threads, product};
use crate::kernels::comparison::*;
use AnyTensor::{One, Three, Two};
use burn::tensor::Tensor;

#[test]
fn matches_the_reference() {
    everywhere(|| {
        for (rows, inner, columns) in [(1, 1, 1), (3, 5, 7), (70, 33, 65), (2050, 24, 40)] {
            assert_same(
                "linear",
                vec![
                    Two(random([rows, inner], 1)),
                    Two(random([inner, columns], 2)),
                    One(random([columns], 3)),
                ],
                |i| linear(i[0].two(), i[1].two(), Some(i[2].one())),
                |i| linear_reference(i[0].two(), i[1].two(), Some(i[2].one())),
                1e-4,
            );
        }
    });
}

#[test]
fn an_empty_sum_is_zero() {
    let mut out = vec![7.0; 12];
    let empty = Matrix::rows(&[], 0);
    let place = out.as_mut_ptr();
    for (add, want) in [(true, [7.0; 12]), (false, [0.0; 12])] {
        // SAFETY: nothing is read, and `out` has three rows of four.
        unsafe { product((3, 4, 0), place, 4, add, empty, empty, 1.0, Threads::One) };
        assert_eq!(out, want);
    }
}

#[test]
fn takes_views_as_they_lie() {
    // A transposed weight, and an input that is a slice of something wider.
    let run = |f: fn(Tensor<3>, Tensor<2>, Option<Tensor<1>>) -> Tensor<3>| {
        move |i: &[AnyTensor]| {
            let x = i[0].three().narrow(2, 3, 9);
            f(x, i[1].two().transpose(), None)
        }
    };
    assert_same(
        "linear of views",
        vec![Three(random([2, 5, 16], 4)), Two(random([11, 9], 5))],
        run(linear::<3>),
        run(linear_reference::<3>),
        1e-5,
    );
}

#[test]
fn threads_do_not_matter() {
    assert_threads_do_not_matter(|| {
        let (x, w, b) = (random([3000, 64], 6), random([64, 96], 7), random([96], 8));
        let y = linear(x.clone(), w.clone(), Some(b.clone()));
        let grads = (y.clone() * y.clone()).sum().backward();
        vec![
            y.into_data(),
            x.grad(&grads).unwrap().into_data(),
            w.grad(&grads).unwrap().into_data(),
            b.grad(&grads).unwrap().into_data(),
        ]
    });
}
