//! The linear layer on the processor.

use super::seam::LinearOps;
use crate::kernels::buffer::{
    Flat, Matrix, PIECE, Threads, filled, flat, floats, piece_rows, product,
};
use burn::backend::Flex;
use burn::tensor::Shape;
use rayon::prelude::*;

impl LinearOps for Flex {
    fn linear_layer(x: Flat, weight: Flat, bias: Flat, has_bias: bool) -> Flat {
        forward(&x, &weight, has_bias.then_some(&bias))
    }

    fn linear_input_gradient(grad: Flat, weight: Flat) -> Flat {
        input_gradient(&grad, &weight)
    }

    fn linear_weight_gradient(x: Flat, grad: Flat) -> Flat {
        weight_gradient(&x, &grad)
    }

    fn linear_bias_gradient(grad: Flat) -> Flat {
        sum_rows(&grad)
    }
}

/// A matrix operand as it lies in memory: a transposed view is read in place.
pub(in crate::kernels) struct Operand {
    tensor: Flat,
    row: isize,
    column: isize,
}

impl Operand {
    /// `tensor` as a matrix whose columns are its last axis and whose rows are all others.
    pub(in crate::kernels) fn of(tensor: &Flat) -> Self {
        let layout = tensor.layout();
        if layout.num_dims() == 2 {
            let strides = layout.strides();
            // One of the two axes contiguous, forward: what the product reads well.
            if strides.iter().all(|&s| s > 0) && strides.contains(&1) {
                return Self {
                    row: strides[0],
                    column: strides[1],
                    tensor: tensor.clone(),
                };
            }
        }
        let columns = layout.shape().iter().last().copied().unwrap_or(1);
        Self {
            tensor: match tensor.as_slice::<f32>() {
                Some(_) => tensor.clone(),
                None => tensor.to_contiguous(),
            },
            row: columns as isize,
            column: 1,
        }
    }

    /// The operand as the product takes it; valid while `self` lives.
    pub(in crate::kernels) fn matrix(&self) -> Matrix {
        let storage = self.tensor.storage::<f32>();
        Matrix {
            start: storage[self.tensor.layout().start_offset().min(storage.len())..].as_ptr(),
            row: self.row,
            column: self.column,
        }
    }
}

/// Rows and columns of a tensor read as a matrix.
fn sides(tensor: &Flat) -> (usize, usize) {
    let shape = tensor.layout().shape();
    let columns = shape.iter().last().copied().unwrap_or(1);
    (shape.num_elements() / columns.max(1), columns)
}

fn forward(x: &Flat, weight: &Flat, bias: Option<&Flat>) -> Flat {
    let (rows, inner) = sides(x);
    let (weight_rows, columns) = sides(weight);
    assert_eq!(
        inner, weight_rows,
        "linear: the last axis of x is not the first of the weight"
    );
    let mut shape: Vec<usize> = x.layout().shape().iter().copied().collect();
    if let Some(last) = shape.last_mut() {
        *last = columns;
    }
    let bias = bias.map(floats);
    if let Some(bias) = &bias {
        assert_eq!(
            bias.len(),
            columns,
            "linear: the bias is not as long as a row"
        );
    }
    let (left, right) = (Operand::of(x), Operand::of(weight));
    let out = filled(rows * columns, |out| {
        if let Some(bias) = &bias {
            out.par_chunks_mut((piece_rows(columns) * columns).max(1))
                .for_each(|piece| {
                    for row in piece.chunks_exact_mut(columns.max(1)) {
                        row.copy_from_slice(bias);
                    }
                });
        }
        // SAFETY: operands and output have the sizes given and live here.
        unsafe {
            product(
                (rows, columns, inner),
                out.as_mut_ptr(),
                columns as isize,
                bias.is_some(),
                left.matrix(),
                right.matrix(),
                1.0,
                Threads::All,
            );
        }
    });
    flat(out, Shape::from(shape))
}

/// `grad wᵀ`, in the shape of the input.
fn input_gradient(grad: &Flat, weight: &Flat) -> Flat {
    let (rows, columns) = sides(grad);
    let (inner, _) = sides(weight);
    let mut shape: Vec<usize> = grad.layout().shape().iter().copied().collect();
    if let Some(last) = shape.last_mut() {
        *last = inner;
    }
    let (left, right) = (Operand::of(grad), Operand::of(weight));
    let out = filled(rows * inner, |out| {
        // SAFETY: operands and output have the sizes given and live here.
        unsafe {
            product(
                (rows, inner, columns),
                out.as_mut_ptr(),
                inner as isize,
                false,
                left.matrix(),
                right.matrix().transposed(),
                1.0,
                Threads::All,
            );
        }
    });
    flat(out, Shape::from(shape))
}

/// `xᵀ grad`.
fn weight_gradient(x: &Flat, grad: &Flat) -> Flat {
    let (rows, inner) = sides(x);
    let (_, columns) = sides(grad);
    let (left, right) = (Operand::of(x), Operand::of(grad));
    let mut out = vec![0.0; inner * columns];
    add_outer(
        &mut out,
        left.matrix(),
        right.matrix(),
        (rows, inner, columns),
    );
    flat(out, [inner, columns])
}

/// The fewest rows that make a piece of a sum over rows of outer products.
const OUTER_ROWS: usize = 256;

/// Pieces of such a sum at most: each has a result of its own.
const OUTER_PIECES: usize = 8;

/// Adds `leftᵀ [inner, rows] · right [rows, columns]` to `out`.
///
/// The sum over rows is cut in pieces that threads form side by side (a small result offers no
/// other work to share), and the pieces are added in order.
pub(in crate::kernels) fn add_outer(
    out: &mut [f32],
    left: Matrix,
    right: Matrix,
    (rows, inner, columns): (usize, usize, usize),
) {
    let pieces = (rows / OUTER_ROWS).clamp(1, OUTER_PIECES);
    let piece_len = rows.div_ceil(pieces);
    // SAFETY: the operands hold `rows` rows, the outputs `inner * columns` elements.
    let one = |out: *mut f32, add, from: usize, len: usize, threads| unsafe {
        let below = |m: Matrix| Matrix {
            start: m.start.offset(from as isize * m.row),
            ..m
        };
        product(
            (inner, columns, len),
            out,
            columns as isize,
            add,
            below(left).transposed(),
            below(right),
            1.0,
            threads,
        );
    };
    let large = inner * columns > 1 << 17;
    if pieces == 1 || large {
        return one(out.as_mut_ptr(), true, 0, rows, Threads::All);
    }
    let len = out.len();
    let partial = filled(pieces * len, |partial| {
        partial
            .par_chunks_mut(len)
            .enumerate()
            .for_each(|(piece, out)| {
                let from = (piece * piece_len).min(rows);
                let len = piece_len.min(rows - from);
                one(out.as_mut_ptr(), false, from, len, Threads::One);
            });
    });
    add_pieces(out, &partial);
}

/// Adds the pieces of `partial`, each as long as `out`, to `out` in order.
pub(in crate::kernels) fn add_pieces(out: &mut [f32], partial: &[f32]) {
    let len = out.len();
    out.par_chunks_mut(PIECE).enumerate().for_each(|(i, out)| {
        for piece in partial.chunks_exact(len) {
            let piece = &piece[i * PIECE..];
            for (sum, &x) in out.iter_mut().zip(piece) {
                *sum += x;
            }
        }
    });
}

/// The sum over all axes but the last.
pub(in crate::kernels) fn sum_rows(grad: &Flat) -> Flat {
    let (_, columns) = sides(grad);
    let grad = floats(grad);
    let mut sum = vec![0.0; columns];
    if columns > 0 {
        let piece = 4 * piece_rows(columns) * columns;
        let pieces = grad.len().div_ceil(piece);
        let mut partial = vec![0.0; pieces * columns];
        partial
            .par_chunks_mut(columns)
            .zip(grad.par_chunks(piece))
            .for_each(|(sum, rows)| {
                for row in rows.chunks_exact(columns) {
                    for (sum, &x) in sum.iter_mut().zip(row) {
                        *sum += x;
                    }
                }
            });
        add_pieces(&mut sum, &partial);
    }
    flat(sum, [columns])
}
