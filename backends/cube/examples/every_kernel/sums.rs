//! Sums over rows: the gradients of biases, and of what the norms leave in pieces.

use super::list::{Cost, List, TOKENS, WIDTH, types};
use jam_cube::sums::{self, Sum};

/// Tokens of a layer's features, of a wider layer's, of what no vector divides; and pieces.
pub(crate) fn kernels(list: &mut List) {
    for ty in types() {
        for (rows, columns) in [
            (TOKENS, WIDTH),
            (TOKENS, 11_008),
            (TOKENS, 1023),
            (TOKENS / 16, WIDTH),
            (TOKENS * 2, 128),
        ] {
            let label = format!("sums.rows {} {rows}x{columns}", ty.name);
            if !list.wants(&label) {
                continue;
            }
            let x = list.empty(ty, rows * columns);
            let out = list.floats(columns);
            let cost = Cost {
                bytes: rows * columns * ty.bytes + columns * size_of::<f32>(),
                flops: rows * columns,
            };
            list.kernel(&label, cost, |client| {
                let sum = Sum::whole(rows, columns);
                sums::rows(client, sum, x.arg(), out.arg(), ty.elem);
            });
        }
    }
}
