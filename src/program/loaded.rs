//! What has been read of a program, and for what.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use indexmap::IndexMap;
use jam_ir::{Model, Program};

/// A program without errors.
pub(crate) struct Loaded {
    pub(crate) program: Program,
    /// The graph behind every model, fusion and training.
    pub(crate) models: IndexMap<String, Arc<Model>>,
    /// Text of the main file, with that of the files it uses behind it.
    pub(crate) source: String,
    /// The main file, as it was given.
    pub(crate) file: PathBuf,
    /// Where relative paths of the program start.
    pub(crate) folder: PathBuf,
    /// Where results go.
    pub(crate) out: PathBuf,
    /// Where the program says a setting: `train tune.optimizer` in `drawing.jam:45`.
    pub(crate) places: BTreeMap<String, String>,
}

/// What a program is read for: how much of what `jamc run` would refuse is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Its models are shown or used: what is wrong with a report is of no matter.
    Look,
    /// Its steps are carried out.
    Make,
    /// It is checked: its data are looked at too, and notes on it are told.
    Check,
}
