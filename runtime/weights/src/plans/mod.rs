//! Weight plans carried out on the host, by rows of the first axis, so that memory stays bounded
//! whatever the size of a tensor.
//!
//! Arithmetic is f32. Fresh numbers are drawn from a stream of their own for every row, seeded by
//! the program's seed, the weight's name and the place in its plan: the same bits come out whatever
//! the order, the number of threads and the size of the blocks of rows. Plans that need something of
//! whole tensors measure it in a pass of its own, by blocks as well ([`Measures`]); weights that are stored as
//! one tensor are measured as one ([`Group`]).

mod bands;
mod buffers;
mod fresh;
mod group;
mod merging;
mod row_bytes;
mod rows;
mod shape;
mod stream;
mod weights;

#[cfg(test)]
mod tests;

pub(crate) use fresh::normal_draws;
pub use group::{Group, groups};
pub use merging::Measures;
pub use rows::PlanRows;
pub use shape::plan_shape;
pub use stream::{Limits, WeightStream};
pub use weights::weight_shapes;

use crate::checkpoints::WeightSource;
use crate::{Error, Result};

/// The models that plans read from, by the name in their `load`s.
pub trait PlanSources: Sync {
    /// The source of this name.
    ///
    /// # Errors
    /// When there is none, or it cannot be opened.
    fn source(&self, name: &str) -> Result<&dyn WeightSource>;
}

/// No sources: enough for fresh models.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSources;

impl PlanSources for NoSources {
    fn source(&self, name: &str) -> Result<&dyn WeightSource> {
        Err(Error::new(format!("a fresh model loads from `{name}`")))
    }
}

impl PlanSources for indexmap::IndexMap<String, Box<dyn WeightSource>> {
    fn source(&self, name: &str) -> Result<&dyn WeightSource> {
        let found = self.get(name).map(|source| &**source);
        found.ok_or_else(|| Error::new(format!("`{name}` has no weights to load")))
    }
}
