//! Attention by plain tensor operations, in blocks of queries.

use super::AttentionOptions;
use burn::tensor::{Int, Tensor, activation::softmax};

/// Queries of one block: what is in memory at a time is `[batch, head, BLOCK, key time]`.
const BLOCK: usize = 128;

/// Added to scores that may not be seen: large, and finite so that no row becomes NaN.
const HIDDEN: f64 = -1e30;

/// [`super::attention`] by plain tensor operations.
pub fn attention_reference(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    options: &AttentionOptions,
) -> Tensor<4> {
    let [batch, t, heads, key] = q.dims();
    let [_, s, kv_heads, _] = k.dims();
    let group = heads / kv_heads;
    let device = q.device();

    // [batch, head, time, key], key/value heads repeated for their group
    let spread = |x: Tensor<4>| {
        let x = x.swap_dims(1, 2);
        if group == 1 {
            return x;
        }
        let width = x.dims()[3];
        x.unsqueeze_dim::<5>(2)
            .expand([batch, kv_heads, group, s, width])
            .reshape([batch, heads, s, width])
    };
    let q = q.swap_dims(1, 2) * options.scale_for(key);
    let (k, v) = (spread(k).swap_dims(2, 3), spread(v));
    let value = v.dims()[3];
    let kept: Option<Tensor<4>> = options
        .key_mask
        .clone()
        .map(|mask| mask.float().reshape([batch, 1, 1, s]));
    let key_positions = Tensor::<1, Int>::arange(0..s as i64, &device).reshape([1, 1, 1, s]);

    let blocks = (0..t.div_ceil(BLOCK)).map(|block| {
        let from = block * BLOCK;
        let len = BLOCK.min(t - from);
        let last = (from + len + options.query_offset).min(s);
        let seen = if options.causal { last } else { s };
        if seen == 0 {
            return Tensor::zeros([batch, heads, len, value], &device);
        }
        // [batch, head, query, key]
        let scores = q
            .clone()
            .narrow(2, from, len)
            .matmul(k.clone().narrow(3, 0, seen));
        let mut keep = kept.clone().map(|kept| kept.narrow(3, 0, seen));
        if options.causal {
            let first = (from + options.query_offset) as i64;
            let queries = Tensor::<1, Int>::arange(first..first + len as i64, &device);
            let visible = key_positions
                .clone()
                .narrow(3, 0, seen)
                .expand([1, 1, len, seen])
                .lower_equal(queries.reshape([1, 1, len, 1]).expand([1, 1, len, seen]))
                .float();
            keep = Some(match keep {
                Some(keep) => keep * visible,
                None => visible,
            });
        }
        let weights = match keep {
            None => softmax(scores, 3),
            // The second product makes rows without any visible key zero.
            Some(keep) => {
                let hidden = (keep.clone() - 1.0) * -HIDDEN;
                softmax(scores + hidden, 3) * keep
            }
        };
        weights.matmul(v.clone().narrow(2, 0, seen))
    });
    Tensor::cat(blocks.collect(), 2).swap_dims(1, 2)
}
