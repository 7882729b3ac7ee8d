//! Named axes: what a size means, so that a strategy is a rule per axis and never per tensor name.

use serde::{Deserialize, Serialize};

/// Index of an [`Axis`] in its model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AxisId(pub u32);

/// One named axis of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Axis {
    /// Unique in its model; what the text form prints.
    pub name: String,
    /// Number of entries; `None` for batch and time, which are known only at run time.
    pub size: Option<u64>,
    /// What the entries are.
    pub role: Role,
}

/// What the entries of an axis are. Strategies are rules over roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Sequences of a batch; size unknown until run time.
    Batch,
    /// Positions of a sequence; size unknown until run time.
    Time,
    /// Features of the residual stream ("hidden size" in Hugging Face terms).
    Width,
    /// Query heads.
    Heads,
    /// Key/value heads; divides the number of query heads.
    KvHeads,
    /// Features of one head.
    HeadDim,
    /// Features between the matrices of a feed-forward part ("intermediate size").
    Hidden,
    /// Rows of a token table.
    Vocab,
    /// Rows of a learned position table.
    Positions,
    /// Any other feature axis (a projection of the embedding, a joint state of two towers).
    Inner,
}

impl Role {
    /// Every role, in declaration order.
    pub const ALL: [Role; 10] = [
        Role::Batch,
        Role::Time,
        Role::Width,
        Role::Heads,
        Role::KvHeads,
        Role::HeadDim,
        Role::Hidden,
        Role::Vocab,
        Role::Positions,
        Role::Inner,
    ];

    /// The word of the text form.
    pub fn word(self) -> &'static str {
        match self {
            Role::Batch => "batch",
            Role::Time => "time",
            Role::Width => "width",
            Role::Heads => "heads",
            Role::KvHeads => "kv_heads",
            Role::HeadDim => "head_dim",
            Role::Hidden => "hidden",
            Role::Vocab => "vocab",
            Role::Positions => "positions",
            Role::Inner => "inner",
        }
    }

    /// The role that `word` names.
    pub fn from_word(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.word() == word)
    }

    /// True for batch and time, whose size is known only at run time.
    pub fn is_symbolic(self) -> bool {
        matches!(self, Role::Batch | Role::Time)
    }
}
