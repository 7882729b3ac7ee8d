//! Many pictures on one: a sheet to look at.

use super::{Picture, Rgb, check_size};
use crate::{Error, Result};

/// How a sheet is laid out: cells of the size of the largest picture, filled row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sheet {
    /// Pictures in a row.
    pub columns: usize,
    /// Every pixel is drawn as a block of this many by this many.
    pub enlarge: usize,
    /// Pixels of the sheet between pictures and around them.
    pub gap: usize,
    /// What shows in the gaps.
    pub background: Rgb,
}

impl Default for Sheet {
    fn default() -> Self {
        Self {
            columns: 8,
            enlarge: 3,
            gap: 4,
            background: [128, 128, 128],
        }
    }
}

impl Sheet {
    /// Draws the pictures, in order.
    ///
    /// # Errors
    /// When there is none, `columns` or `enlarge` is 0, or the sheet would be larger than
    /// [`super::MAX_SIDE`].
    pub fn draw<'a>(&self, pictures: impl IntoIterator<Item = &'a Picture>) -> Result<Picture> {
        let pictures: Vec<&Picture> = pictures.into_iter().collect();
        let cell = |side: fn(&Picture) -> usize| {
            pictures
                .iter()
                .map(|picture| side(picture))
                .max()
                .unwrap_or(0)
        };
        let (width, height) = (cell(Picture::width), cell(Picture::height));
        if pictures.is_empty() || self.columns == 0 || self.enlarge == 0 {
            return Err(Error::new(
                "a sheet needs a picture, a column and an enlargement of at least 1",
            ));
        }
        let columns = self.columns.min(pictures.len());
        let rows = pictures.len().div_ceil(self.columns);
        let step = |side: usize| side.saturating_mul(self.enlarge).saturating_add(self.gap);
        let whole =
            |cells: usize, side: usize| step(side).saturating_mul(cells).saturating_add(self.gap);
        let (sheet_width, sheet_height) = (whole(columns, width), whole(rows, height));
        check_size(sheet_width, sheet_height)?;
        let mut sheet = Picture::new(sheet_width, sheet_height, self.background)?;
        for (index, picture) in pictures.into_iter().enumerate() {
            let x = self.gap + index % columns * step(width);
            let y = self.gap + index / columns * step(height);
            sheet.paste(&picture.enlarged(self.enlarge)?, x, y);
        }
        Ok(sheet)
    }

    /// Draws pairs side by side, the first of each on the left: originals and reconstructions.
    /// [`Sheet::columns`] counts pairs here.
    ///
    /// # Errors
    /// As [`Sheet::draw`], and when the two lists differ in length.
    pub fn draw_pairs(&self, left: &[Picture], right: &[Picture]) -> Result<Picture> {
        if left.len() != right.len() {
            return Err(Error::new(format!(
                "{} pictures cannot be paired with {}",
                left.len(),
                right.len()
            )));
        }
        let columns = self.columns.saturating_mul(2);
        let pairs = std::iter::zip(left, right).flat_map(|(left, right)| [left, right]);
        Sheet { columns, ..*self }.draw(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stand_in_rows_with_gaps() {
        let colours = [[255, 0, 0], [0, 255, 0], [0, 0, 255]];
        let pictures = colours.map(|colour| Picture::new(2, 2, colour).unwrap());
        let layout = Sheet {
            columns: 2,
            enlarge: 2,
            gap: 1,
            background: [9, 9, 9],
        };
        let sheet = layout.draw(&pictures).unwrap();
        assert_eq!((sheet.width(), sheet.height()), (11, 11));
        let seen = [(0, 0), (1, 1), (4, 4), (5, 5), (6, 1), (1, 6), (6, 6)];
        let seen = seen.map(|(x, y)| sheet.get(x, y).unwrap());
        let [red, green, blue] = colours;
        let gap = [9, 9, 9];
        assert_eq!(seen, [gap, red, red, gap, green, blue, gap]);

        let pairs = layout.draw_pairs(&pictures[..2], &pictures[1..]).unwrap();
        assert_eq!((pairs.width(), pairs.height()), (21, 6));
        assert_eq!(pairs.get(16, 1), Some(blue));
    }

    #[test]
    fn impossible_sheets_are_refused() {
        let sheet = Sheet::default();
        let picture = Picture::new(8, 8, [0; 3]).unwrap();
        assert!(sheet.draw([]).is_err());
        assert!(
            Sheet {
                columns: 0,
                ..sheet
            }
            .draw([&picture])
            .is_err()
        );
        assert!(
            Sheet {
                enlarge: usize::MAX,
                ..sheet
            }
            .draw([&picture])
            .is_err()
        );
        assert!(
            Sheet {
                gap: usize::MAX,
                ..sheet
            }
            .draw([&picture])
            .is_err()
        );
        assert!(sheet.draw_pairs(&[picture], &[]).is_err());
    }
}
