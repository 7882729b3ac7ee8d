//! Pictures to rows of numbers, and back.
//!
//! A row is one patch of the first layer, its numbers in [-1, 1] in the order row, column, channel.
//! Patches are ordered so that the four which a halving joins stand next to one another: cell by
//! cell of the grid, row by row, and inside of a cell by quarters of quarters. A halving is then a
//! reshape: `[4 * n, width]` to `[n, 4 * width]`, and no number moves.

use crate::{Error, Result};
use jam_data::images::{Picture, from_unit, to_unit};
use jam_data::tokens::image::VqSettings;

/// Left upper corners of the patches of a picture, in order. `[patches]`
pub(super) fn corners(settings: &VqSettings) -> Vec<(usize, usize)> {
    let mut corners: Vec<(usize, usize)> = (0..settings.cells())
        .map(|cell| (cell % settings.grid, cell / settings.grid))
        .map(|(x, y)| (x * settings.stride(), y * settings.stride()))
        .collect();
    let mut side = settings.stride();
    while side > settings.patch() {
        side /= 2;
        corners = corners
            .into_iter()
            .flat_map(|(x, y)| [(x, y), (x + side, y), (x, y + side), (x + side, y + side)])
            .collect();
    }
    corners
}

/// Brightness of a colour, by the weights of ITU-R BT.601.
fn brightness(pixel: &[u8]) -> f32 {
    let [red, green, blue] = [pixel[0], pixel[1], pixel[2]].map(to_unit);
    0.299 * red + 0.587 * green + 0.114 * blue
}

/// The patches of the pictures, one after the other. `[pictures * patches, patch_values]`
///
/// # Errors
/// When a picture has another size than the settings say.
pub(super) fn to_patches(settings: &VqSettings, pictures: &[Picture]) -> Result<Vec<f32>> {
    let side = settings.picture;
    let corners = corners(settings);
    let mut rows = Vec::with_capacity(pictures.len() * side * side * settings.channels);
    for picture in pictures {
        if picture.width() != side || picture.height() != side {
            return Err(Error::new(format!(
                "the image tokenizer takes {side}×{side} pictures, not {}×{}",
                picture.width(),
                picture.height()
            )));
        }
        for (x, y) in &corners {
            for line in picture
                .pixels()
                .chunks_exact(side * 3)
                .skip(*y)
                .take(settings.patch())
            {
                let line = &line[x * 3..(x + settings.patch()) * 3];
                if settings.channels == 1 {
                    rows.extend(line.chunks_exact(3).map(brightness));
                } else {
                    rows.extend(line.iter().map(|byte| to_unit(*byte)));
                }
            }
        }
    }
    Ok(rows)
}

/// Pictures from their patches; the inverse of [`to_patches`], rounded to bytes.
///
/// # Errors
/// When the numbers are not those of whole pictures.
pub(super) fn from_patches(settings: &VqSettings, rows: &[f32]) -> Result<Vec<Picture>> {
    let (side, patch) = (settings.picture, settings.patch());
    let values = side * side * settings.channels;
    if !rows.len().is_multiple_of(values) {
        return Err(Error::new("the decoder did not give whole pictures"));
    }
    let corners = corners(settings);
    rows.chunks_exact(values)
        .map(|rows| {
            let mut pixels = vec![0; side * side * 3];
            let patches = rows.chunks_exact(settings.patch_values());
            for ((x, y), values) in std::iter::zip(&corners, patches) {
                let lines = values.chunks_exact(patch * settings.channels);
                for (line, values) in lines.enumerate() {
                    let at = ((y + line) * side + x) * 3;
                    for (i, byte) in pixels[at..at + patch * 3].iter_mut().enumerate() {
                        *byte = from_unit(values[if settings.channels == 1 { i / 3 } else { i }]);
                    }
                }
            }
            Picture::from_pixels(side, side, pixels)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(side: usize) -> Picture {
        let pixels = (0..side * side * 3)
            .map(|i| ((i * 2_654_435) >> 7) as u8)
            .collect();
        Picture::from_pixels(side, side, pixels).unwrap()
    }

    #[test]
    fn patches_come_back_as_the_pictures_they_were() {
        for (picture, grid, stem) in [(32, 4, 0), (32, 8, 2), (64, 2, 4), (8, 8, 0)] {
            let settings = VqSettings {
                picture,
                grid,
                stem,
                ..VqSettings::default()
            };
            settings.check().unwrap();
            let pictures = [
                noise(picture),
                Picture::new(picture, picture, [1, 2, 3]).unwrap(),
            ];
            let rows = to_patches(&settings, &pictures).unwrap();
            assert_eq!(rows.len(), 2 * settings.patches() * settings.patch_values());
            assert_eq!(from_patches(&settings, &rows).unwrap(), pictures);
        }
    }

    #[test]
    fn the_four_patches_of_a_halving_are_neighbours() {
        let settings = VqSettings {
            picture: 16,
            grid: 2,
            stem: 4,
            ..VqSettings::default()
        };
        let corners = corners(&settings);
        assert_eq!(corners[..4], [(0, 0), (4, 0), (0, 4), (4, 4)]);
        assert_eq!(corners[4..8], [(8, 0), (12, 0), (8, 4), (12, 4)]);
    }

    #[test]
    fn one_channel_is_brightness() {
        let settings = VqSettings {
            channels: 1,
            ..VqSettings::default()
        };
        let grey = Picture::new(32, 32, [70, 70, 70]).unwrap();
        let rows = to_patches(&settings, std::slice::from_ref(&grey)).unwrap();
        assert_eq!(rows.len(), 32 * 32);
        assert_eq!(from_patches(&settings, &rows).unwrap(), [grey]);
        let wrong = Picture::new(32, 16, [0; 3]).unwrap();
        assert!(to_patches(&settings, &[wrong]).is_err());
    }
}
