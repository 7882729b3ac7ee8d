//! Name tables: which tensor of a Hugging Face file is which weight of a JAM model, and how it lies there.
//!
//! One file of data an architecture, in `architectures/`. A weight `in -> out` is row-major over the input
//! axes, then the output axes, in JAM; a `Transposed` one has the output axes first in the file, and a `part`
//! is one of several weights side by side on the output side.

use std::ops::Range;

use indexmap::IndexMap;
use jam_ir::headers::FoundTensor;
use serde::Deserialize;

use super::{Band, CheckpointReader, Stored, StoredPart, WeightSource, turn};
use crate::{Error, Result};

/// A size of an architecture that the sides of weights are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Side {
    /// Rows of the token table.
    Vocab,
    /// Features of the token table, where they differ from the width.
    Embed,
    /// Features of the residual stream.
    Width,
    /// Query heads.
    Head,
    /// Key and value heads.
    Kv,
    /// Features of a head.
    Key,
    /// Features between the matrices of the feed-forward part.
    Hidden,
    /// Rows of the position table.
    Positions,
}

/// The sizes of one model, which give its weights their shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    /// Layers.
    pub layers: u64,
    /// [`Side::Vocab`].
    pub vocab: u64,
    /// [`Side::Embed`].
    pub embed: u64,
    /// [`Side::Width`].
    pub width: u64,
    /// [`Side::Head`].
    pub heads: u64,
    /// [`Side::Kv`].
    pub kv_heads: u64,
    /// [`Side::Key`].
    pub head_dim: u64,
    /// [`Side::Hidden`].
    pub hidden: u64,
    /// [`Side::Positions`].
    pub positions: u64,
    /// Whether the head is the token table.
    pub tied: bool,
}

impl Sizes {
    fn of(&self, side: Side) -> u64 {
        match side {
            Side::Vocab => self.vocab,
            Side::Embed => self.embed,
            Side::Width => self.width,
            Side::Head => self.heads,
            Side::Kv => self.kv_heads,
            Side::Key => self.head_dim,
            Side::Hidden => self.hidden,
            Side::Positions => self.positions,
        }
    }
}

/// How a matrix lies in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
enum Layout {
    /// Input axes first, as in JAM.
    #[default]
    Plain,
    /// Output axes first.
    Transposed,
}

/// One line of a table. `{}` in a name stands for the number of the layer.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    jam: String,
    file: String,
    #[serde(default)]
    input: Vec<Side>,
    output: Vec<Side>,
    #[serde(default)]
    layout: Layout,
    /// `(i, n)`: the i-th of n weights that lie side by side on the output side.
    #[serde(default = "whole")]
    part: (u64, u64),
    /// The file's name stands without the table's prefix.
    #[serde(default)]
    whole_name: bool,
    /// Only where the head is not the token table.
    #[serde(default)]
    untied: bool,
    /// A gain or bias whose axes are axes of the file too.
    #[serde(default)]
    grid: bool,
}

/// The part of a tensor that is one weight.
fn whole() -> (u64, u64) {
    (0, 1)
}

/// The names and layouts of one architecture.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameTable {
    /// `model_type` of the `config.json`.
    model_type: String,
    /// What may stand before the names in a file, the usual one first.
    prefixes: Vec<String>,
    weights: Vec<Row>,
    /// Tensors that carry nothing, with or without the prefix.
    ignored: Vec<String>,
}

/// The tables, as data.
const TABLES: [&str; 5] = [
    include_str!("architectures/opt.ron"),
    include_str!("architectures/llama.ron"),
    include_str!("architectures/gpt2.ron"),
    include_str!("architectures/chameleon.ron"),
    include_str!("architectures/llama_original.ron"),
];

impl NameTable {
    /// What stands before the names in most files.
    pub fn usual_prefix(&self) -> &str {
        self.prefixes.first().map_or("", String::as_str)
    }

    /// The table of a `model_type`.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(model_type: &str) -> Result<NameTable> {
        let mut known = Vec::new();
        for text in TABLES {
            let table: NameTable = ron::from_str(text)
                .map_err(|error| Error::new(format!("a table of names is wrong: {error}")))?;
            if table.model_type == model_type {
                return Ok(table);
            }
            known.push(table.model_type);
        }
        Err(
            Error::new(format!("models of the type `{model_type}` are not known"))
                .with_help(format!("known are {}", known.join(", "))),
        )
    }
}

/// Names of weights in the files of one checkpoint.
#[derive(Debug)]
pub struct StoredNames {
    table: NameTable,
    prefix: String,
}

impl StoredNames {
    /// Those of a checkpoint with tensors of these names.
    ///
    /// # Errors
    /// When its architecture is not known.
    pub fn of(model_type: &str, stored: &[&str]) -> Result<Self> {
        let table = NameTable::of(model_type)?;
        let used = |prefix: &&String| stored.iter().any(|name| name.starts_with(prefix.as_str()));
        let prefix = table
            .prefixes
            .iter()
            .filter(used)
            .max_by_key(|prefix| prefix.len());
        let prefix = prefix
            .map_or(table.usual_prefix(), String::as_str)
            .to_owned();
        Ok(StoredNames { table, prefix })
    }

    /// The name of the tensor that a weight is, or is a part of: `model.layers.0.mlp.up_proj.weight` for
    /// `layers.0.mlp.up`. `None` for a weight that the architecture has not.
    pub fn name(&self, weight: &str) -> Option<String> {
        let mut rows = self.table.weights.iter();
        let (row, number) = rows.find_map(|row| Some((row, number_in(&row.jam, weight)?)))?;
        let name = row.file.replace("{}", number);
        Some(match row.whole_name {
            true => name,
            false => format!("{}{name}", self.prefix),
        })
    }
}

/// A weight in a file under its foreign name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileWeight {
    /// Name of the tensor in the file.
    pub file_name: String,
    /// Sizes in JAM's layout: input axes, then output axes.
    pub shape: Vec<u64>,
    /// Product of the input sizes; 0 for gains and biases, which have no input side.
    pub rows: u64,
    /// Product of the output sizes.
    pub columns: u64,
    /// Whether the file has the output axes first.
    pub transposed: bool,
    /// First output, and number of outputs, of the tensor in the file.
    pub outputs: (u64, u64),
    /// Whether a gain or bias of several axes has them in the file too.
    pub grid: bool,
}

impl FileWeight {
    /// The shape that the tensor must have in the file.
    pub fn file_shape(&self) -> Vec<u64> {
        let (_, all) = self.outputs;
        match (self.shape_is_flat(), self.transposed) {
            (true, _) if self.grid => self.shape.clone(),
            (true, _) => vec![all],
            (false, false) => vec![self.rows, all],
            (false, true) => vec![all, self.rows],
        }
    }

    fn shape_is_flat(&self) -> bool {
        self.rows == 0
    }
}

/// The JAM names of a model of these sizes, in the order of the model, with their places in a file.
///
/// # Errors
/// When a product of sizes overflows.
pub fn file_weights(
    table: &NameTable,
    sizes: &Sizes,
    prefix: &str,
) -> Result<IndexMap<String, FileWeight>> {
    let mut weights = IndexMap::new();
    let per_layer = |row: &Row| row.jam.contains("{}");
    let first = table.weights.iter().position(per_layer);
    let last = table.weights.iter().rposition(per_layer);
    let (before, layered, after) = match (first, last) {
        (Some(first), Some(last)) => (
            &table.weights[..first],
            &table.weights[first..=last],
            &table.weights[last + 1..],
        ),
        _ => (&table.weights[..], &[][..], &[][..]),
    };
    let mut add = |row: &Row, layer: Option<u64>| -> Result<()> {
        if row.untied && sizes.tied {
            return Ok(());
        }
        let number = |name: &str| match layer {
            Some(layer) => name.replace("{}", &layer.to_string()),
            None => name.to_owned(),
        };
        let shape: Vec<u64> = row
            .input
            .iter()
            .chain(&row.output)
            .map(|side| sizes.of(*side))
            .collect();
        let product = |sides: &[Side]| {
            sides
                .iter()
                .try_fold(1u64, |n, side| n.checked_mul(sizes.of(*side)))
        };
        let (part, parts) = row.part;
        let (Some(rows), Some(columns)) = (product(&row.input), product(&row.output)) else {
            return Err(Error::new(format!("the size of `{}` overflows", row.jam)));
        };
        let Some(all) = columns.checked_mul(parts) else {
            return Err(Error::new(format!("the size of `{}` overflows", row.jam)));
        };
        let name = number(&row.file);
        let weight = FileWeight {
            file_name: if row.whole_name {
                name
            } else {
                format!("{prefix}{name}")
            },
            shape,
            rows: if row.input.is_empty() { 0 } else { rows },
            columns,
            transposed: row.layout == Layout::Transposed,
            outputs: (part * columns, all),
            grid: row.grid,
        };
        weights.insert(number(&row.jam), weight);
        Ok(())
    };
    before.iter().try_for_each(|row| add(row, None))?;
    for layer in 0..sizes.layers {
        layered.iter().try_for_each(|row| add(row, Some(layer)))?;
    }
    after.iter().try_for_each(|row| add(row, None))?;
    Ok(weights)
}

/// A Hugging Face checkpoint, read under JAM's names and in JAM's layout.
#[derive(Debug)]
pub struct HuggingFaceWeights {
    reader: CheckpointReader,
    weights: IndexMap<String, FileWeight>,
    surplus: Vec<String>,
}

impl HuggingFaceWeights {
    /// Reads `reader` through a table. Weights that the architecture may have and the checkpoint has not
    /// (biases) are left out.
    ///
    /// # Errors
    /// When no prefix of the table fits, or a tensor has another shape than `sizes` say.
    pub fn new(reader: CheckpointReader, table: &NameTable, sizes: &Sizes) -> Result<Self> {
        if sizes.layers > reader.tensors().len() as u64 {
            return Err(Error::new(format!(
                "the model has {} layers, the checkpoint has {} tensors",
                sizes.layers,
                reader.tensors().len()
            ))
            .with_path(reader.path()));
        }
        let mut best: Option<(usize, &str, IndexMap<String, FileWeight>)> = None;
        for prefix in &table.prefixes {
            let mut weights = file_weights(table, sizes, prefix)?;
            weights.retain(|_, weight| reader.tensors().contains_key(&weight.file_name));
            if best
                .as_ref()
                .is_none_or(|(count, _, _)| weights.len() > *count)
            {
                best = Some((weights.len(), prefix, weights));
            }
        }
        let (prefix, weights) = match best {
            Some((count, prefix, weights)) if count > 0 => (prefix, weights),
            _ => {
                let found = reader.tensors().keys().next();
                let found = found.map_or(String::new(), |name| format!(", such as `{name}`"));
                return Err(Error::new(format!(
                    "no tensor has a name of the `{}` architecture{found}",
                    table.model_type
                ))
                .with_path(reader.path()));
            }
        };
        let mut wrong = Vec::new();
        for weight in weights.values() {
            let info = reader.tensor(&weight.file_name)?;
            if info.shape != weight.file_shape() {
                wrong.push(format!(
                    "`{}` is {:?}, its config.json makes it {:?}",
                    weight.file_name,
                    info.shape,
                    weight.file_shape()
                ));
            }
        }
        if let Some(first) = wrong.first() {
            let more = match wrong.len() - 1 {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            return Err(Error::new(format!("{first}{more}")).with_path(reader.path()));
        }
        let used: indexmap::IndexSet<&String> =
            weights.values().map(|weight| &weight.file_name).collect();
        let surplus = reader.tensors().keys().filter(|name| {
            let short = name.strip_prefix(prefix).unwrap_or(name);
            let ignored = |pattern: &String| fits(pattern, short) || fits(pattern, name);
            !used.contains(name) && !table.ignored.iter().any(ignored)
        });
        let surplus = surplus.cloned().collect();
        Ok(Self {
            reader,
            weights,
            surplus,
        })
    }

    /// Tensors of the checkpoint that are no weight of the architecture, under their own names.
    pub fn surplus(&self) -> &[String] {
        &self.surplus
    }

    /// The checkpoint itself.
    pub fn reader(&self) -> &CheckpointReader {
        &self.reader
    }

    /// Every weight by its JAM name, with its place in the file.
    pub fn weights(&self) -> &IndexMap<String, FileWeight> {
        &self.weights
    }

    fn read(&self, weight: &FileWeight, rows: Range<u64>) -> Result<Vec<f32>> {
        let (first, all) = weight.outputs;
        let name = &weight.file_name;
        let (count, columns) = (rows.end - rows.start, weight.columns);
        if columns == all {
            return self
                .reader
                .read_elements_f32(name, rows.start * all..rows.end * all);
        }
        let mut values = Vec::with_capacity((count * columns) as usize);
        for row in rows {
            let start = row * all + first;
            values.extend(
                self.reader
                    .read_elements_f32(name, start..start + columns)?,
            );
        }
        Ok(values)
    }

    /// Rows `rows` of the first axis of a transposed matrix: of every output, a run of inputs.
    fn read_band(&self, weight: &FileWeight, rows: Range<u64>, mut bytes: Vec<u8>) -> Result<Band> {
        let (first, name) = (weight.outputs.0, &weight.file_name);
        let info = self.reader.tensor(name)?;
        let (dtype, outputs) = (info.dtype, weight.columns);
        if !dtype.is_float() {
            return Err(Error::new(format!("`{name}` holds {dtype}, not floats"))
                .with_path(info.file.as_ref()));
        }
        let inner = weight.rows / weight.shape[0].max(1);
        let (from, count) = (rows.start * inner, (rows.end - rows.start) * inner);
        bytes.resize((outputs * count * dtype.size()) as usize, 0);
        let line = count * dtype.size();
        let together = turn::lines_together(line).min(outputs);
        let mut lines = vec![0; (together * line) as usize];
        for output in (0..outputs).step_by(together.max(1) as usize) {
            let some = together.min(outputs - output);
            let lines = &mut lines[..(some * line) as usize];
            let start = (first + output) * weight.rows + from;
            if count == weight.rows {
                self.reader.read_into(name, start, lines)?;
            } else if count > 0 {
                for (index, piece) in (0..).zip(lines.chunks_exact_mut(line as usize)) {
                    let start = start + index * weight.rows;
                    self.reader.read_into(name, start, piece)?;
                }
            }
            turn::turn(
                dtype.size(),
                lines,
                count as usize,
                &mut bytes,
                outputs as usize,
                output as usize,
            );
        }
        Ok(Band {
            rows,
            width: inner * outputs,
            dtype,
            bytes,
        })
    }

    /// The weight and its rows, which must be there.
    fn checked(&self, name: &str, rows: &Range<u64>) -> Result<&FileWeight> {
        let weight = self.weights.get(name).ok_or_else(|| {
            Error::new(format!("there is no weight `{name}`")).with_path(self.reader.path())
        })?;
        let total = weight.shape[0];
        if rows.start > rows.end || rows.end > total {
            return Err(Error::new(format!(
                "`{name}` has {total} rows; {}..{} were asked for",
                rows.start, rows.end
            ))
            .with_path(self.reader.path()));
        }
        Ok(weight)
    }
}

impl WeightSource for HuggingFaceWeights {
    fn names(&self) -> Vec<String> {
        self.weights.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        self.weights.get(name).map(|weight| weight.shape.clone())
    }

    fn rows(&self, name: &str, rows: Range<u64>) -> Result<Vec<f32>> {
        let weight = self.checked(name, &rows)?;
        let total = weight.shape[0];
        if weight.shape_is_flat() {
            // A gain or bias: its first axis may be one of several (heads of a query bias).
            let inner = weight.columns / total.max(1);
            let first = weight.outputs.0;
            let (start, end) = (first + rows.start * inner, first + rows.end * inner);
            return self.reader.read_elements_f32(&weight.file_name, start..end);
        }
        if weight.transposed {
            let band = self.read_band(weight, rows.clone(), Vec::new())?;
            return band.read(rows).ok_or_else(|| {
                Error::damaged(format!("`{name}` is cut")).with_path(self.reader.path())
            });
        }
        // Rows of the first axis are runs of rows of the matrix where the input side has several axes.
        let inner = weight.rows / total.max(1);
        self.read(weight, rows.start * inner..rows.end * inner)
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        let weight = self.weights.get(name)?;
        let stored = WeightSource::stored(&self.reader, &weight.file_name)?;
        // One of several weights of a tensor has its share of it.
        let (_, all) = weight.outputs;
        let bytes = stored.bytes / all.max(1) * weight.columns;
        Some(Stored { bytes, ..stored })
    }

    fn part(&self, name: &str) -> Option<StoredPart> {
        let weight = self.weights.get(name)?;
        let (first, all) = weight.outputs;
        (weight.columns < all).then(|| StoredPart {
            tensor: weight.file_name.clone(),
            first,
        })
    }

    fn band_bytes(&self, name: &str) -> u64 {
        let columns = self.weights.get(name).map_or(0, |weight| weight.columns);
        self.piece_bytes(name) * columns
    }

    fn piece_bytes(&self, name: &str) -> u64 {
        let Some(weight) = self.weights.get(name) else {
            return 0;
        };
        let size = self.reader.tensor(&weight.file_name);
        match size {
            Ok(info) if weight.transposed && !weight.shape_is_flat() => {
                weight.rows / weight.shape[0].max(1) * info.dtype.size()
            }
            _ => 0,
        }
    }

    fn band(&self, name: &str, rows: Range<u64>, buffer: Vec<u8>) -> Result<Option<Band>> {
        let weight = self.checked(name, &rows)?;
        if !weight.transposed || weight.shape_is_flat() {
            return Ok(None);
        }
        Ok(Some(self.read_band(weight, rows, buffer)?))
    }

    fn will_need(&self, name: &str, rows: Range<u64>) {
        let Ok(weight) = self.checked(name, &rows) else {
            return;
        };
        if weight.shape_is_flat() {
            return; // A gain or bias is small.
        }
        let (first, all) = weight.outputs;
        let elements = if weight.transposed {
            // Pieces of every stored row: the whole run of rows that holds them.
            first * weight.rows..(first + weight.columns) * weight.rows
        } else {
            let inner = weight.rows / weight.shape[0].max(1) * all;
            rows.start * inner..rows.end * inner
        };
        self.reader.prefetch(&weight.file_name, elements);
    }
}

/// The tensors of a checkpoint under JAM's names, from its header alone: shapes as the sides of a weight,
/// each folded into one axis. `wanted` tells which names a model has. Tensors that are no weight of the
/// architecture keep their own names; those that carry nothing are left out.
pub fn found_tensors(
    table: &NameTable,
    reader: &CheckpointReader,
    wanted: &dyn Fn(&str) -> bool,
) -> Vec<FoundTensor> {
    let mut prefixes: Vec<&String> = table.prefixes.iter().collect();
    // The longest first: the empty one fits everything.
    prefixes.sort_by_key(|prefix| std::cmp::Reverse(prefix.len()));
    let mut found = Vec::new();
    for (stored, info) in reader.tensors() {
        let short = prefixes
            .iter()
            .find_map(|prefix| stored.strip_prefix(*prefix));
        let short = short.unwrap_or(stored);
        let before = found.len();
        for row in &table.weights {
            let name = if row.whole_name { stored } else { short };
            let Some(number) = number_in(&row.file, name) else {
                continue;
            };
            let jam = row.jam.replace("{}", number);
            let ignored = table.ignores(short) || table.ignores(stored);
            if ignored && !wanted(&jam) {
                continue;
            }
            found.push(FoundTensor {
                name: jam,
                stored: stored.clone(),
                shape: row.sides(&info.shape),
                dtype: info.dtype.name().to_owned(),
            });
        }
        if found.len() == before && !table.ignores(short) && !table.ignores(stored) {
            found.push(FoundTensor {
                name: stored.clone(),
                stored: stored.clone(),
                shape: info.shape.clone(),
                dtype: info.dtype.name().to_owned(),
            });
        }
    }
    found
}

impl NameTable {
    /// Whether a tensor of this name carries nothing.
    fn ignores(&self, name: &str) -> bool {
        self.ignored.iter().any(|pattern| fits(pattern, name))
    }
}

impl Row {
    /// The shape of the weight that a stored tensor is or has a part of; a shape that is not what the
    /// layout says stays as it is.
    fn sides(&self, stored: &[u64]) -> Vec<u64> {
        let (_, parts) = self.part;
        let share = |size: u64| {
            if size.is_multiple_of(parts) {
                size / parts
            } else {
                size
            }
        };
        match (stored, self.input.is_empty(), self.layout) {
            ([size], true, _) => vec![share(*size)],
            ([heads, size], true, _) if self.grid => vec![heads.saturating_mul(*size)],
            ([input, output], false, Layout::Plain) => vec![*input, share(*output)],
            ([output, input], false, Layout::Transposed) => vec![*input, share(*output)],
            _ => stored.to_vec(),
        }
    }
}

/// What stands for `{}` of `pattern` in a name that fits it; nothing where it has none.
fn number_in<'n>(pattern: &str, name: &'n str) -> Option<&'n str> {
    if !fits(pattern, name) {
        return None;
    }
    match pattern.split_once("{}") {
        None => Some(""),
        Some((start, end)) => name.get(start.len()..name.len() - end.len()),
    }
}

/// Whether a name is `pattern`, in which `{}` stands for a number, and a `*` at its end for anything.
fn fits(pattern: &str, name: &str) -> bool {
    if let Some(start) = pattern.strip_suffix('*') {
        return name.starts_with(start);
    }
    match pattern.split_once("{}") {
        None => pattern == name,
        Some((start, end)) => name
            .strip_prefix(start)
            .and_then(|rest| rest.strip_suffix(end))
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())),
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
