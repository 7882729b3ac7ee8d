//! Cross-entropy: held and long rows, masks, ranges, padding, and what must not be looked at.

use super::support::{Device, Kind, everywhere, noise};
use jam_cube::cross_entropy::{self, Buffers, Shape};

/// What a comparison is made of besides the sizes.
#[derive(Clone, Copy)]
struct With {
    gradient: bool,
    added: bool,
    ranges: bool,
}

/// Losses and the gradient, by definition.
struct Plain {
    losses: Vec<f64>,
    gradient: Vec<f64>,
}

fn plain(
    shape: Shape,
    logits: &[f64],
    added: &[f64],
    targets: &[i32],
    weights: &[f64],
    ranges: &[u32],
) -> Plain {
    let mut all = Plain {
        losses: vec![0.0; shape.rows],
        gradient: vec![0.0; shape.rows * shape.stride],
    };
    for row in 0..shape.rows {
        if weights[row] == 0.0 {
            continue;
        }
        let range = ranges[row * 2] as usize..ranges[row * 2 + 1] as usize;
        let at = |i: usize| logits[row * shape.stride + i] + added[i];
        let top = range.clone().map(at).fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = range.clone().map(|i| (at(i) - top).exp()).sum();
        for i in range.clone() {
            all.gradient[row * shape.stride + i] = weights[row] * (at(i) - top).exp() / total;
        }
        let target = targets[row] as usize;
        if range.contains(&target) {
            all.losses[row] = top + total.ln() - at(target);
            all.gradient[row * shape.stride + target] -= weights[row];
        } else {
            all.losses[row] = f64::from(f32::MAX);
        }
    }
    all
}

fn compare(device: &Device, kind: Kind, shape: Shape, with: With) {
    let Shape {
        rows,
        classes,
        stride,
    } = shape;
    let logits = noise(rows * stride, 1).iter().map(|x| x * 5.0).collect();
    let mut logits: Vec<f64> = logits;
    for row in logits.chunks_exact_mut(stride) {
        // What lies between rows is not looked at.
        row[classes..].fill(f64::NAN);
    }
    let mut targets: Vec<i32> = (0..rows).map(|i| (i * i * 13 % classes) as i32).collect();
    let mut weights: Vec<f64> = (0..rows).map(|i| [1.0, 0.0, 0.5, 2.0][i % 4]).collect();
    if rows > 1 {
        targets[1] = 1_000_000;
        logits[stride..2 * stride].fill(f64::NAN);
    }
    let mut added = noise(stride, 2);
    let ranges: Vec<u32> = (0..rows as u32)
        .flat_map(|i| {
            let (from, to) = if with.ranges {
                (i * 5 % (classes as u32 / 2), classes as u32 - i % 3)
            } else {
                (0, classes as u32)
            };
            let target = &mut targets[i as usize];
            // The fourth row's target is none that it may choose.
            if weights[i as usize] != 0.0 && i != 3 {
                *target = (*target).clamp(from as i32, to as i32 - 1);
            }
            [from, to]
        })
        .collect();
    if with.added {
        for (i, x) in added.iter_mut().enumerate() {
            if i % 7 == 3 && !targets.contains(&(i as i32)) {
                *x = if i % 2 == 0 {
                    f64::from(f32::MIN)
                } else {
                    f64::NEG_INFINITY
                };
            }
        }
    } else {
        added.fill(0.0);
    }
    if with.ranges && rows > 3 {
        targets[3] = 0;
        weights[3] = 1.0;
    }

    let logits = device.put(kind, &logits);
    let added = device.put(Kind::F32, &added);
    let weights = device.put(Kind::F32, &weights);
    let losses = device.empty(Kind::F32, rows);
    let ids = device.put_ids(&targets);
    let bounds: Vec<i32> = ranges.iter().map(|&x| x as i32).collect();
    let bounds = device.put_ids(&bounds);
    let buffers = Buffers {
        logits: logits.arg(),
        added: with.added.then(|| added.arg()),
        targets: ids.arg(),
        weights: weights.arg(),
        ranges: with.ranges.then(|| bounds.arg()),
        losses: losses.arg(),
    };
    cross_entropy::rows(&device.client, shape, buffers, with.gradient, kind.elem());
    let want = plain(
        shape,
        &logits.values,
        &added.values,
        &targets,
        &weights.values,
        &ranges,
    );
    let name = |what: &str| {
        format!(
            "cross-entropy {what} {rows}x{classes}{}{}{}",
            if stride > classes { " padded" } else { "" },
            if with.added { " + added" } else { "" },
            if with.ranges { " in ranges" } else { "" },
        )
    };
    // The largest loss would hide every other.
    let got = device.read(Kind::F32, &losses);
    let huge = f64::from(f32::MAX);
    for (got, want) in got.iter().zip(&want.losses) {
        assert_eq!(
            *got == huge,
            *want == huge,
            "{}: {got}, not {want}",
            name("loss")
        );
    }
    let cut = |all: &[f64]| -> Vec<f64> { all.iter().map(|&x| x % huge).collect() };
    let cut_losses = device.put(Kind::F32, &cut(&got));
    device.compare(
        &name("loss"),
        Kind::F32,
        Kind::F32,
        &cut_losses,
        &cut(&want.losses),
    );
    if with.gradient {
        device.compare(&name("gradient"), kind, kind, &logits, &want.gradient);
    } else {
        let after = device.read(kind, &logits);
        let same = after
            .iter()
            .zip(&logits.values)
            .all(|(a, b)| a == b || a.is_nan());
        assert!(
            same,
            "{}: logits changed though no gradient was asked for",
            name("loss")
        );
    }
}

#[test]
fn cross_entropy_matches_its_definition() {
    let none = With {
        gradient: true,
        added: false,
        ranges: false,
    };
    let added = With {
        added: true,
        ..none
    };
    let ranges = With {
        ranges: true,
        ..none
    };
    let all = With {
        ranges: true,
        ..added
    };
    everywhere(|device, kind| {
        for (rows, classes) in [(1, 1), (3, 2), (9, 7), (6, 129), (5, 1000), (4, 4096)] {
            compare(device, kind, Shape::new(rows, classes), none);
            compare(
                device,
                kind,
                Shape::new(rows, classes),
                With {
                    gradient: false,
                    ..added
                },
            );
        }
        for classes in [13, 1000, 4100] {
            for with in [added, ranges, all] {
                compare(device, kind, Shape::new(9, classes), with);
            }
        }
        let padded = Shape {
            rows: 6,
            classes: 50,
            stride: 64,
        };
        compare(device, kind, padded, none);
        compare(device, kind, padded, all);
    });
}

/// Rows that no cube holds are read twice.
#[test]
fn long_rows_match_their_definition() {
    let with = |gradient, added, ranges| With {
        gradient,
        added,
        ranges,
    };
    everywhere(|device, kind| {
        compare(device, kind, Shape::new(4, 70_016), with(true, true, false));
        compare(device, kind, Shape::new(4, 70_016), with(true, false, true));
        compare(
            device,
            kind,
            Shape::new(2, 70_001),
            with(true, false, false),
        );
        compare(
            device,
            kind,
            Shape::new(2, 150_000),
            with(false, false, true),
        );
        let padded = Shape {
            rows: 4,
            classes: 70_001,
            stride: 70_016,
        };
        compare(device, kind, padded, with(true, true, true));
    });
}

/// Logits far apart and large; the loss is neither infinite nor not a number.
#[test]
fn extremes_are_finite() {
    everywhere(|device, kind| {
        let logits = [30_000.0, -30_000.0, 0.0, 30_000.0];
        for (target, loss) in [(0, 2f64.ln()), (1, 60_000.0 + 2f64.ln())] {
            let logits = device.put(kind, &logits);
            let losses = device.empty(Kind::F32, 1);
            let buffers = Buffers {
                logits: logits.arg(),
                added: None,
                targets: device.put_ids(&[target]).arg(),
                weights: device.put(Kind::F32, &[1.0]).arg(),
                ranges: None,
                losses: losses.arg(),
            };
            cross_entropy::rows(&device.client, Shape::new(1, 4), buffers, true, kind.elem());
            // bf16 keeps 8 bits of 30 000.
            device.compare("cross-entropy extremes", Kind::F32, kind, &losses, &[loss]);
            let mut want = vec![0.5, 0.0, 0.0, 0.5];
            want[target as usize] -= 1.0;
            device.compare("cross-entropy extremes", kind, kind, &logits, &want);
        }
    });
}
