//! Normalised rows, with the residual that is added before.

use cubecl::client::Client;
use cubecl::prelude::*;

use super::{AHEAD, Form, Kind, Stretch, gained};
use crate::device::{Limits, cubes};
use crate::reduce::{across, cube_sum};

/// What is normalised: x and the residual together.
#[cube]
fn summed<F: Float, N: Size>(
    x: &[Vector<F, N>],
    residual: &ComptimeOption<&[Vector<F, N>]>,
    at: usize,
) -> Vector<f32, N> {
    let mut value = Vector::<f32, N>::cast_from(x[at]);
    #[comptime]
    if let ComptimeOption::Some(residual) = residual {
        value += Vector::cast_from(residual[at]);
    }
    value
}

#[cube(launch)]
#[allow(
    clippy::too_many_arguments,
    reason = "a kernel's arguments are its buffers and sizes"
)]
fn norm_forward<F: Float, N: Size>(
    x: &[Vector<F, N>],
    residual: ComptimeOption<&[Vector<F, N>]>,
    gain: ComptimeOption<&[Vector<F, N>]>,
    bias: ComptimeOption<&[Vector<F, N>]>,
    out: &mut [Vector<F, N>],
    mut sum: ComptimeOption<&mut [Vector<F, N>]>,
    statistics: &mut [f32],
    rows: u32,
    width: u32,
    from: u32,
    len: u32,
    part: u32,
    parts: u32,
    eps: f32,
    #[comptime] form: Form,
    #[define(F)] _dtype: ElemType,
) {
    let row = CUBE_POS * comptime!(form.side) + UNIT_POS_Y as usize;
    if row >= rows as usize {
        terminate!();
    }
    let unit = UNIT_POS_X as usize;
    let units = comptime!(form.units.count);
    let per_unit = comptime!(form.held);
    let (len, from) = (len as usize, from as usize);
    let start = row * width as usize + from;
    let count = (len * N::value()) as f32;
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(form.units.scratch()));

    let mut held = Array::<Vector<f32, N>>::new(comptime!(max(per_unit, 1)));
    let mut mean = 0.0f32;
    let mut squares = Vector::<f32, N>::new(0.0f32);
    if comptime!(per_unit > 0) {
        let mut total = Vector::<f32, N>::new(0.0f32);
        #[unroll]
        for i in 0..per_unit {
            let at = unit + i * units;
            let mut value = Vector::<f32, N>::new(0.0f32);
            if at < len {
                value = summed::<F, N>(x, &residual, start + at);
            }
            held[i] = value;
            total += value;
        }
        if comptime!(form.kind == Kind::Layer) {
            mean = cube_sum(across::<N>(total), &mut scratch, form.units) / count;
        }
        #[unroll]
        for i in 0..per_unit {
            if unit + i * units < len {
                let off = held[i] - Vector::new(mean);
                squares += off * off;
            }
        }
    } else {
        if comptime!(form.kind == Kind::Layer) {
            let mut total = Vector::<f32, N>::new(0.0f32);
            let mut at = unit;
            while at < len {
                #[unroll]
                for i in 0..AHEAD {
                    let here = at + i * units;
                    if here < len {
                        total += summed::<F, N>(x, &residual, start + here);
                    }
                }
                at += comptime!(AHEAD * units);
            }
            mean = cube_sum(across::<N>(total), &mut scratch, form.units) / count;
        }
        let mut at = unit;
        while at < len {
            #[unroll]
            for i in 0..AHEAD {
                let here = at + i * units;
                if here < len {
                    let off = summed::<F, N>(x, &residual, start + here) - Vector::new(mean);
                    squares += off * off;
                }
            }
            at += comptime!(AHEAD * units);
        }
    }
    let spread = cube_sum(across::<N>(squares), &mut scratch, form.units) / count;
    let rstd = 1.0f32 / (spread + eps).sqrt();

    if comptime!(per_unit > 0) {
        #[unroll]
        for i in 0..per_unit {
            let at = unit + i * units;
            if at < len {
                let y = (held[i] - Vector::new(mean)) * Vector::new(rstd);
                let mut y = gained::<F, N>(y, &gain, from + at);
                #[comptime]
                if let ComptimeOption::Some(bias) = &bias {
                    y += Vector::cast_from(bias[from + at]);
                }
                out[start + at] = Vector::cast_from(y);
                #[comptime]
                if let ComptimeOption::Some(sum) = &mut sum {
                    sum[start + at] = Vector::cast_from(held[i]);
                }
            }
        }
    } else {
        let mut at = unit;
        while at < len {
            let value = summed::<F, N>(x, &residual, start + at);
            let y = (value - Vector::new(mean)) * Vector::new(rstd);
            let mut y = gained::<F, N>(y, &gain, from + at);
            #[comptime]
            if let ComptimeOption::Some(bias) = &bias {
                y += Vector::cast_from(bias[from + at]);
            }
            out[start + at] = Vector::cast_from(y);
            #[comptime]
            if let ComptimeOption::Some(sum) = &mut sum {
                sum[start + at] = Vector::cast_from(value);
            }
            at += units;
        }
    }
    if unit == 0 {
        let at = (row * parts as usize + part as usize) * 2;
        statistics[at] = mean;
        statistics[at + 1] = rstd;
    }
}

/// What [`forward`] reads and writes.
pub struct Forward {
    /// `[rows, width]`.
    pub x: BufferArg,
    /// Added to x before, `[rows, width]`.
    pub residual: Option<BufferArg>,
    /// `[width]`.
    pub gain: Option<BufferArg>,
    /// `[width]`.
    pub bias: Option<BufferArg>,
    /// The result, `[rows, width]`.
    pub out: BufferArg,
    /// Gets x and the residual together, `[rows, width]`.
    pub sum: Option<BufferArg>,
    /// Gets mean and `rstd` of every row and stretch, `[rows, parts, 2]` in f32.
    pub statistics: BufferArg,
}

/// Normalises a stretch of every row. All but the statistics have the type `dtype`.
pub fn forward(client: &Client, stretch: Stretch, buffers: Forward, dtype: ElemType) {
    if stretch.rows * stretch.len == 0 {
        return;
    }
    let vector = stretch.vector(client, dtype);
    let form = stretch.forward_form(Limits::of(client), vector);
    let in_vectors = |len: usize| (len / vector) as u32;
    norm_forward::launch(
        client,
        cubes(stretch.rows.div_ceil(form.side)),
        CubeDim::new_2d(form.units.count as u32, form.side as u32),
        vector,
        buffers.x,
        buffers.residual.into(),
        buffers.gain.into(),
        buffers.bias.into(),
        buffers.out,
        buffers.sum.into(),
        buffers.statistics,
        stretch.rows as u32,
        in_vectors(stretch.width),
        in_vectors(stretch.from),
        in_vectors(stretch.len),
        stretch.part.0 as u32,
        stretch.part.1 as u32,
        stretch.eps,
        form,
        dtype,
    );
}
