//! Layer and RMS normalisation of rows, or of a stretch of every row, and the residual before it.
//!
//! Layer: `(x - mean) · rstd · gain + bias` with `rstd = 1 / √(variance + eps)`, the variance biased (Ba et al.
//! 2016). RMS: the same with mean 0 and without bias (Zhang and Sennrich 2019).

mod backward;
mod forward;

pub use backward::{Backward, backward};
pub use forward::{Forward, forward};

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::device::{Limits, lanes, vectors};
use crate::reduce::Units;

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
    /// Which of how many stretches of a row it is: where its statistics lie.
    pub part: (usize, usize),
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
            part: (0, 1),
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
    /// Rows that a cube serves at the same time, each with units of its own.
    side: usize,
    /// Vectors of a row that a unit has registers for, 0 for rows of any length.
    held: usize,
    /// Whether a backward pass keeps the row in them, beside the sums for gain and bias.
    whole: bool,
}

/// Rows that one cube of the backward pass adds up at least, so that few partial sums are left.
const ROWS: usize = 16;

/// Rows of any length that one cube walks over together.
const BATCH: usize = 8;

/// Rows of partial sums at most, but for narrow rows, which have few elements each.
const PIECES: usize = 1024;
const NARROW: usize = 1 << 20;

/// Elements that a unit holds in a forward pass at most, a register each: of 1024 units each has 64.
const HELD: usize = 24;

/// Elements whose sums for gain and bias a unit holds in a backward pass at most, two registers each.
const SUMMED: usize = 32;
/// Elements that it holds besides at most, with up to two registers each: with more some are spilled.
const KEPT: usize = 8;

/// Vectors that are on their way at a time in a row of any length.
const AHEAD: usize = 4;

impl Stretch {
    /// Elements of a vector: as wide as the device reads at once, but no wider than it takes to occupy a plane.
    fn vector(&self, client: &Client, dtype: ElemType) -> usize {
        let most = self.len.div_ceil(32).next_power_of_two();
        let most = lanes(client, dtype).min(most);
        vectors(most, &[self.width, self.from, self.len])
    }

    /// The form of its kernels, `each` vectors for a unit where there are enough of them.
    fn form(&self, limits: Limits, vector: usize, each: usize, most: usize) -> Form {
        let units = Units::each(
            self.len / vector,
            each,
            limits.units.min(most),
            limits.plane,
        );
        let single = units.plane > 0 && units.count == units.plane;
        Form {
            kind: self.kind,
            units,
            // Rows that one plane serves need no barrier.
            side: if single { 4 } else { 1 },
            held: (self.len / vector).div_ceil(units.count),
            whole: true,
        }
    }

    fn forward_form(&self, limits: Limits, vector: usize) -> Form {
        let form = self.form(limits, vector, (16 / vector).min(4), 1024);
        let fits = form.held * vector <= HELD;
        Form {
            held: if fits { form.held } else { 0 },
            ..form
        }
    }

    fn backward_form(&self, limits: Limits, vector: usize) -> Form {
        let form = self.form(limits, vector, (KEPT / vector).min(4), 512);
        let elements = form.held * vector;
        Form {
            held: if elements <= SUMMED { form.held } else { 0 },
            whole: elements <= KEPT,
            ..form
        }
    }

    /// Rows of partial sums that [`backward`] writes of gain and bias: a matter of rows and width alone.
    pub fn pieces(&self) -> usize {
        self.rows.div_ceil(self.rows_of_a_piece()).max(1)
    }

    fn rows_of_a_piece(&self) -> usize {
        let most = (NARROW / self.width.max(1)).max(PIECES);
        self.rows.div_ceil(most).max(ROWS)
    }
}

/// A vector times that of the gain.
#[cube]
fn gained<F: Float, N: Size>(
    value: Vector<f32, N>,
    gain: &ComptimeOption<&[Vector<F, N>]>,
    at: usize,
) -> Vector<f32, N> {
    let mut out = value;
    #[comptime]
    if let ComptimeOption::Some(gain) = gain {
        out *= Vector::cast_from(gain[at]);
    }
    out
}
