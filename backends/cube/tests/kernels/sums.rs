//! Sums over rows: few and many, narrow and wide, and a stretch of columns.

use super::support::{Device, Kind, everywhere};
use jam_cube::sums::{self, Sum};

fn compare(device: &Device, kind: Kind, sum: Sum) {
    let x = device.noise(kind, sum.rows * sum.width, 1);
    let out = device.empty(Kind::F32, sum.len);
    sums::rows(&device.client, sum, x.arg(), out.arg(), kind.elem());
    let want: Vec<f64> = (0..sum.len)
        .map(|i| {
            let column = x.values.iter().skip(sum.from + i).step_by(sum.width.max(1));
            column.sum::<f64>() * f64::from(sum.scale)
        })
        .collect();
    let what = format!("sums {}x{} of {}", sum.rows, sum.len, sum.width);
    // The sums are f32, whatever was summed.
    device.compare(&what, Kind::F32, Kind::F32, &out, &want);
}

#[test]
fn sums_match_their_definition() {
    everywhere(|device, kind| {
        for (rows, columns) in [
            (0, 5),
            (1, 1),
            (3, 7),
            (1000, 1),
            (37, 192),
            (515, 130),
            (700, 24),
        ] {
            compare(device, kind, Sum::whole(rows, columns));
        }
        let stretch = Sum {
            from: 24,
            len: 40,
            scale: 0.25,
            ..Sum::whole(300, 96)
        };
        compare(device, kind, stretch);
    });
}
