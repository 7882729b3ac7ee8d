//! Rotary positions of queries and keys.

use super::list::{Cost, List, TOKENS, types};
use jam_cube::rotary::{self, Buffers, Heads, Layout, Shape, Turn};

/// Heads of the queries and of the keys together: 32 and 8.
const HEADS: usize = 40;
/// Elements of a head.
const SIZE: usize = 128;
/// Sequences.
const BATCH: usize = 2;

/// Both layouts, to another buffer and in place, and back for the gradient.
pub(crate) fn kernels(list: &mut List) {
    for ty in types() {
        for (name, layout) in [("half", Layout::Half), ("pairs", Layout::Interleaved)] {
            for (what, turn, place) in [
                ("forward", Turn::Forward, false),
                ("forward in place", Turn::Forward, true),
                ("backward", Turn::Inverse, false),
            ] {
                let label = format!("rotary.{what} {name} {} {TOKENS}x{HEADS}x{SIZE}", ty.name);
                if !list.wants(&label) {
                    continue;
                }
                let size = TOKENS * HEADS * SIZE;
                let time = TOKENS / BATCH;
                let [x, out] = [(); 2].map(|()| list.empty(ty, size));
                let [cos, sin] = [(); 2].map(|()| list.floats(time * SIZE / 2));
                let cost = Cost {
                    bytes: size * ty.bytes * 2 + time * SIZE * size_of::<f32>(),
                    flops: size * 3,
                };
                list.kernel(&label, cost, |client| {
                    let shape = Shape {
                        batch: BATCH,
                        time,
                        size: SIZE,
                        tables: 1,
                    };
                    let heads = Heads::whole(HEADS, SIZE);
                    let buffers = Buffers {
                        x: (!place).then(|| x.arg()),
                        out: out.arg(),
                        cos: cos.arg(),
                        sin: sin.arg(),
                    };
                    rotary::apply(client, shape, heads, (layout, turn), buffers, ty.elem);
                });
            }
        }
    }
}
