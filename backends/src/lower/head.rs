//! Finds the operations that end in logits and cuts them off the main body.

use super::blocks::{Lowering, forbidding};
use super::{Action, Body, Constant, Head, Output};

/// What a head takes out of the main body.
#[derive(Default)]
struct Cut {
    /// Indices of steps.
    steps: Vec<usize>,
    /// Values that the outputs read.
    states: Vec<usize>,
}

/// A head while it is found.
struct Tail {
    outputs: Vec<Output>,
    choice: Option<Vec<bool>>,
    mask: Option<Vec<bool>>,
}

impl Lowering<'_> {
    /// Cuts the operations that end in logits off the main body, where they have the form of a head.
    pub(super) fn split_head(&mut self, body: &mut Body, classes: usize) -> Option<Head> {
        let mut cut = Cut::default();
        let tail = self.tail(body, body.results[0], classes, &mut cut)?;
        let taken = cut.steps;
        // A step is cut only if the head alone reads its result.
        let kept_reads: Vec<usize> = (0..body.steps.len())
            .filter(|index| !taken.contains(index))
            .flat_map(|index| body.steps[index].operands.clone())
            .collect();
        if taken
            .iter()
            .any(|&index| kept_reads.contains(&body.steps[index].result))
        {
            return None;
        }
        let mut index = 0;
        body.steps.retain(|_| {
            index += 1;
            !taken.contains(&(index - 1))
        });
        body.results = cut.states;
        let mut constant = |constant| {
            self.constants.push(constant);
            self.constants.len() - 1
        };
        Some(Head {
            outputs: tail.outputs,
            choice: tail.choice.map(|choice| constant(Constant::Choice(choice))),
            mask: tail
                .mask
                .map(|mask| constant(Constant::Bias(forbidding(&mask)))),
        })
    }

    /// The head that computes `value`, if it has the form of one; notes what it would cut.
    fn tail(&self, body: &Body, value: usize, classes: usize, cut: &mut Cut) -> Option<Tail> {
        let index = body.steps.iter().position(|step| step.result == value)?;
        if !cut.steps.contains(&index) {
            cut.steps.push(index);
        }
        let step = &body.steps[index];
        let inner = |cut: &mut Cut| self.tail(body, step.operands[0], classes, cut);
        let output = |cut: &mut Cut, weight: usize, table: bool, bias: Option<usize>| {
            let [rows, columns] = self.params[weight].matrix?;
            if (if table { rows } else { columns }) != classes {
                return None;
            }
            let known = cut
                .states
                .iter()
                .position(|&state| state == step.operands[0]);
            let state = known.unwrap_or_else(|| {
                cut.states.push(step.operands[0]);
                cut.states.len() - 1
            });
            Some(Tail {
                outputs: vec![Output {
                    state,
                    weight,
                    table,
                    bias,
                    scale: 1.0,
                }],
                choice: None,
                mask: None,
            })
        };
        match &step.action {
            Action::Unembed { table } => output(cut, *table, true, None),
            Action::Linear { weight, bias, .. } => output(cut, *weight, false, *bias),
            Action::Round(jam_ir::DType::F32) => inner(cut),
            Action::Scale(by) => {
                let mut tail = inner(cut)?;
                // The lowest f32 must stay what it is.
                if tail.mask.is_some() {
                    return None;
                }
                tail.outputs
                    .iter_mut()
                    .for_each(|output| output.scale *= by);
                Some(tail)
            }
            Action::MaskRows(constant) => {
                let mut tail = inner(cut)?;
                let Constant::Bias(bias) = &self.constants[*constant] else {
                    return None;
                };
                let mask = tail.mask.get_or_insert_with(|| vec![false; classes]);
                for (masked, &bias) in mask.iter_mut().zip(bias) {
                    *masked |= bias != 0.0;
                }
                Some(tail)
            }
            Action::ChooseRows(constant) => {
                let a = inner(cut)?;
                let b = self.tail(body, step.operands[1], classes, cut)?;
                let Constant::Choice(choice) = &self.constants[*constant] else {
                    return None;
                };
                if a.choice.is_some() || b.choice.is_some() {
                    return None;
                }
                let none = vec![false; classes];
                let mask = (a.mask.is_some() || b.mask.is_some()).then(|| {
                    let (a, b) = (
                        a.mask.as_ref().unwrap_or(&none),
                        b.mask.as_ref().unwrap_or(&none),
                    );
                    let rows = choice.iter().zip(a.iter().zip(b));
                    rows.map(|(&second, (&a, &b))| if second { b } else { a })
                        .collect()
                });
                let mut outputs = a.outputs;
                outputs.extend(b.outputs);
                Some(Tail {
                    outputs,
                    choice: Some(choice.clone()),
                    mask,
                })
            }
            _ => None,
        }
    }
}
