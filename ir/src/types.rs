//! Element types, and the types of values and weights.

use serde::{Deserialize, Serialize};

use crate::AxisId;

/// Element type of a value or a stored weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    BF16,
    /// Unsigned 32-bit integer: token ids.
    U32,
}

impl DType {
    /// Every element type, in declaration order.
    pub const ALL: [DType; 4] = [DType::F32, DType::F16, DType::BF16, DType::U32];

    /// Bytes of one element.
    pub fn bytes(self) -> u64 {
        match self {
            DType::F32 | DType::U32 => 4,
            DType::F16 | DType::BF16 => 2,
        }
    }

    /// The word of the text form.
    pub fn word(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::U32 => "u32",
        }
    }

    /// The type that `word` names.
    pub fn from_word(word: &str) -> Option<DType> {
        DType::ALL.into_iter().find(|dtype| dtype.word() == word)
    }

    /// True for the three float types.
    pub fn is_float(self) -> bool {
        self != DType::U32
    }
}

/// Type of a value: `bf16[b, t, head, key]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueType {
    /// Element type.
    pub dtype: DType,
    /// Axes, outermost first.
    pub axes: Vec<AxisId>,
}

/// Type of a weight by its sides: `bf16[width -> head, key]`.
///
/// A weight is stored row-major over `input` and then `output`; a weight without an input side
/// (a gain, a bias) is `bf16[width]`. A token table is `[vocab -> width]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightType {
    /// Stored element type.
    pub dtype: DType,
    /// Axes that are summed over, or looked up; empty for gains and biases.
    pub input: Vec<AxisId>,
    /// Axes that are produced.
    pub output: Vec<AxisId>,
}

impl WeightType {
    /// All axes in storage order: input side, then output side.
    pub fn axes(&self) -> impl Iterator<Item = AxisId> + '_ {
        self.input.iter().chain(&self.output).copied()
    }
}
