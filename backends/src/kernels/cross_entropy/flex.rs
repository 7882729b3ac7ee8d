//! The last layer and its cross-entropy on the CPU: one pass over chunks of rows.
//!
//! A chunk's logits become, in place, the gradient of the loss, and are used up at once in the products
//! that give the gradients of the hidden states and of the weight.

use super::HeadLayout;
use super::seam::{Call, CrossEntropyOps, Wanted};
use crate::kernels::buffer::{
    Flat, Matrix, Threads, filled, flat, floats, integers, owned, product,
};
use crate::kernels::linear::Operand;
use crate::kernels::vector::{self, multiversion};
use burn::backend::Flex;
use rayon::prelude::*;

/// Logits of one chunk, in elements, where that is enough for [`FEW`] rows.
const CHUNK: usize = 1 << 19;

/// Rows of a chunk that a large vocabulary gets: every chunk walks over the whole weight twice and over its gradient
/// once, which costs more than the products where rows are few.
const FEW: usize = 256;

/// Logits of one chunk at most: 64 MiB.
const MOST: usize = 1 << 24;

/// Rows of a chunk for a vocabulary.
fn rows_of_a_chunk(vocab: usize) -> usize {
    let vocab = vocab.max(1);
    (CHUNK / vocab).clamp(FEW, 1024).min((MOST / vocab).max(16))
}

/// Columns of one parallel piece of the bias gradient.
const COLUMNS: usize = 512;

impl CrossEntropyOps for Flex {
    fn linear_cross_entropy(
        hidden: Flat,
        weight: Flat,
        bias: Flat,
        mask: Flat,
        weights: Flat,
        targets: Flat,
        call: Call,
        wanted: Wanted,
    ) -> (Flat, Flat, Flat, Flat, Flat) {
        let operands = [&hidden, &weight, &bias, &mask, &weights, &targets];
        let (sum, rows, gradients) = run(operands, call, wanted);
        let len = rows.len();
        (
            flat(vec![sum], [1]),
            flat(rows, [len]),
            gradients.hidden.unwrap_or_else(|| flat(Vec::new(), [0, 0])),
            gradients.weight.unwrap_or_else(|| flat(Vec::new(), [0, 0])),
            gradients.bias.unwrap_or_else(|| flat(Vec::new(), [0])),
        )
    }

    fn scaled_gradient(gradient: Flat, factor: Flat) -> Flat {
        scaled(gradient, floats(&factor)[0])
    }
}

/// The gradients of the weighted sum.
#[derive(Debug, Clone)]
struct Gradients {
    hidden: Option<Flat>,
    weight: Option<Flat>,
    bias: Option<Flat>,
}

/// A row that counts.
#[derive(Clone, Copy)]
struct Row {
    index: usize,
    target: usize,
    weight: f32,
}

/// The weighted sum, the loss of every row, and the wanted gradients of the sum; operands are
/// hidden, weight, bias, mask, weights and targets.
fn run(
    [hidden, weight, bias, mask, weights, targets]: [&Flat; 6],
    call: Call,
    wanted: Wanted,
) -> (f32, Vec<f32>, Gradients) {
    let (count, width) = (hidden.layout().shape()[0], hidden.layout().shape()[1]);
    let sides = weight.layout().shape();
    let (weight_width, vocab) = match call.layout {
        HeadLayout::Linear => (sides[0], sides[1]),
        HeadLayout::Table => (sides[1], sides[0]),
    };
    let added = added(bias, mask, call, vocab);
    let rows = rows_that_count(&floats(weights), &integers(targets), vocab);
    assert!(
        weight_width == width && weights.layout().num_elements() == count,
        "cross-entropy: hidden states, weight and targets do not fit"
    );

    let hidden = floats(hidden);
    let operand = Operand::of(weight);
    // [width, vocab], whatever way it lies
    let head = match call.layout {
        HeadLayout::Linear => operand.matrix(),
        HeadLayout::Table => operand.matrix().transposed(),
    };
    let mut hidden_grad = vec![0.0; if wanted.hidden { count * width } else { 0 }];
    let mut weight_grad = vec![0.0; if wanted.weight { width * vocab } else { 0 }];
    let mut bias_grad = vec![0.0; if wanted.bias { vocab } else { 0 }];
    let mut losses = vec![0.0; count];
    let mut sum = 0.0;
    let chunk = rows_of_a_chunk(vocab);
    let mut logits = vec![0.0; chunk.min(rows.len()) * vocab];
    for rows in rows.chunks(chunk) {
        let len = rows.len();
        let states = filled(len * width, |states| {
            for (state, row) in states.chunks_exact_mut(width.max(1)).zip(rows) {
                state.copy_from_slice(&hidden[row.index * width..][..width]);
            }
        });
        let logits = &mut logits[..len * vocab];
        // SAFETY: the sizes are those of the buffers; strides come from the weight's layout.
        unsafe {
            product(
                (len, vocab, width),
                logits.as_mut_ptr(),
                vocab as isize,
                false,
                Matrix::rows(&states, width),
                head,
                1.0,
                Threads::All,
            );
        }
        let of_rows: Vec<f32> = logits
            .par_chunks_mut(vocab)
            .with_min_len(8)
            .zip(rows)
            .map(|(logits, row)| row_loss(logits, added.as_deref(), row.target, row.weight))
            .collect();
        for (row, loss) in rows.iter().zip(of_rows) {
            losses[row.index] = loss;
            sum += f64::from(row.weight) * f64::from(loss);
        }
        let gradients = Matrix::rows(logits, vocab);
        if wanted.hidden {
            let of_states = filled(len * width, |out| {
                // SAFETY: as above.
                unsafe {
                    product(
                        (len, width, vocab),
                        out.as_mut_ptr(),
                        width as isize,
                        false,
                        gradients,
                        head.transposed(),
                        1.0,
                        Threads::All,
                    );
                }
            });
            for (grad, row) in of_states.chunks_exact(width.max(1)).zip(rows) {
                hidden_grad[row.index * width..][..width].copy_from_slice(grad);
            }
        }
        if wanted.weight {
            let states = Matrix::rows(&states, width);
            let (sides, left, right) = match call.layout {
                HeadLayout::Linear => ((width, vocab), states, gradients),
                HeadLayout::Table => ((vocab, width), gradients, states),
            };
            // SAFETY: as above.
            unsafe {
                product(
                    (sides.0, sides.1, len),
                    weight_grad.as_mut_ptr(),
                    sides.1 as isize,
                    true,
                    left.transposed(),
                    right,
                    1.0,
                    Threads::All,
                );
            }
        }
        if wanted.bias {
            add_columns(&mut bias_grad, logits);
        }
    }
    let gradients = Gradients {
        hidden: wanted.hidden.then(|| flat(hidden_grad, [count, width])),
        weight: wanted
            .weight
            .then(|| flat(weight_grad, [sides[0], sides[1]])),
        bias: wanted.bias.then(|| flat(bias_grad, [vocab])),
    };
    (sum as f32, losses, gradients)
}

/// What every row of logits gets added: bias and mask together.
fn added(bias: &Flat, mask: &Flat, call: Call, vocab: usize) -> Option<Vec<f32>> {
    let mut added: Option<Vec<f32>> = None;
    for (counts, values) in [(call.bias, bias), (call.mask, mask)] {
        if !counts {
            continue;
        }
        let values = floats(values);
        assert_eq!(
            values.len(),
            vocab,
            "cross-entropy: bias or mask is not one per id"
        );
        match &mut added {
            None => added = Some(values.into_owned()),
            Some(sum) => sum.iter_mut().zip(&*values).for_each(|(sum, x)| *sum += x),
        }
    }
    added
}

/// The rows whose weight is not 0, with their targets.
fn rows_that_count(weights: &[f32], targets: &[i64], vocab: usize) -> Vec<Row> {
    assert_eq!(
        weights.len(),
        targets.len(),
        "cross-entropy: one weight per target"
    );
    let rows = weights.iter().zip(targets).enumerate();
    rows.filter(|(_, (weight, _))| **weight != 0.0)
        .map(|(index, (&weight, &target))| {
            assert!(
                (0..vocab as i64).contains(&target),
                "cross-entropy: target {target} among {vocab} ids"
            );
            Row {
                index,
                target: target as usize,
                weight,
            }
        })
        .collect()
}

#[inline(always)]
fn row_loss_body<const FMA: bool>(
    logits: &mut [f32],
    added: Option<&[f32]>,
    target: usize,
    weight: f32,
) -> f32 {
    if let Some(added) = added {
        for (x, &added) in logits.iter_mut().zip(added) {
            *x += added;
        }
    }
    let largest = vector::max(logits);
    let at_target = logits[target];
    let total = vector::exp_shifted_sum::<FMA>(logits, largest);
    let scale = weight / total;
    for x in logits.iter_mut() {
        *x *= scale;
    }
    logits[target] -= weight;
    largest + total.ln() - at_target
}

multiversion! {
    /// The loss of one row, whose logits become the gradient of `weight` times the loss.
    fn row_loss(logits: &mut [f32], added: Option<&[f32]>, target: usize, weight: f32) -> f32 = row_loss_body
}

/// Adds the columns' sums of `rows` to `sums`, row by row.
fn add_columns(sums: &mut [f32], rows: &[f32]) {
    let vocab = sums.len();
    sums.par_chunks_mut(COLUMNS)
        .enumerate()
        .for_each(|(i, sums)| {
            for row in rows.chunks_exact(vocab) {
                for (sum, &x) in sums.iter_mut().zip(&row[i * COLUMNS..]) {
                    *sum += x;
                }
            }
        });
}

/// `tensor · factor`, in place where nobody else holds it.
fn scaled(tensor: Flat, factor: f32) -> Flat {
    if factor == 1.0 {
        return tensor;
    }
    let mut tensor = owned(tensor);
    tensor
        .storage_mut::<f32>()
        .par_chunks_mut(1 << 14)
        .for_each(|piece| piece.iter_mut().for_each(|x| *x *= factor));
    tensor
}
