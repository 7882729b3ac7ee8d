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
            Dtype::F16 => words(bytes, half::f16::from_le_bytes)
                .map(half::f16::to_f32)
                .collect(),
            Dtype::BF16 => words(bytes, half::bf16::from_le_bytes)
                .map(half::bf16::to_f32)
                .collect(),
            _ => return None,
        })
    }

    /// `f32` to little-endian bytes, rounded to the nearest (ties to even). `None` for integers.
    pub fn from_f32(self, values: &[f32]) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(values.len() * self.size() as usize);
        match self {
            Dtype::F32 => values.iter().for_each(|x| bytes.extend(x.to_le_bytes())),
            Dtype::F64 => {
                for &x in values {
                    bytes.extend(f64::from(x).to_le_bytes());
                }
            }
            Dtype::F16 => {
                for &x in values {
                    bytes.extend(half::f16::from_f32(x).to_le_bytes());
                }
            }
            Dtype::BF16 => {
                for &x in values {
                    bytes.extend(half::bf16::from_f32(x).to_le_bytes());
                }
            }
            _ => return None,
        }
        Some(bytes)
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
