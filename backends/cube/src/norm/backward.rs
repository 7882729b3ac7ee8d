//! Gradients of normalised rows, and sums of those of gain and bias.

use cubecl::client::Client;
use cubecl::prelude::*;

use super::{AHEAD, BATCH, Form, Kind, Stretch, gained};
use crate::device::{Limits, cubes};
use crate::reduce::{across, cube_sum};

/// The units of a row walk over the rows of a piece, and keep sums for gain and bias in registers.
#[cube(launch)]
#[allow(
    clippy::too_many_arguments,
    reason = "a kernel's arguments are its buffers and sizes"
)]
fn norm_backward<F: Float, N: Size>(
    x: &[Vector<F, N>],
    gain: ComptimeOption<&[Vector<F, N>]>,
    statistics: &[f32],
    dy: &[Vector<F, N>],
    dsum: ComptimeOption<&[Vector<F, N>]>,
    dx: &mut [Vector<F, N>],
    dgain: &mut [Vector<f32, N>],
    dbias: &mut [Vector<f32, N>],
    rows: u32,
    rows_of_a_piece: u32,
    width: u32,
    from: u32,
    len: u32,
    part: u32,
    parts: u32,
    #[comptime] form: Form,
    #[comptime] affine: bool,
    #[define(F)] _dtype: ElemType,
) {
    let piece = CUBE_POS * comptime!(form.side) + UNIT_POS_Y as usize;
    let first = piece * rows_of_a_piece as usize;
    // Of no rows the sums are 0.
    if first >= max(rows, 1u32) as usize {
        terminate!();
    }
    let unit = UNIT_POS_X as usize;
    let units = comptime!(form.units.count);
    let per_unit = comptime!(form.held);
    let kept = comptime!(if form.whole { form.held } else { 1 });
    let (len, width, from) = (len as usize, width as usize, from as usize);
    let count = (len * N::value()) as f32;
    let end = min(first + rows_of_a_piece as usize, rows as usize);
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(form.units.scratch()));

    let mut of_x = Array::<Vector<F, N>>::new(kept);
    let mut of_dy = Array::<Vector<F, N>>::new(kept);
    let mut of_gain = Array::<Vector<f32, N>>::new(per_unit);
    let mut of_bias = Array::<Vector<f32, N>>::new(per_unit);
    #[unroll]
    for i in 0..per_unit {
        of_gain[i] = Vector::new(0.0f32);
        of_bias[i] = Vector::new(0.0f32);
    }

    for row in first..end {
        let start = row * width + from;
        let known = (row * parts as usize + part as usize) * 2;
        let mean = statistics[known];
        let rstd = statistics[known + 1];
        // No vectors: there are few registers.
        let mut level = 0.0f32;
        let mut along = 0.0f32;
        #[unroll]
        for i in 0..per_unit {
            let at = unit + i * units;
            if at < len {
                let value = x[start + at];
                let above = dy[start + at];
                if comptime!(form.whole) {
                    of_x[i] = value;
                    of_dy[i] = above;
                }
                let off = Vector::<f32, N>::cast_from(value) - Vector::new(mean);
                let y = off * Vector::new(rstd);
                let g = Vector::<f32, N>::cast_from(above);
                if comptime!(affine) {
                    of_gain[i] += g * y;
                    of_bias[i] += g;
                }
                let g = gained::<F, N>(g, &gain, from + at);
                level += across::<N>(g);
                along += across::<N>(g * y);
            }
        }
        let mut mean_of_g = 0.0f32;
        if comptime!(form.kind == Kind::Layer) {
            mean_of_g = cube_sum(level, &mut scratch, form.units) / count;
        }
        let slope = cube_sum(along, &mut scratch, form.units) / count;
        #[unroll]
        for i in 0..per_unit {
            let at = unit + i * units;
            if at < len {
                let mut value = Vector::<f32, N>::new(0.0f32);
                let mut above = Vector::<f32, N>::new(0.0f32);
                if comptime!(form.whole) {
                    value += Vector::cast_from(of_x[i]);
                    above += Vector::cast_from(of_dy[i]);
                } else {
                    value += Vector::cast_from(x[start + at]);
                    above += Vector::cast_from(dy[start + at]);
                }
                let y = (value - Vector::new(mean)) * Vector::new(rstd);
                let g = gained::<F, N>(above, &gain, from + at);
                let mut d =
                    (g - Vector::new(mean_of_g) - y * Vector::new(slope)) * Vector::new(rstd);
                #[comptime]
                if let ComptimeOption::Some(dsum) = &dsum {
                    d += Vector::cast_from(dsum[start + at]);
                }
                dx[start + at] = Vector::cast_from(d);
            }
        }
    }
    if comptime!(affine) {
        #[unroll]
        for i in 0..per_unit {
            let at = unit + i * units;
            if at < len {
                dgain[piece * width + from + at] = of_gain[i];
                dbias[piece * width + from + at] = of_bias[i];
            }
        }
    }
}

/// The same for rows of any length: of a few rows at a time first what is summed along each, then, column by column, what
/// is summed over them.
#[cube(launch)]
#[allow(
    clippy::too_many_arguments,
    reason = "a kernel's arguments are its buffers and sizes"
)]
fn norm_backward_long<F: Float, N: Size>(
    x: &[Vector<F, N>],
    gain: ComptimeOption<&[Vector<F, N>]>,
    statistics: &[f32],
    dy: &[Vector<F, N>],
    dsum: ComptimeOption<&[Vector<F, N>]>,
    dx: &mut [Vector<F, N>],
    dgain: &mut [Vector<f32, N>],
    dbias: &mut [Vector<f32, N>],
    rows: u32,
    rows_of_a_piece: u32,
    width: u32,
    from: u32,
    len: u32,
    part: u32,
    parts: u32,
    #[comptime] form: Form,
    #[comptime] affine: bool,
    #[define(F)] _dtype: ElemType,
) {
    let piece = CUBE_POS;
    let first = piece * rows_of_a_piece as usize;
    // Of no rows the sums are 0.
    if first >= max(rows, 1u32) as usize {
        terminate!();
    }
    let unit = UNIT_POS_X as usize;
    let units = comptime!(form.units.count);
    let (len, width, from) = (len as usize, width as usize, from as usize);
    let count = (len * N::value()) as f32;
    let end = min(first + rows_of_a_piece as usize, rows as usize);
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(form.units.scratch()));
    // Of each row what is summed along it, the mean of g and the slope, and its statistics.
    let mut known = Shared::<[f32]>::new_slice(comptime!(4 * BATCH));

    let mut batch = first;
    while batch < end || batch == first {
        let last = min(batch + BATCH, end);
        for row in batch..last {
            let start = row * width + from;
            let of_row = (row * parts as usize + part as usize) * 2;
            let mean = statistics[of_row];
            let rstd = statistics[of_row + 1];
            let mut level = Vector::<f32, N>::new(0.0f32);
            let mut along = Vector::<f32, N>::new(0.0f32);
            let mut at = unit;
            while at < len {
                #[unroll]
                for i in 0..comptime!(AHEAD / 2) {
                    let here = at + i * units;
                    if here < len {
                        let off = Vector::<f32, N>::cast_from(x[start + here]) - Vector::new(mean);
                        let g = Vector::<f32, N>::cast_from(dy[start + here]);
                        let g = gained::<F, N>(g, &gain, from + here);
                        level += g;
                        along += g * off * Vector::new(rstd);
                    }
                }
                at += comptime!(AHEAD / 2 * units);
            }
            let mut mean_of_g = 0.0f32;
            if comptime!(form.kind == Kind::Layer) {
                mean_of_g = cube_sum(across::<N>(level), &mut scratch, form.units) / count;
            }
            // No unit is beyond the sum while another still reads what is known of the batch before.
            let slope = cube_sum(across::<N>(along), &mut scratch, form.units) / count;
            if unit == 0 {
                let place = (row - batch) * 4;
                known[place] = mean_of_g;
                known[place + 1] = slope;
                known[place + 2] = mean;
                known[place + 3] = rstd;
            }
        }
        sync_cube();
        let mut at = unit;
        while at < len {
            let column = piece * width + from + at;
            let mut of_gain = Vector::<f32, N>::new(0.0f32);
            let mut of_bias = Vector::<f32, N>::new(0.0f32);
            if comptime!(affine) && batch > first {
                of_gain = dgain[column];
                of_bias = dbias[column];
            }
            for row in batch..last {
                let here = row * width + from + at;
                let place = (row - batch) * 4;
                let mean_of_g = known[place];
                let slope = known[place + 1];
                let mean = known[place + 2];
                let rstd = known[place + 3];
                let off = Vector::<f32, N>::cast_from(x[here]) - Vector::new(mean);
                let y = off * Vector::new(rstd);
                let g = Vector::<f32, N>::cast_from(dy[here]);
                of_gain += g * y;
                of_bias += g;
                let g = gained::<F, N>(g, &gain, from + at);
                let mut d =
                    (g - Vector::new(mean_of_g) - y * Vector::new(slope)) * Vector::new(rstd);
                #[comptime]
                if let ComptimeOption::Some(dsum) = &dsum {
                    d += Vector::cast_from(dsum[here]);
                }
                dx[here] = Vector::cast_from(d);
            }
            if comptime!(affine) {
                dgain[column] = of_gain;
                dbias[column] = of_bias;
            }
            at += units;
        }
        batch += BATCH;
    }
}

/// What [`backward`] reads and writes.
pub struct Backward {
    /// What was normalised (with a residual: the sum), `[rows, width]`.
    pub x: BufferArg,
    /// `[width]`.
    pub gain: Option<BufferArg>,
    /// As [`Forward::statistics`].
    pub statistics: BufferArg,
    /// The gradient of the result, `[rows, width]`.
    pub dy: BufferArg,
    /// The gradient of [`Forward::sum`], added to that of x, `[rows, width]`.
    pub dsum: Option<BufferArg>,
    /// Gets the gradient of x (and of the residual), `[rows, width]`.
    pub dx: BufferArg,
    /// Gets sums of the gradient of gain and of bias, each `[pieces, width]` in f32, to be added up.
    pub affine: Option<(BufferArg, BufferArg)>,
}

/// Gradients of [`forward`].
pub fn backward(client: &Client, stretch: Stretch, buffers: Backward, dtype: ElemType) {
    if stretch.len == 0 {
        return;
    }
    let vector = stretch.vector(client, dtype);
    let form = stretch.backward_form(Limits::of(client), vector);
    let in_vectors = |len: usize| (len / vector) as u32;
    let affine = buffers.affine.is_some();
    let nothing = || {
        let handle = client.empty(vector * size_of::<f32>());
        // SAFETY: as long as it says; never written.
        unsafe { BufferArg::from_raw_parts(handle, vector) }
    };
    let (dgain, dbias) = buffers.affine.unwrap_or_else(|| (nothing(), nothing()));
    // The two take the same, in types of their own.
    macro_rules! launch {
        ($kernel:ident) => {
            $kernel::launch(
                client,
                cubes(stretch.pieces().div_ceil(form.side)),
                CubeDim::new_2d(form.units.count as u32, form.side as u32),
                vector,
                buffers.x,
                buffers.gain.into(),
                buffers.statistics,
                buffers.dy,
                buffers.dsum.into(),
                buffers.dx,
                dgain,
                dbias,
                stretch.rows as u32,
                stretch.rows_of_a_piece() as u32,
                in_vectors(stretch.width),
                in_vectors(stretch.from),
                in_vectors(stretch.len),
                stretch.part.0 as u32,
                stretch.part.1 as u32,
                form,
                affine,
                dtype,
            )
        };
    }
    if form.held > 0 {
        launch!(norm_backward);
    } else {
        launch!(norm_backward_long);
    }
}
