//! What evaluating a plan takes for every row.

use jam_ir::Plan;
use jam_ir::plan_shape::ShapedPlan;

use super::PlanSources;

/// Bytes that evaluating a plan takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowBytes {
    /// For each row of a small block, what comes of it included.
    pub(super) scratch: u64,
    /// For each row of a run: what is held as stored.
    pub(super) bands: u64,
    /// The shortest pieces that a row of what is held is put together from; 0 where nothing is.
    pub(super) piece: u64,
    /// The first axis moves: a block reads its whole operand, so the run is one block.
    pub(super) moves_rows: bool,
}

/// Entries of one row of the first axis.
pub(super) fn row_entries(shape: &[u64]) -> u64 {
    let sizes = shape.get(1..).unwrap_or(&[]);
    sizes
        .iter()
        .fold(1, |product, size| product.saturating_mul(*size))
}

/// What a row of a plan takes, its parts included; `entries` of a row where its shape is not known.
pub(super) fn row_bytes(
    shaped: &ShapedPlan<'_>,
    entries: u64,
    sources: &dyn PlanSources,
) -> RowBytes {
    let entries = shaped.known().map_or(entries, |shape| row_entries(&shape));
    let parts = shaped.parts.iter();
    let parts: Vec<RowBytes> = parts
        .map(|part| row_bytes(part, entries, sources))
        .collect();
    let own = entries.saturating_mul(4);
    let sum = |of: fn(&RowBytes) -> u64, parts: &[RowBytes]| {
        parts.iter().map(of).fold(0, u64::saturating_add)
    };
    let most = |of: fn(&RowBytes) -> u64| parts.iter().map(of).max().unwrap_or(0);
    fn scratch(part: &RowBytes) -> u64 {
        part.scratch
    }
    fn bands(part: &RowBytes) -> u64 {
        part.bands
    }
    let all = (sum(scratch, &parts), sum(bands, &parts));
    let mut piece = parts
        .iter()
        .map(|part| part.piece)
        .filter(|piece| *piece > 0)
        .min()
        .unwrap_or(0);
    let (part_scratch, part_bands) = match shaped.plan {
        Plan::Load { source, name } => {
            let bands = match sources.source(source) {
                Ok(source) => {
                    piece = source.piece_bytes(name);
                    source.band_bytes(name)
                }
                Err(_) => 0,
            };
            // As stored, in at most 8 bytes each, beside the f32.
            (entries.saturating_mul(8), bands)
        }
        // One term after the other is added.
        Plan::Sum(_) => (most(scratch), all.1),
        // A row comes from one part; the bands of all of them stay until the run ends.
        Plan::Rows { .. } => (most(scratch), all.1),
        // A run that goes from one part into the next has bands of both, each as long as the run.
        Plan::Concat { axis: 0, .. } => (most(scratch), all.1.min(most(bands).saturating_mul(2))),
        Plan::Grid {
            row_axis: 0, rows, ..
        } => {
            let columns = rows.first().map_or(1, Vec::len).max(1);
            let lines = parts.chunks(columns);
            let (scratches, held): (Vec<u64>, Vec<u64>) = lines
                .map(|line| (sum(scratch, line), sum(bands, line)))
                .unzip();
            let most = |of: Vec<u64>| of.into_iter().max().unwrap_or(0);
            // The line is joined, then the lines are.
            let both = most(held.clone()).saturating_mul(2);
            let held = held.into_iter().fold(0, u64::saturating_add).min(both);
            (most(scratches).saturating_add(own), held)
        }
        _ => all,
    };
    let moves = matches!(shaped.plan, Plan::Permute { order, .. } if order.first() != Some(&0));
    RowBytes {
        scratch: own.saturating_add(part_scratch),
        bands: part_bands,
        piece,
        moves_rows: moves || parts.iter().any(|part| part.moves_rows),
    }
}
