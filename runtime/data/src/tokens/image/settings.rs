//! The settings of an image tokenizer, their limits, and the sizes that follow from them.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What an image tokenizer is and how it is trained. Everything has a default; a file may leave
/// out any of it, and may hold nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VqSettings {
    /// Side of a picture, in pixels.
    pub picture: usize,
    /// 3 for colour, 1 for brightness alone.
    pub channels: usize,
    /// Entries of the codebook: the image part of a vocabulary.
    pub codes: usize,
    /// Codes on a side: a picture becomes `grid * grid` of them.
    pub grid: usize,
    /// Side of the patches that the first layer cuts the picture into, in pixels; 0 for the
    /// largest that is at most 8. What is left of `picture / grid` is halved layer by layer.
    pub stem: usize,
    /// Features of a cell inside of encoder and decoder.
    pub width: usize,
    /// Dimensions of a code.
    pub latent: usize,
    /// Residual blocks on the grid, in the encoder and again in the decoder.
    pub depth: usize,
    /// Side of the neighbourhood a residual block reads: 1 (a cell alone, enough when what is
    /// drawn keeps to the grid, and fastest) or 3.
    pub kernel: usize,
    /// Weight of the commitment loss, which keeps latents near their codes.
    pub beta: f64,
    /// Decay per step of the moving averages that are the codebook.
    pub decay: f64,
    /// Steps without a single use after which a code is moved to where it is needed; 0 for never.
    pub restart_after: usize,
    /// Learning rate at its height, for networks up to a width of 64; a wider one learns at a rate
    /// lowered in proportion. It rises over the first fiftieth of the steps and falls along a cosine
    /// to a hundredth.
    pub rate: f64,
    /// Pictures a step.
    pub batch: usize,
    /// Steps of training.
    pub steps: usize,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for VqSettings {
    fn default() -> Self {
        Self {
            picture: 32,
            channels: 3,
            codes: 256,
            grid: 4,
            stem: 0,
            width: 64,
            latent: 16,
            depth: 2,
            kernel: 1,
            beta: 0.25,
            decay: 0.99,
            restart_after: 100,
            rate: 5e-3,
            batch: 32,
            steps: 4000,
            seed: 0,
        }
    }
}

impl VqSettings {
    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first setting that is out of its range, or that does not go with another.
    pub fn check(&self) -> Result<()> {
        for (name, value, least, most) in [
            ("picture", self.picture, 1, 1024),
            ("channels", self.channels, 1, 3),
            ("codes", self.codes, 2, 65_536),
            ("grid", self.grid, 1, 128),
            ("stem", self.stem, 0, 64),
            ("width", self.width, 1, 4096),
            ("latent", self.latent, 1, 4096),
            ("depth", self.depth, 0, 64),
            ("kernel", self.kernel, 1, 3),
            ("batch", self.batch, 1, 65_536),
            ("steps", self.steps, 1, 1_000_000_000),
        ] {
            if !(least..=most).contains(&value) {
                return Err(Error::new(format!(
                    "`{name}` of an image tokenizer is {value}, but must be from {least} to {most}"
                )));
            }
        }
        for (name, value, range, words) in [
            ("beta", self.beta, 0.0..=1000.0, "from 0 to 1000"),
            ("decay", self.decay, 0.0..=0.999_999, "from 0 to below 1"),
            (
                "rate",
                self.rate,
                f64::MIN_POSITIVE..=1.0,
                "above 0 and at most 1",
            ),
        ] {
            if !range.contains(&value) {
                return Err(Error::new(format!(
                    "`{name}` of an image tokenizer is {value}, but must be {words}"
                )));
            }
        }
        if self.channels == 2 {
            return Err(Error::new(
                "`channels` of an image tokenizer is 1 or 3, not 2",
            ));
        }
        if self.kernel == 2 {
            return Err(Error::new(
                "`kernel` of an image tokenizer is 1 or 3, not 2",
            ));
        }
        if !self.picture.is_multiple_of(self.grid) || !(self.picture / self.grid).is_power_of_two()
        {
            return Err(Error::new(format!(
                "a picture of {} pixels cannot have a grid of {}: pixels per code on a side must be \
                 a power of two",
                self.picture, self.grid
            )));
        }
        if self.stem != 0 && (!self.stem.is_power_of_two() || self.stem > self.picture / self.grid)
        {
            return Err(Error::new(format!(
                "`stem` of an image tokenizer is {}, but must be a power of two and at most {} \
                 (`picture` divided by `grid`)",
                self.stem,
                self.picture / self.grid
            )));
        }
        Ok(())
    }

    /// Pixels per code, on a side.
    pub fn stride(&self) -> usize {
        self.picture / self.grid
    }

    /// Codes of a picture: `grid * grid`.
    pub fn cells(&self) -> usize {
        self.grid * self.grid
    }

    /// Side of the patches of the first layer, in pixels.
    pub fn patch(&self) -> usize {
        match self.stem {
            0 => self.stride().min(8),
            stem => stem,
        }
    }

    /// Numbers in a patch of the first layer.
    pub fn patch_values(&self) -> usize {
        self.patch() * self.patch() * self.channels
    }

    /// How often the sides are halved after the first layer.
    pub fn halvings(&self) -> usize {
        (self.stride() / self.patch()).ilog2() as usize
    }

    /// Patches of the first layer in a picture.
    pub fn patches(&self) -> usize {
        self.cells() << (2 * self.halvings())
    }

    /// The learning rate of a step, counted from 0: linear warm-up, then a cosine.
    pub fn rate_at(&self, step: usize) -> f64 {
        let rate = self.rate * (64.0 / self.width as f64).min(1.0);
        let warm = (self.steps / 50).max(1);
        if step < warm {
            return rate * (step + 1) as f64 / warm as f64;
        }
        let done = (step - warm) as f64 / (self.steps - warm).max(1) as f64;
        let cosine = 0.5 + 0.5 * (done.min(1.0) * std::f64::consts::PI).cos();
        rate * (0.01 + 0.99 * cosine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_follow() {
        let settings = VqSettings::default();
        settings.check().unwrap();
        assert_eq!(
            (settings.stride(), settings.patch(), settings.halvings()),
            (8, 8, 0)
        );
        let large = VqSettings {
            picture: 256,
            grid: 8,
            ..settings
        };
        assert_eq!(
            (large.stride(), large.patch(), large.halvings()),
            (32, 8, 2)
        );
        assert_eq!((large.cells(), large.patches()), (64, 1024));
        assert_eq!(large.patch_values(), 192);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let good = VqSettings::default();
        for (settings, word) in [
            (
                VqSettings {
                    grid: 5,
                    ..good.clone()
                },
                "grid",
            ),
            (
                VqSettings {
                    picture: 96,
                    ..good.clone()
                },
                "power of two",
            ),
            (
                VqSettings {
                    codes: 1,
                    ..good.clone()
                },
                "`codes`",
            ),
            (
                VqSettings {
                    channels: 2,
                    ..good.clone()
                },
                "`channels`",
            ),
            (
                VqSettings {
                    kernel: 2,
                    ..good.clone()
                },
                "`kernel`",
            ),
            (
                VqSettings {
                    stem: 16,
                    ..good.clone()
                },
                "`stem`",
            ),
            (
                VqSettings {
                    beta: f64::NAN,
                    ..good.clone()
                },
                "`beta`",
            ),
            (
                VqSettings {
                    decay: 1.0,
                    ..good.clone()
                },
                "`decay`",
            ),
            (
                VqSettings {
                    rate: 0.0,
                    ..good.clone()
                },
                "`rate`",
            ),
            (
                VqSettings {
                    steps: 0,
                    ..good.clone()
                },
                "`steps`",
            ),
            (
                VqSettings {
                    width: usize::MAX,
                    ..good.clone()
                },
                "`width`",
            ),
        ] {
            let error = settings.check().unwrap_err();
            assert!(error.message.contains(word), "{}", error.message);
        }
        assert!(serde_json::from_str::<VqSettings>(r#"{"code": 3}"#).is_err());
    }

    #[test]
    fn the_rate_rises_and_falls() {
        let settings = VqSettings {
            steps: 1000,
            ..VqSettings::default()
        };
        assert!(settings.rate_at(0) < settings.rate_at(10));
        assert!((settings.rate_at(20) - settings.rate).abs() < 1e-9);
        assert!(settings.rate_at(500) < settings.rate);
        assert!((settings.rate_at(1000) - settings.rate * 0.01).abs() < 1e-9);
        let wide = VqSettings {
            width: 128,
            ..settings.clone()
        };
        assert!((2.0 * wide.rate_at(300) - settings.rate_at(300)).abs() < 1e-9);
    }
}
