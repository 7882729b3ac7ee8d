//! How good an image tokenizer is, in figures and to look at.

use serde::{Deserialize, Serialize};

use super::VqTokenizer;
use crate::{Error, Result};
use jam_data::images::{Picture, Sheet};

/// Figures of an image tokenizer on a set of pictures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct VqMeasure {
    /// Pictures it was measured on.
    pub pictures: usize,
    /// Peak signal-to-noise ratio of the reconstructions, in decibels, from the mean squared error of
    /// all bytes of all pictures, as they would be written to a file. 100 stands for no error at all.
    pub psnr: f64,
    /// Different codes that occurred.
    pub used_codes: usize,
    /// Perplexity of the codes' frequencies: as many equally frequent codes would carry as much.
    pub perplexity: f64,
}

/// What stands for a PSNR without error, in decibels.
const EXACT: f64 = 100.0;

/// Peak signal-to-noise ratio of a mean squared error over a range of `peak`, in decibels.
pub(super) fn decibels(error: f64, peak: f64) -> f64 {
    (10.0 * (peak * peak / error).log10()).min(EXACT)
}

/// Peak signal-to-noise ratio between two pictures of one size, in decibels; 100 for equal ones.
///
/// # Errors
/// When their sizes differ.
pub fn psnr(a: &Picture, b: &Picture) -> Result<f64> {
    Ok(decibels(
        squared_error(a, b)? as f64 / a.pixels().len() as f64,
        255.0,
    ))
}

/// The sum of squared differences over all bytes.
fn squared_error(a: &Picture, b: &Picture) -> Result<u64> {
    if (a.width(), a.height()) != (b.width(), b.height()) {
        return Err(Error::new("only pictures of one size can be compared"));
    }
    Ok(std::iter::zip(a.pixels(), b.pixels())
        .map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2))
        .sum())
}

impl VqTokenizer {
    /// Encodes and decodes the pictures, and measures what is lost and how the codes are used.
    ///
    /// # Errors
    /// When there are no pictures, or one has the wrong size.
    pub fn measure(&self, pictures: &[Picture]) -> Result<VqMeasure> {
        if pictures.is_empty() {
            return Err(Error::new(
                "an image tokenizer is measured on at least one picture",
            ));
        }
        let (mut error, mut bytes) = (0, 0);
        let mut counts = vec![0u64; self.settings.codes];
        for some in pictures.chunks(256) {
            let codes = self.encode(some)?;
            for code in codes.iter().flatten() {
                counts[*code as usize] += 1;
            }
            let codes: Vec<&[u32]> = codes.iter().map(Vec::as_slice).collect();
            for (original, back) in std::iter::zip(some, self.decode(&codes)?) {
                error += squared_error(original, &back)?;
                bytes += original.pixels().len();
            }
        }
        Ok(VqMeasure {
            pictures: pictures.len(),
            psnr: decibels(error as f64 / bytes as f64, 255.0),
            used_codes: counts.iter().filter(|count| **count > 0).count(),
            perplexity: perplexity(&counts),
        })
    }

    /// A sheet of the pictures, each beside what comes back from its codes.
    ///
    /// # Errors
    /// As [`VqTokenizer::encode`] and [`Sheet::draw_pairs`].
    pub fn sheet(&self, pictures: &[Picture], layout: Sheet) -> Result<Picture> {
        layout.draw_pairs(pictures, &self.reconstruct(pictures)?)
    }
}

/// The exponential of the entropy of frequencies; 1 when there are none.
fn perplexity(counts: &[u64]) -> f64 {
    let sum: u64 = counts.iter().sum();
    let entropy: f64 = counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| *count as f64 / sum as f64)
        .map(|share| -share * share.ln())
        .sum();
    entropy.exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_their_definitions() {
        assert!((perplexity(&[5, 5, 0, 5, 5]) - 4.0).abs() < 1e-9);
        assert!((perplexity(&[9, 0]) - 1.0).abs() < 1e-9);
        assert!((perplexity(&[3, 1]) - 1.7547654).abs() < 1e-6);
        let black = Picture::new(4, 4, [0; 3]).unwrap();
        let grey = Picture::new(4, 4, [51; 3]).unwrap();
        // A fifth of the range everywhere: 20 log10(5).
        assert!((psnr(&black, &grey).unwrap() - 13.9794).abs() < 1e-4);
        assert_eq!(psnr(&black, &black).unwrap(), 100.0);
        assert!(psnr(&black, &Picture::new(4, 5, [0; 3]).unwrap()).is_err());
    }
}
