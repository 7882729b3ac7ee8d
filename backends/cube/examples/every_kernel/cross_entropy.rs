//! Cross-entropy of a step's logits, in vocabularies of 32000, 64000 and 256000.

use super::list::{Cost, List, types};
use jam_cube::cross_entropy::{self, Buffers, Shape};

/// Rows of logits that are there at a time.
const ROWS: usize = 2048;

/// Losses alone, with the gradient, and with a bias and ranges of classes.
pub(crate) fn kernels(list: &mut List) {
    for ty in types() {
        for classes in [32_000, 64_000, 256_000] {
            for (what, gradient, ranges) in [
                ("loss", false, false),
                ("gradient", true, false),
                ("gradient+bias+ranges", true, true),
            ] {
                let label = format!("cross_entropy.{what} {} {ROWS}x{classes}", ty.name);
                if !list.wants(&label) {
                    continue;
                }
                let logits = list.empty(ty, ROWS * classes);
                let added = list.floats(classes);
                // The first class is right, all rows count, and all classes may be chosen.
                let targets = list.words(&[0; ROWS]);
                let weights = list.words(&[1f32.to_bits(); ROWS]);
                let bounds = list.words(&[0, classes as u32].repeat(ROWS));
                let losses = list.floats(ROWS);
                let size = ROWS * classes;
                let cost = Cost {
                    bytes: size * ty.bytes * if gradient { 2 } else { 1 },
                    // A difference, an exponential and a sum; for the gradient a difference, an exponential, a product.
                    flops: size * if gradient { 6 } else { 3 },
                };
                list.kernel(&label, cost, |client| {
                    let buffers = Buffers {
                        logits: logits.arg(),
                        added: ranges.then(|| added.arg()),
                        targets: targets.arg(),
                        weights: weights.arg(),
                        ranges: ranges.then(|| bounds.arg()),
                        losses: losses.arg(),
                    };
                    let shape = Shape::new(ROWS, classes);
                    cross_entropy::rows(client, shape, buffers, gradient, ty.elem);
                });
            }
        }
    }
}
