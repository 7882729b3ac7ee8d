//! JAM-Width (eqs. 2, 3): one model as wide as both parents together.
//!
//! A rule over sides and roles. Axes of features and heads ([`WIDENED`]) get the sizes of both
//! parents together, the first parent's entries first; sizes of heads, the vocabulary and
//! positions stay. What becomes of a weight follows from its type alone ([`rule::Rule`]): widened
//! on both sides, a 2×2 grid of the parents' matrices; on one side, concatenation; on none, the
//! mean, with a note. The fused graph is the first parent's, with wider axes.
//!
//! With `off_diagonal: zero`, `norm: halves` and `head: rows` the fused model computes for text
//! rows what the first parent computes, and for image rows what the second does. `start: parents`
//! means these three, and takes no parents of which a weight would have to be averaged.

use std::collections::{BTreeMap, BTreeSet};

use indexmap::IndexMap;
use jam_ir::{
    AxisId, Diagnostic, Model, Norm, Op, Plan, Role, SettingValue, Settings, Signature,
    StrategySignature, Weight,
};

use crate::anatomy::{Anatomy, dissect};
use crate::fresh::refit;
use crate::matching::{Matching, Side, axis_phrase, match_parents};
use crate::parents::{check_layouts, shorter_context, two};
use crate::passes::dead_code;
use crate::reports::{Errors, Place, as_one, error, note};
use crate::settings::{Read, number, start, word};
use crate::{Fused, Parent, Strategy};

mod head;
mod rule;

use rule::{OffDiagonal, Rule};

/// Roles of the axes that get the sizes of both parents together.
pub(crate) const WIDENED: [Role; 5] = [
    Role::Width,
    Role::Heads,
    Role::KvHeads,
    Role::Hidden,
    Role::Inner,
];

/// What copied and averaged blocks ask for.
const ONE_SIZE: &str = " needs parents of one size: ";

/// The strategy.
pub(crate) struct Width;

impl Strategy for Width {
    fn signature(&self) -> StrategySignature {
        let word_of = |text: &str| SettingValue::Word(text.to_owned());
        StrategySignature {
            signature: Signature::new(
                "width",
                "one model as wide as both parents, its matrices made of blocks of theirs",
            )
            .with([
                word(
                    "off_diagonal",
                    &["copy", "average", "zero"],
                    "blocks that read the other parent's half: the matrix of the half they write \
                     to, the mean of both, or zeros",
                ),
                number(
                    "scale",
                    0.0,
                    16.0,
                    1.0,
                    "factor on every matrix whose input side is widened, and on the head, which \
                     it unties",
                ),
                word(
                    "norm",
                    &["joint", "halves"],
                    "norms over the whole width or over each half",
                ),
                word(
                    "head",
                    &["sum", "rows"],
                    "logits from both halves, or text rows from the first half and image rows \
                     from the second",
                ),
                start(&[
                    ("off_diagonal", word_of("zero")),
                    ("scale", SettingValue::Number(1.0)),
                    ("norm", word_of("halves")),
                    ("head", word_of("rows")),
                ]),
            ]),
            min_parents: 2,
            max_parents: 2,
        }
    }

    fn fuse(
        &self,
        name: &str,
        parents: &[Parent<'_>],
        settings: &Settings,
    ) -> Result<Fused, Vec<Diagnostic>> {
        let [first, second] = two(parents)?;
        let read = Read(settings);
        let settings = WidthSettings {
            off_diagonal: match read.word("off_diagonal")? {
                "average" => OffDiagonal::Average,
                "zero" => OffDiagonal::Zero,
                _ => OffDiagonal::Copy,
            },
            scale: read.number("scale")?,
            halves: read.word("norm")? == "halves",
            rows: read.word("head")? == "rows",
            start_parents: read.word("start")? == "parents",
        };
        let mut errors = Errors::default();
        check_layouts(first, second, &mut errors);
        let (left, right) = (errors.take(dissect(first)), errors.take(dissect(second)));
        let (Some(left), Some(right)) = (left, right) else {
            return errors.check().and(Err(Vec::new()));
        };
        let mut notes = Vec::new();
        let matching = errors.take(match_parents(
            Side {
                parent: first,
                model: &left.model,
                anatomy: Some(&left.anatomy),
            },
            Side {
                parent: second,
                model: &right.model,
                anatomy: Some(&right.anatomy),
            },
            &WIDENED,
        ));
        errors.check()?;
        let mut model = left.model;
        model.name = name.to_owned();
        model.context = shorter_context(first, second, &mut notes);
        Widening {
            parents: [first, second],
            settings,
            matching: matching.unwrap_or_default(),
            second: &right.model,
            anatomy: &left.anatomy,
            model,
            notes,
            plans: IndexMap::new(),
            averaged: BTreeSet::new(),
            sizes: BTreeMap::new(),
        }
        .run()
    }
}

/// Settings of a widening.
#[derive(Clone, Copy)]
struct WidthSettings {
    off_diagonal: OffDiagonal,
    scale: f64,
    halves: bool,
    rows: bool,
    /// Whether no weight may be averaged (`start: parents`).
    start_parents: bool,
}

/// A widening under way.
struct Widening<'a> {
    parents: [&'a Parent<'a>; 2],
    settings: WidthSettings,
    matching: Matching,
    second: &'a Model,
    anatomy: &'a Anatomy,
    /// The first parent's graph, becoming the fused one.
    model: Model,
    notes: Vec<Diagnostic>,
    /// Plans by the full name of the fused weight.
    plans: IndexMap<String, Plan>,
    /// Full names of weights without a widened axis.
    averaged: BTreeSet<String>,
    /// Sizes of both parents' shares of every widened axis.
    sizes: BTreeMap<AxisId, [u64; 2]>,
}

impl Widening<'_> {
    fn run(mut self) -> Result<Fused, Vec<Diagnostic>> {
        for (a, b) in &self.matching.axes {
            let (left, right) = (self.model.axis(*a), self.second.axis(*b));
            if let (true, Some(m), Some(n)) = (WIDENED.contains(&left.role), left.size, right.size)
            {
                self.sizes.insert(*a, [m, n]);
            }
        }
        let mut errors = Errors::default();
        self.check_groups(&mut errors);
        self.check_cuts(&mut errors);
        // Rules are read off the parents' types; sizes are added after.
        let planned = errors.take(self.plan_weights());
        errors.check()?;
        self.plans = planned.unwrap_or_default();
        self.divide_norms();
        for (axis, [m, n]) in &self.sizes {
            let Some(sum) = m.checked_add(*n) else {
                let message = "the sizes of both parents together do not fit 64 bits";
                return Err(vec![error(message, &self.places(["", ""]))]);
            };
            self.model.axes[axis.0 as usize].size = Some(sum);
        }
        head::widen_head(&mut self)?;
        dead_code::run(&mut self.model);
        refit(&mut self.model);
        self.report_averages()?;
        let uses: Vec<(String, _)> = {
            let uses = self.model.weight_uses().into_iter();
            uses.map(|(name, param)| (name, param.span)).collect()
        };
        let mut weights = IndexMap::new();
        for (name, span) in uses {
            let Some(plan) = self.plans.swap_remove(&name) else {
                let message = format!("weight `{name}` has no partner");
                return Err(vec![error(message, &self.places(["", ""]))]);
            };
            weights.insert(name, Weight { plan, span });
        }
        self.model.weights = weights;
        Ok(Fused {
            model: self.model,
            notes: self.notes,
        })
    }

    fn places(&self, words: [&str; 2]) -> [Place<'_>; 2] {
        let [first, second] = self.parents;
        [Place::new(first, words[0]), Place::new(second, words[1])]
    }

    /// Query heads must share key/value heads alike, so that each head keeps its own.
    fn check_groups(&self, errors: &mut Errors) {
        let blocks = self.model.blocks.values().chain([&self.model.main]);
        for statement in blocks.flat_map(|block| block.body.iter().map(move |s| (block, s))) {
            let (block, Op::Attention { q, k, .. }) = (statement.0, &statement.1.op) else {
                continue;
            };
            let share = |value| {
                let axis = block.value_of(value).ty.axes.get(2)?;
                self.sizes.get(axis).copied()
            };
            let (Some([q1, q2]), Some([k1, k2])) = (share(*q), share(*k)) else {
                continue;
            };
            if u128::from(q1) * u128::from(k2) != u128::from(q2) * u128::from(k1) {
                let [first, second] = self.parents;
                let message = format!(
                    "{q1} query heads share {k1} key/value heads in `{}`, {q2} share {k2} in `{}`",
                    first.source, second.source
                );
                let words = [format!("{q1} / {k1} heads"), format!("{q2} / {k2} heads")];
                let places = self.places([&words[0], &words[1]]);
                errors.add(error(message, &places).help("`cross` takes parents of unlike layers"));
            }
        }
    }

    /// Values are not cut or put side by side along a widened axis: halves would not line up.
    fn check_cuts(&self, errors: &mut Errors) {
        let blocks = self.model.blocks.values().chain([&self.model.main]);
        for (block, statement) in blocks.flat_map(|b| b.body.iter().map(move |s| (b, s))) {
            if !matches!(statement.op, Op::Concat { .. } | Op::Slice { .. }) {
                continue;
            }
            let values = statement
                .op
                .operands()
                .into_iter()
                .chain([statement.result]);
            let mut lasts = values.filter_map(|value| block.value_of(value).ty.axes.last());
            if lasts.any(|axis| self.sizes.contains_key(axis)) {
                let message = format!(
                    "`{}` uses {} along features, which `width` cannot widen",
                    self.parents[0].source,
                    statement.op.word()
                );
                let places = self
                    .parents
                    .map(|p| Place::new(p, "").inside(statement.span));
                errors.add(error(message, &places).help("`cross` takes any layers"));
            }
        }
    }

    /// Norms over a widened axis keep what they divide, or are divided into halves.
    fn divide_norms(&mut self) {
        let second = self.second;
        let blocks = self.model.blocks.values_mut().chain([&mut self.model.main]);
        for block in blocks {
            for index in 0..block.body.len() {
                let partner = self.matching.statements.get(&(block.name.clone(), index));
                let other = partner.and_then(|(name, index)| {
                    let block = second.blocks.get(name).unwrap_or(&second.main);
                    norm_of(&block.body.get(*index)?.op)
                });
                let axes = norm_operand(&block.body[index].op)
                    .map(|x| block.value_of(x).ty.axes.clone())
                    .unwrap_or_default();
                let sizes = axes.last().and_then(|axis| self.sizes.get(axis));
                let (Some([m, n]), Some(other)) = (sizes, other) else {
                    continue;
                };
                if let Op::LayerNorm { norm, .. } | Op::RmsNorm { norm, .. } =
                    &mut block.body[index].op
                    && (self.settings.halves || !norm.parts.is_empty() || !other.parts.is_empty())
                {
                    let whole = |parts: &[u64], size: u64| match parts.is_empty() {
                        true => vec![size],
                        false => parts.to_vec(),
                    };
                    norm.parts = [whole(&norm.parts, *m), whole(&other.parts, *n)].concat();
                }
            }
        }
    }

    /// The plan of every weight of the first parent, by its name there.
    fn plan_weights(&mut self) -> Result<IndexMap<String, Plan>, Vec<Diagnostic>> {
        let [first, second] = self.parents;
        let mut plans = IndexMap::new();
        let mut errors = Errors::default();
        let mut unequal = Errors::default();
        let uses: Vec<(String, jam_ir::Param)> = {
            let uses = self.model.weight_uses().into_iter();
            uses.map(|(name, param)| (name, param.clone())).collect()
        };
        for (name, param) in &uses {
            let Some(partner) = self.matching.weights.get(name) else {
                continue; // Reported by `run` if the fused graph asks for it.
            };
            let rule = match Rule::of(&self.model, &param.ty) {
                Ok(rule) => rule,
                Err(reason) => {
                    let message = format!("`{}` of `{}` {reason}", param.name, first.source);
                    let place = Place::new(first, "").inside(param.span);
                    errors.add(error(message, &[place, Place::new(second, "")]));
                    continue;
                }
            };
            if let Rule::Grid { rows, columns } = rule {
                self.check_grid(
                    [rows, columns].map(|index| param.ty.axes().nth(index)),
                    param,
                    &mut unequal,
                );
            }
            if rule == Rule::Mean {
                self.averaged.insert(name.clone());
            }
            let a = Plan::load(first.source.clone(), name.clone());
            let b = Plan::load(second.source.clone(), partner.clone());
            let plan = rule.plan(a, b, self.settings.off_diagonal);
            let widened_input = param
                .ty
                .input
                .iter()
                .any(|axis| self.sizes.contains_key(axis));
            plans.insert(
                name.clone(),
                scaled(plan, widened_input, self.settings.scale),
            );
        }
        // Sizes that differ are one reason, which the first of them stands for.
        if let Some(report) = as_one(unequal.into_list(), ONE_SIZE) {
            errors.add(report);
        }
        errors.check()?;
        Ok(plans)
    }

    /// Says which weights of the fused graph are averages of both parents'; with `start: parents`
    /// there can be none.
    fn report_averages(&mut self) -> Result<(), Vec<Diagnostic>> {
        let mut errors = Errors::default();
        let mut notes = Vec::new();
        let mut known = BTreeSet::new();
        let [first, second] = self.parents;
        for (name, param) in self.model.weight_uses() {
            if !self.averaged.contains(&name) || !known.insert(param.name.clone()) {
                continue;
            }
            let message = format!(
                "`{}` has no axis that is widened: the mean of `{}` and `{}` is taken",
                param.name, first.source, second.source
            );
            let place = |parent| Place::new(parent, "the mean");
            let places = [place(first).inside(param.span), place(second)];
            match self.settings.start_parents {
                false => notes.push(note(message, &places)),
                true => errors.add(
                    error(
                        format!("{message}, and `start: parents` keeps both"),
                        &places,
                    )
                    .help("`cross(…, start: parents)` keeps the weights of both"),
                ),
            }
        }
        self.notes.append(&mut notes);
        errors.check()
    }

    /// Copied blocks need equal input sides, averaged ones equal sides.
    fn check_grid(&self, axes: [Option<AxisId>; 2], param: &jam_ir::Param, errors: &mut Errors) {
        let [input, output] = axes;
        let (word, checked) = match self.settings.off_diagonal {
            OffDiagonal::Copy => ("copy", vec![input]),
            OffDiagonal::Average => ("average", vec![input, output]),
            OffDiagonal::Zero => return,
        };
        for axis in checked.into_iter().flatten() {
            let Some([m, n]) = self.sizes.get(&axis).filter(|[m, n]| m != n) else {
                continue;
            };
            let [first, second] = self.parents;
            let axis = self.model.axis(axis);
            let thing = axis_phrase(axis.role, &axis.name);
            let message = format!(
                "`off_diagonal: {word}`{ONE_SIZE}{thing} is {m} in `{}` and {n} in `{}`",
                first.source, second.source
            );
            let words = [format!("{thing}: {m}"), format!("{thing}: {n}")];
            let [left, right] = self.places([&words[0], &words[1]]);
            errors.add(
                error(message, &[left.inside(param.span), right])
                    .help("`off_diagonal: zero` and `cross` take parents of unequal size"),
            );
        }
    }
}

/// The plan times `scale` where the input side of its weight is widened.
fn scaled(plan: Plan, widened_input: bool, scale: f64) -> Plan {
    match widened_input && scale != 1.0 {
        true => Plan::Scale {
            by: scale,
            of: Box::new(plan),
        },
        false => plan,
    }
}

fn norm_of(op: &Op) -> Option<&Norm> {
    match op {
        Op::LayerNorm { norm, .. } | Op::RmsNorm { norm, .. } => Some(norm),
        _ => None,
    }
}

fn norm_operand(op: &Op) -> Option<jam_ir::ValueId> {
    match op {
        Op::LayerNorm { x, .. } | Op::RmsNorm { x, .. } => Some(*x),
        _ => None,
    }
}
