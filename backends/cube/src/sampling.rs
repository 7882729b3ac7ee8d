//! From logits to a token of every row, on the device: guidance, forbidden ids, temperature, top-k, top-p, min-p.
//!
//! One cube serves a row. The filters are those of `transformers`' logits processors, in their order. Nothing is sorted:
//! logits become whole numbers of the same order, the thresholds of top-k and top-p are found by halving the range of
//! these numbers, and the id by halving the range of ids; every step is a count or a sum over the row in a fixed order.
//!
//! A uniform number is a function of seed, sequence and step alone (SplitMix64, Steele et al. 2014), so that decoding can
//! stop and go on and batches can be cut at will.

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::device::{Limits, cubes};
use crate::reduce::{Units, cube_max, cube_sum};

/// Words of a row's settings.
pub const WORDS: usize = 16;
/// What stands in place of an id where a logit is no number, or beyond all numbers.
pub const NOT_A_NUMBER: i32 = -1;
/// What stands in place of an id where none is allowed and has a finite logit.
pub const NOTHING_ALLOWED: i32 = -2;
/// Most classes: ids are counted in f32.
const MOST: usize = 1 << 24;

/// Where a row's uniform number in [0, 1) comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Random {
    /// From three numbers alone.
    Counter {
        /// Of the whole run.
        seed: u64,
        /// Number of the sequence.
        sequence: u64,
        /// Number of the step.
        step: u64,
    },
    /// Drawn elsewhere.
    Given(f64),
}

/// How a row's token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// The first id that may be chosen.
    pub first: usize,
    /// The end of the ids that may be chosen.
    pub end: usize,
    /// Divides the logits; 0 takes the likeliest token and looks at no filter.
    pub temperature: f64,
    /// Keeps the `k` likeliest ids, and ties of the last.
    pub top_k: Option<usize>,
    /// Keeps the likeliest ids whose probabilities together reach `p`.
    pub top_p: Option<f64>,
    /// Keeps ids of at least this share of the likeliest one's probability.
    pub min_p: Option<f64>,
    /// Strength of guidance, where there are logits without a prompt: 1 changes nothing.
    pub guidance: f64,
    /// The uniform number.
    pub random: Random,
}

impl Row {
    /// The row as the kernel reads it.
    pub fn words(&self) -> [u32; WORDS] {
        let float = |x: f64| (x as f32).to_bits();
        let halves = |x: u64| [x as u32, (x >> 32) as u32];
        let mut words = [0; WORDS];
        words[0] = self.first as u32;
        words[1] = self.end as u32;
        words[2] = float(self.temperature.max(0.0));
        words[3] = self.top_k.map_or(u32::MAX, |k| k.clamp(1, MOST) as u32);
        // The mass that is dropped; below 0 where nothing is.
        words[4] = float(self.top_p.filter(|&p| p < 1.0).map_or(-1.0, |p| 1.0 - p));
        // The largest distance to the likeliest logit.
        let lowest = self.min_p.map_or(f64::MIN, |p| p.max(0.0).ln());
        words[5] = float(lowest.max(f64::from(f32::MIN)));
        words[6] = float(self.guidance);
        let (given, numbers) = match self.random {
            Random::Counter {
                seed,
                sequence,
                step,
            } => (0, [seed, sequence, step]),
            // The bits that a generator would have made of it.
            Random::Given(x) => {
                let whole = (x.clamp(0.0, 1.0) * (1u64 << 53) as f64) as u64;
                (1, [whole.min((1 << 53) - 1) << 11, 0, 0])
            }
        };
        words[7] = given;
        for (place, number) in words[8..14].chunks_mut(2).zip(numbers) {
            place.copy_from_slice(&halves(number));
        }
        words
    }
}

/// Sum of two numbers of 64 bits in halves.
#[cube]
fn add64(low: u32, high: u32, of_low: u32, of_high: u32) -> (u32, u32) {
    let sum = low + of_low;
    let mut carry = 0u32;
    if sum < low {
        carry = 1u32;
    }
    (sum, high + of_high + carry)
}

/// The upper half of a product, by halves of 16 bits.
#[cube]
fn upper(a: u32, b: u32) -> u32 {
    let (a0, a1, b0, b1) = (a & 0xffffu32, a >> 16u32, b & 0xffffu32, b >> 16u32);
    let low = a0 * b0;
    let middle = a1 * b0 + (low >> 16u32);
    let other = a0 * b1 + (middle & 0xffffu32);
    a1 * b1 + (middle >> 16u32) + (other >> 16u32)
}

/// Product of two numbers of 64 bits, the lower 64.
#[cube]
fn mul64(low: u32, high: u32, of_low: u32, of_high: u32) -> (u32, u32) {
    let top = upper(low, of_low) + low * of_high + high * of_low;
    (low * of_low, top)
}

/// `z ^ (z >> by)`, for `by` below 32.
#[cube]
fn fold64(low: u32, high: u32, #[comptime] by: u32) -> (u32, u32) {
    let down = (low >> by) | (high << comptime!(32 - by));
    (low ^ down, high ^ (high >> by))
}

/// One step of SplitMix64.
#[cube]
fn mix64(low: u32, high: u32) -> (u32, u32) {
    let (low, high) = add64(low, high, 0x7f4a_7c15u32, 0x9e37_79b9u32);
    let (low, high) = fold64(low, high, 30u32);
    let (low, high) = mul64(low, high, 0x1ce4_e5b9u32, 0xbf58_476du32);
    let (low, high) = fold64(low, high, 27u32);
    let (low, high) = mul64(low, high, 0x1331_11ebu32, 0x94d0_49bbu32);
    fold64(low, high, 31u32)
}

/// A whole number of the same order as a finite logit, above 0; 0 is forbidden.
#[cube]
fn key_of(x: f32) -> u32 {
    let bits = u32::reinterpret(x);
    let mut key = bits | 0x8000_0000u32;
    if bits >= 0x8000_0000u32 {
        key = !bits;
    }
    // The two zeros are one.
    if x == 0.0f32 {
        key = 0x8000_0000u32;
    }
    key
}

#[cube]
fn logit_of(key: u32) -> f32 {
    let mut bits = !key;
    if key >= 0x8000_0000u32 {
        bits = key & 0x7fff_ffffu32;
    }
    f32::reinterpret(bits)
}

/// How much a key weighs against the largest logit.
#[cube]
fn weight(key: u32, largest: f32) -> f32 {
    let mut weight = 0.0f32;
    if key > 0u32 {
        weight = (logit_of(key) - largest).exp();
    }
    weight
}

/// Count and mass of keys from `least` on, both in `[start, end)` of the scratch.
#[cube]
fn from_key(
    keys: &mut [u32],
    start: usize,
    end: usize,
    least: u32,
    largest: f32,
    scratch: &mut [f32],
    #[comptime] units: Units,
) -> (f32, f32) {
    let mut count = 0.0f32;
    let mut mass = 0.0f32;
    let mut at = start + UNIT_POS as usize;
    while at < end {
        let key = keys[at];
        if key >= least {
            count += 1.0f32;
            mass += weight(key, largest);
        }
        at += comptime!(units.count);
    }
    (
        cube_sum(count, scratch, units),
        cube_sum(mass, scratch, units),
    )
}

#[cube(launch)]
#[allow(
    clippy::too_many_arguments,
    reason = "a kernel's arguments are its buffers and sizes"
)]
fn choose<F: Float>(
    logits: &[F],
    without: ComptimeOption<&[F]>,
    allowed: ComptimeOption<&[u32]>,
    choices: &[u32],
    keys: &mut [u32],
    ids: &mut [i32],
    rows: u32,
    classes: u32,
    allowed_words: u32,
    #[comptime] units: Units,
    #[define(F)] _dtype: ElemType,
) {
    let row = CUBE_POS;
    if row >= rows as usize {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let step = comptime!(units.count);
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(units.scratch()));
    let at = row * WORDS;
    let temperature = f32::reinterpret(choices[at + 2]);
    let guidance = f32::reinterpret(choices[at + 6]);
    let base = row * classes as usize;
    let start = base + choices[at] as usize;
    let end = base + min(choices[at + 1], classes) as usize;

    // Keys of the logits that are drawn from.
    let mut bad = 0.0f32;
    let mut top = 0u32.runtime();
    let mut best = 0u32.runtime();
    let mut i = start + unit;
    while i < end {
        let mut x = f32::cast_from(logits[i]);
        #[comptime]
        if let ComptimeOption::Some(without) = &without {
            let plain = f32::cast_from(without[i]);
            let bits = u32::reinterpret(x);
            let of_plain = u32::reinterpret(plain);
            // A forbidden id stays forbidden: infinity minus infinity would not be a number.
            if of_plain == 0xff80_0000u32 {
                x = plain;
            } else if bits != 0xff80_0000u32 {
                x = plain + guidance * (x - plain);
            }
        }
        let bits = u32::reinterpret(x);
        let mut key = 0u32;
        if bits == 0x7f80_0000u32 || (bits & 0x7fff_ffffu32) > 0x7f80_0000u32 {
            bad = 1.0f32;
        } else if bits != 0xff80_0000u32 {
            if temperature > 0.0f32 {
                x = min(
                    max(x / temperature, comptime!(f32::MIN)),
                    comptime!(f32::MAX),
                );
            }
            key = key_of(x);
        }
        let id = (i - base) as u32;
        #[comptime]
        if let ComptimeOption::Some(allowed) = &allowed {
            let word = allowed[row * allowed_words as usize + (id / 32u32) as usize];
            if ((word >> (id % 32u32)) & 1u32) == 0u32 {
                key = 0u32;
            }
        }
        keys[i] = key;
        if key > top {
            top = key;
            best = id;
        }
        i += step;
    }
    // Other units read what was written.
    sync_storage();
    let bad = cube_sum(bad, &mut scratch, units);
    // In two halves, which f32 holds.
    let high = cube_max((top >> 16u32) as f32, &mut scratch, units);
    let mut low = comptime!(-1.0f32).runtime();
    if (top >> 16u32) as f32 == high {
        low = (top & 0xffffu32) as f32;
    }
    let low = cube_max(low, &mut scratch, units);
    let mine = (top >> 16u32) as f32 == high && (top & 0xffffu32) as f32 == low;
    let largest_key = ((high as u32) << 16u32) | low as u32;
    // The first of equals.
    let mut id = comptime!(-16_777_216.0f32).runtime();
    if mine && largest_key > 0u32 {
        id = -(best as f32);
    }
    let id = cube_max(id, &mut scratch, units);

    let mut chosen = comptime!(NOTHING_ALLOWED).runtime();
    if bad > 0.0f32 {
        chosen = comptime!(NOT_A_NUMBER).runtime();
    } else if largest_key > 0u32 && temperature == 0.0f32 {
        chosen = (-id) as i32;
    } else if largest_key > 0u32 {
        let largest = logit_of(largest_key);
        let all = (end - start) as f32;

        // The largest threshold that k keys reach.
        let mut least = 1u32.runtime();
        let k = choices[at + 3] as f32;
        if k < all {
            let mut past = largest_key + 1u32;
            let mut exact = false.runtime();
            let (count, _) = from_key(keys, start, end, least, largest, &mut scratch, units);
            if count <= k {
                exact = true;
            }
            while !exact && past - least > 1u32 {
                let middle = least + (past - least) / 2u32;
                let (count, _) = from_key(keys, start, end, middle, largest, &mut scratch, units);
                if count >= k {
                    least = middle;
                    exact = count == k;
                } else {
                    past = middle;
                }
            }
        }

        // Of those, the least likely whose mass is at most 1 - p are dropped; of equals, lower ids first.
        let dropped = f32::reinterpret(choices[at + 4]);
        let mut cut = base;
        let (count, total) = from_key(keys, start, end, least, largest, &mut scratch, units);
        let mut edge = 0u32.runtime();
        if dropped >= 0.0f32 {
            let goal = dropped * total;
            // Dropping what is below `low` keeps within the goal, dropping what is below `past` does not.
            let mut low = least;
            let mut past = largest_key + 1u32;
            let mut of_low = total;
            let mut count_low = count;
            let mut count_past = 0.0f32;
            while past - low > 1u32 {
                let middle = low + (past - low) / 2u32;
                let (n, mass) = from_key(keys, start, end, middle, largest, &mut scratch, units);
                if total - mass <= goal {
                    low = middle;
                    of_low = mass;
                    count_low = n;
                } else {
                    past = middle;
                    count_past = n;
                }
            }
            // Keys equal to `low`: as many go as fit.
            least = low;
            let equals = count_low - count_past;
            let each = weight(low, largest);
            if equals > 1.0f32 && each > 0.0f32 {
                let fit = ((goal - (total - of_low)) / each).floor();
                let fit = min(max(fit, 0.0f32), equals - 1.0f32);
                if fit > 0.0f32 {
                    // The id below which `fit` equals lie.
                    edge = low;
                    let mut from = start;
                    let mut to = end;
                    while to - from > 1 {
                        let middle = from + (to - from) / 2;
                        let mut count = 0.0f32;
                        let mut i = start + unit;
                        while i < middle {
                            if keys[i] == low {
                                count += 1.0f32;
                            }
                            i += step;
                        }
                        let count = cube_sum(count, &mut scratch, units);
                        if count <= fit {
                            from = middle;
                        } else {
                            to = middle;
                        }
                    }
                    cut = from;
                }
            }
        }

        let lowest = f32::reinterpret(choices[at + 5]);

        // The uniform number.
        let mut low_word = choices[at + 8];
        let mut high_word = choices[at + 9];
        if choices[at + 7] == 0u32 {
            let (low, high) = mix64(low_word, high_word);
            let (low, high) = mix64(low ^ choices[at + 10], high ^ choices[at + 11]);
            let (low, high) = mix64(low ^ choices[at + 12], high ^ choices[at + 13]);
            low_word = low;
            high_word = high;
        }
        // The upper 24 bits and the next 8, each exact in f32.
        let uniform = (high_word >> 8u32) as f32 / 16_777_216.0f32
            + ((high_word & 0xffu32) as f32 + low_word as f32 / 4_294_967_296.0f32)
                / 4_294_967_296.0f32;

        // The id by halving: the mass of the left half decides.
        let mut from = start;
        let mut to = end;
        let mut before = 0.0f32;
        let mut mark = comptime!(-1.0f32).runtime();
        let mut ended = false.runtime();
        while !ended {
            let middle = from + (to - from) / 2;
            let mut left = 0.0f32;
            let mut right = 0.0f32;
            let mut i = from + unit;
            while i < to {
                let key = keys[i];
                let mut w = 0.0f32;
                if key >= least && (key != edge || i >= cut) && logit_of(key) - largest >= lowest {
                    w = weight(key, largest);
                }
                if i < middle {
                    left += w;
                } else {
                    right += w;
                }
                i += step;
            }
            let left = cube_sum(left, &mut scratch, units);
            let right = cube_sum(right, &mut scratch, units);
            if mark < 0.0f32 {
                mark = uniform * (left + right);
            }
            if left > 0.0f32 && (right == 0.0f32 || before + left > mark) {
                to = middle;
            } else {
                from = middle;
                before += left;
            }
            ended = to - from <= 1;
        }
        chosen = (from - base) as i32;
    }
    if unit == 0 {
        ids[row] = chosen;
    }
}

/// What [`sample`] reads and writes.
pub struct Sample {
    /// `[rows, classes]`.
    pub logits: BufferArg,
    /// Logits without a prompt, for guidance, `[rows, classes]`.
    pub without: Option<BufferArg>,
    /// A bit for each id that may be chosen, the lowest first, `[rows, ⌈classes / 32⌉]` in u32.
    pub allowed: Option<BufferArg>,
    /// [`Row::words`] of every row, `[rows, 16]` in u32.
    pub settings: BufferArg,
    /// Scratch, `[rows, classes]` in u32.
    pub scratch: BufferArg,
    /// Gets the ids, or [`NOT_A_NUMBER`] or [`NOTHING_ALLOWED`], `[rows]` in i32.
    pub ids: BufferArg,
}

/// Chooses an id for each row from logits of type `dtype`.
///
/// # Panics
/// For more than 2²⁴ classes.
pub fn sample(client: &Client, rows: usize, classes: usize, buffers: Sample, dtype: ElemType) {
    assert!(classes <= MOST, "{classes} classes: at most {MOST}");
    let limits = Limits::of(client);
    // More units leave too few registers.
    let units = Units::for_rows(classes, 4, limits.units.min(512), limits.plane);
    choose::launch(
        client,
        cubes(rows),
        CubeDim::new_1d(units.count as u32),
        buffers.logits,
        buffers.without.into(),
        buffers.allowed.into(),
        buffers.settings,
        buffers.scratch,
        buffers.ids,
        rows as u32,
        classes as u32,
        classes.div_ceil(32) as u32,
        units,
        dtype,
    );
}
