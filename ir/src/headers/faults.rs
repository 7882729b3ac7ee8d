//! Faults of tensors by kind, so that one mistake is one report.

use indexmap::IndexMap;

use crate::{Diagnostic, Model, Param, Role, Span};

/// One kind of fault, and how many tensors have it.
pub(super) struct Fault {
    pub(super) first: String,
    pub(super) span: Option<Span>,
    pub(super) count: usize,
    /// Sizes that differ, where that is the fault.
    differs: Vec<Difference>,
}

/// A size that the model asks for, and another that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    /// Whether it is the width of the model, which most tensors have.
    pub(super) is_width: bool,
    pub(super) wanted: u64,
    pub(super) found: u64,
}

/// Faults by kind. Tensors whose sizes differ alike are of one kind, whatever they are called: a model with another
/// width is one mistake, and not one for each of its tensors.
#[derive(Default)]
pub(super) struct Faults(IndexMap<String, Fault>);

impl Faults {
    /// Adds a fault of a tensor; `key` tells its kind where no size differs.
    pub(super) fn add(
        &mut self,
        key: String,
        first: String,
        span: Option<Span>,
        differs: Vec<Difference>,
    ) {
        let width = differs.iter().find(|difference| difference.is_width);
        let key = match (width, differs.is_empty()) {
            (Some(width), _) => format!("{width:?}"),
            (None, false) => format!("{differs:?}"),
            (None, true) => key,
        };
        let fault = self.0.entry(key).or_insert(Fault {
            first,
            span,
            count: 0,
            differs,
        });
        fault.count += 1;
    }

    /// The kinds in their order. What differs in the ratio of a width that differs follows from it: a hidden width that
    /// is four times as large, the size of a key.
    pub(super) fn kinds(self) -> Vec<Fault> {
        let (mut kinds, mut others): (Vec<Fault>, Vec<Fault>) = (Vec::new(), Vec::new());
        for fault in self.0.into_values() {
            match fault.width() {
                Some(_) => kinds.push(fault),
                None => others.push(fault),
            }
        }
        for fault in others {
            let follows = |width: Difference| {
                let ratio = |it: &Difference| {
                    u128::from(it.wanted) * u128::from(width.found)
                        == u128::from(it.found) * u128::from(width.wanted)
                };
                !fault.differs.is_empty() && fault.differs.iter().all(ratio)
            };
            match kinds
                .iter_mut()
                .find(|kind| kind.width().is_some_and(follows))
            {
                Some(kind) => kind.count += fault.count,
                None => kinds.push(fault),
            }
        }
        kinds
    }
}

impl Fault {
    fn width(&self) -> Option<Difference> {
        self.differs.iter().find(|it| it.is_width).copied()
    }

    /// The report with what explains several tensors at once.
    pub(super) fn explained(&self, diagnostic: Diagnostic, source: &str) -> Diagnostic {
        match self.width().filter(|_| self.count > 1) {
            Some(Difference { wanted, found, .. }) => diagnostic.note(format!(
                "the width is {found} in `{source}`, and {wanted} in the model"
            )),
            None => diagnostic,
        }
    }
}

/// The sizes in which a stored shape differs from that of a weight, its sides folded or not; none where it has other
/// axes altogether, or is the same the other way about.
pub(super) fn differences(
    model: &Model,
    param: &Param,
    wanted: &[u64],
    found: &[u64],
) -> Vec<Difference> {
    if wanted.iter().rev().eq(found) {
        return Vec::new();
    }
    let width = |axis| model.axis(axis).role == Role::Width;
    let roles: Vec<bool> = param.ty.axes().map(width).collect();
    let sizes: Vec<(bool, u64)> = roles.into_iter().zip(wanted.iter().copied()).collect();
    let (input, output) = sizes.split_at(param.ty.input.len().min(sizes.len()));
    let folded = |side: &[(bool, u64)]| -> Vec<(bool, u64)> {
        let product = side
            .iter()
            .try_fold(1u64, |product, (_, size)| product.checked_mul(*size));
        match (side, product) {
            ([_, _, ..], Some(product)) => vec![(false, product)],
            _ => side.to_vec(),
        }
    };
    let inputs = [input.to_vec(), folded(input)];
    let outputs = [output.to_vec(), folded(output)];
    let layouts = inputs.iter().flat_map(|input| {
        let whole = |output: &Vec<(bool, u64)>| [input.as_slice(), output].concat();
        outputs.iter().map(whole)
    });
    let differ = layouts
        .filter(|layout| layout.len() == found.len())
        .map(|layout| {
            let pairs = layout.into_iter().zip(found);
            let all = pairs.map(|((is_width, wanted), found)| Difference {
                is_width,
                wanted,
                found: *found,
            });
            all.filter(|it| it.wanted != it.found).collect::<Vec<_>>()
        });
    differ.min_by_key(Vec::len).unwrap_or_default()
}
