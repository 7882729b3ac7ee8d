//! Norms: whole rows and stretches, with and without affine part and residual, odd widths.

use super::support::{Device, Kind, everywhere};
use jam_cube::norm::{self, Backward, Forward, Stretch};

/// Output, statistics and gradients (x, gain, bias) of one stretch, all by definition.
struct Plain {
    out: Vec<f64>,
    /// Mean and `rstd` of every row.
    statistics: Vec<[f64; 2]>,
    dx: Vec<f64>,
    dgain: Vec<f64>,
    dbias: Vec<f64>,
}

fn plain(s: Stretch, x: &[f64], gain: &[f64], bias: &[f64], dy: &[f64], dsum: &[f64]) -> Plain {
    let mut all = Plain {
        out: vec![0.0; x.len()],
        statistics: Vec::new(),
        dx: vec![0.0; x.len()],
        dgain: vec![0.0; s.width],
        dbias: vec![0.0; s.width],
    };
    let n = s.len as f64;
    for row in 0..s.rows {
        let at = |i: usize| row * s.width + s.from + i;
        let sum: f64 = (0..s.len).map(|i| x[at(i)]).sum();
        let mean = if s.kind == norm::Kind::Layer {
            sum / n
        } else {
            0.0
        };
        let spread: f64 = (0..s.len).map(|i| (x[at(i)] - mean).powi(2)).sum::<f64>() / n;
        let rstd = 1.0 / (spread + f64::from(s.eps)).sqrt();
        all.statistics.push([mean, rstd]);
        let y: Vec<f64> = (0..s.len).map(|i| (x[at(i)] - mean) * rstd).collect();
        let g: Vec<f64> = (0..s.len).map(|i| dy[at(i)] * gain[s.from + i]).collect();
        let level = if s.kind == norm::Kind::Layer {
            g.iter().sum::<f64>() / n
        } else {
            0.0
        };
        let along = g.iter().zip(&y).map(|(g, y)| g * y).sum::<f64>() / n;
        for i in 0..s.len {
            all.out[at(i)] = y[i] * gain[s.from + i] + bias[s.from + i];
            all.dx[at(i)] = (g[i] - level - y[i] * along) * rstd + dsum[at(i)];
            all.dgain[s.from + i] += dy[at(i)] * y[i];
            all.dbias[s.from + i] += dy[at(i)];
        }
    }
    all
}

/// The parts of a norm that are there.
#[derive(Clone, Copy)]
struct With {
    residual: bool,
    gain: bool,
    bias: bool,
}

fn compare(device: &Device, kind: Kind, stretch: Stretch, with: With) {
    let size = stretch.rows * stretch.width;
    let x = device.noise(kind, size, 1);
    let residual = device.noise(kind, size, 2);
    let gain = device.noise(kind, stretch.width, 3);
    let bias = device.noise(kind, stretch.width, 4);
    let dy = device.noise(kind, size, 5);
    let dsum = device.noise(kind, size, 6);
    // Outside of the stretch nothing is written.
    let out = device.put(kind, &vec![0.0; size]);
    let dx = device.put(kind, &vec![0.0; size]);
    let sum = device.put(kind, &vec![0.0; size]);
    let (part, parts) = stretch.part;
    let statistics = device.put(Kind::F32, &vec![0.0; 2 * stretch.rows * parts]);
    let buffers = Forward {
        x: x.arg(),
        residual: with.residual.then(|| residual.arg()),
        gain: with.gain.then(|| gain.arg()),
        bias: with.bias.then(|| bias.arg()),
        out: out.arg(),
        sum: with.residual.then(|| sum.arg()),
        statistics: statistics.arg(),
    };
    norm::forward(&device.client, stretch, buffers, kind.elem());

    let or = |there: bool, values: &[f64], value: f64| match there {
        true => values.to_vec(),
        false => vec![value; values.len()],
    };
    let zeros = vec![0.0; size];
    let added = if with.residual {
        &residual.values
    } else {
        &zeros
    };
    let summed: Vec<f64> = x.values.iter().zip(added).map(|(x, r)| x + r).collect();
    let (gains, biases) = (
        or(with.gain, &gain.values, 1.0),
        or(with.bias, &bias.values, 0.0),
    );
    let extra = if with.residual { &dsum.values } else { &zeros };
    let want = plain(stretch, &summed, &gains, &biases, &dy.values, extra);
    let name = |what: &str| {
        format!(
            "norm {what} {:?} {}x{}{}",
            stretch.kind,
            stretch.rows,
            stretch.len,
            if with.residual { " + residual" } else { "" }
        )
    };
    device.compare(&name("out"), kind, kind, &out, &want.out);
    let mut known = vec![0.0; 2 * stretch.rows * parts];
    for (row, of_row) in want.statistics.iter().enumerate() {
        known[(row * parts + part) * 2..][..2].copy_from_slice(of_row);
    }
    device.compare(&name("statistics"), Kind::F32, kind, &statistics, &known);
    if with.residual {
        let inside =
            |i: usize| (stretch.from..stretch.from + stretch.len).contains(&(i % stretch.width));
        let want: Vec<f64> = (0..size)
            .map(|i| if inside(i) { summed[i] } else { 0.0 })
            .collect();
        device.compare(&name("sum"), kind, kind, &sum, &want);
    }

    let pieces = stretch.pieces();
    let dgain = device.put(Kind::F32, &vec![0.0; pieces * stretch.width]);
    let dbias = device.put(Kind::F32, &vec![0.0; pieces * stretch.width]);
    let x = if with.residual { sum } else { x };
    let buffers = Backward {
        x: x.arg(),
        gain: with.gain.then(|| gain.arg()),
        statistics: statistics.arg(),
        dy: dy.arg(),
        dsum: with.residual.then(|| dsum.arg()),
        dx: dx.arg(),
        affine: (with.gain || with.bias).then(|| (dgain.arg(), dbias.arg())),
    };
    norm::backward(&device.client, stretch, buffers, kind.elem());
    device.compare(&name("dx"), kind, kind, &dx, &want.dx);
    if with.gain || with.bias {
        for (what, parts, want) in [("dgain", dgain, want.dgain), ("dbias", dbias, want.dbias)] {
            let parts = device.read(Kind::F32, &parts);
            let sums: Vec<f64> = (0..stretch.width)
                .map(|i| parts.iter().skip(i).step_by(stretch.width).sum())
                .collect();
            let sums = device.put(Kind::F32, &sums);
            device.compare(&name(what), Kind::F32, kind, &sums, &want);
        }
    }
}

#[test]
fn norms_match_their_definition() {
    let all = With {
        residual: true,
        gain: true,
        bias: true,
    };
    let plain = With {
        residual: false,
        gain: false,
        bias: false,
    };
    let affine = With {
        residual: false,
        ..all
    };
    let gain = With {
        bias: false,
        ..affine
    };
    everywhere(|device, kind| {
        for (rows, width) in [(1, 1), (3, 7), (37, 192), (5, 1030)] {
            compare(
                device,
                kind,
                Stretch::whole(rows, width, norm::Kind::Layer, 1e-5),
                affine,
            );
            compare(
                device,
                kind,
                Stretch::whole(rows, width, norm::Kind::Rms, 1e-6),
                gain,
            );
        }
        compare(
            device,
            kind,
            Stretch::whole(33, 64, norm::Kind::Layer, 1e-5),
            plain,
        );
        compare(
            device,
            kind,
            Stretch::whole(20, 64, norm::Kind::Layer, 1e-5),
            all,
        );
        compare(
            device,
            kind,
            Stretch::whole(20, 64, norm::Kind::Rms, 1e-5),
            With { bias: false, ..all },
        );
        // Nothing, whose sums are 0.
        compare(
            device,
            kind,
            Stretch::whole(0, 12, norm::Kind::Layer, 1e-5),
            affine,
        );
    });
}

/// Stretches of every row, one after the other, in the same buffers.
#[test]
fn norms_of_stretches_match_their_definition() {
    everywhere(|device, kind| {
        for lens in [&[24, 40, 200][..], &[7, 1, 56]] {
            let width = lens.iter().sum();
            let mut from = 0;
            for (i, &len) in lens.iter().enumerate() {
                let stretch = Stretch {
                    from,
                    len,
                    part: (i, lens.len()),
                    ..Stretch::whole(19, width, norm::Kind::Layer, 1e-5)
                };
                let with = With {
                    // A row of one rounded element is far from its mean: not in half precision.
                    residual: !lens.contains(&1),
                    gain: true,
                    bias: true,
                };
                compare(device, kind, stretch, with);
                from += len;
            }
        }
    });
}

/// Rows that registers do not hold: twice read in the backward pass, and longer ones in both passes.
#[test]
fn norms_of_wide_rows_match_their_definition() {
    let with = With {
        residual: true,
        gain: true,
        bias: true,
    };
    everywhere(|device, kind| {
        // WGPU has half the units, or fewer.
        let widths = if device.name == "cuda" {
            [10_000, 20_000, 40_000]
        } else {
            [5000, 8200, 9001]
        };
        // The longest in two batches of rows of one piece, the second also in a second piece.
        for (rows, width) in [2, 17, 9].into_iter().zip(widths) {
            let layer = Stretch::whole(rows, width, norm::Kind::Layer, 1e-5);
            compare(device, kind, layer, with);
        }
        let rms = Stretch::whole(3, widths[2] + 1, norm::Kind::Rms, 1e-5);
        let gain = With {
            residual: false,
            bias: false,
            ..with
        };
        compare(device, kind, rms, gain);
        let nothing = With {
            gain: false,
            ..gain
        };
        compare(device, kind, rms, nothing);
    });
}
