//! Decoding token by token with a preallocated key-value cache.
//!
//! All rows advance together: a step adds one column to the cache. Rows of different lengths are padded, left
//! or right, and a mask remembers which columns hold tokens; positions count those alone, so that
//! the logits are those of the full pass.

use burn::tensor::{Bool, DType, Int, Tensor, TensorData};

use crate::cache::{Cache, MOST_BYTES, cache_bytes};
use crate::error::ExecError;
use crate::executable::{Executable, Tokens, count_before};
use crate::parameters::read;

/// Sequences that grow by one token at a time.
///
/// ```text
/// let mut decoder = executable.decoder(rows, capacity)?;
/// let mut logits = decoder.prefill(tokens)?;          // [rows, vocabulary]
/// loop { logits = decoder.step(&next_tokens)?; }      // [rows, vocabulary]
/// ```
#[derive(Debug)]
pub struct Decoder<'e> {
    executable: &'e Executable,
    cache: Cache,
    rows: usize,
    capacity: usize,
    /// Per row, which of the columns so far hold a token: `[rows][past]`.
    filled: Vec<Vec<bool>>,
}

impl Executable {
    /// Room for `rows` sequences of up to `capacity` tokens, padding included.
    ///
    /// # Errors
    /// When a size is zero, or the cache would fit no machine.
    pub fn decoder(&self, rows: usize, capacity: usize) -> Result<Decoder<'_>, ExecError> {
        if rows == 0 || capacity == 0 {
            return Err(ExecError::input(
                "a decoder needs at least one row and one column",
            ));
        }
        let dtype = self.compute();
        let bytes = cache_bytes(&self.program.sites, rows, capacity, dtype);
        if bytes.is_none_or(|bytes| bytes > MOST_BYTES) {
            return Err(ExecError::input(format!(
                "keys and values of {rows} sequences of {capacity} tokens do not fit into memory"
            )));
        }
        Ok(Decoder {
            executable: self,
            cache: Cache::new(&self.program.sites, rows, capacity, (&self.device, dtype)),
            rows,
            capacity,
            filled: vec![Vec::with_capacity(capacity); rows],
        })
    }
}

impl Decoder<'_> {
    /// Number of sequences.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns used so far, padding included.
    pub fn columns(&self) -> usize {
        self.cache.past
    }

    /// Columns still free.
    pub fn free(&self) -> usize {
        self.capacity - self.cache.past
    }

    /// Tokens of a sequence so far, padding left out; 0 for a row that is not there.
    pub fn length(&self, row: usize) -> usize {
        let filled = self.filled.get(row).map(Vec::as_slice).unwrap_or(&[]);
        filled.iter().filter(|&&real| real).count()
    }

    /// Reads several tokens of every sequence at once; returns the logits that follow the last
    /// token of each, `[rows, vocabulary]` row by row. May be called again later.
    ///
    /// # Errors
    /// When the tokens do not fit the model or the room, when a row has no token at all in a first
    /// call, or when the device fails.
    pub fn prefill(&mut self, tokens: Tokens<'_>) -> Result<Vec<f32>, ExecError> {
        let executable = self.executable;
        executable.check(&tokens)?;
        let length = tokens.length();
        if tokens.rows != self.rows {
            let (given, rows) = (tokens.rows, self.rows);
            let reason = format!("{given} sequences were given to a decoder of {rows}");
            return Err(ExecError::input(reason));
        }
        if length > self.free() {
            return Err(ExecError::input(format!(
                "{length} more tokens do not fit: {} of {} places are free",
                self.free(),
                self.capacity
            )));
        }
        let all = vec![true; length];
        let mask = |row: usize| match tokens.mask {
            Some(mask) => &mask[row * length..(row + 1) * length],
            None => &all[..],
        };
        let counts: Vec<usize> = (0..self.rows).map(|row| self.length(row)).collect();
        let longest = (0..self.rows)
            .map(|row| counts[row] + mask(row).iter().filter(|&&real| real).count())
            .max();
        executable.check_positions(longest.unwrap_or(0))?;

        // Positions and masks, shared where all rows agree.
        let positions: Vec<Vec<usize>> = (0..self.rows)
            .map(|row| count_before(mask(row)).map(|p| p + counts[row]).collect())
            .collect();
        for (row, filled) in self.filled.iter_mut().enumerate() {
            filled.extend_from_slice(mask(row));
        }
        let positions = match positions.iter().all(|row| *row == positions[0]) {
            true => positions[0].clone(),
            false => positions.concat(),
        };
        let padded = self.filled.iter().any(|row| row.contains(&false));
        let key_mask: Option<Tensor<2, Bool>> =
            padded.then(|| executable.place_mask(&self.filled.concat(), self.rows));
        let placed = executable.place_at(tokens.ids, self.rows, &positions, key_mask)?;

        let params = executable.tensors();
        let mut run = executable.run(&params, &placed);
        run.cache = Some(&mut self.cache);
        let states = run.trunk(&executable.program)?;
        let last: Vec<usize> = (0..self.rows)
            .map(|row| {
                mask(row)
                    .iter()
                    .rposition(|&real| real)
                    .unwrap_or(length - 1)
            })
            .collect();
        let states = states.into_iter().map(|x| at_times(x, &last)).collect();
        let logits = run.finish(&executable.program, states)?;
        self.cache.past += length;
        read(logits)
    }

    /// Reads one token of every sequence; returns the logits that follow, `[rows, vocabulary]`.
    ///
    /// # Errors
    /// As [`Decoder::prefill`].
    pub fn step(&mut self, tokens: &[u32]) -> Result<Vec<f32>, ExecError> {
        self.prefill(Tokens::new(tokens, self.rows))
    }

    /// As [`Decoder::step`], for some of the rows: where `active` is false the token is padding and
    /// the logits have no meaning.
    ///
    /// # Errors
    /// As [`Decoder::prefill`].
    pub fn step_some(&mut self, tokens: &[u32], active: &[bool]) -> Result<Vec<f32>, ExecError> {
        self.prefill(Tokens::masked(tokens, self.rows, active))
    }

    /// Keeps the rows named, in this order; a row may be named twice.
    ///
    /// # Errors
    /// When there is no such row, or none is kept.
    pub fn select(&mut self, rows: &[usize]) -> Result<(), ExecError> {
        if rows.is_empty() || rows.iter().any(|&row| row >= self.rows) {
            let reason = format!("rows {rows:?} are not rows of a decoder of {}", self.rows);
            return Err(ExecError::input(reason));
        }
        if rows.len() == self.rows && rows.iter().enumerate().all(|(at, &row)| at == row) {
            return Ok(());
        }
        let ids: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
        let data = TensorData::new(ids, [rows.len()]);
        let ids = Tensor::<1, Int>::from_data(data, (&self.executable.device, DType::I32));
        for (keys, values) in &mut self.cache.sites {
            for slot in [keys, values] {
                *slot = slot.take().map(|cached| cached.select(0, ids.clone()));
            }
        }
        self.filled = rows.iter().map(|&row| self.filled[row].clone()).collect();
        self.rows = rows.len();
        Ok(())
    }
}

/// `x [rows, time, features]` at one time per row: `[rows, 1, features]`.
fn at_times(x: Tensor<3>, times: &[usize]) -> Tensor<3> {
    let [rows, time, features] = x.dims();
    if time == 1 {
        return x;
    }
    if times.iter().all(|&t| t == times[0]) {
        return x.narrow(1, times[0], 1);
    }
    let flat: Vec<i32> = times
        .iter()
        .enumerate()
        .map(|(row, &t)| (row * time + t) as i32)
        .collect();
    let device = x.device();
    let data = TensorData::new(flat, [rows]);
    let index = Tensor::<1, Int>::from_data(data, (&device, DType::I32));
    x.reshape([rows * time, features])
        .select(0, index)
        .reshape([rows, 1, features])
}
