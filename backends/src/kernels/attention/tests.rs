//! Attention against its reference, values and gradients, and its corner cases.

use super::*;
use crate::kernels::comparison::*;
use crate::kernels::served::Place;
use AnyTensor::Four;
use burn::tensor::{Bool, Tensor, TensorData};

/// `[batch, t, s, heads, kv_heads, key]`.
const SIZES: [[usize; 6]; 8] = [
    [1, 1, 1, 1, 1, 1],
    [2, 5, 5, 4, 2, 3],
    [1, 67, 67, 2, 1, 16],
    [2, 130, 130, 3, 3, 8],
    [3, 1, 41, 4, 1, 17],
    [1, 70, 100, 2, 2, 32],
    [2, 1, 300, 6, 2, 20],
    // More keys than the processor's kernel holds scores of at a time.
    [1, 70, 2100, 2, 1, 8],
];

/// Those that GPUs are compared in: `backends/cube` compares their kernels in many more.
const ON_GPUS: [[usize; 6]; 4] = [
    [2, 5, 5, 4, 2, 3],
    [1, 67, 67, 2, 1, 16],
    [3, 1, 41, 4, 1, 17],
    [1, 70, 100, 2, 2, 32],
];

fn sizes() -> &'static [[usize; 6]] {
    match Place::of(&device()) {
        Place::Processor => &SIZES,
        Place::Gpu | Place::Other => &ON_GPUS,
    }
}

fn inputs([batch, t, s, heads, kv_heads, key]: [usize; 6]) -> Vec<AnyTensor> {
    vec![
        Four(random([batch, t, heads, key], 1)),
        Four(random([batch, s, kv_heads, key], 2)),
        Four(random([batch, s, kv_heads, key], 3)),
    ]
}

fn compare(sizes: [usize; 6], options: &AttentionOptions) {
    // The reference runs on another device.
    let options = || AttentionOptions {
        key_mask: options
            .key_mask
            .as_ref()
            .map(|mask| Tensor::from_data(mask.to_data(), &device())),
        ..options.clone()
    };
    assert_same(
        &format!("attention {sizes:?}, causal {}", options().causal),
        inputs(sizes),
        |i| attention(i[0].four(), i[1].four(), i[2].four(), &options()),
        |i| attention_reference(i[0].four(), i[1].four(), i[2].four(), &options()),
        2e-5,
    );
}

/// The first `hidden` keys of each sequence may not be seen.
fn left_padding(s: usize, hidden: &[usize]) -> Tensor<2, Bool> {
    let keep: Vec<bool> = hidden
        .iter()
        .flat_map(|&hidden| (0..s).map(move |i| i >= hidden))
        .collect();
    Tensor::from_data(TensorData::new(keep, [hidden.len(), s]), &device())
}

#[test]
fn matches_the_reference() {
    everywhere(|| {
        for &sizes in sizes() {
            compare(sizes, &AttentionOptions::default());
            let causal = AttentionOptions {
                query_offset: sizes[2] - sizes[1],
                ..AttentionOptions::causal()
            };
            compare(sizes, &causal);
        }
    });
}

#[test]
fn matches_the_reference_with_scale_and_mask() {
    everywhere(|| {
        for causal in [false, true] {
            let options = AttentionOptions {
                causal,
                scale: Some(0.3),
                key_mask: Some(left_padding(37, &[0, 9])),
                query_offset: 0,
            };
            compare([2, 37, 37, 4, 2, 6], &options);
            // The first tile of keys is hidden from the second sequence.
            let long = AttentionOptions {
                key_mask: Some(left_padding(1100, &[5, 1030])),
                query_offset: 1090,
                ..options.clone()
            };
            compare([2, 10, 1100, 2, 2, 6], &long);
            // One query of two sequences; the first piece of keys is hidden from the second.
            let options = AttentionOptions {
                key_mask: Some(left_padding(290, &[3, 140])),
                query_offset: 289,
                ..options
            };
            compare([2, 1, 290, 4, 2, 6], &options);
        }
    });
}

#[test]
fn queries_that_see_nothing_get_zeros() {
    everywhere(|| {
        let options = AttentionOptions {
            key_mask: Some(left_padding(6, &[6, 2])),
            ..AttentionOptions::causal()
        };
        let i = inputs([2, 6, 6, 2, 2, 4]);
        let out = attention(i[0].four(), i[1].four(), i[2].four(), &options);
        let values: Vec<f32> = out.clone().into_data().iter().collect();
        let (first, second) = values.split_at(values.len() / 2);
        assert!(first.iter().all(|&x| x == 0.0));
        assert!(
            second[..2 * 8].iter().all(|&x| x == 0.0) && second[2 * 8..].iter().all(|x| *x != 0.0)
        );
        let last = AttentionOptions {
            query_offset: 5,
            ..options
        };
        let one = attention(i[0].four().narrow(1, 0, 1), i[1].four(), i[2].four(), &last);
        let values: Vec<f32> = one.into_data().iter().collect();
        assert!(values[..8].iter().all(|&x| x == 0.0) && values[8..].iter().all(|x| *x != 0.0));
        let grads = out.sum().backward();
        let grad = i[0].four().grad(&grads).unwrap().into_data();
        assert!(grad.iter::<f32>().all(|x| x.is_finite()));
    });
}

#[test]
fn a_cache_is_read_in_place_and_decodes_the_same() {
    everywhere(|| {
        let (t, max, heads, key) = (23, 64, 3, 8);
        let (q, k, v) = (
            constant([2, t, heads, key], 1).inner(),
            constant([2, max, heads, key], 2).inner(),
            constant([2, max, heads, key], 3).inner(),
        );
        let full = attention(
            q.clone(),
            k.clone().narrow(1, 0, t),
            v.clone().narrow(1, 0, t),
            &AttentionOptions::causal(),
        );
        for step in 0..t {
            let options = AttentionOptions {
                query_offset: step,
                ..AttentionOptions::causal()
            };
            let now = attention(
                q.clone().narrow(1, step, 1),
                k.clone().narrow(1, 0, step + 1),
                v.clone().narrow(1, 0, step + 1),
                &options,
            );
            let want = full.clone().narrow(1, step, 1).into_data();
            assert_close("decoding", now.into_data(), want, 1e-5);
        }
    });
}

#[test]
fn large_scores_do_not_overflow_and_nan_is_seen() {
    let q = constant([1, 9, 1, 4], 1) * 300.0;
    let out = attention(
        q.clone(),
        q.clone() * 10.0,
        q.clone(),
        &AttentionOptions::causal(),
    );
    assert!(out.into_data().iter::<f32>().all(|x| x.is_finite()));
    let broken = attention(
        q.clone() * f32::NAN,
        q.clone(),
        q,
        &AttentionOptions::causal(),
    );
    assert!(broken.into_data().iter::<f32>().all(|x| x.is_nan()));
}

#[test]
fn threads_do_not_matter() {
    assert_threads_do_not_matter(|| {
        let i = inputs([2, 150, 150, 4, 2, 16]);
        let out = attention(
            i[0].four(),
            i[1].four(),
            i[2].four(),
            &AttentionOptions::causal(),
        );
        let grads = (out.clone() * out.clone()).sum().backward();
        let mut all = vec![out.into_data()];
        all.extend((0..3).map(|j| i[j].four().grad(&grads).unwrap().into_data()));
        all
    });
}
