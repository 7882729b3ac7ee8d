//! What every row's slopes have in common, for the backward passes.

use cubecl::client::Client;
use cubecl::prelude::*;

use super::Shape;
use crate::device::{Limits, cubes, lanes, vectors};
use crate::reduce::across;

/// Units of a row.
const ROW_UNITS: usize = 8;

/// Rows of a cube.
const ROWS: usize = 8;

/// `Σ dout · out` of every row, a row to [`ROW_UNITS`] units.
#[cube(launch)]
fn attention_delta<F: Float, N: Size>(
    out: &[Vector<F, N>],
    dout: &[Vector<F, N>],
    delta: &mut [f32],
    queries: u32,
    heads: u32,
    rows: u32,
    len: u32,
    #[comptime] plane: bool,
    #[define(F)] _dtype: ElemType,
) {
    let unit = UNIT_POS as usize;
    let lane = unit % ROW_UNITS;
    let row = CUBE_POS * ROWS + unit / ROW_UNITS;
    let len = len as usize;
    let mut products = Vector::<f32, N>::new(0.0f32);
    if row < rows as usize {
        for i in range_stepped(lane, len, ROW_UNITS) {
            let at = row * len + i;
            products += Vector::<f32, N>::cast_from(out[at]) * Vector::cast_from(dout[at]);
        }
    }
    let mut sum = across::<N>(products);
    if comptime!(plane) {
        #[unroll]
        for step in 0..comptime!(ROW_UNITS.ilog2()) {
            sum += plane_shuffle_xor(sum, comptime!(1u32 << step));
        }
    } else {
        let mut scratch = Shared::<[f32]>::new_slice(comptime!(ROWS * ROW_UNITS));
        scratch[unit] = sum;
        sync_cube();
        sum = 0.0f32;
        #[unroll]
        for i in 0..comptime!(ROW_UNITS) {
            sum += scratch[unit - lane + i];
        }
    }
    if lane == 0 && row < rows as usize {
        // From [batch, queries, heads] to [batch, heads, queries].
        let (queries, heads) = (queries as usize, heads as usize);
        let (place, head) = (row / heads, row % heads);
        delta[(place / queries * heads + head) * queries + place % queries] = sum;
    }
}

/// `delta [batch, heads, queries]`, the sums of `dout · out` over every row.
pub(super) fn delta(
    client: &Client,
    shape: &Shape,
    out: BufferArg,
    dout: BufferArg,
    delta: BufferArg,
    dtype: ElemType,
) {
    let rows = shape.batch * shape.queries * shape.heads;
    if rows == 0 {
        return;
    }
    let plane = Limits::of(client).plane;
    let vector = vectors(lanes(client, dtype), &[shape.value]);
    attention_delta::launch(
        client,
        cubes(rows.div_ceil(ROWS)),
        CubeDim::new_1d((ROWS * ROW_UNITS) as u32),
        vector,
        out,
        dout,
        delta,
        shape.queries as u32,
        shape.heads as u32,
        rows as u32,
        (shape.value / vector) as u32,
        plane > 0 && plane.is_multiple_of(ROW_UNITS),
        dtype,
    );
}
