//! The fused graph as it grows: axes, blocks and statements of both parents in one model.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use jam_ir::{
    Axis, AxisId, Block, Diagnostic, Model, Op, ParamId, Plan, ValueId, Weight, join_path,
};

use super::exchange::cross_block;
use super::identity::begin_as_identity;
use super::schedule::{Step, schedule};
use super::settings::CrossSettings;
use super::tower::{Tower, free_axis_name};
use crate::Fused;
use crate::anatomy::Layer;
use crate::fresh::refit;
use crate::passes::{dead_code, without_places};
use crate::reports::{Place, error, note, warning};

/// A cross fusion under way.
pub(super) struct Fusion<'a> {
    /// The fused model.
    pub(super) model: Model,
    /// Both parents.
    pub(super) towers: [Tower<'a>; 2],
    /// Settings.
    pub(super) settings: CrossSettings,
    /// Plans of weights that are not fresh, by full name.
    pub(super) plans: IndexMap<String, Plan>,
    /// Begins of the names of fresh weights, each with its dot.
    pub(super) fresh: Vec<String>,
    /// Notes for the reader.
    pub(super) notes: Vec<Diagnostic>,
}

impl<'a> Fusion<'a> {
    /// A model with the axes of both parents and the tokens as input.
    pub(super) fn new(
        name: &str,
        context: Option<u64>,
        mut towers: [Tower<'a>; 2],
        settings: CrossSettings,
        notes: Vec<Diagnostic>,
    ) -> Fusion<'a> {
        let mut model = Model {
            name: name.to_owned(),
            tokens: towers[0].model.tokens.clone(),
            context,
            axes: towers[0].model.axes.clone(),
            blocks: IndexMap::new(),
            main: Block::new("main"),
            weights: IndexMap::new(),
        };
        let count = model.axes.len() as u32;
        towers[0].axes = (0..count).map(AxisId).collect();
        towers[1].axes = merge_axes(&mut model, &towers);
        for (index, tower) in towers.iter_mut().enumerate() {
            for input in &tower.model.main.inputs {
                let value = tower.model.main.value_of(*input).clone();
                let ty = tower.value_type(&value.ty);
                let id = match (index, model.main.inputs.first()) {
                    (1, Some(tokens)) => *tokens,
                    _ => model.main.input(value.name, ty),
                };
                tower.values.insert(*input, id);
            }
        }
        model.main.span = towers[0].model.main.span;
        let mut plans = IndexMap::new();
        for tower in &towers {
            for name in tower.model.weights.keys() {
                let plan = Plan::load(tower.parent.source.clone(), name.clone());
                plans.insert(join_path(&tower.prefix, name), plan);
            }
        }
        Fusion {
            model,
            towers,
            settings,
            plans,
            fresh: vec!["cross.".to_owned(), "join.".to_owned()],
            notes,
        }
    }

    /// The parents' embeddings; what both compute alike stands once. Gives both first states.
    pub(super) fn embed(&mut self) -> [ValueId; 2] {
        let mut states = [ValueId(0); 2];
        for (tower, state) in states.iter_mut().enumerate() {
            for index in &self.towers[tower].anatomy.embedding {
                self.copy_statement(tower, *index);
            }
            let parent = &self.towers[tower];
            *state = parent.values[&parent.anatomy.stack_in];
        }
        states
    }

    /// Copies a statement of a parent's main block, unless the same one is there already.
    pub(super) fn copy_statement(&mut self, tower: usize, index: usize) -> ValueId {
        let source = self.towers[tower].model;
        let statement = &source.main.body[index];
        let mut op = statement.op.clone();
        op.for_each_operand(|value| *value = self.towers[tower].values[value]);
        let mut params = BTreeMap::new();
        for param in op.params() {
            params.insert(param, self.param(tower, param));
        }
        op.for_each_param(|param| *param = params[param]);
        if let Op::Concat { axis, .. } | Op::Slice { axis, .. } = &mut op {
            *axis = self.towers[tower].axes[axis.0 as usize];
        }
        let value = source.main.value_of(statement.result);
        let ty = self.towers[tower].value_type(&value.ty);
        let known = self.model.main.body.iter().find(|known| known.op == op);
        let id = match known.map(|known| known.result) {
            Some(known) => known,
            None => {
                let id = self.model.main.push(value.name.clone(), ty, op);
                if let Some(last) = self.model.main.body.last_mut() {
                    last.span = statement.span;
                }
                id
            }
        };
        self.towers[tower].values.insert(statement.result, id);
        id
    }

    /// The fused parameter for one of a parent's main block: a shared one, or the parent's own.
    fn param(&mut self, tower: usize, id: ParamId) -> ParamId {
        let parent = &mut self.towers[tower];
        if let Some(known) = parent.params.get(&id) {
            return *known;
        }
        let mut param = parent.model.main.param_of(id).clone();
        param.name = join_path(&parent.prefix, &param.name);
        for axis in param.ty.input.iter_mut().chain(&mut param.ty.output) {
            *axis = parent.axes[axis.0 as usize];
        }
        self.model.main.params.push(param);
        let fused = ParamId(self.model.main.params.len() as u32 - 1);
        parent.params.insert(id, fused);
        fused
    }

    /// Layers and exchanges. Gives both last states.
    pub(super) fn run_layers(
        &mut self,
        mut states: [ValueId; 2],
    ) -> Result<[ValueId; 2], Vec<Diagnostic>> {
        let depths = [0, 1].map(|tower| self.towers[tower].anatomy.layers.len());
        let steps = schedule(depths, &self.settings);
        if depths[0] != depths[1] {
            let (a, b) = (&self.towers[0].parent.source, &self.towers[1].parent.source);
            let message = format!(
                "`{a}` has {} layers and `{b}` {}: those of the deeper parent are spread evenly \
                 over the other's",
                depths[0], depths[1]
            );
            let words = depths.map(|depth| format!("{depth} layers"));
            self.note(message, [&words[0], &words[1]]);
        }
        let shallow = depths[0].min(depths[1]);
        let times = steps.iter().filter(|step| **step == Step::Exchange).count();
        if let Some(every) = self.settings.every
            && (times == 0 || every > shallow as u64)
        {
            let words = depths.map(|depth| format!("{depth} layers"));
            let what = match times {
                0 => "never exchange their states",
                _ => "exchange their states only once",
            };
            let message = format!("`every: {every}` in {shallow} layers: the parents {what}");
            self.warn(
                message,
                [&words[0], &words[1]],
                "give a smaller `every`, or say `every: never`",
            );
        }
        let mut last = [0; 2];
        let mut exchanges = 0;
        for step in steps {
            match step {
                Step::Layer { tower, layer } => {
                    states[tower] = self.call_layer(tower, layer, states[tower]);
                    last[tower] = layer;
                }
                Step::Exchange => {
                    states = self.exchange(exchanges, states, last)?;
                    exchanges += 1;
                }
            }
        }
        Ok(states)
    }

    fn call_layer(&mut self, tower: usize, layer: usize, state: ValueId) -> ValueId {
        let parent = &self.towers[tower];
        let layer = &parent.anatomy.layers[layer];
        let (at, span) = (join_path(&parent.prefix, &layer.at), layer.span);
        let block = match parent.blocks.get(&layer.block) {
            Some(block) => block.clone(),
            None => {
                let copy = parent.block(&layer.block);
                let wanted = layer.block.clone();
                let block = self.add_block(copy, &wanted, tower);
                self.towers[tower].blocks.insert(wanted, block.clone());
                block
            }
        };
        self.call(block, vec![state], at, tower, span)
    }

    /// Both towers read the other's state from before.
    fn exchange(
        &mut self,
        number: usize,
        states: [ValueId; 2],
        last: [usize; 2],
    ) -> Result<[ValueId; 2], Vec<Diagnostic>> {
        let mut after = states;
        for receiver in 0..2 {
            let giver = 1 - receiver;
            let layer = &self.towers[receiver].anatomy.layers[last[receiver]];
            let block = match self.towers[receiver].cross_blocks.get(&layer.block) {
                Some(block) => block.clone(),
                None => {
                    let block = self.add_cross_block(receiver, layer)?;
                    let known = &mut self.towers[receiver].cross_blocks;
                    known.insert(layer.block.clone(), block.clone());
                    block
                }
            };
            let (to, from) = (&self.towers[receiver], &self.towers[giver]);
            let at = format!("cross.{number}.{}_to_{}", from.prefix, to.prefix);
            let span = layer.span;
            let args = vec![states[receiver], states[giver]];
            after[receiver] = self.call(block, args, at, receiver, span);
        }
        Ok(after)
    }

    /// The block in which a receiver's layer reads the other tower; gives its name.
    fn add_cross_block(
        &mut self,
        receiver: usize,
        layer: &Layer,
    ) -> Result<String, Vec<Diagnostic>> {
        let (to, from) = (&self.towers[receiver], &self.towers[1 - receiver]);
        let mut block = cross_block(to, layer, from.state_type(), self.settings.kv_norm);
        if let (Ok(made), true) = (&mut block, self.settings.start_parents)
            && let Err((span, reason)) = begin_as_identity(made)
        {
            let message = format!(
                "`start: parents`: cross blocks like the layers of `{}` cannot begin without \
                 effect: {reason}",
                to.parent.source
            );
            let place = Place::new(to.parent, "its layers").inside(span);
            let report = error(message, &[place]);
            return Err(vec![report.help(
                "write them as residual sums, `x = x + part(x)`, or leave out `start: parents`",
            )]);
        }
        match block {
            Ok(block) => Ok(self.add_block(block, &format!("{}_cross", layer.block), receiver)),
            Err(reason) => {
                let message = format!(
                    "layers of `{}` cannot read the states of `{}`: {reason}",
                    to.parent.source, from.parent.source
                );
                let words = match receiver {
                    0 => ["its layers", "read by them"],
                    _ => ["read by them", "its layers"],
                };
                Err(vec![self.error(message, words)])
            }
        }
    }

    fn call(
        &mut self,
        block: String,
        args: Vec<ValueId>,
        at: String,
        tower: usize,
        span: Option<jam_ir::Span>,
    ) -> ValueId {
        let ty = self.towers[tower].state_type();
        let name = at.clone();
        let id = self.model.main.push(name, ty, Op::Call { block, args, at });
        if let Some(last) = self.model.main.body.last_mut() {
            last.span = span;
        }
        id
    }

    /// Adds a block under the wanted name, or one made distinct; one that is there already but for
    /// places in the program is used again, so that twin towers share their blocks.
    fn add_block(&mut self, mut block: Block, wanted: &str, tower: usize) -> String {
        let wanted_plain = without_places(&block);
        let known = self
            .model
            .blocks
            .values()
            .find(|known| without_places(known) == wanted_plain);
        if let Some(known) = known {
            return known.name.clone();
        }
        let mut name = wanted.to_owned();
        if self.model.blocks.contains_key(&name) {
            name = format!("{}_{wanted}", self.towers[tower].prefix);
        }
        let mut number = 2;
        while self.model.blocks.contains_key(&name) || name == "main" {
            name = format!("{wanted}_{number}");
            number += 1;
        }
        block.name.clone_from(&name);
        self.model.blocks.insert(name.clone(), block);
        name
    }

    /// The fused model, every weight with its plan.
    pub(super) fn finish(mut self) -> Result<Fused, Vec<Diagnostic>> {
        dead_code::run(&mut self.model);
        refit(&mut self.model);
        let mut weights = IndexMap::with_capacity(self.plans.len());
        let mut homeless = None;
        let (plans, fresh) = (&mut self.plans, &self.fresh);
        self.model.for_each_weight_use(&mut |name, param| {
            // What is used again has its plan already.
            let (name, plan) = match plans.swap_remove_entry(name) {
                Some(found) => found,
                None if weights.contains_key(name) => return,
                None if fresh.iter().any(|begin| name.starts_with(begin)) => {
                    (name.to_owned(), param.init.clone())
                }
                None => {
                    homeless.get_or_insert_with(|| name.to_owned());
                    return;
                }
            };
            let span = param.span;
            weights.insert(name, Weight { plan, span });
        });
        if let Some(name) = homeless {
            let message = format!("weight `{name}` belongs to neither parent");
            return Err(vec![self.error(message, ["", ""])]);
        }
        self.model.weights = weights;
        Ok(Fused {
            model: self.model,
            notes: self.notes,
        })
    }
}

impl Fusion<'_> {
    /// A note about both parents.
    pub(super) fn note(&mut self, message: String, words: [&str; 2]) {
        let [a, b] = [self.towers[0].parent, self.towers[1].parent];
        let places = [Place::new(a, words[0]), Place::new(b, words[1])];
        self.notes.push(note(message, &places));
    }

    /// A warning about both parents, with the way out.
    pub(super) fn warn(&mut self, message: String, words: [&str; 2], help: &str) {
        let [a, b] = [self.towers[0].parent, self.towers[1].parent];
        let places = [Place::new(a, words[0]), Place::new(b, words[1])];
        self.notes.push(warning(message, &places).help(help));
    }

    /// An error about both parents.
    pub(super) fn error(&self, message: String, words: [&str; 2]) -> Diagnostic {
        let [a, b] = [self.towers[0].parent, self.towers[1].parent];
        error(message, &[Place::new(a, words[0]), Place::new(b, words[1])])
    }
}

/// Adds the second parent's axes to the model of the first's; axes of one meaning and size are
/// one. Gives the second parent's axes in the model.
fn merge_axes(model: &mut Model, towers: &[Tower<'_>; 2]) -> Vec<AxisId> {
    let [first, second] = towers;
    let count = model.axes.len();
    let mut merged: Vec<Option<AxisId>> = vec![None; second.model.axes.len()];
    let mut used = vec![false; count];
    let mut pair = |merged: &mut Vec<Option<AxisId>>, theirs: usize, ours: usize| {
        if merged[theirs].is_none() && !used[ours] {
            merged[theirs] = Some(AxisId(ours as u32));
            used[ours] = true;
        }
    };
    // The streams first, so that no other axis of the width's size takes their place.
    let streams = [first, second].map(|tower| tower.anatomy.stream);
    let sizes = [
        first.model.axis(streams[0]).size,
        second.model.axis(streams[1]).size,
    ];
    if sizes[0] == sizes[1] {
        pair(&mut merged, streams[1].0 as usize, streams[0].0 as usize);
    }
    let alike = |a: &Axis, b: &Axis| a.role == b.role && a.size == b.size;
    for by_name in [true, false] {
        for (theirs, axis) in second.model.axes.iter().enumerate() {
            let ours = (0..count).find(|ours| {
                let our = &first.model.axes[*ours];
                // A stream stands only for the other stream.
                let stream = streams[0].0 as usize == *ours || streams[1].0 as usize == theirs;
                alike(our, axis)
                    && !stream
                    && (!by_name || our.name == axis.name)
                    && !used_at(&merged, *ours)
            });
            if let Some(ours) = ours {
                pair(&mut merged, theirs, ours);
            }
        }
    }
    let mut axes = Vec::with_capacity(merged.len());
    for (axis, known) in second.model.axes.iter().zip(merged) {
        axes.push(known.unwrap_or_else(|| {
            let name = free_axis_name(model, &axis.name, &second.prefix);
            model.add_axis(name, axis.size, axis.role)
        }));
    }
    axes
}

fn used_at(merged: &[Option<AxisId>], ours: usize) -> bool {
    merged.contains(&Some(AxisId(ours as u32)))
}
