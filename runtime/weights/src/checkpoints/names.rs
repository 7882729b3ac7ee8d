//! Name tables: which tensor of a Hugging Face file is which weight of a JAM model, and how it lies there.
//!
//! One file of data an architecture, in `architectures/`. A weight `in -> out` is row-major over the input
//! axes, then the output axes, in JAM; a `Transposed` one has the output axes first in the file, and a `part`
//! is one of several weights side by side on the output side.

use indexmap::IndexMap;
use jam_ir::headers::FoundTensor;
use serde::Deserialize;

use super::CheckpointReader;
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
    pub(super) model_type: String,
    /// What may stand before the names in a file, the usual one first.
    pub(super) prefixes: Vec<String>,
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

    pub(super) fn shape_is_flat(&self) -> bool {
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
    pub(super) fn ignores(&self, name: &str) -> bool {
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
