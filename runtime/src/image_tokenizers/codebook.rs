//! The codebook while it learns: moving averages of the latents that choose a code.
//!
//! A code is the mean of the latents that chose it, over the recent past (van den Oord et al.,
//! *Neural Discrete Representation Learning*, appendix A.1). Codes begin spread over the first
//! latents in the manner of k-means++, and one that nobody chose for long is moved to where latents
//! are far from their codes. All of it happens on the host, in a fixed order: it is little work, and
//! the same bits everywhere.

use jam_weights::random::Random;

use burn::tensor::{Device, Tensor};

use super::network::matrix;
use crate::{Error, ErrorKind, Result};
use jam_data::tokens::image::VqSettings;

/// Codes and their averages.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Codebook {
    pub(super) latent: usize,
    /// `[codes, latent]`
    pub(super) codes: Vec<f32>,
    /// Averaged number of latents a step that chose the code. `[codes]`
    pub(super) counts: Vec<f32>,
    /// Averaged sum of those latents. `[codes, latent]`
    pub(super) sums: Vec<f32>,
    /// Steps since the code was last chosen. `[codes]`
    pub(super) idle: Vec<f32>,
}

impl Codebook {
    /// Codes spread over `latents` (`[n, latent]`): each is a latent, drawn with a probability that
    /// grows with the square of its distance from the codes before it.
    ///
    /// # Errors
    /// When there are no latents, or they are not finite.
    pub(super) fn spread(
        settings: &VqSettings,
        latents: &[f32],
        random: &mut Random,
    ) -> Result<Self> {
        let latent = settings.latent;
        let rows = latents.len() / latent;
        if rows == 0 || latents.iter().any(|value| !value.is_finite()) {
            return Err(Error::new("no latents to begin a codebook with"));
        }
        let mut codes = Vec::with_capacity(settings.codes * latent);
        let mut distances = vec![f32::MAX; rows];
        for _ in 0..settings.codes {
            // The first code, and those beyond the number of different latents, fall anywhere.
            let row = draw(&distances, random).unwrap_or_else(|| random.below(rows));
            let code = &latents[row * latent..][..latent];
            codes.extend_from_slice(code);
            approach(&mut distances, latents, code);
        }
        Ok(Self {
            latent,
            counts: vec![(1.0 - settings.decay) as f32; settings.codes],
            sums: codes
                .iter()
                .map(|x| x * (1.0 - settings.decay) as f32)
                .collect(),
            idle: vec![0.0; settings.codes],
            codes,
        })
    }

    /// Takes in the latents of one step and the codes they chose.
    pub(super) fn update(&mut self, decay: f64, latents: &[f32], chosen: &[u32]) {
        let latent = self.latent;
        let mut hits = vec![0u32; self.counts.len()];
        let mut sums = vec![0.0; self.sums.len()];
        for (row, code) in std::iter::zip(latents.chunks_exact(latent), chosen) {
            let code = *code as usize;
            hits[code] += 1;
            for (sum, value) in std::iter::zip(&mut sums[code * latent..][..latent], row) {
                *sum += value;
            }
        }
        let (keep, take) = (decay as f32, (1.0 - decay) as f32);
        for (code, hits) in hits.into_iter().enumerate() {
            self.counts[code] = keep * self.counts[code] + take * hits as f32;
            self.idle[code] = if hits > 0 { 0.0 } else { self.idle[code] + 1.0 };
            let place = code * latent..(code + 1) * latent;
            let averages = std::iter::zip(&mut self.sums[place.clone()], &sums[place.clone()]);
            for (code_value, (average, sum)) in std::iter::zip(&mut self.codes[place], averages) {
                *average = keep * *average + take * sum;
                if hits > 0 {
                    *code_value = *average / self.counts[code];
                }
            }
        }
    }

    /// Moves codes that were not chosen for `after` steps onto latents of this step that are far
    /// from their codes. At most one in eight codes moves in a step, and none when every latent is
    /// met exactly.
    pub(super) fn restart(
        &mut self,
        settings: &VqSettings,
        latents: &[f32],
        chosen: &[u32],
        random: &mut Random,
    ) {
        let (latent, after) = (self.latent, settings.restart_after as f32);
        let tired: Vec<usize> = (0..self.idle.len())
            .filter(|code| self.idle[*code] >= after)
            .take(self.idle.len().div_ceil(8))
            .collect();
        if tired.is_empty() {
            return;
        }
        let mut distances: Vec<f32> = std::iter::zip(latents.chunks_exact(latent), chosen)
            .map(|(row, code)| distance(row, &self.codes[*code as usize * latent..][..latent]))
            .collect();
        let take = (1.0 - settings.decay) as f32;
        for code in tired {
            let Some(row) = draw(&distances, random) else {
                return;
            };
            let target = &latents[row * latent..][..latent];
            self.codes[code * latent..][..latent].copy_from_slice(target);
            for (sum, value) in std::iter::zip(&mut self.sums[code * latent..][..latent], target) {
                *sum = take * value;
            }
            self.counts[code] = take;
            self.idle[code] = 0.0;
            approach(&mut distances, latents, target);
        }
    }

    /// Codes that were chosen in the last hundred steps.
    pub(super) fn used(&self) -> usize {
        self.idle.iter().filter(|idle| **idle < 100.0).count()
    }

    /// The codes on a device, `[codes, latent]`.
    pub(super) fn tensor(&self, device: &Device) -> Tensor<2> {
        let shape = [self.counts.len(), self.latent];
        matrix(self.codes.clone(), shape, device)
    }
}

/// The nearest code of every latent, by squared distance; the first of equals.
/// `[n, latent]` and `[codes, latent]` to `[n]`
pub(super) fn nearest(latents: Tensor<2>, codes: Tensor<2>) -> Result<Vec<u32>> {
    let rows = latents.dims()[0];
    // |z - e|² = |z|² - 2 z·e + |e|², of which the first term is the same for all codes.
    let squares = codes.clone().square().sum_dim(1).transpose(); // [1, codes]
    let distances = latents.matmul(codes.mul_scalar(-2.0).transpose()) + squares;
    distances
        .argmin(1) // [n, 1]
        .reshape([rows])
        .try_into_vec_as::<u32>()
        .map_err(|error| {
            Error::of(
                ErrorKind::Device,
                format!("cannot read codes from the device: {error:?}"),
            )
        })
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    std::iter::zip(a, b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Lowers every latent's distance to its distance from a new code, where that is nearer.
fn approach(distances: &mut [f32], latents: &[f32], code: &[f32]) {
    let rows = latents.chunks_exact(code.len());
    for (near, row) in std::iter::zip(distances, rows) {
        *near = near.min(distance(row, code));
    }
}

/// A row, drawn in proportion to its number; none when all are 0.
fn draw(weights: &[f32], random: &mut Random) -> Option<usize> {
    let sum: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
    if sum <= 0.0 {
        return None;
    }
    let mut left = random.within(0.0, 1.0) * sum;
    let mut last = None;
    for (row, weight) in weights.iter().enumerate() {
        if *weight > 0.0 {
            last = Some(row);
            left -= f64::from(*weight);
            if left < 0.0 {
                break;
            }
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(codes: usize) -> VqSettings {
        VqSettings {
            codes,
            latent: 2,
            decay: 0.5,
            restart_after: 3,
            ..VqSettings::default()
        }
    }

    fn random() -> Random {
        Random::seeded(7, 0)
    }

    #[test]
    fn codes_begin_on_every_different_latent() {
        // Nine points, many times each: nine codes find all of them, whatever the seed.
        let latents: Vec<f32> = (0..900)
            .flat_map(|i| [(i % 3) as f32, (i / 3 % 3) as f32 * 5.0])
            .collect();
        for seed in 0..20 {
            let mut random = Random::seeded(seed, 0);
            let book = Codebook::spread(&settings(9), &latents, &mut random).unwrap();
            let mut found: Vec<_> = book
                .codes
                .chunks(2)
                .map(|c| (c[0] as u8, c[1] as u8))
                .collect();
            found.sort_unstable();
            found.dedup();
            assert_eq!(found.len(), 9);
        }
        // More codes than points is no error; no or broken latents are.
        assert!(Codebook::spread(&settings(20), &latents, &mut random()).is_ok());
        assert!(Codebook::spread(&settings(2), &[], &mut random()).is_err());
        assert!(Codebook::spread(&settings(2), &[f32::NAN; 2], &mut random()).is_err());
    }

    #[test]
    fn a_code_becomes_the_mean_of_what_chose_it() {
        let mut book = Codebook {
            latent: 2,
            codes: vec![0.0, 0.0, 9.0, 9.0],
            counts: vec![1.0, 1.0],
            sums: vec![0.0, 0.0, 9.0, 9.0],
            idle: vec![0.0, 0.0],
        };
        book.update(0.5, &[4.0, 8.0, 0.0, 4.0], &[0, 0]);
        // Half of one latent at 0, and half of two whose sum is (4, 12).
        assert_eq!(book.counts, [1.5, 0.5]);
        assert_eq!(book.codes, [2.0 / 1.5, 6.0 / 1.5, 9.0, 9.0]);
        assert_eq!(book.idle, [0.0, 1.0]);
        for _ in 0..60 {
            book.update(0.5, &[4.0, 8.0], &[0]);
        }
        assert!((book.codes[0] - 4.0).abs() < 1e-4 && (book.codes[1] - 8.0).abs() < 1e-4);
        assert_eq!(book.codes[2..], [9.0, 9.0]);
        assert_eq!(book.used(), 2);
    }

    #[test]
    fn a_tired_code_moves_to_the_latent_that_needs_it() {
        let mut book = Codebook::spread(&settings(2), &[0.0, 0.0], &mut random()).unwrap();
        book.codes = vec![0.0, 0.0, 50.0, 50.0];
        let latents = [0.0, 0.0, 0.0, 0.0, 3.0, 4.0];
        for _ in 0..2 {
            book.update(0.5, &latents, &[0, 0, 0]);
            book.restart(&settings(2), &latents, &[0, 0, 0], &mut random());
        }
        assert_eq!(book.codes[2..], [50.0, 50.0], "not yet tired");
        book.update(0.5, &latents, &[0, 0, 0]);
        book.codes[..2].copy_from_slice(&[0.0, 0.0]);
        book.restart(&settings(2), &latents, &[0, 0, 0], &mut random());
        assert_eq!(book.codes, [0.0, 0.0, 3.0, 4.0]);
        assert_eq!(book.idle[1], 0.0);
        // Where every latent is met exactly, a tired code stays.
        book.idle[1] = 5.0;
        book.restart(&settings(2), &[0.0, 0.0], &[0], &mut random());
        assert_eq!(book.codes[2..], [3.0, 4.0]);
    }

    #[test]
    fn the_nearest_code_is_the_one_by_brute_force() {
        let device = Device::flex();
        let mut random = random();
        let mut numbers =
            |n: usize| -> Vec<f32> { (0..n).map(|_| random.within(-1.0, 1.0) as f32).collect() };
        let (latents, codes) = (numbers(50 * 3), numbers(20 * 3));
        let found = nearest(
            matrix(latents.clone(), [50, 3], &device),
            matrix(codes.clone(), [20, 3], &device),
        )
        .unwrap();
        for (row, found) in std::iter::zip(latents.chunks(3), found) {
            let best = (0..20).min_by(|a, b| {
                distance(row, &codes[a * 3..][..3]).total_cmp(&distance(row, &codes[b * 3..][..3]))
            });
            assert_eq!(best, Some(found as usize));
        }
    }
}
