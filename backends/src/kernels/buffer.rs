//! Between Burn's tensors on the CPU (Flex) and slices: views, fresh buffers, and work in fixed chunks.
//!
//! Every parallel loop here cuts its work by sizes alone, never by the number of threads, so that a
//! result has the same bits on one core and on sixty.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Shape, TensorData};
use rayon::prelude::*;
use std::borrow::Cow;

/// The tensor primitive of the CPU backend.
pub(super) type Flat = FloatTensor<Flex>;

/// Elements of one parallel piece of an element-wise loop.
pub(super) const PIECE: usize = 16 * 1024;

/// The elements of a tensor in order, copied only where its layout has gaps.
pub(super) fn floats(tensor: &Flat) -> Cow<'_, [f32]> {
    match tensor.as_slice::<f32>() {
        Some(slice) => Cow::Borrowed(slice),
        None => {
            let copy = tensor.to_contiguous();
            let slice = copy.as_slice::<f32>();
            // Nothing in its place would be computed with as if it were the tensor.
            Cow::Owned(slice.expect("a copy without gaps, of f32").to_vec())
        }
    }
}

/// The elements of an integer tensor in order.
pub(super) fn integers(tensor: &Flat) -> Vec<i64> {
    tensor.clone().into_data().iter::<i64>().collect()
}

/// The tensor itself where nobody else holds it, else a copy: contiguous, its buffer exactly as long
/// as it, ready for [`Flat::storage_mut`] to write in place.
pub(super) fn owned(tensor: Flat) -> Flat {
    let whole = tensor
        .as_slice::<f32>()
        .is_some_and(|slice| slice.len() == tensor.storage::<f32>().len());
    if whole && tensor.is_unique() {
        return tensor;
    }
    let shape = tensor.layout().shape().clone();
    let values = floats(&tensor);
    let copy = filled(values.len(), |out| {
        zip1(out, &values, <[f32]>::copy_from_slice)
    });
    flat(copy, shape)
}

/// A tensor of `values` with a shape.
pub(super) fn flat(values: Vec<f32>, shape: impl Into<Shape>) -> Flat {
    Flat::from_data(TensorData::new(values, shape.into()))
}

/// `len` elements that `write` fills. It must write every one of them before it reads it.
pub(super) fn filled(len: usize, write: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut values: Vec<f32> = Vec::with_capacity(len);
    let spare = &mut values.spare_capacity_mut()[..len];
    // SAFETY: every bit pattern is an `f32`, the memory is ours and long enough, and each caller
    // writes all of it; zeroing first would cost as much as many of the kernels themselves.
    unsafe {
        write(&mut *(std::ptr::from_mut(spare) as *mut [f32]));
        values.set_len(len);
    }
    values
}

/// Runs `f` on pieces of `out` and of the equally long `input`, in parallel.
pub(super) fn zip1(out: &mut [f32], a: &[f32], f: impl Fn(&mut [f32], &[f32]) + Sync) {
    if out.len() <= PIECE {
        return f(out, a);
    }
    out.par_chunks_mut(PIECE)
        .zip(a.par_chunks(PIECE))
        .for_each(|(out, a)| f(out, a));
}

/// As [`zip1`], with two inputs.
pub(super) fn zip2(
    out: &mut [f32],
    a: &[f32],
    b: &[f32],
    f: impl Fn(&mut [f32], &[f32], &[f32]) + Sync,
) {
    if out.len() <= PIECE {
        return f(out, a, b);
    }
    out.par_chunks_mut(PIECE)
        .zip(a.par_chunks(PIECE))
        .zip(b.par_chunks(PIECE))
        .for_each(|((out, a), b)| f(out, a, b));
}

/// Rows of one parallel piece of a loop over rows of `width` elements.
pub(super) fn piece_rows(width: usize) -> usize {
    (PIECE / width.max(1)).max(1)
}

/// A pointer that several threads write through, each to places of its own.
#[derive(Clone, Copy)]
pub(super) struct Shared(*mut f32);

// SAFETY: users promise that no two threads write the same place.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// A pointer to the beginning of `slice`.
    pub(super) fn new(slice: &mut [f32]) -> Self {
        Self(slice.as_mut_ptr())
    }

    /// The place `offset` elements on.
    ///
    /// # Safety
    /// `offset` lies within the slice, and no other thread touches what is written there.
    pub(super) unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: promised by the caller.
        unsafe { self.0.add(offset) }
    }
}

/// A matrix inside a buffer: first element, and the distance between rows and between columns.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    /// The first element.
    pub(super) start: *const f32,
    /// Elements from a row to the next.
    pub(super) row: isize,
    /// Elements from a column to the next.
    pub(super) column: isize,
}

// SAFETY: it is only read through, and its users keep the buffer alive and unchanged meanwhile.
unsafe impl Send for Matrix {}
// SAFETY: as above.
unsafe impl Sync for Matrix {}

impl Matrix {
    /// A row-major matrix with rows of `columns` elements.
    pub(super) fn rows(slice: &[f32], columns: usize) -> Self {
        Self {
            start: slice.as_ptr(),
            row: columns as isize,
            column: 1,
        }
    }

    /// The same elements, rows and columns exchanged.
    pub(super) fn transposed(self) -> Self {
        Self {
            start: self.start,
            row: self.column,
            column: self.row,
        }
    }
}

/// Whether a product uses the threads of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// All of them, if the product is large enough.
    All,
    /// The caller's only.
    One,
}

/// `out = factor · left [m, k] · right [k, n]`, added to `out` where `add`.
///
/// # Safety
/// All three matrices lie within live buffers for the sizes given, and nobody else touches `out`.
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn product(
    (m, n, k): (usize, usize, usize),
    out: *mut f32,
    out_row: isize,
    add: bool,
    left: Matrix,
    right: Matrix,
    factor: f32,
    threads: Threads,
) {
    if k == 0 {
        // An empty sum: gemm would leave `out` as it is.
        for i in 0..if add { 0 } else { m } {
            // SAFETY: promised by the caller.
            unsafe { std::slice::from_raw_parts_mut(out.offset(i as isize * out_row), n) }
                .fill(0.0);
        }
        return;
    }
    // Below this the threads cost more than they bring.
    let large = m.saturating_mul(n).saturating_mul(k) >= 64 * 64 * 64;
    let parallelism = if large && threads == Threads::All {
        gemm::Parallelism::Rayon(0)
    } else {
        gemm::Parallelism::None
    };
    // SAFETY: promised by the caller.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            out_row,
            add,
            left.start,
            left.column,
            left.row,
            right.start,
            right.column,
            right.row,
            1.0,
            factor,
            false,
            false,
            false,
            parallelism,
        );
    }
}
