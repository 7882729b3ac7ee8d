//! PNG and JPEG files and bytes to pictures, and back.

use std::io::Cursor;
use std::path::Path;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{
    DynamicImage, ExtendedColorType, ImageDecoder, ImageEncoder, ImageFormat, ImageReader, Limits,
};

use super::{MAX_SIDE, Picture, Rgb, WHITE};
use crate::sources::{MAX_BYTES, read_regular};
use crate::{Error, Result};
use jam_weights::checkpoints::atomic::write_file;

/// Memory that decoding one file may take, in bytes.
const MAX_MEMORY: u64 = 1 << 30;

impl Picture {
    /// Reads PNG or JPEG bytes, told apart by their first bytes. Transparent parts show white, and
    /// the orientation that a camera noted is applied.
    ///
    /// # Errors
    /// When the bytes are neither, are damaged or cut short, or announce a picture that is too large.
    pub fn decode(bytes: &[u8]) -> Result<Picture> {
        Self::decode_over(bytes, WHITE)
    }

    /// Like [`Picture::decode`], over another background.
    ///
    /// # Errors
    /// As [`Picture::decode`].
    pub fn decode_over(bytes: &[u8], background: Rgb) -> Result<Picture> {
        let bad = |error: image::ImageError| {
            Error::new(format!("not a picture that can be read: {error}"))
                .with_help("pictures are PNG or JPEG")
        };
        let mut reader = ImageReader::new(Cursor::new(bytes))
            .with_guessed_format()
            .map_err(|error| Error::new(format!("cannot read the picture: {error}")))?;
        let mut limits = Limits::default();
        limits.max_image_width = Some(MAX_SIDE as u32);
        limits.max_image_height = Some(MAX_SIDE as u32);
        limits.max_alloc = Some(MAX_MEMORY);
        reader.limits(limits);
        if reader.format() == Some(ImageFormat::Jpeg) && !is_whole_jpeg(bytes) {
            return Err(Error::new(
                "not a picture that can be read: the JPEG was cut off, its end mark is missing",
            ));
        }
        let mut decoder = reader.into_decoder().map_err(bad)?;
        // Damaged Exif data is no reason to refuse a sound picture.
        let orientation = decoder.orientation().ok();
        let mut image = DynamicImage::from_decoder(decoder).map_err(bad)?;
        if let Some(orientation) = orientation {
            image.apply_orientation(orientation);
        }
        let (width, height) = (image.width() as usize, image.height() as usize);
        if !image.color().has_alpha() {
            return Picture::from_pixels(width, height, image.into_rgb8().into_raw());
        }
        let mut pixels = Vec::with_capacity(width * height * 3);
        for pixel in image.into_rgba8().into_raw().chunks_exact(4) {
            let alpha = u32::from(pixel[3]);
            for (colour, under) in pixel[..3].iter().zip(background) {
                let sum = u32::from(*colour) * alpha + u32::from(under) * (255 - alpha);
                pixels.push(((sum + 127) / 255) as u8);
            }
        }
        Picture::from_pixels(width, height, pixels)
    }

    /// Reads a PNG or JPEG file.
    ///
    /// # Errors
    /// As [`Picture::decode`], and when the file cannot be read; the error names the file.
    pub fn read(path: &Path) -> Result<Picture> {
        let bytes = read_regular(path, MAX_BYTES)?;
        Self::decode(&bytes).map_err(|error| error.with_path(path))
    }

    /// The picture as the bytes of a PNG file. The same picture gives the same bytes.
    ///
    /// # Errors
    /// When memory for it cannot be had.
    pub fn to_png(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        PngEncoder::new_with_quality(&mut bytes, CompressionType::Default, FilterType::Adaptive)
            .write_image(
                self.pixels(),
                self.width() as u32,
                self.height() as u32,
                ExtendedColorType::Rgb8,
            )
            .map_err(|error| Error::new(format!("cannot write a PNG: {error}")))?;
        Ok(bytes)
    }

    /// The picture as the bytes of a JPEG file; `quality` is 1 to 100.
    ///
    /// # Errors
    /// When `quality` is out of range.
    pub fn to_jpeg(&self, quality: u8) -> Result<Vec<u8>> {
        if !(1..=100).contains(&quality) {
            return Err(Error::new(format!(
                "the quality of a JPEG is 1 to 100, not {quality}"
            )));
        }
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, quality)
            .write_image(
                self.pixels(),
                self.width() as u32,
                self.height() as u32,
                ExtendedColorType::Rgb8,
            )
            .map_err(|error| Error::new(format!("cannot write a JPEG: {error}")))?;
        Ok(bytes)
    }

    /// Writes a PNG or JPEG (quality 92) file, after the ending of its name, in one piece or not at all.
    ///
    /// # Errors
    /// When the ending is another one, or the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let ending = path
            .extension()
            .map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        let bytes = match ending.as_deref() {
            Some("png") => self.to_png(),
            Some("jpg" | "jpeg") => self.to_jpeg(92),
            _ => Err(Error::new(
                "the name of a picture file ends in .png, .jpg or .jpeg",
            )),
        };
        write_file(path, &bytes.map_err(|error| error.with_path(path))?)
    }
}

/// Whether a JPEG goes on to its end mark. The decoder paints what is missing grey and says nothing.
fn is_whole_jpeg(bytes: &[u8]) -> bool {
    /// The mark of the end of the picture.
    const END: u8 = 0xd9;
    let mut at = 0;
    loop {
        // In what is coded, ff 00 is a byte, ff d0 to ff d7 parts runs, ff ff fills.
        let Some(next) = bytes.get(at..).and_then(|rest| {
            let mut pairs = rest.windows(2);
            pairs.position(|pair| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xd0..=0xd8 | 0xff))
        }) else {
            return false;
        };
        let mark = at + next;
        if bytes[mark + 1] == END {
            return true;
        }
        // A segment has its length, and may hold another picture with an end of its own.
        let Some([high, low]) = bytes.get(mark + 2..mark + 4) else {
            return false;
        };
        at = mark + 2 + usize::from(u16::from_be_bytes([*high, *low])).max(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gradient() -> Picture {
        let mut picture = Picture::new(24, 16, WHITE).unwrap();
        for y in 0..16 {
            for x in 0..24 {
                picture.set(x, y, [x as u8 * 10, y as u8 * 15, 128]);
            }
        }
        picture
    }

    #[test]
    fn png_keeps_every_byte_and_jpeg_nearly() {
        let picture = gradient();
        assert_eq!(
            Picture::decode(&picture.to_png().unwrap()).unwrap(),
            picture
        );
        let back = Picture::decode(&picture.to_jpeg(95).unwrap()).unwrap();
        assert_eq!((back.width(), back.height()), (24, 16));
        let error: u32 = std::iter::zip(back.pixels(), picture.pixels())
            .map(|(a, b)| u32::from(a.abs_diff(*b)))
            .sum();
        assert!(
            error / (24 * 16 * 3) < 4,
            "mean error {}",
            error / (24 * 16 * 3)
        );
    }

    #[test]
    fn transparent_parts_show_the_background() {
        let mut bytes = Vec::new();
        let rgba = [200, 100, 0, 0, 200, 100, 0, 255, 200, 100, 0, 51];
        PngEncoder::new(&mut bytes)
            .write_image(&rgba, 3, 1, ExtendedColorType::Rgba8)
            .unwrap();
        let picture = Picture::decode_over(&bytes, [0, 0, 250]).unwrap();
        assert_eq!(picture.get(0, 0), Some([0, 0, 250]));
        assert_eq!(picture.get(1, 0), Some([200, 100, 0]));
        assert_eq!(picture.get(2, 0), Some([40, 20, 200])); // a fifth of the colour
        assert_eq!(Picture::decode(&bytes).unwrap().get(0, 0), Some(WHITE));
    }

    #[test]
    fn grey_and_sixteen_bit_files_become_rgb() {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(&[0, 77], 2, 1, ExtendedColorType::L8)
            .unwrap();
        assert_eq!(Picture::decode(&bytes).unwrap().get(1, 0), Some([77; 3]));
        let mut bytes = Vec::new();
        let deep: Vec<u8> = [65_535u16, 0, 32_896]
            .iter()
            .flat_map(|v| v.to_ne_bytes())
            .collect();
        PngEncoder::new(&mut bytes)
            .write_image(&deep, 1, 1, ExtendedColorType::Rgb16)
            .unwrap();
        assert_eq!(
            Picture::decode(&bytes).unwrap().get(0, 0),
            Some([255, 0, 128])
        );
    }

    #[test]
    fn damage_is_an_error() {
        let png = gradient().to_png().unwrap();
        for end in [0, 3, 20, png.len() / 2] {
            assert!(Picture::decode(&png[..end]).is_err(), "cut at {end}");
        }
        assert!(Picture::decode(b"GIF89a and what follows").is_err());
        // A header that announces 60,000 × 60,000 pixels.
        let mut huge = png.clone();
        huge[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
        assert!(Picture::decode(&huge).is_err());
    }

    #[test]
    fn a_jpeg_without_its_end_is_refused() {
        let jpeg = gradient().to_jpeg(92).unwrap();
        assert!(Picture::decode(&jpeg).is_ok());
        for end in [jpeg.len() * 9 / 10, jpeg.len() - 2, jpeg.len() - 1] {
            let error = Picture::decode(&jpeg[..end]).unwrap_err();
            assert!(error.message.contains("cut off"), "{error}");
        }
        // What follows the end is of no matter.
        assert!(Picture::decode(&[jpeg.as_slice(), &[0; 9]].concat()).is_ok());
        // The end of a small picture inside of the note of a camera is not that of the picture.
        let note = [&[0xff, 0xe1, 0, 8], b"ab" as &[u8], &[0xff, 0xd9, 0, 0]].concat();
        let noted = [&jpeg[..2], note.as_slice(), &jpeg[2..]].concat();
        assert!(Picture::decode(&noted).is_ok());
        assert!(Picture::decode(&noted[..noted.len() - 2]).is_err());
    }

    #[test]
    fn files_are_written_by_their_ending_and_errors_name_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        gradient().write(&path).unwrap();
        assert_eq!(Picture::read(&path).unwrap(), gradient());
        gradient().write(&folder.path().join("a.JPG")).unwrap();
        assert!(gradient().write(&folder.path().join("a.gif")).is_err());
        let missing = folder.path().join("b.png");
        assert_eq!(Picture::read(&missing).unwrap_err().path, Some(missing));
    }
}
