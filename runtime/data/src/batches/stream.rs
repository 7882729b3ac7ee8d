//! The order in which documents are learned, and the batches they fill.
//!
//! Batch number s is a pure function of the documents, the recipe and the seed: a run that goes on
//! after an interrupt only needs to know its step. Each epoch of a set is shuffled anew; a mixture
//! draws the set of every row by weight.

use std::cell::RefCell;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use jam_ir::recipe::{BatchForm, BatchSize, Objective};

use super::EncodedSet;
use crate::{Error, Result};

/// Rows of tokens and what is learned from them.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Number of rows.
    pub rows: usize,
    /// Tokens of a row, padding on the right included.
    pub length: usize,
    /// Inputs, `[rows, length]`.
    pub tokens: Vec<u32>,
    /// The token that follows each input, `[rows, length]`.
    pub targets: Vec<u32>,
    /// Weight of each target: 1 where it is learned, 0 at padding and where it is only read.
    pub weights: Vec<f32>,
}

impl Batch {
    /// Number of targets that are learned.
    pub fn learned(&self) -> u64 {
        self.weights.iter().filter(|weight| **weight > 0.0).count() as u64
    }
}

/// How documents become batches.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchOptions {
    /// One document a row, or documents one after the other.
    pub form: BatchForm,
    /// Rows or tokens of a batch.
    pub size: BatchSize,
    /// Longest row, in tokens.
    pub length: usize,
    /// What is learned.
    pub objective: Objective,
    /// Seed of the order.
    pub seed: u64,
    /// Id that fills rows up.
    pub pad: u32,
}

/// An endless stream of batches.
#[derive(Debug)]
pub struct BatchStream<'d> {
    sources: Vec<Source<'d>>,
    /// Running sums of the weights, the last of them 1.
    bounds: Vec<f64>,
    options: BatchOptions,
    rows: usize,
    /// Batches handed out so far.
    step: u64,
    /// Rows drawn so far.
    drawn: u64,
    /// Batches of the current pool, last first.
    pool: Vec<Vec<Row>>,
}

/// Batches whose rows are sorted by length together, so that little padding is needed.
const POOL: usize = 16;

/// Most rows that are sorted together, where batches are so large.
const MOST_POOLED: usize = 1 << 22;

/// A piece of one document (or of several, one after the other).
#[derive(Clone, Debug)]
struct Row {
    source: usize,
    index: u64,
}

impl<'d> BatchStream<'d> {
    /// A stream over sets by weight, from step 0.
    ///
    /// # Errors
    /// When there is no set, a set has nothing to learn, or a weight is not positive.
    pub fn new(sets: Vec<(f64, &'d EncodedSet)>, options: BatchOptions) -> Result<BatchStream<'d>> {
        let total: f64 = sets.iter().map(|(weight, _)| weight).sum();
        if sets.is_empty() || !total.is_finite() || sets.iter().any(|(weight, _)| *weight <= 0.0) {
            return Err(Error::new(
                "a mixture needs data sets with positive weights",
            ));
        }
        let mut bounds = Vec::new();
        let mut sum = 0.0;
        for (weight, _) in &sets {
            sum += weight / total;
            bounds.push(sum);
        }
        let sources: Vec<Source<'d>> = sets
            .iter()
            .enumerate()
            .map(|(index, (_, set))| Source::new(set, index, &options))
            .collect();
        if let Some(empty) = sources.iter().position(|source| source.rows() == 0) {
            let message = format!(
                "data set {} of the mixture has no document to learn from",
                empty + 1
            );
            return Err(Error::new(message));
        }
        let mean: f64 = sources
            .iter()
            .zip(&sets)
            .map(|(source, (weight, _))| source.mean_row() * weight / total)
            .sum();
        let rows = match options.size {
            BatchSize::Rows(rows) => rows as usize,
            BatchSize::Tokens(tokens) => (tokens as f64 / mean).round() as usize,
        };
        Ok(BatchStream {
            sources,
            bounds,
            options,
            rows: rows.max(1),
            step: 0,
            drawn: 0,
            pool: Vec::new(),
        })
    }

    /// Rows of a batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The next batch.
    pub fn next_batch(&mut self) -> Batch {
        let rows = self.next_rows();
        let rows: Vec<_> = rows
            .iter()
            .map(|row| self.sources[row.source].tokens(row.index, &self.options))
            .collect();
        self.fill(&rows)
    }

    /// Passes over batches until `step` of them are behind.
    pub fn skip_to(&mut self, step: u64) {
        while self.step < step {
            self.next_rows();
        }
    }

    fn next_rows(&mut self) -> Vec<Row> {
        self.step += 1;
        if let Some(rows) = self.pool.pop() {
            return rows;
        }
        let batches = match self.options.form {
            BatchForm::Rows => (MOST_POOLED / self.rows).clamp(1, POOL),
            BatchForm::Packed => 1,
        };
        let mut rows: Vec<Row> = (0..self.rows * batches).map(|_| self.draw()).collect();
        rows.sort_by_key(|row| self.sources[row.source].row_length(row.index));
        let mut pool: Vec<_> = rows.chunks(self.rows).map(<[Row]>::to_vec).collect();
        let mut rng = generator(self.options.seed, u64::MAX, self.step);
        shuffle(&mut pool, &mut rng);
        let first = pool.pop().unwrap_or_default();
        self.pool = pool;
        first
    }

    /// The set and the place in it that the next row comes from.
    fn draw(&mut self) -> Row {
        let mut rng = generator(self.options.seed, u64::MAX - 1, self.drawn);
        self.drawn += 1;
        let uniform = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        let source = self.bounds.iter().position(|bound| uniform < *bound);
        let source = source.unwrap_or(self.bounds.len() - 1);
        let index = self.sources[source].take();
        Row { source, index }
    }

    fn fill(&self, rows: &[RowTokens]) -> Batch {
        let length = rows
            .iter()
            .map(|row| row.ids.len().saturating_sub(1))
            .max()
            .unwrap_or(0)
            .max(1);
        let mut batch = Batch {
            rows: rows.len(),
            length,
            tokens: vec![self.options.pad; rows.len() * length],
            targets: vec![self.options.pad; rows.len() * length],
            weights: vec![0.0; rows.len() * length],
        };
        for (index, row) in rows.iter().enumerate() {
            let count = row.ids.len().saturating_sub(1);
            let place = index * length..index * length + count;
            batch.tokens[place.clone()].copy_from_slice(&row.ids[..count]);
            batch.targets[place.clone()].copy_from_slice(&row.ids[1..]);
            for (weight, learned) in batch.weights[place].iter_mut().zip(&row.learned[1..]) {
                *weight = f32::from(u8::from(*learned));
            }
        }
        batch
    }
}

/// The ids of a row and which of them are learned.
struct RowTokens {
    ids: Vec<u32>,
    learned: Vec<bool>,
}

/// One set of a mixture, cut into rows.
#[derive(Debug)]
struct Source<'d> {
    set: &'d EncodedSet,
    number: u64,
    /// First token and number of tokens of every piece, in the order of the set.
    pieces: Vec<Piece>,
    /// For packed rows: tokens of all pieces.
    total: u64,
    seed: u64,
    packed: Option<u64>,
    /// Rows handed out.
    taken: u64,
    /// Orders of the two epochs last asked for: a pool of batches may straddle two.
    orders: RefCell<Vec<Order>>,
}

/// The order of the pieces in an epoch.
#[derive(Debug)]
struct Order {
    epoch: u64,
    pieces: Vec<u32>,
    /// For packed rows, the tokens before each piece.
    sums: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    document: u32,
    start: u32,
    len: u32,
}

impl<'d> Source<'d> {
    fn new(set: &'d EncodedSet, number: usize, options: &BatchOptions) -> Source<'d> {
        // A row of n inputs needs n + 1 tokens. Neighbouring rows share one, so that each token is
        // learned; packed pieces follow one another anyway.
        let shared = u32::from(options.form == BatchForm::Rows);
        let longest = u32::try_from(options.length)
            .unwrap_or(u32::MAX - 1)
            .saturating_add(1);
        let mut pieces = Vec::new();
        for document in 0..set.len() {
            let len = set.document(document).len() as u32;
            let mut start = 0;
            while start + shared < len {
                let taken = longest.min(len - start);
                pieces.push(Piece {
                    document: document as u32,
                    start,
                    len: taken,
                });
                start += taken - shared;
            }
        }
        let total = pieces.iter().map(|piece| u64::from(piece.len)).sum();
        let packed = (options.form == BatchForm::Packed).then_some(u64::from(longest));
        Source {
            set,
            number: number as u64,
            pieces,
            total,
            seed: options.seed,
            packed,
            taken: 0,
            orders: RefCell::default(),
        }
    }

    /// Rows of an epoch.
    fn rows(&self) -> u64 {
        match self.packed {
            Some(length) if self.total > 0 => (self.total / length).max(1),
            _ => self.pieces.len() as u64,
        }
    }

    /// Mean inputs of a row.
    fn mean_row(&self) -> f64 {
        match self.packed {
            Some(length) => (length.min(self.total) as f64 - 1.0).max(1.0),
            None => (self.total as f64 / self.pieces.len() as f64 - 1.0).max(1.0),
        }
    }

    fn take(&mut self) -> u64 {
        self.taken += 1;
        self.taken - 1
    }

    /// Tokens of a row, for sorting; packed rows are all alike.
    fn row_length(&self, index: u64) -> u32 {
        match self.packed {
            Some(_) => 0,
            None => self.piece(index).len,
        }
    }

    fn piece(&self, index: u64) -> Piece {
        let count = self.pieces.len() as u64;
        self.with_order(index / count, |order| {
            self.pieces[order.pieces[(index % count) as usize] as usize]
        })
    }

    fn with_order<T>(&self, epoch: u64, read: impl FnOnce(&Order) -> T) -> T {
        let mut orders = self.orders.borrow_mut();
        let known = orders.iter().position(|order| order.epoch == epoch);
        let known = known.unwrap_or_else(|| {
            if orders.len() == 2 {
                orders.remove(0);
            }
            orders.push(self.order(epoch));
            orders.len() - 1
        });
        read(&orders[known])
    }

    fn order(&self, epoch: u64) -> Order {
        let mut pieces: Vec<u32> = (0..self.pieces.len() as u32).collect();
        shuffle(&mut pieces, &mut generator(self.seed, self.number, epoch));
        let mut sums = Vec::new();
        if self.packed.is_some() {
            let mut sum = 0;
            for piece in &pieces {
                sums.push(sum);
                sum += u64::from(self.pieces[*piece as usize].len);
            }
        }
        Order {
            epoch,
            pieces,
            sums,
        }
    }

    fn tokens(&self, index: u64, options: &BatchOptions) -> RowTokens {
        let mut row = RowTokens {
            ids: Vec::new(),
            learned: Vec::new(),
        };
        let Some(length) = self.packed else {
            self.add(self.piece(index), 0, u64::MAX, options, &mut row);
            return row;
        };
        let rows = self.rows();
        self.with_order(index / rows, |order| {
            let sums = &order.sums;
            let mut at = (index % rows) * length;
            let end = (at + length).min(self.total);
            let mut place = sums.partition_point(|sum| *sum <= at) - 1;
            while at < end {
                let piece = self.pieces[order.pieces[place] as usize];
                let skip = at - sums[place];
                let take = (u64::from(piece.len) - skip).min(end - at);
                self.add(piece, skip, take, options, &mut row);
                at += take;
                place += 1;
            }
        });
        row
    }

    /// Adds tokens `skip .. skip + take` of a piece.
    fn add(&self, piece: Piece, skip: u64, take: u64, options: &BatchOptions, row: &mut RowTokens) {
        let document = self.set.document(piece.document as usize);
        let first = piece.start as usize + skip as usize;
        let last = (first as u64)
            .saturating_add(take)
            .min(u64::from(piece.start + piece.len)) as usize;
        row.ids.extend_from_slice(&document[first..last]);
        let read = match options.objective {
            Objective::NextToken => 0,
            Objective::Answers => self.set.prompt(piece.document as usize),
        };
        row.learned.extend((first..last).map(|place| place >= read));
    }
}

/// A generator of its own for every purpose and number.
fn generator(seed: u64, purpose: u64, number: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&purpose.to_le_bytes());
    key[16..24].copy_from_slice(&number.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// Every order with the same chance (Fisher and Yates).
fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        let bound = last as u64 + 1;
        items.swap(last, (rng.next_u64() % bound) as usize);
    }
}
