//! From logits to a token, on the host: guidance, allowed ids, temperature, top-k, top-p, min-p.
//!
//! The filters do what the logits processors of `transformers` do, in their order; the draw takes
//! one uniform number, so that a sequence's tokens do not depend on what else is in the batch.

use std::fmt;

/// How a token is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token and looks at no other setting.
    pub temperature: f64,
    /// Keeps the `k` likeliest ids (and ties of the last).
    pub top_k: Option<usize>,
    /// Keeps the likeliest ids whose probabilities together reach `p`.
    pub top_p: Option<f64>,
    /// Keeps ids of at least this share of the likeliest one's probability.
    pub min_p: Option<f64>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: None,
            top_p: None,
            min_p: None,
        }
    }
}

impl Sampling {
    /// The likeliest token.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }
}

/// Why no token could be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplingError {
    /// A logit is not a number, or beyond all numbers.
    NotANumber,
    /// No id is allowed and has a finite logit.
    NothingAllowed,
}

impl fmt::Display for SamplingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotANumber => "the model's logits are not numbers (the weights have diverged)",
            Self::NothingAllowed => "no token is allowed here: every id is forbidden",
        })
    }
}

impl std::error::Error for SamplingError {}

/// Chooses an id from the logits of one step, which it changes into what was drawn from.
///
/// `allowed` has an entry per id; ids beyond its end are forbidden. `uniform` lies in [0, 1) and is
/// not looked at where the temperature is 0.
pub fn sample(
    logits: &mut [f32],
    allowed: Option<&[bool]>,
    sampling: &Sampling,
    uniform: f64,
) -> Result<usize, SamplingError> {
    if logits.iter().any(|x| x.is_nan() || *x == f32::INFINITY) {
        return Err(SamplingError::NotANumber);
    }
    if let Some(allowed) = allowed {
        allow(logits, allowed);
    }
    if sampling.temperature <= 0.0 {
        return likeliest(logits).ok_or(SamplingError::NothingAllowed);
    }
    temper(logits, sampling.temperature);
    if let Some(k) = sampling.top_k {
        keep_top_k(logits, k);
    }
    if let Some(p) = sampling.top_p {
        keep_top_p(logits, p);
    }
    if let Some(p) = sampling.min_p {
        keep_min_p(logits, p);
    }
    draw(logits, uniform).ok_or(SamplingError::NothingAllowed)
}

/// Classifier-free guidance in place: `without + strength · (with − without)`, where `with` are the
/// logits given the prompt and `without` those given a mask in its stead.
pub fn guide(with: &mut [f32], without: &[f32], strength: f64) {
    for (x, &base) in with.iter_mut().zip(without) {
        // A forbidden id stays forbidden: infinity minus infinity would not be a number.
        if *x != f32::NEG_INFINITY {
            *x = base + strength as f32 * (*x - base);
        }
        if base == f32::NEG_INFINITY {
            *x = f32::NEG_INFINITY;
        }
    }
}

/// Forbids every id that `allowed` does not name.
pub fn allow(logits: &mut [f32], allowed: &[bool]) {
    for (id, x) in logits.iter_mut().enumerate() {
        if !allowed.get(id).copied().unwrap_or(false) {
            *x = f32::NEG_INFINITY;
        }
    }
}

/// Divides by the temperature.
pub fn temper(logits: &mut [f32], temperature: f64) {
    if temperature != 1.0 {
        for x in logits {
            *x /= temperature as f32;
        }
    }
}

/// Keeps the `k` largest logits, and those equal to the last of them; at least one.
pub fn keep_top_k(logits: &mut [f32], k: usize) {
    let k = k.clamp(1, logits.len().max(1));
    if k >= logits.len() {
        return;
    }
    let mut order = logits.to_vec();
    let (_, kth, _) = order.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let kth = *kth;
    forbid(logits, |x| x < kth);
}

/// Keeps the smallest set of largest logits whose probabilities exceed `p`: the id that crosses `p`
/// is kept, and at least one.
pub fn keep_top_p(logits: &mut [f32], p: f64) {
    if p >= 1.0 {
        return;
    }
    let mut order: Vec<usize> = (0..logits.len())
        .filter(|&id| logits[id] > f32::NEG_INFINITY)
        .collect();
    // Descending; among equals the higher id first, as a stable ascending sort drops the lower first.
    order.sort_unstable_by(|&a, &b| logits[b].total_cmp(&logits[a]).then(b.cmp(&a)));
    let Some(&best) = order.first() else { return };
    let largest = f64::from(logits[best]);
    let weight = |id: usize| (f64::from(logits[id]) - largest).exp();
    let total: f64 = order.iter().map(|&id| weight(id)).sum();
    // From the least likely: dropped while what is below or here is at most 1 - p.
    let mut below = 0.0;
    let mut kept = order.len();
    while kept > 1 {
        below += weight(order[kept - 1]) / total;
        if below > 1.0 - p {
            break;
        }
        kept -= 1;
    }
    for &id in &order[kept..] {
        logits[id] = f32::NEG_INFINITY;
    }
}

/// Keeps ids whose probability is at least `p` times the largest.
pub fn keep_min_p(logits: &mut [f32], p: f64) {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let lowest = f64::from(largest) + p.max(0.0).ln();
    forbid(logits, |x| f64::from(x) < lowest);
}

/// Makes ids seen before less likely (`penalty` above 1): logits below 0 times it, others divided.
pub fn penalise_repetition(logits: &mut [f32], history: &[usize], penalty: f64) {
    let mut seen = history.to_vec();
    seen.sort_unstable();
    seen.dedup();
    let penalty = penalty as f32;
    for id in seen {
        if let Some(x) = logits.get_mut(id) {
            *x = if *x < 0.0 { *x * penalty } else { *x / penalty };
        }
    }
}

/// Sets to minus infinity where `condition` holds.
fn forbid(logits: &mut [f32], condition: impl Fn(f32) -> bool) {
    for x in logits {
        if condition(*x) {
            *x = f32::NEG_INFINITY;
        }
    }
}

/// The id of the largest logit, the first of equals.
pub fn likeliest(logits: &[f32]) -> Option<usize> {
    let mut best = None;
    let mut largest = f32::NEG_INFINITY;
    for (id, &x) in logits.iter().enumerate() {
        if x > largest {
            largest = x;
            best = Some(id);
        }
    }
    best
}

/// Draws an id with the probabilities `softmax(logits)`, by their running sum in `f64`.
pub fn draw(logits: &[f32], uniform: f64) -> Option<usize> {
    let best = likeliest(logits)?;
    let largest = f64::from(logits[best]);
    if largest == f64::INFINITY {
        return Some(best);
    }
    let weight = |x: f32| (f64::from(x) - largest).exp();
    let total: f64 = logits.iter().map(|&x| weight(x)).sum();
    let mark = uniform.clamp(0.0, 1.0) * total;
    let mut sum = 0.0;
    let mut last = best;
    for (id, &x) in logits.iter().enumerate() {
        if x == f32::NEG_INFINITY {
            continue;
        }
        sum += weight(x);
        last = id;
        if sum > mark {
            return Some(id);
        }
    }
    Some(last)
}

/// A uniform number in [0, 1) for one step of one sequence: a function of the three numbers alone
/// (SplitMix64), so that decoding can stop and go on, and batches can be cut at will.
pub fn uniform(seed: u64, sequence: u64, step: u64) -> f64 {
    let mix = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let bits = mix(mix(mix(seed) ^ sequence) ^ step);
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests;
