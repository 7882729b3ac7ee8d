//! Pictures to another size: filters, and the ways a picture is made to fit a square.
//!
//! A filter is applied along rows and along columns, with a support that grows with the factor of
//! reduction, weights in fixed point and bytes rounded in between: the arithmetic of the Python
//! imaging library, by which published models prepared their pictures (its results are the
//! expectation of a test).

use serde::{Deserialize, Serialize};

use super::{Picture, Rgb, check_size};
use crate::Result;

/// How new pixels are computed from old ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resample {
    /// The pixel at the place: hard edges, for pixel art enlarged.
    Nearest,
    /// The mean of the area.
    Box,
    /// A triangle: smooth, a little soft.
    Bilinear,
    /// The cubic with a = -0.5; what CLIP uses, and the default.
    #[default]
    Bicubic,
    /// The windowed sinc of three lobes: the sharpest; what Chameleon uses.
    Lanczos,
}

/// How a picture that is not square becomes a square.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// The shorter side is fitted and the middle kept; what sticks out is lost. The default.
    #[default]
    Crop,
    /// The longer side is fitted, and bars of this colour fill the rest.
    Pad(Rgb),
    /// Both sides are fitted, each by its own factor.
    Stretch,
}

/// Bits behind the point in a fixed-point weight: 8 bits of a byte and 2 of overshoot stay free.
const PRECISION: u32 = 32 - 8 - 2;

impl Resample {
    /// Half the width of the filter, in source pixels of an enlargement.
    fn support(self) -> f64 {
        match self {
            Resample::Nearest => 0.0,
            Resample::Box => 0.5,
            Resample::Bilinear => 1.0,
            Resample::Bicubic => 2.0,
            Resample::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let sinc = |x: f64| {
            if x == 0.0 {
                1.0
            } else {
                (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI)
            }
        };
        let distance = x.abs();
        match self {
            Resample::Nearest => 1.0,
            Resample::Box => f64::from(x > -0.5 && x <= 0.5),
            Resample::Bilinear => (1.0 - distance).max(0.0),
            Resample::Bicubic => {
                const A: f64 = -0.5;
                if distance < 1.0 {
                    ((A + 2.0) * distance - (A + 3.0)) * distance * distance + 1.0
                } else if distance < 2.0 {
                    (((distance - 5.0) * distance + 8.0) * distance - 4.0) * A
                } else {
                    0.0
                }
            }
            Resample::Lanczos if distance < 3.0 => sinc(x) * sinc(x / 3.0),
            Resample::Lanczos => 0.0,
        }
    }

    /// For every target pixel: its first source pixel, and the weights from there on.
    fn taps(self, source: usize, target: usize) -> Vec<(usize, Vec<i64>)> {
        let scale = source as f64 / target as f64;
        if self == Resample::Nearest {
            let at = |i: usize| (((i as f64 + 0.5) * scale) as usize).min(source - 1);
            return (0..target).map(|i| (at(i), vec![1 << PRECISION])).collect();
        }
        // Reducing widens the filter: every source pixel counts.
        let stretch = scale.max(1.0);
        let support = self.support() * stretch;
        (0..target)
            .map(|i| {
                let centre = (i as f64 + 0.5) * scale;
                let first = (centre - support + 0.5).max(0.0) as usize;
                let end = ((centre + support + 0.5) as usize).min(source);
                let weights: Vec<f64> = (first..end)
                    .map(|j| self.weight((j as f64 - centre + 0.5) / stretch))
                    .collect();
                let sum: f64 = weights.iter().sum();
                let fixed = weights
                    .iter()
                    .map(|weight| (weight / sum * f64::from(1 << PRECISION)).round() as i64)
                    .collect();
                (first, fixed)
            })
            .collect()
    }
}

impl Picture {
    /// The picture at another size.
    ///
    /// # Errors
    /// When a side is 0 or above [`super::MAX_SIDE`].
    pub fn resized(&self, width: usize, height: usize, filter: Resample) -> Result<Picture> {
        check_size(width, height)?;
        // The pass that leaves the smaller picture goes first.
        if height * self.width() < width * self.height() {
            self.resampled_columns(height, filter)?
                .resampled_rows(width, filter)
        } else {
            self.resampled_rows(width, filter)?
                .resampled_columns(height, filter)
        }
    }

    /// The picture as a square of `side` pixels.
    ///
    /// # Errors
    /// When `side` is 0 or above [`super::MAX_SIDE`].
    pub fn squared(&self, side: usize, fit: Fit, filter: Resample) -> Result<Picture> {
        check_size(side, side)?;
        let (width, height) = (self.width(), self.height());
        // Cropping fits the shorter side, padding the longer one; the other side keeps the
        // proportion, rounded down.
        let scaled = |fitted: usize| {
            let proportion = |n: usize| (side * n / fitted).max(1);
            (proportion(width), proportion(height))
        };
        match fit {
            Fit::Stretch => self.resized(side, side, filter),
            Fit::Crop => {
                // Only the middle is computed with, when the rest would be too large to hold.
                let long = 16 * width.min(height);
                if width.max(height) > long {
                    let (w, h) = (width.min(long), height.min(long));
                    return self
                        .crop((width - w) / 2, (height - h) / 2, w, h)?
                        .squared(side, fit, filter);
                }
                let (w, h) = scaled(width.min(height));
                self.resized(w, h, filter)?
                    .crop((w - side) / 2, (h - side) / 2, side, side)
            }
            Fit::Pad(colour) => {
                let (w, h) = scaled(width.max(height));
                let mut square = Picture::new(side, side, colour)?;
                let inside = self.resized(w, h, filter)?;
                square.paste(&inside, (side - w) / 2, (side - h) / 2);
                Ok(square)
            }
        }
    }

    fn resampled_rows(&self, width: usize, filter: Resample) -> Result<Picture> {
        if width == self.width() {
            return Ok(self.clone());
        }
        let taps = filter.taps(self.width(), width);
        let mut pixels = Vec::with_capacity(width * self.height() * 3);
        for row in self.pixels().chunks_exact(self.width() * 3) {
            for (first, weights) in &taps {
                for channel in 0..3 {
                    let source = row[first * 3 + channel..].iter().step_by(3);
                    pixels.push(weigh(source, weights));
                }
            }
        }
        Picture::from_pixels(width, self.height(), pixels)
    }

    fn resampled_columns(&self, height: usize, filter: Resample) -> Result<Picture> {
        if height == self.height() {
            return Ok(self.clone());
        }
        let stride = self.width() * 3;
        let mut pixels = Vec::with_capacity(stride * height);
        for (first, weights) in filter.taps(self.height(), height) {
            for column in 0..stride {
                let source = self.pixels()[first * stride + column..]
                    .iter()
                    .step_by(stride);
                pixels.push(weigh(source, &weights));
            }
        }
        Picture::from_pixels(self.width(), height, pixels)
    }
}

/// The weighted sum of bytes, rounded and clamped.
fn weigh<'a>(source: impl Iterator<Item = &'a u8>, weights: &[i64]) -> u8 {
    let half = 1 << (PRECISION - 1);
    let sum = std::iter::zip(source, weights)
        .fold(half, |sum, (byte, weight)| sum + i64::from(*byte) * weight);
    (sum >> PRECISION).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::super::WHITE;
    use super::*;

    const FILTERS: [Resample; 5] = [
        Resample::Nearest,
        Resample::Box,
        Resample::Bilinear,
        Resample::Bicubic,
        Resample::Lanczos,
    ];

    fn ramp(width: usize, height: usize) -> Picture {
        let mut picture = Picture::new(width, height, WHITE).unwrap();
        for y in 0..height {
            for x in 0..width {
                picture.set(
                    x,
                    y,
                    [(x * 255 / width) as u8, (y * 255 / height) as u8, 60],
                );
            }
        }
        picture
    }

    #[test]
    fn one_colour_stays_one_colour() {
        let picture = Picture::new(13, 7, [3, 99, 250]).unwrap();
        for filter in FILTERS {
            for (w, h) in [(1, 1), (5, 40), (13, 7), (64, 3)] {
                let resized = picture.resized(w, h, filter).unwrap();
                assert_eq!(
                    resized,
                    Picture::new(w, h, [3, 99, 250]).unwrap(),
                    "{filter:?}"
                );
            }
        }
    }

    #[test]
    fn a_half_with_the_box_is_the_mean_of_four() {
        let pixels = (0..4 * 2 * 3).map(|i| i as u8 * 10).collect();
        let half = Picture::from_pixels(4, 2, pixels).unwrap();
        let half = half.resized(2, 1, Resample::Box).unwrap();
        // Red at 0, 30, 120, 150: the mean is 75.
        assert_eq!(half.get(0, 0), Some([75, 85, 95]));
    }

    #[test]
    fn nearest_repeats_pixels() {
        let picture = ramp(5, 4);
        let enlarged = picture.resized(15, 12, Resample::Nearest).unwrap();
        assert_eq!(enlarged, picture.enlarged(3).unwrap());
    }

    #[test]
    fn smooth_filters_follow_a_ramp() {
        for filter in &FILTERS[1..] {
            let small = ramp(120, 80).resized(30, 20, *filter).unwrap();
            for x in 2..28 {
                let [red, _, _] = small.get(x, 10).unwrap();
                let expected = (x as f32 + 0.5) * 255.0 / 30.0;
                assert!(
                    (f32::from(red) - expected).abs() < 3.0,
                    "{filter:?} at {x}: {red}"
                );
            }
        }
    }

    #[test]
    fn squares_crop_pad_and_stretch() {
        let mut wide = Picture::new(40, 20, [0, 200, 0]).unwrap();
        for y in 0..20 {
            for x in 0..10 {
                wide.set(x, y, [200, 0, 0]); // the left quarter, which cropping loses
            }
        }
        let square = |fit| wide.squared(10, fit, Resample::Box).unwrap();
        assert_eq!(
            square(Fit::Crop),
            Picture::new(10, 10, [0, 200, 0]).unwrap()
        );
        let padded = square(Fit::Pad([1, 2, 3]));
        assert_eq!(padded.get(5, 0), Some([1, 2, 3]));
        assert_eq!(padded.get(0, 5), Some([200, 0, 0]));
        assert_eq!(padded.get(9, 5), Some([0, 200, 0]));
        assert_eq!(square(Fit::Stretch).get(0, 0), Some([200, 0, 0]));
        // Proportions beyond any use still fit.
        let line = Picture::new(16_000, 1, WHITE).unwrap();
        for fit in [Fit::Crop, Fit::Pad([0; 3]), Fit::Stretch] {
            let square = line.squared(64, fit, Resample::Bicubic).unwrap();
            assert_eq!((square.width(), square.height()), (64, 64));
        }
    }

    /// Pictures that the preprocessors of CLIP (bicubic) and Chameleon (Lanczos) made, with the Python
    /// imaging library, of pictures of three proportions: nearly every byte is the same.
    #[test]
    fn squares_are_those_of_published_preprocessors() {
        let golden = std::env::var_os("JAM_GOLDEN").map_or_else(
            || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden"),
            Into::into,
        );
        let read = |name: &str| std::fs::read(golden.join("image_preprocess").join(name)).unwrap();
        let (inputs, expected) = (read("inputs.safetensors"), read("expected.safetensors"));
        let inputs = safetensors::SafeTensors::deserialize(&inputs).unwrap();
        let expected = safetensors::SafeTensors::deserialize(&expected).unwrap();
        let case: serde_json::Value = serde_json::from_slice(&read("case.json")).unwrap();
        let side = case["size"].as_u64().unwrap() as usize;
        let setting = |model: &str, name: &str, channel: usize| {
            case[format!("{model}_config")][name][channel]
                .as_f64()
                .unwrap()
        };
        let mut compared = 0;
        for (name, values) in expected.iter() {
            let (model, number) = name.split_once('.').unwrap();
            let filter = match model {
                "clip" => Resample::Bicubic,
                _ => Resample::Lanczos,
            };
            let scale = case[format!("{model}_config")]["rescale_factor"]
                .as_f64()
                .unwrap();
            let input = inputs.tensor(&format!("image.{number}")).unwrap();
            let (height, width) = (input.shape()[0], input.shape()[1]);
            let picture = Picture::from_pixels(width, height, input.data().to_vec()).unwrap();
            let square = picture.squared(side, Fit::Crop, filter).unwrap();
            let mut different = 0;
            for (at, bytes) in values.data().chunks_exact(4).enumerate() {
                let (channel, place) = (at / (side * side), at % (side * side));
                let value = f64::from(f32::from_le_bytes(bytes.try_into().unwrap()));
                let value = value * setting(model, "image_std", channel)
                    + setting(model, "image_mean", channel);
                let distance = value / scale - f64::from(square.pixels()[place * 3 + channel]);
                assert!(distance.abs() < 1.1, "{name} at {at}: {distance}");
                different += usize::from(distance.abs() > 0.1);
            }
            assert!(
                different * 100 <= side * side * 3,
                "{name}: {different} bytes differ"
            );
            compared += 1;
        }
        assert_eq!(compared, 6);
    }
}
