//! The weights of a Hugging Face checkpoint, by their JAM names and in the layout of a JAM model.

use std::ops::Range;

use indexmap::IndexMap;

use super::names::{FileWeight, NameTable, Sizes, file_weights};
use super::{Band, CheckpointReader, Stored, StoredPart, WeightSource, turn};
use crate::{Error, Result};

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
            !used.contains(name) && !table.ignores(short) && !table.ignores(name)
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
