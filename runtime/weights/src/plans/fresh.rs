//! Fresh numbers: seeded draws that any block of rows can begin with.

use std::ops::Range;

use crate::random::Random;

/// Seed of the draws at one place of one weight's plan.
#[derive(Clone, Debug)]
pub(super) struct DrawSeed([u8; 32]);

impl DrawSeed {
    /// From the program's seed, the weight's full name, and the place in its plan.
    pub(super) fn new(seed: u64, weight: &str, place: &str) -> DrawSeed {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes());
        hasher.update(&(weight.len() as u64).to_le_bytes());
        hasher.update(weight.as_bytes());
        hasher.update(place.as_bytes());
        DrawSeed(*hasher.finalize().as_bytes())
    }

    /// `width` draws for each of `rows`, one with probability `p` and else zero. Row r comes from
    /// stream r of the generator.
    pub(super) fn bernoulli(&self, rows: Range<u64>, width: usize, p: f64) -> Vec<f32> {
        let mut numbers = Vec::with_capacity(width * (rows.end - rows.start) as usize);
        let bound = (p * (1u64 << 32) as f64) as u64;
        for row in rows {
            let mut random = Random::keyed(self.0, row);
            let draws = (0..width).map(|_| u64::from(random.bits()) < bound);
            numbers.extend(draws.map(|is_one| f32::from(u8::from(is_one))));
        }
        numbers
    }

    /// `width` draws for each of `rows` of N(0, sd²), cut at `cut` standard deviations by drawing
    /// again. Row r comes from stream r of the generator.
    pub(super) fn normal(&self, rows: Range<u64>, width: usize, sd: f64, cut: f64) -> Vec<f32> {
        let mut numbers = Vec::with_capacity(width * (rows.end - rows.start) as usize);
        for row in rows {
            let mut random = Random::keyed(self.0, row);
            let end = numbers.len() + width;
            while numbers.len() < end {
                let (a, b) = random.normal_pair();
                for draw in [a, b] {
                    if draw.abs() <= cut && numbers.len() < end {
                        numbers.push((draw * sd) as f32);
                    }
                }
            }
        }
        numbers
    }
}

/// `count` draws of N(0, sd²) for a seed.
pub(crate) fn normal_draws(seed: u64, count: usize, sd: f64) -> Vec<f32> {
    DrawSeed::new(seed, "", "").normal(0..1, count, sd, f64::INFINITY)
}
