//! Rotations: both layouts, both ways, tables of their own, in place and inside wider rows.

use super::support::{Device, Kind, everywhere, noise};
use jam_cube::rotary::{self, Buffers, Heads, Layout, Shape, Turn};

fn plain(
    shape: Shape,
    heads: Heads,
    (layout, turn): (Layout, Turn),
    x: &[f64],
    cos: &[f64],
    sin: &[f64],
) -> Vec<f64> {
    let mut out = x.to_vec();
    let half = shape.size / 2;
    for row in 0..shape.batch * shape.time {
        let line = if shape.tables == 1 {
            row % shape.time
        } else {
            row
        };
        for head in 0..heads.count {
            let start = row * heads.stride + heads.from + head * shape.size;
            for i in 0..half {
                let (a, b) = match layout {
                    Layout::Half => (start + i, start + i + half),
                    Layout::Interleaved => (start + 2 * i, start + 2 * i + 1),
                };
                let (c, mut s) = (cos[line * half + i], sin[line * half + i]);
                if turn == Turn::Inverse {
                    s = -s;
                }
                out[a] = x[a] * c - x[b] * s;
                out[b] = x[b] * c + x[a] * s;
            }
        }
    }
    out
}

fn compare(
    device: &Device,
    kind: Kind,
    shape: Shape,
    heads: Heads,
    how: (Layout, Turn),
    in_place: bool,
) {
    let size = shape.batch * shape.time * heads.stride;
    let angles = noise(shape.tables * shape.time * shape.size / 2, 1);
    let table = |f: fn(f64) -> f64| {
        let values: Vec<f64> = angles.iter().map(|&x| f(3.0 * x)).collect();
        device.put(Kind::F32, &values)
    };
    let (cos, sin) = (table(f64::cos), table(f64::sin));
    let x = device.noise(kind, size, 2);
    // What is not turned stays as it was.
    let out = if in_place {
        x.clone()
    } else {
        device.noise(kind, size, 2)
    };
    let buffers = Buffers {
        x: (!in_place).then(|| x.arg()),
        out: out.arg(),
        cos: cos.arg(),
        sin: sin.arg(),
    };
    rotary::apply(&device.client, shape, heads, how, buffers, kind.elem());
    let want = plain(shape, heads, how, &x.values, &cos.values, &sin.values);
    let Shape {
        batch, time, size, ..
    } = shape;
    let what = format!(
        "rotary {:?} {:?} {batch}x{time}x{}x{size}",
        how.0, how.1, heads.count
    );
    device.compare(&what, kind, kind, &out, &want);
}

#[test]
fn rotations_match_their_definition() {
    let shape = |batch, time, size, tables| Shape {
        batch,
        time,
        size,
        tables,
    };
    everywhere(|device, kind| {
        for layout in [Layout::Half, Layout::Interleaved] {
            let (there, back) = ((layout, Turn::Forward), (layout, Turn::Inverse));
            let whole = |count, size| Heads::whole(count, size);
            compare(device, kind, shape(1, 1, 2, 1), whole(1, 2), there, false);
            compare(device, kind, shape(2, 5, 10, 1), whole(3, 10), there, false);
            compare(device, kind, shape(3, 7, 64, 3), whole(9, 64), there, true);
            compare(device, kind, shape(2, 37, 32, 1), whole(5, 32), back, false);
            // Queries and keys in one matrix with the values.
            let part = Heads {
                count: 6,
                stride: 160,
                from: 16,
            };
            compare(device, kind, shape(2, 9, 16, 2), part, there, true);
        }
    });
}
