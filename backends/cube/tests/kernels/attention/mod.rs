//! Attention, forward and backward, against its definition: on tensor cores, without them, and against a cache.

mod decode;
mod mma;
mod plain;

use super::support::{Device, Kind, Stored, noise};
use cubecl::client::Client;
use cubecl::prelude::ElemType;
use jam_cube::attention::{self, Backward, Forward, Shape};
use jam_cube::cubecl;

/// Results by definition.
struct Plain {
    out: Vec<f64>,
    lse: Vec<f64>,
    dq: Vec<f64>,
    dk: Vec<f64>,
    dv: Vec<f64>,
}

/// Numbers of a call: q, k, v (k and v as long as their strides say), the mask, and the gradient of the result.
struct Numbers<'a> {
    q: &'a [f64],
    k: &'a [f64],
    v: &'a [f64],
    mask: Option<&'a [u32]>,
    dout: &'a [f64],
    /// The result that a backward pass is given, where its rounding counts: gradients of large scores are small
    /// differences of products with it.
    out: Option<&'a [f64]>,
}

fn definition(s: Shape, given: &Numbers<'_>) -> Plain {
    let mut all = Plain {
        out: vec![0.0; s.batch * s.queries * s.heads * s.value],
        lse: vec![f64::INFINITY; s.batch * s.heads * s.queries],
        dq: vec![0.0; s.batch * s.queries * s.heads * s.key],
        dk: vec![0.0; s.batch * s.keys * s.kv_heads * s.key],
        dv: vec![0.0; s.batch * s.keys * s.kv_heads * s.value],
    };
    let scale = f64::from(s.scale);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for (b, h, i) in places(s) {
        let kv = h / (s.heads / s.kv_heads);
        let row = (b * s.queries + i) * s.heads + h;
        let q = &given.q[row * s.key..][..s.key];
        let k = |j: usize| &given.k[b * s.k_batch + (j * s.kv_heads + kv) * s.key..][..s.key];
        let v = |j: usize| &given.v[b * s.v_batch + (j * s.kv_heads + kv) * s.value..][..s.value];
        let seen = |j: &usize| {
            (!s.causal || *j <= s.offset + i)
                && given.mask.is_none_or(|mask| mask[b * s.keys + j] == 1)
        };
        let keys: Vec<usize> = (0..s.keys).filter(seen).collect();
        if keys.is_empty() {
            continue;
        }
        let scores: Vec<f64> = keys.iter().map(|&j| dot(q, k(j)) * scale).collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let lse = top + scores.iter().map(|x| (x - top).exp()).sum::<f64>().ln();
        all.lse[(b * s.heads + h) * s.queries + i] = lse;
        let weights: Vec<f64> = scores.iter().map(|x| (x - lse).exp()).collect();
        let out = &mut all.out[row * s.value..][..s.value];
        for (&j, w) in keys.iter().zip(&weights) {
            for (out, v) in out.iter_mut().zip(v(j)) {
                *out += w * v;
            }
        }
        let dout = &given.dout[row * s.value..][..s.value];
        let delta = match given.out {
            Some(rounded) => dot(dout, &rounded[row * s.value..][..s.value]),
            None => dot(dout, out),
        };
        for (&j, w) in keys.iter().zip(&weights) {
            let slope = w * (dot(dout, v(j)) - delta) * scale;
            let at = (b * s.keys + j) * s.kv_heads + kv;
            let dv = &mut all.dv[at * s.value..][..s.value];
            for (dv, dout) in dv.iter_mut().zip(dout) {
                *dv += w * dout;
            }
            let dk = &mut all.dk[at * s.key..][..s.key];
            for (dk, q) in dk.iter_mut().zip(q) {
                *dk += slope * q;
            }
            let dq = &mut all.dq[row * s.key..][..s.key];
            for (dq, k) in dq.iter_mut().zip(k(j)) {
                *dq += slope * k;
            }
        }
    }
    all
}

/// Every sequence, head and query.
fn places(s: Shape) -> impl Iterator<Item = (usize, usize, usize)> {
    let heads = move |b| (0..s.heads).map(move |h| (b, h));
    (0..s.batch)
        .flat_map(heads)
        .flat_map(move |(b, h)| (0..s.queries).map(move |i| (b, h, i)))
}

/// A contiguous call that is not causal, with the usual scale.
fn shape(
    [batch, queries, keys]: [usize; 3],
    [heads, kv_heads]: [usize; 2],
    [key, value]: [usize; 2],
) -> Shape {
    Shape {
        batch,
        queries,
        keys,
        heads,
        kv_heads,
        key,
        value,
        causal: false,
        offset: 0,
        scale: 1.0 / (key as f32).sqrt(),
        k_batch: keys * kv_heads * key,
        v_batch: keys * kv_heads * value,
    }
}

/// The same, causal, the last query at the last key.
fn causal(s: Shape) -> Shape {
    Shape {
        causal: true,
        offset: s.keys.saturating_sub(s.queries),
        ..s
    }
}

/// The same against caches of `longest` steps.
fn cached(s: Shape, longest: usize) -> Shape {
    Shape {
        k_batch: longest * s.kv_heads * s.key,
        v_batch: longest * s.kv_heads * s.value,
        ..s
    }
}

/// A mask that hides the first keys of every sequence.
fn left_padding(s: Shape, hidden: &[usize]) -> Vec<u32> {
    (0..s.batch * s.keys)
        .map(|i| u32::from(i % s.keys >= hidden[i / s.keys % hidden.len()]))
        .collect()
}

fn put_mask(device: &Device, mask: &[u32]) -> Stored {
    device.put_ids(&mask.iter().map(|&x| x as i32).collect::<Vec<_>>())
}

/// What the sizes of a call look like in the table.
fn name(s: Shape, mask: bool) -> String {
    format!(
        "{}x{}x{} h{}/{} d{}/{}{}{}",
        s.batch,
        s.queries,
        s.keys,
        s.heads,
        s.kv_heads,
        s.key,
        s.value,
        if s.causal { " causal" } else { "" },
        if mask { " masked" } else { "" }
    )
}

/// Compares finite elements, and asks for +infinity where there should be one.
fn compare_lse(device: &Device, what: &str, of: Kind, got: &Stored, want: &[f64]) {
    let read = device.read(Kind::F32, got);
    let (mut some, mut wanted) = (Vec::new(), Vec::new());
    for (i, (&got, &want)) in read.iter().zip(want).enumerate() {
        if want.is_infinite() {
            assert!(
                got == f64::INFINITY,
                "{what} on {} in {of:?}: element {i} is {got}, and sees nothing",
                device.name
            );
        } else {
            some.push(got);
            wanted.push(want);
        }
    }
    device.compare(what, Kind::F32, of, &device.put(Kind::F32, &some), &wanted);
}

/// A family of kernels.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kernels {
    Plain,
    Mma,
}

impl Kernels {
    fn name(self) -> &'static str {
        match self {
            Kernels::Plain => "plain",
            Kernels::Mma => "mma",
        }
    }

    fn forward(self, client: &Client, shape: &Shape, buffers: Forward, dtype: ElemType) {
        match self {
            Kernels::Plain => attention::plain::forward(client, shape, buffers, dtype),
            Kernels::Mma => attention::mma::forward(client, shape, buffers, dtype),
        }
    }

    fn backward(self, client: &Client, shape: &Shape, buffers: Backward, dtype: ElemType) {
        match self {
            Kernels::Plain => attention::plain::backward(client, shape, buffers, dtype),
            Kernels::Mma => attention::mma::backward(client, shape, buffers, dtype),
        }
    }
}

/// What is compared.
#[derive(Clone)]
struct Case {
    shape: Shape,
    mask: Option<Vec<u32>>,
    /// q and k are this times normally distributed.
    factor: f64,
    /// The type whose tolerance counts, where it is not the kernel's.
    tolerance: Option<Kind>,
}

impl Case {
    fn of(shape: Shape) -> Case {
        Case {
            shape,
            mask: None,
            factor: 1.0,
            tolerance: None,
        }
    }

    /// With the first keys of every sequence hidden.
    fn hidden(shape: Shape, hidden: &[usize]) -> Case {
        Case {
            mask: Some(left_padding(shape, hidden)),
            ..Case::of(shape)
        }
    }
}

/// Random numbers of a call; what is not to be read of a cache is not a number.
struct Inputs {
    q: Stored,
    k: Stored,
    v: Stored,
}

impl Inputs {
    fn of(device: &Device, kind: Kind, s: Shape, factor: f64) -> Inputs {
        let put = |len: usize, seed: u64, factor: f64, used: usize, batch: usize| {
            let mut values = noise(len, seed);
            for (i, x) in values.iter_mut().enumerate() {
                *x = if i % batch < used {
                    *x * factor
                } else {
                    f64::NAN
                };
            }
            device.put(kind, &values)
        };
        let cache = |batch: usize, width: usize, seed: u64, factor: f64| {
            let used = s.keys * s.kv_heads * width;
            put(s.batch * batch, seed, factor, used, batch)
        };
        let queries = s.batch * s.queries * s.heads * s.key;
        Inputs {
            q: put(queries, 1, factor, queries, queries.max(1)),
            k: cache(s.k_batch, s.key, 2, factor),
            v: cache(s.v_batch, s.value, 3, 1.0),
        }
    }
}

/// The result and the log-sum-exp of a forward pass.
fn attend(
    device: &Device,
    kind: Kind,
    kernels: Kernels,
    s: Shape,
    inputs: &Inputs,
    mask: Option<&Stored>,
) -> (Stored, Stored) {
    let out = device.empty(kind, s.batch * s.queries * s.heads * s.value);
    let lse = device.empty(Kind::F32, s.batch * s.heads * s.queries);
    let buffers = Forward {
        q: inputs.q.arg(),
        k: inputs.k.arg(),
        v: inputs.v.arg(),
        key_mask: mask.map(Stored::arg),
        out: out.arg(),
        lse: lse.arg(),
    };
    kernels.forward(&device.client, &s, buffers, kind.elem());
    (out, lse)
}

/// Compares forward and backward.
fn compare(device: &Device, kind: Kind, kernels: Kernels, case: &Case) {
    let s = case.shape;
    let of = case.tolerance.unwrap_or(kind);
    let inputs = Inputs::of(device, kind, s, case.factor);
    let dout = device.noise(kind, s.batch * s.queries * s.heads * s.value, 4);
    let mask = case.mask.as_ref().map(|mask| put_mask(device, mask));
    let (out, lse) = attend(device, kind, kernels, s, &inputs, mask.as_ref());
    let rounded = device.read(kind, &out);
    let numbers = Numbers {
        q: &inputs.q.values,
        k: &inputs.k.values,
        v: &inputs.v.values,
        mask: case.mask.as_deref(),
        dout: &dout.values,
        out: (case.factor != 1.0).then_some(&rounded),
    };
    let want = definition(s, &numbers);
    let large = if case.factor == 1.0 { "" } else { " large" };
    let name = |what: &str| {
        let sizes = name(s, mask.is_some());
        format!("attention.{} {what} {sizes}{large}", kernels.name())
    };
    device.compare(&name("out"), kind, of, &out, &want.out);
    compare_lse(device, &name("lse"), of, &lse, &want.lse);

    let delta = device.empty(Kind::F32, s.batch * s.heads * s.queries);
    // Without keys there is nothing to write, and no buffer of nothing.
    let like = |values: &[f64]| device.empty(kind, values.len().max(1));
    let (dq, dk, dv) = (like(&want.dq), like(&want.dk), like(&want.dv));
    let buffers = Backward {
        q: inputs.q.arg(),
        k: inputs.k.arg(),
        v: inputs.v.arg(),
        key_mask: mask.as_ref().map(Stored::arg),
        out: out.arg(),
        lse: lse.arg(),
        dout: dout.arg(),
        delta: delta.arg(),
        dq: dq.arg(),
        dk: dk.arg(),
        dv: dv.arg(),
    };
    kernels.backward(&device.client, &s, buffers, kind.elem());
    device.compare(&name("dq"), kind, of, &dq, &want.dq);
    if s.keys > 0 {
        device.compare(&name("dk"), kind, of, &dk, &want.dk);
        device.compare(&name("dv"), kind, of, &dv, &want.dv);
    }
}

/// Cases that every family has to pass, at head sizes that it has kernels for: offsets from none to beyond all keys,
/// more queries than keys and fewer, masks with a sequence of which all is hidden, caches, groups; and no keys.
fn cases(size: [usize; 2]) -> Vec<Case> {
    let mut all = Vec::new();
    for (sizes, heads) in [([2, 70, 40], [4, 2]), ([2, 9, 67], [2, 1])] {
        let s = cached(shape(sizes, heads, size), sizes[2] + 3);
        let [_, queries, keys] = sizes;
        for offset in [0, 1, keys - 1, keys, keys + queries, 1 << 40] {
            let s = Shape {
                causal: true,
                offset,
                ..s
            };
            all.push(Case::of(s));
            all.push(Case::hidden(s, &[5, keys]));
        }
        all.push(Case::of(s));
        all.push(Case::hidden(s, &[keys, 7]));
    }
    for causal in [false, true] {
        let s = cached(shape([2, 3, 0], [2, 1], size), 2);
        all.push(Case::of(Shape { causal, ..s }));
    }
    all
}

/// More sequences times heads than an axis of a launch has cubes, and their number odd.
fn many(keys: usize, size: usize) -> Shape {
    cached(shape([5, 1, keys], [13_109; 2], [size, size]), keys + 1)
}

/// Keys of [`many`]: on CUDA none, because a device that is no card takes minutes for so many cubes that have a tile
/// to work on. What has to be written is, then, and nothing else.
fn keys_of_many(device: &Device) -> usize {
    if device.name == "cuda" { 0 } else { 2 }
}

/// Scores of some hundred, and their gradients.
fn large(size: usize) -> [Case; 2] {
    let s = shape([1, 20, 37], [2, 1], [size, size]);
    [s, causal(s)].map(|s| Case {
        factor: 8.0,
        tolerance: Some(Kind::F16),
        ..Case::of(s)
    })
}

/// A query that is no number: its row alone is none.
fn keeps_a_query_that_is_no_number(device: &Device, kind: Kind, kernels: Kernels, size: usize) {
    let s = causal(shape([1, 20, 37], [2, 1], [size, size]));
    let mut inputs = Inputs::of(device, kind, s, 1.0);
    let mut q = inputs.q.values;
    // One element of query 7, head 1.
    q[(7 * 2 + 1) * size + 5] = f64::NAN;
    inputs.q = device.put(kind, &q);
    let (out, lse) = attend(device, kind, kernels, s, &inputs, None);
    let place = |what: &str| format!("{} on {} in {kind:?}: {what}", kernels.name(), device.name);
    for (i, x) in device.read(kind, &out).iter().enumerate() {
        let row = i / s.value;
        assert_eq!(x.is_nan(), row == 7 * 2 + 1, "{} {row}: {x}", place("row"));
    }
    for (i, x) in device.read(Kind::F32, &lse).iter().enumerate() {
        assert_eq!(
            x.is_nan(),
            i == s.queries + 7,
            "{} {i}: {x}",
            place("log-sum-exp")
        );
    }
}

/// Inputs whose hidden keys of sequence 1 have one value each that is no number: element 3 of key head 0.
fn with_hidden_numbers(device: &Device, kind: Kind, s: Shape, mask: &[u32]) -> Inputs {
    let mut inputs = Inputs::of(device, kind, s, 1.0);
    let mut v = inputs.v.values;
    for step in (0..s.keys).filter(|step| mask[s.keys + step] == 0) {
        v[s.v_batch + step * s.kv_heads * s.value + 3] = f64::NAN;
    }
    inputs.v = device.put(kind, &v);
    inputs
}

/// A weight of exactly 0 times what is no number is none, as in the kernels for processors: values of hidden keys have
/// to be numbers. What is none stays in its column of its sequence and group of heads, and in no log-sum-exp.
fn keeps_hidden_values_where_they_are(device: &Device, kind: Kind, kernels: Kernels, size: usize) {
    let s = shape([3, 9, 37], [4, 2], [size, size]);
    let mask = left_padding(s, &[0, 11, 37]);
    let inputs = with_hidden_numbers(device, kind, s, &mask);
    let stored = put_mask(device, &mask);
    let (out, lse) = attend(device, kind, kernels, s, &inputs, Some(&stored));
    check_hidden(device, kind, kernels.name(), s, &out);
    for (i, x) in device.read(Kind::F32, &lse).iter().enumerate() {
        assert!(
            !x.is_nan(),
            "{} on {}: log-sum-exp {i}",
            kernels.name(),
            device.name
        );
    }
}

/// Whether the column that [`with_hidden_numbers`] spoils is not a number, and all others are.
fn check_hidden(device: &Device, kind: Kind, what: &str, s: Shape, out: &Stored) {
    for (i, x) in device.read(kind, out).iter().enumerate() {
        let (row, column) = (i / s.value, i % s.value);
        let (head, sequence) = (row % s.heads, row / s.heads / s.queries);
        let spoilt = sequence == 1 && head < s.heads / s.kv_heads && column == 3;
        assert_eq!(
            x.is_nan(),
            spoilt,
            "{what} on {} in {kind:?}: sequence {sequence}, head {head}, column {column}: {x}",
            device.name
        );
    }
}
