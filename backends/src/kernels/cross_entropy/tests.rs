//! The last layer and its loss against the reference, values and gradients.

use super::*;
use crate::kernels::comparison::*;
use AnyTensor::{One, Two};
use burn::tensor::{Int, Tensor, TensorData};

fn targets(rows: usize, vocab: usize) -> Tensor<1, Int> {
    let ids: Vec<i32> = (0..rows).map(|i| (i * i * 13 % vocab) as i32).collect();
    Tensor::from_data(TensorData::new(ids, [rows]), &device())
}

/// Weights 0, 1, 2, 0, 1, 2, …
fn weights(rows: usize) -> Tensor<1> {
    let weights: Vec<f32> = (0..rows).map(|i| (i % 3) as f32).collect();
    Tensor::from_data(TensorData::new(weights, [rows]), &device())
}

#[test]
fn matches_the_reference() {
    everywhere(|| {
        for layout in [HeadLayout::Linear, HeadLayout::Table] {
            for (rows, width, vocab) in [(1, 1, 2), (7, 5, 11), (1500, 24, 700)] {
                let sides = match layout {
                    HeadLayout::Linear => [width, vocab],
                    HeadLayout::Table => [vocab, width],
                };
                for affine in [false, true] {
                    let run =
                        |f: fn(Tensor<2>, Head, Tensor<1, Int>, Tensor<1>) -> CrossEntropy| {
                            move |i: &[AnyTensor]| {
                                let forbidden = Tensor::<1, Int>::from_ints([1], &device());
                                let head = Head {
                                    weight: i[1].two(),
                                    layout,
                                    bias: affine.then(|| i[2].one()),
                                    mask: (affine && vocab > 12).then(|| {
                                        let none = Tensor::zeros([vocab], &device());
                                        let low = Tensor::from_floats([-1e9], &device());
                                        none.select_assign(
                                            0,
                                            forbidden,
                                            low,
                                            burn::tensor::IndexingUpdateOp::Add,
                                        )
                                    }),
                                };
                                // Half of it: the gradient that comes in is not one.
                                f(i[0].two(), head, targets(rows, vocab), weights(rows)).sum * 0.5
                            }
                        };
                    assert_same(
                        &format!("cross-entropy {layout:?} {rows} {width} {vocab}"),
                        vec![
                            Two(random([rows, width], 1)),
                            Two(random(sides, 2)),
                            One(random([vocab], 3)),
                        ],
                        run(linear_cross_entropy),
                        run(linear_cross_entropy_reference),
                        3e-5,
                    );
                }
            }
        }
    });
}

#[test]
fn rows_hold_each_loss_and_skip_what_has_no_weight() {
    let (rows, width, vocab) = (40, 6, 9);
    let head = || Head {
        weight: constant([width, vocab], 2),
        layout: HeadLayout::Linear,
        bias: None,
        mask: None,
    };
    let mut ids: Vec<i32> = (0..rows as i32).map(|i| i % vocab as i32).collect();
    ids[0] = 1_000_000; // its weight is 0
    let ids = || Tensor::<1, Int>::from_data(TensorData::new(ids.clone(), [rows]), &device());
    let hidden = || constant([rows, width], 1);
    let got = linear_cross_entropy(hidden(), head(), ids(), weights(rows));
    let want = linear_cross_entropy_reference(hidden(), head(), ids(), weights(rows));
    assert_close("rows", got.rows.into_data(), want.rows.into_data(), 1e-5);
    assert_close("sum", got.sum.into_data(), want.sum.into_data(), 1e-5);
}

#[test]
fn threads_do_not_matter() {
    assert_threads_do_not_matter(|| {
        let (hidden, weight, bias) = (random([900, 32], 1), random([32, 500], 2), random([500], 3));
        let head = Head {
            weight: weight.clone(),
            layout: HeadLayout::Linear,
            bias: Some(bias.clone()),
            mask: None,
        };
        let loss = linear_cross_entropy(hidden.clone(), head, targets(900, 500), weights(900));
        let grads = loss.sum.clone().backward();
        vec![
            loss.sum.into_data(),
            loss.rows.into_data(),
            hidden.grad(&grads).unwrap().into_data(),
            weight.grad(&grads).unwrap().into_data(),
            bias.grad(&grads).unwrap().into_data(),
        ]
    });
}
