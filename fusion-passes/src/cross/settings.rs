//! What a cross fusion is told.

use jam_ir::{Diagnostic, Settings};

use crate::settings::Read;

/// Settings of a cross fusion.
#[derive(Clone, Copy, Debug)]
pub(super) struct CrossSettings {
    /// Layers from one exchange to the next; `None` for no exchange.
    pub(super) every: Option<u64>,
    /// Whether exchanges follow layers N-1, 2N-1, … and not 0, N, 2N, ….
    pub(super) at_last: bool,
    /// Whether an exchange may follow the last layer.
    pub(super) after_last: bool,
    /// Whose position table both towers read; `None` for each its own.
    pub(super) positions: Option<usize>,
    /// Whether both towers read one token table.
    pub(super) share_tokens: bool,
    /// Where rows of a shared token table come from.
    pub(super) rows: Rows,
    /// Whether the state that keys and values read is normalised.
    pub(super) kv_norm: bool,
    /// How logits come of both states.
    pub(super) head: Head,
    /// Whether cross blocks begin as identities (`start: parents`).
    pub(super) start_parents: bool,
}

/// Where rows of a shared table come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// Those of image tokens from the second parent, all others from the first.
    Kinds,
    /// All from one parent.
    Of(usize),
    /// The mean of both.
    Mean,
}

/// How logits come of both states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    /// Concatenate, linear, norm.
    Joint,
    /// Norm each, concatenate, linear.
    Towers,
    /// Text rows from the first tower, image rows from the second.
    Rows,
}

impl CrossSettings {
    pub(super) fn read(settings: &Settings) -> Result<CrossSettings, Vec<Diagnostic>> {
        let read = Read(settings);
        Ok(CrossSettings {
            every: read.count("every")?,
            at_last: read.word("at")? == "last",
            after_last: read.flag("after_last")?,
            positions: match read.word("positions")? {
                "first" => Some(0),
                "own" => None,
                _ => Some(1),
            },
            share_tokens: read.word("tokens")? == "shared",
            rows: match read.word("rows")? {
                "first" => Rows::Of(0),
                "second" => Rows::Of(1),
                "mean" => Rows::Mean,
                _ => Rows::Kinds,
            },
            kv_norm: read.flag("kv_norm")?,
            head: match read.word("head")? {
                "towers" => Head::Towers,
                "rows" => Head::Rows,
                _ => Head::Joint,
            },
            start_parents: read.word("start")? == "parents",
        })
    }
}
