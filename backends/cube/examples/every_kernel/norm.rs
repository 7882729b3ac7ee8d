//! Norms of whole rows, with a residual before, and per head.

use super::list::{Cost, List, TOKENS, Type, WIDTH, types};
use jam_cube::norm::{self, Backward, Forward, Kind, Stretch};

/// Every norm of a step.
pub(crate) fn kernels(list: &mut List) {
    for ty in types() {
        for (name, kind) in [("layer", Kind::Layer), ("rms", Kind::Rms)] {
            rows(list, ty, name, Stretch::whole(TOKENS, WIDTH, kind, 1e-5));
        }
        // A norm of every head (Henry et al. 2020): 32 of 128 features.
        let heads = Stretch::whole(TOKENS * 32, 128, Kind::Rms, 1e-5);
        rows(list, ty, "rms", heads);
        // Wider and odd rows.
        for width in [8192, 11_008, 16_384, 24_576, 32_768] {
            let wide = Stretch::whole(TOKENS / 2, width, Kind::Layer, 1e-5);
            rows(list, ty, "layer", wide);
        }
        rows(
            list,
            ty,
            "rms",
            Stretch::whole(TOKENS, 1023, Kind::Rms, 1e-5),
        );
    }
}

fn rows(list: &mut List, ty: Type, name: &str, stretch: Stretch) {
    let size = stretch.rows * stretch.width;
    let label = |what: &str| {
        format!(
            "norm.{what} {name} {} {}x{}",
            ty.name, stretch.rows, stretch.width
        )
    };
    let all = [
        "forward",
        "forward+residual",
        "backward",
        "backward+residual",
    ];
    if !all.iter().any(|what| list.wants(&label(what))) {
        return;
    }
    let [x, residual, out, sum, dsum] = [(); 5].map(|()| list.empty(ty, size));
    let [gain, bias] = [(); 2].map(|()| list.empty(ty, stretch.width));
    let [dgain, dbias] = [(); 2].map(|()| list.floats(stretch.pieces() * stretch.width));
    let statistics = list.floats(2 * stretch.rows);
    let bias = || (stretch.kind == Kind::Layer).then(|| bias.arg());
    let moved = |times: usize| times * size * ty.bytes;
    for (what, added) in [("forward", false), ("forward+residual", true)] {
        let cost = Cost {
            bytes: moved(if added { 4 } else { 2 }),
            flops: size * 7,
        };
        list.kernel(&label(what), cost, |client| {
            let buffers = Forward {
                x: x.arg(),
                residual: added.then(|| residual.arg()),
                gain: Some(gain.arg()),
                bias: bias(),
                out: out.arg(),
                sum: added.then(|| sum.arg()),
                statistics: statistics.arg(),
            };
            norm::forward(client, stretch, buffers, ty.elem);
        });
    }
    for (what, added) in [("backward", false), ("backward+residual", true)] {
        let cost = Cost {
            bytes: moved(if added { 4 } else { 3 }),
            flops: size * 14,
        };
        list.kernel(&label(what), cost, |client| {
            let buffers = Backward {
                x: x.arg(),
                gain: Some(gain.arg()),
                statistics: statistics.arg(),
                dy: residual.arg(),
                dsum: added.then(|| dsum.arg()),
                dx: out.arg(),
                affine: Some((dgain.arg(), dbias.arg())),
            };
            norm::backward(client, stretch, buffers, ty.elem);
        });
    }
}
