//! Random plans of a given shape.

use std::collections::BTreeMap;

use super::Choices;
use jam_ir::{DType, Plan};

/// Deepest nesting of a generated plan.
const DEPTH: usize = 5;

/// A plan for a weight of this name and shape; the tensors it loads are added to `sources`.
pub(super) fn plan(
    choices: &mut Choices<'_>,
    name: &str,
    shape: &[u64],
    sources: &mut BTreeMap<(String, String), Vec<u64>>,
) -> Plan {
    let mut maker = Maker {
        choices,
        name,
        sources,
    };
    maker.plan(shape, 0, false)
}

/// A plan that loads nothing, for a parameter of this shape.
pub(super) fn fresh(choices: &mut Choices<'_>, shape: &[u64]) -> Plan {
    let leaf = fresh_leaf(choices, shape);
    match choices.below(6) {
        5 => Plan::Scale {
            by: choices.factor(),
            of: Box::new(leaf),
        },
        _ => leaf,
    }
}

fn fresh_leaf(choices: &mut Choices<'_>, shape: &[u64]) -> Plan {
    let square = matches!(shape, [rows, columns] if rows == columns);
    match choices.below(6) {
        0 => Plan::Normal {
            sd: choices.factor().abs(),
        },
        1 => Plan::TruncatedNormal {
            sd: choices.factor().abs(),
            cut: choices.factor().abs(),
        },
        2 => Plan::Zeros,
        3 if square => Plan::Identity,
        4 => Plan::Bernoulli { p: choices.share() },
        _ => Plan::Ones,
    }
}

struct Maker<'m, 'b> {
    choices: &'m mut Choices<'b>,
    name: &'m str,
    sources: &'m mut BTreeMap<(String, String), Vec<u64>>,
}

impl Maker<'_, '_> {
    /// A plan of `shape`. One that is `sized` must tell its shape by itself.
    fn plan(&mut self, shape: &[u64], depth: usize, sized: bool) -> Plan {
        // Parts of plans of parts grow fast: most are leaves.
        if depth >= DEPTH || !self.choices.chance(55) {
            return self.leaf(shape, sized);
        }
        let depth = depth + 1;
        let axis = self.choices.below(shape.len());
        match self.choices.below(10) {
            0 => {
                let count = 1 + self.choices.below(3);
                let terms = (0..count).map(|index| {
                    let weight = self.choices.factor();
                    (weight, self.plan(shape, depth, sized && index == 0))
                });
                Plan::Sum(terms.collect())
            }
            1 => Plan::Scale {
                by: self.choices.factor(),
                of: Box::new(self.plan(shape, depth, sized)),
            },
            2 => Plan::Cast {
                dtype: self.choices.pick(&[DType::F32, DType::F16, DType::BF16]),
                of: Box::new(self.plan(shape, depth, sized)),
            },
            3 => {
                let before = self.choices.below(3) as u64;
                let after = self.choices.below(3) as u64;
                let mut whole = shape.to_vec();
                whole[axis] += before + after;
                Plan::Slice {
                    axis,
                    start: before,
                    len: shape[axis],
                    of: Box::new(self.plan(&whole, depth, true)),
                }
            }
            4 => {
                let mut order: Vec<usize> = (0..shape.len()).collect();
                for index in (1..order.len()).rev() {
                    order.swap(index, self.choices.below(index + 1));
                }
                let mut operand = shape.to_vec();
                for (index, axis) in order.iter().enumerate() {
                    operand[*axis] = shape[index];
                }
                let of = Box::new(self.plan(&operand, depth, sized));
                Plan::Permute { order, of }
            }
            5 => {
                let lengths = self.split(shape[axis]);
                let last = lengths.len() - 1;
                let parts = lengths.iter().enumerate().map(|(index, len)| {
                    let mut part = shape.to_vec();
                    part[axis] = *len;
                    self.plan(&part, depth, sized || index < last)
                });
                let parts = parts.collect();
                Plan::Concat { axis, parts }
            }
            6 => {
                let count = 1 + self.choices.below(3);
                let lengths = self.split(shape[0]);
                let runs = lengths.into_iter();
                let runs = runs.map(|len| (len, self.choices.below(count))).collect();
                let sources = (0..count)
                    .map(|index| self.plan(shape, depth, sized && index == 0))
                    .collect();
                Plan::Rows { runs, sources }
            }
            7 => self.merge(shape, depth, sized),
            8 => {
                let mut whole = shape.to_vec();
                whole[axis] += self.choices.below(3) as u64;
                let size = whole[axis];
                let runs = self.split(shape[axis]).into_iter();
                let runs =
                    runs.map(|len| (self.choices.below((size - len + 1) as usize) as u64, len));
                Plan::Take {
                    axis,
                    runs: runs.collect(),
                    of: Box::new(self.plan(&whole, depth, true)),
                }
            }
            _ => self.grid(shape, depth),
        }
    }

    /// One of the operations of merging, over tensors of one shape.
    fn merge(&mut self, shape: &[u64], depth: usize, sized: bool) -> Plan {
        let which = self.choices.below(5);
        let mut boxed = |sized: bool| Box::new(self.plan(shape, depth, sized));
        match which {
            0 => {
                let (from, to) = (boxed(sized), boxed(false));
                Plan::Slerp {
                    t: self.choices.factor(),
                    straight: self.choices.pick(&[0.9995, 1.0]),
                    from,
                    to,
                }
            }
            1 => Plan::Stock {
                base: boxed(sized),
                of: (0..2 + self.choices.below(2))
                    .map(|_| self.plan(shape, depth, false))
                    .collect(),
            },
            2 => Plan::Trim {
                of: boxed(sized),
                density: self.choices.share(),
                rescale: self.choices.chance(50),
            },
            3 => Plan::Keep {
                mask: boxed(false),
                of: boxed(sized),
                rescale: self.choices.chance(50),
            },
            _ => {
                let count = 1 + self.choices.below(3);
                let terms = (0..count).map(|index| {
                    let weight = self.choices.factor();
                    (weight, self.plan(shape, depth, sized && index == 0))
                });
                let terms = terms.collect();
                let mean = self.choices.chance(50);
                Plan::Elect { mean, terms }
            }
        }
    }

    fn grid(&mut self, shape: &[u64], depth: usize) -> Plan {
        if shape.len() < 2 {
            return self.leaf(shape, true);
        }
        let row_axis = self.choices.below(shape.len());
        let column_axis = (row_axis + 1 + self.choices.below(shape.len() - 1)) % shape.len();
        let heights = self.split(shape[row_axis]);
        let widths = self.split(shape[column_axis]);
        let mut rows = Vec::new();
        for (row, height) in heights.iter().enumerate() {
            let blocks = widths.iter().enumerate().map(|(column, width)| {
                let mut block = shape.to_vec();
                block[row_axis] = *height;
                block[column_axis] = *width;
                // The first row and the first column tell the lines of the grid.
                self.plan(&block, depth, row == 0 || column == 0)
            });
            rows.push(blocks.collect());
        }
        Plan::Grid {
            row_axis,
            column_axis,
            rows,
        }
    }

    /// One to three lengths that make up `size`.
    fn split(&mut self, size: u64) -> Vec<u64> {
        let mut lengths = Vec::new();
        let mut rest = size;
        for _ in 0..self.choices.below(3) {
            if rest > 1 {
                let len = self.choices.size(1, (rest - 1).min(200));
                lengths.push(len);
                rest -= len;
            }
        }
        lengths.push(rest);
        lengths
    }

    fn leaf(&mut self, shape: &[u64], sized: bool) -> Plan {
        if !sized && self.choices.chance(40) {
            return fresh_leaf(self.choices, shape);
        }
        let source = self.choices.pick(&["llm", "cm3leon.best", "two words"]);
        let mut name = self.name.to_owned();
        let mut number = 0;
        // A tensor that is there with another shape is another tensor.
        loop {
            let key = (source.to_owned(), name.clone());
            if self.sources.entry(key).or_insert_with(|| shape.to_vec()) == shape {
                return Plan::load(source, name);
            }
            number += 1;
            name = format!("{}.{number}", self.name);
        }
    }
}
