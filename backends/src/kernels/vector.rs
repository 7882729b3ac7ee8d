//! Inner loops over contiguous `f32` slices, compiled once per instruction set and chosen at run time.
//!
//! A loop is written as an `#[inline(always)]` function with a constant `FMA` parameter;
//! [`multiversion!`] wraps it in copies for AVX-512, AVX2 and the baseline, so that the compiler
//! vectorises each for its own registers and the binary still runs on any processor. Sums keep
//! [`LANES`] running totals that are added in a fixed order: the result depends neither on the number
//! of threads nor on the registers' width (only on whether multiply-add is fused).

use std::sync::OnceLock;

/// Running totals of a reduction: one AVX-512 register, two AVX2 registers.
pub(super) const LANES: usize = 16;

/// The widest set of instructions that the processor has and that the loops are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// What the target guarantees.
    Base,
    /// AVX2 and fused multiply-add.
    #[cfg(target_arch = "x86_64")]
    V3,
    /// AVX-512 (F, BW, DQ, VL).
    #[cfg(target_arch = "x86_64")]
    V4,
}

/// The level of this processor, asked once.
pub(super) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        #[cfg(target_arch = "x86_64")]
        {
            let v3 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if v3
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                return Level::V4;
            }
            if v3 {
                return Level::V3;
            }
        }
        Level::Base
    })
}

/// Declares `fn name(args)` that runs the inlined loop `body::<FMA>(args)` at the processor's level.
macro_rules! multiversion {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $body:ident) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
                fn v4($($arg: $ty),*) $(-> $ret)? {
                    $body::<true>($($arg),*)
                }
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx2,fma")]
                fn v3($($arg: $ty),*) $(-> $ret)? {
                    $body::<true>($($arg),*)
                }
                match $crate::kernels::vector::level() {
                    // SAFETY: `level` found these instructions on this processor.
                    $crate::kernels::vector::Level::V4 => return unsafe { v4($($arg),*) },
                    // SAFETY: as above.
                    $crate::kernels::vector::Level::V3 => return unsafe { v3($($arg),*) },
                    $crate::kernels::vector::Level::Base => {}
                }
            }
            $body::<{ cfg!(target_arch = "aarch64") }>($($arg),*)
        }
    };
}
pub(super) use multiversion;

/// `a * b + c`, rounded once where the processor can.
#[inline(always)]
pub(super) fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// `e^x` to about two units in the last place; 0 below -87.3, about 1.65e38 above 88; NaN stays NaN.
#[inline(always)]
pub(super) fn exp<const FMA: bool>(x: f32) -> f32 {
    const LOWEST: f32 = -87.3;
    const HIGHEST: f32 = 88.0;
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // Comparisons, not min/max: a NaN must come through.
    let low = if x < LOWEST { LOWEST } else { x };
    let c = if low > HIGHEST { HIGHEST } else { low };
    let shifted = fma::<FMA>(c, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = fma::<FMA>(n, -0.693_359_4, c);
    let r = fma::<FMA>(n, 2.121_944_4e-4, r);
    let mut p = 1.987_569_1e-4;
    p = fma::<FMA>(p, r, 1.398_199_9e-3);
    p = fma::<FMA>(p, r, 8.333_452e-3);
    p = fma::<FMA>(p, r, 4.166_579_6e-2);
    p = fma::<FMA>(p, r, 1.666_666_5e-1);
    p = fma::<FMA>(p, r, 0.5);
    let y = fma::<FMA>(p * r, r, r) + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    let power = f32::from_bits(exponent.wrapping_add(127) << 23);
    if x < LOWEST { 0.0 } else { y * power }
}

/// `tanh x` to about 2e-7.
#[inline(always)]
pub(super) fn tanh<const FMA: bool>(x: f32) -> f32 {
    1.0 - 2.0 / (exp::<FMA>(2.0 * x) + 1.0)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(super) fn sigmoid<const FMA: bool>(x: f32) -> f32 {
    1.0 / (1.0 + exp::<FMA>(-x))
}

/// The error function, by a rational function on [-4, 4] (1 beyond), to about 3e-7.
#[inline(always)]
pub(super) fn erf<const FMA: bool>(x: f32) -> f32 {
    let low = if x < -4.0 { -4.0 } else { x };
    let c = if low > 4.0 { 4.0 } else { low };
    let s = c * c;
    let mut p = -2.726_142_3e-10;
    p = fma::<FMA>(p, s, 2.770_681_4e-8);
    p = fma::<FMA>(p, s, -2.101_024e-6);
    p = fma::<FMA>(p, s, -5.692_506_4e-5);
    p = fma::<FMA>(p, s, -7.349_906_3e-4);
    p = fma::<FMA>(p, s, -2.954_6e-3);
    p = fma::<FMA>(p, s, -1.609_603_3e-2);
    let mut q = -1.456_607_2e-5;
    q = fma::<FMA>(q, s, -2.133_740_6e-4);
    q = fma::<FMA>(q, s, -1.682_827e-3);
    q = fma::<FMA>(q, s, -7.373_329_3e-3);
    q = fma::<FMA>(q, s, -1.426_473_9e-2);
    // Beyond the interval exactly one: x times what is left of it would show.
    if x < -4.0 {
        -1.0
    } else if x > 4.0 {
        1.0
    } else {
        c * p / q
    }
}

/// The lanes of a reduction folded in a fixed order.
#[inline(always)]
fn fold(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = join(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// `Σ f(i-th elements)` of one to three slices of the same length, in [`LANES`] running totals.
#[inline(always)]
pub(super) fn sum_of(a: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let mut chunks = a.chunks_exact(LANES);
    for chunk in &mut chunks {
        for i in 0..LANES {
            lanes[i] += f(chunk[i]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane += f(x);
    }
    fold(lanes, |x, y| x + y)
}

/// `Σ a·b`.
#[inline(always)]
pub(super) fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let mut left = a.chunks_exact(LANES);
    let mut right = b.chunks_exact(LANES);
    for (x, y) in (&mut left).zip(&mut right) {
        for i in 0..LANES {
            lanes[i] = fma::<FMA>(x[i], y[i], lanes[i]);
        }
    }
    for (i, (&x, &y)) in left.remainder().iter().zip(right.remainder()).enumerate() {
        lanes[i] = fma::<FMA>(x, y, lanes[i]);
    }
    fold(lanes, |x, y| x + y)
}

/// The largest element, negative infinity of an empty slice; a NaN is passed over.
#[inline(always)]
pub(super) fn max(a: &[f32]) -> f32 {
    let larger = |x: f32, y: f32| if y > x { y } else { x };
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = a.chunks_exact(LANES);
    for chunk in &mut chunks {
        for i in 0..LANES {
            lanes[i] = larger(lanes[i], chunk[i]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = larger(*lane, x);
    }
    fold(lanes, larger)
}

/// Replaces `row` by `e^(row - shift)` and returns the sum.
#[inline(always)]
pub(super) fn exp_shifted_sum<const FMA: bool>(row: &mut [f32], shift: f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let mut chunks = row.chunks_exact_mut(LANES);
    for chunk in &mut chunks {
        for i in 0..LANES {
            chunk[i] = exp::<FMA>(chunk[i] - shift);
            lanes[i] += chunk[i];
        }
    }
    for (lane, x) in lanes.iter_mut().zip(chunks.into_remainder()) {
        *x = exp::<FMA>(*x - shift);
        *lane += *x;
    }
    fold(lanes, |x, y| x + y)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest distance of `f` from `exact` on a grid, relative where the value is above 1.
    fn distance(f: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64, from: f32, to: f32) -> f64 {
        (0..=20_000)
            .map(|i| from + (to - from) * i as f32 / 20_000.0)
            .map(|x| {
                let want = exact(f64::from(x));
                (f64::from(f(x)) - want).abs() / want.abs().max(1.0)
            })
            .fold(0.0, f64::max)
    }

    /// erf by its Taylor series, good in f64 for |x| < 4.
    fn erf_series(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn functions_are_close_to_exact_values() {
        assert!(distance(exp::<true>, f64::exp, -80.0, 80.0) < 4e-7);
        assert!(distance(exp::<false>, f64::exp, -80.0, 80.0) < 4e-7);
        assert!(distance(tanh::<false>, f64::tanh, -12.0, 12.0) < 4e-7);
        assert!(distance(sigmoid::<false>, |x| 1.0 / (1.0 + (-x).exp()), -30.0, 30.0) < 3e-7);
        assert!(distance(erf::<false>, erf_series, -3.9, 3.9) < 6e-7);
    }

    #[test]
    fn extremes_of_exp() {
        assert_eq!(exp::<false>(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp::<false>(-1e30), 0.0);
        assert_eq!(exp::<false>(0.0), 1.0);
        assert!(exp::<false>(f32::INFINITY) > 1e38);
        assert!(exp::<false>(f32::NAN).is_nan());
    }

    #[test]
    fn reductions_take_every_element() {
        for len in [0, 1, 15, 16, 17, 47] {
            let a: Vec<f32> = (0..len).map(|i| i as f32 - 3.0).collect();
            let exact: f32 = a.iter().sum();
            assert_eq!(sum_of(&a, |x| x), exact);
            assert_eq!(dot::<false>(&a, &vec![2.0; len]), 2.0 * exact);
            let largest = a.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&a), largest);
        }
    }
}
