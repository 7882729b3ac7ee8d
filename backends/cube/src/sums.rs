//! Sums over the rows of a matrix, in f32: gradients of biases, and what a kernel leaves in pieces.

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::device::{Limits, cubes, lanes, vectors};

/// The columns of a matrix whose rows are added up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sum {
    /// Rows of the matrix.
    pub rows: usize,
    /// Its columns.
    pub width: usize,
    /// The first column that is summed.
    pub from: usize,
    /// Columns that are summed.
    pub len: usize,
    /// What every sum is multiplied with.
    pub scale: f32,
}

/// What is compiled into the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Units next to each other: vectors of columns.
    across: usize,
    /// Units below each other: rows that are added at the same time.
    down: usize,
}

/// Rows that one cube adds up at least.
const ROWS: usize = 128;

/// Cubes of the first stage that are aimed at.
const CUBES: usize = 1024;

/// Columns that a cube has at most, about, when pieces are counted.
const COLUMNS: usize = 128;

impl Sum {
    /// All columns of `[rows, columns]`.
    pub fn whole(rows: usize, columns: usize) -> Sum {
        Sum {
            rows,
            width: columns,
            from: 0,
            len: columns,
            scale: 1.0,
        }
    }

    /// Pieces of rows that are summed by themselves.
    fn pieces(&self) -> usize {
        self.rows.div_ceil(self.rows_of_a_piece()).max(1)
    }

    fn rows_of_a_piece(&self) -> usize {
        let wanted = (CUBES / self.len.div_ceil(COLUMNS).max(1)).max(1);
        self.rows.div_ceil(wanted).max(ROWS)
    }
}

/// One cube adds a block of columns over the rows of a piece.
#[cube(launch)]
fn sum_rows<F: Float, N: Size>(
    x: &[Vector<F, N>],
    out: &mut [Vector<f32, N>],
    rows: u32,
    rows_of_a_piece: u32,
    pieces: u32,
    width: u32,
    from: u32,
    len: u32,
    scale: f32,
    #[comptime] form: Form,
    #[define(F)] _dtype: ElemType,
) {
    let across = comptime!(form.across);
    let down = comptime!(form.down);
    let len = len as usize;
    let width = width as usize;
    let blocks = len.div_ceil(across);
    let piece = CUBE_POS / blocks;
    if piece >= pieces as usize {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let line = unit / across;
    let at = (CUBE_POS % blocks) * across + unit % across;
    let first = piece * rows_of_a_piece as usize;
    let end = min(first + rows_of_a_piece as usize, rows as usize);
    let mut scratch = Shared::<[Vector<f32, N>]>::new_slice(comptime!(across * down));

    let mut sum = Vector::<f32, N>::new(0.0f32);
    if at < len {
        let mut row = first + line;
        let ahead = comptime!(down * 4);
        // Four rows are on their way at a time.
        while row + comptime!(down * 3) < end {
            let mut some = Vector::<f32, N>::new(0.0f32);
            #[unroll]
            for i in 0..4 {
                let index = (row + comptime!(i * down)) * width + from as usize + at;
                some += Vector::cast_from(x[index]);
            }
            sum += some;
            row += ahead;
        }
        while row < end {
            sum += Vector::cast_from(x[row * width + from as usize + at]);
            row += down;
        }
    }
    scratch[unit] = sum;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(down.ilog2()) {
        let half = comptime!(down >> (step + 1));
        if line < half {
            let other = scratch[unit + half * across];
            scratch[unit] += other;
        }
        sync_cube();
    }
    if line == 0 && at < len {
        out[piece * len + at] = scratch[unit] * Vector::new(scale);
    }
}

/// Adds the rows of x `[rows, width]` up into out `[len]` in f32: in pieces of rows, and then over the pieces, always in
/// the same order.
pub fn rows(client: &Client, sum: Sum, x: BufferArg, out: BufferArg, dtype: ElemType) {
    if sum.len == 0 {
        return;
    }
    let pieces = sum.pieces();
    if pieces == 1 {
        stage(client, sum, 1, x, out, dtype);
        return;
    }
    let parts = client.empty(pieces * sum.len * size_of::<f32>());
    // SAFETY: as long as it says.
    let part = || unsafe { BufferArg::from_raw_parts(parts.clone(), pieces * sum.len) };
    let first = Sum { scale: 1.0, ..sum };
    stage(client, first, pieces, x, part(), dtype);
    let second = Sum {
        scale: sum.scale,
        ..Sum::whole(pieces, sum.len)
    };
    let f32 = f32::elem_type_native();
    stage(client, second, 1, part(), out, f32);
}

fn stage(client: &Client, sum: Sum, pieces: usize, x: BufferArg, out: BufferArg, dtype: ElemType) {
    let limits = Limits::of(client);
    let vector = vectors(lanes(client, dtype), &[sum.width, sum.from, sum.len]);
    let in_vectors = |len: usize| (len / vector) as u32;
    let units = limits.units.min(256);
    let across = (sum.len / vector).next_power_of_two().min(16);
    let rows_of_a_piece = if pieces == 1 {
        sum.rows
    } else {
        sum.rows_of_a_piece()
    };
    // No more lines than rows, but at least a plane of units.
    let lines = rows_of_a_piece.next_power_of_two().max(32 / across);
    let form = Form {
        across,
        down: (units / across).min(lines),
    };
    let blocks = (sum.len / vector).div_ceil(across);
    sum_rows::launch(
        client,
        cubes(blocks * pieces),
        CubeDim::new_1d((form.across * form.down) as u32),
        vector,
        x,
        out,
        sum.rows as u32,
        rows_of_a_piece as u32,
        pieces as u32,
        in_vectors(sum.width),
        in_vectors(sum.from),
        in_vectors(sum.len),
        sum.scale,
        form,
        dtype,
    );
}
