//! Attention of few queries against a cache, in one part and in many.

use super::super::support::{Device, Kind, Stored, everywhere};
use super::{
    Inputs, Numbers, cached, causal, check_hidden, definition, left_padding, many, name, put_mask,
    shape, with_hidden_numbers,
};
use jam_cube::attention::Shape;
use jam_cube::attention::decode::{self, Decode};

/// Runs a call with as many parts as asked for, or as suit the device.
fn run(
    device: &Device,
    kind: Kind,
    s: Shape,
    [q, k, v]: [&Stored; 3],
    mask: Option<&[u32]>,
    parts: Option<usize>,
) -> Stored {
    let count = parts.unwrap_or_else(|| decode::parts(&device.client, &s, kind.elem()));
    let out = device.empty(kind, s.batch * s.queries * s.heads * s.value);
    let scratch = device.empty(Kind::F32, decode::scratch(&s, count));
    let mask = mask.map(|mask| put_mask(device, mask));
    let buffers = Decode {
        q: q.arg(),
        k: k.arg(),
        v: v.arg(),
        key_mask: mask.as_ref().map(Stored::arg),
        out: out.arg(),
        parts: scratch.arg(),
        count,
    };
    decode::forward(&device.client, &s, buffers, kind.elem());
    out
}

fn compare(device: &Device, kind: Kind, s: Shape, mask: Option<&[u32]>, parts: &[Option<usize>]) {
    let Inputs { q, k, v } = Inputs::of(device, kind, s, 1.0);
    let dout = vec![0.0; s.batch * s.queries * s.heads * s.value];
    let numbers = Numbers {
        q: &q.values,
        k: &k.values,
        v: &v.values,
        mask,
        dout: &dout,
        out: None,
    };
    let want = definition(s, &numbers);
    for &count in parts {
        let out = run(device, kind, s, [&q, &k, &v], mask, count);
        let what = match count {
            None => String::new(),
            Some(count) => format!(" in {count}"),
        };
        let what = format!("attention.decode {}{what}", name(s, mask.is_some()));
        device.compare(&what, kind, kind, &out, &want.out);
    }
}

#[test]
fn decoding_matches_its_definition() {
    everywhere(|device, kind| {
        let any = [None, Some(1), Some(7)];
        compare(device, kind, shape([1, 1, 1], [1, 1], [1, 1]), None, &any);
        compare(device, kind, shape([3, 1, 41], [4, 1], [17, 3]), None, &any);
        for keys in [64, 65, 3000] {
            compare(
                device,
                kind,
                shape([2, 1, keys], [4, 2], [64, 64]),
                None,
                &any,
            );
        }
        // 12 rows of a key head: two cubes.
        let s = cached(causal(shape([2, 3, 300], [8, 2], [32, 16])), 333);
        compare(device, kind, s, None, &any);
        // A query that sees nothing of a cache that is still empty for it, and one that sees all.
        let s = cached(shape([3, 1, 200], [2, 2], [16, 16]), 256);
        compare(
            device,
            kind,
            s,
            Some(&left_padding(s, &[0, 150, 200])),
            &any,
        );
        // More vectors of a value than units.
        compare(
            device,
            kind,
            shape([1, 1, 30], [1, 1], [5, 150]),
            None,
            &any,
        );
        compare(
            device,
            kind,
            shape([2, 8, 70], [2, 1], [16, 16]),
            None,
            &any,
        );
        let s = causal(shape([1, 1, 500], [8, 1], [128, 128]));
        compare(device, kind, s, None, &any);
        // No key is there, and the first queries are before all others.
        let s = cached(shape([2, 1, 0], [2, 2], [16, 16]), 4);
        compare(device, kind, s, None, &any);
        for offset in [0, 1, 63, 64, 70, 1 << 40] {
            let s = Shape {
                causal: true,
                offset,
                ..cached(shape([2, 3, 64], [2, 2], [16, 16]), 70)
            };
            compare(device, kind, s, None, &any);
            compare(device, kind, s, Some(&left_padding(s, &[5, 64])), &any);
        }
    });
}

#[test]
fn decoding_has_more_heads_than_cubes_on_an_axis() {
    everywhere(|device, kind| {
        if kind == Kind::F32 {
            compare(device, kind, many(2, 4), None, &[Some(1)]);
        }
    });
}

/// As the other kernels have it, but for a sequence of which all is hidden: it is zeros.
#[test]
fn decoding_keeps_hidden_values_where_they_are() {
    everywhere(|device, kind| {
        let s = shape([3, 1, 300], [4, 2], [16, 16]);
        let mask = left_padding(s, &[0, 11, 300]);
        let inputs = with_hidden_numbers(device, kind, s, &mask);
        let all = [&inputs.q, &inputs.k, &inputs.v];
        for parts in [1, 3] {
            let out = run(device, kind, s, all, Some(&mask), Some(parts));
            check_hidden(device, kind, "decode", s, &out);
        }
    });
}

#[test]
fn decoding_keeps_what_is_no_number() {
    everywhere(|device, kind| {
        let s = shape([1, 1, 300], [4, 2], [64, 64]);
        let mut q = device.noise(kind, s.heads * s.key, 1).values;
        q[2 * s.key + 5] = f64::NAN;
        let q = device.put(kind, &q);
        let k = device.noise(kind, s.k_batch, 2);
        let v = device.noise(kind, s.v_batch, 3);
        let out = run(device, kind, s, [&q, &k, &v], None, Some(3));
        for (i, x) in device.read(kind, &out).iter().enumerate() {
            assert_eq!(
                x.is_nan(),
                i / s.value == 2,
                "{} in {kind:?}: head {} holds {x}",
                device.name,
                i / s.value
            );
        }
    });
}

#[test]
fn decoding_takes_large_scores() {
    everywhere(|device, kind| {
        let s = Shape {
            scale: 300.0,
            ..shape([1, 1, 300], [4, 2], [64, 64])
        };
        let q = device.noise(kind, s.heads * s.key, 1);
        let k = device.noise(kind, s.k_batch, 2);
        let v = device.noise(kind, s.v_batch, 3);
        let zeros = vec![0.0; s.heads * s.value];
        let numbers = Numbers {
            q: &q.values,
            k: &k.values,
            v: &v.values,
            mask: None,
            dout: &zeros,
            out: None,
        };
        let want = definition(s, &numbers);
        for parts in [1, 5] {
            let out = run(device, kind, s, [&q, &k, &v], None, Some(parts));
            // f32 scores of some thousand are off by 1e-4 or so.
            device.compare(
                &format!("attention.decode x300 in {parts}"),
                kind,
                Kind::F16,
                &out,
                &want.out,
            );
        }
    });
}
