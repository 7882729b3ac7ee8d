//! AdamW over many tensors in few launches, and the norm of all gradients, which never leaves the device.
//!
//! The rule is that of `torch.optim.AdamW` (Loshchilov and Hutter 2019): decay by `lr · decay` before the step, both
//! moments corrected for their start, epsilon outside of the square root. Weights and moments are f32; the gradient has
//! any type, and a copy of the weight in another type is written in the same pass.

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::device::{Limits, cubes, vectors};
use crate::reduce::{Units, across, cube_sum};

/// Tensors of one launch at most.
const TOGETHER: usize = 8;
/// Elements of a gradient whose squares one cube adds up.
const PIECE: usize = 16_384;
/// Vectors that a unit changes in one step.
const OF_A_UNIT: usize = 4;
/// Buffers of a launch beside those of the tensors: the norm, and what the runtime adds.
const OTHERS: usize = 2;

/// The constants of the rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Decay of the mean of gradients.
    pub beta1: f64,
    /// Decay of the mean of squared gradients.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Number of the step; the first is 1.
    pub step: u64,
    /// The learning rate.
    pub lr: f64,
    /// Factor of gradients. Where [`step`] gets a norm, its factor takes the place of this one.
    pub scale: f64,
}

/// One tensor of a step. All buffers have `len` elements.
pub struct Parameter {
    /// The weight, f32; improved in place.
    pub weight: BufferArg,
    /// Its gradient.
    pub grad: BufferArg,
    /// First moment, f32: zeros before the first step.
    pub first: BufferArg,
    /// Second moment, f32: zeros before the first step.
    pub second: BufferArg,
    /// Gets the new weight in another type.
    pub copy: Option<BufferArg>,
    /// Elements.
    pub len: usize,
    /// Weight decay, 0 for none.
    pub decay: f64,
    /// Factor of the learning rate, usually 1.
    pub rate: f64,
}

/// The numbers of a step that all tensors share.
#[derive(CubeLaunch, CubeType, Clone, Copy)]
struct Shares {
    beta1: f32,
    beta2: f32,
    eps: f32,
    /// `1 / √(1 - beta2ᵗ)`.
    root: f32,
    scale: f32,
}

#[cube]
#[allow(clippy::too_many_arguments, reason = "the buffers of a tensor")]
fn improve<F: Float, N: Size>(
    weight: &mut [Vector<f32, N>],
    grad: &[Vector<F, N>],
    first: &mut [Vector<f32, N>],
    second: &mut [Vector<f32, N>],
    at: usize,
    keep: f32,
    size: f32,
    scale: f32,
    shares: &Shares,
) -> Vector<f32, N> {
    let g = Vector::<f32, N>::cast_from(grad[at]) * Vector::new(scale);
    let old = first[at];
    let m = old + (g - old) * Vector::new(1.0f32 - shares.beta1);
    let v = second[at] * Vector::new(shares.beta2) + g * g * Vector::new(1.0f32 - shares.beta2);
    let below = v.sqrt() * Vector::new(shares.root) + Vector::new(shares.eps);
    let w = weight[at] * Vector::new(keep) - m / below * Vector::new(size);
    first[at] = m;
    second[at] = v;
    weight[at] = w;
    w
}

#[cube(launch)]
#[allow(
    clippy::too_many_arguments,
    reason = "a kernel's arguments are its buffers and sizes"
)]
fn adamw<F: Float, C: Float, N: Size>(
    weights: &mut Sequence<Box<[Vector<f32, N>]>>,
    grads: &Sequence<Box<[Vector<F, N>]>>,
    firsts: &mut Sequence<Box<[Vector<f32, N>]>>,
    seconds: &mut Sequence<Box<[Vector<f32, N>]>>,
    copies: &mut Sequence<Box<[Vector<C, N>]>>,
    lens: &Sequence<u32>,
    keeps: &Sequence<f32>,
    sizes: &Sequence<f32>,
    norm: ComptimeOption<&[f32]>,
    shares: &Shares,
    #[comptime] tensors: usize,
    #[comptime] copied: bool,
    #[comptime] units: usize,
    #[define(F)] _grad: ElemType,
    #[define(C)] _copy: ElemType,
) {
    let cube = CUBE_POS as u32;
    let mut scale = shares.scale;
    #[comptime]
    if let ComptimeOption::Some(norm) = &norm {
        // Gradients that are no numbers change nothing.
        if norm[2] != 1.0f32 {
            terminate!();
        }
        scale = norm[1];
    }
    let of_a_cube = comptime!((units * OF_A_UNIT) as u32);
    let mut start = 0u32.runtime();
    #[unroll]
    for t in 0..tensors {
        let len = lens[t];
        let pieces = len.div_ceil(of_a_cube);
        if cube >= start && cube < start + pieces {
            let begin = (cube - start) * of_a_cube + UNIT_POS;
            #[unroll]
            for i in 0..OF_A_UNIT {
                let at = begin + comptime!((i * units) as u32);
                if at < len {
                    let at = at as usize;
                    let w = improve::<F, N>(
                        weights.index_mut(t),
                        grads.index(t),
                        firsts.index_mut(t),
                        seconds.index_mut(t),
                        at,
                        keeps[t],
                        sizes[t],
                        scale,
                        shares,
                    );
                    if comptime!(copied) {
                        copies.index_mut(t)[at] = Vector::cast_from(w);
                    }
                }
            }
        }
        start += pieces;
    }
}

#[cube(launch)]
fn squares<F: Float, N: Size>(
    grads: &Sequence<Box<[Vector<F, N>]>>,
    lens: &Sequence<u32>,
    places: &Sequence<u32>,
    partials: &mut [f32],
    #[comptime] tensors: usize,
    #[comptime] units: Units,
    #[define(F)] _dtype: ElemType,
) {
    let cube = CUBE_POS as u32;
    let of_a_cube = comptime!(PIECE as u32) / (N::value() as u32);
    let mut scratch = Shared::<[f32]>::new_slice(comptime!(units.scratch()));
    let mut total = Vector::<f32, N>::new(0.0f32);
    let mut place = 0u32.runtime();
    let mut some = false.runtime();
    let mut start = 0u32.runtime();
    #[unroll]
    for t in 0..tensors {
        let len = lens[t];
        let pieces = len.div_ceil(of_a_cube);
        if cube >= start && cube < start + pieces {
            let from = (cube - start) * of_a_cube;
            let end = min(from + of_a_cube, len);
            let mut at = from + UNIT_POS;
            while at < end {
                let g = Vector::<f32, N>::cast_from(grads.index(t)[at as usize]);
                total += g * g;
                at += comptime!(units.count as u32);
            }
            place = places[t] + cube - start;
            some = true;
        }
        start += pieces;
    }
    let sum = cube_sum(across::<N>(total), &mut scratch, units);
    if some && UNIT_POS == 0 {
        partials[place as usize] = sum;
    }
}

/// `a + b` and what its rounding lost (Knuth, TAOCP 2, 4.2.2).
#[cube]
fn two_sum(a: f32, b: f32) -> (f32, f32) {
    let sum = a + b;
    let of_b = sum - a;
    let lost = (a - (sum - of_b)) + (b - of_b);
    (sum, lost)
}

#[cube(launch)]
fn global_norm(
    partials: &[f32],
    out: &mut [f32],
    count: u32,
    clip: f32,
    scale: f32,
    #[comptime] units: usize,
) {
    let unit = UNIT_POS as usize;
    let mut sums = Shared::<[f32]>::new_slice(units);
    let mut lost = Shared::<[f32]>::new_slice(units);
    let mut sum = 0.0f32;
    let mut rest = 0.0f32;
    let mut at = unit;
    while at < count as usize {
        let (next, error) = two_sum(sum, partials[at]);
        sum = next;
        rest += error;
        at += units;
    }
    sums[unit] = sum;
    lost[unit] = rest;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(units.ilog2()) {
        let half = comptime!(units >> (step + 1));
        if unit < half {
            let (next, error) = two_sum(sums[unit], sums[unit + half]);
            let both = lost[unit] + lost[unit + half];
            sums[unit] = next;
            lost[unit] = both + error;
        }
        sync_cube();
    }
    if unit == 0 {
        // Of a sum that is no number, the losses are none either.
        let whole = sums[0] + lost[0];
        let norm = whole.sqrt() * scale;
        let mut finite = 0.0f32;
        if (u32::reinterpret(norm) & 0x7f80_0000u32) != 0x7f80_0000u32 {
            finite = 1.0f32;
        }
        let mut factor = 1.0f32;
        if clip > 0.0f32 {
            factor = min(clip / (norm + 1e-6f32), 1.0f32);
        }
        out[0] = norm;
        out[1] = factor * scale;
        out[2] = finite;
    }
}

/// Elements of the buffer of partial sums that [`norm`] needs for gradients of these lengths.
pub fn partials(lens: impl IntoIterator<Item = usize>) -> usize {
    let pieces: usize = lens.into_iter().map(|len| len.div_ceil(PIECE)).sum();
    pieces.max(1)
}

/// What [`norm`] reads and writes.
pub struct Norm {
    /// Gradients and their lengths.
    pub grads: Vec<(BufferArg, usize)>,
    /// Scratch in f32, as many as [`partials`] says.
    pub partials: cubecl::server::Handle,
    /// Gets `[norm, factor, finite]` in f32: the norm of the gradients times the scale, the factor that a step
    /// multiplies gradients with (the scale, and clipping as `torch.nn.utils.clip_grad_norm_` computes it), and 1 where
    /// the norm is a number, else 0. Squares are added in f32: a norm beyond 1.8e19 counts as no number.
    pub out: BufferArg,
    /// Factor of all gradients.
    pub scale: f64,
    /// The largest norm, 0 for no bound.
    pub clip: f64,
}

/// The norm of all gradients of type `dtype`, in a fixed order, whatever launches they come in.
pub fn norm(client: &Client, buffers: Norm, dtype: ElemType) {
    let limits = Limits::of(client);
    let lens: Vec<usize> = buffers.grads.iter().map(|(_, len)| *len).collect();
    let count = partials(lens.iter().copied());
    let place = |buffer: &cubecl::server::Handle| {
        // SAFETY: the caller made it as long as `partials` says.
        unsafe { BufferArg::from_raw_parts(buffer.clone(), count) }
    };
    let units = 256.min(limits.units);
    if lens.iter().sum::<usize>() == 0 {
        fill(client, place(&buffers.partials));
    }
    let mut start = 0;
    let grads = buffers.grads.into_iter().filter_map(|(grad, len)| {
        let place = start;
        start += len.div_ceil(PIECE);
        (len > 0).then_some((vectors(4, &[len]), (grad, len, place)))
    });
    for (vector, group) in groups(client, 1, grads.collect()) {
        let of = Units {
            count: units,
            plane: if units % limits.plane.max(1) == 0 {
                limits.plane
            } else {
                0
            },
        };
        let tensors = group.len();
        let pieces: usize = group.iter().map(|(_, len, _)| len.div_ceil(PIECE)).sum();
        let (mut grads, mut lens) = (SequenceArg::new(), SequenceArg::new());
        let mut places = SequenceArg::new();
        for (grad, len, place) in group {
            grads.push(grad);
            lens.push((len / vector) as u32);
            places.push(place as u32);
        }
        squares::launch(
            client,
            cubes(pieces),
            CubeDim::new_1d(units as u32),
            vector,
            grads,
            lens,
            places,
            place(&buffers.partials),
            tensors,
            of,
            dtype,
        );
    }
    global_norm::launch(
        client,
        CubeCount::new_single(),
        CubeDim::new_1d(units as u32),
        place(&buffers.partials),
        buffers.out,
        count as u32,
        buffers.clip as f32,
        buffers.scale as f32,
        units,
    );
}

#[cube(launch)]
fn zero(out: &mut [f32]) {
    out[ABSOLUTE_POS] = 0.0f32;
}

fn fill(client: &Client, out: BufferArg) {
    zero::launch(client, CubeCount::new_single(), CubeDim::new_1d(1), out);
}

/// Cuts a list into launches: what shares a key, in order, as many as a device binds buffers for.
fn groups<K: Copy + PartialEq, T>(
    client: &Client,
    buffers: usize,
    list: Vec<(K, T)>,
) -> Vec<(K, Vec<T>)> {
    let bound = client.properties().hardware.max_bindings as usize;
    let most = (bound.saturating_sub(OTHERS) / buffers).clamp(1, TOGETHER);
    let mut groups: Vec<(K, Vec<T>)> = Vec::new();
    for (key, item) in list {
        let open = groups
            .iter_mut()
            .find(|(of, items)| *of == key && items.len() < most);
        match open {
            Some((_, items)) => items.push(item),
            None => groups.push((key, vec![item])),
        }
    }
    groups
}

/// One step for every parameter. `norm` is what [`norm`] wrote, `[3]` in f32: its factor multiplies the gradients, and
/// where it is no number nothing changes. `grad` and `copy` are the types of gradients and of copies.
pub fn step(
    client: &Client,
    parameters: Vec<Parameter>,
    rule: AdamW,
    norm: Option<&cubecl::server::Handle>,
    grad: ElemType,
    copy: ElemType,
) {
    let units = 256.min(Limits::of(client).units);
    let correct = |beta: f64| 1.0 - beta.powf(rule.step as f64);
    let keyed = parameters.into_iter().filter(|p| p.len > 0).map(|p| {
        let key = (vectors(4, &[p.len]), p.copy.is_some());
        (key, p)
    });
    for ((vector, copied), group) in groups(client, 5, keyed.collect()) {
        let tensors = group.len();
        let of_a_cube = units * OF_A_UNIT;
        let pieces = group.iter().map(|p| (p.len / vector).div_ceil(of_a_cube));
        let count = cubes(pieces.sum());
        let (mut weights, mut grads) = (SequenceArg::new(), SequenceArg::new());
        let (mut firsts, mut seconds) = (SequenceArg::new(), SequenceArg::new());
        let (mut copies, mut lens) = (SequenceArg::new(), SequenceArg::new());
        let (mut keeps, mut sizes) = (SequenceArg::new(), SequenceArg::new());
        for p in group {
            let rate = rule.lr * p.rate;
            weights.push(p.weight);
            grads.push(p.grad);
            firsts.push(p.first);
            seconds.push(p.second);
            if let Some(copy) = p.copy {
                copies.push(copy);
            }
            lens.push((p.len / vector) as u32);
            keeps.push((1.0 - rate * p.decay) as f32);
            sizes.push((rate / correct(rule.beta1)) as f32);
        }
        let shares = SharesLaunch::new(
            rule.beta1 as f32,
            rule.beta2 as f32,
            rule.eps as f32,
            (1.0 / correct(rule.beta2).sqrt()) as f32,
            rule.scale as f32,
        );
        // SAFETY: the caller made it of three.
        let norm = norm.map(|norm| unsafe { BufferArg::from_raw_parts(norm.clone(), 3) });
        adamw::launch(
            client,
            count,
            CubeDim::new_1d(units as u32),
            vector,
            weights,
            grads,
            firsts,
            seconds,
            copies,
            lens,
            keeps,
            sizes,
            norm.into(),
            shares,
            tensors,
            copied,
            units,
            grad,
            copy,
        );
    }
}
