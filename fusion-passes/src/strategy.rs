//! What a strategy is, and what it is given and gives.

use jam_ir::{Diagnostic, Model, Settings, Span, StrategySignature};

/// A model that is fused, as the program names it.
#[derive(Clone, Debug)]
pub struct Parent<'m> {
    /// Its graph.
    pub model: &'m Model,
    /// Printed [`ModelRef`](jam_ir::ModelRef) that its weights are loaded from: `llm`,
    /// `tune.best`.
    pub source: String,
    /// Where the fusion names it.
    pub span: Option<Span>,
}

/// A fused model, and what is worth knowing about how it came to be.
#[derive(Clone, Debug, PartialEq)]
pub struct Fused {
    /// The graph and the weight plan.
    pub model: Model,
    /// Notes: what was averaged, kept apart or cut short.
    pub notes: Vec<Diagnostic>,
}

/// A way to make one model of several.
pub trait Strategy: Sync {
    /// What the language may ask of it.
    fn signature(&self) -> StrategySignature;

    /// Fuses verified parents into a model called `name`; those given by a label stand at the places
    /// that their settings say. Settings are complete and of the kinds
    /// of the signature; [`fuse`](crate::fuse) sees to both.
    ///
    /// # Errors
    /// Every reason why the parents do not fit, each pointing at the parents it is about.
    fn fuse(
        &self,
        name: &str,
        parents: &[Parent<'_>],
        settings: &Settings,
    ) -> Result<Fused, Vec<Diagnostic>>;
}
