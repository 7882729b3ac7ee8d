//! AdamW over lists of tensors of many lengths, with copies in the gradient's type, and the norm of all gradients.

use super::support::{Device, Kind, Stored, everywhere};
use jam_cube::optimizer::{self, AdamW, Norm, Parameter};

/// Lengths of tensors: some that vectors divide, some beyond one cube's piece, more than one launch takes.
const LENS: [usize; 12] = [1, 7, 64, 4096, 4100, 16_384, 37_001, 5, 128, 40_000, 12, 3];

const RULE: AdamW = AdamW {
    beta1: 0.9,
    beta2: 0.95,
    eps: 1e-8,
    step: 1,
    lr: 0.01,
    scale: 1.0,
};

/// A weight and its moments in f64.
#[derive(Clone)]
struct Plain {
    weight: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
}

impl Plain {
    fn step(&mut self, grad: &[f64], rule: AdamW, decay: f64, rate: f64, scale: f64) {
        let lr = rule.lr * rate;
        let correct = |beta: f64| 1.0 - beta.powi(rule.step as i32);
        for (i, g) in grad.iter().map(|g| g * scale).enumerate() {
            self.weight[i] -= lr * decay * self.weight[i];
            self.first[i] = rule.beta1 * self.first[i] + (1.0 - rule.beta1) * g;
            self.second[i] = rule.beta2 * self.second[i] + (1.0 - rule.beta2) * g * g;
            let m = self.first[i] / correct(rule.beta1);
            let v = self.second[i] / correct(rule.beta2);
            self.weight[i] -= lr * m / (v.sqrt() + rule.eps);
        }
    }
}

/// The buffers of a tensor.
struct On {
    weight: Stored,
    first: Stored,
    second: Stored,
    copy: Option<Stored>,
}

fn decay(tensor: usize) -> f64 {
    if tensor.is_multiple_of(3) { 0.0 } else { 0.1 }
}

fn rate(tensor: usize) -> f64 {
    if tensor == 4 { 0.5 } else { 1.0 }
}

fn begin(device: &Device, kind: Kind, lens: &[usize]) -> (Vec<On>, Vec<Plain>) {
    let mut all = (Vec::new(), Vec::new());
    for (i, &len) in lens.iter().enumerate() {
        let weight = device.noise(Kind::F32, len, i as u64);
        let zeros = vec![0.0; len];
        all.1.push(Plain {
            weight: weight.values.clone(),
            first: zeros.clone(),
            second: zeros.clone(),
        });
        all.0.push(On {
            weight,
            first: device.put(Kind::F32, &zeros),
            second: device.put(Kind::F32, &zeros),
            copy: (i % 4 != 1).then(|| device.empty(kind, len)),
        });
    }
    all
}

fn parameters(on: &[On], grads: &[Stored]) -> Vec<Parameter> {
    let all = on.iter().zip(grads).enumerate();
    let parameter = |(i, (on, grad)): (usize, (&On, &Stored))| Parameter {
        weight: on.weight.arg(),
        grad: grad.arg(),
        first: on.first.arg(),
        second: on.second.arg(),
        copy: on.copy.as_ref().map(Stored::arg),
        len: grad.values.len(),
        decay: decay(i),
        rate: rate(i),
    };
    all.map(parameter).collect()
}

/// Launches the norm; `[norm, factor, finite]`.
fn norm(
    device: &Device,
    kind: Kind,
    grads: &[Stored],
    scale: f64,
    clip: f64,
) -> (Stored, Vec<f64>) {
    let lens = || grads.iter().map(|grad| grad.values.len());
    let out = device.empty(Kind::F32, 3);
    let partials = optimizer::partials(lens());
    let buffers = Norm {
        grads: grads.iter().map(Stored::arg).zip(lens()).collect(),
        partials: device.client.create_from_slice(&vec![0xff; 4 * partials]),
        out: out.arg(),
        scale,
        clip,
    };
    optimizer::norm(&device.client, buffers, kind.elem());
    let values = device.read(Kind::F32, &out);
    (out, values)
}

fn norm_of(grads: &[Stored]) -> f64 {
    let squares = |grad: &Stored| grad.values.iter().map(|g| g * g).sum::<f64>();
    grads.iter().map(squares).sum::<f64>().sqrt()
}

fn compare(device: &Device, kind: Kind, lens: &[usize], clip: Option<f64>) {
    let (on, mut plain) = begin(device, kind, lens);
    for step in 1..=3 {
        let rule = AdamW {
            step,
            scale: 0.5,
            ..RULE
        };
        let grads: Vec<Stored> = (0..lens.len())
            .map(|i| device.noise(kind, lens[i], 100 * step + i as u64))
            .collect();
        let mut scale = rule.scale;
        let mut found = None;
        if let Some(clip) = clip {
            let length = norm_of(&grads) * scale;
            scale *= if clip > 0.0 {
                (clip / (length + 1e-6)).min(1.0)
            } else {
                1.0
            };
            let (buffer, values) = norm(device, kind, &grads, rule.scale, clip);
            let off = ((values[0] - length) / length).abs();
            assert!(
                off < 1e-6,
                "norm {} for {length} on {}",
                values[0],
                device.name
            );
            assert!(
                ((values[1] - scale) / scale).abs() < 1e-6,
                "factor {} for {scale}",
                values[1]
            );
            assert_eq!(values[2], 1.0, "a norm that is a number");
            found = Some(buffer);
        }
        let norm = found.as_ref().map(Stored::handle);
        let list = parameters(&on, &grads);
        optimizer::step(&device.client, list, rule, norm, kind.elem(), kind.elem());
        for (i, plain) in plain.iter_mut().enumerate() {
            plain.step(&grads[i].values, rule, decay(i), rate(i), scale);
        }
    }
    for (i, (on, plain)) in on.iter().zip(&plain).enumerate() {
        let name = |what: &str| {
            format!(
                "adamw {what} {} of {i}, grads {kind:?}, clip {clip:?}",
                lens[i]
            )
        };
        device.compare(
            &name("weight"),
            Kind::F32,
            Kind::F32,
            &on.weight,
            &plain.weight,
        );
        device.compare(
            &name("first"),
            Kind::F32,
            Kind::F32,
            &on.first,
            &plain.first,
        );
        device.compare(
            &name("second"),
            Kind::F32,
            Kind::F32,
            &on.second,
            &plain.second,
        );
        if let Some(copy) = &on.copy {
            device.compare(&name("copy"), kind, kind, copy, &plain.weight);
        }
    }
}

#[test]
fn adamw_follows_its_rule() {
    everywhere(|device, kind| {
        compare(device, kind, &LENS, None);
        compare(device, kind, &LENS, Some(1.5));
        compare(device, kind, &[33], Some(1e9));
        compare(device, kind, &[0, 20, 0], Some(0.0));
    });
}

#[test]
fn adamw_changes_nothing_where_gradients_are_no_numbers() {
    everywhere(|device, kind| {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let (on, plain) = begin(device, kind, &LENS);
            let mut grads: Vec<Stored> = (0..LENS.len())
                .map(|i| device.noise(kind, LENS[i], i as u64))
                .collect();
            let mut values = grads[6].values.clone();
            values[20_000] = bad;
            grads[6] = device.put(kind, &values);
            let (buffer, found) = norm(device, kind, &grads, 1.0, 1.0);
            assert_eq!(found[2], 0.0, "{bad} is seen on {}", device.name);
            let (list, norm) = (parameters(&on, &grads), Some(buffer.handle()));
            optimizer::step(&device.client, list, RULE, norm, kind.elem(), kind.elem());
            for (on, plain) in on.iter().zip(&plain) {
                assert_eq!(device.read(Kind::F32, &on.weight), plain.weight, "{bad}");
                assert_eq!(device.read(Kind::F32, &on.first), plain.first, "{bad}");
                assert_eq!(device.read(Kind::F32, &on.second), plain.second, "{bad}");
            }
        }
    });
}

#[test]
fn adamw_has_the_same_norm_in_every_launch_order() {
    everywhere(|device, kind| {
        let grads: Vec<Stored> = (0..20)
            .map(|i| device.noise(kind, 4096 * (i + 1), i as u64))
            .collect();
        let (_, once) = norm(device, kind, &grads, 1.0, 1.0);
        let (_, again) = norm(device, kind, &grads, 1.0, 1.0);
        assert_eq!(once, again);
        // More partial sums than one cube has units: each takes part in the last sum.
        let grads: Vec<Stored> = (0..300).map(|i| device.noise(kind, 3, i as u64)).collect();
        let (_, many) = norm(device, kind, &grads, 1.0, 1.0);
        let want = norm_of(&grads);
        assert!(
            ((many[0] - want) / want).abs() < 1e-6,
            "norm {} for {want} on {}",
            many[0],
            device.name
        );
        let (_, nothing) = norm(device, kind, &[], 1.0, 1.0);
        assert_eq!(nothing[0], 0.0, "no gradients");
        assert_eq!(nothing[2], 1.0, "no gradients");
    });
}
