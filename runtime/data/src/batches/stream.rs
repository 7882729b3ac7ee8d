//! The order in which documents are learned, and the batches they fill.
//!
//! Batch number s is a pure function of the documents, the recipe and the seed: a run that goes on
//! after an interrupt only needs to know its step. Each epoch of a set is shuffled anew; a mixture
//! draws the set of every row by weight. No row comes twice in a batch, unless its set is smaller than the
//! batch's share of it: where an epoch ends within a batch, rows of the next that are there already wait for
//! the batch after it.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};

use jam_ir::recipe::{BatchForm, BatchSize};

use super::{EncodedSet, Objective};
use crate::random::Random;
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
#[derive(Clone, Debug)]
pub struct BatchOptions {
    /// One document a row, or documents one after the other.
    pub form: BatchForm,
    /// Rows or tokens of a batch.
    pub size: BatchSize,
    /// Longest row, in tokens.
    pub length: usize,
    /// What is learned.
    pub objective: &'static dyn Objective,
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

/// Pools of batches in a set that is large.
const LARGE: usize = 16;

/// A piece of one document (or of several, one after the other).
#[derive(Clone, Copy, Debug)]
struct Row {
    source: usize,
    index: u64,
    /// Number of the piece in its set; 0 where the row is packed.
    piece: u32,
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
        let mut sources: Vec<Source<'d>> = sets
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
        let rows = rows.max(1);
        let pool = rows.saturating_mul(pooled(rows, options.form));
        for source in &mut sources {
            source.is_large = source.pieces.len() >= pool.saturating_mul(LARGE);
        }
        Ok(BatchStream {
            sources,
            bounds,
            options,
            rows,
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
            .map(|row| self.sources[row.source].tokens(*row, &self.options))
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
        let batches = pooled(self.rows, self.options.form);
        let drawn: Vec<Vec<Row>> = (0..batches).map(|_| self.draw()).collect();
        let mut pool = match self.options.form {
            BatchForm::Rows => self.sorted(drawn),
            BatchForm::Packed => drawn,
        };
        let mut random = generator(self.options.seed, u64::MAX, self.step);
        random.shuffle_by_remainders(&mut pool);
        let first = pool.pop().unwrap_or_default();
        self.pool = pool;
        first
    }

    /// The rows of a batch: for each the set that it comes from, and the next in its order.
    fn draw(&mut self) -> Vec<Row> {
        self.sources.iter_mut().for_each(Source::begin_batch);
        let mut batch = Vec::with_capacity(self.rows);
        for _ in 0..self.rows {
            let uniform = generator(self.options.seed, u64::MAX - 1, self.drawn).unit();
            self.drawn += 1;
            let source = self.bounds.iter().position(|bound| uniform < *bound);
            let source = source.unwrap_or(self.bounds.len() - 1);
            let (index, piece) = self.sources[source].take();
            batch.push(Row {
                source,
                index,
                piece,
            });
        }
        batch
    }

    /// The rows of batches, sorted by length across them. Of rows that then come twice in a batch, one changes
    /// places with a row of a batch nearby; where that does not do, the batches stay as they were drawn.
    fn sorted(&self, drawn: Vec<Vec<Row>>) -> Vec<Vec<Row>> {
        let mut rows = drawn.concat();
        rows.sort_by_key(|row| self.sources[row.source].pieces[row.piece as usize].len);
        let mut pool: Vec<Vec<Row>> = rows.chunks(self.rows).map(<[Row]>::to_vec).collect();
        if self.doubles(&pool) == 0 {
            return pool;
        }
        self.part_doubles(&mut pool);
        match self.doubles(&pool) > self.doubles(&drawn) {
            true => drawn,
            false => pool,
        }
    }

    /// How often rows of sets that are not large come again in their batches.
    fn doubles(&self, pool: &[Vec<Row>]) -> u32 {
        let again = |(row, count): (&RowKey, &u32)| match self.sources[row.0].is_large {
            true => 0,
            false => count - 1,
        };
        let batches = pool.iter().map(|batch| tally(batch));
        batches
            .map(|tally| tally.iter().map(again).sum::<u32>())
            .sum()
    }

    /// Lets rows that come twice in a batch change places with rows of other batches, the nearest first, for those
    /// are about as long.
    fn part_doubles(&self, pool: &mut [Vec<Row>]) {
        let key = |row: Row| (row.source, row.piece);
        let mut tallies: Vec<_> = pool.iter().map(|batch| tally(batch)).collect();
        for here in 0..pool.len() {
            for place in 0..pool[here].len() {
                let row = pool[here][place];
                let comes_again = tallies[here].get(&key(row)).is_some_and(|count| *count > 1);
                if !comes_again || self.sources[row.source].is_large {
                    continue;
                }
                let mut others: Vec<usize> =
                    (0..pool.len()).filter(|other| *other != here).collect();
                others.sort_by_key(|other| other.abs_diff(here));
                let takes = |other: &usize| !tallies[*other].contains_key(&key(row));
                let found = others.into_iter().filter(takes).find_map(|other| {
                    let fits = |candidate: &Row| !tallies[here].contains_key(&key(*candidate));
                    let there = match other < here {
                        true => pool[other].iter().rposition(fits),
                        false => pool[other].iter().position(fits),
                    };
                    there.map(|there| (other, there))
                });
                let Some((other, there)) = found else {
                    continue;
                };
                let exchanged = pool[other][there];
                pool[here][place] = exchanged;
                pool[other][there] = row;
                for (batch, gone, come) in [(here, row, exchanged), (other, exchanged, row)] {
                    if let Some(count) = tallies[batch].get_mut(&key(gone)) {
                        *count -= 1;
                        if *count == 0 {
                            tallies[batch].remove(&key(gone));
                        }
                    }
                    *tallies[batch].entry(key(come)).or_default() += 1;
                }
            }
        }
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
    /// Whether it holds many pools of batches.
    is_large: bool,
    /// Rows taken from the order of epochs.
    taken: u64,
    /// Those of them that wait for the next batch.
    waiting: VecDeque<u64>,
    /// Number of the current batch, or of the current time through the set where that is smaller.
    round: u64,
    /// Pieces in the current round, and the last round of every piece.
    in_round: usize,
    rounds: Vec<u64>,
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
            total,
            seed: options.seed,
            packed,
            is_large: false,
            taken: 0,
            waiting: VecDeque::new(),
            round: 0,
            in_round: 0,
            rounds: vec![0; pieces.len()],
            pieces,
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

    fn begin_batch(&mut self) {
        self.round += 1;
        self.in_round = 0;
    }

    /// The next row that is not in the batch yet, and its piece.
    fn take(&mut self) -> (u64, u32) {
        if self.packed.is_some() || self.is_large {
            self.taken += 1;
            let piece = match self.packed {
                Some(_) => 0,
                None => self.number_of(self.taken - 1),
            };
            return (self.taken - 1, piece);
        }
        if self.in_round == self.pieces.len() {
            // The whole set is in the batch: once more through it.
            self.begin_batch();
        }
        let is_new = |index: &u64| self.rounds[self.number_of(*index) as usize] < self.round;
        let index = match self.waiting.iter().position(is_new) {
            Some(place) => self.waiting.remove(place).unwrap_or(self.taken),
            None => {
                while self.rounds[self.number_of(self.taken) as usize] == self.round {
                    self.waiting.push_back(self.taken);
                    self.taken += 1;
                }
                self.taken += 1;
                self.taken - 1
            }
        };
        let piece = self.number_of(index);
        self.rounds[piece as usize] = self.round;
        self.in_round += 1;
        (index, piece)
    }

    /// Number of the piece at a place in the order of epochs.
    fn number_of(&self, index: u64) -> u32 {
        let count = self.pieces.len() as u64;
        self.with_order(index / count, |order| {
            order.pieces[(index % count) as usize]
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
        generator(self.seed, self.number, epoch).shuffle_by_remainders(&mut pieces);
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

    fn tokens(&self, of: Row, options: &BatchOptions) -> RowTokens {
        let mut row = RowTokens {
            ids: Vec::new(),
            learned: Vec::new(),
        };
        let Some(length) = self.packed else {
            let piece = self.pieces[of.piece as usize];
            self.add(piece, 0, u64::MAX, options, &mut row);
            return row;
        };
        let rows = self.rows();
        self.with_order(of.index / rows, |order| {
            let sums = &order.sums;
            let mut at = (of.index % rows) * length;
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
        let read = options.objective.read(self.set, piece.document as usize);
        row.learned.extend((first..last).map(|place| place >= read));
    }
}

/// Batches that are drawn and sorted together.
fn pooled(rows: usize, form: BatchForm) -> usize {
    match form {
        BatchForm::Rows => (MOST_POOLED / rows).clamp(1, POOL),
        BatchForm::Packed => 1,
    }
}

/// A row of a batch: its set and piece.
type RowKey = (usize, u32);

/// How often each row is in a batch.
fn tally(batch: &[Row]) -> BTreeMap<RowKey, u32> {
    let mut counts = BTreeMap::new();
    for row in batch {
        *counts.entry((row.source, row.piece)).or_default() += 1;
    }
    counts
}

/// A generator of its own for every purpose and number.
pub(super) fn generator(seed: u64, purpose: u64, number: u64) -> Random {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&purpose.to_le_bytes());
    key[16..24].copy_from_slice(&number.to_le_bytes());
    Random::keyed(key, 0)
}
