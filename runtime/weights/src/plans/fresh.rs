//! Fresh numbers: seeded draws that any block of rows can begin with.

use std::ops::Range;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

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
            let mut rng = ChaCha8Rng::from_seed(self.0);
            rng.set_stream(row);
            let draws = (0..width).map(|_| u64::from(rng.next_u32()) < bound);
            numbers.extend(draws.map(|is_one| f32::from(u8::from(is_one))));
        }
        numbers
    }

    /// `width` draws for each of `rows` of N(0, sd²), cut at `cut` standard deviations by drawing
    /// again. Row r comes from stream r of the generator.
    pub(super) fn normal(&self, rows: Range<u64>, width: usize, sd: f64, cut: f64) -> Vec<f32> {
        let mut numbers = Vec::with_capacity(width * (rows.end - rows.start) as usize);
        for row in rows {
            let mut rng = ChaCha8Rng::from_seed(self.0);
            rng.set_stream(row);
            let end = numbers.len() + width;
            while numbers.len() < end {
                let (a, b) = normal_pair(&mut rng);
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

/// Two independent draws of N(0, 1) (Box and Muller, 1958).
fn normal_pair(rng: &mut impl Rng) -> (f64, f64) {
    let unit = |bits: u64| ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let radius = (-2.0 * unit(rng.next_u64()).ln()).sqrt();
    let angle = std::f64::consts::TAU * unit(rng.next_u64());
    (radius * angle.cos(), radius * angle.sin())
}
