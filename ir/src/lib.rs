//! The intermediate representation: typed graphs with named axes, weight plans, recipes and diagnostics.

pub mod diagnostic;
pub mod span;
