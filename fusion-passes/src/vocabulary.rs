//! Parents whose vocabularies differ, brought to one before they are fused.
//!
//! Tokens are told by what they are, not by their ids: a mark by its name, an image token by its
//! code, a text token by its place in one tokenizer or, where tokenizers differ, by its spelling
//! ([`Pieces`]). A mark or an image that is a token of the text tokenizer is told by that first, and by
//! its name or code where the other has no such token. Where one parent has every token of the others,
//! the fused model reads that parent's vocabulary, with its tokenizers, and the marks that another makes of
//! its tokens. Otherwise it reads the union ([`union`]). Its ids are the *joint* ids.
//!
//! ```text
//! llm     bos  a   b   c                joint ids: those of img
//! img     bos  c   a   b   <0>  break
//!          |   |   |   |    |    |
//! llm's    0   3   1   2    ·    ·      rows of llm's table; it lacks the last two
//! ```
//!
//! Strategies see parents of one vocabulary. Afterwards every table of a parent that their plans load
//! is loaded in the order of the joint ids ([`tables`]). Rows that a parent lacks are those of the first
//! parent that has them, so that whatever a strategy does with both tables, a token of one parent
//! comes from it alone; where the tables have other widths they are zeros: what a parent never read
//! tells it nothing. A head that reads some rows from the second parent reads those of its own tokens
//! from it too, and none that it lacks.

mod keys;
mod marks;
mod tables;
mod union;

use jam_ir::{Block, Diagnostic, ImageTokens, Model, Op, Role, TextTokens, TokenKind, TokenLayout};

use crate::reports::{Place, error, note};
use crate::{Fused, Parent};
use keys::{Key, Known, keys_of};
use tables::{Row, Tables};

/// What knows how tokenizers spell their tokens.
pub trait Pieces {
    /// The tokens of a text tokenizer in the order of their ids, empty for an id without one; `None`
    /// where that is not known.
    fn pieces(&self, text: &TextTokens) -> Option<Vec<String>>;

    /// Whether tokens of tokenizers stand for the same text where they are spelled alike.
    ///
    /// # Errors
    /// How they differ.
    fn spelled_alike(&self, texts: &[&TextTokens]) -> Result<(), String>;

    /// Whether tokenizers treat texts alike, but for the tokens that they have.
    ///
    /// # Errors
    /// How they differ.
    fn cut_alike(&self, texts: &[&TextTokens]) -> Result<(), String>;

    /// The tokens of the union of several: those of the first at their ids, then those that only a later
    /// one has.
    ///
    /// # Errors
    /// Why the tokenizers cannot be one.
    fn union(&self, texts: &[&TextTokens]) -> Result<Vec<String>, String>;
}

/// Knows no tokenizer.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPieces;

impl Pieces for NoPieces {
    fn pieces(&self, _: &TextTokens) -> Option<Vec<String>> {
        None
    }

    fn spelled_alike(&self, _: &[&TextTokens]) -> Result<(), String> {
        Err("their tokens are not known".to_owned())
    }

    fn cut_alike(&self, _: &[&TextTokens]) -> Result<(), String> {
        Err("their tokens are not known".to_owned())
    }

    fn union(&self, _: &[&TextTokens]) -> Result<Vec<String>, String> {
        Err("their tokens are not known".to_owned())
    }
}

/// Most tokens that a report names.
const NAMED: usize = 3;

/// Parents of one vocabulary.
pub(crate) struct Joint {
    /// Their graphs.
    pub(crate) models: Vec<Model>,
    tables: Tables,
    /// Image rows, and those that a head by rows reads from the second parent, where these differ.
    head_rows: Option<[Vec<(u64, u64)>; 2]>,
    notes: Vec<Diagnostic>,
}

/// Brings parents to one vocabulary. `None` where they have one already, or where their tokens cannot
/// be told apart: strategies then say what differs.
///
/// # Errors
/// When each has tokens of its own and their tokenizers cannot be united, or a table cannot be
/// reordered.
pub(crate) fn join(
    parents: &[Parent<'_>],
    pieces: &dyn Pieces,
) -> Result<Option<Joint>, Vec<Diagnostic>> {
    let layouts: Vec<&TokenLayout> = parents.iter().map(|p| &p.model.tokens).collect();
    let Some(keys) = keys_of(&layouts, pieces) else {
        return Ok(None);
    };
    let mut told = keys.iter().flat_map(|keys| &keys.main).flatten();
    let by_spelling = told.any(|key| matches!(key, Key::Piece(_)));
    let texts = layouts.iter().map(|layout| &layout.text);
    let texts: Vec<_> = texts.filter(|text| **text != TextTokens::Ids).collect();
    let cut = match by_spelling {
        true => pieces.cut_alike(&texts),
        false => Ok(()),
    };
    let equal = keys.iter().all(|of| *of == keys[0]);
    let alike =
        |other: &&TokenLayout| other.size == layouts[0].size && other.begin == layouts[0].begin;
    if equal && cut.is_ok() && layouts.iter().all(alike) {
        return Ok(None);
    }
    let known = Known::all(&keys);
    // The ids that one parent has for the tokens of another.
    let own: Vec<Vec<Vec<Option<u64>>>> = (0..parents.len())
        .map(|of| {
            let others = keys.iter().enumerate();
            others
                .map(|(other, keys)| match of == other {
                    true => keys.known_to_itself(),
                    false => keys.known_to(&known[of]),
                })
                .collect()
        })
        .collect();
    let lacks = |of: usize, other: usize| keys[other].missing(&own[of][other]);
    // Tokens that one tells apart are not made one.
    let apart = |of: usize, other: usize| {
        let mut seen = vec![false; keys[of].main.len()];
        let mut found = own[of][other].iter().flatten();
        found.all(|id| !std::mem::replace(&mut seen[*id as usize], true))
    };
    let has_all = |base: &usize| {
        let mut others = (0..parents.len()).filter(|other| other != base);
        others.all(|other| lacks(*base, other).is_empty() && apart(*base, other))
    };
    let apart_for = |why: String| vec![no_union(parents, &lacks, &why)];
    if by_spelling && cut.is_err() {
        pieces.spelled_alike(&texts).map_err(apart_for)?;
    }
    let base = (0..parents.len()).find(has_all);
    let (mut layout, joint_keys) = match base {
        Some(base) => (with_tokenizers(layouts[base], &layouts), keys[base].clone()),
        None => {
            cut.clone().map_err(apart_for)?;
            let pieces = by_spelling.then_some(pieces);
            union::layout(&layouts, pieces).map_err(apart_for)?
        }
    };

    let mut notes = Vec::new();
    if let (Some(base), Err(why)) = (base, &cut) {
        notes.push(cut_as(parents, &parents[base], why));
    }
    if base.is_none() {
        notes.push(united(parents, &layout, &lacks));
    }
    // Of every joint id, the row that each parent has for it.
    let rows_of: Vec<Vec<Option<u64>>> = match base {
        Some(base) => own
            .into_iter()
            .map(|mut own| own.swap_remove(base))
            .collect(),
        None => known
            .iter()
            .map(|known| joint_keys.known_to(known))
            .collect(),
    };
    marks::join(&mut layout, &layouts, &rows_of);
    layout.begin = marks::begin(&layout, layouts[base.unwrap_or(0)], &layouts);
    if marks::begin_differs(&layout, &layouts, &rows_of) {
        notes.push(marks::other_begin(parents, &layout));
    }

    let mut joint = Joint {
        models: Vec::new(),
        tables: Tables::default(),
        head_rows: None,
        notes,
    };
    for (index, parent) in parents.iter().enumerate() {
        let mut model = parent.model.clone();
        let has = |parent: usize, id: u64| rows_of[parent].get(id as usize).copied().flatten();
        let row = |(id, key): (u64, &Option<Key>)| match key {
            None if base == Some(index) => Row::Own(id),
            None => base.map_or(Row::None, |base| Row::Of(base, id)),
            Some(_) => match has(index, id) {
                Some(own) => Row::Own(own),
                None => (0..parents.len())
                    .find_map(|other| Some(Row::Of(other, has(other, id)?)))
                    .unwrap_or(Row::None),
            },
        };
        let rows: Vec<Row> = (0..).zip(&joint_keys.main).map(row).collect();
        let owned: Vec<Option<u64>> = rows.iter().map(Row::own).collect();
        let moved = owned.iter().zip(0..).any(|(own, id)| *own != Some(id));
        if moved || layouts[index].size != layout.size {
            joint.tables.add(parents, index, &rows)?;
            relabel(&mut model, layout.size, &owned);
            if let Some(base) = base {
                let missing = joint_keys.missing(&rows_of[index]);
                let same = owned.iter().zip(0..).filter(|(own, id)| **own == Some(*id));
                let moved = same.count() as u64 != layouts[index].size.min(layout.size);
                let base = &parents[base];
                joint.notes.push(lacking(parent, base, &missing, moved));
            }
        }
        model.tokens = layout.clone();
        joint.models.push(model);
    }
    if let [first, second] = &rows_of[..] {
        let images = layout.rows(TokenKind::Image);
        let ours = |(id, (first, second)): (u64, (&Option<u64>, &Option<u64>))| match first {
            Some(_) => second.is_some() && layout.kind(id) == Some(TokenKind::Image),
            None => second.is_some(),
        };
        let rows = ranges((0..).zip(first.iter().zip(second)).map(ours));
        let chooses = |parent: &Parent<'_>| {
            let blocks = [&parent.model.main]
                .into_iter()
                .chain(parent.model.blocks.values());
            let mut ops = blocks.flat_map(|block| &block.body);
            ops.any(|statement| matches!(statement.op, Op::ChooseRows { .. }))
        };
        // Rows that a parent chooses itself are its own.
        if rows != images && !images.is_empty() && !parents.iter().any(chooses) {
            joint.head_rows = Some([images, rows]);
        }
    }
    Ok(Some(joint))
}

impl Joint {
    /// Loads every table of a fused model in the order of the joint ids, and reads tokens of one parent
    /// from it alone.
    pub(crate) fn complete(self, fused: &mut Fused) {
        for weight in fused.model.weights.values_mut() {
            self.tables.reorder(&mut weight.plan);
        }
        if let Some([images, rows]) = self.head_rows {
            for statement in &mut fused.model.main.body {
                match &mut statement.op {
                    Op::ChooseRows { second, .. } if *second == images => second.clone_from(&rows),
                    _ => {}
                }
            }
        }
        fused.notes.splice(0..0, self.notes);
    }
}

/// A layout with the tokenizers of the first that tells them, where it has none itself.
fn with_tokenizers(layout: &TokenLayout, layouts: &[&TokenLayout]) -> TokenLayout {
    let mut layout = layout.clone();
    if layout.text == TextTokens::Ids {
        let mut texts = layouts.iter().map(|other| &other.text);
        let told = texts.find(|text| **text != TextTokens::Ids);
        layout.text = told.cloned().unwrap_or(TextTokens::Ids);
    }
    if layout.image == ImageTokens::Ids {
        let mut images = layouts.iter().map(|other| &other.image);
        let told = images.find(|image| **image != ImageTokens::Ids);
        layout.image = told.cloned().unwrap_or(ImageTokens::Ids);
    }
    layout
}

/// Neighbouring ids for which something holds, as half-open ranges.
fn ranges(holds: impl Iterator<Item = bool>) -> Vec<(u64, u64)> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    for (id, _) in (0..).zip(holds).filter(|(_, holds)| *holds) {
        match found.last_mut() {
            Some((_, end)) if *end == id => *end += 1,
            _ => found.push((id, id + 1)),
        }
    }
    found
}

fn listed(keys: &[Key]) -> String {
    let names: Vec<String> = keys.iter().take(NAMED).map(ToString::to_string).collect();
    let more = if keys.len() > NAMED { ", …" } else { "" };
    format!("{}{more}", names.join(", "))
}

fn tokens(count: usize) -> String {
    match count {
        1 => "1 token".to_owned(),
        _ => format!("{count} tokens"),
    }
}

/// What each parent lacks most, in words.
fn what_lack(parents: &[Parent<'_>], lacks: &dyn Fn(usize, usize) -> Vec<Key>) -> Vec<String> {
    let lack = |index: usize| {
        let missing = (0..parents.len()).map(|other| (other, lacks(index, other)));
        let (other, missing) = missing.max_by_key(|(_, missing)| missing.len())?;
        Some(format!(
            "`{}` lacks {} of `{}` ({})",
            parents[index].source,
            tokens(missing.len()),
            parents[other].source,
            listed(&missing)
        ))
    };
    (0..parents.len()).filter_map(lack).collect()
}

/// The report that parents each have tokens of their own, and there is no union.
fn no_union(
    parents: &[Parent<'_>],
    lacks: &dyn Fn(usize, usize) -> Vec<Key>,
    why: &str,
) -> Diagnostic {
    let words = what_lack(parents, lacks);
    let message = format!(
        "no parent has every token of the others, and their tokenizers cannot be united: {why}"
    );
    let places = parents.iter().zip(&words);
    let places: Vec<Place<'_>> = places
        .map(|(p, words)| Place::new(p, words.clone()))
        .collect();
    let report = error(message, &places).help(
        "parents are fused where one's tokenizer and marks contain those of the others, or where \
         their tokenizers are byte-pair encodings that cut texts alike; train one of them with the \
         other's tokenizer first, else",
    );
    words.into_iter().fold(report, Diagnostic::note)
}

/// The note that the fused model reads the union of its parents' vocabularies.
fn united(
    parents: &[Parent<'_>],
    layout: &TokenLayout,
    lacks: &dyn Fn(usize, usize) -> Vec<Key>,
) -> Diagnostic {
    let words = what_lack(parents, lacks);
    let message = format!(
        "no parent has every token of the others ({}): the fused model reads the union of their \
         vocabularies, {} ids, and rows are taken by token",
        words.join("; "),
        layout.size
    );
    let places: Vec<Place<'_>> = parents
        .iter()
        .map(|parent| Place::new(parent, "its rows by token"))
        .collect();
    let report = note(message, &places);
    match layout.text {
        TextTokens::Joint(_) => report.note(
            "the joint tokenizer may cut a text in another way than each of them: where both would \
             merge, the first's merges come first",
        ),
        _ => report,
    }
}

/// The note that parents cut texts into the same tokens in other ways.
fn cut_as(parents: &[Parent<'_>], base: &Parent<'_>, why: &str) -> Diagnostic {
    let message = format!(
        "the tokenizers of the parents treat texts in other ways ({why}): the fused model reads texts as \
         `{}` does",
        base.source
    );
    let places = parents.iter().map(|parent| Place::new(parent, ""));
    note(message, &places.collect::<Vec<_>>())
}

/// The note that a parent lacks tokens of the joint vocabulary.
fn lacking(parent: &Parent<'_>, base: &Parent<'_>, missing: &[Key], moved: bool) -> Diagnostic {
    let [rows, kept] = [parent, base].map(|parent| parent.model.tokens.size);
    let what = match missing.is_empty() {
        true if !moved => format!(
            "the tables of `{}` have {rows} rows, those of `{}` {kept} for the same tokens",
            parent.source, base.source
        ),
        true => format!(
            "the tokens of `{}` have other ids in `{}`",
            parent.source, base.source
        ),
        false => format!(
            "`{}` lacks {} of `{}` ({})",
            parent.source,
            tokens(missing.len()),
            base.source,
            listed(missing)
        ),
    };
    let message = format!(
        "{what}: the fused model reads the vocabulary of `{}`, and rows are taken by token",
        base.source
    );
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
        let inside = |own: &u64| {
            let at = ranges.partition_point(|(_, end)| end <= own);
            ranges.get(at).is_some_and(|(start, _)| start <= own)
        };
        let moved = self::ranges(own.iter().map(|own| own.as_ref().is_some_and(inside)));
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
