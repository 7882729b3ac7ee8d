//! From a model to a tree of steps: names become indices, axes become sizes, calls are expanded.
//!
//! Every call of a block gets a body of its own, in which parameters are indices into the flat list
//! of the executable and every attention has a number of its own (its *site*, which is its place
//! in a key-value cache). Two patterns are joined on the way: `mul (act a) b` becomes one gated
//! activation, and the operations that end in logits become a [`Head`], so that a loss never needs
//! them all at once.

mod blocks;
mod head;
mod kinds;

use jam_ir::{Activation, Model, RotaryScaling};

use crate::error::ExecError;
use crate::kernels::{norm, rotary};

/// A model ready to run.
#[derive(Debug)]
pub(crate) struct Program {
    /// Parameters in order of first use.
    pub(crate) params: Vec<ParamSpec>,
    /// Everything up to the values that the head reads (or, without a head, up to the logits).
    pub(crate) trunk: Body,
    /// From the trunk's results to logits; `None` where the logits are the trunk's result.
    pub(crate) head: Option<Head>,
    /// Constants over the vocabulary.
    pub(crate) constants: Vec<Constant>,
    /// Distinct rotary tables: features of a head, base, scaling.
    pub(crate) rotaries: Vec<(usize, f64, RotaryScaling)>,
    /// Attention sites, in order of execution.
    pub(crate) sites: Vec<Site>,
    /// Rows of the token tables: ids below this are valid.
    pub(crate) vocab: usize,
    /// Features of the logits.
    pub(crate) classes: usize,
    /// Positions that every learned position table has rows for; `None` where there is none.
    pub(crate) positions: Option<usize>,
}

/// One parameter of the flat list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParamSpec {
    pub(crate) name: String,
    /// Sizes of the axes in storage order.
    pub(crate) shape: Vec<usize>,
    /// Rows and columns of the stored matrix, `None` for a vector.
    pub(crate) matrix: Option<[usize; 2]>,
}

/// Numbers over the vocabulary that the graph fixes.
#[derive(Debug, Clone)]
pub(crate) enum Constant {
    /// Added to logits.
    Bias(Vec<f32>),
    /// Chooses the second operand where true.
    Choice(Vec<bool>),
}

/// What one attention keeps of the past.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    pub(crate) kv_heads: usize,
    pub(crate) key: usize,
    pub(crate) value: usize,
}

/// Statements in order over numbered values.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) steps: Vec<Step>,
    /// Number of values.
    pub(crate) values: usize,
    /// Values that the caller gives.
    pub(crate) inputs: Vec<usize>,
    /// Values that the caller gets.
    pub(crate) results: Vec<usize>,
}

/// One operation.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) action: Action,
    pub(crate) operands: Vec<usize>,
    pub(crate) result: usize,
    /// Values that nobody reads after this step.
    pub(crate) last: Vec<usize>,
}

/// An operation with indices and sizes in place of names. Values are `[batch, time, features]`.
#[derive(Debug)]
pub(crate) enum Action {
    Embed {
        table: usize,
    },
    Positions {
        table: usize,
        offset: usize,
    },
    Linear {
        weight: usize,
        bias: Option<usize>,
        /// Features on the weight's input side; operands may have several groups of them.
        inner: usize,
    },
    Unembed {
        table: usize,
    },
    Norm {
        kind: norm::Norm,
        gain: Option<usize>,
        bias: Option<usize>,
        parts: Vec<usize>,
        eps: f64,
        /// Length of the last axis; operands may have several groups of it.
        last: usize,
        /// Whether gain and bias cover all groups and not one.
        wide: bool,
    },
    Rotary {
        table: usize,
        layout: rotary::RotaryLayout,
        key: usize,
    },
    Attention {
        site: usize,
        causal: bool,
        scale: f64,
        heads: usize,
    },
    Activation(Activation),
    Gated(Activation),
    Add,
    Mul,
    Scale(f64),
    /// Operands side by side; the length of each one's last axis.
    Concat(Vec<usize>),
    Slice {
        start: usize,
        len: usize,
        last: usize,
    },
    ChooseRows(usize),
    MaskRows(usize),
    /// Rounds to a stored type and back.
    Round(jam_ir::DType),
    Call(Box<Body>),
}

/// The way from last states to logits.
#[derive(Debug)]
pub(crate) struct Head {
    /// One output layer, or two of which `choice` takes rows.
    pub(crate) outputs: Vec<Output>,
    /// [`Constant::Choice`] between two outputs.
    pub(crate) choice: Option<usize>,
    /// [`Constant::Bias`] that forbids ids.
    pub(crate) mask: Option<usize>,
}

/// One output layer of a head.
#[derive(Debug)]
pub(crate) struct Output {
    /// Which of the trunk's results it reads.
    pub(crate) state: usize,
    pub(crate) weight: usize,
    /// Whether the weight is a token table, read backwards.
    pub(crate) table: bool,
    pub(crate) bias: Option<usize>,
    pub(crate) scale: f64,
}

impl Action {
    /// Its name in the text form.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Action::Embed { .. } => "embed",
            Action::Positions { .. } => "positions",
            Action::Linear { .. } => "linear",
            Action::Unembed { .. } => "unembed",
            Action::Norm { kind, .. } => match kind {
                norm::Norm::Layer => "layer_norm",
                norm::Norm::Rms => "rms_norm",
            },
            Action::Rotary { .. } => "rotary",
            Action::Attention { .. } => "attention",
            Action::Activation(_) => "act",
            Action::Gated(_) => "mul of act",
            Action::Add => "add",
            Action::Mul => "mul",
            Action::Scale(_) => "scale",
            Action::Concat(_) => "concat",
            Action::Slice { .. } => "slice",
            Action::ChooseRows(_) => "choose_rows",
            Action::MaskRows(_) => "mask_rows",
            Action::Round(_) => "cast",
            Action::Call(_) => "call",
        }
    }
}

impl Body {
    /// Parameters that the action at `step` reads, calls followed, each once and ascending.
    pub(crate) fn params_of(action: &Action, found: &mut Vec<usize>) {
        match action {
            Action::Embed { table }
            | Action::Positions { table, .. }
            | Action::Unembed { table } => found.push(*table),
            Action::Linear { weight, bias, .. } => {
                found.push(*weight);
                found.extend(bias);
            }
            Action::Norm { gain, bias, .. } => found.extend(gain.iter().chain(bias)),
            Action::Call(body) => {
                for step in &body.steps {
                    Body::params_of(&step.action, found);
                }
            }
            Action::Rotary { .. }
            | Action::Attention { .. }
            | Action::Activation(_)
            | Action::Gated(_)
            | Action::Add
            | Action::Mul
            | Action::Scale(_)
            | Action::Concat(_)
            | Action::Slice { .. }
            | Action::ChooseRows(_)
            | Action::MaskRows(_)
            | Action::Round(_) => {}
        }
        found.sort_unstable();
        found.dedup();
    }

    /// Notes for every step which values are read there for the last time.
    fn note_last_reads(&mut self) {
        let mut seen = vec![false; self.values];
        for &result in &self.results {
            seen[result] = true;
        }
        for step in self.steps.iter_mut().rev() {
            step.last.clear();
            for &operand in &step.operands {
                if !std::mem::replace(&mut seen[operand], true) {
                    step.last.push(operand);
                }
            }
            // A result that nobody reads lives no longer than its own step.
            if !seen[step.result] {
                step.last.push(step.result);
            }
        }
    }
}

/// Lowers a verified model.
pub(crate) fn lower(model: &Model) -> Result<Program, ExecError> {
    blocks::Lowering::new(model)?.program()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jam_ir::TokenLayout;
    use jam_weights::checkpoints::decoder::{DecoderConfig, decoder_only};

    #[test]
    fn a_gated_part_is_one_step_and_the_head_is_cut_off() {
        let config = DecoderConfig::llama(TokenLayout::bare(50), 16, 8, 2, 2, 24);
        let program = lower(&decoder_only(&config)).expect("a program");
        let head = program.head.as_ref().expect("a head");
        assert_eq!((head.outputs.len(), head.outputs[0].table), (1, false));
        assert_eq!((program.classes, program.vocab), (50, 50));
        assert_eq!((program.sites.len(), program.positions), (2, None));
        assert_eq!(program.rotaries, [(4, 10_000.0, RotaryScaling::None)]);

        let layers: Vec<&Body> = program.trunk.steps.iter().filter_map(layer).collect();
        assert_eq!(layers.len(), 2);
        for body in layers {
            let count = |wanted: fn(&Action) -> bool| {
                body.steps
                    .iter()
                    .filter(|step| wanted(&step.action))
                    .count()
            };
            assert_eq!(count(|action| matches!(action, Action::Gated(_))), 1);
            assert_eq!(
                count(|action| matches!(action, Action::Activation(_) | Action::Mul)),
                0
            );
        }
    }

    #[test]
    fn every_value_is_dropped_once_and_after_its_last_reader() {
        let config = DecoderConfig::opt(TokenLayout::bare(50), 16, 8, 2, 2, 24);
        let program = lower(&decoder_only(&config)).expect("a program");
        assert_eq!(program.positions, Some(16));
        for body in program.trunk.steps.iter().filter_map(layer) {
            let mut dropped = vec![false; body.values];
            for step in &body.steps {
                assert!(step.operands.iter().all(|&operand| !dropped[operand]));
                for &value in &step.last {
                    assert!(!std::mem::replace(&mut dropped[value], true));
                }
            }
            assert!(body.results.iter().all(|&result| !dropped[result]));
            // Everything but the result is gone at the end.
            let kept = dropped.iter().filter(|&&gone| !gone).count();
            assert_eq!(kept, 1);
        }
    }

    fn layer(step: &Step) -> Option<&Body> {
        match &step.action {
            Action::Call(body) => Some(body),
            _ => None,
        }
    }
}
