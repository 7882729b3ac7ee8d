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
    /// Runs of entries along an axis, one after the other: as slices of one tensor put together. A
    /// table by the tokens of another vocabulary has thousands of runs.
    Take {
        /// The axis.
        axis: usize,
        /// First entry and number of entries of each run.
        runs: Vec<(u64, u64)>,
        /// What they are taken from.
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
    /// The way from one tensor to another along the arc between them (Shoemake, 1985): each is one
    /// vector of all its entries, Ω the angle between the two, and the result
    /// sin((1 − t)Ω)/sin Ω · from + sin(tΩ)/sin Ω · to.
    Slerp {
        /// How far: 0 is `from`, 1 is `to`.
        t: f64,
        /// Where |cos Ω| is above this, and where an end is zero, there is hardly an arc: the way is
        /// straight for the former, (1 − t) · from + t · to, and Ω a right angle for the latter.
        straight: f64,
        /// Where it starts.
        from: Box<Plan>,
        /// Where it ends.
        to: Box<Plan>,
    },
    /// The point between a tensor and the mean of N others that lies nearest to the centre of their
    /// distribution (Model Stock, Jang et al., 2024, arXiv 2403.19522, eq. 5):
    /// r · mean + (1 − r) · base, r = N cos θ / (1 + (N − 1) cos θ), cos θ the mean of the cosines
    /// between the pairs of differences to `base`, each difference one vector.
    Stock {
        /// The tensor that the others were tuned from.
        base: Box<Plan>,
        /// The others, two at least.
        of: Vec<Plan>,
    },
    /// The largest entries, by magnitude, of a tensor of n entries: ⌊density · n⌋ of them, zeros
    /// elsewhere (TIES, Yadav et al., 2023, arXiv 2306.01708, step 1). Among equals the first stay.
    Trim {
        /// Share of the entries that stay.
        density: f64,
        /// Whether the rest is scaled to the sum of magnitudes that the whole had.
        rescale: bool,
        /// What is trimmed.
        of: Box<Plan>,
    },
    /// A tensor times a mask of zeros and ones (DARE, Yu et al., 2023, arXiv 2311.03099).
    Keep {
        /// Whether the rest is scaled to the sum of magnitudes that the whole had.
        rescale: bool,
        /// The mask.
        mask: Box<Plan>,
        /// What is masked.
        of: Box<Plan>,
    },
    /// Σ weight · term over the terms that agree with the majority, entry by entry: the majority has
    /// the sign of Σ weight · term of all terms, plus where that is zero (TIES, steps 2 and 3).
    Elect {
        /// Whether it is divided by the sum of the weights that agree, where that is not zero.
        mean: bool,
        /// Weights and tensors of one shape.
        terms: Vec<(f64, Plan)>,
    },
    /// Independent draws, one with probability `p` and else zero, seeded by the program and the
    /// weight's name.
    Bernoulli {
        /// Probability of a one.
        p: f64,
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

    /// The plans that it is made of, in order.
    pub fn operands(&self) -> Vec<&Plan> {
        match self {
            Plan::Sum(terms) | Plan::Elect { terms, .. } => {
                terms.iter().map(|(_, plan)| plan).collect()
            }
            Plan::Grid { rows, .. } => rows.iter().flatten().collect(),
            Plan::Concat { parts: plans, .. } | Plan::Rows { sources: plans, .. } => {
                plans.iter().collect()
            }
            Plan::Slerp { from, to, .. } => vec![from, to],
            Plan::Stock { base, of } => [&**base].into_iter().chain(of).collect(),
            Plan::Keep { mask, of, .. } => vec![mask, of],
            Plan::Slice { of, .. }
            | Plan::Take { of, .. }
            | Plan::Permute { of, .. }
            | Plan::Scale { of, .. }
            | Plan::Cast { of, .. }
            | Plan::Trim { of, .. } => vec![of],
            Plan::Load { .. }
            | Plan::Bernoulli { .. }
            | Plan::Normal { .. }
            | Plan::TruncatedNormal { .. }
            | Plan::Zeros
            | Plan::Ones
            | Plan::Identity => Vec::new(),
        }
    }

    /// As [`Plan::operands`], to be changed.
    pub fn operands_mut(&mut self) -> Vec<&mut Plan> {
        match self {
            Plan::Sum(terms) | Plan::Elect { terms, .. } => {
                terms.iter_mut().map(|(_, plan)| plan).collect()
            }
            Plan::Grid { rows, .. } => rows.iter_mut().flatten().collect(),
            Plan::Concat { parts: plans, .. } | Plan::Rows { sources: plans, .. } => {
                plans.iter_mut().collect()
            }
            Plan::Slerp { from, to, .. } => vec![from, to],
            Plan::Stock { base, of } => [&mut **base].into_iter().chain(of).collect(),
            Plan::Keep { mask, of, .. } => vec![mask, of],
            Plan::Slice { of, .. }
            | Plan::Take { of, .. }
            | Plan::Permute { of, .. }
            | Plan::Scale { of, .. }
            | Plan::Cast { of, .. }
            | Plan::Trim { of, .. } => vec![of],
            Plan::Load { .. }
            | Plan::Bernoulli { .. }
            | Plan::Normal { .. }
            | Plan::TruncatedNormal { .. }
            | Plan::Zeros
            | Plan::Ones
            | Plan::Identity => Vec::new(),
        }
    }

    /// Visits every plan in it, itself first.
    pub fn for_each(&self, visit: &mut impl FnMut(&Plan)) {
        visit(self);
        for plan in self.operands() {
            plan.for_each(visit);
        }
    }

    /// Visits every plan in it, itself first, to be changed.
    pub fn for_each_mut(&mut self, visit: &mut impl FnMut(&mut Plan)) {
        visit(self);
        for plan in self.operands_mut() {
            plan.for_each_mut(visit);
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
