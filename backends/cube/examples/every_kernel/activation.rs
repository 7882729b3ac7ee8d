//! Activations: plain GELU, and SiLU and GELU with a gate, apart and side by side.

use super::list::{Buffer, Cost, List, TOKENS, Type, types};
use jam_cube::activation::{self, Act, Operands, Shape};

/// Features between the two layers of a feed-forward block.
const INNER: usize = 11_008;

/// How the operands lie.
#[derive(Clone, Copy, PartialEq)]
enum Lie {
    Plain,
    Apart,
    Together,
}

/// Each activation of a step.
pub(crate) fn kernels(list: &mut List) {
    for ty in types() {
        for (name, act, lie) in [
            ("gelu", Act::Gelu, Lie::Plain),
            ("gelu_tanh", Act::GeluTanh, Lie::Plain),
            ("silu+gate", Act::Silu, Lie::Apart),
            ("silu+gate together", Act::Silu, Lie::Together),
            ("gelu+gate together", Act::Gelu, Lie::Together),
        ] {
            one(list, ty, name, act, lie);
        }
    }
}

fn one(list: &mut List, ty: Type, name: &str, act: Act, lie: Lie) {
    let label = |what: &str| format!("activation.{what} {name} {} {TOKENS}x{INNER}", ty.name);
    let (forward, backward) = (label("forward"), label("backward"));
    if !list.wants(&forward) && !list.wants(&backward) {
        return;
    }
    let size = TOKENS * INNER;
    let shape = match lie {
        Lie::Together => Shape::together(TOKENS, INNER),
        _ => Shape::apart(TOKENS, INNER),
    };
    let first = TOKENS * shape.stride;
    let second = if lie == Lie::Apart { size } else { 0 };
    let [gate, dgate] = [(); 2].map(|()| list.empty(ty, first));
    let [value, dvalue] = [(); 2].map(|()| list.empty(ty, second.max(1)));
    let out = list.empty(ty, size);
    let operands = |gate: &Buffer, value: &Buffer| match lie {
        Lie::Plain => Operands::Plain(gate.arg()),
        Lie::Together => Operands::Together(gate.arg()),
        Lie::Apart => Operands::Apart {
            gate: gate.arg(),
            value: value.arg(),
        },
    };
    // Operands and the result; operands, its gradient and theirs.
    let gated = usize::from(lie != Lie::Plain);
    let cost = Cost {
        bytes: size * ty.bytes * (2 + gated),
        flops: size * (10 + gated),
    };
    list.kernel(&forward, cost, |client| {
        let operands = operands(&gate, &value);
        activation::forward(client, shape, act, operands, out.arg(), ty.elem);
    });
    let cost = Cost {
        bytes: size * ty.bytes * (3 + 2 * gated),
        flops: size * (20 + 12 * gated),
    };
    list.kernel(&backward, cost, |client| {
        let (operands, gradients) = (operands(&gate, &value), operands(&dgate, &dvalue));
        let dy = out.arg();
        activation::backward(client, shape, act, operands, dy, gradients, ty.elem);
    });
}
