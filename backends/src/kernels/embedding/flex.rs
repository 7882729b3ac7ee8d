//! Rows of a table on the processor.

use super::seam::{EmbeddingOps, Host};
use crate::kernels::buffer::{Flat, filled, flat, floats, integers, piece_rows};
use burn::backend::Flex;
use rayon::prelude::*;

impl EmbeddingOps for Flex {
    fn gather_rows(table: Flat, ids: Flat, host: Host) -> Flat {
        gather(&table, &ids, host)
    }

    fn scatter_rows(grad: Flat, ids: Flat, host: Host, vocab: usize) -> Flat {
        let width = grad.layout().shape()[2];
        scatter_add(&grad, &rows_of(&ids, host, vocab), [vocab, width])
    }
}

fn gather(table: &Flat, ids: &Flat, host: Host) -> Flat {
    let shape = table.layout().shape();
    let (vocab, width) = (shape[0], shape[1]);
    let times = ids.layout().shape();
    let out_shape = [times[0], times[1], width];
    let rows = rows_of(ids, host, vocab);
    let table = floats(table);
    let out = filled(rows.len() * width, |out| {
        let piece = piece_rows(width);
        out.par_chunks_mut((piece * width).max(1))
            .zip(rows.par_chunks(piece))
            .for_each(|(out, rows)| {
                for (out, &row) in out.chunks_exact_mut(width.max(1)).zip(rows) {
                    out.copy_from_slice(&table[row * width..][..width]);
                }
            });
    });
    flat(out, out_shape)
}

/// The ids in order, each below `vocab`.
fn rows_of(ids: &Flat, host: Host, vocab: usize) -> Vec<usize> {
    let rows: Vec<usize> = match host {
        Some(ids) => ids.iter().map(|&id| id as usize).collect(),
        // A negative id becomes one that no table has.
        None => integers(ids).into_iter().map(|id| id as usize).collect(),
    };
    for &id in &rows {
        assert!(id < vocab, "embedding: id {id} in a table of {vocab} rows");
    }
    rows
}

/// A table of zeros to which every row of `grad` is added at its id, in the order of the rows.
fn scatter_add(grad: &Flat, ids: &[usize], [vocab, width]: [usize; 2]) -> Flat {
    let grad = floats(grad);
    // Rows sorted by id, in their order within an id.
    let mut starts = vec![0; vocab + 1];
    for &id in ids {
        starts[id + 1] += 1;
    }
    for id in 0..vocab {
        starts[id + 1] += starts[id];
    }
    let mut next = starts.clone();
    let mut sorted = vec![0; ids.len()];
    for (row, &id) in ids.iter().enumerate() {
        sorted[next[id]] = row;
        next[id] += 1;
    }
    let mut table = vec![0.0; vocab * width];
    table
        .par_chunks_mut(width.max(1))
        .with_min_len(64)
        .enumerate()
        .for_each(|(id, out)| {
            for &row in &sorted[starts[id]..starts[id + 1]] {
                for (sum, &x) in out.iter_mut().zip(&grad[row * width..][..width]) {
                    *sum += x;
                }
            }
        });
    flat(table, [vocab, width])
}
