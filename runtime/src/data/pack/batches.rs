//! Rows of training from a stream of documents.
//!
//! *Packed*: documents one after the other, one `<eos>` between them, cut at the row's length; every token is learned
//! once. *Rows*: a document a row, padded to the longest of its batch. Documents of a pool of batches are sorted by
//! length together, so that little padding is needed, and the batches of a pool come in an order of their own. A
//! document longer than a row goes on in further rows, cut before a picture rather than inside of one.

use std::collections::VecDeque;

use jam_ir::recipe::{BatchForm, BatchSize, Objective};
use serde::{Deserialize, Serialize};

use super::{EncodedDocument, Mixture, MixtureState};
use crate::data::shuffled;
use crate::{Error, Result};

/// Batches whose rows are sorted by length together.
const POOL: usize = 16;

/// Rows of tokens and what is learned from them; all three lists are `[rows, length]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// Tokens of a row, padding on the right included.
    pub length: usize,
    /// Inputs.
    pub tokens: Vec<i32>,
    /// The token that follows each input; the padding id where none does.
    pub targets: Vec<i32>,
    /// Weight of each target: 1 where it is learned; 0 at padding, and at questions where only answers are learned.
    pub weights: Vec<f32>,
}

impl Batch {
    /// Number of targets that are learned.
    pub fn learned(&self) -> u64 {
        self.weights.iter().filter(|weight| **weight > 0.0).count() as u64
    }
}

/// How documents become batches.
#[derive(Debug, Clone, PartialEq)]
pub struct PackOptions {
    /// Packed, or a document a row.
    pub form: BatchForm,
    /// Rows or tokens of a batch.
    pub size: BatchSize,
    /// Longest row, in tokens.
    pub length: usize,
    /// What is learned.
    pub objective: Objective,
    /// Rows are padded to a multiple of this, at most to `length`: few different shapes. 1 for none.
    pub multiple: usize,
    /// Id that fills rows up.
    pub pad: u32,
    /// Seed of the order of batches in a pool.
    pub seed: u64,
}

/// Where a stream stands, between two batches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamState {
    /// The mixture before the first document that is still needed was drawn.
    pub mixture: MixtureState,
    /// Tokens (packed) or rows (rows) of that document that are done with.
    pub done: u64,
    /// Batches of the present pool that were handed out; 0 when packed.
    pub batch: u64,
}

/// Ids and weights of one row: `ids` is one longer than what is learned.
#[derive(Debug, Clone)]
struct Row {
    ids: Vec<u32>,
    weights: Vec<f32>,
}

/// Reads the document of a set.
type Reader<'a> = Box<dyn FnMut(usize, usize) -> Result<EncodedDocument> + 'a>;

/// A stream of batches. It ends only where its mixture does.
pub struct Batches<'a> {
    read: Reader<'a>,
    mixture: Mixture,
    options: PackOptions,
    state: StreamState,
    /// Packed: ids and weights that were read and not used. Each weight belongs to the id as a target.
    pending: VecDeque<(u32, f32)>,
    /// Packed: documents that reach into `pending`: the mixture before each, and its ids that remain there.
    documents: VecDeque<(MixtureState, u64, u64)>,
    /// Rows: batches of the present pool still to come.
    pool: VecDeque<Vec<Row>>,
    /// Rows: the state after the present pool.
    next: StreamState,
}

impl<'a> Batches<'a> {
    /// A stream from its beginning. `read` gives document `.1` of set `.0` of the mixture.
    ///
    /// # Errors
    /// When rows or batches have no room.
    pub fn new(
        mixture: Mixture,
        options: PackOptions,
        read: impl FnMut(usize, usize) -> Result<EncodedDocument> + 'a,
    ) -> Result<Self> {
        let rows = match options.size {
            BatchSize::Rows(rows) | BatchSize::Tokens(rows) => rows,
        };
        if options.length == 0 || rows == 0 || rows > 1 << 40 || options.multiple == 0 {
            return Err(Error::new(
                "a batch has no room: its rows, its length or its tokens are 0",
            ));
        }
        let state = StreamState {
            mixture: mixture.state().clone(),
            done: 0,
            batch: 0,
        };
        Ok(Self {
            read: Box::new(read),
            mixture,
            options,
            next: state.clone(),
            state,
            pending: VecDeque::new(),
            documents: VecDeque::new(),
            pool: VecDeque::new(),
        })
    }

    /// Where the stream stands: after the last batch that was handed out.
    pub fn state(&self) -> &StreamState {
        &self.state
    }

    /// Goes on from a state of a stream with the same data sets, options and seed.
    ///
    /// # Errors
    /// When the state does not belong to such a stream, or a document cannot be read.
    pub fn resume(&mut self, state: &StreamState) -> Result<()> {
        self.mixture.resume(&state.mixture)?;
        self.pending.clear();
        self.documents.clear();
        self.pool.clear();
        self.state = state.clone();
        self.next = StreamState {
            batch: 0,
            ..state.clone()
        };
        let misfit =
            || Error::new("the state of the stream belongs to other data or another recipe");
        match self.options.form {
            BatchForm::Packed => {
                if state.done > 0 {
                    self.draw_packed()?;
                    if state.done >= self.pending.len() as u64 {
                        return Err(misfit());
                    }
                    self.consume(state.done as usize);
                }
            }
            BatchForm::Rows if state.batch > 0 => {
                self.fill_pool()?;
                if state.batch >= self.pool.len() as u64 {
                    return Err(misfit());
                }
                self.pool.drain(..state.batch as usize);
            }
            BatchForm::Rows => {}
        }
        Ok(())
    }

    /// The next batch; `None` at the end of a pass.
    ///
    /// # Errors
    /// When a document cannot be read or encoded.
    pub fn next_batch(&mut self) -> Result<Option<Batch>> {
        match self.options.form {
            BatchForm::Packed => self.next_packed(),
            BatchForm::Rows => self.next_rows(),
        }
    }

    /// Weight of each id of a document as a target.
    fn weights(&self, document: &EncodedDocument) -> impl Iterator<Item = f32> + use<> {
        let read_only = match self.options.objective {
            Objective::NextToken => 0,
            Objective::Answers => document.question,
        };
        (0..document.ids.len()).map(move |place| if place < read_only { 0.0 } else { 1.0 })
    }

    fn read(&mut self, set: usize, index: usize) -> Result<EncodedDocument> {
        let document = (self.read)(set, index)?;
        if document.ids.len() < 2 {
            let message = format!("document {index} of data set {} has no tokens", set + 1);
            return Err(Error::new(message));
        }
        Ok(document)
    }

    /// Adds the next document to `pending`; false at the end of a pass.
    fn draw_packed(&mut self) -> Result<bool> {
        let before = self.mixture.state().clone();
        let Some((set, index)) = self.mixture.draw() else {
            return Ok(false);
        };
        let document = self.read(set, index)?;
        // The `<eos>` that ended the document before begins this one.
        let skip = usize::from(before.drawn > 0);
        let ids = document
            .ids
            .iter()
            .copied()
            .zip(self.weights(&document))
            .skip(skip);
        let had = self.pending.len();
        self.pending.extend(ids);
        self.documents
            .push_back((before, 0, (self.pending.len() - had) as u64));
        Ok(true)
    }

    /// Takes ids from the front of `pending`.
    fn consume(&mut self, count: usize) {
        self.pending.drain(..count);
        let mut count = count as u64;
        while let Some((_, done, left)) = self.documents.front_mut() {
            if count < *left {
                *done += count;
                *left -= count;
                break;
            }
            count -= *left;
            self.documents.pop_front();
        }
    }

    fn next_packed(&mut self) -> Result<Option<Batch>> {
        let length = self.options.length;
        let rows = match self.options.size {
            BatchSize::Rows(rows) => rows as usize,
            BatchSize::Tokens(tokens) => (tokens as usize / length).max(1),
        };
        let mut batch = Vec::with_capacity(rows);
        while batch.len() < rows {
            while self.pending.len() <= length && self.draw_packed()? {}
            let count = self.pending.len().min(length + 1);
            if count < 2 {
                break;
            }
            let (ids, weights): (Vec<u32>, Vec<f32>) = self.pending.range(..count).copied().unzip();
            batch.push(Row {
                ids,
                weights: weights[1..].to_vec(),
            });
            // The last target is the first input of the next row.
            self.consume(count - 1);
        }
        let front = self.documents.front();
        let (mixture, done) = match front {
            Some((before, done, _)) => (before.clone(), *done),
            None => (self.mixture.state().clone(), 0),
        };
        self.state = StreamState {
            mixture,
            done,
            batch: 0,
        };
        Ok((!batch.is_empty()).then(|| self.batch(&batch, length)))
    }

    fn next_rows(&mut self) -> Result<Option<Batch>> {
        if self.pool.is_empty() {
            self.state = self.next.clone();
            self.fill_pool()?;
        }
        let Some(rows) = self.pool.pop_front() else {
            return Ok(None);
        };
        if self.pool.is_empty() {
            self.state = self.next.clone();
        } else {
            self.state.batch += 1;
        }
        let longest = rows.iter().map(|row| row.weights.len()).max().unwrap_or(1);
        let length = longest
            .next_multiple_of(self.options.multiple)
            .min(self.options.length);
        Ok(Some(self.batch(&rows, length)))
    }

    /// Fills the pool from `next`, and moves `next` behind it.
    fn fill_pool(&mut self) -> Result<()> {
        let length = self.options.length;
        let wanted = match self.options.size {
            BatchSize::Rows(rows) => POOL * rows as usize,
            BatchSize::Tokens(tokens) => 2 * POOL * (tokens as usize / length).max(1),
        };
        let seed = self.options.seed
            ^ self
                .next
                .mixture
                .drawn
                .wrapping_mul(31)
                .wrapping_add(self.next.done);
        let mut rows: Vec<Row> = Vec::with_capacity(wanted);
        let mut skip = self.next.done as usize;
        // Documents in a row without anything to learn.
        let mut barren = 0;
        self.mixture.resume(&self.next.mixture)?;
        while rows.len() < wanted {
            let before = self.mixture.state().clone();
            let Some((set, index)) = self.mixture.draw() else {
                break;
            };
            let document = self.read(set, index)?;
            let weights: Vec<f32> = self.weights(&document).collect();
            let cuts = cuts(&document, length);
            let mut through = skip;
            for &(start, end) in cuts.iter().skip(skip) {
                if rows.len() == wanted {
                    break;
                }
                through += 1;
                let weights = weights[start + 1..=end].to_vec();
                // Nothing is learned of a row that is all question.
                if weights.iter().any(|weight| *weight > 0.0) {
                    rows.push(Row {
                        ids: document.ids[start..=end].to_vec(),
                        weights,
                    });
                    barren = 0;
                }
            }
            barren += 1;
            if barren > 2 * self.mixture.documents() {
                return Err(Error::new("no document has anything to learn").with_help(
                    "where only answers are learned, documents need a question and an answer",
                ));
            }
            self.next = if through < cuts.len() {
                StreamState {
                    mixture: before,
                    done: through as u64,
                    batch: 0,
                }
            } else {
                StreamState {
                    mixture: self.mixture.state().clone(),
                    done: 0,
                    batch: 0,
                }
            };
            skip = 0;
        }
        rows.sort_by_key(|row| row.weights.len());
        let mut batches: Vec<Vec<Row>> = Vec::new();
        for row in rows {
            let padded = row
                .weights
                .len()
                .next_multiple_of(self.options.multiple)
                .min(length);
            let fits = batches.last().is_some_and(|batch| match self.options.size {
                BatchSize::Rows(rows) => batch.len() < rows as usize,
                BatchSize::Tokens(tokens) => (batch.len() + 1) * padded <= tokens as usize,
            });
            match batches.last_mut() {
                Some(batch) if fits => batch.push(row),
                _ => batches.push(vec![row]),
            }
        }
        let order = shuffled(batches.len(), seed, 0);
        self.pool = order
            .iter()
            .map(|index| std::mem::take(&mut batches[*index as usize]))
            .collect();
        Ok(())
    }

    fn batch(&self, rows: &[Row], length: usize) -> Batch {
        let pad = self.options.pad as i32;
        let size = rows.len() * length;
        let mut batch = Batch {
            rows: rows.len(),
            length,
            tokens: vec![pad; size],
            targets: vec![pad; size],
            weights: vec![0.0; size],
        };
        for (number, row) in rows.iter().enumerate() {
            let start = number * length;
            for (place, weight) in row.weights.iter().enumerate() {
                batch.tokens[start + place] = row.ids[place] as i32;
                batch.targets[start + place] = row.ids[place + 1] as i32;
                batch.weights[start + place] = *weight;
            }
        }
        batch
    }
}

/// The rows of a document, each as its first input and its last target; a row's last target is the next one's first
/// input. A cut that would fall into a picture is made before the break that opens it, where that leaves anything.
fn cuts(document: &EncodedDocument, length: usize) -> Vec<(usize, usize)> {
    let last = document.ids.len().saturating_sub(1);
    let mut cuts = Vec::new();
    let mut start = 0;
    while start < last {
        let mut end = last.min(start + length);
        let inside = document
            .pictures
            .iter()
            .find(|(first, after)| (*first..*after - 1).contains(&end));
        if let Some((first, _)) = inside {
            // The break before the picture is the last target, and the first input of the row that has the picture.
            if end < last && first - 1 > start {
                end = first - 1;
            }
        }
        cuts.push((start, end));
        start = end;
    }
    cuts
}

#[cfg(test)]
#[path = "batches_tests.rs"]
mod tests;
