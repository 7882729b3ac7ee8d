//! The rotation on the processor, in place where nobody else holds the operand.

use super::RotaryLayout;
use super::seam::RotaryOps;
use crate::kernels::buffer::{Flat, PIECE, floats, owned};
use burn::backend::Flex;
use rayon::prelude::*;

impl RotaryOps for Flex {
    fn rotary(x: Flat, cos: Flat, sin: Flat, layout: RotaryLayout, back: bool) -> Flat {
        turn(x, &cos, &sin, layout, if back { -1.0 } else { 1.0 })
    }
}

/// Turns every pair by its angle times `sign`, in place where nobody else holds x.
fn turn(x: Flat, cos: &Flat, sin: &Flat, layout: RotaryLayout, sign: f32) -> Flat {
    let dims = [0, 1, 2, 3].map(|axis| x.layout().shape()[axis]);
    let [batch, time, heads, key] = dims;
    let half = key / 2;
    let tables = cos.layout().shape()[0];
    let (cos, sin) = (floats(cos), floats(sin));
    assert!(
        key.is_multiple_of(2)
            && (tables == 1 || tables == batch)
            && cos.len() == tables * time * half
            && sin.len() == cos.len(),
        "rotary: the table does not fit x {dims:?}"
    );
    let mut x = owned(x);
    let row = (heads * key).max(1);
    let rows = (PIECE / row).max(1);
    let pieces = x.storage_mut::<f32>().par_chunks_mut(rows * row);
    pieces.enumerate().for_each(|(piece, x)| {
        for (i, x) in x.chunks_exact_mut(row).enumerate() {
            let step = piece * rows + i;
            let at = (if tables == 1 { step % time } else { step }) * half;
            let (cos, sin) = (&cos[at..at + half], &sin[at..at + half]);
            for x in x.chunks_exact_mut(key) {
                turn_head(x, cos, sin, layout, sign);
            }
        }
    });
    x
}

fn turn_head(x: &mut [f32], cos: &[f32], sin: &[f32], layout: RotaryLayout, sign: f32) {
    match layout {
        RotaryLayout::Half => {
            let (left, right) = x.split_at_mut(cos.len());
            let pairs = left.iter_mut().zip(right);
            for ((a, b), (&c, &s)) in pairs.zip(cos.iter().zip(sin)) {
                (*a, *b) = (*a * c - *b * (sign * s), *b * c + *a * (sign * s));
            }
        }
        RotaryLayout::Interleaved => {
            for (pair, (&c, &s)) in x.chunks_exact_mut(2).zip(cos.iter().zip(sin)) {
                let (a, b) = (pair[0], pair[1]);
                pair[0] = a * c - b * (sign * s);
                pair[1] = b * c + a * (sign * s);
            }
        }
    }
}
