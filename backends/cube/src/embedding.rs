//! Rows of a table by id, and the table's gradient, summed in the order of the rows.

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::device::{Limits, again, cubes, lanes, vectors};

#[cube(launch)]
fn embedding_gather<F: Float, G: Float, N: Size>(
    table: &[Vector<F, N>],
    ids: &[i32],
    more: ComptimeOption<&[Vector<F, N>]>,
    more_ids: ComptimeOption<&[i32]>,
    out: &mut [Vector<G, N>],
    count: u32,
    width: u32,
    #[define(F)] _of_table: ElemType,
    #[define(G)] _of_out: ElemType,
) {
    let index = ABSOLUTE_POS;
    if index >= count as usize {
        terminate!();
    }
    let width = width as usize;
    let (row, at) = (index / width, index % width);
    let id = u32::cast_from(ids[row]) as usize;
    let mut x = Vector::<f32, N>::cast_from(table[id * width + at]);
    #[comptime]
    if let ComptimeOption::Some(more) = &more {
        #[comptime]
        if let ComptimeOption::Some(more_ids) = &more_ids {
            let id = u32::cast_from(more_ids[row]) as usize;
            x += Vector::cast_from(more[id * width + at]);
        }
    }
    out[index] = Vector::cast_from(x);
}

/// What [`gather`] reads and writes.
pub struct Gather {
    /// `[vocab, width]`.
    pub table: BufferArg,
    /// Rows of the table, `[rows]` in i32, each below its length: that is not looked at here.
    pub ids: BufferArg,
    /// A second table of the same width (positions) and its ids `[rows]`, whose rows are added.
    pub more: Option<(BufferArg, BufferArg)>,
    /// `[rows, width]`.
    pub out: BufferArg,
}

/// Writes `table[ids]`, from the type `of_table` to `of_out`.
pub fn gather(
    client: &Client,
    rows: usize,
    width: usize,
    buffers: Gather,
    of_table: ElemType,
    of_out: ElemType,
) {
    if rows * width == 0 {
        return;
    }
    let widest = lanes(client, of_table).max(lanes(client, of_out));
    let vector = vectors(widest, &[width]);
    let count = rows * width / vector;
    let units = Limits::of(client).units.min(256);
    let (more, more_ids) = buffers.more.unzip();
    embedding_gather::launch(
        client,
        cubes(count.div_ceil(units)),
        CubeDim::new_1d(units as u32),
        vector,
        buffers.table,
        buffers.ids,
        more.into(),
        more_ids.into(),
        buffers.out,
        count as u32,
        (width / vector) as u32,
        of_table,
        of_out,
    );
}

/// Rows that are added up at a time; more of one id are added in pieces.
const PIECE: usize = 64;

/// Marks a sum that goes to the pieces instead of the gradient.
const IN_PIECES: u32 = 1 << 31;

/// The rows of each id, in their order, in segments of which no one is long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// All lists after each other: the order of the rows, then starts and places of the segments, then those of the
    /// ids that have several. A list of starts has one more, its end.
    words: Vec<u32>,
    rows: usize,
    segments: usize,
    /// Segments that are pieces of an id's rows.
    pieces: usize,
    /// Ids whose rows are in pieces.
    long: usize,
}

impl Segments {
    /// The segments of a batch's ids.
    ///
    /// # Panics
    /// Where an id, or the number of ids, is 2³¹ or more.
    pub fn of(ids: &[u32]) -> Segments {
        assert!(
            ids.len() < IN_PIECES as usize && ids.iter().all(|&id| id < IN_PIECES),
            "embedding: ids of 32 bits"
        );
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        // Stable: rows of one id keep their order.
        order.sort_by_key(|&row| ids[row as usize]);
        let (mut starts, mut places) = (Vec::new(), Vec::new());
        let (mut long_starts, mut long_ids) = (Vec::new(), Vec::new());
        let mut pieces = 0;
        let mut first = 0;
        for same in order.chunk_by(|&a, &b| ids[a as usize] == ids[b as usize]) {
            let id = ids[same[0] as usize];
            if same.len() <= PIECE {
                starts.push(first);
                places.push(id);
            } else {
                long_starts.push(pieces);
                long_ids.push(id);
                for piece in (0..same.len()).step_by(PIECE) {
                    starts.push(first + piece as u32);
                    places.push(pieces | IN_PIECES);
                    pieces += 1;
                }
            }
            first += same.len() as u32;
        }
        starts.push(first);
        long_starts.push(pieces);
        let (segments, long) = (places.len(), long_ids.len());
        Segments {
            words: [order, starts, places, long_starts, long_ids].concat(),
            rows: ids.len(),
            segments,
            pieces: pieces as usize,
            long,
        }
    }

    /// What is brought to the device for [`scatter`], as u32.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// The rows of each id (or of a piece of them) in the order in which they are added.
    pub fn groups(&self) -> impl Iterator<Item = (Option<u32>, &[u32])> {
        let (order, starts) = (&self.words[..], &self.words[self.starts()..]);
        let places = &self.words[self.places()..];
        (0..self.segments).map(move |i| {
            let place = (places[i] & IN_PIECES == 0).then_some(places[i]);
            (place, &order[starts[i] as usize..starts[i + 1] as usize])
        })
    }

    fn starts(&self) -> usize {
        self.rows
    }

    fn places(&self) -> usize {
        self.starts() + self.segments + 1
    }

    fn long_starts(&self) -> usize {
        self.places() + self.segments
    }

    fn long_ids(&self) -> usize {
        self.long_starts() + self.long + 1
    }
}

/// What is compiled into the kernel of sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Form {
    /// Units next to each other: vectors of columns.
    across: usize,
    /// Units below each other: rows that are added at the same time.
    down: usize,
    /// Whether rows are looked up in the order.
    ordered: bool,
    /// Whether sums are added to what is there.
    add: bool,
}

/// One cube adds the rows of one segment for a block of columns.
#[cube(launch)]
fn embedding_sums<F: Float, G: Float, N: Size>(
    x: &[Vector<F, N>],
    words: &[u32],
    gradient: &mut [Vector<G, N>],
    parts: ComptimeOption<&mut [Vector<f32, N>]>,
    segments: u32,
    starts: u32,
    places: u32,
    width: u32,
    #[comptime] form: Form,
    #[define(F)] _of_x: ElemType,
    #[define(G)] _of_gradient: ElemType,
) {
    let across = comptime!(form.across);
    let down = comptime!(form.down);
    let width = width as usize;
    let blocks = width.div_ceil(across);
    let segment = CUBE_POS / blocks;
    if segment >= segments as usize {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let line = unit / across;
    let at = (CUBE_POS % blocks) * across + unit % across;
    let first = words[starts as usize + segment] as usize;
    let end = words[starts as usize + segment + 1] as usize;

    let mut sum = Vector::<f32, N>::new(0.0f32);
    if at < width {
        let mut entry = first + line;
        // Four rows are on their way at a time.
        while entry + comptime!(down * 3) < end {
            #[unroll]
            for i in 0..4 {
                let mut row = entry + comptime!(i * down);
                if comptime!(form.ordered) {
                    row = words[row] as usize;
                }
                sum += Vector::cast_from(x[row * width + at]);
            }
            entry += comptime!(down * 4);
        }
        while entry < end {
            let mut row = entry;
            if comptime!(form.ordered) {
                row = words[row] as usize;
            }
            sum += Vector::cast_from(x[row * width + at]);
            entry += down;
        }
    }
    if comptime!(down > 1) {
        let mut scratch = Shared::<[Vector<f32, N>]>::new_slice(comptime!(across * down));
        scratch[unit] = sum;
        sync_cube();
        #[unroll]
        for step in 0..comptime!(down.ilog2()) {
            let half = comptime!(down >> (step + 1));
            if line < half {
                let other = scratch[unit + half * across];
                scratch[unit] += other;
            }
            sync_cube();
        }
        sum = scratch[unit];
    }
    if line == 0 && at < width {
        let place = words[places as usize + segment];
        let mut whole = true.runtime();
        #[comptime]
        if let ComptimeOption::Some(parts) = parts {
            whole = place < IN_PIECES;
            if !whole {
                parts[(place - IN_PIECES) as usize * width + at] = sum;
            }
        }
        if whole {
            let to = place as usize * width + at;
            if comptime!(form.add) {
                sum += Vector::cast_from(gradient[to]);
            }
            gradient[to] = Vector::cast_from(sum);
        }
    }
}

/// What [`scatter`] reads and writes.
pub struct Scatter {
    /// The gradient of the rows, `[rows, width]`.
    pub dy: BufferArg,
    /// [`Segments::words`] on the device.
    pub words: BufferArg,
    /// The table's gradient, `[vocab, width]`. Rows of ids that do not occur are not written: the caller clears them.
    pub gradient: BufferArg,
    /// Whether sums are added to what the gradient holds (a table that is the last layer's weight too).
    pub add: bool,
}

/// Sums the rows of dy, of the type `of_rows`, into the rows of the table's gradient, of the type `of_gradient`; each sum
/// is formed in f32 and rounded once.
pub fn scatter(
    client: &Client,
    segments: &Segments,
    width: usize,
    buffers: Scatter,
    of_rows: ElemType,
    of_gradient: ElemType,
) {
    if segments.rows * width == 0 {
        return;
    }
    let widest = lanes(client, of_rows).max(lanes(client, of_gradient));
    let vector = vectors(widest, &[width]);
    let length = width / vector;
    let units = Limits::of(client).units.min(256);
    let across = length.next_power_of_two().clamp(32, units.max(32));
    let form = Form {
        across,
        down: 1,
        ordered: true,
        add: buffers.add,
    };
    let size = segments.pieces * width;
    let parts = client.empty(size.max(vector) * size_of::<f32>());
    // SAFETY: as long as it says.
    let part = || unsafe { BufferArg::from_raw_parts(parts.clone(), size) };
    let cubes_of = |segments: usize, across: usize| cubes(segments * length.div_ceil(across));
    embedding_sums::launch(
        client,
        cubes_of(segments.segments, across),
        CubeDim::new_1d(across as u32),
        vector,
        buffers.dy,
        again(&buffers.words),
        again(&buffers.gradient),
        (segments.pieces > 0).then(part).into(),
        segments.segments as u32,
        segments.starts() as u32,
        segments.places() as u32,
        length as u32,
        form,
        of_rows,
        of_gradient,
    );
    if segments.long == 0 {
        return;
    }
    // Pieces lie one after the other, as rows of f32.
    let across = length.next_power_of_two().min(32);
    let form = Form {
        across,
        down: units / across,
        ordered: false,
        ..form
    };
    embedding_sums::launch(
        client,
        cubes_of(segments.long, across),
        CubeDim::new_1d((form.across * form.down) as u32),
        vector,
        part(),
        buffers.words,
        buffers.gradient,
        None.into(),
        segments.long as u32,
        segments.long_starts() as u32,
        segments.long_ids() as u32,
        length as u32,
        form,
        f32::elem_type_native(),
        of_gradient,
    );
}
