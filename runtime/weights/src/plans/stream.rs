//! The weight plans of a model carried out streaming: by runs of rows, several at once, written in
//! order.
//!
//! A run is as long as its share of the memory allows. Within it, small blocks of rows are
//! evaluated one after the other, so that what they compute stays in the cache; what comes of a run
//! is written and its checksum carried on while the next ones are computed. Nothing depends on how
//! a weight is cut: the same bytes come out for every number of threads and every bound on memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use jam_ir::plan_shape::plan_shape;
use jam_ir::{Model, Plan};

use super::bands::BandedSources;
use super::buffers::Buffers;
use super::row_bytes::{RowBytes, row_bytes, row_entries};
use super::rows::PASSING;
use super::{Group, Measures, PlanRows, PlanSources, groups, weight_shapes};
use crate::checkpoints::{CheckpointWriter, Dtype, TURNING};
use crate::memory;
use crate::ordered::{Ordered, Room};
use crate::progress::{Bar, Stop};
use crate::{Error, ErrorKind, Result};

/// Entries of a small block: its numbers fit the cache of a core.
const BLOCK: u64 = 64 << 10;
/// Runs that share the memory, at the least.
const SHARES: u64 = 3;
/// Bytes that a run has no need to exceed.
const LARGEST_RUN: u64 = 512 << 20;

/// Bytes of a piece of a file from which on reading it takes longer than asking for it. Shorter pieces are
/// what a run of few rows of a matrix that lies the other way about is put together from.
const SHORT_PIECE: u64 = 128;

/// What a build may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory that are resident at most, the program's own included.
    pub memory: u64,
    /// Threads that compute. One more writes.
    pub threads: usize,
}

impl Default for Limits {
    /// 1 GiB, and a thread for each core. Where the program holds so much already, 256 MiB more.
    fn default() -> Self {
        let held = memory::resident().unwrap_or(0);
        Limits {
            memory: (1 << 30).max(held + (256 << 20)),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// One weight.
#[derive(Debug)]
struct Planned<'a> {
    name: String,
    plan: &'a Plan,
    shape: Vec<u64>,
    dtype: Dtype,
    bytes: RowBytes,
    /// What its runs share, with those of its group.
    measures: Arc<Measures>,
    /// The weights that are measured with it.
    group: Option<Arc<Group<'a>>>,
    /// Bytes that measuring takes beside a run; `None` where nothing is measured.
    measuring: Option<u64>,
}

/// How long some entries took.
#[derive(Debug, Default)]
struct Pace {
    seconds: f64,
    entries: u64,
}

impl Pace {
    /// Adds entries that took so many seconds.
    fn add(&mut self, seconds: f64, entries: u64) {
        self.seconds += seconds;
        self.entries += entries;
    }

    /// Seconds that `entries` take at this pace.
    fn seconds_of(&self, entries: u64) -> f64 {
        self.seconds * entries as f64 / self.entries.max(1) as f64
    }
}

/// Some rows of one weight, and the bytes of memory they take.
#[derive(Debug)]
struct Run {
    weight: usize,
    rows: Range<u64>,
    bytes: u64,
}

/// The weight plans of a model, about to be carried out.
pub struct WeightStream<'a> {
    weights: Vec<Planned<'a>>,
    seed: u64,
    sources: &'a dyn PlanSources,
    /// Bytes that the program held when this was made.
    held: u64,
}

impl<'a> WeightStream<'a> {
    /// The plans of `model`, whose `load`s read from `sources`, in a program with this seed. No
    /// tensor is read yet.
    ///
    /// # Errors
    /// When a source or a tensor is missing, or a plan does not give the shape of its weight.
    pub fn new(
        model: &'a Model,
        seed: u64,
        sources: &'a dyn PlanSources,
    ) -> Result<WeightStream<'a>> {
        let uses = model.weight_uses();
        let groups = groups(model, sources)?.into_iter();
        let groups = groups.map(|group| (Arc::new(group), Arc::default()));
        let groups: Vec<(Arc<Group<'a>>, Arc<Measures>)> = groups.collect();
        let mut weights = Vec::new();
        for (name, shape) in weight_shapes(model)? {
            let wrong = |why: String| Error::new(format!("weight `{name}`: {why}"));
            let plan = model.weights.get(&name).map(|weight| &weight.plan);
            let plan = plan.ok_or_else(|| wrong("has no plan".to_owned()))?;
            let mut missing = None;
            plan.for_each(&mut |part| {
                if let Plan::Load { source, name } = part
                    && missing.is_none()
                {
                    missing = match sources.source(source) {
                        Err(error) => Some(error),
                        Ok(found) if found.shape(name).is_none() => {
                            Some(wrong(format!("`{source}` has no `{name}`")))
                        }
                        Ok(_) => None,
                    };
                }
            });
            if let Some(error) = missing {
                return Err(error);
            }
            let lookup = |source: &str, name: &str| sources.source(source).ok()?.shape(name);
            let shaped =
                plan_shape(plan, &shape, &lookup).map_err(|error| wrong(error.to_string()))?;
            let bytes = row_bytes(&shaped, row_entries(&shape), sources);
            let own = groups.iter().find(|(group, _)| group.has(&name));
            let (group, measures) = own.cloned().unzip();
            let measuring = Measures::are_needed(plan)
                .then(|| Measures::default().pass_bytes(row_entries(&shape), bytes.scratch));
            weights.push(Planned {
                plan,
                measures: measures.unwrap_or_default(),
                group,
                measuring,
                dtype: Dtype::from(uses[&name].ty.dtype),
                bytes,
                name,
                shape,
            });
        }
        Ok(WeightStream {
            weights,
            seed,
            sources,
            held: memory::held(),
        })
    }

    /// Bytes that are written.
    pub fn written_bytes(&self) -> u64 {
        let bytes = self.weights.iter().map(|w| w.rows() * w.row_bytes());
        bytes.fold(0, u64::saturating_add)
    }

    /// The least that [`Limits::memory`] may be: one row of every weight at a time, beside what the
    /// program holds now.
    pub fn least_memory(&self) -> u64 {
        let longest = self.weights.iter().map(|weight| weight.run_bytes(1)).max();
        memory::for_work(longest.unwrap_or(0), self.held)
    }

    /// The least that [`Limits::memory`] may be for a build that is not slowed down by it: with less, runs are
    /// of so few rows that matrices which lie the other way about are read in short pieces.
    pub fn fast_memory(&self) -> u64 {
        let long = |weight: &Planned<'_>| {
            // Runs are equal parts: of so many rows at least, they are a little longer.
            let parts = (weight.rows() / weight.unhurried_rows()).max(1);
            let rows = weight.rows().div_ceil(parts).max(1);
            let shares = if rows == 1 { 1 } else { SHARES };
            weight.run_bytes(rows).saturating_mul(shares)
        };
        let longest = self.weights.iter().map(long).max();
        memory::for_work(longest.unwrap_or(0), self.held)
    }

    /// Bytes that will be resident at most under these limits, what the program holds now included.
    ///
    /// # Errors
    /// As [`WeightStream::write`] when they are too low.
    pub fn peak_memory(&self, limits: Limits) -> Result<u64> {
        let room = self.room(limits)?;
        let runs = self.runs(room);
        // Runs that follow one another are held together as long as they fit the room.
        let (mut most, mut held, mut first) = (0, 0, 0);
        for run in &runs {
            held += run.bytes;
            while held > room.bytes {
                held -= runs[first].bytes;
                first += 1;
            }
            most = most.max(held);
        }
        Ok(memory::for_work(most, self.held))
    }

    /// Carries the plans out and gives every weight to `writer`, in the model's order. False when
    /// `stop` was asked. `bar` counts the entries written.
    ///
    /// # Errors
    /// When the memory is not enough (the error says what would be), a source cannot be read, or a
    /// file cannot be written.
    pub fn write(
        &self,
        writer: &mut CheckpointWriter,
        limits: Limits,
        bar: &mut dyn Bar,
        stop: &Stop,
    ) -> Result<bool> {
        let room = self.room(limits)?;
        let runs = self.runs(room);
        let buffers = Buffers::new(room.bytes);
        let ordered = Ordered {
            cost: &|run: &Run| run.bytes,
            announce: &|run| self.announce(run),
            work: &|run| self.evaluate(run, &buffers),
        };
        let mut done = 0;
        ordered.run(&runs, room, |run, bytes: Vec<u8>| {
            if stop.asked() {
                return Ok(false);
            }
            let weight = &self.weights[run.weight];
            writer.append_bytes(&weight.name, &bytes)?;
            done += bytes.len() as u64 / weight.dtype.size();
            buffers.give(bytes);
            bar.at(done, &weight.name);
            Ok(true)
        })
    }

    /// Seconds that evaluating and hashing all weights takes on one thread under these limits; reading is
    /// included, writing is not. Two runs of different weights are tried whose lengths are nearest to
    /// `entries`, and as many for each length of short pieces that weights are read in.
    ///
    /// # Errors
    /// As [`WeightStream::peak_memory`], and when a source cannot be read.
    pub fn sample_seconds(&self, limits: Limits, entries: u64) -> Result<f64> {
        // Whole runs: a few rows of a matrix that lies the other way about cost as much as all of them.
        let mut runs = self.runs(self.room(limits)?);
        // Where rows move, even one of them takes the whole operand: others speak for those.
        let moves = |run: &Run| self.weights[run.weight].bytes.moves_rows;
        if !runs.iter().all(moves) {
            runs.retain(|run| !moves(run));
        }
        let ratio = |run: &Run| {
            let (length, wanted) = (self.length(run).max(1), entries.max(1));
            length.max(wanted) as f64 / length.min(wanted) as f64
        };
        runs.sort_by(|a, b| ratio(a).total_cmp(&ratio(b)));
        let mut alike: BTreeMap<u32, Vec<Run>> = BTreeMap::new();
        for run in runs {
            let pieces = self.weights[run.weight].shortness(run.rows.end - run.rows.start);
            alike.entry(pieces).or_default().push(run);
        }
        let (mut seconds, mut covered, mut measured) = (0.0, 0, Pace::default());
        for (shortness, runs) in &alike {
            let second = runs.iter().find(|run| run.weight != runs[0].weight);
            let mut evaluated = Pace::default();
            for run in runs.first().into_iter().chain(second) {
                self.sample(run, *shortness > 0, &mut evaluated, &mut measured)?;
            }
            let entries = runs.iter().map(|run| self.length(run)).sum();
            seconds += evaluated.seconds_of(entries);
            covered += entries;
        }
        let all: u64 = self.weights.iter().map(Planned::entries).sum();
        let to_measure = self.weights.iter().filter(|w| w.measuring.is_some());
        let to_measure: u64 = to_measure.map(Planned::entries).sum();
        let evaluated = Pace {
            seconds,
            entries: covered,
        };
        Ok(evaluated.seconds_of(all) + measured.seconds_of(to_measure))
    }

    /// Evaluates and hashes a run to see how long that takes, and measuring its weight before; twice where it is to
    /// be warmed up.
    fn sample(
        &self,
        run: &Run,
        warmed: bool,
        evaluated: &mut Pace,
        measured: &mut Pace,
    ) -> Result<()> {
        let weight = &self.weights[run.weight];
        let begun = Instant::now();
        if warmed || weight.measuring.is_some() {
            // The first run of a weight waits for what is measured of all of it, and fetches pages of the file that
            // are there for the others.
            self.evaluate(run, &Buffers::new(0))?;
        }
        let first = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let bytes = self.evaluate(run, &Buffers::new(0))?;
        std::hint::black_box(blake3::hash(&bytes));
        let seconds = begun.elapsed().as_secs_f64();
        evaluated.add(seconds, self.length(run));
        if weight.measuring.is_some() {
            // All of its group is measured at once.
            let group = weight.group.as_ref();
            let entries = group.map_or(weight.entries(), |group| group.entries());
            measured.add((first - seconds).max(0.0), entries);
        }
        Ok(())
    }

    /// Entries of a run.
    fn length(&self, run: &Run) -> u64 {
        let rows = run.rows.end - run.rows.start;
        rows * row_entries(&self.weights[run.weight].shape)
    }

    fn room(&self, limits: Limits) -> Result<Room> {
        let longest = self.weights.iter().map(|weight| weight.run_bytes(1)).max();
        match memory::left(limits.memory, self.held) {
            Some(bytes) if bytes >= longest.unwrap_or(0) => Ok(Room {
                threads: limits.threads,
                bytes,
            }),
            _ => {
                let mib = |bytes: u64| bytes.div_ceil(1 << 20);
                let (given, least) = (mib(limits.memory), mib(self.least_memory()));
                let fast = mib(self.fast_memory());
                let help = match fast > least {
                    true => format!(
                        "{least} MiB would do, and {fast} MiB without slowing it down: `--max-memory {fast}MiB`"
                    ),
                    false => format!("{least} MiB would do: `--max-memory {least}MiB`"),
                };
                Err(Error::of(
                    ErrorKind::Memory,
                    format!("{given} MiB of memory are not enough to build this model"),
                )
                .with_help(help))
            }
        }
    }

    /// Every weight in runs of rows.
    fn runs(&self, room: Room) -> Vec<Run> {
        let share = (room.bytes / SHARES).clamp(1, LARGEST_RUN);
        let mut runs = Vec::new();
        for (index, weight) in self.weights.iter().enumerate() {
            let total = weight.rows();
            let step = weight.longest_run(share);
            // Equal parts: the last is as long as the others, give or take a row.
            let parts = total.div_ceil(step.max(1));
            for part in 0..parts {
                let at =
                    |part: u64| (u128::from(total) * u128::from(part) / u128::from(parts)) as u64;
                let rows = at(part)..at(part + 1);
                runs.push(Run {
                    weight: index,
                    bytes: weight.run_bytes(rows.end - rows.start),
                    rows,
                });
            }
        }
        runs
    }

    fn announce(&self, run: &Run) {
        let weight = &self.weights[run.weight];
        weight.plan.for_each(&mut |part| {
            if let Plan::Load { source, name } = part
                && let Ok(source) = self.sources.source(source)
                && let Some(shape) = source.shape(name)
            {
                // Exact where the plan loads row for row; else a guess that costs nothing.
                let total = shape.first().copied().unwrap_or(1);
                source.will_need(name, run.rows.start.min(total)..run.rows.end.min(total));
            }
        });
    }

    /// The bytes of a run as they are stored.
    fn evaluate(&self, run: &Run, buffers: &Buffers) -> Result<Vec<u8>> {
        let weight = &self.weights[run.weight];
        let rows = run.rows.end - run.rows.start;
        let sources = BandedSources::new(weight.plan, rows, self.sources, buffers)?;
        let plan = PlanRows::new(
            weight.plan,
            &weight.name,
            &weight.shape,
            self.seed,
            &sources,
        )
        .with_measures(&weight.measures)
        .in_group(weight.group.as_deref());
        let mut bytes = buffers.take(rows * weight.row_bytes());
        bytes.clear();
        let mut start = run.rows.start;
        while start < run.rows.end {
            let end = run.rows.end.min(start + weight.block_rows(rows));
            let numbers = plan.rows(start..end)?;
            if !weight.dtype.extend_from_f32(&mut bytes, &numbers) {
                let message = format!("`{}` is stored as {}", weight.name, weight.dtype);
                return Err(Error::new(message));
            }
            start = end;
        }
        Ok(bytes)
    }
}

impl Planned<'_> {
    fn rows(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    fn entries(&self) -> u64 {
        self.rows() * row_entries(&self.shape)
    }

    /// Bytes of a row as it is written.
    fn row_bytes(&self) -> u64 {
        row_entries(&self.shape) * self.dtype.size()
    }

    /// Rows of a small block in a run of `rows`.
    fn block_rows(&self, rows: u64) -> u64 {
        if self.bytes.moves_rows {
            return rows.max(1);
        }
        let width = row_entries(&self.shape).max(1);
        (BLOCK / width).clamp(1, rows.max(1))
    }

    /// Bytes that a run of `rows` takes.
    fn run_bytes(&self, rows: u64) -> u64 {
        let held = (self.row_bytes() + self.bytes.bands).saturating_mul(rows);
        let block = self.bytes.scratch.saturating_mul(self.block_rows(rows));
        // An operand whose rows move passes through in blocks of its own.
        let passing = match self.bytes.moves_rows {
            true => 16 * PASSING as u64,
            false => 0,
        };
        // Lines that are turned while a band is read.
        let turning = match self.bytes.bands {
            0 => 0,
            _ => TURNING,
        };
        held.saturating_add(block)
            .saturating_add(passing)
            .saturating_add(turning)
            .saturating_add(self.measuring.unwrap_or(0))
    }

    /// Rows of the shortest run that is not put together from short pieces; at least one.
    fn unhurried_rows(&self) -> u64 {
        let rows = match self.bytes.piece {
            0 => 1,
            piece => SHORT_PIECE.div_ceil(piece),
        };
        rows.clamp(1, self.rows().max(1))
    }

    /// How short the pieces are that a run of `rows` is put together from: 0 where they are not short, else
    /// by powers of two.
    fn shortness(&self, rows: u64) -> u32 {
        if rows >= self.unhurried_rows() {
            return 0;
        }
        let piece = self.bytes.piece.saturating_mul(rows).max(1);
        (SHORT_PIECE / piece)
            .checked_ilog2()
            .map_or(0, |log| log + 1)
    }

    /// The most rows whose run takes no more than `share` bytes; at least one.
    fn longest_run(&self, share: u64) -> u64 {
        let (mut least, mut most) = (1, self.rows().max(1));
        while least < most {
            let middle = least + (most - least).div_ceil(2);
            match self.run_bytes(middle) <= share {
                true => least = middle,
                false => most = middle - 1,
            }
        }
        least
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
