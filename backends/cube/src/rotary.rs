//! Rotary positions: pairs of elements of every head turned by an angle that grows with the position (Su et al. 2021).

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::device::{Limits, cubes, lanes, vectors};

/// Which elements of a head form a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Element `i` with `i + size / 2` (Hugging Face, GPT-NeoX).
    Half,
    /// Element `2 i` with `2 i + 1` (the original).
    Interleaved,
}

/// Which way to turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Turn {
    /// By the angle.
    Forward,
    /// Back by it: the gradient.
    Inverse,
}

/// Positions and the size of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Positions of each.
    pub time: usize,
    /// Elements of a head, even.
    pub size: usize,
    /// Tables: one for all sequences, or one for each.
    pub tables: usize,
}

/// Heads that lie next to each other in the rows of a matrix `[batch · time, stride]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// How many there are.
    pub count: usize,
    /// Elements from one row to the next.
    pub stride: usize,
    /// The first column of the first head.
    pub from: usize,
}

impl Heads {
    /// `[batch, time, count, size]`.
    pub fn whole(count: usize, size: usize) -> Heads {
        Heads {
            count,
            stride: count * size,
            from: 0,
        }
    }
}

/// What is compiled into a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    layout: Layout,
    turn: Turn,
}

/// Heads that a unit turns by the angles that it has read.
const HEADS: usize = 4;

/// Both members of every pair, turned: the two vectors of a half each, or of pairs side by side.
#[cube]
fn turned<N: Size, M: Size>(
    a: &mut Vector<f32, N>,
    b: &mut Vector<f32, N>,
    cos: Vector<f32, M>,
    sin: Vector<f32, M>,
    #[comptime] layout: Layout,
) {
    if comptime!(layout == Layout::Half) {
        #[unroll]
        for i in 0..N::value() {
            let (left, right) = (a.extract(i), b.extract(i));
            let (c, s) = (cos.extract(i), sin.extract(i));
            a.insert(i, left * c - right * s);
            b.insert(i, right * c + left * s);
        }
    } else {
        #[unroll]
        for i in 0..M::value() {
            let (left, right) = (a.extract(i * 2), a.extract(i * 2 + 1));
            let (c, s) = (cos.extract(i), sin.extract(i));
            a.insert(i * 2, left * c - right * s);
            a.insert(i * 2 + 1, right * c + left * s);
        }
    }
}

/// A unit turns the same pairs of a few heads of one position.
#[cube(launch)]
fn rotary_turn<F: Float, N: Size, M: Size>(
    x: ComptimeOption<&[Vector<F, N>]>,
    out: &mut [Vector<F, N>],
    cos: &[Vector<f32, M>],
    sin: &[Vector<f32, M>],
    count: u32,
    time: u32,
    tables: u32,
    pieces: u32,
    heads: u32,
    stride: u32,
    from: u32,
    #[comptime] form: Form,
    #[comptime] slots: usize,
    #[comptime] per_unit: usize,
    #[define(F)] _dtype: ElemType,
) {
    let index = ABSOLUTE_POS;
    if index >= count as usize {
        terminate!();
    }
    // Vectors of the table's row; of a head there are twice as many in halves, and as many side by side.
    let slot = index % slots;
    let group = index / slots;
    let row = group / pieces as usize;
    let first = (group % pieces as usize) * per_unit;
    let mut line = row;
    if tables == 1 {
        line = row % time as usize;
    }
    let c = cos[line * slots + slot];
    let mut s = sin[line * slots + slot];
    if comptime!(form.turn == Turn::Inverse) {
        s = -s;
    }
    let half = comptime!(form.layout == Layout::Half);
    let head_size = comptime!(if half { 2 * slots } else { slots });
    let start = row * stride as usize + from as usize + slot;
    #[unroll]
    for i in 0..per_unit {
        let head = first + i;
        if head < heads as usize {
            let at = start + head * head_size;
            let other = if half { at + slots } else { at };
            let mut a = Vector::<f32, N>::new(0.0f32);
            let mut b = a;
            #[comptime]
            match &x {
                ComptimeOption::Some(x) => {
                    a += Vector::cast_from(x[at]);
                    if half {
                        b += Vector::cast_from(x[other]);
                    }
                }
                ComptimeOption::None => {
                    a += Vector::cast_from(out[at]);
                    if half {
                        b += Vector::cast_from(out[other]);
                    }
                }
            }
            turned::<N, M>(&mut a, &mut b, c, s, form.layout);
            out[at] = Vector::cast_from(a);
            if half {
                out[other] = Vector::cast_from(b);
            }
        }
    }
}

/// What [`apply`] reads and writes.
pub struct Buffers {
    /// `[batch · time, stride]`; without it out is turned in place.
    pub x: Option<BufferArg>,
    /// Gets what was turned, where x has it, and nothing elsewhere.
    pub out: BufferArg,
    /// Cosines, `[tables, time, size / 2]` in f32.
    pub cos: BufferArg,
    /// Sines, `[tables, time, size / 2]` in f32.
    pub sin: BufferArg,
}

/// Turns every head by its position's angles. x and out have the type `dtype`.
///
/// Queries and keys that lie in one matrix, one after the other, are turned together: they are just more heads.
///
/// # Panics
/// Where the size of a head is odd, or the number of tables is neither 1 nor that of the sequences.
pub fn apply(
    client: &Client,
    shape: Shape,
    heads: Heads,
    (layout, turn): (Layout, Turn),
    buffers: Buffers,
    dtype: ElemType,
) {
    assert!(
        shape.size.is_multiple_of(2) && (shape.tables == 1 || shape.tables == shape.batch),
        "rotary: {shape:?} has pairs of no angle"
    );
    let rows = shape.batch * shape.time;
    if rows * heads.count * shape.size == 0 {
        return;
    }
    let half = shape.size / 2;
    let widest = lanes(client, dtype);
    // Vectors of x, and of the tables.
    let (vector, of_table) = match layout {
        Layout::Half => {
            let vector = vectors(widest, &[half, heads.stride, heads.from]);
            (vector, vector)
        }
        Layout::Interleaved => {
            let vector = vectors(widest, &[shape.size, heads.stride, heads.from]);
            assert!(
                vector > 1,
                "rotary: pairs side by side begin at even columns, not {heads:?}"
            );
            (vector, vector / 2)
        }
    };
    let slots = half / of_table;
    let per_unit = heads.count.min(HEADS);
    let pieces = heads.count.div_ceil(per_unit);
    let count = rows * pieces * slots;
    let units = Limits::of(client).units.min(256);
    rotary_turn::launch(
        client,
        cubes(count.div_ceil(units)),
        CubeDim::new_1d(units as u32),
        vector,
        of_table,
        buffers.x.into(),
        buffers.out,
        buffers.cos,
        buffers.sin,
        count as u32,
        shape.time as u32,
        shape.tables as u32,
        pieces as u32,
        heads.count as u32,
        (heads.stride / vector) as u32,
        (heads.from / vector) as u32,
        Form { layout, turn },
        slots,
        per_unit,
        dtype,
    );
}
