//! Two parents of one structure, paired: axes with axes, statements with statements, weights with
//! weights, by what is computed and never by name.
//!
//! Pairs are followed from results back to inputs, so that the order of statements and the names
//! of values do not matter. What differs is one error that points at both parents: it names the
//! difference that others may follow from, and notes the others; the same difference in a hundred layers
//! is one.

mod attributes;
mod words;

use std::collections::BTreeMap;

use indexmap::IndexMap;
use jam_ir::{AxisId, Block, Diagnostic, Model, Op, ParamId, Role, Span, ValueId, join_path};

use crate::Parent;
use crate::anatomy::Anatomy;
use crate::reports::{Place, as_one, error};
use attributes::attributes;
pub(crate) use words::axis_phrase;
use words::{Cause, phrase, roles_of_params};

/// A parent as it is paired.
#[derive(Clone, Copy)]
pub(crate) struct Side<'a> {
    /// The parent as it is named.
    pub(crate) parent: &'a Parent<'a>,
    /// Its graph.
    pub(crate) model: &'a Model,
    /// Its parts; without them graphs are paired as a whole.
    pub(crate) anatomy: Option<&'a Anatomy>,
}

/// A block by name; the main block is `main`, which no other is called.
type Name = String;

/// What belongs together. Keys are the first parent's, values the second's.
#[derive(Debug, Default)]
pub(crate) struct Matching {
    /// Axes.
    pub(crate) axes: BTreeMap<AxisId, AxisId>,
    /// Weights by full name.
    pub(crate) weights: IndexMap<String, String>,
    /// Statements, by block and place in its body.
    pub(crate) statements: BTreeMap<(Name, usize), (Name, usize)>,
}

/// Pairs two parents. Sizes of axes whose role is in `sizes_free` may differ, and so may the
/// divisions of norms over such axes.
///
/// # Errors
/// What the parents compute differently: one report.
pub(crate) fn match_parents(
    first: Side<'_>,
    second: Side<'_>,
    sizes_free: &[Role],
) -> Result<Matching, Vec<Diagnostic>> {
    let mut matcher = Matcher {
        first,
        second,
        sizes_free,
        matching: Matching::default(),
        back: BTreeMap::new(),
        blocks: BTreeMap::new(),
        differences: Vec::new(),
    };
    let mains = ("main".to_owned(), "main".to_owned());
    let results = (first.model.main.result, second.model.main.result);
    match (first.anatomy, second.anatomy) {
        (Some(a), Some(b)) => {
            if a.layers.len() != b.layers.len() {
                let (m, n) = (a.layers.len(), b.layers.len());
                let what = format!("{} in {} and {} in {}", m, matcher.a(), n, matcher.b());
                let spans = [a.layers.last(), b.layers.last()].map(|layer| layer?.span);
                let words = [format!("{m} layers"), format!("{n} layers")];
                let message = format!("the number of layers is {what}");
                matcher.differ(Cause::Layers, message, words, spans);
            }
            let stack = BTreeMap::from([(a.stack_out, b.stack_out)]);
            let starts = vec![results, (a.stack_in, b.stack_in)];
            matcher.compare_blocks(mains.clone(), starts, stack);
            for (left, right) in a.layers.iter().zip(&b.layers) {
                matcher.compare_callees((left.block.clone(), right.block.clone()));
            }
            matcher.settle()?;
            matcher.expand(&mains, "", "");
            for (left, right) in a.layers.iter().zip(&b.layers) {
                let pair = (left.block.clone(), right.block.clone());
                matcher.expand(&pair, &left.at, &right.at);
            }
        }
        _ => {
            matcher.compare_blocks(mains.clone(), vec![results], BTreeMap::new());
            matcher.settle()?;
            matcher.expand(&mains, "", "");
        }
    }
    Ok(matcher.matching)
}

/// What was paired in two blocks.
#[derive(Default)]
struct BlockMatch {
    params: BTreeMap<ParamId, ParamId>,
    /// Paths and blocks of paired calls, in no order that matters.
    calls: Vec<((String, String), (Name, Name))>,
}

struct Matcher<'a> {
    first: Side<'a>,
    second: Side<'a>,
    sizes_free: &'a [Role],
    matching: Matching,
    /// Axes of the second parent back to the first's.
    back: BTreeMap<AxisId, AxisId>,
    blocks: BTreeMap<(Name, Name), BlockMatch>,
    differences: Vec<(Cause, Diagnostic)>,
}

fn block<'m>(model: &'m Model, name: &str) -> &'m Block {
    model.blocks.get(name).unwrap_or(&model.main)
}

impl<'a> Matcher<'a> {
    fn a(&self) -> String {
        format!("`{}`", self.first.parent.source)
    }

    fn b(&self) -> String {
        format!("`{}`", self.second.parent.source)
    }

    /// `Ok` without differences, else all of them as one error.
    fn settle(&mut self) -> Result<(), Vec<Diagnostic>> {
        let mut found = std::mem::take(&mut self.differences);
        found.sort_by_key(|(cause, _)| *cause);
        let stacks = self.first.anatomy.is_some() && self.second.anatomy.is_some();
        let sizes = self.sizes_free.is_empty() && found.iter().all(|(cause, _)| cause.can_widen());
        let heads = found.iter().all(|(cause, _)| *cause == Cause::Head);
        let alike = format!("make {} like {} here", self.b(), self.a());
        let help = match (stacks, sizes) {
            (true, _) if heads => {
                "`cross` fuses both as they are; `tied: no` in both needs a head in both checkpoints"
                    .to_owned()
            }
            (true, true) => format!(
                "`width` with `off_diagonal: zero` and `cross` fuse models of unlike sizes; or {alike}"
            ),
            (true, false) => format!("`cross` fuses models of unlike layers and sizes; or {alike}"),
            (false, _) if heads => "write the same `tied:` in both heads".to_owned(),
            (false, _) => alike,
        };
        let reports = found.into_iter().map(|(_, report)| report).collect();
        match as_one(reports, "") {
            Some(report) => Err(vec![report.help(help)]),
            None => Ok(()),
        }
    }

    fn differ(
        &mut self,
        cause: Cause,
        message: String,
        words: [String; 2],
        spans: [Option<Span>; 2],
    ) {
        if self
            .differences
            .iter()
            .any(|(_, known)| known.message == message)
        {
            return;
        }
        let [left, right] = words;
        let places = [
            Place::new(self.first.parent, left).inside(spans[0]),
            Place::new(self.second.parent, right).inside(spans[1]),
        ];
        let report = error(message, &places);
        self.differences.push((cause, report));
    }

    /// Reports that some thing is one in the first parent and another in the second.
    fn unlike(
        &mut self,
        cause: Cause,
        thing: &str,
        left: String,
        right: String,
        spans: [Option<Span>; 2],
    ) {
        let message = format!(
            "{thing} is {left} in {} and {right} in {}",
            self.a(),
            self.b()
        );
        let words = [format!("{thing}: {left}"), format!("{thing}: {right}")];
        self.differ(cause, message, words, spans);
    }

    /// Whether one head is the token table and the other has weights of its own; that is told.
    fn are_unlike_heads(&mut self, ops: [&Op; 2], spans: [Option<Span>; 2]) -> bool {
        let tied = match ops {
            [Op::Unembed { .. }, Op::Linear { .. }] => [true, false],
            [Op::Linear { .. }, Op::Unembed { .. }] => [false, true],
            _ => return false,
        };
        let of = |parent: String, tied: bool| match tied {
            true => format!("the head of {parent} is its token table"),
            false => format!("that of {parent} has weights of its own"),
        };
        let (mut told, words) = (
            [of(self.a(), tied[0]), of(self.b(), tied[1])],
            tied.map(|tied| format!("the head: {}", if tied { "tied" } else { "untied" })),
        );
        if !tied[0] {
            told.swap(0, 1);
        }
        self.differ(Cause::Head, told.join(", and "), words, spans);
        true
    }

    /// Pairs two called blocks, once.
    fn compare_callees(&mut self, names: (Name, Name)) {
        if self.blocks.contains_key(&names) {
            return;
        }
        let (left, right) = (
            block(self.first.model, &names.0),
            block(self.second.model, &names.1),
        );
        if left.inputs.len() != right.inputs.len() {
            let (m, n) = (
                left.inputs.len().to_string(),
                right.inputs.len().to_string(),
            );
            let spans = [left.span, right.span];
            self.unlike(
                Cause::Structure,
                &format!("the number of inputs of block `{}`", names.0),
                m,
                n,
                spans,
            );
            return;
        }
        let starts = vec![(left.result, right.result)];
        let known = left
            .inputs
            .iter()
            .copied()
            .zip(right.inputs.iter().copied())
            .collect();
        self.compare_blocks(names, starts, known);
    }

    /// Pairs values of two blocks from `starts` back to those that are `known` to belong together.
    fn compare_blocks(
        &mut self,
        names: (Name, Name),
        starts: Vec<(ValueId, ValueId)>,
        mut known: BTreeMap<ValueId, ValueId>,
    ) {
        let left = block(self.first.model, &names.0);
        let right = block(self.second.model, &names.1);
        self.blocks.insert(names.clone(), BlockMatch::default());
        let defined = |block: &Block| -> BTreeMap<ValueId, usize> {
            let statements = block.body.iter().enumerate();
            statements
                .map(|(index, statement)| (statement.result, index))
                .collect()
        };
        let (defined_left, defined_right) = (defined(left), defined(right));
        for (a, b) in known.clone() {
            self.compare_types(left, right, (a, b), [None, None]);
        }
        let mut waiting = starts;
        while let Some((a, b)) = waiting.pop() {
            match known.get(&a) {
                Some(other) if *other == b => continue,
                Some(_) => {
                    let spans = [&defined_left.get(&a), &defined_right.get(&b)];
                    let spans = [
                        spans[0].and_then(|index| left.body[*index].span),
                        spans[1].and_then(|index| right.body[*index].span),
                    ];
                    let message = format!(
                        "{} and {} wire block `{}` differently",
                        self.a(),
                        self.b(),
                        names.0
                    );
                    let words = ["this value", "another value"].map(str::to_owned);
                    self.differ(Cause::Structure, message, words, spans);
                    continue;
                }
                None => {}
            }
            known.insert(a, b);
            match (defined_left.get(&a), defined_right.get(&b)) {
                (Some(i), Some(j)) => {
                    let spans = [left.body[*i].span, right.body[*j].span];
                    let (one, two) = (&left.body[*i].op, &right.body[*j].op);
                    if self.are_unlike_heads([one, two], spans) {
                        waiting.extend(one.operands().into_iter().zip(two.operands()));
                        continue;
                    }
                    if one.word() != two.word() {
                        let place = match names.0.as_str() {
                            "main" => "a step of the model".to_owned(),
                            name => format!("a step of block `{name}`"),
                        };
                        self.unlike(
                            Cause::Structure,
                            &place,
                            one.word().to_owned(),
                            two.word().to_owned(),
                            spans,
                        );
                        continue;
                    }
                    let places = ((names.0.clone(), *i), (names.1.clone(), *j));
                    self.matching.statements.insert(places.0, places.1);
                    self.compare_types(left, right, (a, b), spans);
                    self.compare_ops(&names, [one, two], spans);
                    let (mut from, mut to) = (one.operands(), two.operands());
                    if from.len() != to.len() {
                        let (m, n) = (from.len().to_string(), to.len().to_string());
                        self.unlike(
                            Cause::Structure,
                            &format!("the number of operands of {}", one.word()),
                            m,
                            n,
                            spans,
                        );
                        from.truncate(to.len());
                        to.truncate(from.len());
                    }
                    waiting.extend(from.into_iter().zip(to).rev());
                }
                (None, None) => {
                    let place =
                        |block: &Block, value| block.inputs.iter().position(|v| *v == value);
                    let (m, n) = (place(left, a), place(right, b));
                    if m != n {
                        let number = |n: Option<usize>| n.map_or(0, |n| n + 1).to_string();
                        self.unlike(
                            Cause::Structure,
                            "the input read",
                            number(m),
                            number(n),
                            [left.span, right.span],
                        );
                    }
                }
                (i, j) => {
                    let words = |index: Option<&usize>, block: &Block| match index {
                        Some(index) => block.body[*index].op.word().to_owned(),
                        None => "its input".to_owned(),
                    };
                    let spans = [
                        i.map_or(left.span, |index| left.body[*index].span),
                        j.map_or(right.span, |index| right.body[*index].span),
                    ];
                    let thing = match names.0.as_str() {
                        "main" => "what the model reads".to_owned(),
                        name => format!("what block `{name}` reads"),
                    };
                    self.unlike(
                        Cause::Structure,
                        &thing,
                        words(i, left),
                        words(j, right),
                        spans,
                    );
                }
            }
        }
    }

    /// Pairs the axes of two values.
    fn compare_types(
        &mut self,
        left: &Block,
        right: &Block,
        (a, b): (ValueId, ValueId),
        spans: [Option<Span>; 2],
    ) {
        let (a, b) = (left.value_of(a), right.value_of(b));
        self.compare_axes(&a.ty.axes, &b.ty.axes, &a.name, spans);
    }

    fn compare_axes(&mut self, a: &[AxisId], b: &[AxisId], what: &str, spans: [Option<Span>; 2]) {
        if a.len() != b.len() {
            let thing = format!("the number of axes of `{what}`");
            self.unlike(
                Cause::Structure,
                &thing,
                a.len().to_string(),
                b.len().to_string(),
                spans,
            );
        }
        for (a, b) in a.iter().zip(b) {
            self.pair_axes(*a, *b, spans);
        }
    }

    fn pair_axes(&mut self, a: AxisId, b: AxisId, spans: [Option<Span>; 2]) {
        let (left, right) = (self.first.model.axis(a), self.second.model.axis(b));
        match (self.matching.axes.get(&a), self.back.get(&b)) {
            (Some(known), Some(_)) if *known == b => return,
            (None, None) => {}
            _ => {
                let message = format!(
                    "axis `{}` of {} stands for `{}` of {} in one place and for another axis \
                     elsewhere",
                    left.name,
                    self.a(),
                    right.name,
                    self.b()
                );
                let words = [left.name.clone(), right.name.clone()];
                self.differ(Cause::Structure, message, words, spans);
                return;
            }
        }
        self.matching.axes.insert(a, b);
        self.back.insert(b, a);
        if left.role != right.role {
            let thing = format!("axis `{}`", left.name);
            let (m, n) = (left.role.word().to_owned(), right.role.word().to_owned());
            self.unlike(Cause::Structure, &thing, m, n, spans);
        } else if left.role == Role::Vocab && left.size != right.size {
            // Vocabularies are compared before, and what differs there is told.
        } else if left.size != right.size && !self.sizes_free.contains(&left.role) {
            let size = |size: Option<u64>| size.map_or("open".to_owned(), |size| size.to_string());
            let thing = axis_phrase(left.role, &left.name);
            let cause = Cause::of_size(left.role);
            self.unlike(cause, &thing, size(left.size), size(right.size), spans);
        }
    }

    /// Compares what two operations of one kind hold beside operands, and pairs their parameters.
    fn compare_ops(&mut self, names: &(Name, Name), ops: [&Op; 2], spans: [Option<Span>; 2]) {
        if let [
            Op::Call {
                block: a, at: from, ..
            },
            Op::Call {
                block: b, at: to, ..
            },
        ] = ops
        {
            let callees = (a.clone(), b.clone());
            if let Some(found) = self.blocks.get_mut(names) {
                found
                    .calls
                    .push(((from.clone(), to.clone()), callees.clone()));
            }
            self.compare_callees(callees);
            return;
        }
        let [left, right] = [self.first.model, self.second.model];
        let (left, right) = (block(left, &names.0), block(right, &names.1));
        let models = [self.first.model, self.second.model];
        let held = attributes(models, left, ops, &self.matching.axes, self.sizes_free);
        for (thing, left, right) in held {
            if left != right {
                self.unlike(Cause::Detail, &thing, left, right, spans);
            }
        }
        for (a, b) in roles_of_params(ops[0])
            .into_iter()
            .zip(roles_of_params(ops[1]))
        {
            let ((role, a), (_, b)) = (a, b);
            match (a, b) {
                (Some(a), Some(b)) => {
                    let (one, two) = (left.param_of(a), right.param_of(b));
                    let inside = [one.span.or(spans[0]), two.span.or(spans[1])];
                    self.compare_axes(&one.ty.input, &two.ty.input, &one.name, inside);
                    self.compare_axes(&one.ty.output, &two.ty.output, &one.name, inside);
                    let found = self.blocks.entry(names.clone()).or_default();
                    match found.params.insert(a, b) {
                        Some(other) if other != b => {
                            let message = format!(
                                "{} uses weight `{}` in several places, where {} uses different \
                                 weights",
                                self.a(),
                                one.name,
                                self.b()
                            );
                            let words = [one.name.clone(), two.name.clone()];
                            self.differ(Cause::Structure, message, words, inside);
                        }
                        _ => {}
                    }
                }
                (None, None) => {}
                (a, b) => {
                    let has = |param: Option<ParamId>| match param {
                        Some(_) => "there".to_owned(),
                        None => "absent".to_owned(),
                    };
                    let thing = format!("the {role} of {}", phrase(ops[0]));
                    self.unlike(Cause::Detail, &thing, has(a), has(b), spans);
                }
            }
        }
    }

    /// Pairs the weights below two paths.
    fn expand(&mut self, names: &(Name, Name), left: &str, right: &str) {
        let Some(found) = self.blocks.get(names) else {
            return;
        };
        let (one, two) = (
            block(self.first.model, &names.0),
            block(self.second.model, &names.1),
        );
        let pairs = found.params.iter().map(|(a, b)| {
            let (a, b) = (&one.param_of(*a).name, &two.param_of(*b).name);
            (join_path(left, a), join_path(right, b))
        });
        let pairs: Vec<(String, String)> = pairs.collect();
        let calls = found.calls.clone();
        self.matching.weights.extend(pairs);
        for ((from, to), names) in calls {
            self.expand(&names, &join_path(left, &from), &join_path(right, &to));
        }
    }
}
