//! Attention of a step, causal, and of one token against a cache.

use super::list::{Buffer, Cost, List, TOKENS, Type, types};
use jam_cube::attention::decode::{self, Decode};
use jam_cube::attention::{Backward, Forward, Shape, mma, plain};

/// Heads of queries.
const HEADS: usize = 32;

/// On tensor cores in 16 bits, by multiply-adds in f32, and against caches.
pub(crate) fn kernels(list: &mut List) {
    let [f32, f16, bf16] = types();
    for size in [64, 96, 128, 256] {
        for kv_heads in [HEADS, 8] {
            step(list, bf16, size, kv_heads, true);
        }
    }
    step(list, f16, 128, HEADS, true);
    for size in [64, 128] {
        step(list, f32, size, HEADS, false);
    }
    for ty in [bf16, f32] {
        for group in [1, 8] {
            for keys in [4096, 32_768] {
                token(list, ty, HEADS / group, keys);
            }
        }
    }
}

fn shape(queries: usize, keys: usize, kv_heads: usize, size: usize) -> Shape {
    Shape {
        batch: 1,
        queries,
        keys,
        heads: HEADS,
        kv_heads,
        key: size,
        value: size,
        causal: true,
        offset: keys - queries,
        scale: 1.0 / (size as f32).sqrt(),
        k_batch: keys * kv_heads * size,
        v_batch: keys * kv_heads * size,
    }
}

fn step(list: &mut List, ty: Type, size: usize, kv_heads: usize, tensor_cores: bool) {
    let s = shape(TOKENS, TOKENS, kv_heads, size);
    let family = if tensor_cores { "mma" } else { "plain" };
    let label = |what: &str| {
        let (name, tokens) = (ty.name, TOKENS);
        format!("attention.{what} {family} {name} {tokens} h{HEADS}/{kv_heads} d{size} causal")
    };
    let (forward, backward) = (label("forward"), label("backward"));
    if !list.wants(&forward) && !list.wants(&backward) {
        return;
    }
    let (all, of_keys, rows) = (TOKENS * HEADS * size, s.k_batch, TOKENS * HEADS);
    let [q, out] = [(); 2].map(|()| list.empty(ty, all));
    let [k, v] = [(); 2].map(|()| list.empty(ty, of_keys));
    let lse = list.floats(rows);
    // A product of this many multiply-adds, of scores that are seen.
    let product = HEADS * size * TOKENS * (TOKENS + 1);
    let cost = Cost {
        bytes: (2 * all + 2 * of_keys) * ty.bytes + 4 * rows,
        flops: 2 * product,
    };
    list.kernel(&forward, cost, |client| {
        let buffers = Forward {
            q: q.arg(),
            k: k.arg(),
            v: v.arg(),
            key_mask: None,
            out: out.arg(),
            lse: lse.arg(),
        };
        match tensor_cores {
            true => mma::forward(client, &s, buffers, ty.elem),
            false => plain::forward(client, &s, buffers, ty.elem),
        }
    });
    if !list.wants(&backward) {
        return;
    }
    let [dout, dq] = [(); 2].map(|()| list.empty(ty, all));
    let [dk, dv] = [(); 2].map(|()| list.empty(ty, of_keys));
    let delta = list.floats(rows);
    // Five products; that scores and slopes are formed twice is the kernels' choice.
    let cost = Cost {
        bytes: (4 * all + 4 * of_keys) * ty.bytes + 8 * rows,
        flops: 5 * product,
    };
    list.kernel(&backward, cost, |client| {
        let buffers = Backward {
            q: q.arg(),
            k: k.arg(),
            v: v.arg(),
            key_mask: None,
            out: out.arg(),
            lse: lse.arg(),
            dout: dout.arg(),
            delta: delta.arg(),
            dq: dq.arg(),
            dk: dk.arg(),
            dv: dv.arg(),
        };
        match tensor_cores {
            true => mma::backward(client, &s, buffers, ty.elem),
            false => plain::backward(client, &s, buffers, ty.elem),
        }
    });
}

fn token(list: &mut List, ty: Type, kv_heads: usize, keys: usize) {
    const SIZE: usize = 128;
    let s = shape(1, keys, kv_heads, SIZE);
    let label = format!(
        "attention.decode {} {keys} h{HEADS}/{kv_heads} d{SIZE}",
        ty.name
    );
    if !list.wants(&label) {
        return;
    }
    let [q, out] = [(); 2].map(|()| list.empty(ty, HEADS * SIZE));
    let [k, v]: [Buffer; 2] = [(); 2].map(|()| list.empty(ty, s.k_batch));
    let count = decode::parts(&list.client, &s, ty.elem);
    let parts = list.floats(decode::scratch(&s, count));
    let cost = Cost {
        bytes: 2 * s.k_batch * ty.bytes,
        flops: 4 * HEADS * SIZE * keys,
    };
    list.kernel(&label, cost, |client| {
        let buffers = Decode {
            q: q.arg(),
            k: k.arg(),
            v: v.arg(),
            key_mask: None,
            out: out.arg(),
            parts: parts.arg(),
            count,
        };
        decode::forward(client, &s, buffers, ty.elem);
    });
}
