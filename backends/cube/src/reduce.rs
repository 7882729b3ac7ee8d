//! Sums and maxima over the units of a cube.

use cubecl::prelude::*;

/// How the units of a cube add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Units {
    /// Units of the cube, a power of two.
    pub(crate) count: usize,
    /// Units of a plane, or 0 where shared memory has to do.
    pub(crate) plane: usize,
}

impl Units {
    /// Elements of shared memory that [`cube_sum`] and [`cube_max`] need.
    pub(crate) const fn scratch(self) -> usize {
        if self.plane == 0 {
            self.count
        } else {
            self.count.div_ceil(self.plane)
        }
    }

    /// For rows of `len` elements that come in vectors of `vector`, at most `most` units.
    pub(crate) fn for_rows(len: usize, vector: usize, most: usize, plane: usize) -> Units {
        Units::each(len / vector, 4, most, plane)
    }

    /// For rows of `vectors`, of which a unit gets `each` where at most `most` units are enough.
    pub(crate) fn each(vectors: usize, each: usize, most: usize, plane: usize) -> Units {
        let least = plane.max(32);
        let most = 1 << most.max(least).ilog2();
        let wanted = vectors.div_ceil(each).next_power_of_two();
        let count = wanted.clamp(least, most);
        Units {
            count,
            plane: if count.is_multiple_of(plane.max(1)) {
                plane
            } else {
                0
            },
        }
    }
}

/// The sum of `value` over all units, known to each. `scratch` may be used again right away.
#[cube]
#[allow(clippy::needless_range_loop, reason = "kernels have no iterators")]
pub(crate) fn cube_sum(value: f32, scratch: &mut [f32], #[comptime] units: Units) -> f32 {
    let unit = UNIT_POS as usize;
    if comptime!(units.plane > 0) {
        let planes = comptime!(units.count / units.plane);
        let mut sum = plane_sum(value);
        if comptime!(planes > 1) {
            if UNIT_POS_PLANE == 0 {
                scratch[PLANE_POS as usize] = sum;
            }
            sync_cube();
            sum = 0.0f32;
            #[unroll]
            for i in 0..planes {
                sum += scratch[i];
            }
            sync_cube();
        }
        sum
    } else {
        scratch[unit] = value;
        sync_cube();
        #[unroll]
        for step in 0..comptime!(units.count.ilog2()) {
            let half = comptime!(units.count >> (step + 1));
            if unit < half {
                let other = scratch[unit + half];
                scratch[unit] += other;
            }
            sync_cube();
        }
        let sum = scratch[0];
        sync_cube();
        sum
    }
}

/// The largest `value` of all units, known to each. `scratch` may be used again right away.
#[cube]
#[allow(clippy::needless_range_loop, reason = "kernels have no iterators")]
pub(crate) fn cube_max(value: f32, scratch: &mut [f32], #[comptime] units: Units) -> f32 {
    let unit = UNIT_POS as usize;
    if comptime!(units.plane > 0) {
        let planes = comptime!(units.count / units.plane);
        let mut top = plane_max(value);
        if comptime!(planes > 1) {
            if UNIT_POS_PLANE == 0 {
                scratch[PLANE_POS as usize] = top;
            }
            sync_cube();
            #[unroll]
            for i in 0..planes {
                top = max(top, scratch[i]);
            }
            sync_cube();
        }
        top
    } else {
        scratch[unit] = value;
        sync_cube();
        #[unroll]
        for step in 0..comptime!(units.count.ilog2()) {
            let half = comptime!(units.count >> (step + 1));
            if unit < half {
                let other = scratch[unit + half];
                let own = scratch[unit];
                scratch[unit] = max(own, other);
            }
            sync_cube();
        }
        let top = scratch[0];
        sync_cube();
        top
    }
}

/// The sum of a vector's elements, in order.
#[cube]
pub(crate) fn across<N: Size>(vector: Vector<f32, N>) -> f32 {
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..N::value() {
        sum += vector.extract(i);
    }
    sum
}
