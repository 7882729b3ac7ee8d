//! Layer and RMS normalisation of rows, or of a stretch of every row, and the residual before it.
//!
//! Layer: `(x - mean) · rstd · gain + bias` with `rstd = 1 / √(variance + eps)`, the variance biased (Ba et al.
//! 2016). RMS: the same with mean 0 and without bias (Zhang and Sennrich 2019).

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::device::{Limits, cubes, vectors, widest};
use crate::reduce::{Units, across, cube_sum};

/// Which normalisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// With a mean.
    Layer,
    /// Without.
    Rms,
}

/// The part of a matrix's rows that is normalised by itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// Rows of the matrix.
    pub rows: usize,
    /// Its columns.
    pub width: usize,
    /// The first column of the stretch.
    pub from: usize,
    /// Columns of the stretch.
    pub len: usize,
    /// Which normalisation.
    pub kind: Kind,
    /// Added to the variance.
    pub eps: f32,
}

impl Stretch {
    /// Whole rows.
    pub fn whole(rows: usize, width: usize, kind: Kind, eps: f32) -> Stretch {
        Stretch {
            rows,
            width,
            from: 0,
            len: width,
            kind,
            eps,
        }
    }
}

/// What is compiled into a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    kind: Kind,
    units: Units,
    /// Vectors of a stretch that a unit holds.
    held: usize,
}

/// Rows that one cube of the backward pass adds up at least, so that few partial sums are left.
const ROWS: usize = 16;

/// Cubes of the backward pass at most.
const PIECES: usize = 1024;

impl Stretch {
    /// The form of its kernels on a device, and the size of vectors.
    fn form(&self, limits: Limits, dtype: ElemType) -> (Form, usize) {
        let vector = vectors(widest(dtype), &[self.width, self.from, self.len]);
        let units = Units::for_rows(self.len, vector, limits.units.min(1024), limits.plane);
        let held = (self.len / vector).div_ceil(units.count);
        let form = Form {
            kind: self.kind,
            units,
            held,
        };
        (form, vector)
    }

    /// Rows of partial sums that [`backward`] writes of gain and bias.
    pub fn pieces(&self) -> usize {
        self.rows.div_ceil(self.rows_of_a_piece()).max(1)
    }

    fn rows_of_a_piece(&self) -> usize {
        self.rows.div_ceil(PIECES).max(ROWS)
    }
}

#[cube(launch)]
fn norm_forward<F: Float, N: Size>(
    x: &[Vector<F, N>],
    residual: ComptimeOption<&[Vector<F, N>]>,
    gain: ComptimeOption<&[Vector<F, N>]>,
    bias: ComptimeOption<&[Vector<F, N>]>,
    out: &mut [Vector<F, N>],
    sum: ComptimeOption<&mut [Vector<F, N>]>,
    statistics: &mut [f32],
    rows: u32,
    width: u32,
    from: u32,
    len: u32,
    eps: f32,
    #[comptime] form: Form,
    #[define(F)] _dtype: ElemType,
) {
    let row = CUBE_POS as usize;
    if row >= rows as usize {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let units = comptime!(form.units.count);
    let per_unit = comptime!(form.held);
    let len = len as usize;
    let start = row * width as usize + from as usize;
    let count = (len * N::value()) as f32;
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(form.units.scratch()));

    let mut held = Array::<Vector<f32, N>>::new(per_unit);
    let mut total = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for i in 0..per_unit {
        let at = unit + i * units;
        let mut value = Vector::<f32, N>::new(0.0f32);
        if at < len {
            value = Vector::cast_from(x[start + at]);
            #[comptime]
            if let ComptimeOption::Some(residual) = &residual {
                value += Vector::cast_from(residual[start + at]);
            }
        }
        held[i] = value;
        total += value;
    }
    let mut mean = 0.0f32;
    if comptime!(form.kind == Kind::Layer) {
        mean = cube_sum(across::<N>(total), &mut scratch, form.units) / count;
    }
    let mut squares = Vector::<f32, N>::new(0.0f32);
    #[unroll]
    for i in 0..per_unit {
        let at = unit + i * units;
        if at < len {
            let off = held[i] - Vector::new(mean);
            squares += off * off;
        }
    }
    let spread = cube_sum(across::<N>(squares), &mut scratch, form.units) / count;
    let rstd = 1.0f32 / (spread + eps).sqrt();

    #[unroll]
    for i in 0..per_unit {
        let at = unit + i * units;
        if at < len {
            let mut y = (held[i] - Vector::new(mean)) * Vector::new(rstd);
            #[comptime]
            if let ComptimeOption::Some(gain) = &gain {
                y *= Vector::cast_from(gain[from as usize + at]);
            }
            #[comptime]
            if let ComptimeOption::Some(bias) = &bias {
                y += Vector::cast_from(bias[from as usize + at]);
            }
            out[start + at] = Vector::cast_from(y);
        }
    }
    #[comptime]
    if let ComptimeOption::Some(sum) = sum {
        #[unroll]
        for i in 0..per_unit {
            let at = unit + i * units;
            if at < len {
                sum[start + at] = Vector::cast_from(held[i]);
            }
        }
    }
    if unit == 0 {
        statistics[row * 2] = mean;
        statistics[row * 2 + 1] = rstd;
    }
}

/// One cube walks over the rows of a piece, and keeps sums for gain and bias.
#[cube(launch)]
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
    #[comptime] form: Form,
    #[comptime] affine: bool,
    #[define(F)] _dtype: ElemType,
) {
    let piece = CUBE_POS as usize;
    let first = piece * rows_of_a_piece as usize;
    if first >= rows as usize {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let units = comptime!(form.units.count);
    let per_unit = comptime!(form.held);
    let (len, width, from) = (len as usize, width as usize, from as usize);
    let count = (len * N::value()) as f32;
    let end = min(first + rows_of_a_piece as usize, rows as usize);
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(form.units.scratch()));

    let mut normal = Array::<Vector<f32, N>>::new(per_unit);
    let mut held = Array::<Vector<f32, N>>::new(per_unit);
    let mut of_gain = Array::<Vector<f32, N>>::new(per_unit);
    let mut of_bias = Array::<Vector<f32, N>>::new(per_unit);
    #[unroll]
    for i in 0..per_unit {
        of_gain[i] = Vector::new(0.0f32);
        of_bias[i] = Vector::new(0.0f32);
    }

    for row in first..end {
        let start = row * width + from;
        let mean = statistics[row * 2];
        let rstd = statistics[row * 2 + 1];
        let mut level = Vector::<f32, N>::new(0.0f32);
        let mut along = Vector::<f32, N>::new(0.0f32);
        #[unroll]
        for i in 0..per_unit {
            let at = unit + i * units;
            let mut g = Vector::<f32, N>::new(0.0f32);
            let mut y = Vector::<f32, N>::new(0.0f32);
            if at < len {
                g = Vector::cast_from(dy[start + at]);
                y = (Vector::<f32, N>::cast_from(x[start + at]) - Vector::new(mean))
                    * Vector::new(rstd);
                of_gain[i] += g * y;
                of_bias[i] += g;
                #[comptime]
                if let ComptimeOption::Some(gain) = &gain {
                    g *= Vector::cast_from(gain[from + at]);
                }
            }
            normal[i] = y;
            held[i] = g;
            level += g;
            along += g * y;
        }
        let mut mean_of_g = 0.0f32;
        if comptime!(form.kind == Kind::Layer) {
            mean_of_g = cube_sum(across::<N>(level), &mut scratch, form.units) / count;
        }
        let slope = cube_sum(across::<N>(along), &mut scratch, form.units) / count;
        #[unroll]
        for i in 0..per_unit {
            let at = unit + i * units;
            if at < len {
                let mut d = (held[i] - Vector::new(mean_of_g) - normal[i] * Vector::new(slope))
                    * Vector::new(rstd);
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
    /// Gets mean and `rstd` of every row, `[rows, 2]` in f32.
    pub statistics: BufferArg,
}

/// Normalises a stretch of every row. All but the statistics have the type `dtype`.
pub fn forward(client: &Client, stretch: Stretch, buffers: Forward, dtype: ElemType) {
    let (form, vector) = stretch.form(Limits::of(client), dtype);
    let in_vectors = |len: usize| (len / vector) as u32;
    norm_forward::launch(
        client,
        cubes(stretch.rows),
        CubeDim::new_1d(form.units.count as u32),
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
        stretch.eps,
        form,
        dtype,
    );
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
    let (form, vector) = stretch.form(Limits::of(client), dtype);
    let in_vectors = |len: usize| (len / vector) as u32;
    let affine = buffers.affine.is_some();
    let nothing = || {
        let handle = client.empty(vector * size_of::<f32>());
        // SAFETY: as long as it says; never written.
        unsafe { BufferArg::from_raw_parts(handle, vector) }
    };
    let (dgain, dbias) = buffers.affine.unwrap_or_else(|| (nothing(), nothing()));
    norm_backward::launch(
        client,
        cubes(stretch.pieces()),
        CubeDim::new_1d(form.units.count as u32),
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
        form,
        affine,
        dtype,
    );
}
