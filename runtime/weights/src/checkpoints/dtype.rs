//! The number formats a tensor file may hold, and their conversion to and from `f32`.

use std::fmt;

/// The stored format of a tensor's elements, named as the safetensors format names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dtype {
    /// `BOOL`, one byte each.
    Bool,
    /// `U8`.
    U8,
    /// `I8`.
    I8,
    /// `I16`.
    I16,
    /// `U16`.
    U16,
    /// `I32`.
    I32,
    /// `U32`.
    U32,
    /// `I64`.
    I64,
    /// `U64`.
    U64,
    /// `F16`, IEEE half precision.
    F16,
    /// `BF16`, the upper half of an f32.
    BF16,
    /// `F32`.
    F32,
    /// `F64`.
    F64,
}

/// The stored type of a weight.
impl From<jam_ir::DType> for Dtype {
    fn from(dtype: jam_ir::DType) -> Dtype {
        match dtype {
            jam_ir::DType::F32 => Dtype::F32,
            jam_ir::DType::F16 => Dtype::F16,
            jam_ir::DType::BF16 => Dtype::BF16,
            jam_ir::DType::U32 => Dtype::U32,
        }
    }
}

impl Dtype {
    /// Every format, for messages and searches.
    pub const ALL: [Dtype; 13] = [
        Dtype::Bool,
        Dtype::U8,
        Dtype::I8,
        Dtype::I16,
        Dtype::U16,
        Dtype::I32,
        Dtype::U32,
        Dtype::I64,
        Dtype::U64,
        Dtype::F16,
        Dtype::BF16,
        Dtype::F32,
        Dtype::F64,
    ];

    /// The name in a safetensors header: `F32`, `BF16`, ….
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::Bool => "BOOL",
            Dtype::U8 => "U8",
            Dtype::I8 => "I8",
            Dtype::I16 => "I16",
            Dtype::U16 => "U16",
            Dtype::I32 => "I32",
            Dtype::U32 => "U32",
            Dtype::I64 => "I64",
            Dtype::U64 => "U64",
            Dtype::F16 => "F16",
            Dtype::BF16 => "BF16",
            Dtype::F32 => "F32",
            Dtype::F64 => "F64",
        }
    }

    /// The format with this safetensors name, if this program knows it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dtype| dtype.name() == name)
    }

    /// What a format of quantised numbers is, of those that safetensors files have and that are not read.
    pub(super) fn quantised(name: &str) -> Option<&'static str> {
        let known = [
            ("F8_E4M3", "floats of 8 bits"),
            ("F8_E4M3FNUZ", "floats of 8 bits"),
            ("F8_E5M2", "floats of 8 bits"),
            ("F8_E5M2FNUZ", "floats of 8 bits"),
            ("F8_E8M0", "scales of 8 bits"),
            ("F6_E2M3", "floats of 6 bits"),
            ("F6_E3M2", "floats of 6 bits"),
            ("F4", "floats of 4 bits"),
            ("F4_E2M1", "floats of 4 bits"),
            ("I4", "whole numbers of 4 bits"),
            ("U4", "whole numbers of 4 bits"),
        ];
        let found = known.iter().find(|(known, _)| *known == name);
        found.map(|(_, what)| *what)
    }

    /// Bytes of one element.
    pub const fn size(self) -> u64 {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::I16 | Dtype::U16 | Dtype::F16 | Dtype::BF16 => 2,
            Dtype::I32 | Dtype::U32 | Dtype::F32 => 4,
            Dtype::I64 | Dtype::U64 | Dtype::F64 => 8,
        }
    }

    /// True for the formats of weights: the ones [`Dtype::to_f32`] reads.
    pub const fn is_float(self) -> bool {
        matches!(self, Dtype::F16 | Dtype::BF16 | Dtype::F32 | Dtype::F64)
    }

    /// True for whole numbers and truth values: the ones [`Dtype::to_i64`] reads.
    pub const fn is_integer(self) -> bool {
        !self.is_float()
    }

    /// Little-endian bytes to `f32` (exact but for `F64`, which is rounded to the nearest).
    /// `None` for integers, and when the bytes are not a whole number of elements.
    pub fn to_f32(self, bytes: &[u8]) -> Option<Vec<f32>> {
        if !(bytes.len() as u64).is_multiple_of(self.size()) {
            return None;
        }
        Some(match self {
            Dtype::F32 => words(bytes, f32::from_le_bytes).collect(),
            Dtype::F64 => words(bytes, f64::from_le_bytes).map(|x| x as f32).collect(),
            Dtype::F16 => words(bytes, f16_word).collect(),
            Dtype::BF16 => words(bytes, bf16_word).collect(),
            _ => return None,
        })
    }

    /// `f32` to little-endian bytes, rounded to the nearest (ties to even). `None` for integers.
    pub fn from_f32(self, values: &[f32]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(values.len() * self.size() as usize);
        self.extend_from_f32(&mut bytes, values).then_some(bytes)
    }

    /// Adds `f32` as little-endian bytes, rounded to the nearest (ties to even), to the end of
    /// `bytes`. False, and nothing is added, for integers.
    pub fn extend_from_f32(self, bytes: &mut Vec<u8>, values: &[f32]) -> bool {
        fn extend<const N: usize>(bytes: &mut Vec<u8>, values: &[f32], word: fn(f32) -> [u8; N]) {
            let start = bytes.len();
            bytes.resize(start + values.len() * N, 0);
            let (words, _) = bytes[start..].as_chunks_mut::<N>();
            for (place, x) in words.iter_mut().zip(values) {
                *place = word(*x);
            }
        }
        match self {
            Dtype::F32 => extend(bytes, values, f32::to_le_bytes),
            Dtype::F64 => extend(bytes, values, |x| f64::from(x).to_le_bytes()),
            Dtype::F16 => extend(bytes, values, |x| half::f16::from_f32(x).to_le_bytes()),
            Dtype::BF16 => extend(bytes, values, |x| bf16_bits(x).to_le_bytes()),
            _ => return false,
        }
        true
    }

    /// Little-endian bytes to `i64`. `None` for floats, for a `U64` beyond `i64::MAX`, and when the
    /// bytes are not a whole number of elements.
    pub fn to_i64(self, bytes: &[u8]) -> Option<Vec<i64>> {
        if !(bytes.len() as u64).is_multiple_of(self.size()) {
            return None;
        }
        Some(match self {
            Dtype::Bool => bytes.iter().map(|&x| i64::from(x != 0)).collect(),
            Dtype::U8 => bytes.iter().map(|&x| i64::from(x)).collect(),
            Dtype::I8 => bytes.iter().map(|&x| i64::from(x as i8)).collect(),
            Dtype::I16 => words(bytes, i16::from_le_bytes).map(i64::from).collect(),
            Dtype::U16 => words(bytes, u16::from_le_bytes).map(i64::from).collect(),
            Dtype::I32 => words(bytes, i32::from_le_bytes).map(i64::from).collect(),
            Dtype::U32 => words(bytes, u32::from_le_bytes).map(i64::from).collect(),
            Dtype::I64 => words(bytes, i64::from_le_bytes).collect(),
            Dtype::U64 => words(bytes, u64::from_le_bytes)
                .map(|x| i64::try_from(x).ok())
                .collect::<Option<Vec<i64>>>()?,
            _ => return None,
        })
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The elements of `bytes`, `N` bytes each; a rest shorter than `N` is left out.
fn words<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> impl Iterator<Item = T> {
    bytes.as_chunks::<N>().0.iter().map(move |word| read(*word))
}

fn f16_word(word: [u8; 2]) -> f32 {
    half::f16::from_le_bytes(word).to_f32()
}

/// A bf16 is the upper half of an f32: no branch, so that loops over it vectorise.
fn bf16_word(word: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(word)) << 16)
}

/// The nearest bf16, ties to even; a NaN stays one. As [`half::bf16::from_f32`], in a form that
/// vectorises.
fn bf16_bits(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16;
    let quiet = (bits >> 16) as u16 | 0x40;
    if x.is_nan() { quiet } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back() {
        for dtype in Dtype::ALL {
            assert_eq!(Dtype::from_name(dtype.name()), Some(dtype));
        }
        assert_eq!(Dtype::from_name("F4"), None);
    }

    #[test]
    fn floats_round_to_nearest_even_and_back() {
        let values = [0.0f32, -1.5, 2.71, 65504.0, 1.0e-8, f32::INFINITY];
        for dtype in [Dtype::F32, Dtype::F64] {
            let bytes = dtype.from_f32(&values).unwrap();
            assert_eq!(dtype.to_f32(&bytes).unwrap(), values);
        }
        // 1 + 2^-8 lies halfway between two bf16 numbers: the even one is 1.
        let bytes = Dtype::BF16
            .from_f32(&[1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0])
            .unwrap();
        assert_eq!(
            Dtype::BF16.to_f32(&bytes).unwrap(),
            [1.0, 1.0 + 4.0 / 256.0]
        );
        let bytes = Dtype::F16.from_f32(&[1.0 + 1.0 / 2048.0]).unwrap();
        assert_eq!(Dtype::F16.to_f32(&bytes).unwrap(), [1.0]);
        assert_eq!(Dtype::I64.to_f32(&[0; 8]), None);
        assert_eq!(Dtype::F32.to_f32(&[0; 7]), None);
    }

    #[test]
    fn bf16_is_that_of_the_half_crate() {
        for high in 0..=u16::MAX {
            for low in [0u32, 1, 0x7fff, 0x8000, 0x8001, 0xffff] {
                let x = f32::from_bits(u32::from(high) << 16 | low);
                assert_eq!(bf16_bits(x), half::bf16::from_f32(x).to_bits(), "{x:e}");
            }
            let word = high.to_le_bytes();
            let exact = half::bf16::from_le_bytes(word).to_f32();
            let found = bf16_word(word);
            assert!(found == exact || found.is_nan() && exact.is_nan());
        }
    }

    #[test]
    fn integers_keep_their_sign() {
        assert_eq!(Dtype::I8.to_i64(&[0xff]).unwrap(), [-1]);
        assert_eq!(Dtype::U8.to_i64(&[0xff]).unwrap(), [255]);
        assert_eq!(Dtype::I32.to_i64(&(-7i32).to_le_bytes()).unwrap(), [-7]);
        assert_eq!(
            Dtype::I64.to_i64(&i64::MIN.to_le_bytes()).unwrap(),
            [i64::MIN]
        );
        assert_eq!(Dtype::U64.to_i64(&u64::MAX.to_le_bytes()), None);
    }
}
