//! What becomes of a weight when its axes are widened: a rule that follows from its type.
//!
//! The paper writes matrices with outputs as rows, `[[W_llm, W_llm], [W_img, W_img]]`; a weight here is
//! stored `[input, output]`, so that the same grid stands transposed: outputs are the columns.
//!
//! ```text
//!                     copy       average        zero
//!   first's inputs    [A  B]     [A     B   ]   [A  0]     A, B: the parents' matrices,
//!   second's inputs   [A  B]     [mean  mean]   [0  B]     columns: first's and second's outputs
//! ```

use jam_ir::{Model, Plan, WeightType};

use super::WIDENED;

/// What stands in the blocks of a grid that are not on its diagonal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OffDiagonal {
    /// The parent of the outputs (eq. 2).
    Copy,
    /// The mean of both for every input of the second half (eq. 3).
    Average,
    /// Zeros: each half keeps to itself.
    Zero,
}

/// The rule for a weight. Axes are counted in storage order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Both sides are widened.
    Grid {
        /// The widened axis of the input side.
        rows: usize,
        /// The widened axis of the output side.
        columns: usize,
    },
    /// One side is widened, on this axis.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// Neither side is widened.
    Mean,
}

impl Rule {
    /// The rule for weights of a type.
    ///
    /// # Errors
    /// Why there is none: a side with two axes that are widened.
    pub(super) fn of(model: &Model, ty: &WeightType) -> Result<Rule, String> {
        let side = |axes: &[jam_ir::AxisId], before: usize| {
            let widened = axes.iter().enumerate();
            let mut widened =
                widened.filter(|(_, axis)| WIDENED.contains(&model.axis(**axis).role));
            match (widened.next(), widened.next()) {
                (Some(_), Some(_)) => {
                    Err("has two axes on one side that would both be widened".to_owned())
                }
                (found, _) => Ok(found.map(|(index, _)| before + index)),
            }
        };
        let rows = side(&ty.input, 0)?;
        let columns = side(&ty.output, ty.input.len())?;
        Ok(match (rows, columns) {
            (Some(rows), Some(columns)) => Rule::Grid { rows, columns },
            (Some(axis), None) | (None, Some(axis)) => Rule::Concat { axis },
            (None, None) => Rule::Mean,
        })
    }

    /// The plan for the first parent's weight `a` and the second's `b`.
    pub(super) fn plan(self, a: Plan, b: Plan, off_diagonal: OffDiagonal) -> Plan {
        let mean = |a: Plan, b: Plan| Plan::Sum(vec![(0.5, a), (0.5, b)]);
        match self {
            Rule::Grid { rows, columns } => {
                let second = match off_diagonal {
                    OffDiagonal::Copy => vec![a.clone(), b.clone()],
                    OffDiagonal::Average => {
                        let mean = mean(a.clone(), b.clone());
                        vec![mean.clone(), mean]
                    }
                    OffDiagonal::Zero => vec![Plan::Zeros, b.clone()],
                };
                let first = match off_diagonal {
                    OffDiagonal::Zero => vec![a, Plan::Zeros],
                    OffDiagonal::Copy | OffDiagonal::Average => vec![a, b],
                };
                Plan::Grid {
                    row_axis: rows,
                    column_axis: columns,
                    rows: vec![first, second],
                }
            }
            Rule::Concat { axis } => Plan::Concat {
                axis,
                parts: vec![a, b],
            },
            Rule::Mean => mean(a, b),
        }
    }
}
