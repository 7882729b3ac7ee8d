//! Weights that are numbers: infinities and what is no number are told where they stand, before they travel on.

use std::ops::Range;

use super::{Band, Dtype, Stored, StoredPart, WeightSource};
use crate::{Error, ErrorKind, Result};

/// Which numbers weights may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// Those that one can compute with.
    #[default]
    Finite,
    /// Infinities and what is no number too.
    Any,
}

impl Numbers {
    /// The same weights, which refuse the numbers that are left out here when they are read.
    pub fn of(self, weights: Box<dyn WeightSource>) -> Box<dyn WeightSource> {
        match self {
            Numbers::Finite => Box::new(FiniteWeights(weights)),
            Numbers::Any => weights,
        }
    }
}

/// Weights whose numbers are looked at as they are read.
struct FiniteWeights(Box<dyn WeightSource>);

impl FiniteWeights {
    /// Why a number cannot be used, the first of a run of rows from `start` on that `at` entries come before.
    fn refuse(&self, name: &str, start: u64, at: u64, number: f32) -> Error {
        let shape = self.0.shape(name).unwrap_or_default();
        let inner = |axis: usize| -> u64 {
            let sizes = shape.get(axis + 1..).unwrap_or(&[]);
            sizes.iter().fold(1, |n: u64, size| n.saturating_mul(*size))
        };
        let place = start.saturating_mul(inner(0)).saturating_add(at);
        let index: Vec<u64> = shape
            .iter()
            .enumerate()
            .map(|(axis, size)| place / inner(axis).max(1) % (*size).max(1))
            .collect();
        let what = match number.is_nan() {
            true => "NaN",
            false if number > 0.0 => "infinity",
            false => "minus infinity",
        };
        let message = format!("`{name}` has {what} at {index:?}");
        let mut error = Error::of(ErrorKind::NotFinite, message).with_help(
            "the checkpoint is damaged, or its training went wrong; `--allow-nonfinite` goes on with it",
        );
        if let Some(stored) = self.0.stored(name) {
            error = error.with_path(stored.file.as_ref());
        }
        error
    }

    fn check(&self, name: &str, start: u64, numbers: &[f32]) -> Result<()> {
        match first(numbers, |x| !x.is_finite()) {
            None => Ok(()),
            Some(at) => Err(self.refuse(name, start, at as u64, numbers[at])),
        }
    }
}

impl WeightSource for FiniteWeights {
    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        self.0.shape(name)
    }

    fn rows(&self, name: &str, rows: Range<u64>) -> Result<Vec<f32>> {
        let numbers = self.0.rows(name, rows.clone())?;
        self.check(name, rows.start, &numbers)?;
        Ok(numbers)
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        self.0.stored(name)
    }

    fn part(&self, name: &str) -> Option<StoredPart> {
        self.0.part(name)
    }

    fn band_bytes(&self, name: &str) -> u64 {
        self.0.band_bytes(name)
    }

    fn piece_bytes(&self, name: &str) -> u64 {
        self.0.piece_bytes(name)
    }

    fn band(&self, name: &str, rows: Range<u64>, buffer: Vec<u8>) -> Result<Option<Band>> {
        let band = self.0.band(name, rows.clone(), buffer)?;
        if let Some(band) = &band
            && let Some((at, number)) = first_nonfinite(band.dtype, &band.bytes)
        {
            return Err(self.refuse(name, rows.start, at, number));
        }
        Ok(band)
    }

    fn will_need(&self, name: &str, rows: Range<u64>) {
        self.0.will_need(name, rows);
    }
}

/// Numbers that are looked at together.
const TOGETHER: usize = 1024;

/// The place of the first number that is `bad`. Blocks are looked at whole, several numbers at once.
fn first<T: Copy>(numbers: &[T], bad: impl Fn(T) -> bool) -> Option<usize> {
    let any = |block: &[T]| block.iter().fold(false, |found, x| found | bad(*x));
    let found = numbers.chunks(TOGETHER).position(any)?;
    let start = found * TOGETHER;
    let at = numbers[start..].iter().position(|x| bad(*x))?;
    Some(start + at)
}

/// The first stored number that is not finite, and its place. Nothing is converted before one is found, but
/// doubles, whose large ones are beyond f32.
fn first_nonfinite(dtype: Dtype, bytes: &[u8]) -> Option<(u64, f32)> {
    let size = dtype.size() as usize;
    // The sign is left out; all bits of the exponent are set.
    let half = |exponent: u16| {
        let (words, _) = bytes.as_chunks::<2>();
        first(words, |word| {
            u16::from_le_bytes(word) & exponent == exponent
        })
    };
    let at = match dtype {
        Dtype::F16 => half(0x7c00),
        Dtype::BF16 => half(0x7f80),
        Dtype::F32 => {
            let (words, _) = bytes.as_chunks::<4>();
            first(words, |word| !f32::from_le_bytes(word).is_finite())
        }
        Dtype::F64 => {
            let (words, _) = bytes.as_chunks::<8>();
            first(words, |word| !(f64::from_le_bytes(word) as f32).is_finite())
        }
        _ => None,
    }?;
    let number = dtype.to_f32(&bytes[at * size..][..size])?;
    Some((at as u64, *number.first()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoints::import::{open_weights, open_weights_of};
    use crate::checkpoints::{CheckpointWriter, TensorSpec, WriteOptions};

    /// A LLaMA of one layer whose `up` matrix has a number that is none, in a format.
    fn damaged(dtype: Dtype, number: f32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let config = r#"{"model_type": "llama", "vocab_size": 5, "hidden_size": 4, "intermediate_size": 6,
            "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 8}"#;
        std::fs::write(folder.path().join("config.json"), config).unwrap();
        let shapes = [
            ("model.embed_tokens.weight", vec![5, 4]),
            ("model.layers.0.mlp.up_proj.weight", vec![6, 4]),
        ];
        let specs = shapes.map(|(name, shape)| TensorSpec::new(name, dtype, shape));
        let options = WriteOptions {
            checksums: false,
            ..WriteOptions::default()
        };
        let mut writer = CheckpointWriter::create(folder.path(), specs.to_vec(), options).unwrap();
        writer.append_f32(shapes_name(0), &[0.5; 20]).unwrap();
        let mut up = [0.25; 24]; // [hidden 6, width 4]
        up[3 * 4 + 2] = number;
        writer.append_f32(shapes_name(1), &up).unwrap();
        writer.finish().unwrap();
        folder
    }

    fn shapes_name(index: usize) -> &'static str {
        [
            "model.embed_tokens.weight",
            "model.layers.0.mlp.up_proj.weight",
        ][index]
    }

    #[test]
    fn a_number_that_is_none_is_refused_with_its_place_in_every_format() {
        let formats = [Dtype::F16, Dtype::BF16, Dtype::F32, Dtype::F64];
        for (dtype, (number, told)) in formats.into_iter().flat_map(|dtype| {
            let numbers = [
                (f32::NAN, "NaN"),
                (f32::INFINITY, "infinity"),
                (f32::NEG_INFINITY, "minus infinity"),
            ];
            numbers.map(|number| (dtype, number))
        }) {
            let folder = damaged(dtype, number);
            let weights = open_weights(folder.path()).unwrap();
            let name = "layers.0.mlp.up"; // [width 4, hidden 6]
            let wanted = format!("`{name}` has {told} at [2, 3]");
            let whole = weights.rows(name, 0..4).unwrap_err();
            assert_eq!(whole.message, wanted);
            assert_eq!(whole.kind, ErrorKind::NotFinite);
            assert!(whole.path.unwrap().ends_with("model.safetensors"));
            let band = weights.band(name, 1..4, Vec::new()).unwrap_err();
            assert_eq!(band.message, wanted);
            assert!(weights.rows(name, 0..2).is_ok());
            assert!(weights.rows("embed.table", 0..5).is_ok());
            let any = open_weights_of(folder.path(), Numbers::Any).unwrap();
            assert_eq!(any.rows(name, 0..4).unwrap().len(), 24);
        }
    }
}
