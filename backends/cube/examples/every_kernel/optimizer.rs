//! AdamW over the weights of one layer and of the vocabulary, and the norm of their gradients.

use super::list::{Buffer, Cost, List, Type, WIDTH, types};
use jam_cube::optimizer::{self, AdamW, Norm, Parameter};

/// Lengths of a layer's weights: attention, gated feed-forward, two gains; what no vector divides; the vocabulary.
const LAYER: [usize; 9] = [
    WIDTH * WIDTH,
    WIDTH * WIDTH,
    WIDTH * WIDTH,
    WIDTH * WIDTH,
    WIDTH * 11_008,
    WIDTH * 11_008,
    WIDTH * 11_008,
    WIDTH,
    WIDTH,
];
const VOCABULARY: [usize; 1] = [32_000 * WIDTH];
const ODD: [usize; 2] = [4_097 * 1_023, 1_023];

/// A step and a norm.
pub(crate) fn kernels(list: &mut List) {
    for ty in types() {
        for (name, lens) in [
            ("layer", &LAYER[..]),
            ("vocabulary", &VOCABULARY),
            ("odd", &ODD),
        ] {
            one(list, ty, name, lens);
        }
    }
}

fn one(list: &mut List, ty: Type, name: &str, lens: &[usize]) {
    let (step, norm) = (
        format!("optimizer.adamw {} {name}", ty.name),
        format!("optimizer.norm {} {name}", ty.name),
    );
    if !list.wants(&step) && !list.wants(&norm) {
        return;
    }
    let size: usize = lens.iter().sum();
    let grads: Vec<Buffer> = lens.iter().map(|&len| list.empty(ty, len)).collect();
    let partials = list.floats(optimizer::partials(lens.iter().copied()));
    let out = list.floats(3);
    let cost = Cost {
        bytes: size * ty.bytes,
        flops: size * 2,
    };
    list.kernel(&norm, cost, |client| {
        let buffers = Norm {
            grads: grads
                .iter()
                .map(Buffer::arg)
                .zip(lens.iter().copied())
                .collect(),
            partials: partials.handle(),
            out: out.arg(),
            scale: 1.0,
            clip: 1.0,
        };
        optimizer::norm(client, buffers, ty.elem);
    });
    if !list.wants(&step) {
        return;
    }
    let state: Vec<[Buffer; 3]> = lens
        .iter()
        .map(|&len| [(); 3].map(|()| list.floats(len)))
        .collect();
    let copies: Vec<Buffer> = lens.iter().map(|&len| list.empty(ty, len)).collect();
    let half = ty.bytes < 4;
    let cost = Cost {
        bytes: size * (24 + if half { 2 } else { 1 } * ty.bytes),
        flops: size * 16,
    };
    let rule = AdamW {
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        step: 10,
        lr: 1e-4,
        scale: 1.0,
    };
    list.kernel(&step, cost, |client| {
        let parameters = lens.iter().enumerate().map(|(i, &len)| Parameter {
            weight: state[i][0].arg(),
            grad: grads[i].arg(),
            first: state[i][1].arg(),
            second: state[i][2].arg(),
            copy: half.then(|| copies[i].arg()),
            len,
            decay: 0.1,
            rate: 1.0,
        });
        optimizer::step(client, parameters.collect(), rule, None, ty.elem, ty.elem);
    });
}
