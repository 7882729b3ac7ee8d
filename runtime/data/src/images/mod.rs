//! Pictures: in and out as PNG and JPEG, resized and cropped, and sheets of many.
//!
//! The central type is [`Picture`]: 8-bit RGB, row by row. Transparency is laid over a background
//! when a file is read ([`Picture::decode`]), so that nothing later has to think of it. Models see
//! numbers in [-1, 1]: [`to_unit`] and [`from_unit`].
//!
//! [`Resample`] and [`Fit`] bring pictures of any size to the one a model takes; [`Sheet`] lays many
//! pictures out on one.

mod codec;
mod resample;
mod sheet;

pub use resample::{Fit, Resample};
pub use sheet::Sheet;

use crate::{Error, Result};

/// Red, green, blue, 0 to 255.
pub type Rgb = [u8; 3];

/// White: what transparent pictures are laid over unless told otherwise.
pub const WHITE: Rgb = [255, 255, 255];

/// The longest side of a picture, in pixels. A file that announces more is refused before memory
/// is taken for it.
pub const MAX_SIDE: usize = 16_384;

/// An 8-bit RGB picture, at least one pixel wide and high.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    /// Three bytes a pixel, row by row from the top. `[height, width, 3]`
    pixels: Vec<u8>,
}

impl Picture {
    /// A picture of one colour.
    ///
    /// # Errors
    /// When a side is 0 or above [`MAX_SIDE`].
    pub fn new(width: usize, height: usize, colour: Rgb) -> Result<Self> {
        check_size(width, height)?;
        let mut pixels = Vec::with_capacity(width * height * 3);
        for _ in 0..width * height {
            pixels.extend_from_slice(&colour);
        }
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// A picture from its bytes, `[height, width, 3]`.
    ///
    /// # Errors
    /// When the number of bytes is not `width * height * 3`, or a side is 0 or above [`MAX_SIDE`].
    pub fn from_pixels(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self> {
        check_size(width, height)?;
        if pixels.len() != width * height * 3 {
            return Err(Error::new(format!(
                "a {width}×{height} RGB picture has {} bytes, not {}",
                width * height * 3,
                pixels.len()
            )));
        }
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The bytes, `[height, width, 3]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The bytes, `[height, width, 3]`, to write into.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// One row of bytes, `[width, 3]`; `None` below the picture.
    pub fn row(&self, y: usize) -> Option<&[u8]> {
        let stride = self.width * 3;
        self.pixels.get(y.checked_mul(stride)?..)?.get(..stride)
    }

    /// The colour at column `x` of row `y`; `None` outside of the picture.
    pub fn get(&self, x: usize, y: usize) -> Option<Rgb> {
        if x >= self.width {
            return None;
        }
        let row = self.row(y)?;
        Some([row[x * 3], row[x * 3 + 1], row[x * 3 + 2]])
    }

    /// Paints the pixel at column `x` of row `y`; nothing happens outside of the picture.
    pub fn set(&mut self, x: usize, y: usize, colour: Rgb) {
        if x < self.width && y < self.height {
            let at = (y * self.width + x) * 3;
            self.pixels[at..at + 3].copy_from_slice(&colour);
        }
    }

    /// Lays `other` onto this picture with its left upper corner at `(x, y)`; what sticks out is cut.
    pub fn paste(&mut self, other: &Picture, x: usize, y: usize) {
        if x >= self.width {
            return;
        }
        let bytes = other.width.min(self.width - x) * 3;
        let stride = self.width * 3;
        for (row, from) in other.pixels.chunks_exact(other.width * 3).enumerate() {
            let Some(line) = self.pixels.chunks_exact_mut(stride).nth(y + row) else {
                return;
            };
            line[x * 3..x * 3 + bytes].copy_from_slice(&from[..bytes]);
        }
    }

    /// The part `width`×`height` whose left upper corner is `(x, y)`.
    ///
    /// # Errors
    /// When it is empty or sticks out of the picture.
    pub fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Result<Picture> {
        check_size(width, height)?;
        let fits = |from: usize, size: usize, whole: usize| {
            from.checked_add(size).is_some_and(|end| end <= whole)
        };
        if !fits(x, width, self.width) || !fits(y, height, self.height) {
            return Err(Error::new(format!(
                "cannot cut {width}×{height} at ({x}, {y}) out of a {}×{} picture",
                self.width, self.height
            )));
        }
        let mut pixels = Vec::with_capacity(width * height * 3);
        for row in self
            .pixels
            .chunks_exact(self.width * 3)
            .skip(y)
            .take(height)
        {
            pixels.extend_from_slice(&row[x * 3..(x + width) * 3]);
        }
        Self::from_pixels(width, height, pixels)
    }

    /// Every pixel as a block of `times`×`times`: enlarged without smoothing.
    ///
    /// # Errors
    /// When a side of the result is 0 or above [`MAX_SIDE`].
    pub fn enlarged(&self, times: usize) -> Result<Picture> {
        let side = |n: usize| n.saturating_mul(times);
        let (width, height) = (side(self.width), side(self.height));
        check_size(width, height)?;
        let mut pixels = Vec::with_capacity(width * height * 3);
        for row in self.pixels.chunks_exact(self.width * 3) {
            let start = pixels.len();
            for pixel in row.chunks_exact(3) {
                for _ in 0..times {
                    pixels.extend_from_slice(pixel);
                }
            }
            for _ in 1..times {
                pixels.extend_from_within(start..start + width * 3);
            }
        }
        Self::from_pixels(width, height, pixels)
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({}×{})", self.width, self.height)
    }
}

/// A byte as a number in [-1, 1].
pub fn to_unit(byte: u8) -> f32 {
    f32::from(byte) / 127.5 - 1.0
}

/// The byte nearest to a number in [-1, 1]; what is outside is clamped, not-a-number is black.
pub fn from_unit(value: f32) -> u8 {
    // A cast from float to integer saturates, and maps not-a-number to 0.
    ((value + 1.0) * 127.5).round() as u8
}

fn check_size(width: usize, height: usize) -> Result<()> {
    if width == 0 || height == 0 || width > MAX_SIDE || height > MAX_SIDE {
        return Err(Error::new(format!(
            "a picture cannot be {width}×{height}: its sides are 1 to {MAX_SIDE} pixels"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_unit_range() {
        for byte in 0..=255 {
            assert_eq!(from_unit(to_unit(byte)), byte);
        }
        assert_eq!(
            [
                from_unit(-9.0),
                from_unit(9.0),
                from_unit(f32::NAN),
                from_unit(0.0)
            ],
            [0, 255, 0, 128]
        );
    }

    #[test]
    fn crop_paste_and_enlarge_move_the_right_pixels() {
        let mut picture = Picture::new(4, 3, WHITE).unwrap();
        picture.set(2, 1, [9, 8, 7]);
        picture.set(4, 1, [1, 1, 1]); // outside: nothing happens
        assert_eq!(
            picture.pixels().iter().filter(|byte| **byte != 255).count(),
            3
        );
        let cut = picture.crop(2, 1, 2, 2).unwrap();
        assert_eq!(cut.get(0, 0), Some([9, 8, 7]));
        assert_eq!(cut.get(1, 0), Some(WHITE));
        assert_eq!(cut.get(2, 0), None);
        assert!(picture.crop(3, 0, 2, 1).is_err());
        assert!(picture.crop(usize::MAX, 0, 2, 1).is_err());
        let large = cut.enlarged(3).unwrap();
        assert_eq!(
            (large.get(2, 2), large.get(3, 2)),
            (Some([9, 8, 7]), Some(WHITE))
        );
        assert!(cut.enlarged(usize::MAX).is_err());
        let mut sheet = Picture::new(3, 3, [0, 0, 0]).unwrap();
        sheet.paste(&cut, 2, 2); // cut on two sides
        assert_eq!(sheet.get(2, 2), Some([9, 8, 7]));
        assert_eq!(sheet.get(1, 2), Some([0, 0, 0]));
    }

    #[test]
    fn wrong_sizes_are_refused() {
        assert!(Picture::new(0, 4, WHITE).is_err());
        assert!(Picture::new(MAX_SIDE + 1, 1, WHITE).is_err());
        let error = Picture::from_pixels(2, 2, vec![0; 11]).unwrap_err();
        assert_eq!(error.message, "a 2×2 RGB picture has 12 bytes, not 11");
    }
}
