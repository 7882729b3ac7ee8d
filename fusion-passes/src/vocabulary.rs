//! Parents whose vocabularies differ, brought to one before they are fused.
//!
//! Tokens are told by what they are, not by their ids: a mark by its name, an image token by its
//! code, a text token by its place in one tokenizer or, where tokenizers differ, by its spelling
//! ([`Pieces`]). Where one parent has every token of the others, the fused model reads that parent's
//! vocabulary, with its tokenizers: those of the others, with more tokens. Its ids are the *joint*
//! ids.
//!
//! ```text
//! llm     bos  a   b   c                joint ids: those of img
//! img     bos  c   a   b   <0>  break
//!          |   |   |   |    |    |
//! llm's    0   3   1   2    ·    ·      rows of llm's table; it lacks the last two
//! ```
//!
//! Strategies see parents of one vocabulary. Afterwards every table of a parent that their plans load
//! is loaded in the order of the joint ids. Rows that a parent lacks are those of the parent that
//! has them, so that whatever a strategy does with both tables, a token of one parent comes from it
//! alone; where the tables have other widths they are zeros: what a parent never read tells it
//! nothing.

use std::collections::{BTreeMap, HashMap};

use jam_ir::{
    Block, Diagnostic, ImageTokens, Model, Op, Plan, Role, TextTokens, TokenKind, TokenLayout,
};

use crate::reports::{Place, error, note};
use crate::{Fused, Parent};

/// What knows how tokenizers spell their tokens.
pub trait Pieces {
    /// The tokens of a text tokenizer in the order of their ids; `None` where that is not known.
    fn pieces(&self, text: &TextTokens) -> Option<Vec<String>>;
}

/// Knows no tokenizer.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPieces;

impl Pieces for NoPieces {
    fn pieces(&self, _: &TextTokens) -> Option<Vec<String>> {
        None
    }
}

/// Most tokens that a report names.
const NAMED: usize = 3;

/// What a token is, whatever its id.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// A mark by its name.
    Mark(String),
    /// A text token by its place in the tokenizer that all parents have.
    Text(u64),
    /// A text token by its spelling.
    Piece(String),
    /// A code of the image tokenizer.
    Image(u64),
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Mark(name) => write!(f, "<{name}>"),
            Key::Text(place) => write!(f, "text token {place}"),
            Key::Piece(piece) => write!(f, "{piece:?}"),
            Key::Image(code) => write!(f, "image token {code}"),
        }
    }
}

/// Consecutive joint ids whose rows follow one another in a parent's tables, or are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// First joint id.
    joint: u64,
    len: u64,
    /// First row of the parent.
    own: Option<u64>,
}

/// A parent's weight with a vocabulary axis.
struct Table {
    axis: usize,
    /// The parent's rows.
    rows: u64,
    runs: Vec<Run>,
    /// Source and name of the weight that stands for it in the parent whose vocabulary is the
    /// joint one, where that is of the same shape beside the vocabulary.
    donor: Option<(String, String)>,
}

/// Parents of one vocabulary.
pub(crate) struct Joint {
    /// Their graphs.
    pub(crate) models: Vec<Model>,
    /// Tables of parents whose ids have moved, by source and name.
    tables: BTreeMap<(String, String), Table>,
    notes: Vec<Diagnostic>,
}

/// Brings parents to one vocabulary. `None` where they have one already, or where their tokens cannot
/// be told apart: strategies then say what differs.
///
/// # Errors
/// When no parent has all tokens of the others, or a table cannot be reordered.
pub(crate) fn join(
    parents: &[Parent<'_>],
    pieces: &dyn Pieces,
) -> Result<Option<Joint>, Vec<Diagnostic>> {
    let layouts: Vec<&TokenLayout> = parents.iter().map(|p| &p.model.tokens).collect();
    let Some(keys) = keys_of(&layouts, pieces) else {
        return Ok(None);
    };
    let alike = |other: &TokenLayout| other.size == layouts[0].size;
    if keys.iter().all(|of| *of == keys[0]) && layouts.iter().all(|other| alike(other)) {
        return Ok(None);
    }
    let ids: Vec<HashMap<&Key, u64>> = keys
        .iter()
        .map(|keys| {
            let known = keys.iter().zip(0..);
            known
                .filter_map(|(key, id)| Some((key.as_ref()?, id)))
                .collect()
        })
        .collect();
    let lacks = |of: usize, other: usize| -> Vec<&Key> {
        let others = keys[other].iter().flatten();
        others.filter(|key| !ids[of].contains_key(key)).collect()
    };
    let has_all = |base: &usize| (0..parents.len()).all(|other| lacks(*base, other).is_empty());
    let Some(base) = (0..parents.len()).find(has_all) else {
        return Err(vec![no_common(parents, &lacks)]);
    };

    let mut joint = Joint {
        models: Vec::new(),
        tables: BTreeMap::new(),
        notes: Vec::new(),
    };
    for (index, parent) in parents.iter().enumerate() {
        let mut model = parent.model.clone();
        let own: Vec<Option<u64>> = match index == base {
            true => (0..keys[base].len() as u64).map(Some).collect(),
            false => keys[base]
                .iter()
                .map(|key| ids[index].get(key.as_ref()?).copied())
                .collect(),
        };
        let moved = own.iter().zip(0..).any(|(own, id)| *own != Some(id));
        if moved || layouts[index].size != layouts[base].size {
            joint.add_tables(parent, &parents[base], &own)?;
            relabel(&mut model, layouts[base].size, &own);
            joint
                .notes
                .push(lacking(parent, &parents[base], &lacks(index, base)));
        }
        model.tokens = layouts[base].clone();
        joint.models.push(model);
    }
    Ok(Some(joint))
}

/// What every id of every layout is; `None` where tokens of different parents cannot be compared.
fn keys_of(layouts: &[&TokenLayout], pieces: &dyn Pieces) -> Option<Vec<Vec<Option<Key>>>> {
    let first = layouts.first()?;
    let alike = |other: &&TokenLayout| {
        other.size == first.size
            && other.ranges == first.ranges
            && other.marks == first.marks
            && other.grid == first.grid
            && other.text == first.text
            && other.image == first.image
    };
    // Marks without a name are told by nothing.
    let named = |layout: &&TokenLayout| {
        let rows = layout.rows(TokenKind::Mark).into_iter();
        rows.map(|(start, end)| end - start).sum::<u64>() == layout.marks.len() as u64
    };
    if layouts.iter().all(alike) || !layouts.iter().all(named) {
        return None;
    }
    let length = |layout: &TokenLayout, kind| layout.range(kind).map_or(0, |range| range.len);
    let with = |kind| -> Vec<&TokenLayout> {
        let found = layouts.iter().filter(|layout| length(layout, kind) > 0);
        found.copied().collect()
    };
    let (texts, images) = (with(TokenKind::Text), with(TokenKind::Image));
    let same = |layouts: &[&TokenLayout], kind| {
        let mut lengths = layouts.iter().map(|layout| length(layout, kind));
        let first = lengths.next();
        lengths.all(|other| Some(other) == first)
    };
    // Files cannot be compared by their names, and bare codes claim nothing.
    let loose = |image: &ImageTokens| !matches!(image, ImageTokens::Tokenizer(_));
    let one_image = images.windows(2).all(|pair| {
        let [a, b] = [&pair[0].image, &pair[1].image];
        pair[0].grid == pair[1].grid && (a == b || loose(a) || loose(b))
    });
    if !one_image || !same(&images, TokenKind::Image) {
        return None;
    }
    let one_text = texts.windows(2).all(|pair| pair[0].text == pair[1].text);
    let bare = texts.iter().any(|layout| layout.text == TextTokens::Ids);
    let spelled: Option<Vec<Vec<String>>> = match one_text || bare {
        true => None,
        false => texts
            .iter()
            .map(|layout| pieces.pieces(&layout.text))
            .collect(),
    };
    let files = |layout: &&TokenLayout| matches!(layout.text, TextTokens::Files(_));
    let by_place = match (one_text, bare) {
        (true, false) => true,
        (_, true) => same(&texts, TokenKind::Text),
        (false, false) => texts.iter().all(files) && same(&texts, TokenKind::Text),
    };
    if spelled.is_none() && !by_place {
        return None;
    }
    let mut spelled = spelled.map(|all| all.into_iter());
    let keys = layouts.iter().map(|layout| {
        let has_text = length(layout, TokenKind::Text) > 0;
        let own = match (&mut spelled, has_text) {
            (Some(spelled), true) => spelled.next(),
            _ => None,
        };
        keys_of_one(layout, own)
    });
    Some(keys.collect())
}

/// What every id of a layout is; `None` for rows without a meaning.
fn keys_of_one(layout: &TokenLayout, pieces: Option<Vec<String>>) -> Vec<Option<Key>> {
    let mut keys = vec![None; usize::try_from(layout.size).unwrap_or(0)];
    for range in &layout.ranges {
        for place in 0..range.len {
            let key = match (range.kind, &pieces) {
                (TokenKind::Text, None) => Some(Key::Text(place)),
                (TokenKind::Text, Some(pieces)) => {
                    pieces.get(place as usize).cloned().map(Key::Piece)
                }
                (TokenKind::Image, _) => Some(Key::Image(place)),
                (TokenKind::Mark | TokenKind::Reserved | TokenKind::Filler, _) => None,
            };
            if let Some(slot) = keys.get_mut((range.start + place) as usize) {
                *slot = key;
            }
        }
    }
    for (name, id) in &layout.marks {
        if let Some(slot) = keys.get_mut(*id as usize) {
            *slot = Some(Key::Mark(name.clone()));
        }
    }
    keys
}

fn listed(keys: &[&Key]) -> String {
    let names: Vec<String> = keys.iter().take(NAMED).map(ToString::to_string).collect();
    let more = if keys.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", names.join(", "))
}

/// The report that no parent has all tokens of the others.
fn no_common<'k>(
    parents: &[Parent<'_>],
    lacks: &dyn Fn(usize, usize) -> Vec<&'k Key>,
) -> Diagnostic {
    let mut words = Vec::new();
    for index in 0..parents.len() {
        let (other, missing) = (0..parents.len())
            .map(|other| (other, lacks(index, other)))
            .max_by_key(|(_, missing)| missing.len())
            .unwrap_or((0, Vec::new()));
        words.push(format!(
            "`{}` lacks {} tokens of `{}` ({})",
            parents[index].source,
            missing.len(),
            parents[other].source,
            listed(&missing)
        ));
    }
    let message = format!(
        "no parent has every token of the others: {}",
        words.join("; ")
    );
    let places = parents.iter().zip(&words);
    let places: Vec<Place<'_>> = places
        .map(|(p, words)| Place::new(p, words.clone()))
        .collect();
    error(message, &places).help(
        "a parent whose tokenizer and marks contain those of the others gives the fused model its \
         vocabulary",
    )
}

/// The note that a parent lacks tokens of the joint vocabulary.
fn lacking(parent: &Parent<'_>, base: &Parent<'_>, missing: &[&Key]) -> Diagnostic {
    let message = match missing.is_empty() {
        true => format!(
            "the tokens of `{}` have other ids in `{}`: the fused model reads the vocabulary of \
             `{1}`, and rows are taken by token",
            parent.source, base.source
        ),
        false => format!(
            "`{}` lacks {} tokens of `{}` ({}): the fused model reads the vocabulary of `{2}`, and \
             rows are taken by token",
            parent.source,
            missing.len(),
            base.source,
            listed(missing)
        ),
    };
    let places = [
        Place::new(parent, "its rows by token"),
        Place::new(base, "its vocabulary"),
    ];
    note(message, &places)
}

/// Gives a parent's graph the joint vocabulary.
fn relabel(model: &mut Model, size: u64, own: &[Option<u64>]) {
    let rows = model.tokens.size;
    for axis in &mut model.axes {
        if axis.role == Role::Vocab && axis.size == Some(rows) {
            axis.size = Some(size);
        }
    }
    let renumber = |ranges: &mut Vec<(u64, u64)>| {
        let inside = |own: &u64| ranges.iter().any(|(start, end)| own >= start && own < end);
        let mut moved: Vec<(u64, u64)> = Vec::new();
        for (id, own) in (0..).zip(own) {
            if own.as_ref().is_some_and(inside) {
                match moved.last_mut() {
                    Some((_, end)) if *end == id => *end += 1,
                    _ => moved.push((id, id + 1)),
                }
            }
        }
        *ranges = moved;
    };
    let blocks = model.blocks.values_mut().chain([&mut model.main]);
    for statement in blocks.flat_map(|block: &mut Block| &mut block.body) {
        match &mut statement.op {
            Op::ChooseRows { second: rows, .. } | Op::MaskRows { rows, .. } => renumber(rows),
            _ => {}
        }
    }
}

/// What a weight with a vocabulary axis is to a model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Embed,
    Unembed,
    UnembedBias,
}

/// The weights of the main block that read or give tokens.
fn parts(model: &Model) -> Vec<(Part, String)> {
    let main = &model.main;
    let name = |id: &jam_ir::ParamId| main.param_of(*id).name.clone();
    let mut parts = Vec::new();
    for statement in &main.body {
        match &statement.op {
            Op::Embed { table, .. } => parts.push((Part::Embed, name(table))),
            Op::Unembed { table, .. } => parts.push((Part::Unembed, name(table))),
            Op::Linear { weight, bias, .. } => {
                let last = main.value_of(statement.result).ty.axes.last();
                if last.is_some_and(|axis| model.axis(*axis).role == Role::Vocab) {
                    parts.push((Part::Unembed, name(weight)));
                    parts.extend(bias.iter().map(|bias| (Part::UnembedBias, name(bias))));
                }
            }
            _ => {}
        }
    }
    parts
}

impl Joint {
    /// Adds the tables of a parent whose ids have moved.
    fn add_tables(
        &mut self,
        parent: &Parent<'_>,
        base: &Parent<'_>,
        own: &[Option<u64>],
    ) -> Result<(), Vec<Diagnostic>> {
        let mut runs: Vec<Run> = Vec::new();
        for (joint, own) in (0..).zip(own.iter().copied()) {
            match runs.last_mut() {
                Some(run)
                    if match (run.own, own) {
                        (Some(first), Some(own)) => first + run.len == own,
                        (None, None) => true,
                        _ => false,
                    } =>
                {
                    run.len += 1;
                }
                _ => runs.push(Run { joint, len: 1, own }),
            }
        }
        let (own_parts, base_parts) = (parts(parent.model), parts(base.model));
        let base_uses = base.model.weight_uses();
        for (name, param) in parent.model.weight_uses() {
            let axes: Vec<_> = param.ty.axes().collect();
            let is_vocab = |axis: &usize| parent.model.axis(axes[*axis]).role == Role::Vocab;
            let mut vocab = (0..axes.len()).filter(is_vocab);
            let Some(axis) = vocab.next() else {
                continue;
            };
            if vocab.next().is_some() {
                let message = format!(
                    "`{name}` of `{}` has two vocabulary axes, and its vocabulary is not that of \
                     `{}`",
                    parent.source, base.source
                );
                let place = Place::new(parent, "this weight").inside(param.span);
                return Err(vec![error(message, &[place, Place::new(base, "")])]);
            }
            let beside = |model: &Model, ty| {
                let mut shape = model.weight_shape(ty)?;
                (axis < shape.len()).then(|| shape.remove(axis))?;
                Some(shape)
            };
            let part = own_parts.iter().find(|(_, own)| *own == name);
            let donor = part.and_then(|(part, _)| {
                let (_, donor) = base_parts.iter().find(|(other, _)| other == part)?;
                let other = base_uses.get(donor)?;
                let there = other.ty.axes().nth(axis)?;
                let fits = base.model.axis(there).role == Role::Vocab
                    && beside(base.model, &other.ty) == beside(parent.model, &param.ty);
                fits.then(|| (base.source.clone(), donor.clone()))
            });
            let table = Table {
                axis,
                rows: parent.model.tokens.size,
                runs: runs.clone(),
                donor,
            };
            self.tables.insert((parent.source.clone(), name), table);
        }
        Ok(())
    }

    /// Loads every table of a fused model in the order of the joint ids.
    pub(crate) fn complete(self, fused: &mut Fused) {
        for weight in fused.model.weights.values_mut() {
            self.reorder(&mut weight.plan);
        }
        fused.notes.splice(0..0, self.notes);
    }

    fn reorder(&self, plan: &mut Plan) {
        match plan {
            Plan::Load { source, name } => {
                if let Some(table) = self.tables.get(&(source.clone(), name.clone())) {
                    let load = plan.clone();
                    *plan = table.plan(load);
                }
            }
            _ => plan.operands_mut().into_iter().for_each(|plan| self.reorder(plan)),
        }
    }
}

impl Table {
    /// The table that `load` gives, in the order of the joint ids. Rows that are not there are the
    /// donor's, or zeros where there is none.
    fn plan(&self, load: Plan) -> Plan {
        let axis = self.axis;
        let cut = |of: &Plan, start: u64, len: u64| Plan::Slice {
            axis,
            start,
            len,
            of: Box::new(of.clone()),
        };
        let donor = self.donor.as_ref();
        let donor = donor.map(|(source, name)| Plan::load(source.clone(), name.clone()));
        let mut parts = Vec::new();
        for run in &self.runs {
            match (run.own, &donor) {
                (Some(own), _) => parts.push(cut(&load, own, run.len)),
                (None, Some(donor)) => parts.push(cut(donor, run.joint, run.len)),
                (None, None) => {
                    // Zeros have no length of their own: rows that are there, times zero, have.
                    let mut left = run.len;
                    while left > 0 {
                        let len = left.min(self.rows.max(1));
                        parts.push(Plan::Scale {
                            by: 0.0,
                            of: Box::new(cut(&load, 0, len)),
                        });
                        left -= len;
                    }
                }
            }
        }
        match parts.len() {
            1 => parts.swap_remove(0),
            _ => Plan::Concat { axis, parts },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_the_joint_ids() {
        let mut table = Table {
            axis: 0,
            rows: 4,
            runs: vec![
                Run {
                    joint: 0,
                    len: 1,
                    own: Some(0),
                },
                Run {
                    joint: 1,
                    len: 1,
                    own: Some(3),
                },
                Run {
                    joint: 2,
                    len: 6,
                    own: None,
                },
            ],
            donor: Some(("img".to_owned(), "e".to_owned())),
        };
        let load = Plan::load("llm", "e");
        let slice = |of: &Plan, start, len| Plan::Slice {
            axis: 0,
            start,
            len,
            of: Box::new(of.clone()),
        };
        let zeros = |len| Plan::Scale {
            by: 0.0,
            of: Box::new(slice(&load, 0, len)),
        };
        let own = [slice(&load, 0, 1), slice(&load, 3, 1)];
        let donated = slice(&Plan::load("img", "e"), 2, 6);
        let parts = [own.as_slice(), &[donated]].concat();
        assert_eq!(table.plan(load.clone()), Plan::Concat { axis: 0, parts });
        table.donor = None;
        let parts = [own.as_slice(), &[zeros(4), zeros(2)]].concat();
        assert_eq!(table.plan(load.clone()), Plan::Concat { axis: 0, parts });
    }
}
