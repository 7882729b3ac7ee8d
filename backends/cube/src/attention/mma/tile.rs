//! Tiles in shared memory and in registers.
//!
//! The registers of `mma.sync.m16n8k16` (PTX ISA, "Matrix fragments for mma.m16n8k16"), for lane `4 g + t`:
//! sums `c0, c1` are row g, columns 2 t and 2 t + 1, and `c2, c3` row g + 8. The left operand's `a0` holds row g,
//! columns 2 t and 2 t + 1, `a1` row g + 8, `a2` and `a3` the same rows and columns 8 further; the right operand's
//! `b0` holds rows 2 t and 2 t + 1 of column g, `b1` 8 rows further. So the sums of two neighbouring products are,
//! packed, a left operand.

use cubecl::cmma::{MatrixIdent, MmaDefinition};
use cubecl::prelude::barrier::copy_async_checked;
use cubecl::prelude::*;

/// A 16-bit float that tensor cores multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Half {
    F16,
    Bf16,
}

impl Half {
    const fn name(self) -> &'static str {
        match self {
            Half::F16 => "f16",
            Half::Bf16 => "bf16",
        }
    }
}

/// Rows in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    pub(super) rows: usize,
    /// Elements of a row in global memory, divisible by 8.
    pub(super) width: usize,
    /// Units that fetch it.
    pub(super) units: usize,
}

impl Tile {
    /// Elements of a row that products read: zeros follow the width.
    pub(super) const fn padded(self) -> usize {
        self.width.next_multiple_of(16)
    }

    /// Elements from a row to the next: an odd number of 16 bytes, so that eight rows lie in different banks.
    pub(super) const fn pitch(self) -> usize {
        self.padded() + 8
    }

    pub(super) const fn len(self) -> usize {
        self.rows * self.pitch()
    }
}

/// Starts copying rows to `tile` from `to` on: row r from element `from + r · stride`, of which there are `rows`;
/// what is beyond them becomes 0.
#[cube]
pub(super) fn fetch<F: Float>(
    source: &[F],
    from: usize,
    stride: usize,
    rows: usize,
    tile: &mut [F],
    to: usize,
    #[comptime] form: Tile,
) {
    // A unit stays in its column of 16 bytes, so that it computes its place once.
    let chunks = comptime!(form.padded() / 8);
    let at_once = comptime!(form.units / (form.padded() / 8));
    let unit = UNIT_POS as usize;
    let own = unit / chunks;
    let column = unit % chunks * 8;
    let mut inside = true.runtime();
    if comptime!(form.padded() != form.width) {
        inside = column < comptime!(form.width);
    }
    let start = from + own * stride + column;
    let place = to + own * comptime!(form.pitch()) + column;
    #[unroll]
    for i in 0..comptime!(form.rows.div_ceil(at_once)) {
        let row = own + i * at_once;
        let there = inside && row < rows;
        let len = select(there, 8usize, 0usize);
        let start = select(there, start + i * at_once * stride, 0usize);
        let place = place + comptime!(i * at_once * form.pitch());
        let mut mine = true.runtime();
        if comptime!(!form.units.is_multiple_of(chunks) || (i + 1) * at_once > form.rows) {
            mine = own < comptime!(Ord::min(at_once, form.rows - i * at_once));
        }
        if mine {
            copy_async_checked(
                &source[start..start + len],
                &mut tile[place..place + 8],
                8u32,
            );
        }
    }
}

/// Closes a group of copies.
#[cube]
pub(super) fn commit() {
    gpu_asm!("cp.async.commit_group;");
}

/// Waits for all of this unit's copies; other units see them after a barrier.
#[cube]
pub(super) fn arrived() {
    gpu_asm!("cp.async.wait_group 0;");
}

/// Four 8 × 8 matrices; this lane names row `lane % 8` of matrix `lane / 8`. Their order is that of an operand's
/// registers, which have to follow each other: another order costs moves.
#[cube]
fn matrices<F: Float>(
    tile: &[F],
    at: usize,
    #[comptime] transposed: bool,
) -> Vector<u32, Const<4>> {
    let def = MmaDefinition::<F, F, f32>::new(16usize, 8usize, 16usize);
    let registers =
        def.load_matrix::<F, Const<2>>(&tile[at..at + 8], MatrixIdent::A, 4usize, transposed);
    Vector::reinterpret(registers.into_vector::<Const<8>>())
}

/// A left operand: 16 rows and columns from `from` on.
#[cube]
pub(super) fn left<F: Float>(
    tile: &[F],
    from: usize,
    #[comptime] pitch: usize,
) -> Vector<u32, Const<4>> {
    let lane = UNIT_POS_PLANE as usize;
    matrices::<F>(tile, from + lane % 16 * pitch + lane / 16 * 8, false)
}

/// Two right operands from 16 rows of a tile that are the columns of the matrix: `b0, b1` of the first 8 columns,
/// then of the next.
#[cube]
pub(super) fn right_rows<F: Float>(
    tile: &[F],
    from: usize,
    #[comptime] pitch: usize,
) -> Vector<u32, Const<4>> {
    let lane = UNIT_POS_PLANE as usize;
    let row = lane / 16 * 8 + lane % 8;
    matrices::<F>(tile, from + row * pitch + lane / 8 % 2 * 8, false)
}

/// Two right operands from 16 rows of a tile that are the rows of the matrix: `b0, b1` of the first 8 columns,
/// then of the next.
#[cube]
pub(super) fn right_columns<F: Float>(
    tile: &[F],
    from: usize,
    #[comptime] pitch: usize,
) -> Vector<u32, Const<4>> {
    let lane = UNIT_POS_PLANE as usize;
    matrices::<F>(tile, from + lane % 16 * pitch + lane / 16 * 8, true)
}

/// Adds the product of a left operand and `b0, b1` to four sums from `at` on.
#[cube]
pub(super) fn multiply(
    a: Vector<u32, Const<4>>,
    b0: u32,
    b1: u32,
    sums: &mut Array<f32>,
    #[comptime] at: usize,
    #[comptime] half: Half,
) {
    let kind = comptime!(half.name());
    let (c0, c1, c2, c3) = (sums[at], sums[at + 1], sums[at + 2], sums[at + 3]);
    let out: Vector<f32, Const<4>>;
    gpu_asm!(
        "mma.sync.aligned.m16n8k16.row.col.f32.{kind}.{kind}.f32 {d}, {a}, {{{b0}, {b1}}}, {{{c0}, {c1}, {c2}, {c3}}};",
        d = out(_) out, a = in(_) a, b0 = in(_) b0, b1 = in(_) b1,
        c0 = in(_) c0, c1 = in(_) c1, c2 = in(_) c2, c3 = in(_) c3,
        options(pure, nomem),
    );
    sums[at] = out.extract(0usize);
    sums[at + 1] = out.extract(1usize);
    sums[at + 2] = out.extract(2usize);
    sums[at + 3] = out.extract(3usize);
}

/// Eight sums, of two neighbouring products, as a left operand.
#[cube]
pub(super) fn packed(
    sums: &Array<f32>,
    #[comptime] at: usize,
    #[comptime] half: Half,
) -> Vector<u32, Const<4>> {
    let mut out = Vector::<u32, Const<4>>::new(0u32);
    #[unroll]
    for i in 0..4usize {
        out.insert(i, pack(sums[at + i * 2], sums[at + i * 2 + 1], half));
    }
    out
}

/// Two numbers rounded to 16 bits, the first in the low half.
#[cube]
pub(super) fn pack(low: f32, high: f32, #[comptime] half: Half) -> u32 {
    let kind = comptime!(half.name());
    let out: u32;
    gpu_asm!(
        "cvt.rn.{kind}x2.f32 {d}, {high}, {low};",
        d = out(_) out, high = in(_) high, low = in(_) low,
        options(pure, nomem),
    );
    out
}

/// `2^x`, off by 2 units in the last place at most; 0 of minus infinity.
#[cube]
pub(super) fn exp2(x: f32) -> f32 {
    let out: f32;
    gpu_asm!(
        "ex2.approx.ftz.f32 {d}, {x};",
        d = out(_) out, x = in(_) x,
        options(pure, nomem),
    );
    out
}

/// Minus infinity.
#[cube]
pub(super) fn nothing() -> f32 {
    f32::reinterpret(0xff80_0000u32)
}

/// The maximum over the four lanes that share rows.
#[cube]
pub(super) fn quad_max(value: f32) -> f32 {
    let top = max(value, plane_shuffle_xor(value, 1u32));
    max(top, plane_shuffle_xor(top, 2u32))
}

/// The sum over the four lanes that share rows.
#[cube]
pub(super) fn quad_sum(value: f32) -> f32 {
    let sum = value + plane_shuffle_xor(value, 1u32);
    sum + plane_shuffle_xor(sum, 2u32)
}

/// Sizes of a product: 16 rows times `bands`, `inner` times 16 that are summed over, `columns` times 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Product {
    pub(super) bands: usize,
    pub(super) inner: usize,
    pub(super) columns: usize,
    pub(super) half: Half,
}

impl Product {
    /// Sums that a lane holds.
    pub(super) const fn sums(self) -> usize {
        self.bands * self.columns * 8
    }
}

/// Rows of one tile times rows of another: `sums[band, column, 8]` becomes the products.
#[cube]
pub(super) fn rows_by_rows<F: Float>(
    left_tile: &[F],
    left_from: usize,
    right_tile: &[F],
    right_from: usize,
    #[comptime] pitch: usize,
    #[comptime] form: Product,
) -> Array<f32> {
    let (bands, inner, columns) = comptime!((form.bands, form.inner, form.columns));
    let mut sums = Array::<f32>::new(comptime!(form.sums()));
    #[unroll]
    for i in 0..comptime!(form.sums()) {
        sums[i] = 0.0f32;
    }
    #[unroll]
    for x in 0..inner {
        let mut a = Array::<Vector<u32, Const<4>>>::new(bands);
        #[unroll]
        for band in 0..bands {
            a[band] = left::<F>(left_tile, left_from + band * 16 * pitch + x * 16, pitch);
        }
        #[unroll]
        for c in 0..columns {
            let b = right_rows::<F>(right_tile, right_from + c * 16 * pitch + x * 16, pitch);
            #[unroll]
            for band in 0..bands {
                let to = comptime!((band * form.columns + c) * 8);
                multiply(
                    a[band],
                    b.extract(0usize),
                    b.extract(1usize),
                    &mut sums,
                    to,
                    form.half,
                );
                multiply(
                    a[band],
                    b.extract(2usize),
                    b.extract(3usize),
                    &mut sums,
                    comptime!(to + 4),
                    form.half,
                );
            }
        }
    }
    sums
}

/// Adds weights (sums of an earlier product, rounded to 16 bits) times the columns of a tile to `sums`.
#[cube]
pub(super) fn add_by_columns<F: Float>(
    weights: &Array<f32>,
    tile: &[F],
    from: usize,
    #[comptime] pitch: usize,
    sums: &mut Array<f32>,
    #[comptime] form: Product,
) {
    let (bands, inner, columns) = comptime!((form.bands, form.inner, form.columns));
    #[unroll]
    for c in 0..inner {
        let mut a = Array::<Vector<u32, Const<4>>>::new(bands);
        #[unroll]
        for band in 0..bands {
            a[band] = packed(weights, comptime!((band * form.inner + c) * 8), form.half);
        }
        #[unroll]
        for x in 0..columns {
            let b = right_columns::<F>(tile, from + c * 16 * pitch + x * 16, pitch);
            #[unroll]
            for band in 0..bands {
                let to = comptime!((band * form.columns + x) * 8);
                multiply(
                    a[band],
                    b.extract(0usize),
                    b.extract(1usize),
                    sums,
                    to,
                    form.half,
                );
                multiply(
                    a[band],
                    b.extract(2usize),
                    b.extract(3usize),
                    sums,
                    comptime!(to + 4),
                    form.half,
                );
            }
        }
    }
}

/// Writes a lane's sums times `factor`: those of row `g + 8 r` of a band go to the `width` elements from pair `to`
/// on.
#[cube]
pub(super) fn store_row<F: Float>(
    sums: &Array<f32>,
    #[comptime] from: usize,
    factor: f32,
    out: &mut [Vector<F, Const<2>>],
    to: usize,
    #[comptime] width: usize,
) {
    let t = UNIT_POS_PLANE as usize % 4;
    #[unroll]
    for n in 0..comptime!(width / 8) {
        let i = comptime!(from + n * 4);
        let mut pair = Vector::<f32, Const<2>>::new(0.0f32);
        pair.insert(0usize, sums[i] * factor);
        pair.insert(1usize, sums[i + 1] * factor);
        out[to + n * 4 + t] = Vector::cast_from(pair);
    }
}

/// Starts copying `rows` numbers of a row from `from` on to `tile` from `to` on; what is beyond them becomes 0.
#[cube]
pub(super) fn fetch_numbers(
    source: &[f32],
    from: usize,
    rows: usize,
    tile: &mut [f32],
    to: usize,
    #[comptime] count: usize,
) {
    let unit = UNIT_POS as usize;
    if unit < count {
        let there = unit < rows;
        let start = select(there, from + unit, 0usize);
        let len = select(there, 1usize, 0usize);
        copy_async_checked(
            &source[start..start + len],
            &mut tile[to + unit..to + unit + 1],
            1u32,
        );
    }
}
