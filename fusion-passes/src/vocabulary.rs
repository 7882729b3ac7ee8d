//! Parents whose vocabularies differ, brought to one before they are fused.
//!
//! Tokens are told by what they are, not by their ids: a mark by its name, an image token by its
//! code, a text token by its place in one tokenizer or, where tokenizers differ, by its spelling
//! ([`Pieces`]). Where one parent has every token of the others, the fused model reads that parent's
//! vocabulary, with its tokenizers. Otherwise it reads the union ([`union`]). Its ids are the *joint*
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
//! is loaded in the order of the joint ids ([`tables`]). Rows that a parent lacks are those of the first
//! parent that has them, so that whatever a strategy does with both tables, a token of one parent
//! comes from it alone; where the tables have other widths they are zeros: what a parent never read
//! tells it nothing. A head that reads some rows from the second parent reads those of its own tokens
//! from it too, and none that it lacks.

mod tables;
mod union;

use std::collections::HashMap;

use jam_ir::{Block, Diagnostic, ImageTokens, Model, Op, Role, TextTokens, TokenKind, TokenLayout};

use crate::parents::same_image;
use crate::reports::{Place, error, note};
use crate::{Fused, Parent};
use tables::{Row, Tables};

/// What knows how tokenizers spell their tokens.
pub trait Pieces {
    /// The tokens of a text tokenizer in the order of their ids, empty for an id without one; `None`
    /// where that is not known.
    fn pieces(&self, text: &TextTokens) -> Option<Vec<String>>;

    /// Whether tokenizers treat texts alike, but for the tokens that they have.
    ///
    /// # Errors
    /// How they differ.
    fn alike(&self, texts: &[&TextTokens]) -> Result<(), String>;

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

    fn alike(&self, _: &[&TextTokens]) -> Result<(), String> {
        Err("their tokens are not known".to_owned())
    }

    fn union(&self, _: &[&TextTokens]) -> Result<Vec<String>, String> {
        Err("their tokens are not known".to_owned())
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
    /// A row that is kept free, by its place among those.
    Reserved(u64),
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Key::Mark(name) => write!(f, "<{name}>"),
            Key::Text(place) => write!(f, "text token {place}"),
            Key::Piece(piece) => write!(f, "{piece:?}"),
            Key::Image(code) => write!(f, "image token {code}"),
            Key::Reserved(place) => write!(f, "reserved row {place}"),
        }
    }
}

/// What the ids of a vocabulary are; `None` for rows without a meaning.
type Keys = Vec<Option<Key>>;

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
    let lacks = |of: usize, other: &Keys| -> Vec<Key> {
        let others = other.iter().flatten();
        let missing = others.filter(|key| !ids[of].contains_key(key));
        // Nobody misses a row that is kept free.
        let missing = missing.filter(|key| !matches!(key, Key::Reserved(_)));
        missing.cloned().collect()
    };
    let has_all = |base: &usize| keys.iter().all(|other| lacks(*base, other).is_empty());
    let mut known = keys.iter().flatten().flatten();
    let by_spelling = known.any(|key| matches!(key, Key::Piece(_)));
    if by_spelling {
        let texts = layouts.iter().map(|layout| &layout.text);
        let texts: Vec<_> = texts.filter(|text| **text != TextTokens::Ids).collect();
        pieces
            .alike(&texts)
            .map_err(|why| vec![no_union(parents, &keys, &lacks, &why)])?;
    }
    let base = (0..parents.len()).find(has_all);
    let (layout, joint_keys) = match base {
        Some(base) => (with_tokenizers(layouts[base], &layouts), keys[base].clone()),
        None => {
            let pieces = by_spelling.then_some(pieces);
            union::layout(&layouts, pieces)
                .map_err(|why| vec![no_union(parents, &keys, &lacks, &why)])?
        }
    };

    let mut joint = Joint {
        models: Vec::new(),
        tables: Tables::default(),
        head_rows: None,
        notes: Vec::new(),
    };
    if base.is_none() {
        joint.notes.push(united(parents, &layout, &keys, &lacks));
    }
    for (index, parent) in parents.iter().enumerate() {
        let mut model = parent.model.clone();
        let has = |parent: usize, key: &Key| ids[parent].get(key).copied();
        let row = |(id, key): (u64, &Option<Key>)| match key {
            None if base == Some(index) => Row::Own(id),
            None => base.map_or(Row::None, |base| Row::Of(base, id)),
            Some(key) => match has(index, key) {
                Some(own) => Row::Own(own),
                None => (0..parents.len())
                    .find_map(|other| Some(Row::Of(other, has(other, key)?)))
                    .unwrap_or(Row::None),
            },
        };
        let rows: Vec<Row> = (0..).zip(&joint_keys).map(row).collect();
        let own: Vec<Option<u64>> = rows.iter().map(Row::own).collect();
        let moved = own.iter().zip(0..).any(|(own, id)| *own != Some(id));
        if moved || layouts[index].size != layout.size {
            joint.tables.add(parents, index, &rows)?;
            relabel(&mut model, layout.size, &own);
            if let Some(base) = base {
                let missing = lacks(index, &joint_keys);
                joint.notes.push(lacking(parent, &parents[base], &missing));
            }
        }
        model.tokens = layout.clone();
        joint.models.push(model);
    }
    if let [first, second] = &ids[..] {
        let images = layout.rows(TokenKind::Image);
        let ours = |key: &Key| match (first.contains_key(key), second.contains_key(key)) {
            (true, true) => matches!(key, Key::Image(_)),
            (_, second) => second,
        };
        let of_second = joint_keys.iter().map(|key| key.as_ref().is_some_and(ours));
        let rows = ranges(of_second);
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

/// What every id of every layout is; `None` where tokens of different parents cannot be compared.
fn keys_of(layouts: &[&TokenLayout], pieces: &dyn Pieces) -> Option<Vec<Keys>> {
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
    let length = count;
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
    let one_image = images
        .windows(2)
        .all(|pair| pair[0].grid == pair[1].grid && same_image(&pair[0].image, &pair[1].image));
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

/// Number of ids of a kind.
fn count(layout: &TokenLayout, kind: TokenKind) -> u64 {
    let rows = layout.rows(kind).into_iter();
    rows.map(|(start, end)| end - start).sum()
}

/// What every id of a layout is; `None` for rows without a meaning.
fn keys_of_one(layout: &TokenLayout, pieces: Option<Vec<String>>) -> Keys {
    let mut keys = vec![None; usize::try_from(layout.size).unwrap_or(0)];
    let mut reserved = 0;
    // Text tokens that stand between others count from the first id of their tokenizer.
    let [text, image] = [TokenKind::Text, TokenKind::Image].map(|kind| layout.first(kind));
    for range in &layout.ranges {
        for place in 0..range.len {
            let id = range.start + place;
            let key = match (range.kind, &pieces) {
                (TokenKind::Text, None) => Some(Key::Text(id - text)),
                (TokenKind::Text, Some(pieces)) => {
                    let piece = pieces.get((id - text) as usize);
                    let piece = piece.filter(|piece| !piece.is_empty());
                    piece.cloned().map(Key::Piece)
                }
                (TokenKind::Image, _) => Some(Key::Image(id - image)),
                (TokenKind::Reserved, _) => {
                    reserved += 1;
                    Some(Key::Reserved(reserved - 1))
                }
                (TokenKind::Mark | TokenKind::Filler, _) => None,
            };
            if let Some(slot) = keys.get_mut(id as usize) {
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
fn what_lack(
    parents: &[Parent<'_>],
    keys: &[Keys],
    lacks: &dyn Fn(usize, &Keys) -> Vec<Key>,
) -> Vec<String> {
    let lack = |index: usize| {
        let missing = keys.iter().map(|other| lacks(index, other)).enumerate();
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
    keys: &[Keys],
    lacks: &dyn Fn(usize, &Keys) -> Vec<Key>,
    why: &str,
) -> Diagnostic {
    let words = what_lack(parents, keys, lacks);
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
    keys: &[Keys],
    lacks: &dyn Fn(usize, &Keys) -> Vec<Key>,
) -> Diagnostic {
    let words = what_lack(parents, keys, lacks);
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

/// The note that a parent lacks tokens of the joint vocabulary.
fn lacking(parent: &Parent<'_>, base: &Parent<'_>, missing: &[Key]) -> Diagnostic {
    let what = match missing.is_empty() {
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
