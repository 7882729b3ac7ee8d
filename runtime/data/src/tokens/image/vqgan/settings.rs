//! The settings of a VQGAN, their limits, and the sizes that follow from them.

use serde::{Deserialize, Serialize};

use super::layers::GROUPS;
use crate::{Error, Result};

/// The most numbers between two layers, for one picture (2 GiB of f32).
const MAX_NUMBERS: usize = 1 << 29;
/// The longest side of a level with attention: its table has the fourth power of this.
const MAX_ATTENTION: usize = 128;

/// What a VQGAN is: the fields that taming-transformers calls `ddconfig`, `n_embed` and `embed_dim`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VqganSettings {
    /// Side of a picture, in pixels.
    pub picture: usize,
    /// 3 for colour, 1 for brightness alone.
    pub channels: usize,
    /// Features that the multipliers multiply.
    pub width: usize,
    /// Features of every level over `width`, the finest level first. Between two levels, sides are halved.
    pub multipliers: Vec<usize>,
    /// Residual blocks of a level of the encoder; the decoder has one more.
    pub blocks: usize,
    /// Sides, in positions, of the levels whose residual blocks are followed by attention. There is one more
    /// between the two blocks after the coarsest level.
    pub attention: Vec<usize>,
    /// Features of a cell at the end of the encoder and at the start of the decoder.
    pub features: usize,
    /// Dimensions of a code.
    pub latent: usize,
    /// Entries of the codebook.
    pub codes: usize,
    /// A byte of a picture times this, less 1, is what the encoder sees: 1/127.5, or Chameleon's 0.0078.
    pub scale: f64,
}

impl VqganSettings {
    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first setting that is out of its range, or that does not go with another.
    pub fn check(&self) -> Result<()> {
        for (name, value, least, most) in [
            ("picture", self.picture, 1, 1024),
            ("channels", self.channels, 1, 3),
            ("width", self.width, 1, 4096),
            ("multipliers", self.multipliers.len(), 1, 8),
            ("blocks", self.blocks, 1, 16),
            ("features", self.features, 1, 4096),
            ("latent", self.latent, 1, 4096),
            ("codes", self.codes, 2, 65_536),
        ] {
            if !(least..=most).contains(&value) {
                let what = match name {
                    "multipliers" => "the number of `multipliers`".to_owned(),
                    _ => format!("`{name}`"),
                };
                return Err(Error::new(format!(
                    "{what} of an image tokenizer is {value}, but must be from {least} to {most}"
                )));
            }
        }
        if self.channels == 2 {
            return Err(Error::new(
                "`channels` of an image tokenizer is 1 or 3, not 2",
            ));
        }
        if !(self.scale > 0.0 && self.scale <= 1.0) {
            return Err(Error::new(format!(
                "`scale` of an image tokenizer is {}, but must be above 0 and at most 1",
                self.scale
            )));
        }
        let halving = 1 << (self.levels() - 1);
        if !self.picture.is_multiple_of(halving) {
            return Err(Error::new(format!(
                "a picture of {} pixels cannot be halved {} times, once between any two of the {} \
                 `multipliers`",
                self.picture,
                self.levels() - 1,
                self.levels()
            )));
        }
        let mut side = self.picture;
        for (level, multiplier) in self.multipliers.iter().enumerate() {
            let width = self.width.saturating_mul(*multiplier);
            if !(1..=4096).contains(&width) {
                return Err(Error::new(format!(
                    "level {level} of an image tokenizer would have {} × {multiplier} features, but \
                     must have 1 to 4096",
                    self.width
                )));
            }
            self.check_level(level, width, side)?;
            if level + 1 < self.levels() {
                side /= 2;
            }
        }
        // The first layer makes `width` features whatever the multipliers are.
        self.check_level(0, self.width, self.picture)?;
        if side > 128 {
            return Err(Error::new(format!(
                "an image tokenizer would make {side} × {side} tokens of a picture; 128 × 128 are the \
                 most"
            )));
        }
        Ok(())
    }

    /// One level: `width` features at `side` × `side` positions.
    fn check_level(&self, level: usize, width: usize, side: usize) -> Result<()> {
        if !width.is_multiple_of(GROUPS) {
            return Err(Error::new(format!(
                "level {level} of an image tokenizer would have {width} features, which its norms cannot \
                 divide into {GROUPS} groups"
            )));
        }
        if side * side * width > MAX_NUMBERS {
            return Err(Error::new(format!(
                "level {level} of an image tokenizer would have {side} × {side} × {width} numbers for a \
                 picture; {MAX_NUMBERS} are the most"
            )));
        }
        if self.attention.contains(&side) && side > MAX_ATTENTION {
            return Err(too_wide_attention(side));
        }
        Ok(())
    }

    /// Levels of the encoder, each half as fine as the one before.
    pub fn levels(&self) -> usize {
        self.multipliers.len()
    }

    /// Codes on a side of a picture.
    pub fn grid(&self) -> usize {
        self.picture >> (self.levels() - 1)
    }

    /// Codes of a picture: `grid * grid`.
    pub fn cells(&self) -> usize {
        self.grid() * self.grid()
    }

    /// Numbers of a picture: `channels * picture * picture`.
    pub fn numbers(&self) -> usize {
        self.channels * self.picture * self.picture
    }

    /// Features of every level, the finest first.
    pub fn widths(&self) -> impl DoubleEndedIterator<Item = usize> + ExactSizeIterator + '_ {
        self.multipliers
            .iter()
            .map(|multiplier| self.width * multiplier)
    }
}

fn too_wide_attention(side: usize) -> Error {
    Error::new(format!(
        "an image tokenizer would have attention over {side} × {side} positions; {MAX_ATTENTION} × \
         {MAX_ATTENTION} are the most"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The image tokenizer of Chameleon, as its authors released it.
    fn chameleon() -> VqganSettings {
        VqganSettings {
            picture: 512,
            channels: 3,
            width: 128,
            multipliers: vec![1, 1, 2, 2, 4],
            blocks: 2,
            attention: Vec::new(),
            features: 256,
            latent: 256,
            codes: 8192,
            scale: 0.0078,
        }
    }

    #[test]
    fn the_sizes_follow() {
        let settings = chameleon();
        settings.check().unwrap();
        assert_eq!((settings.grid(), settings.cells()), (32, 1024));
        assert_eq!(settings.widths().last(), Some(512));
    }

    #[test]
    fn what_cannot_be_is_named() {
        type Change = fn(&mut VqganSettings);
        let wrong: [(Change, &str); 16] = [
            (|s| s.channels = 0, "`channels`"),
            (|s| s.channels = 2, "1 or 3"),
            (|s| s.width = 0, "`width`"),
            (|s| s.width = usize::MAX, "`width`"),
            (|s| s.width = 100, "32 groups"),
            (|s| s.multipliers.clear(), "`multipliers`"),
            (|s| s.multipliers = vec![1; 100], "`multipliers`"),
            (|s| s.multipliers[3] = 0, "level 3"),
            (|s| s.multipliers[3] = usize::MAX, "level 3"),
            (|s| s.blocks = 1 << 60, "`blocks`"),
            (|s| s.picture = 1 << 60, "`picture`"),
            (|s| s.picture = 500, "halved 4 times"),
            (|s| s.multipliers = vec![1, 1], "256 × 256"),
            (|s| s.attention = vec![512], "512 × 512"),
            (
                |s| (s.picture, s.width) = (1024, 1024),
                "1024 × 1024 × 1024",
            ),
            (|s| s.scale = f64::NAN, "`scale`"),
        ];
        for (change, word) in wrong {
            let mut settings = chameleon();
            change(&mut settings);
            let error = settings.check().unwrap_err();
            assert!(error.message.contains(word), "{word}: {}", error.message);
        }
    }
}
