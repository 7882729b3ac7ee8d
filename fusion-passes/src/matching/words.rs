//! Kinds of differences between parents, and what their reports call things.

use jam_ir::{Norm, Op, ParamId, Role};

/// Kinds of differences: those that others may follow from come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// What is computed.
    Structure,
    /// Whose weights the head reads.
    Head,
    Layers,
    /// Sizes that fusions of models of unlike sizes take.
    Width,
    Heads,
    Size,
    /// Other sizes.
    Fixed,
    /// Constants, and weights that one has.
    Detail,
}

impl Cause {
    pub(super) fn of_size(role: Role) -> Cause {
        match role {
            Role::Width => Cause::Width,
            Role::Heads | Role::KvHeads => Cause::Heads,
            Role::Hidden | Role::Inner => Cause::Size,
            Role::HeadDim | Role::Vocab | Role::Positions | Role::Batch | Role::Time => {
                Cause::Fixed
            }
        }
    }

    /// Whether models that differ so are fused by widening.
    pub(super) fn can_widen(self) -> bool {
        matches!(self, Cause::Width | Cause::Heads | Cause::Size)
    }
}

/// The parts of a norm's axis in a report.
pub(super) fn parts_text(norm: &Norm) -> String {
    match norm.parts.is_empty() {
        true => "none".to_owned(),
        false => format!("{:?}", norm.parts),
    }
}

/// The parameters of an operation by what they are to it; optional ones are there as `None`.
pub(super) fn roles_of_params(op: &Op) -> Vec<(&'static str, Option<ParamId>)> {
    match op {
        Op::Embed { table, .. } | Op::Positions { table, .. } | Op::Unembed { table, .. } => {
            vec![("table", Some(*table))]
        }
        Op::Linear { weight, bias, .. } => vec![("weight", Some(*weight)), ("bias", *bias)],
        Op::LayerNorm { gain, bias, .. } => vec![("gain", *gain), ("bias", *bias)],
        Op::RmsNorm { gain, .. } => vec![("gain", *gain)],
        Op::Rotary { .. }
        | Op::Attention { .. }
        | Op::Activation { .. }
        | Op::Add { .. }
        | Op::Mul { .. }
        | Op::Scale { .. }
        | Op::Concat { .. }
        | Op::Slice { .. }
        | Op::ChooseRows { .. }
        | Op::MaskRows { .. }
        | Op::Cast { .. }
        | Op::Call { .. } => Vec::new(),
    }
}

/// What an operation is called in a report.
pub(super) fn phrase(op: &Op) -> &'static str {
    match op {
        Op::Linear { .. } => "a linear map",
        Op::LayerNorm { .. } => "a layer norm",
        Op::RmsNorm { .. } => "an RMS norm",
        Op::Embed { .. } | Op::Positions { .. } | Op::Unembed { .. } => "a table",
        other => other.word(),
    }
}

/// What the size of an axis is called in a report.
pub(crate) fn axis_phrase(role: Role, name: &str) -> String {
    match role {
        Role::Width => "the width".to_owned(),
        Role::Heads => "the number of heads".to_owned(),
        Role::KvHeads => "the number of key/value heads".to_owned(),
        Role::HeadDim => "the size of a head".to_owned(),
        Role::Hidden => "the hidden size".to_owned(),
        Role::Vocab => "the size of the vocabulary".to_owned(),
        Role::Positions => "the number of positions".to_owned(),
        Role::Batch | Role::Time | Role::Inner => format!("the size of axis `{name}`"),
    }
}
