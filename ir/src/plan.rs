//! Weight plans: where the numbers of a weight come from.
//!
//! A plan is a small expression over tensors of other models. It is executed on the host, by rows
//! of the first axis, so that memory stays bounded. Arithmetic is f32; the result is cast to the
//! stored type of the weight.

use serde::{Deserialize, Serialize};

use crate::DType;

/// Where the numbers of a weight come from. Shapes are those of the JAM layout (input side, then
/// output side); axes are counted from the outermost, 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Plan {
    /// A tensor of a source: a model, a fusion or a training run, as named in [`crate::ModelRef`].
    Load {
        /// Printed form of the [`crate::ModelRef`] it comes from.
        source: String,
        /// Full name of the weight there.
        name: String,
    },
    /// Σ weight · term, of tensors of one shape.
    Sum(Vec<(f64, Plan)>),
    /// A matrix of blocks: `rows[i][j]` stands at block row i along `row_axis` and block column j
    /// along `column_axis`; equal shapes along shared borders.
    Grid {
        /// Axis along which block rows follow one another.
        row_axis: usize,
        /// Axis along which block columns follow one another.
        column_axis: usize,
        /// Block rows of equal length.
        rows: Vec<Vec<Plan>>,
    },
    /// Tensors one after the other along an axis.
    Concat {
        /// The axis.
        axis: usize,
        /// The tensors.
        parts: Vec<Plan>,
    },
    /// A run of entries along an axis.
    Slice {
        /// The axis.
        axis: usize,
        /// First entry.
        start: u64,
        /// Number of entries.
        len: u64,
        /// What is cut.
        of: Box<Plan>,
    },
    /// Rows along the first axis chosen from several tensors of one shape: runs in order, each
    /// `(number of rows, index of the source)`; a run takes the rows at its own place.
    Rows {
        /// Runs that cover the first axis.
        runs: Vec<(u64, usize)>,
        /// The tensors.
        sources: Vec<Plan>,
    },
    /// Axes in another order: result axis i is axis `order[i]` of the operand.
    Permute {
        /// A permutation.
        order: Vec<usize>,
        /// What is permuted.
        of: Box<Plan>,
    },
    /// A tensor times a constant.
    Scale {
        /// The constant.
        by: f64,
        /// What is scaled.
        of: Box<Plan>,
    },
    /// Rounded to an element type and back.
    Cast {
        /// The type.
        dtype: DType,
        /// What is rounded.
        of: Box<Plan>,
    },
    /// Independent draws of N(0, sd²), seeded by the program and the weight's name.
    Normal {
        /// Standard deviation.
        sd: f64,
    },
    /// N(0, sd²) cut at `cut` standard deviations.
    TruncatedNormal {
        /// Standard deviation before the cut.
        sd: f64,
        /// Cut, in standard deviations.
        cut: f64,
    },
    /// Zeros.
    Zeros,
    /// Ones.
    Ones,
    /// Ones on the diagonal of a matrix `[n, n]`, zeros elsewhere.
    Identity,
}

impl Plan {
    /// A weight of a source.
    pub fn load(source: impl Into<String>, name: impl Into<String>) -> Plan {
        Plan::Load {
            source: source.into(),
            name: name.into(),
        }
    }

    /// Visits every plan in it, itself first.
    pub fn for_each(&self, visit: &mut impl FnMut(&Plan)) {
        visit(self);
        match self {
            Plan::Sum(terms) => terms.iter().for_each(|(_, plan)| plan.for_each(visit)),
            Plan::Grid { rows, .. } => rows.iter().flatten().for_each(|plan| plan.for_each(visit)),
            Plan::Concat { parts, .. } => parts.iter().for_each(|plan| plan.for_each(visit)),
            Plan::Rows { sources, .. } => sources.iter().for_each(|plan| plan.for_each(visit)),
            Plan::Slice { of, .. }
            | Plan::Permute { of, .. }
            | Plan::Scale { of, .. }
            | Plan::Cast { of, .. } => of.for_each(visit),
            Plan::Load { .. }
            | Plan::Normal { .. }
            | Plan::TruncatedNormal { .. }
            | Plan::Zeros
            | Plan::Ones
            | Plan::Identity => {}
        }
    }

    /// True when it reads no other model.
    pub fn is_fresh(&self) -> bool {
        let mut fresh = true;
        self.for_each(&mut |plan| fresh &= !matches!(plan, Plan::Load { .. }));
        fresh
    }

    /// The sources it reads, each once, in order of first use.
    pub fn sources(&self) -> Vec<String> {
        let mut sources: Vec<String> = Vec::new();
        self.for_each(&mut |plan| {
            if let Plan::Load { source, .. } = plan
                && !sources.contains(source)
            {
                sources.push(source.clone());
            }
        });
        sources
    }
}
