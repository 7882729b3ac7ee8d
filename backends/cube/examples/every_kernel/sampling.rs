//! Tokens of a batch, from vocabularies of 32000 and 64000.

use super::list::{Cost, List, types};
use jam_cube::sampling::{self, Random, Row, Sample};

/// Rows of a batch.
const ROWS: usize = 32;

/// Likeliest and drawn, with and without guidance.
pub(crate) fn kernels(list: &mut List) {
    let greedy = Row {
        first: 0,
        end: 1 << 24,
        temperature: 0.0,
        top_k: None,
        top_p: None,
        min_p: None,
        guidance: 3.0,
        random: Random::Counter {
            seed: 1,
            sequence: 2,
            step: 3,
        },
    };
    let drawn = Row {
        temperature: 0.8,
        top_k: Some(100),
        top_p: Some(0.95),
        ..greedy
    };
    for ty in types() {
        for classes in [32_000, 64_000] {
            for (name, row, guided) in [
                ("greedy", greedy, false),
                ("drawn", drawn, false),
                ("guided", drawn, true),
            ] {
                let label = format!("sampling.{name} {} {ROWS}x{classes}", ty.name);
                if !list.wants(&label) {
                    continue;
                }
                let size = ROWS * classes;
                let [logits, without] = [(); 2].map(|()| list.empty(ty, size));
                let allowed = list.words(&vec![u32::MAX; ROWS * classes.div_ceil(32)]);
                let settings = list.words(&row.words().repeat(ROWS));
                let [scratch, ids] = [size, ROWS].map(|len| list.floats(len));
                let cost = Cost {
                    bytes: size * ty.bytes * if guided { 2 } else { 1 },
                    flops: size,
                };
                list.kernel(&label, cost, |client| {
                    let buffers = Sample {
                        logits: logits.arg(),
                        without: guided.then(|| without.arg()),
                        allowed: Some(allowed.arg()),
                        settings: settings.arg(),
                        scratch: scratch.arg(),
                        ids: ids.arg(),
                    };
                    sampling::sample(client, ROWS, classes, buffers, ty.elem);
                });
            }
        }
    }
}
