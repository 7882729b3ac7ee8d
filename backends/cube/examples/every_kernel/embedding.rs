//! Rows of the vocabulary's table, and the gradient of the table.

use super::list::{Cost, List, TOKENS, Type, WIDTH, types};
use jam_cube::embedding::{self, Gather, Scatter, Segments};

/// Rows of the table.
const VOCABULARY: usize = 32_000;

/// Rows from a table of the same type and of f32, and their gradient.
pub(crate) fn kernels(list: &mut List) {
    let [float, ..] = types();
    for ty in types() {
        gather(list, ty, ty, "");
        if ty.bytes < float.bytes {
            gather(list, float, ty, " of f32");
        }
        // Every id a few times; and one that is a third of the batch.
        let few: Vec<u32> = (0..TOKENS).map(|i| (i * i * 7 % 3001) as u32).collect();
        let often = |(i, &id): (usize, &u32)| if i % 3 == 0 { 0 } else { id };
        let often: Vec<u32> = few.iter().enumerate().map(often).collect();
        scatter(list, ty, float, "scatter", &few);
        scatter(list, ty, float, "scatter+frequent", &often);
    }
}

fn gather(list: &mut List, table: Type, ty: Type, of: &str) {
    let label = format!("embedding.gather{of} {} {TOKENS}x{WIDTH}", ty.name);
    if !list.wants(&label) {
        return;
    }
    let rows: Vec<u32> = (0..TOKENS).map(|i| (i * i % VOCABULARY) as u32).collect();
    let ids = list.words(&rows);
    let from = list.empty(table, VOCABULARY * WIDTH);
    let out = list.empty(ty, TOKENS * WIDTH);
    let cost = Cost {
        bytes: TOKENS * WIDTH * (table.bytes + ty.bytes),
        flops: 0,
    };
    list.kernel(&label, cost, |client| {
        let buffers = Gather {
            table: from.arg(),
            ids: ids.arg(),
            more: None,
            out: out.arg(),
        };
        embedding::gather(client, TOKENS, WIDTH, buffers, table.elem, ty.elem);
    });
}

fn scatter(list: &mut List, ty: Type, to: Type, what: &str, ids: &[u32]) {
    let label = format!("embedding.{what} {} {TOKENS}x{WIDTH}", ty.name);
    if !list.wants(&label) {
        return;
    }
    let segments = Segments::of(ids);
    let mut different = ids.to_vec();
    different.sort_unstable();
    different.dedup();
    let words = list.words(segments.words());
    let dy = list.empty(ty, TOKENS * WIDTH);
    let gradient = list.empty(to, VOCABULARY * WIDTH);
    let cost = Cost {
        bytes: (TOKENS * ty.bytes + different.len() * to.bytes) * WIDTH,
        flops: TOKENS * WIDTH,
    };
    list.kernel(&label, cost, |client| {
        let buffers = Scatter {
            dy: dy.arg(),
            words: words.arg(),
            gradient: gradient.arg(),
            add: false,
        };
        embedding::scatter(client, &segments, WIDTH, buffers, ty.elem, to.elem);
    });
}
