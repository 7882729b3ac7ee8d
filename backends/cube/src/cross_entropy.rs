//! Cross-entropy of rows of logits, whose gradient is written over them.
//!
//! A row's loss is `log Σ exp(x_i) - x_target` in nats over the classes that it may choose among, and its gradient
//! `weight · (softmax(x) - onehot(target))`. A row that the units of a cube can hold is read once; of a longer one
//! maximum and sum are kept together as it goes by (Milakov and Gimelshein 2018), and it is read again for the gradient.

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::device::{Limits, cubes, lanes, vectors};
use crate::reduce::{Units, across, cube_max, cube_sum};

/// A matrix of logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Its rows.
    pub rows: usize,
    /// Logits of a row that count.
    pub classes: usize,
    /// Elements from one row to the next, at least `classes`; the gradient of those in between is 0.
    ///
    /// A number of classes that few powers of two divide is read element by element; with room at the end of every
    /// row it is not.
    pub stride: usize,
}

impl Shape {
    /// Rows one after the other.
    pub fn new(rows: usize, classes: usize) -> Shape {
        Shape {
            rows,
            classes,
            stride: classes,
        }
    }
}

/// What is compiled into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    units: Units,
    gradient: bool,
    /// Whether every element of a row is a class that may be chosen.
    whole: bool,
    /// Vectors that a unit holds, 0 for rows that are read twice.
    held: usize,
    /// Vectors that a unit reads before it looks at the first.
    ahead: usize,
}

/// Registers of a unit for the part of a row that it holds; with 20 some are spilled on sm_90.
const REGISTERS: usize = 16;

/// Vectors that a unit holds at most.
const HELD: usize = 16;

/// Elements that a unit reads of a long row before it looks at the first; 32 do not fit 1024 units' registers.
const AHEAD: usize = 16;

/// A vector whose elements that lie outside of `first..last` are `other`.
#[cube]
fn within<N: Size>(
    x: Vector<f32, N>,
    at: usize,
    first: usize,
    last: usize,
    other: f32,
    #[comptime] whole: bool,
) -> Vector<f32, N> {
    let mut out = x;
    if comptime!(!whole) {
        let begin = at * N::value();
        if begin < first || begin + N::value() > last {
            #[unroll]
            for i in 0..N::value() {
                let class = begin + i;
                if class < first || class >= last {
                    out.insert(i, other);
                }
            }
        }
    }
    out
}

/// A vector one of whose elements has lost `loss`.
#[cube]
fn less<N: Size>(x: Vector<f32, N>, index: usize, loss: f32) -> Vector<f32, N> {
    let mut out = x;
    #[unroll]
    for i in 0..N::value() {
        if index == i {
            out.insert(i, x.extract(i) - loss);
        }
    }
    out
}

/// The largest element, or `least`.
#[cube]
fn largest<N: Size>(vector: Vector<f32, N>, least: f32) -> f32 {
    let mut top = least;
    #[unroll]
    for i in 0..N::value() {
        top = max(top, vector.extract(i));
    }
    top
}

#[cube(launch)]
fn cross_entropy_rows<F: Float, N: Size>(
    logits: &mut [Vector<F, N>],
    added: ComptimeOption<&[Vector<f32, N>]>,
    targets: &[i32],
    weights: &[f32],
    ranges: ComptimeOption<&[u32]>,
    losses: &mut [f32],
    rows: u32,
    classes: u32,
    stride: u32,
    #[comptime] form: Form,
    #[define(F)] _dtype: ElemType,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let units = comptime!(form.units.count);
    let whole = comptime!(form.whole);
    let ahead = comptime!(form.ahead);
    let stride = stride as usize;
    let start = row * stride;
    let weight = weights[row];
    if weight == 0.0f32 {
        if unit == 0 {
            losses[row] = 0.0f32;
        }
        if comptime!(form.gradient) {
            let mut at = unit;
            while at < stride {
                logits[start + at] = Vector::new(F::new(0.0));
                at += units;
            }
        }
        terminate!();
    }

    let mut first = 0usize.runtime();
    let mut last = classes as usize;
    #[comptime]
    if let ComptimeOption::Some(ranges) = &ranges {
        first = ranges[row * 2] as usize;
        last = min(ranges[row * 2 + 1] as usize, last);
    }
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(form.units.scratch()));
    let target = u32::cast_from(targets[row]) as usize;
    let allowed = target >= first && target < last;
    let mut of_target = 0.0f32;
    if unit == 0 && allowed {
        let at = target / N::value();
        let mut x = Vector::<f32, N>::cast_from(logits[start + at]);
        #[comptime]
        if let ComptimeOption::Some(added) = &added {
            x += added[at];
        }
        #[unroll]
        for i in 0..N::value() {
            if target % N::value() == i {
                of_target = x.extract(i);
            }
        }
    }
    // The gradient goes where the target's logit was.
    sync_cube();

    let per_unit = comptime!(form.held);
    let mut held = Array::<Vector<F, N>>::new(comptime!(max(per_unit, 1)));
    let mut top = f32::MIN.runtime();
    let mut total = Vector::<f32, N>::new(0.0f32);
    if comptime!(per_unit > 0) {
        #[unroll]
        for i in 0..per_unit {
            let at = unit + i * units;
            if at < stride {
                held[i] = logits[start + at];
            }
        }
        #[unroll]
        for i in 0..per_unit {
            let at = unit + i * units;
            if at < stride {
                let mut x = Vector::<f32, N>::cast_from(held[i]);
                #[comptime]
                if let ComptimeOption::Some(added) = &added {
                    x += added[at];
                }
                top = largest::<N>(within::<N>(x, at, first, last, f32::MIN, whole), top);
            }
        }
        top = cube_max(top, &mut scratch, form.units);
        #[unroll]
        for i in 0..per_unit {
            let at = unit + i * units;
            if at < stride {
                let mut x = Vector::<f32, N>::cast_from(held[i]);
                #[comptime]
                if let ComptimeOption::Some(added) = &added {
                    x += added[at];
                }
                let e = (x - Vector::new(top)).exp();
                total += within::<N>(e, at, first, last, 0.0f32, whole);
            }
        }
    } else {
        let end = min(last.div_ceil(N::value()), stride);
        let mut at = first / N::value() + unit;
        while at < end {
            let mut some = Array::<Vector<f32, N>>::new(ahead);
            #[unroll]
            for i in 0..ahead {
                let here = at + i * units;
                let mut x = Vector::<f32, N>::new(f32::MIN);
                if here < end {
                    x = Vector::cast_from(logits[start + here]);
                    #[comptime]
                    if let ComptimeOption::Some(added) = &added {
                        x += added[here];
                    }
                }
                some[i] = x;
            }
            let mut higher = top;
            #[unroll]
            for i in 0..ahead {
                let here = at + i * units;
                let x = within::<N>(some[i], here, first, last, f32::MIN, whole);
                higher = largest::<N>(x, higher);
            }
            total *= Vector::new((top - higher).exp());
            top = higher;
            #[unroll]
            for i in 0..ahead {
                let here = at + i * units;
                if here < end {
                    let e = (some[i] - Vector::new(top)).exp();
                    total += within::<N>(e, here, first, last, 0.0f32, whole);
                }
            }
            at += comptime!(ahead * units);
        }
        let own = top;
        top = cube_max(own, &mut scratch, form.units);
        total *= Vector::new((own - top).exp());
    }
    let total = cube_sum(across::<N>(total), &mut scratch, form.units);

    if unit == 0 {
        let mut loss = f32::MAX.runtime();
        if allowed {
            loss = (top - of_target) + total.ln();
        }
        losses[row] = loss;
    }
    if comptime!(form.gradient) {
        let scale = weight / total;
        if comptime!(per_unit > 0) {
            #[unroll]
            for i in 0..per_unit {
                let at = unit + i * units;
                if at < stride {
                    let mut x = Vector::<f32, N>::cast_from(held[i]);
                    #[comptime]
                    if let ComptimeOption::Some(added) = &added {
                        x += added[at];
                    }
                    let mut gradient = (x - Vector::new(top)).exp() * Vector::new(scale);
                    gradient = within::<N>(gradient, at, first, last, 0.0f32, whole);
                    if allowed && at == target / N::value() {
                        gradient = less::<N>(gradient, target % N::value(), weight);
                    }
                    logits[start + at] = Vector::cast_from(gradient);
                }
            }
        } else {
            let mut at = unit;
            while at < stride {
                let mut x = Vector::<f32, N>::cast_from(logits[start + at]);
                #[comptime]
                if let ComptimeOption::Some(added) = &added {
                    x += added[at];
                }
                let mut gradient = (x - Vector::new(top)).exp() * Vector::new(scale);
                gradient = within::<N>(gradient, at, first, last, 0.0f32, whole);
                if allowed && at == target / N::value() {
                    gradient = less::<N>(gradient, target % N::value(), weight);
                }
                logits[start + at] = Vector::cast_from(gradient);
                at += units;
            }
        }
    }
}

/// What [`rows`] reads and writes.
pub struct Buffers {
    /// `[rows, stride]`; becomes the gradient where that is wanted.
    pub logits: BufferArg,
    /// Bias and mask together, added to every row, `[stride]` in f32; `f32::MIN` or minus infinity forbids a class.
    pub added: Option<BufferArg>,
    /// `[rows]` in i32. That of a row whose weight is 0 is not looked at.
    pub targets: BufferArg,
    /// How often each row counts, `[rows]` in f32; with what comes from above multiplied into it the gradient is
    /// complete.
    pub weights: BufferArg,
    /// The first class that each row may choose and the one after its last, `[rows, 2]` in u32; the others have no
    /// part in the loss and a gradient of 0.
    pub ranges: Option<BufferArg>,
    /// Gets each row's loss, not weighted, 0 where the weight is 0; `[rows]` in f32. A target that its row may not
    /// choose costs `f32::MAX`.
    pub losses: BufferArg,
}

/// Losses of rows of logits of the type `dtype`, and with `gradient` the gradients of their weighted sum in place of the
/// logits.
pub fn rows(client: &Client, shape: Shape, buffers: Buffers, gradient: bool, dtype: ElemType) {
    let limits = Limits::of(client);
    let vector = vectors(lanes(client, dtype), &[shape.stride]);
    let length = shape.stride / vector;
    let units = Units::for_rows(shape.stride, vector, limits.units.min(1024), limits.plane);
    let held = length.div_ceil(units.count);
    let registers = held * (vector * dtype.size()).div_ceil(4);
    let form = Form {
        units,
        gradient,
        whole: shape.stride == shape.classes && buffers.ranges.is_none(),
        held: if gradient && held <= HELD && registers <= REGISTERS {
            held
        } else {
            0
        },
        ahead: (AHEAD / vector).clamp(2, 4),
    };
    cross_entropy_rows::launch(
        client,
        cubes(shape.rows),
        CubeDim::new_1d(units.count as u32),
        vector,
        buffers.logits,
        buffers.added.into(),
        buffers.targets,
        buffers.weights,
        buffers.ranges.into(),
        buffers.losses,
        shape.rows as u32,
        shape.classes as u32,
        length as u32,
        form,
        dtype,
    );
}
