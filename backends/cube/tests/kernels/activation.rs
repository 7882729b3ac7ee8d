//! Activations: plain, gated in two matrices and in one, odd sizes and extremes.

use super::support::{Device, Kind, Stored, everywhere};
use jam_cube::activation::{self, Act, Operands, Shape};

/// erf by its Taylor series, and by its continued fraction where that has lost its digits.
fn erf(x: f64) -> f64 {
    if x.abs() > 3.0 {
        let mut f = 0.0;
        for n in (1..200).rev() {
            f = f64::from(n) / 2.0 / (x.abs() + f);
        }
        let beyond = (-x * x).exp() / (x.abs() + f) / std::f64::consts::PI.sqrt();
        return x.signum() * (1.0 - beyond);
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

/// `act(x)` and its derivative, by definition.
fn plain(act: Act, x: f64) -> (f64, f64) {
    use std::f64::consts::{FRAC_1_SQRT_2, PI};
    match act {
        Act::Relu => (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 }),
        Act::Gelu => {
            let below = 0.5 * (1.0 + erf(x * FRAC_1_SQRT_2));
            let density = (-0.5 * x * x).exp() / (2.0 * PI).sqrt();
            (x * below, below + x * density)
        }
        Act::GeluTanh => {
            let root = (2.0 / PI).sqrt();
            let t = (root * (x + 0.044_715 * x * x * x)).tanh();
            let inner = root * (1.0 + 3.0 * 0.044_715 * x * x);
            let steep = if t.abs() == 1.0 {
                0.0
            } else {
                0.5 * x * (1.0 - t * t) * inner
            };
            (0.5 * x * (1.0 + t), 0.5 * (1.0 + t) + steep)
        }
        Act::Silu => {
            let s = 1.0 / (1.0 + (-x).exp());
            let rest = 1.0 / (1.0 + x.exp());
            (
                x * s,
                s + if rest == 0.0 || s == 0.0 {
                    0.0
                } else {
                    x * s * rest
                },
            )
        }
    }
}

/// How a comparison's operands lie.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    Plain,
    Apart,
    Together,
}

fn operands(lie: Lie, first: &Stored, second: &Stored) -> Operands {
    match lie {
        Lie::Plain => Operands::Plain(first.arg()),
        Lie::Apart => Operands::Apart {
            gate: first.arg(),
            value: second.arg(),
        },
        Lie::Together => Operands::Together(first.arg()),
    }
}

fn compare(device: &Device, kind: Kind, act: Act, rows: usize, width: usize, lie: Lie) {
    let shape = match lie {
        Lie::Together => Shape::together(rows, width),
        _ => Shape::apart(rows, width),
    };
    let size = rows * shape.stride;
    let spread: Vec<f64> = device
        .noise(kind, size, 1)
        .values
        .iter()
        .map(|x| x * 4.0)
        .collect();
    let first = device.put(kind, &spread);
    let second = device.noise(kind, size, 2);
    let dy = device.noise(kind, rows * width, 3);
    let out = device.empty(kind, rows * width);
    let dfirst = device.empty(kind, size);
    let dsecond = device.empty(kind, size);

    let mut want = vec![0.0; rows * width];
    let mut want_first = vec![0.0; size];
    let mut want_second = vec![0.0; size];
    for (i, want) in want.iter_mut().enumerate() {
        let at = i / width * shape.stride + i % width;
        let (y, slope) = plain(act, first.values[at + shape.gate]);
        let other = match lie {
            Lie::Plain => 1.0,
            Lie::Apart => second.values[at],
            Lie::Together => first.values[at + width],
        };
        *want = y * other;
        want_first[at] = dy.values[i] * slope * other;
        match lie {
            Lie::Plain => {}
            Lie::Apart => want_second[at] = dy.values[i] * y,
            Lie::Together => want_first[at + width] = dy.values[i] * y,
        }
    }
    let client = &device.client;
    let name = |what: &str| format!("{act:?} {what} {lie:?} {rows}x{width}");
    let given = operands(lie, &first, &second);
    activation::forward(client, shape, act, given, out.arg(), kind.elem());
    device.compare(&name("out"), kind, kind, &out, &want);
    activation::backward(
        client,
        shape,
        act,
        operands(lie, &first, &second),
        dy.arg(),
        operands(lie, &dfirst, &dsecond),
        kind.elem(),
    );
    device.compare(&name("dx"), kind, kind, &dfirst, &want_first);
    if lie == Lie::Apart {
        device.compare(&name("dvalue"), kind, kind, &dsecond, &want_second);
    }
}

#[test]
fn activations_match_their_definition() {
    everywhere(|device, kind| {
        for act in Act::ALL {
            for (rows, width) in [(1, 1), (3, 7), (37, 1000)] {
                compare(device, kind, act, rows, width, Lie::Plain);
            }
            compare(device, kind, act, 5, 48, Lie::Apart);
            compare(device, kind, act, 3, 7, Lie::Apart);
            compare(device, kind, act, 19, 48, Lie::Together);
            compare(device, kind, act, 7, 5, Lie::Together);
        }
    });
}

/// The error function's part of Gelu to 1e-6 everywhere: CubeCL's own is not on every device.
#[test]
fn gelu_is_exact_enough() {
    everywhere(|device, kind| {
        if kind != Kind::F32 {
            return;
        }
        let x: Vec<f64> = (0..20_000)
            .map(|i| f64::from(i - 10_000) / 1500.0)
            .collect();
        let x = device.put(kind, &x);
        for act in Act::ALL {
            let out = device.empty(kind, 20_000);
            let dx = device.empty(kind, 20_000);
            let shape = Shape::apart(1, 20_000);
            let ones = device.put(kind, &vec![1.0; 20_000]);
            let (client, elem) = (&device.client, kind.elem());
            let operand = || Operands::Plain(x.arg());
            activation::forward(client, shape, act, operand(), out.arg(), elem);
            let gradient = Operands::Plain(dx.arg());
            activation::backward(client, shape, act, operand(), ones.arg(), gradient, elem);
            let (y, slopes) = (device.read(kind, &out), device.read(kind, &dx));
            for (i, &x) in x.values.iter().enumerate() {
                let (want, slope) = plain(act, x);
                let near =
                    |found: f64, want: f64| (found - want).abs() < 1e-6 * want.abs().max(1.0);
                assert!(
                    near(y[i], want),
                    "{act:?} of {x} on {}: {}, not {want}",
                    device.name,
                    y[i]
                );
                assert!(
                    near(slopes[i], slope),
                    "{act:?}' of {x} on {}: {}, not {slope}",
                    device.name,
                    slopes[i]
                );
            }
        }
    });
}

#[test]
fn extremes_are_finite_and_what_is_no_number_is_seen() {
    everywhere(|device, kind| {
        let large = if kind == Kind::F16 { 60_000.0 } else { 1e15 };
        let x = device.put(kind, &[-large, -90.0, 0.0, 90.0, large, f64::NAN, 1.0]);
        for act in Act::ALL {
            let out = device.empty(kind, 7);
            let dx = device.empty(kind, 7);
            let ones = device.put(kind, &[1.0; 7]);
            let shape = Shape::apart(1, 7);
            let (client, elem) = (&device.client, kind.elem());
            let operand = || Operands::Plain(x.arg());
            activation::forward(client, shape, act, operand(), out.arg(), elem);
            let gradient = Operands::Plain(dx.arg());
            activation::backward(client, shape, act, operand(), ones.arg(), gradient, elem);
            let (y, slopes) = (device.read(kind, &out), device.read(kind, &dx));
            for (i, &x) in x.values.iter().enumerate() {
                if x.is_nan() {
                    assert!(y[i].is_nan(), "{act:?} of NaN on {}: {}", device.name, y[i]);
                    continue;
                }
                let (want, slope) = plain(act, x);
                let near = |found: f64, want: f64| {
                    (found - want).abs() <= kind.tolerance() * want.abs().max(1.0)
                };
                assert!(
                    near(y[i], want) && near(slopes[i], slope),
                    "{act:?} of {x} on {} in {kind:?}: {} and {}, not {want} and {slope}",
                    device.name,
                    y[i],
                    slopes[i]
                );
            }
        }
    });
}
