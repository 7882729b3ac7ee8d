//! Tiles in shared memory, and a unit's part of them in registers.

use cubecl::prelude::*;

use super::super::Shape;
use crate::device::Limits;

/// Four numbers: what a unit reads of shared memory at once.
pub(super) type Four = Vector<f32, Const<4>>;

/// The least finite number: the maximum of nothing. (WGSL has no infinities in its text.)
pub(super) const LEAST: f32 = f32::MIN;

/// How a tile of scores lies on the units of a cube: unit `y * across + x` has the rows `y + i * down` and the
/// columns `x + j * across`, j below 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    pub(super) down: usize,
    pub(super) across: usize,
    /// Rows of a unit.
    pub(super) high: usize,
    /// Vectors of four of the key axis that are in shared memory at a time.
    pub(super) key: usize,
    /// The same of the value axis.
    pub(super) value: usize,
    /// Parts that the key axis is cut into.
    pub(super) key_parts: usize,
    /// The same of the value axis.
    pub(super) value_parts: usize,
    /// Vectors of four of a row of the result that a unit has.
    pub(super) wide: usize,
    /// Whether units exchange values through planes.
    pub(super) plane: bool,
}

impl Tile {
    pub(super) const fn units(self) -> usize {
        self.down * self.across
    }

    pub(super) const fn rows(self) -> usize {
        self.down * self.high
    }

    pub(super) const fn cols(self) -> usize {
        4 * self.across
    }

    /// Vectors of a row of the result that one cube has.
    pub(super) const fn out(self) -> usize {
        self.across * self.wide
    }

    /// Vectors from a row of weights to the next.
    pub(super) const fn weights(self) -> usize {
        odd(self.across)
    }

    /// Vectors of the tile of columns: keys, then values.
    pub(super) const fn right(self, inner: usize) -> usize {
        let longest = if inner > self.out() {
            inner
        } else {
            self.out()
        };
        self.cols() * odd(longest)
    }
}

/// The distance of rows in shared memory at which neighbouring rows lie in different banks.
pub(super) const fn odd(vectors: usize) -> usize {
    vectors | 1
}

/// Brings `width` elements of each of `valid` rows to shared memory, and zeros up to a whole tile. `start` and `row`
/// count vectors.
#[cube]
pub(super) fn load<F: Float, N: Size>(
    from: &[Vector<F, N>],
    to: &mut [Four],
    start: usize,
    row: usize,
    valid: usize,
    width: usize,
    #[comptime] rows: usize,
    #[comptime] columns: usize,
    #[comptime] units: usize,
) {
    let stride = comptime!(odd(columns));
    let vector = N::value();
    for i in range_stepped(UNIT_POS as usize, comptime!(rows * columns), units) {
        let y = i / columns;
        let x = i % columns;
        let mut value = Four::new(0.0f32);
        if y < valid {
            if comptime!(vector == 4) {
                if x * 4 < width {
                    value = Four::cast_from(from[start + y * row + x]);
                }
            } else {
                #[unroll]
                for e in 0..4usize {
                    if x * 4 + e < width {
                        value.insert(
                            e,
                            f32::cast_from(from[start + y * row + x * 4 + e].extract(0usize)),
                        );
                    }
                }
            }
        }
        to[y * stride + x] = value;
    }
}

/// `sums += left · rightᵀ` over `depth` vectors.
#[cube]
pub(super) fn products(
    sums: &mut Array<f32>,
    left: &[Four],
    right: &[Four],
    #[comptime] depth: usize,
    #[comptime] left_row: usize,
    #[comptime] right_row: usize,
    #[comptime] tile: Tile,
) {
    let high = comptime!(tile.high);
    let across = comptime!(tile.across);
    let down = comptime!(tile.down);
    let x = UNIT_POS as usize % across;
    let y = UNIT_POS as usize / across;
    let mut held = Array::<Four>::new(4usize);
    for at in 0..depth {
        #[unroll]
        for j in 0..4usize {
            held[j] = right[(x + j * across) * right_row + at];
        }
        #[unroll]
        for i in 0..high {
            let one = left[(y + i * down) * left_row + at];
            #[unroll]
            for j in 0..4usize {
                let mut sum = sums[i * 4 + j];
                #[unroll]
                for e in 0..4usize {
                    sum = fma(one.extract(e), held[j].extract(e), sum);
                }
                sums[i * 4 + j] = sum;
            }
        }
    }
}

/// `sums += weights · right`.
#[cube]
pub(super) fn weighted(
    sums: &mut Array<Four>,
    weights: &[Four],
    right: &[Four],
    #[comptime] right_row: usize,
    #[comptime] tile: Tile,
) {
    let high = comptime!(tile.high);
    let across = comptime!(tile.across);
    let down = comptime!(tile.down);
    let wide = comptime!(tile.wide);
    let row = comptime!(tile.weights());
    let x = UNIT_POS as usize % across;
    let y = UNIT_POS as usize / across;
    let mut held = Array::<Four>::new(high);
    for at in 0..across {
        #[unroll]
        for i in 0..high {
            held[i] = weights[(y + i * down) * row + at];
        }
        // The element e of a vector of weights is the column at + e · across.
        #[unroll]
        for e in 0..4usize {
            #[unroll]
            for n in 0..wide {
                let one = right[(at + e * across) * right_row + x + n * across];
                #[unroll]
                for i in 0..high {
                    sums[i * wide + n] =
                        fma(Four::new(held[i].extract(e)), one, sums[i * wide + n]);
                }
            }
        }
    }
}

/// Hands a unit's weights to the units of the same rows.
#[cube]
pub(super) fn share(weights: &mut [Four], values: &Array<f32>, #[comptime] tile: Tile) {
    let x = UNIT_POS as usize % tile.across;
    let y = UNIT_POS as usize / tile.across;
    #[unroll]
    for i in 0..comptime!(tile.high) {
        let mut four = Four::new(0.0f32);
        #[unroll]
        for j in 0..4usize {
            four.insert(j, values[i * 4 + j]);
        }
        weights[(y + i * tile.down) * comptime!(tile.weights()) + x] = four;
    }
}

/// Replaces every row's value by the largest, or by the sum, over the units of the row. Between two calls on one
/// `scratch` all units have to meet.
#[cube]
pub(super) fn over_row(
    values: &mut Array<f32>,
    scratch: &mut [f32],
    #[comptime] sum: bool,
    #[comptime] tile: Tile,
) {
    let high = comptime!(tile.high);
    let across = comptime!(tile.across);
    if comptime!(tile.plane) {
        #[unroll]
        for i in 0..high {
            #[unroll]
            for step in 0..comptime!(across.ilog2()) {
                let other = plane_shuffle_xor(values[i], comptime!(1u32 << step));
                if comptime!(sum) {
                    values[i] += other;
                } else {
                    values[i] = max(values[i], other);
                }
            }
        }
    } else {
        let x = UNIT_POS as usize % across;
        let y = UNIT_POS as usize / across;
        #[unroll]
        for i in 0..high {
            scratch[(y + i * tile.down) * across + x] = values[i];
        }
        sync_cube();
        #[unroll]
        for i in 0..high {
            let mut value = scratch[(y + i * tile.down) * across];
            for other in 1..across {
                let other = scratch[(y + i * tile.down) * across + other];
                if comptime!(sum) {
                    value += other;
                } else {
                    value = max(value, other);
                }
            }
            values[i] = value;
        }
    }
}

/// Writes a unit's elements of the result, each row times its factor. `start` and `row` count vectors, `width` the
/// elements from there to the row's end.
#[cube]
pub(super) fn store<F: Float, N: Size>(
    to: &mut [Vector<F, N>],
    sums: &Array<Four>,
    factors: &Array<f32>,
    start: usize,
    row: usize,
    valid: usize,
    width: usize,
    #[comptime] tile: Tile,
) {
    let high = comptime!(tile.high);
    let across = comptime!(tile.across);
    let wide = comptime!(tile.wide);
    let x = UNIT_POS as usize % across;
    let y = UNIT_POS as usize / across;
    let vector = N::value();
    #[unroll]
    for i in 0..high {
        let at = y + i * tile.down;
        if at < valid {
            #[unroll]
            for n in 0..wide {
                let column = (x + n * across) * 4;
                let value = sums[i * wide + n] * Four::new(factors[i]);
                if comptime!(vector == 4) {
                    if column < width {
                        to[start + at * row + column / 4] = Vector::cast_from(value);
                    }
                } else {
                    #[unroll]
                    for e in 0..4usize {
                        if column + e < width {
                            to[start + at * row + column + e] =
                                Vector::new(F::cast_from(value.extract(e)));
                        }
                    }
                }
            }
        }
    }
}

/// A cube's place in a launch: of `blocks · parts · batch · heads`, heads the fastest.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Place {
    pub(super) head: usize,
    pub(super) batch: usize,
    pub(super) part: usize,
    pub(super) block: usize,
}

#[cube]
pub(super) fn place(heads: usize, batch: usize, #[comptime] parts: usize) -> Place {
    let at = CUBE_POS;
    let rest = at / heads;
    let above = rest / batch;
    Place {
        head: at % heads,
        batch: rest % batch,
        part: above % parts,
        block: above / parts,
    }
}

impl Tile {
    /// Of a device, for axes of `longest` vectors at most: how many units, and the rows of each.
    pub(super) fn of(longest: usize, limits: Limits) -> Tile {
        let large = limits.units >= 128 && limits.shared >= 72 * 1024;
        let (down, across, high) = match () {
            // At least two cubes fit the shared memory of a multiprocessor.
            () if large && longest > 8 => (8, 16, 8),
            () if large => (16, 8, 8),
            () if limits.units >= 64 && limits.shared >= 32 * 1024 => (8, 8, 4),
            () => (4, 4, 4),
        };
        Tile {
            down,
            across,
            high,
            key: 1,
            value: 1,
            key_parts: 1,
            value_parts: 1,
            wide: 1,
            plane: limits.plane >= across && limits.plane.is_multiple_of(across),
        }
    }

    /// Cubes that the columns of q's or k's gradient, and of v's, are cut into.
    pub(super) fn parts_of_result(self, shape: &Shape) -> (usize, usize) {
        let parts = |len: usize| len.div_ceil(4 * self.out()).max(1);
        (parts(shape.key), parts(shape.value))
    }
}

/// Vectors of the key axis, and of the value axis.
pub(super) fn axes(shape: &Shape) -> (usize, usize) {
    (shape.key.div_ceil(4).max(1), shape.value.div_ceil(4).max(1))
}

/// Vectors of an axis that are in shared memory at a time at most.
pub(super) const HELD: usize = 16;

/// Vectors of a row of the result that a cube has at most.
pub(super) const OUT: usize = 32;
